"""Suite -> Materials: every file that a suite names, read and checked before anything runs.

What an attacker may see and what he is judged by are kept apart here: an item that is in both is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustness_gate import organisms, sources
from robustness_gate.errors import PlanError, UsageError
from robustness_gate.files import Loaded, digest_of, items_digest, nearest
from robustness_gate.nouns import Corpus, Form, Format, Item, Json, Suite, SuiteCorpus, SuiteTask, TaskRef, in_format
from robustness_gate.prompts import header_for
from robustness_gate.tasks import KINDS, lm_eval


@dataclass(frozen=True)
class Exam:
    """One task's questions with their key and form. Only a trial sees the key."""

    kind: str
    items: tuple[Item, ...]
    form: Form
    untouched_only: bool = False
    """Asked of the model as delivered, not after attacks: a baseline."""


@dataclass(frozen=True)
class Materials:
    """Everything that a suite's files hold."""

    exams: dict[str, Exam]
    hazard: str
    dev: tuple[Item, ...]
    corpora: dict[str, Corpus]

    def task_refs(self, attack: str) -> tuple[TaskRef, ...]:
        """The tasks that an attack's Recoveries are asked, named by content: the hazard first, the others by name."""
        order = sorted(self.exams, key=lambda name: (name != self.hazard, name))
        asked = (name for name in order if attack == "none" or not self.exams[name].untouched_only)
        return tuple(self.refs[name] for name in asked)

    @cached_property
    def refs(self) -> dict[str, TaskRef]:
        """Each task by its content; digested once, since every trial names them."""
        return {name: _task_ref(name, exam) for name, exam in self.exams.items()}

    @cached_property
    def data_digests(self) -> dict[str, str]:
        """Digests of what an attack could see."""
        found = {"dev": items_digest(self.dev)} if self.dev else {}
        if any(form.chat for form in self.forms):  # else raw alone, which has no entry
            found["hazard's formats"] = digest_of(["chat" if form.chat else "raw" for form in self.forms])
        for name, corpus in sorted(self.corpora.items()):
            found[name] = digest_of([items_digest(corpus.items), list(corpus.texts), corpus.header])
        return found

    @property
    def forms(self) -> tuple[Form, ...]:
        """How the hazard task is asked, one for each of its formats, in the suite's order."""
        formats: tuple[Format, ...] = ("raw", "chat")
        names = {in_format(self.hazard.removesuffix(".chat"), each) for each in formats}
        return tuple(exam.form for name, exam in self.exams.items() if name in names)

    def pool(self) -> dict[str, int]:
        """How much there is of what: `dev`, `forget.items`, `forget.texts`, ..."""
        found = {"dev": len(self.dev)}
        for name, corpus in self.corpora.items():
            found |= {f"{name}.items": len(corpus.items), f"{name}.texts": len(corpus.texts)}
        return found


