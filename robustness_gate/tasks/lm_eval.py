"""Tasks in lm-evaluation-harness's own YAML: `doc_to_text`, `doc_to_choice` and `doc_to_target` make the questions.

The suite names the YAML, and with `items` where the docs come from: the YAML's own `dataset_path` is not followed.
Text, choices and delimiter are what lm-evaluation-harness makes of the same doc, and an answer is scored as it scores
it: the summed log-likelihood of the choice's tokens, not divided by length, which is its metric `acc`. A task whose
papers report `acc_norm` is read as `acc` here.

Each doc is asked in one order alone. The template, not the gate, has written the choices into the text, so they cannot
be turned; both readings therefore coincide, and a liking for a letter is not cancelled as in `multiple_choice`.

Templates are Jinja in a sandbox. YAML that runs code (`!function`, `process_docs`) or that gathers itself from other
files (`include`) is refused.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import yaml

from robustness_gate import sources
from robustness_gate.errors import FileError
from robustness_gate.files import Loaded, load_noun
from robustness_gate.nouns import Form, Item, Json, Noun, Question, Rows
from robustness_gate.tasks.multiple_choice import Config, calibrated_accuracy, choice_entropy, read

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Config", "HarnessTask", "ask", "form", "load", "read", "read_items", "summary"]

KEYS = frozenset({"yaml", "roles", "subset"})
"""What a suite may say of such a task besides items, count and digest."""

NO_CODE = "Write the rows out as the code would leave them, and take it out."


class HarnessTask(Noun):
    """One task file. What lm-evaluation-harness alone needs to load, name and sum up is taken and ignored."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "include": "Write the included keys into this file.",
        "process_docs": NO_CODE,
        "process_results": NO_CODE,
        "custom_dataset": NO_CODE,
        "class": NO_CODE,
        "gen_prefix": "Write it at the end of 'doc_to_text'.",
        "filter_list": "Take it out: answers are scored as they are.",
        "doc_to_decontamination_query": "Take it out, with 'should_decontaminate'.",
        "should_decontaminate": "Take it out, with 'doc_to_decontamination_query'.",
        "doc_to_image": "Only text is asked.",
        "doc_to_audio": "Only text is asked.",
    }
    """lm-evaluation-harness's keys that would change what is asked or how it is read, with what to do instead."""

    task: str = ""
    doc_to_text: str
    """A column, or a template."""
    doc_to_choice: str | tuple[str, ...]
    """The choices, a column that holds them, or a template that renders to a list of texts."""
    doc_to_target: int | str
    """The right choice from 0, a column, or a template that renders to that number or to the choice itself."""
    description: str = ""
    """Stands before the text, as it is: a column or a template too."""
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
    metadata: Json = None
    tag: Json = None
    group: Json = None


def load(path: Path) -> Loaded[HarnessTask]:
    """Read a task file.

    Raises:
        FileError: with file:line:column, for a key that is not supported, a template that is none, or a bare word that
            lm-evaluation-harness's YAML 1.1 reads as something else (`no` is false to it).
    """
    loaded = load_noun(path, HarnessTask)
    try:
        theirs = yaml.safe_load(loaded.text)
    except (ValueError, yaml.YAMLError) as error:
        raise FileError(
            f"lm-evaluation-harness cannot read this: {str(error)[:200]}.",
            remedy="Write YAML that both read alike.",
            where=str(path),
            code="bad-task-yaml",
        ) from None
    from jinja2 import TemplateSyntaxError

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
                _template(text)
            except TemplateSyntaxError as error:
                raise FileError(
                    f"{key}: no template: {error.message}.",
                    remedy="Write a Jinja template.",
                    where=loaded.where(key),
                    code="bad-task-yaml",
                ) from None
    return loaded


def form(loaded: Loaded[HarnessTask]) -> Form:
    """How the questions of a task file are put: as they are."""
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # for what an attack trains on; the questions do not use them
    return Form(letters=letters, verbatim=True, delimiter=loaded.noun.target_delimiter)


def read_items(loaded: Loaded[HarnessTask], place: str | Path) -> tuple[Item, ...]:
    """Every row of a source as a question in the task's words.

    Raises:
        FileError: naming the template's place and the row, where the two do not make a question.
    """
    return items_of(loaded, list(sources.read_rows(place)), place)


def items_of(
    loaded: Loaded[HarnessTask], rows: Sequence[tuple[str, Mapping[str, Any]]], place: str | Path
) -> tuple[Item, ...]:
    """Rows that are read already, each as a question in the task's words. Raises as `read_items` does."""
    return _items_of(loaded, rows, place)


