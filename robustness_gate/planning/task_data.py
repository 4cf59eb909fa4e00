"""One task of a suite: its questions are read, counted, narrowed to a subset, divided by role, and put into form.

Of the items by role, the verdict items become the `TaskData` that trials ask; the others are for attackers
(`corpora.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from robustness_gate import tasks
from robustness_gate.errors import PlanError, UsageError
from robustness_gate.inputs import datasets, division, same_question, settings
from robustness_gate.inputs.items import items_digest
from robustness_gate.inputs.rows import Place
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import clusters, made
from robustness_gate.planning.sources import locate, readable, source_of
from robustness_gate.records.base import Format
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.questions import Form, Item, TaskRef, hazard_kinds, in_format
from robustness_gate.records.suite import Suite, SuiteTask
from robustness_gate.system.sentences import nearest

OF_EVERY_KIND = frozenset({"kind", "config", "items", "columns", "where", "count", "sha256"})
"""Keys that every task may have; others only where its kind allows them (`KEYS`)."""


@dataclass(frozen=True)
class TaskData:
    """One task's questions with their key and form. Only a trial uses the key."""

    kind: str
    items: tuple[Item, ...]
    form: Form
    untouched_only: bool = False
    """Asked of the untouched model, not after attacks: a baseline."""
    bare: bool = False
    """Its choices are whole texts: there are no questions, and an attacker may have the texts."""
    config: Mapping[str, Json] = field(default_factory=dict)
    """The kind's own settings, as the suite gives them: part of what is asked, so part of its digest."""


class Asked(NamedTuple):
    """All items of a task as its kind reads them, and the rows reserved for attackers."""

    given: tasks.Declared
    module: ModuleType
    items: tuple[Item, ...]
    judged: tuple[Item, ...]
    dev: tuple[Item, ...] = ()
    train: tuple[Item, ...] = ()

    @property
    def rewords(self) -> bool:
        """Whether the kind has its own prompts for rows."""
        return hasattr(self.module, "reworded")

    def whole(self, form: Form) -> bool:
        """Whether a stem is a whole prompt that this kind made."""
        return self.rewords or (form.verbatim and not form.wording)

    def reworded(
        self, rows: Sequence[tuple[str, Mapping[str, Any]]], place: Place, own: frozenset[str] | None = None
    ) -> tuple[Item, ...]:
        """Items from rows in the kind's own form; with `own`, exactly like the task's own rows, which have these
        columns.
        """
        return made.check_items(self.given.task.kind, self.module.reworded(self.given, rows, place, own), str(place))


def read_task(
    suite: Loaded[Suite], name: str, task: SuiteTask, hazards: Sequence[str], read: Mapping[str, Asked]
) -> Asked:
    """A task's items: read, counted, narrowed to its subset, and divided by its roles.

    Args:
        suite: the suite.
        name: the task's name.
        task: the task.
        hazards: the hazard tasks.
        read: tasks that have been read, among them every one with roles.

    Raises:
        FileError, PlanError: the task's keys do not fit its kind, or its items are not what the suite says.
    """
    _refuse_confusion(name, task.formats, suite)
    _refuse_misuse(suite, name, task, hazards)
    module = tasks.load(task.kind)
    given = _given(suite, name, task, module)
    items = made.check_items(task.kind, module.questions(given), _place_of_kind(suite, name, task))
    items = clusters.of_items(suite, name, given, items)
    _refuse_prompts_of_its_own(suite, name, given, module, items)
    _refuse_change(suite, name, task, items)
    asked = _divided(suite, name, task, Asked(given, module, items, _kept(suite, name, task, items)), read)
    _refuse_repeats(suite, name, asked.judged)
    return asked


def whole_task(suite: Loaded[Suite], name: str) -> int:
    """How many items the source of a task has now. Raises as `read_task` does."""
    task = suite.record.tasks[name]
    module = tasks.load(task.kind, where=suite.where("tasks", name, "kind"))
    given = _given(suite, name, task, module)
    return len(made.check_items(task.kind, module.questions(given), _place_of_kind(suite, name, task)))


def in_formats(
    suite: Loaded[Suite], name: str, task: SuiteTask, asked: Asked, hazards: Sequence[str]
) -> dict[str, TaskData]:
    """The task data by the task's name in each of its formats; with hidden questions where the suite sets that."""
    if task.hide_question and name in hazards:
        raise PlanError(
            "the hazard task cannot hide its question: no attack would be judged by it.",
            remedy="Ask the choices alone in a task of its own.",
            code="wrong-baseline",
            where=suite.where("tasks", name, "hide_question"),
        )
    items = division.question_hidden(asked.judged) if task.hide_question else asked.judged
    untouched_only = task.only_untouched(asked.module.JUDGED)

    def form(each: Format) -> Form:
        found = asked.module.put(asked.given, items, chat=each == "chat")
        if isinstance(found, Form):  # `check_form` refuses others
            found = replace(found, settings=asked.given.settings)
        return made.check_form(task.kind, asked.module, items, found, _place_of_kind(suite, name, task))

    return {
        in_format(name, each): TaskData(
            task.kind,
            items,
            form(each),
            untouched_only,
            bare=getattr(asked.module, "BARE", False),
            config=task.config,
        )
        for each in task.formats
    }