def gather(suite: Loaded[Suite]) -> Materials:
    """Read every file that a suite names, and check that no verdict item can be seen by an attacker.

    Raises:
        FileError, PlanError: with file:line:column in the suite or file:line in the data.
    """
    noun = suite.noun
    if noun.hazard not in noun.tasks:
        raise PlanError(
            f"the hazard task '{noun.hazard}' is not among the tasks.",
            remedy=nearest(noun.hazard, list(noun.tasks)),
            where=suite.where("hazard"),
            code="unknown-hazard",
        )
    exams: dict[str, Exam] = {}
    dev: tuple[Item, ...] = ()
    trains: dict[str, tuple[Item, ...]] = {}
    for name, task in noun.tasks.items():
        _refuse_confusion(name, task.formats, suite)
        if task.kind not in KINDS:
            raise PlanError(
                f"there is no task kind '{task.kind}'.",
                remedy=nearest(task.kind, KINDS),
                where=suite.where("tasks", name, "kind"),
                code="unknown-kind",
            )
        if task.roles is not None and task.roles.dev + task.roles.train > 0.5:
            raise PlanError(
                f"{task.roles.dev + task.roles.train:.0%} of the items for attackers leave less than half for the "
                "verdict.",
                remedy="Give attackers at most 0.5.",
                where=suite.where("tasks", name, "roles", "dev"),
                code="roles",
            )
        harness = _harness_task(suite, name, task)
        items = _items(locate(task.items, suite, "tasks", name, "items"), harness)
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
        if task.subset is not None:
            path = locate(task.subset, suite, "tasks", name, "subset")
            if isinstance(path, str):
                raise PlanError(
                    "a subset is a file with one id a line, not a dataset.",
                    remedy="Name a file.",
                    where=suite.where("tasks", name, "subset"),
                    code="missing-file",
                )
            items = sources.keep(items, sources.read_ids(path), str(path))
        if task.roles is not None:
            try:
                items, kept_back, trains[name] = sources.divide(items, task.roles)
            except UsageError as error:
                place = suite.where("tasks", name, "roles", "key")
                raise PlanError(error.message, remedy=error.remedy, where=place, code="no-role-key") from None
            if not items:
                raise PlanError(
                    "no item is left to be judged by.",
                    remedy="Lower 'dev'.",
                    where=suite.where("tasks", name, "roles"),
                    code="roles",
                )
            dev = kept_back if name == noun.hazard else dev
        if task.hide_question and name == noun.hazard:
            raise PlanError(
                "the hazard task cannot hide its question: no attack would be judged by it.",
                remedy="Ask the choices alone in a task of its own.",
                code="wrong-baseline",
                where=suite.where("tasks", name, "hide_question"),
            )
        if task.hide_question:
            items = sources.question_hidden(items)
        for each in task.formats:
            form = lm_eval.form(harness) if harness else _form(task.topic, items, chat=each == "chat")
            exams[in_format(name, each)] = Exam(task.kind, items, form, untouched_only=task.hide_question)
    if noun.dev and dev:
        raise PlanError(
            f"'{noun.hazard}' has roles, so its dev items are already there.",
            remedy="Take out one of the two.",
            where=suite.where("dev"),
            code="two-dev-sets",
        )
    if noun.dev:  # in the words in which the hazard task asks
        dev = _items(locate(noun.dev, suite, "dev"), _harness_task(suite, noun.hazard, noun.tasks[noun.hazard]))
    corpora = {
        name: Corpus(
            _to_train_on(suite, name, corpus, trains)[: corpus.first],
            sources.read_texts(locate(corpus.texts, suite, "corpora", name, "texts")) if corpus.texts else (),
            header_for(corpus.topic) if corpus.topic else "",
        )
        for name, corpus in noun.corpora.items()
    }
    materials = Materials(exams, in_format(noun.hazard, noun.tasks[noun.hazard].formats[0]), dev, corpora)
    _refuse_leaks(suite, materials)
    return materials


def _to_train_on(
    suite: Loaded[Suite], name: str, corpus: SuiteCorpus, trains: Mapping[str, tuple[Item, ...]]
) -> tuple[Item, ...]:
    """A corpus's questions: of a source of their own, or those that a task keeps back for training."""
    if corpus.train_of is None:
        return sources.read_items(locate(corpus.items, suite, "corpora", name, "items")) if corpus.items else ()
    if corpus.items is not None or not trains.get(corpus.train_of):
        raise PlanError(
            f"'{corpus.train_of}' keeps no items back for training."
            if corpus.items is None
            else "questions come from 'items' or from 'train_of'.",
            remedy="Give the task `roles: {dev: 0.1, train: 0.2}`, or take one of the two keys out.",
            where=suite.where("corpora", name, "train_of"),
            code="no-train-items",
        )
    return trains[corpus.train_of]


def locate(name: str, suite: Loaded[Suite], *at: str | int) -> Path | str:
    """What a suite names: `organism:NAME` is shipped, a hub dataset stays as it is, a path starts at the suite."""
    if sources.is_hub(name):
        if sources.HUB.match(name) is None:
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
    except (UsageError, OSError) as error:  # OSError: the name is longer than any file's
        words = error.message if isinstance(error, UsageError) else f"'{name[:60]}' is no file's name."
        remedy = error.remedy if isinstance(error, UsageError) else "Paths start at the suite."
        raise PlanError(words, remedy=remedy, where=suite.where(*at), code="missing-file") from None
    raise PlanError(
        f"there is no file '{name}'.",
        remedy="Paths start at the suite.",
        where=suite.where(*at),
        code="missing-file",
    )


