"""Tasks in lm-evaluation-harness's own YAML: `doc_to_text`, `doc_to_choice` and `doc_to_target` make the questions.

The suite names the YAML, and with `items` the source of the docs: the YAML's own `dataset_path` is not used. Text,
choices and delimiter are those of lm-evaluation-harness for the same doc, and an answer is scored in the same way: the
summed log-likelihood of the choice's tokens, not divided by length, which is its metric `acc`. A task for which papers
report `acc_norm` is scored with `acc` here.

Each doc is asked in one order alone. The template, not the gate, has written the choices into the text, so they cannot
be rotated: a preference for a letter is not cancelled as in `multiple_choice`.

A row may have the same choice twice. lm-evaluation-harness then takes the first of the two as the model's answer, and
counts it as wrong where the key is the second; here either counts as the other (`Item.right`). A template that writes a
null, NaN or bytes is refused with its row: lm-evaluation-harness would ask the word `None`.

`include` works as in lm-evaluation-harness: a file or a list of them, each path relative to the file that names it,
later ones over earlier ones and the file itself over all, key by key. Included files must be in or below the task
file's folder, or below the suite's. Templates are Jinja in a sandbox, with limited time and memory (`Limits`). YAML
that runs code (`!function`, `process_docs`) is refused. The digest of such a task covers its questions, so it does not
depend on how its file is divided.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import yaml

from robustness_gate.errors import FileError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.items import kind_of
from robustness_gate.inputs.validation import Loaded, validate
from robustness_gate.inputs.yaml import Path_, Raw, Spot, read_yaml, where_in
from robustness_gate.records.base import Record
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import Form, Item, Kind, Question, Rows, Scored
from robustness_gate.system import bounded
from robustness_gate.tasks import Given
from robustness_gate.tasks.multiple_choice import Config, calibrated_accuracy, choice_entropy, likeliest

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = [
    "Config", "HarnessTask", "ask", "form", "load", "put", "questions", "read", "read_items", "reworded", "summary",
]  # fmt: skip

KEYS = frozenset({"yaml", "roles", "subset"})
"""A suite's keys for such a task besides items, count and digest."""
NEEDS = {"yaml": "lm-evaluation-harness's task file"}
"""The required ones of these keys, with a description of the value."""
JUDGED = Kind(version=1, generative=False, guarded=True, attacked_as="lm_eval", metrics=("acc",))
"""How its answers are scored; as literals, because it is read without an import."""

CORRECT = "Correct the template or the data."
NO_CODE = "Write the rows out as the code would leave them, and take it out."
NOT_A_GROUP = "This file is a group: name the file of one of its tasks, and give the suite a task for each."
MAX_CHARACTERS = 1_000_000
"""Maximum size of a template's result in one step: characters, list entries, or bits of a number."""
MAX_FILES = 16
"""Maximum number of files of one task; lm-evaluation-harness's own have three."""


class Limits(NamedTuple):
    """Limits for all templates of a task together."""

    seconds: float = 20.0
    """Seconds of processor time; a thousand rows take 0.1 s."""
    a_row: float = 0.01
    """Additional seconds for each row."""
    room: int = 1 << 30
    """Bytes of memory."""


LIMITS = Limits()


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


class _Parts(NamedTuple):
    """A task file with its includes, as read by the gate and by lm-evaluation-harness's YAML 1.1."""

    raw: Raw
    theirs: dict[str, Any]


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
            missing, in another folder, or already read.
    """
    if not path.is_file():
        read_yaml(path)  # raises the reason
    start = path.resolve()
    roots = tuple(each.resolve() for each in (start.parent, within) if each is not None)
    raw, theirs = _gathered(path, start, roots, [])
    loaded = validate(raw, HarnessTask)
    for key in ("doc_to_text", "doc_to_choice", "doc_to_target", "description", "target_delimiter"):
        ours = getattr(loaded.noun, key)
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
                with bounded.in_place(limits.seconds, limits.room):  # constant parts of it are computed here already
                    _template(text)
            except _failures() as error:
                raise FileError(
                    f"{key}: no template: {_why(error)}.",
                    remedy="Write a Jinja template.",
                    where=loaded.where(key),
                    code="bad-task-yaml",
                ) from None
    return loaded


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


def prepared(given: Given) -> Loaded[HarnessTask]:
    """The suite's task file, read once."""
    return load(Path(given.find("yaml")), given.folder)


