"""From a suite to its SuiteData: every file that a suite names, read and checked before anything runs.

The attacker's data and the verdict items are separated here: an item in both is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from robustness_gate import organisms, tasks
from robustness_gate.errors import FileError, PlanError, UsageError
from robustness_gate.inputs import datasets, settings
from robustness_gate.inputs.items import items_digest
from robustness_gate.inputs.prompts import header_for
from robustness_gate.inputs.validation import Loaded, nearest
from robustness_gate.planning import leaks, made
from robustness_gate.records.attack import Corpus, Hazard
from robustness_gate.records.base import Format
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.questions import Form, Item, TaskRef, hazard_kinds, in_format
from robustness_gate.records.suite import Suite, SuiteCorpus, SuiteTask

OF_EVERY_KIND = frozenset({"kind", "config", "items", "count", "sha256"})
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


@dataclass(frozen=True)
class Worded:
    """The attackers' data in the form of one hazard task, where it differs from the suite's own."""

    dev: tuple[Item, ...]
    corpora: Mapping[str, tuple[Item, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Data that do not have this form, `dev` or a corpus, with the reason."""


@dataclass(frozen=True)
class SuiteData:
    """All data of a suite's files."""

    tasks: dict[str, TaskData]
    hazard: str
    """The first hazard task, in the first of its formats."""
    dev: tuple[Item, ...]
    corpora: dict[str, Corpus]
    others: tuple[str, ...] = ()
    """The other hazard tasks, without their formats."""
    worded: Mapping[str, Worded] = field(default_factory=dict)
    """By hazard task, without its formats: tasks with dev items or questions in a form of their own."""

    def task_refs(self, attack: str) -> tuple[TaskRef, ...]:
        """References by content to the tasks that are asked after an attack: the hazard first, the others by name."""
        order = sorted(self.tasks, key=lambda name: (name != self.hazard, name))
        asked = (name for name in order if attack == "none" or not self.tasks[name].untouched_only)
        return tuple(self.refs[name] for name in asked)

    @cached_property
    def refs(self) -> dict[str, TaskRef]:
        """Each task by its content; computed once, since every trial names them."""
        return {name: _task_ref(name, task_data) for name, task_data in self.tasks.items()}

    @cached_property
    def data_digests(self) -> dict[str, str]:
        """Digests of the data that an attack can use."""
        found = {"dev": items_digest(self.dev)} if self.dev else {}
        if any(form.chat for form in self.forms):  # otherwise raw alone, which has no entry
            found["hazard's formats"] = digest_of(["chat" if form.chat else "raw" for form in self.forms])
        for name, corpus in sorted(self.corpora.items()):
            found[name] = digest_of([items_digest(corpus.items), list(corpus.texts), corpus.header])
        for task, worded in sorted(self.worded.items()):  # otherwise the same as above, which has an entry
            if worded.dev and worded.dev != self.dev:
                found[f"dev of {task}"] = items_digest(worded.dev)
            for name, items in sorted(worded.corpora.items()):
                if items != self.corpora[name].items:
                    found[f"{name} as {task}"] = items_digest(items)
        return found

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """The hazard tasks, each in each of its formats, in the suite's order."""
        return tuple(
            self._hazard(task, name)
            for task in (self.hazard.removesuffix(".chat"), *self.others)
            for name in self.tasks
            if name in {in_format(task, "raw"), in_format(task, "chat")}
        )

    def _hazard(self, task: str, name: str) -> Hazard:
        task_data = self.tasks[name]
        plain = {source: corpus.items for source, corpus in self.corpora.items()}
        own = self.worded.get(task, Worded(self.dev, plain))
        return Hazard(
            name, task_data.kind, task_data.form, own.dev, own.corpora, tasks.load(task_data.kind), own.missing
        )

    @property
    def forms(self) -> tuple[Form, ...]:
        """The form of each hazard."""
        return tuple(each.form for each in self.hazards)

    def pool(self) -> dict[str, int]:
        """Sizes of the data: `dev` (of the hazard task with the fewest), `forget.items`, `forget.texts`, ..."""
        found = {"dev": min((len(each.dev) for each in self.hazards if "dev" not in each.missing), default=0)}
        for name, corpus in self.corpora.items():
            found |= {f"{name}.items": len(corpus.items), f"{name}.texts": len(corpus.texts)}
        return found


