"""One task file with its includes, read as lm-evaluation-harness reads it, or refused.

`include` works as in lm-evaluation-harness: a file or a list of them, each path relative to the file that names it,
later ones over earlier ones and the file itself over all, key by key. Included files must be in or below the task
file's folder, or below the suite's. YAML that runs code (`!function`, `process_docs`) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import yaml

from robustness_gate.errors import FileError
from robustness_gate.inputs.harness import templates
from robustness_gate.inputs.harness.templates import LIMITS, Limits
from robustness_gate.inputs.items import kind_of
from robustness_gate.inputs.validation import Loaded, validate
from robustness_gate.inputs.yaml import Path_, Raw, Spot, read_yaml, where_in
from robustness_gate.records.base import Record
from robustness_gate.records.encode import Json
from robustness_gate.system.in_place import in_place

NO_CODE = "Write the rows out as the code would leave them, and take it out."
NOT_A_GROUP = "This file is a group: name the file of one of its tasks, and give the suite a task for each."
SHOWN = 3
"""Maximum number of a group's tasks in an error message."""
MAX_FILES = 16
"""Maximum number of files of one task; lm-evaluation-harness's own have three."""


class HarnessTask(Record):
    """One task file. Keys that only lm-evaluation-harness needs (to load, name and aggregate) are accepted and
    ignored.
    """

    REFUSED: ClassVar[Mapping[str, str]] = {
        "aggregate_metric_list": NOT_A_GROUP,
        "task_list": NOT_A_GROUP,
        "process_docs": NO_CODE,
        "process_results": NO_CODE,
        "custom_dataset": NO_CODE,
        "class": NO_CODE,
        "use_prompt": "Write its words into 'doc_to_text', 'doc_to_choice' and 'doc_to_target'.",
        "gen_prefix": "Write it at the end of 'doc_to_text'.",
        "filter_list": "Take it out: answers are scored as they are.",
        "doc_to_decontamination_query": "Take it out, with 'should_decontaminate'.",
        "should_decontaminate": "Take it out, with 'doc_to_decontamination_query'.",
        "doc_to_image": "Only text is asked.",
        "doc_to_audio": "Only text is asked.",
    }
    """lm-evaluation-harness's keys that would change the questions or their scoring, with the remedy."""

    task: str = ""
    doc_to_text: str
    """A column, or a template."""
    doc_to_choice: str | tuple[str, ...]
    """The choices, a column with them, or a template that renders to a list of texts."""
    doc_to_target: int | str
    """The right choice from 0, a column, or a template that renders to that number or to the choice itself."""
    description: str = ""
    """Text before `doc_to_text`: a column or a template too."""
    target_delimiter: str = " "
    output_type: Literal["multiple_choice"] = "multiple_choice"
    num_fewshot: Literal[0] | None = None

    dataset_path: Json = None
    dataset_name: Json = None
    dataset_kwargs: Json = None
    training_split: Json = None
    test_split: Json = None
    validation_split: Json = None
    fewshot_split: Json = None
    fewshot_config: Json = None
    metric_list: Json = None
    fewshot_delimiter: Json = None
    generation_kwargs: Json = None
    metadata: Json = None
    tag: Json = None
    task_alias: Json = None
    group: Json = None
    group_alias: Json = None


def load(path: Path, within: Path | None = None, limits: Limits = LIMITS) -> Loaded[HarnessTask]:
    """Read a task file and its includes.

    Args:
        path: the task file.
        within: the suite's folder, below which included files may be; in and below the folder of `path` they always may
        be.
        limits: limits for the compilation of each template.

    Raises:
        FileError: with file:line:column, for a key that is not supported, an invalid template, a plain scalar that
            lm-evaluation-harness's YAML 1.1 reads differently (`no` as false), or an `include` of a file that is
            missing, in another folder, or already read, or for a group of tasks.
    """
    if not path.is_file():
        read_yaml(path)  # raises the reason
    start = path.resolve()
    roots = tuple(each.resolve() for each in (start.parent, within) if each is not None)
    raw, theirs = _gathered(path, start, roots, [])
    _refuse_group(raw)
    loaded = validate(raw, HarnessTask)
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target", "description", "target_delimiter"):
        ours = getattr(loaded.record, key)
        plain = list(ours) if isinstance(ours, tuple) else ours
        if key in theirs and theirs[key] != plain:
            raise FileError(
                f"{key}: lm-evaluation-harness reads this as {theirs[key]!r}.",
                remedy="Put bare words in quotes.",
                code="bad-task-yaml",
                where=loaded.where(key),
            )
        for text in [ours] if isinstance(ours, str) and key != "target_delimiter" else []:
            try:
                with in_place(limits.seconds, limits.room):  # constant parts of it are computed here already
                    templates.compiled(text)
            except templates.failures() as error:
                raise FileError(
                    f"{key}: no template: {templates.why(error)}.",
                    remedy="Write a Jinja template.",
                    where=loaded.where(key),
                    code="bad-task-yaml",
                ) from None
    return loaded