def put(given: Given, items: Sequence[Item], *, chat: bool) -> Form:  # noqa: ARG001 - every kind's has them
    """The form of the task file."""
    return form(given.own)


def questions(given: Given) -> tuple[Item, ...]:
    """Every row as a question of the task file, from `read_items`."""
    return read_items(given.own, given.place)


def reworded(
    given: Given, rows: Sequence[tuple[str, Mapping[str, Any]]], place: str | Path, own: Collection[str] | None
) -> tuple[Item, ...]:
    """Rows for attackers in the task file's form; exactly like the task's own rows with the columns `own`, where
    given.
    """
    return items_of(given.own, rows, place) if own is None else items_like(given.own, rows, place, own)


def form(loaded: Loaded[HarnessTask]) -> Form:
    """The form of a task file's questions: verbatim."""
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # for attacks' training data; the questions do not use them
    return Form(letters=letters, verbatim=True, delimiter=loaded.noun.target_delimiter)


def read_items(loaded: Loaded[HarnessTask], place: str | Path, limits: Limits = LIMITS) -> tuple[Item, ...]:
    """Every row of a source as a question in the task's form.

    Raises:
        FileError: with the template's place and the row, where the two do not make a question, or where the templates
            exceed the limits.
    """
    return items_of(loaded, list(datasets.read_rows(place)), place, limits)


def items_of(
    loaded: Loaded[HarnessTask],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    place: str | Path,
    limits: Limits = LIMITS,
) -> tuple[Item, ...]:
    """Loaded rows, each as a question in the task's form. Raises as `read_items` does."""
    columns = frozenset(column for _, row in rows for column in row)
    items = list[Item]()
    try:
        with bounded.in_place(limits.seconds + limits.a_row * len(rows), limits.room):
            for where, row in rows:
                items.append(_Doc(loaded, row, where, columns).item())
    except (bounded.TooLong, MemoryError, RecursionError) as error:  # raised between two templates
        raise FileError(
            f"{rows[min(len(items), len(rows) - 1)][0]}: the templates fail: {_why(error)}.",
            remedy=CORRECT,
            where=loaded.where("doc_to_text"),
            code="bad-item",
        ) from None
    for item, (where, _) in zip(items, rows, strict=True):
        if len(item.question.choices) != len(items[0].question.choices):
            raise FileError(
                f"{where} has another number of choices than the first row.",
                remedy="Keep the rows with one number: chance must be the same for all.",
                code="bad-item",
                where=loaded.where("doc_to_choice"),
            )
    return datasets.distinct(items, place)


def items_like(
    loaded: Loaded[HarnessTask],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    place: str | Path,
    own: Collection[str],
) -> tuple[Item, ...]:
    """The same for rows of attackers, which must have exactly the form of the task's own rows, with the columns `own`.

    A template may work without a column (`default`, `is defined`); then it makes another prompt of rows without it.

    Raises:
        FileError: as `read_items` does, or the template uses a column that is in the task's own rows and missing here.
    """
    here = frozenset(column for _, row in rows for column in row)
    if lacking := sorted((_read_by(loaded.noun) & frozenset(own)) - here):
        raise FileError(
            f"its rows have no column '{lacking[0]}', which the template reads and the task's own rows have.",
            remedy="Add the column, so that attacks are made in the words in which the task asks.",
            code="bad-item",
            where=loaded.where("doc_to_text"),
        )
    return items_of(loaded, rows, place)


