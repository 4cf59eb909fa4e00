"""How many tokens go through the model in each trial of a plan, by arithmetic over its data.

Every prompt is read whole here, and a token is so many characters: docs/cost.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from robustness_gate import attacks
from robustness_gate.errors import PlanError
from robustness_gate.inputs.prompts import answers, render, solved
from robustness_gate.planning import applicability
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.attack import Corpus, Hazard
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.records.trial import Trial
from robustness_gate.records.work import Sizes, Work

CHARACTERS = 4
"""Characters of a token: usual for English and vocabularies from 32,000 on. `cost.json` has what was counted."""


@dataclass(frozen=True)
class Tokens:
    """What goes through the model in a trial."""

    read: float
    learnt: float
    omitted: str = ""
    """What is not in these numbers; empty where nothing is missing."""
    seconds: float | None = None
    """Measured, scaled by the number of parameters; None where tokens are arithmetic."""


def length_of(text: str) -> float:
    """Tokens of a text, estimated from its characters."""
    return len(text) / CHARACTERS


@dataclass(frozen=True)
class _Asked:
    """One examination of some items in a form: passes over prompts, and their tokens."""

    prompts: int
    tokens: float


def _asked(items: Sequence[Item], form: Form, bare: bool) -> _Asked:
    """What it takes to ask every item in all letter orders, each prompt read whole: an upper bound where beginnings are
    shared.
    """
    if bare:  # its choices are whole texts
        choices = [each for item in items for each in item.question.choices]
        return _Asked(len(choices), sum(map(length_of, choices)))
    found = [_once(item.question, form) for item in items]
    turns = [1 if form.verbatim else len(item.question.choices) for item in items]
    return _Asked(
        sum(turn * each.prompts for turn, each in zip(turns, found, strict=True)),
        sum(turn * each.tokens for turn, each in zip(turns, found, strict=True)),
    )


def _once(question: Question, form: Form) -> _Asked:
    """A question with its choices as they stand: one prompt with letters, else one for each choice.

    A written answer is counted at its full length, and each of its tokens as a pass over all before it.
    """
    text = render(question, form)
    length = length_of(text if form.rewrite is None else form.rewrite(text))
    if form.tokens:
        return _Asked(form.tokens, form.tokens * length + form.tokens * (form.tokens - 1) / 2)
    if form.verbatim:  # each choice but its last token is read behind the prompt
        ends = [max(0.0, length_of(each) - 1) for each in answers(question, form)]
        return _Asked(len(ends), len(ends) * length + sum(ends))
    return _Asked(1, length)


def _likelihoods(questions: Sequence[Question], form: Form) -> float:
    """Tokens of the likelihoods of all answers, also of those that are else written."""
    return sum(_once(each, replace(form, tokens=0)).tokens for each in questions)


def _tokens(questions: Sequence[Question], form: Form) -> float:
    """Tokens of asking each question once."""
    return sum(_once(each, form).tokens for each in questions)


@dataclass(frozen=True)
class Planned:
    """Tokens of a plan's trials; what several trials share is computed once."""

    suite_data: SuiteData
    _exams: dict[str, _Asked] = field(default_factory=dict)
    _sizes: dict[tuple[str, ...], Sizes] = field(default_factory=dict)

    def exam(self, name: str) -> _Asked:
        """One examination of a task."""
        if name not in self._exams:
            its = self.suite_data.tasks[name]
            self._exams[name] = _asked(its.items, its.form, its.bare)
        return self._exams[name]

    def longest(self, trial: Trial) -> float:
        """The mean length of the prompts of the task whose are the longest."""
        exams = [self.exam(task.name) for task in trial.tasks]
        return max(each.tokens / max(1, each.prompts) for each in exams)

    def work(self, trial: Trial, layers: int) -> Work:
        """What the attack does besides the examinations, as its file declares it."""
        module = attacks.load(trial.attack)
        if not hasattr(module, "work"):
            return Work(omitted=f"the own passes of '{trial.attack}'")
        config = attacks.configure(module, trial.config)
        hazards = applicability.of(module, config, self.suite_data.hazards).hazards
        if not hazards:
            return Work(omitted="it is not applicable")
        found = module.work(config, self.sizes(hazards, layers, original=trial.reference is not None))
        if not isinstance(found, Work):
            raise PlanError(
                f"`work` of the attack '{trial.attack}' returned {found!r:.80}.",
                remedy="Let it return a `robustness_gate.records.work.Work`.",
                code="unknown-attack",
            )
        return found

    def tokens(self, trial: Trial, work: Work) -> Tokens:
        """The examination after each budget, and the attack's own work."""
        exams = [self.exam(task.name) for task in trial.tasks]
        before = work.before or (0.0,) * len(trial.budgets)
        read = sum(work.longer * each.tokens + each.prompts * more for more in before for each in exams)
        return Tokens(read + work.read, work.learnt, work.omitted)

    def sizes(self, hazards: Sequence[Hazard], layers: int, *, original: bool) -> Sizes:
        """Sizes of what an attack gets in these forms of the hazard, on a model of so many blocks."""
        names = tuple(each.name for each in hazards)
        if names not in self._sizes:
            self._sizes[names] = self._measured(hazards)
        return replace(self._sizes[names], layers=layers, original=original)

    def _measured(self, hazards: Sequence[Hazard]) -> Sizes:
        looks, corpora = [_asked(each.dev, each.form, bare=False) for each in hazards], self.suite_data.corpora
        first, ways = hazards[0], _different(hazards, corpora, by_margin=False)
        forms = _different(hazards, corpora, by_margin=True)

        def mean(length: Callable[[Item, Form], float], among: Sequence[Hazard], source: str) -> float:
            return _mean(length(item, form) for each in among for item, form in _questions(each, source, corpora))

        def over_forms(length: Callable[[Question, Form], float]) -> dict[str, float]:
            return {
                name: sum(mean(lambda item, form: length(item.question, form), [each], name) for each in forms)
                for name in corpora
            }

        def most(source: str, among: Sequence[Hazard]) -> float:
            return max((_solved(i, f) for each in among for i, f in _questions(each, source, corpora)), default=0.0)

        return Sizes(
            look=sum(each.tokens for each in looks),
            prompts=sum(each.prompts for each in looks),
            once=_likelihoods([item.question for item in first.dev], first.form),
            ways=len(ways),
            orders=max((len(item.question.choices) for each in hazards for item in each.dev), default=1),
            solved={name: mean(_solved, hazards if name == "dev" else ways, name) for name in ("dev", *corpora)},
            longest={name: most(name, ways) for name in corpora} | {"dev": most("dev", hazards)},
            longest_text={name: max(map(length_of, corpus.texts), default=0.0) for name, corpus in corpora.items()},
            shot={name: mean(lambda i, f: length_of(solved(i, f)), hazards, name) for name in ("dev", *corpora)},
            header={name: _mean(length_of(way.form_of(its).header) for way in ways) for name, its in corpora.items()},
            text={name: _mean(map(length_of, corpus.texts)) for name, corpus in corpora.items()},
            held=self.suite_data.pool(),
            forms=len(forms),
            prompt=over_forms(lambda question, form: length_of(render(question, form))),
            answers=over_forms(lambda question, form: _likelihoods([question], form)),
            judged=over_forms(lambda question, form: _tokens([question], form)),
            stem={name: _mean(length_of(item.question.stem) for item in each.items) for name, each in corpora.items()},
            hazards=hazards,
            length=length_of,
            asked=_tokens,
            layers=0,
            original=False,
        )


def _different(hazards: Sequence[Hazard], corpora: Mapping[str, Corpus], *, by_margin: bool) -> list[Hazard]:
    """The first of the hazards that give every corpus the same prompts, as `engine.examples` and `engine.direction`
    have it: the latter tells readings by margin from others.
    """
    asked: list[list[tuple[tuple[Item, ...], Form]]] = [
        [
            (each.questions.get(name, ()), replace(form, by_margin=by_margin and form.by_margin))
            for name, form in ((name, each.form_of(corpus)) for name, corpus in corpora.items())
        ]
        for each in hazards
    ]
    return [each for at, each in enumerate(hazards) if asked.index(asked[at]) == at]


def _questions(hazard: Hazard, source: str, corpora: Mapping[str, Corpus]) -> Iterator[tuple[Item, Form]]:
    """The questions of a source and their form."""
    dev = source == "dev"
    form = hazard.form if dev else hazard.form_of(corpora[source])
    yield from ((item, form) for item in (hazard.dev if dev else hazard.questions.get(source, ())))


def _solved(item: Item, form: Form) -> float:
    """A prompt with its answer."""
    return length_of(form.header) + length_of(solved(item, form))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