def gather(suite: Loaded[Suite]) -> SuiteData:
    """Read every file that a suite names, and check that no attacker can see a verdict item.

    Raises:
        FileError, PlanError: with file:line:column in the suite or file:line in the data.
    """
    noun = suite.noun
    hazards = _hazard_names(suite)
    tasks: dict[str, TaskData] = {}
    read: dict[str, _Asked] = {}
    for name, task in noun.tasks.items():
        _refuse_confusion(name, task.formats, suite)
        _refuse_misuse(suite, name, task, hazards)
        read[name] = _read_task(suite, name, task)
        tasks |= _exams(suite, name, task, read[name], hazards)
    if noun.dev and all(noun.tasks[name].roles for name in hazards):
        raise PlanError(
            f"'{hazards[0]}' has roles, so its dev items are already there.",
            remedy="Take out one of the two.",
            where=suite.where("dev"),
            code="two-dev-sets",
        )
    corpora, rows = {}, {}
    for name, corpus in noun.corpora.items():
        corpora[name], rows[name] = _corpus(suite, name, corpus, read, hazards)
    worded = {name: _worded(suite, name, read, corpora, rows) for name in hazards}
    first = worded[hazards[0]]
    plain = {name: corpus.items for name, corpus in corpora.items()}
    suite_data = SuiteData(
        tasks,
        in_format(hazards[0], noun.tasks[hazards[0]].formats[0]),
        first.dev,
        corpora,
        hazards[1:],
        {name: each for name, each in worded.items() if each != Worded(first.dev, plain)},
    )
    _refuse_leaks(suite, suite_data, read, rows)
    return suite_data


def _read_task(suite: Loaded[Suite], name: str, task: SuiteTask) -> _Asked:
    """A task's items: read, counted, narrowed to its subset, and divided by its roles."""
    module = tasks.load(task.kind)
    given = _given(suite, name, task, module)
    place = suite.where("tasks", name, "kind" if "kind" in task.model_fields_set else "items")
    items = made.check_items(task.kind, module.questions(given), place)
    _refuse_prompts_of_its_own(suite, name, given, module, items)
    _refuse_change(suite, name, task, items)
    asked = _divided(suite, name, task, _Asked(given, module, items, _kept(suite, name, task, items)))
    _refuse_repeats(suite, name, asked.judged)
    return asked


def _refuse_prompts_of_its_own(
    suite: Loaded[Suite], name: str, given: tasks.Given, module: ModuleType, items: Sequence[Item]
) -> None:
    """A kind that makes other prompts than its rows must make them of the attackers' rows too (`reworded`).

    Otherwise attacks train and select on prompts that the verdict does not ask, and find nothing.

    Raises:
        PlanError: an item is none of the rows as they stand, and the kind cannot reword rows.
    """
    if hasattr(module, "reworded") or getattr(module, "BARE", False) or not module.JUDGED.hazard:
        return
    plain = {datasets.words_of(each) for each in leaks.readable(datasets.read_rows(given.place), given.place)}
    if any(datasets.words_of(each) not in plain for each in items):
        raise PlanError(
            f"the kind '{given.task.kind}' makes prompts of its own, and not of the attackers' questions.",
            remedy="Let its file have `reworded`, which makes them of any rows; `tasks/lm_eval.py` is an example.",
            where=suite.where("tasks", name, "kind"),
            code="unknown-kind",
        )


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
    return datasets.keep(items, datasets.read_ids(path), str(path))


def _divided(suite: Loaded[Suite], name: str, task: SuiteTask, asked: _Asked) -> _Asked:
    """The items by role: verdict, dev, train; all are verdict items where the task has no roles."""
    if task.roles is None:
        return asked
    try:
        judged, dev, train = datasets.divide(asked.judged, task.roles)
    except UsageError as error:
        place = suite.where("tasks", name, "roles", "key")
        raise PlanError(error.message, remedy=error.remedy, where=place, code="no-role-key") from None
    if not judged:
        raise PlanError(
            "no item is left to be judged by.",
            remedy="Lower 'dev'.",
            where=suite.where("tasks", name, "roles"),
            code="roles",
        )
    return asked._replace(judged=judged, dev=dev, train=train)