def _task_ref(name: str, exam: Exam) -> TaskRef:
    # The format is in the task's name, so that a policy can pin the same questions once for all formats.
    words: list[Json] = [exam.kind, items_digest(exam.items), exam.form.header, list(exam.form.letters)]
    words += [exam.form.delimiter] if exam.form.verbatim else []
    options = len(exam.items[0].question.choices)
    return TaskRef(name=name, kind=exam.kind, sha256=digest_of(words), items=len(exam.items), options=options)


def _harness_task(suite: Loaded[Suite], name: str, task: SuiteTask) -> Loaded[lm_eval.HarnessTask] | None:
    """The YAML of a task of the kind `lm_eval`; None for the others. Raises PlanError for keys that do not fit."""
    if task.kind != "lm_eval":
        if task.yaml is not None:
            raise PlanError(
                f"a task of the kind '{task.kind}' has no YAML.",
                remedy="Write `kind: lm_eval`, or take 'yaml' out.",
                where=suite.where("tasks", name, "yaml"),
                code="wrong-key-for-kind",
            )
        return None
    if task.yaml is None:
        raise PlanError(
            "a task of the kind 'lm_eval' needs 'yaml'.",
            remedy="Name lm-evaluation-harness's task file there.",
            where=suite.where("tasks", name, "kind"),
            code="wrong-key-for-kind",
        )
    for key, given, remedy in (
        ("topic", bool(task.topic), "Write the header into the YAML's 'description'."),
        ("hide_question", task.hide_question, "Only the kind 'multiple_choice' can show the choices alone."),
        ("formats", task.formats != ("raw",), "This kind asks as plain text alone."),
    ):
        if given:
            place = suite.where("tasks", name, key)
            words = f"'{key}' does not go with the kind 'lm_eval'."
            raise PlanError(words, remedy=remedy, where=place, code="wrong-key-for-kind")
    path = suite.path.parent / task.yaml
    if not path.is_file():
        place = suite.where("tasks", name, "yaml")
        raise PlanError(
            f"there is no file '{task.yaml}'.", remedy="Paths start at the suite.", where=place, code="missing-file"
        )
    return lm_eval.load(path)


def _items(place: str | Path, harness: Loaded[lm_eval.HarnessTask] | None) -> tuple[Item, ...]:
    return lm_eval.read_items(harness, place) if harness else sources.read_items(place)


def _form(topic: str, items: Sequence[Item], *, chat: bool) -> Form:
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(items[0].question.choices)])
    return Form(header=header_for(topic) if topic else "", letters=letters, chat=chat)


def _refuse_confusion(name: str, formats: Sequence[Format], file: Loaded[Any]) -> None:
    """A task must not bear the name that another's chat format has, nor name a format twice."""
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


def _refuse_leaks(suite: Loaded[Suite], materials: Materials) -> None:
    """No verdict item, by id or by its words, among what an attacker can see; nor, with its answer, inside a text."""
    seen_by_attacker: dict[str, tuple[Item, ...]] = {"dev": materials.dev}
    seen_by_attacker |= {f"corpora.{name}": corpus.items for name, corpus in materials.corpora.items()}
    hazard = materials.exams[materials.hazard]
    for name, exam in materials.exams.items():
        ids = {item.question.id for item in exam.items}
        words = {sources.words_of(item) for item in exam.items}
        for place, items in seen_by_attacker.items():
            alike = exam.form.verbatim == (place == "dev" and hazard.form.verbatim)
            for item in items:
                seen = sources.words_of(item)
                if (
                    item.question.id in ids
                    or seen in words
                    or (not alike and any(_within(seen, each) for each in words))
                ):
                    raise PlanError(
                        f"the verdict item '{item.question.id}' of '{name}' is also in '{place}'.",
                        remedy="What an attacker can see must be disjoint from what he is judged by.",
                        where=suite.where(*place.split(".")),
                        code="leak",
                    )
        for source, corpus in materials.corpora.items():
            if (found := sources.quoted(corpus.texts, exam.items)) is not None:
                number, item = found
                raise PlanError(
                    f"the verdict item '{item.question.id}' of '{name}' stands with its answer in text {number} of "
                    f"'corpora.{source}'.",
                    remedy="What an attacker can see must be disjoint from what he is judged by.",
                    where=suite.where("corpora", source, "texts"),
                    code="leak",
                )


def _within(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether a question stands inside a whole prompt: a verbatim stem holds it, and its answer, somewhere."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