def task_ref(name: str, task_data: TaskData) -> TaskRef:
    """A reference to a task by its content, for trials."""
    # The format is in the task's name, so that a policy can pin the same questions once for all formats.
    words: list[Json] = [
        task_data.kind,
        items_digest(task_data.items),
        task_data.form.header,
        list(task_data.form.letters),
    ]
    words += [task_data.form.delimiter] if task_data.form.verbatim else []
    words += [task_data.form.wording, task_data.form.tokens] if task_data.form.wording else []
    # What a shipped kind leaves at its default has no entry; settings of a kind's own always count.
    words += [["by length"]] if task_data.form.by_length else []
    words += [["config", dict(task_data.config)]] if task_data.config else []
    of_each = [item.cluster for item in task_data.items]
    words += [["clusters", of_each]] if any(of_each) else []
    options = len(task_data.items[0].question.choices)
    return TaskRef(
        name=name,
        kind=task_data.kind,
        sha256=digest_of(words),
        items=len(task_data.items),
        options=options,
        judged=tasks.load(task_data.kind).JUDGED,
    )


def _given(suite: Loaded[Suite], name: str, task: SuiteTask, module: ModuleType) -> tasks.Declared:
    """The suite's declarations of a task, for its kind. Raises PlanError for keys and settings that do not fit."""
    for key, what in getattr(module, "NEEDS", {}).items():
        if getattr(task, key) is None:
            raise PlanError(
                f"a task of the kind '{task.kind}' needs '{key}'.",
                remedy=f"Name {what} there.",
                where=suite.where("tasks", name, "kind"),
                code="wrong-key-for-kind",
            )
    for key in sorted(SuiteTask.model_fields.keys() - OF_EVERY_KIND - module.KEYS):
        if getattr(task, key) != SuiteTask.model_fields[key].get_default():
            kinds = tasks.takers(key)
            raise PlanError(
                f"'{key}' does not go with the kind '{task.kind}'.",
                remedy=f"Take it out, or name a kind that has it: {', '.join(kinds)}.",
                where=suite.where("tasks", name, key),
                code="wrong-key-for-kind",
            )

    def find(key: str) -> str | Path:
        return locate(getattr(task, key), suite, "tasks", name, key)

    place = source_of(task.items, suite, task, "tasks", name, "items")
    given = tasks.Declared(task, place, suite.path.parent, find, _settings(suite, name, task, module))
    return replace(given, own=module.prepared(given)) if hasattr(module, "prepared") else given


def _place_of_kind(suite: Loaded[Suite], name: str, task: SuiteTask) -> str:
    """The place where the suite names a task's kind; where it leaves the default, that of the items."""
    return suite.where("tasks", name, "kind" if "kind" in task.model_fields_set else "items")


def _settings(suite: Loaded[Suite], name: str, task: SuiteTask, module: ModuleType) -> Any:
    """A kind's own settings, strictly typed."""
    if not hasattr(module, "Settings"):
        if task.config:
            raise PlanError(
                f"a task of the kind '{task.kind}' has no settings of its own.",
                remedy="Take 'config' out.",
                where=suite.where("tasks", name, "config"),
                code="wrong-key-for-kind",
            )
        return None
    try:
        return settings.of(module.Settings, task.config)
    except settings.BadConfig as error:
        place = suite.where("tasks", name, "config", *([error.key] if error.key else []))
        raise PlanError(error.message, remedy=error.remedy, where=place, code="bad-setting") from None


def _refuse_confusion(name: str, formats: Sequence[Format], file: Loaded[Any]) -> None:
    """Refuse a task with the name of another's chat format, and a format that is named twice."""
    if name.endswith(".chat"):
        raise PlanError(
            f"'{name}': the ending '.chat' is kept for the chat format.",
            remedy="Write 'formats: [raw, chat]' under the task's own name.",
            where=file.where("tasks", name),
            code="reserved-name",
        )
    if len(set(formats)) < len(formats):
        place = file.where("tasks", name, "formats")
        raise PlanError("a format is named twice.", remedy="Name each once.", where=place, code="duplicate-format")


def _refuse_misuse(suite: Loaded[Suite], name: str, task: SuiteTask, hazards: Sequence[str]) -> None:
    """Raises PlanError for a kind that is unknown or cannot be the hazard, and for roles that leave too few items."""
    module = tasks.load(task.kind, where=suite.where("tasks", name, "kind"))
    if not module.JUDGED.hazard and name in hazards:
        raise PlanError(
            f"a task of the kind '{task.kind}' cannot be the hazard: what it shows is told, and no limit is on it.",
            remedy=f"Ask the hazard as {', '.join(hazard_kinds())}, and this beside it.",
            where=suite.where("tasks", name, "kind"),
            code="wrong-kind",
        )
    if task.roles is not None and task.roles.dev + task.roles.train > 0.5:
        raise PlanError(
            f"{task.roles.dev + task.roles.train:.0%} of the items for attackers leave less than half for the verdict.",
            remedy="Give attackers at most 0.5.",
            where=suite.where("tasks", name, "roles", "dev"),
            code="roles",
        )