def _exams(
    suite: Loaded[Suite], name: str, task: SuiteTask, asked: _Asked, hazards: Sequence[str]
) -> dict[str, TaskData]:
    """The task data by the task's name in each of its formats; with hidden questions where the suite sets that."""
    if task.hide_question and name in hazards:
        raise PlanError(
            "the hazard task cannot hide its question: no attack would be judged by it.",
            remedy="Ask the choices alone in a task of its own.",
            code="wrong-baseline",
            where=suite.where("tasks", name, "hide_question"),
        )
    items = datasets.question_hidden(asked.judged) if task.hide_question else asked.judged
    untouched_only = task.hide_question or not asked.module.JUDGED.hazard
    place = suite.where("tasks", name, "kind" if "kind" in task.model_fields_set else "items")

    def form(each: Format) -> Form:
        found = asked.module.put(asked.given, items, chat=each == "chat")
        return made.check_form(task.kind, asked.module, items, found, place)

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


def _corpus(
    suite: Loaded[Suite], name: str, corpus: SuiteCorpus, read: Mapping[str, _Asked], hazards: Sequence[str]
) -> tuple[Corpus, _Rows]:
    """A corpus for attackers, and the rows of its questions."""
    items, rows = _questions_of(corpus, _rows_to_train_on(suite, name, corpus, read), read, hazards)
    texts = datasets.read_texts(locate(corpus.texts, suite, "corpora", name, "texts")) if corpus.texts else ()
    return Corpus(items, texts, header_for(corpus.topic) if corpus.topic else ""), rows


class _Asked(NamedTuple):
    """All items of a task as its kind reads them, and the rows reserved for attackers."""

    given: tasks.Given
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
        self, rows: Sequence[tuple[str, Mapping[str, Any]]], place: str | Path, own: frozenset[str] | None = None
    ) -> tuple[Item, ...]:
        """Items from rows in the kind's own form; with `own`, exactly like the task's own rows, which have these
        columns.
        """
        return made.check_items(self.given.task.kind, self.module.reworded(self.given, rows, place, own), str(place))


class _Rows(NamedTuple):
    """The rows of a corpus's questions, so that each task can put them into its own form."""

    place: str | Path = ""
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    odd: str = ""
    """Why the rows alone are not questions, where only a harness's task makes questions of them."""


def _hazard_names(suite: Loaded[Suite]) -> tuple[str, ...]:
    """The hazard tasks. Raises PlanError for one that is not a task, or is named twice."""
    names = suite.noun.hazards
    for index, name in enumerate(names):
        at = () if isinstance(suite.noun.hazard, str) else (index,)
        if name not in suite.noun.tasks:
            raise PlanError(
                f"the hazard task '{name}' is not among the tasks.",
                remedy=nearest(name, list(suite.noun.tasks)),
                where=suite.where("hazard", *at),
                code="unknown-hazard",
            )
        if name in names[:index]:
            raise PlanError(
                f"the hazard task '{name}' is named twice.",
                remedy="Name each once.",
                where=suite.where("hazard", *at),
                code="duplicate-hazard",
            )
    return names


def _rows_to_train_on(suite: Loaded[Suite], name: str, corpus: SuiteCorpus, read: Mapping[str, _Asked]) -> _Rows:
    """The rows of a corpus's questions: from a source of their own, or those that a task reserves for training."""
    if corpus.train_of is None:
        if corpus.items is None:
            return _Rows()
        place = locate(corpus.items, suite, "corpora", name, "items")
        return _Rows(place, tuple(datasets.read_rows(place))[: corpus.first])
    asked = read.get(corpus.train_of)
    if corpus.items is not None or asked is None or not asked.train:
        raise PlanError(
            f"'{corpus.train_of}' keeps no items back for training."
            if corpus.items is None
            else "questions come from 'items' or from 'train_of'.",
            remedy="Give the task `roles: {dev: 0.1, train: 0.2}`, or take one of the two keys out.",
            where=suite.where("corpora", name, "train_of"),
            code="no-train-items",
        )
    place = locate(suite.noun.tasks[corpus.train_of].items, suite, "tasks", corpus.train_of, "items")
    kept = {item.question.id for item in asked.train}
    rows = tuple(datasets.read_rows(place))
    if len(rows) != len(asked.items):
        raise PlanError(
            f"'{corpus.train_of}' makes {len(asked.items)} items of {len(rows)} rows, so its rows cannot be kept back.",
            remedy="Give the corpus 'items' of its own, or let the kind make one item of each row.",
            where=suite.where("corpora", name, "train_of"),
            code="no-train-items",
        )
    both = zip(asked.items, rows, strict=True)
    return _Rows(place, tuple(row for item, row in both if item.question.id in kept)[: corpus.first])


