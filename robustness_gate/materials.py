"""Suite -> Materials: every file that a suite names, read and checked before anything runs.

What an attacker may see and what he is judged by are kept apart here: an item that is in both is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from robustness_gate import organisms, sources, tasks
from robustness_gate.errors import FileError, PlanError, UsageError
from robustness_gate.files import Loaded, digest_of, items_digest, nearest
from robustness_gate.nouns import (
    Corpus,
    Form,
    Format,
    Hazard,
    Item,
    Json,
    Suite,
    SuiteCorpus,
    SuiteTask,
    TaskRef,
    in_format,
    judged_as,
)
from robustness_gate.prompts import header_for
from robustness_gate.tasks import cloze, lm_eval, membership, open_answer, refusal

INSTEAD = {
    "yaml": "Write `kind: lm_eval`, or take 'yaml' out.",
    "topic": "Write a header into 'wording', or into the YAML's 'description'.",
    "hide_question": "Only the kind 'multiple_choice' can show the choices alone.",
    "formats": "This kind asks as plain text alone.",
    "roles": "It is asked whole.",
    "subset": "Leave the others out of the file.",
    "wording": "Only 'cloze', 'open_answer' and 'refusal' are put in words of the suite.",
    "tokens": "Only 'open_answer' and 'refusal' write.",
    "held_out": "Only 'membership' has texts to compare with.",
}
"""What to do about a key that does not go with a kind."""


@dataclass(frozen=True)
class Exam:
    """One task's questions with their key and form. Only a trial sees the key."""

    kind: str
    items: tuple[Item, ...]
    form: Form
    untouched_only: bool = False
    """Asked of the model as delivered, not after attacks: a baseline."""