def _refuse_group(raw: Raw) -> None:
    """Refuse a file whose `task` is a list, which lm-evaluation-harness reads as a group of tasks."""
    members = raw.data.get("task")
    if not isinstance(members, list):
        return
    named = [each.get("task") if isinstance(each, dict) else each for each in members]
    names = [f"'{each[:40]}'" for each in named if isinstance(each, str)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise FileError(
        f"task: this is a group of tasks, with no questions of its own; it names {', '.join(names[:SHOWN])}{more}."
        if names
        else "task: this is a group of tasks, with no questions of its own, which names none.",
        remedy=NOT_A_GROUP,
        where=where_in(raw.places, ("task",)) or str(raw.path),
        code="bad-task-yaml",
    )


class _Parts(NamedTuple):
    """A task file with its includes, as read by the gate and by lm-evaluation-harness's YAML 1.1."""

    raw: Raw
    theirs: dict[str, Any]


def _gathered(path: Path, real: Path, roots: Sequence[Path], seen: list[Path]) -> _Parts:
    """One file over those that it includes. `path` is its name in messages, `real` its location."""
    seen.append(real)
    try:
        own = read_yaml(path)
    except FileError as error:
        if error.code != "tag":
            raise
        raise FileError(error.message, remedy=NO_CODE, where=error.where, code="tag") from None
    theirs_own = _theirs(own)
    data, places, theirs = dict[str, Json](), dict[Path_, Spot](), dict[str, Any]()
    named = own.data.pop("include", [])
    theirs_own.pop("include", None)
    for at, name in enumerate(named if isinstance(named, list) else [named]):
        there = _included(name, real, roots, seen, where_in(own.places, ("include", at)) or str(path))
        shown = path.parent / name
        below = _gathered(shown if shown.resolve() == there else there, there, roots, seen)
        data |= below.raw.data
        places |= below.raw.places
        theirs |= below.theirs
    kept = {at: spot for at, spot in places.items() if not at or at[0] not in own.data}  # relative to another folder
    return _Parts(Raw(path, own.sha256, own.text, data | own.data, kept | dict(own.places)), theirs | theirs_own)


def _included(name: Json, real: Path, roots: Sequence[Path], seen: Sequence[Path], where: str) -> Path:
    """The location of an included file, with links resolved."""

    def refuse(words: str, remedy: str) -> FileError:
        return FileError(f"include: {words}", remedy=remedy, where=where, code="bad-task-yaml")

    if not isinstance(name, str):
        raise refuse(f"a path is {kind_of(name)}", "Write the path from this file to the other, or a list of such.")
    if not name or "\x00" in name or Path(name).is_absolute():
        raise refuse(f"{name!r} is not a relative path", "Write the path from this file to the other.")
    try:
        there = (real.parent / name).resolve()
        missing = not there.is_file()
    except (OSError, RuntimeError):  # a name that is too long, or a circular link
        there, missing = real.parent, True
    if not any(there.is_relative_to(root) for root in roots):
        raise refuse(
            f"'{name}' lies neither beside or below the task file nor below the suite",
            "Copy the file to one of these places, or write its keys into this one.",
        )
    if missing:
        raise refuse(
            f"there is no file '{name[:80]}'",
            "Paths start at this file. Copy the file that the task includes to the place that it names.",
        )
    if there in seen:
        raise refuse(f"'{name}' was read already", "Include each file once, and none that includes this one.")
    if len(seen) >= MAX_FILES:
        raise refuse(f"more than {MAX_FILES} files", "Write the keys into one file.")
    return there


def _theirs(raw: Raw) -> dict[str, Any]:
    """The same file as YAML 1.1 reads it."""
    try:
        data: dict[str, Any] = yaml.safe_load(raw.text)
    except (ValueError, yaml.YAMLError) as error:
        raise FileError(
            f"lm-evaluation-harness cannot read this: {str(error)[:200]}.",
            remedy="Write YAML that both read alike.",
            where=str(raw.path),
            code="bad-task-yaml",
        ) from None
    return data