def _questions_of(
    corpus: SuiteCorpus, found: _Rows, read: Mapping[str, _Asked], hazards: Sequence[str]
) -> tuple[tuple[Item, ...], _Rows]:
    """A corpus's questions in the suite's own form, or in that of a harness's task where only its template reads them.

    Raises:
        FileError: no reader accepts them.
    """
    if not found.rows:
        return (), found
    owner = read[corpus.train_of] if corpus.train_of else None
    if owner is not None and not owner.rewords:
        return owner.train[: corpus.first], found
    templates = [read[hazard] for hazard in hazards if read[hazard].rewords]
    try:
        if owner is None and not templates:
            return datasets.read_items(found.place)[: corpus.first], found
        return datasets.of_rows(found.rows, found.place), found  # a file for a template may have more columns
    except FileError as error:
        for template in templates:
            with contextlib.suppress(FileError):  # the first error is about the expected columns
                return template.reworded(found.rows, found.place), found._replace(odd=error.message)
        raise


def _worded(
    suite: Loaded[Suite],
    name: str,
    read: Mapping[str, _Asked],
    corpora: Mapping[str, Corpus],
    rows: Mapping[str, _Rows],
) -> Worded:
    """The attackers' data in the form of one hazard task: its own dev items or the suite's, and every corpus."""
    asked = read[name]
    noun, missing, dev = suite.noun, dict[str, str](), asked.dev
    own = _columns(asked.given.place) if asked.rewords else frozenset()
    if not noun.tasks[name].roles and noun.dev:
        place = locate(noun.dev, suite, "dev")
        mixed = not asked.rewords and any(read[each].rewords for each in noun.hazards)
        try:
            if asked.rewords:
                dev = asked.reworded(list(datasets.read_rows(place)), place, own)
            else:
                dev = datasets.of_rows(datasets.read_rows(place), place) if mixed else datasets.read_items(place)
        except FileError as error:
            if len(noun.hazards) == 1:
                raise
            missing["dev"] = f"the suite's dev items cannot be put in its words ({error.message})"
    elif not noun.tasks[name].roles and len(noun.hazards) > 1:
        missing["dev"] = "the suite has no dev items for it (give it `roles`, or the suite `dev`)"
    found = {}
    for source, corpus in corpora.items():
        found[source], place, given, odd = corpus.items, *rows[source]
        if given and asked.rewords:
            try:
                found[source], odd = asked.reworded(given, place, own), ""
            except FileError as error:
                odd = error.message
        if odd:
            found[source] = ()
            missing[source] = f"the questions of '{source}' cannot be put in its words ({odd})"
    return Worded(dev, found, missing)


def _columns(place: str | Path) -> frozenset[str]:
    """The columns of a source's rows."""
    return frozenset(column for _, row in datasets.read_rows(place) for column in row)


def locate(name: str, suite: Loaded[Suite], *at: str | int) -> Path | str:
    """The location of a suite's source: `organism:NAME` is shipped, a hub dataset is unchanged, a path is relative to
    the suite.
    """
    if datasets.is_hub(name):
        if datasets.HUB.match(name) is None:
            raise PlanError(
                f"'{name}' does not name a dataset by its commit.",
                remedy="Write hf-dataset://OWNER/NAME@40-HEX-COMMIT/CONFIG/SPLIT: a branch may change under a verdict.",
                where=suite.where(*at),
                code="moving-tag",
            )
        return name
    try:
        if name.startswith("organism:"):
            return organisms.world(name.removeprefix("organism:"))
        path = suite.path.parent / name
        if path.exists():
            return path
    except (UsageError, OSError) as error:  # OSError: the name is too long for a file
        words = error.message if isinstance(error, UsageError) else f"'{name[:60]}' is no file's name."
        remedy = error.remedy if isinstance(error, UsageError) else "Paths start at the suite."
        raise PlanError(words, remedy=remedy, where=suite.where(*at), code="missing-file") from None
    raise PlanError(
        f"there is no file '{name}'.",
        remedy="Paths start at the suite.",
        where=suite.where(*at),
        code="missing-file",
    )