@dataclass(frozen=True)
class Worded:
    """What attackers have in the words of one hazard task, where these are not the suite's own."""

    dev: tuple[Item, ...]
    corpora: Mapping[str, tuple[Item, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """What cannot be put in these words, `dev` or a corpus, and why."""


@dataclass(frozen=True)
class Materials:
    """Everything that a suite's files hold."""

    exams: dict[str, Exam]
    hazard: str
    """The first hazard task, in the first of its formats."""
    dev: tuple[Item, ...]
    corpora: dict[str, Corpus]
    others: tuple[str, ...] = ()
    """The other hazard tasks, without their formats."""
    worded: Mapping[str, Worded] = field(default_factory=dict)
    """By hazard task, without its formats: those that have dev items of their own, or questions in their own words."""

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
        for task, worded in sorted(self.worded.items()):  # else the same as above, which has an entry
            if worded.dev and worded.dev != self.dev:
                found[f"dev of {task}"] = items_digest(worded.dev)
            for name, items in sorted(worded.corpora.items()):
                if items != self.corpora[name].items:
                    found[f"{name} as {task}"] = items_digest(items)
        return found

    @property
    def hazards(self) -> tuple[Hazard, ...]:
        """The hazard tasks, one for each of their formats, in the suite's order."""
        return tuple(
            self._hazard(task, name)
            for task in (self.hazard.removesuffix(".chat"), *self.others)
            for name in self.exams
            if name in {in_format(task, "raw"), in_format(task, "chat")}
        )

    def _hazard(self, task: str, name: str) -> Hazard:
        exam = self.exams[name]
        plain = {source: corpus.items for source, corpus in self.corpora.items()}
        own = self.worded.get(task, Worded(self.dev, plain))
        return Hazard(name, exam.kind, exam.form, own.dev, own.corpora, tasks.load(exam.kind), own.missing)

    @property
    def forms(self) -> tuple[Form, ...]:
        """How each of the hazards asks."""
        return tuple(each.form for each in self.hazards)

    def pool(self) -> dict[str, int]:
        """How much there is of what: `dev` (of the hazard task that has fewest), `forget.items`, `forget.texts`, ..."""
        found = {"dev": min((len(each.dev) for each in self.hazards if "dev" not in each.missing), default=0)}
        for name, corpus in self.corpora.items():
            found |= {f"{name}.items": len(corpus.items), f"{name}.texts": len(corpus.texts)}
        return found


def gather(suite: Loaded[Suite]) -> Materials:
    """Read every file that a suite names, and check that no verdict item can be seen by an attacker.

    Raises:
        FileError, PlanError: with file:line:column in the suite or file:line in the data.
    """
    noun = suite.noun
    hazards = _hazard_names(suite)
    exams: dict[str, Exam] = {}
    read: dict[str, _Asked] = {}
    for name, task in noun.tasks.items():
        _refuse_confusion(name, task.formats, suite)
        tasks.load(task.kind, where=suite.where("tasks", name, "kind"))
        judged = judged_as(task.kind)
        if not judged.hazard and name in hazards:
            raise PlanError(
                f"a task of the kind '{task.kind}' cannot be the hazard: what it shows is told, and no limit is on it.",
                remedy="Ask the hazard as multiple_choice, cloze, open_answer or lm_eval, and this beside it.",
                where=suite.where("tasks", name, "kind"),
                code="wrong-kind",
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
        items = _asked(suite, name, task, harness)
        read[name] = _Asked(harness, items)
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
                items, kept_back, for_training = sources.divide(items, task.roles)
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
            read[name] = read[name]._replace(dev=kept_back, train=for_training)
        _refuse_repeats(suite, name, items)
        if task.hide_question and name in hazards:
            raise PlanError(
                "the hazard task cannot hide its question: no attack would be judged by it.",
                remedy="Ask the choices alone in a task of its own.",
                code="wrong-baseline",
                where=suite.where("tasks", name, "hide_question"),
            )
        if task.hide_question:
            items = sources.question_hidden(items)
        for each in task.formats:
            form = _form(task, items, harness, chat=each == "chat")
            untouched_only = task.hide_question or not judged.hazard
            exams[in_format(name, each)] = Exam(task.kind, items, form, untouched_only)
    if noun.dev and all(noun.tasks[name].roles for name in hazards):
        raise PlanError(
            f"'{hazards[0]}' has roles, so its dev items are already there.",
            remedy="Take out one of the two.",
            where=suite.where("dev"),
            code="two-dev-sets",
        )
    corpora, rows = {}, {}
    for name, corpus in noun.corpora.items():
        items, rows[name] = _questions_of(corpus, _rows_to_train_on(suite, name, corpus, read), read, hazards)
        corpora[name] = Corpus(
            items,
            sources.read_texts(locate(corpus.texts, suite, "corpora", name, "texts")) if corpus.texts else (),
            header_for(corpus.topic) if corpus.topic else "",
        )
    worded = {name: _worded(suite, name, read[name], corpora, rows) for name in hazards}
    first = worded[hazards[0]]
    plain = {name: corpus.items for name, corpus in corpora.items()}
    materials = Materials(
        exams,
        in_format(hazards[0], noun.tasks[hazards[0]].formats[0]),
        first.dev,
        corpora,
        hazards[1:],
        {name: each for name, each in worded.items() if each != Worded(first.dev, plain)},
    )
    _refuse_leaks(suite, materials)
    return materials


class _Asked(NamedTuple):
    """A task's items as its kind reads them, all of them, and those that are kept back for attackers."""

    harness: Loaded[lm_eval.HarnessTask] | None
    items: tuple[Item, ...]
    dev: tuple[Item, ...] = ()
    train: tuple[Item, ...] = ()


class _Rows(NamedTuple):
    """Where a corpus's questions come from: the rows as they are, so that each task can put them in its words."""

    place: str | Path = ""
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    odd: str = ""
    """Why they are no questions by themselves, where only a harness's task makes some of them."""


def _hazard_names(suite: Loaded[Suite]) -> tuple[str, ...]:
    """The hazard tasks. Raises PlanError for one that is no task, or stands there twice."""
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
    """The rows of a corpus's questions: of a source of their own, or of those that a task keeps back for training."""
    if corpus.train_of is None:
        if corpus.items is None:
            return _Rows()
        place = locate(corpus.items, suite, "corpora", name, "items")
        return _Rows(place, tuple(sources.read_rows(place))[: corpus.first])
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
    rows = zip(asked.items, sources.read_rows(place), strict=True)  # a task makes one question of each row
    return _Rows(place, tuple(row for item, row in rows if item.question.id in kept)[: corpus.first])


def _questions_of(
    corpus: SuiteCorpus, found: _Rows, read: Mapping[str, _Asked], hazards: Sequence[str]
) -> tuple[tuple[Item, ...], _Rows]:
    """A corpus's questions in the suite's own words; in those of a harness's task where only its template reads them.

    Raises:
        FileError: nothing reads them.
    """
    if not found.rows:
        return (), found
    owner = read[corpus.train_of] if corpus.train_of else None
    if owner is not None and owner.harness is None:
        return owner.train[: corpus.first], found
    templates = [harness for hazard in hazards if (harness := read[hazard].harness) is not None]
    try:
        if owner is None and not templates:
            return sources.read_items(found.place)[: corpus.first], found
        return sources.of_rows(found.rows, found.place), found  # a file that a template reads too may have more columns
    except FileError as error:
        for harness in templates:
            with contextlib.suppress(FileError):  # the first complaint is about what was to be read
                return lm_eval.items_of(harness, found.rows, found.place), found._replace(odd=error.message)
        raise


def _worded(
    suite: Loaded[Suite],
    name: str,
    asked: _Asked,
    corpora: Mapping[str, Corpus],
    rows: Mapping[str, _Rows],
) -> Worded:
    """What attackers have in the words of one hazard task: dev items of its own or the suite's, and every corpus."""
    noun, missing, dev = suite.noun, dict[str, str](), asked.dev
    own = _columns(locate(noun.tasks[name].items, suite, "tasks", name, "items")) if asked.harness is not None else ()
    if not noun.tasks[name].roles and noun.dev:
        place = locate(noun.dev, suite, "dev")
        mixed = asked.harness is None and any(noun.tasks[each].kind == "lm_eval" for each in noun.hazards)
        try:
            if asked.harness is not None:
                dev = lm_eval.items_like(asked.harness, list(sources.read_rows(place)), place, own)
            else:
                dev = sources.of_rows(sources.read_rows(place), place) if mixed else sources.read_items(place)
        except FileError as error:
            if len(noun.hazards) == 1:
                raise
            missing["dev"] = f"the suite's dev items cannot be put in its words ({error.message})"
    elif not noun.tasks[name].roles and len(noun.hazards) > 1:
        missing["dev"] = "the suite has no dev items for it (give it `roles`, or the suite `dev`)"
    found = {}
    for source, corpus in corpora.items():
        found[source], place, given, odd = corpus.items, *rows[source]
        if given and asked.harness is not None:
            try:
                found[source], odd = lm_eval.items_like(asked.harness, given, place, own), ""
            except FileError as error:
                odd = error.message
        if odd:
            found[source] = ()
            missing[source] = f"the questions of '{source}' cannot be put in its words ({odd})"
    return Worded(dev, found, missing)


def _columns(place: str | Path) -> frozenset[str]:
    """What the rows of a source hold."""
    return frozenset(column for _, row in sources.read_rows(place) for column in row)


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
    words += [exam.form.wording, exam.form.tokens] if exam.form.wording else []
    options = len(exam.items[0].question.choices)
    return TaskRef(name=name, kind=exam.kind, sha256=digest_of(words), items=len(exam.items), options=options)


def _harness_task(suite: Loaded[Suite], name: str, task: SuiteTask) -> Loaded[lm_eval.HarnessTask] | None:
    """The YAML of a task of the kind `lm_eval`; None for the others. Raises PlanError for keys that do not fit."""
    for key, needed_by in (("yaml", "lm_eval"), ("held_out", "membership")):
        if task.kind == needed_by and getattr(task, key) is None:
            what = "lm-evaluation-harness's task file" if key == "yaml" else "texts that the model has never seen"
            raise PlanError(
                f"a task of the kind '{task.kind}' needs '{key}'.",
                remedy=f"Name {what} there.",
                where=suite.where("tasks", name, "kind"),
                code="wrong-key-for-kind",
            )
    for key in sorted(INSTEAD.keys() - tasks.load(task.kind).KEYS):
        if getattr(task, key) != SuiteTask.model_fields[key].get_default():
            raise PlanError(
                f"a task of the kind '{task.kind}' has no YAML." if key == "yaml" else
                f"'{key}' does not go with the kind '{task.kind}'.",
                remedy=INSTEAD[key],
                where=suite.where("tasks", name, key),
                code="wrong-key-for-kind",
            )  # fmt: skip
    if task.yaml is None:
        return None
    path = suite.path.parent / task.yaml
    if not path.is_file():
        place = suite.where("tasks", name, "yaml")
        raise PlanError(
            f"there is no file '{task.yaml}'.", remedy="Paths start at the suite.", where=place, code="missing-file"
        )
    return lm_eval.load(path, suite.path.parent)


def _asked(
    suite: Loaded[Suite], name: str, task: SuiteTask, harness: Loaded[lm_eval.HarnessTask] | None
) -> tuple[Item, ...]:
    """The questions of a task as its kind reads them."""
    place = locate(task.items, suite, "tasks", name, "items")
    match task.kind:
        case "multiple_choice" | "cloze" | "open_answer":
            return sources.read_items(place)
        case "lm_eval" if harness is not None:
            return lm_eval.read_items(harness, place)
        case "membership" if task.held_out is not None:
            return membership.read_items(place, locate(task.held_out, suite, "tasks", name, "held_out"))
        case "refusal":
            return refusal.read_items(place)
        case _:
            raise _half_registered(task.kind, "how its items are read")


def _form(task: SuiteTask, items: Sequence[Item], harness: Loaded[lm_eval.HarnessTask] | None, *, chat: bool) -> Form:
    """How a task's questions become text."""
    match task.kind:
        case "multiple_choice":
            letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(items[0].question.choices)])
            return Form(header=header_for(task.topic) if task.topic else "", letters=letters, chat=chat)
        case "lm_eval" if harness is not None:
            return lm_eval.form(harness)
        case "cloze":
            return cloze.form(task.wording)
        case "open_answer":
            return open_answer.form(task.wording, task.tokens, chat=chat)
        case "refusal":
            return refusal.form(task.wording, task.tokens, chat=chat)
        case "membership":
            return membership.form()
        case _:
            raise _half_registered(task.kind, "how its questions are put")


def _half_registered(kind: str, lacks: str) -> PlanError:
    return PlanError(
        f"the task kind '{kind}' is registered in part alone: it lacks {lacks} in materials.py.",
        remedy="Nothing is guessed in its place: register all of it, or name another kind.",
        code="unknown-kind",
    )


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
    seen_by_attacker: list[tuple[tuple[str, ...], tuple[Item, ...], bool]] = [
        (("corpora", name), corpus.items, False) for name, corpus in materials.corpora.items()
    ]
    for each in materials.hazards:
        task = each.name.removesuffix(".chat")
        theirs = ("tasks", task, "roles") if suite.noun.tasks[task].roles else ("dev",)
        seen_by_attacker.append((theirs, each.dev, _whole(each.form)))
    for name, exam in materials.exams.items():
        if exam.kind == "membership":  # the texts that were to be forgotten are what an attacker may have
            continue
        ids = {item.question.id for item in exam.items}
        words = {sources.words_of(item) for item in exam.items}
        for at, items, whole in seen_by_attacker:
            alike = _whole(exam.form) == whole
            for item in items:
                seen = sources.words_of(item)
                if (
                    item.question.id in ids
                    or seen in words
                    or (not alike and any(_within(seen, each) for each in words))
                ):
                    raise PlanError(
                        f"the verdict item '{item.question.id}' of '{name}' is also in '{'.'.join(at)}'.",
                        remedy="What an attacker can see must be disjoint from what he is judged by.",
                        where=suite.where(*at),
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


def _refuse_repeats(suite: Loaded[Suite], name: str, items: Sequence[Item]) -> None:
    """Raises PlanError where the same question under several ids would count as several."""
    found = sources.repeats(items)
    if found is not None and found.number > sources.REPEATS * len(items):
        raise PlanError(
            f"{found.number} of the {len(items)} items that '{name}' asks repeat an earlier question, the first "
            f"'{found.first[1][:60]}', which asks what '{found.first[0][:60]}' asks: counted apart they would make the "
            "bound narrower than it is.",
            remedy="Keep one of each, and correct 'count' and digests.",
            where=suite.where("tasks", name, "items"),
            code="repeated-questions",
        )


def _whole(form: Form) -> bool:
    """Whether a stem is the whole prompt."""
    return form.verbatim and not form.wording


def _within(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether a question stands inside a whole prompt: a verbatim stem holds it, and its answer, somewhere."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