def _read_by(task: HarnessTask) -> frozenset[str]:
    """Every name that the task's templates use, and the plain columns among them."""
    from jinja2 import meta

    choices = [task.doc_to_choice] if isinstance(task.doc_to_choice, str) else list(task.doc_to_choice)
    texts = [task.doc_to_text, task.description, *choices]
    texts += [task.doc_to_target] if isinstance(task.doc_to_target, str) else []
    names = (meta.find_undeclared_variables(_jinja().parse(text)) for text in texts)
    return frozenset(texts).union(*names)


def ask(lm: Any, config: Config) -> Rows:
    """Ask every question once: log-likelihoods [item, 1, choice]."""
    return Rows(lm.loglikelihoods(config.questions, config.form).unsqueeze(1))


def read(rows: Rows, key: Sequence[Collection[int]]) -> Scored:
    """Right where the likeliest choice is right; a missing item is wrong."""
    return likeliest(rows, key, "acc")


def summary(rows: Rows, key: Sequence[Collection[int]]) -> dict[str, float]:
    """Context that is not evidence: the share of the most frequent answer position, and the confidence."""
    import torch

    places = rows.loglik[:, 0].nan_to_num(nan=-torch.inf).argmax(dim=-1)
    return {
        "commonest_place_share": float(torch.bincount(places).max()) / len(places),
        "choice_entropy": choice_entropy(rows),
        "calibrated_accuracy": calibrated_accuracy(rows, key),
    }


# --- one row ---------------------------------------------------------------------------------------------------------


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """lm-evaluation-harness's only filter of its own."""
    return re.sub(pattern, replacement, text, count=count)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    """Jinja's filter `round`, which computes ten to that power."""
    from jinja2.filters import do_round

    if abs(precision) > sys.float_info.max_10_exp:
        raise ValueError(f"no number has {abs(precision):,} digits")
    return do_round(value, precision, method)


def _size_of(operator: str, left: Any, right: Any) -> int:
    """Characters, entries or bits of an operation's result; 0 where the result is always small."""
    if operator == "**":
        return left.bit_length() * abs(right) if isinstance(left, int) and isinstance(right, int) else 0
    one, other = (
        each.bit_length() if isinstance(each, int) else len(each) if isinstance(each, Sequence) else 0
        for each in (left, right)
    )
    if operator == "*" and isinstance(left, int) != isinstance(right, int):  # repetition
        return one * abs(right) if isinstance(right, int) else other * abs(left)
    return one + other


class _Unsaid(ValueError):
    """A template writes a value that is not text."""


class _Hole:
    """A placeholder for a null, NaN or bytes in templates: they may test it, and must not write it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, _Hole) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        raise _Unsaid(f"writes {kind_of(self.value)} where text belongs")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise _Unsaid(f"finds {kind_of(self.value)} where text belongs")


def _with_holes(value: Any) -> Any:
    """The value with placeholders; the same object where nothing is replaced."""
    if (
        value is None
        or isinstance(value, (bytes, bytearray))
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return _Hole(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_holes, value))
    if isinstance(value, Mapping):
        return {key: _with_holes(each) for key, each in value.items()}
    return value


def _is_none(value: Any) -> bool:
    """Jinja's test `none`."""
    return value is None or (isinstance(value, _Hole) and value.value is None)


