"""From a suite to its SuiteData: every file that a suite names, read and checked before anything runs.

The pipeline of `gather`: sources are located (`sources.py`); each task's questions are read, counted, divided, hidden
and put into form (`task_data.py`); the attackers' data are read and put into the form of each hazard (`corpora.py`);
and an item on both sides is refused (`leaks.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from robustness_gate import tasks
from robustness_gate.errors import PlanError
from robustness_gate.inputs.items import items_digest
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.corpora import Worded, in_words_of, read_corpus
from robustness_gate.planning.leaks import refuse_leaks
from robustness_gate.planning.task_data import Asked, TaskData, in_formats, read_task, task_ref
from robustness_gate.records.attack import Corpus, Hazard
from robustness_gate.records.encode import digest_of
from robustness_gate.records.questions import Form, Item, QuestionIds, TaskRef, in_format, question_ids
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role
from robustness_gate.system.sentences import nearest

__all__ = ["SuiteData", "TaskData", "Worded", "gather"]


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

    def task_refs(self, attack: str, role: Role = Role.CANDIDATE) -> tuple[TaskRef, ...]:
        """References by content to the tasks that are asked after an attack: the hazard first, the others by name.

        The attacked original is asked all of them, with hidden questions too: there it stands in for another model.
        """
        order = sorted(self.tasks, key=lambda name: (name != self.hazard, name))
        asked = (
            name for name in order if attack == "none" or role == Role.ORIGINAL or not self.tasks[name].untouched_only
        )
        return tuple(self.refs[name] for name in asked)

    @cached_property
    def refs(self) -> dict[str, TaskRef]:
        """Each task by its content; computed once, since every trial names them."""
        return {name: task_ref(name, task_data) for name, task_data in self.tasks.items()}

    @cached_property
    def question_ids(self) -> dict[str, QuestionIds]:
        """Ids and clusters of each task's questions."""
        return {name: question_ids(self.refs[name], task_data.items) for name, task_data in self.tasks.items()}

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
    record = suite.record
    hazards = _hazard_names(suite)
    asked: dict[str, TaskData] = {}
    read: dict[str, Asked] = {}
    for name, task in sorted(record.tasks.items(), key=lambda each: each[1].roles_of is not None):
        read[name] = read_task(suite, name, task, hazards, read)
    for name, task in record.tasks.items():
        asked |= in_formats(suite, name, task, read[name], hazards)
    _refuse_two_dev_sets(suite, hazards)
    corpora, rows = {}, {}
    for name, corpus in record.corpora.items():
        corpora[name], rows[name] = read_corpus(suite, name, corpus, read, hazards)
    own = {name: in_words_of(suite, name, read, corpora, rows) for name in hazards}
    first = own[hazards[0]]
    plain = {name: corpus.items for name, corpus in corpora.items()}
    suite_data = SuiteData(
        asked,
        in_format(hazards[0], record.tasks[hazards[0]].formats[0]),
        first.dev,
        corpora,
        hazards[1:],
        {name: each for name, each in own.items() if each != Worded(first.dev, plain)},
    )
    refuse_leaks(suite, suite_data.tasks, suite_data.hazards, corpora, read, rows)
    return suite_data


def _refuse_two_dev_sets(suite: Loaded[Suite], hazards: Sequence[str]) -> None:
    """Raises PlanError for dev items of the suite, where every hazard task keeps some of its own."""
    if suite.record.dev and all(suite.record.tasks[name].divided for name in hazards):
        raise PlanError(
            f"'{hazards[0]}' has roles, so its dev items are already there.",
            remedy="Take out one of the two.",
            where=suite.where("dev"),
            code="two-dev-sets",
        )


def _hazard_names(suite: Loaded[Suite]) -> tuple[str, ...]:
    """The hazard tasks. Raises PlanError for one that is not a task, or is named twice."""
    names = suite.record.hazards
    for index, name in enumerate(names):
        at = () if isinstance(suite.record.hazard, str) else (index,)
        if name not in suite.record.tasks:
            raise PlanError(
                f"the hazard task '{name}' is not among the tasks.",
                remedy=nearest(name, list(suite.record.tasks)),
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