def _task_ref(name: str, task_data: TaskData) -> TaskRef:
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
    options = len(task_data.items[0].question.choices)
    return TaskRef(
        name=name,
        kind=task_data.kind,
        sha256=digest_of(words),
        items=len(task_data.items),
        options=options,
        judged=tasks.load(task_data.kind).JUDGED,
    )


def _given(suite: Loaded[Suite], name: str, task: SuiteTask, module: ModuleType) -> tasks.Given:
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

    given = tasks.Given(task, find("items"), suite.path.parent, find, _settings(suite, name, task, module))
    return replace(given, own=module.prepared(given)) if hasattr(module, "prepared") else given


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


def _refuse_leaks(
    suite: Loaded[Suite], suite_data: SuiteData, read: Mapping[str, _Asked], rows: Mapping[str, _Rows]
) -> None:
    """Refuse a verdict question in the attackers' data, as it is asked, as it stands, and as any kind rewords it."""
    noun, seen = suite.noun, list[tuple[leaks.Place, leaks.Side]]()
    for name, corpus in suite_data.corpora.items():
        plain = leaks.readable(rows[name].rows, rows[name].place) if rows[name].odd else ()
        seen.append((("corpora", name), leaks.Side(corpus.items, plain=plain)))
        seen += _as_reworded(("corpora", name), rows[name].rows, rows[name].place, read)
    for each in suite_data.hazards:
        task = each.name.removesuffix(".chat")
        asked = read[task]
        theirs = ("tasks", task, "roles") if noun.tasks[task].roles else ("dev",)
        plain = _plain(suite, task, asked, asked.dev) if noun.tasks[task].roles else ()
        seen.append((theirs, leaks.Side(each.dev, asked.whole(each.form), plain)))
    if noun.dev:
        place = locate(noun.dev, suite, "dev")
        found = tuple(datasets.read_rows(place))
        seen.append((("dev",), leaks.Side(leaks.readable(found, place))))
        seen += _as_reworded(("dev",), found, place, read)
    judged = {}
    for name, task_data in suite_data.tasks.items():
        asked = read[name.removesuffix(".chat")]
        if not task_data.bare:  # an attacker may have the texts that were to be forgotten
            plain = _plain(suite, name.removesuffix(".chat"), asked, asked.judged)
            judged[name] = leaks.Side(task_data.items, asked.whole(task_data.form), plain)
    leaks.refuse(suite, judged, seen, {name: corpus.texts for name, corpus in suite_data.corpora.items()})


def _as_reworded(
    at: leaks.Place, rows: Sequence[tuple[str, Mapping[str, Any]]], place: str | Path, read: Mapping[str, _Asked]
) -> Iterator[tuple[leaks.Place, leaks.Side]]:
    """The attackers' rows as each kind of the suite rewords them."""
    for asked in read.values() if rows else ():
        if asked.rewords:
            with contextlib.suppress(FileError):  # rows of another shape than this kind reads
                yield at, leaks.Side(asked.reworded(rows, place, _columns(asked.given.place)), whole=True)


def _plain(suite: Loaded[Suite], name: str, asked: _Asked, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Some of a task's questions as their rows state them. Raises PlanError where their rows are not known."""
    if not asked.rewords:
        return items
    rows = tuple(datasets.read_rows(asked.given.place))
    if len(rows) == len(asked.items):
        ids = {item.question.id for item in items}
        rows = tuple(row for item, row in zip(asked.items, rows, strict=True) if item.question.id in ids)
    elif asked.given.task.roles is not None:
        raise PlanError(
            f"'{name}' makes {len(asked.items)} items of {len(rows)} rows, so its rows cannot be divided.",
            remedy="Take 'roles' out, or let the kind make one item of each row.",
            where=suite.where("tasks", name, "roles"),
            code="roles",
        )
    return leaks.readable(rows, asked.given.place)


def _refuse_repeats(suite: Loaded[Suite], name: str, items: Sequence[Item]) -> None:
    """Raises PlanError where the same question under several ids would count as several."""
    found = datasets.repeats(items)
    if found is not None and found.number > datasets.REPEATS * len(items):
        raise PlanError(
            f"{found.number} of the {len(items)} items that '{name}' asks repeat an earlier question, the first "
            f"'{found.first[1][:60]}', which asks what '{found.first[0][:60]}' asks: counted apart they would make the "
            "bound narrower than it is.",
            remedy="Keep one of each, and correct 'count' and digests.",
            where=suite.where("tasks", name, "items"),
            code="repeated-questions",
        )