def _refuse_prompts_of_its_own(
    suite: Loaded[Suite], name: str, given: tasks.Declared, module: ModuleType, items: Sequence[Item]
) -> None:
    """A kind that makes other prompts than its rows must make them of the attackers' rows too (`reworded`).

    Otherwise attacks train and select on prompts that the verdict does not ask, and find nothing.

    Raises:
        PlanError: an item is none of the rows as they stand, and the kind cannot reword rows.
    """
    if hasattr(module, "reworded") or getattr(module, "BARE", False) or not module.JUDGED.hazard:
        return
    plain = {same_question.words_of(each) for each in readable(datasets.read_rows(given.place), given.place)}
    if any(same_question.words_of(each) not in plain for each in items):
        raise PlanError(
            f"the kind '{given.task.kind}' makes prompts of its own, and not of the attackers' questions.",
            remedy="Let its file have `reworded`, which makes them of any rows; `tasks/lm_eval.py` is an example. Or "
            "give its rows `question`, `choices` and `answer`, and ask them as they stand.",
            where=suite.where("tasks", name, "kind"),
            code="unknown-kind",
        )


def _refuse_change(suite: Loaded[Suite], name: str, task: SuiteTask, items: Sequence[Item]) -> None:
    """Raises PlanError where the items differ from the suite's count or digest."""
    if len(items) != task.count:
        raise PlanError(
            f"the file holds {len(items)} items, 'count' says {task.count}.",
            remedy="Correct the one that is wrong: a changed benchmark is another benchmark.",
            where=suite.where("tasks", name, "count"),
            code="wrong-count",
        )
    if task.sha256 is not None and task.sha256 != items_digest(items):
        raise PlanError(
            f"the items have the digest {items_digest(items)}.",
            remedy="Correct 'sha256', or find out who changed the file.",
            where=suite.where("tasks", name, "sha256"),
            code="wrong-questions",
        )


def _kept(suite: Loaded[Suite], name: str, task: SuiteTask, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """The items of the subset; all where the task has none."""
    if task.subset is None:
        return items
    path = locate(task.subset, suite, "tasks", name, "subset")
    if isinstance(path, str):
        raise PlanError(
            "a subset is a file with one id a line, not a dataset.",
            remedy="Name a file.",
            where=suite.where("tasks", name, "subset"),
            code="missing-file",
        )
    return division.keep(items, datasets.read_ids(path), str(path))


def _divided(suite: Loaded[Suite], name: str, task: SuiteTask, asked: Asked, read: Mapping[str, Asked]) -> Asked:
    """The items by role: verdict, dev, train; all are verdict items where the task is not divided."""
    if not task.divided:
        return asked
    at = ("tasks", name, "roles" if task.roles is not None else "roles_of")
    if task.roles is not None and task.roles_of is not None:
        words = "its items are divided by its own roles or as those of another task, not by both."
        raise PlanError(words, remedy="Take one of the two out.", where=suite.where(*at), code="roles")
    try:
        if task.roles is not None:
            found = division.divide(asked.judged, task.roles)
        else:
            found = division.divide_as(asked.judged, _other(suite, name, task, read))
    except UsageError as error:
        place = suite.where(*at, *(["key"] if error.code == "no-role-key" else []))
        raise PlanError(error.message, remedy=error.remedy, where=place, code=error.code) from None
    if not found.verdict:
        raise PlanError("no item is left to be judged by.", remedy="Lower 'dev'.", where=suite.where(*at), code="roles")
    return asked._replace(judged=found.verdict, dev=found.dev, train=found.train)


def _other(suite: Loaded[Suite], name: str, task: SuiteTask, read: Mapping[str, Asked]) -> division.Divided:
    """The division of the task that 'roles_of' names. Raises PlanError where that has no roles."""
    other = suite.record.tasks.get(str(task.roles_of))
    if other is None or other.roles is None:
        divided = [each for each, its in suite.record.tasks.items() if its.roles is not None]
        raise PlanError(
            f"'{task.roles_of}' is no task with roles.",
            remedy=nearest(str(task.roles_of), divided),
            where=suite.where("tasks", name, "roles_of"),
            code="roles",
        )
    asked = read[str(task.roles_of)]
    return division.Divided(asked.judged, asked.dev, asked.train)


def _refuse_repeats(suite: Loaded[Suite], name: str, items: Sequence[Item]) -> None:
    """Raises PlanError where the same question under several ids would count as several."""
    found = same_question.repeats(items)
    if found is not None and found.number > same_question.REPEATS * len(items):
        raise PlanError(
            f"{found.number} of the {len(items)} items that '{name}' asks repeat an earlier question, the first "
            f"'{found.first[1][:60]}', which asks what '{found.first[0][:60]}' asks: counted apart they would make the "
            "bound narrower than it is.",
            remedy="Keep one of each, and correct 'count' and digests.",
            where=suite.where("tasks", name, "items"),
            code="repeated-questions",
        )