def items_like(
    loaded: Loaded[HarnessTask],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    place: str | Path,
    own: Collection[str],
) -> tuple[Item, ...]:
    """The same of rows for attackers, which must be put exactly as the task's own rows are, with the columns `own`.

    A template may do without a column (`default`, `is defined`); then it makes other words of rows that lack it.

    Raises:
        FileError: as `read_items` does, or the template reads a column that the task's own rows have and these lack.
    """
    here = frozenset(column for _, row in rows for column in row)
    if lacking := sorted((_read_by(loaded.noun) & frozenset(own)) - here):
        raise FileError(
            f"its rows have no column '{lacking[0]}', which the template reads and the task's own rows have.",
            remedy="Add the column, so that attacks are made in the words in which the task asks.",
            code="bad-item",
            where=loaded.where("doc_to_text"),
        )
    return _items_of(loaded, rows, place)


def _read_by(task: HarnessTask) -> frozenset[str]:
    """Every name that the task's templates read, and the bare columns among them."""
    from jinja2 import meta

    choices = [task.doc_to_choice] if isinstance(task.doc_to_choice, str) else list(task.doc_to_choice)
    texts = [task.doc_to_text, task.description, *choices]
    texts += [task.doc_to_target] if isinstance(task.doc_to_target, str) else []
    names = (meta.find_undeclared_variables(_jinja().parse(text)) for text in texts)
    return frozenset(texts).union(*names)


def _items_of(
    loaded: Loaded[HarnessTask], rows: Sequence[tuple[str, Mapping[str, Any]]], place: str | Path
) -> tuple[Item, ...]:
    columns = frozenset(column for _, row in rows for column in row)
    items = [_Doc(loaded, row, where, columns).item() for where, row in rows]
    for item, (where, _) in zip(items, rows, strict=True):
        if len(item.question.choices) != len(items[0].question.choices):
            raise FileError(
                f"{where} has another number of choices than the first row.",
                remedy="Keep the rows with one number: chance must be the same for all.",
                code="bad-item",
                where=loaded.where("doc_to_choice"),
            )
    return sources.distinct(items, place)


def ask(respondent: Any, config: Config) -> Rows:
    """Ask every question once: log-likelihoods [item, 1, choice]."""
    return Rows(respondent.choose(config.questions, config.form).unsqueeze(1))


def summary(rows: Rows, key: Sequence[Collection[int]]) -> dict[str, float]:
    """Context that is not evidence: how often the choice at the commonest place was answered, and how sure."""
    import torch

    places = rows.loglik[:, 0].nan_to_num(nan=-torch.inf).argmax(dim=-1)
    return {
        "commonest_place_share": float(torch.bincount(places).max()) / len(places),
        "choice_entropy": choice_entropy(rows),
        "calibrated_accuracy": calibrated_accuracy(rows, key),
    }


# --- one row ---------------------------------------------------------------------------------------------------------


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """lm-evaluation-harness's one filter of its own."""
    return re.sub(pattern, replacement, text, count=count)


@functools.cache
def _jinja() -> Any:
    """The sandbox; imported by those who have such a task, since every plan reads this file."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = _regex_replace
    return made


@functools.cache
def _failures() -> tuple[type[Exception], ...]:
    """Whatever a template can end with."""
    from jinja2 import TemplateError

    return TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re.error


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

    def item(self) -> Item:
        task = self.loaded.noun
        choices = self._choices(task.doc_to_choice)
        asked = self._value("doc_to_text", task.doc_to_text)
        if not isinstance(asked, str):
            raise self._wrong("doc_to_text", f"gives {asked!r}, which is no text")
        if task.doc_to_text not in self.columns and asked.isdigit():
            raise self._wrong("doc_to_text", f"renders to the number {asked}, which lm-evaluation-harness takes apart")
        header = self._value("description", task.description) if task.description else ""
        stem = f"{header}{asked}"
        if not stem.strip():
            raise self._wrong("doc_to_text", "renders to nothing")
        name = self.row.get("id")
        id_ = sources.id_of(stem, choices) if name is None or name == "" else str(name)
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
        if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(c, str) for c in found):
            raise self._wrong("doc_to_choice", "gives no list of texts")
        if len(found) < 2 or len(set(found)) != len(found) or not all(found):
            raise self._wrong("doc_to_choice", "must give at least two choices, none empty and no two the same")
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
            return _template(source).render(self.row)
        except _failures() as error:
            raise self._wrong(key, f"the template fails: {str(error)[:200]}") from None

    def _wrong(self, key: str, words: str) -> FileError:
        return FileError(
            f"{key}, {self.where}: {words}.",
            remedy="Correct the template or the data.",
            where=self.loaded.where(key),
            code="bad-item",
        )