@functools.cache
def _jinja() -> Any:
    """The sandbox; imported only where such a task is used, since every plan imports this file."""
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which no single step is endless, since the time limit interrupts only between steps."""

        intercepted_binops = frozenset({"*", "**", "+"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if _size_of(operator, left, right) > MAX_CHARACTERS:
                raise SecurityError(f"'{operator}' would make more than {MAX_CHARACTERS:,} characters at once")
            return super().call_binop(context, operator, left, right)

    made = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = _regex_replace
    made.filters["round"] = _round
    made.tests["none"] = _is_none
    return made


@functools.cache
def _failures() -> tuple[type[Exception], ...]:
    """All errors of a template."""
    from jinja2 import TemplateError

    return (
        TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re.error,
        RuntimeError, MemoryError, SyntaxError, bounded.TooLong,
    )  # fmt: skip


def _why(error: Exception) -> str:
    """A template's error as the end of a sentence."""
    if isinstance(error, RecursionError):
        return "calls itself, or is nested, too deeply"
    return "takes more memory than it is given" if isinstance(error, MemoryError) else str(error)[:200]


@functools.lru_cache(maxsize=64)
def _template(source: str) -> Template:
    template: Template = _jinja().from_string(source)
    return template


class _Doc:
    """One row under one task file."""

    def __init__(
        self, loaded: Loaded[HarnessTask], row: Mapping[str, Any], where: str, columns: frozenset[str]
    ) -> None:
        self.loaded, self.row, self.where, self.columns = loaded, row, where, columns
        self.shown = _with_holes(row)

    def item(self) -> Item:
        task = self.loaded.noun
        choices = self._choices(task.doc_to_choice)
        asked = self._value("doc_to_text", task.doc_to_text)
        if not isinstance(asked, str):
            raise self._wrong("doc_to_text", f"gives {kind_of(asked)}, which is no text")
        if task.doc_to_text not in self.columns and asked.isdigit():
            raise self._wrong("doc_to_text", f"renders to the number {asked}, which lm-evaluation-harness takes apart")
        header = self._value("description", task.description) if task.description else ""
        stem = f"{header}{asked}"
        if not stem.strip():
            raise self._wrong("doc_to_text", "renders to nothing")
        name = self.row.get("id")
        id_ = datasets.id_of(stem, choices) if name is None or name == "" else datasets.words(name, "'id'", self.where)
        return Item(Question(id_, stem, choices), self._answer(task.doc_to_target, choices))

    def _choices(self, source: str | tuple[str, ...]) -> tuple[str, ...]:
        found: Any = source
        if isinstance(source, str):
            found = self._value("doc_to_choice", source)
            if source not in self.columns:
                try:
                    found = ast.literal_eval(found)
                except (ValueError, SyntaxError, MemoryError, RecursionError):
                    raise self._wrong("doc_to_choice", f"renders to no list: {found[:60]!r}") from None
        if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
            raise self._wrong("doc_to_choice", "gives no list of texts")
        for place, each in enumerate(found):
            if not isinstance(each, str):
                raise self._wrong("doc_to_choice", f"gives no list of texts: choice {place} is {kind_of(each)}")
        if not all(found) or len({" ".join(each.split()) for each in found}) < 2:
            raise self._wrong("doc_to_choice", "must give at least two different choices, none of them empty")
        return tuple(found)

    def _answer(self, source: int | str, choices: tuple[str, ...]) -> int:
        found: Any = source if isinstance(source, int) else self._value("doc_to_target", source)
        if isinstance(found, str):
            if source not in self.columns and found.isdecimal() and found.isascii():
                found = int(found)
            elif found in choices:
                found = choices.index(found)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(choices):
            raise self._wrong("doc_to_target", f"gives {found!r}: neither an index from 0 nor one of the choices")
        return found

    def _value(self, key: str, source: str) -> Any:
        if source in self.columns:
            if source not in self.row:
                raise self._wrong(key, f"the column '{source}' is missing")
            return self.row[source]
        try:
            return _template(source).render(self.shown)
        except _Unsaid as error:
            raise self._wrong(key, f"the template {error}") from None
        except _failures() as error:
            raise self._wrong(key, f"the template fails: {_why(error)}") from None

    def _wrong(self, key: str, words: str) -> FileError:
        return FileError(
            f"{key}, {self.where}: {words}.",
            remedy=CORRECT,
            where=self.loaded.where(key),
            code="bad-item",
        )
