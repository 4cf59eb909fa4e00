"""The gap that a share limit rests on, measured before a candidate exists: answers of original and control, untouched.

The answers come from reports of a run of each model. They are joined and compared by the judge's own code
(`verdict.contrasts`): the original's answers stand where a candidate's would, so what the judge would refuse is refused
here. Where there are several pairs of answers, the one with the smallest gap in standard errors counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum, sqrt

from robustness_gate.errors import FileError
from robustness_gate.evidence.answers import tally
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Limit, Policy
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.statistics import design_effect
from robustness_gate.verdict import contrasts, joined, wording
from robustness_gate.verdict.contrasts import LEAST_CLUSTERS
from robustness_gate.verdict.evaluation import Evaluation
from robustness_gate.verdict.hypotheses import metric_in
from robustness_gate.verdict.joined import Answers, Asked

RUN_IT = "Run that model under this policy and its suite (`run MODEL --only none` is enough) and give its report."
WORST = 1.0
"""The worst that one question can do to a gap, which is added to the observed clusters."""


@dataclass(frozen=True)
class Reported:
    """One model's report."""

    path: str
    """For error messages."""
    evidence: Evidence
    """All that is in it; its subject is the model."""


@dataclass(frozen=True)
class Alone:
    """The gap in one reading of a score."""

    task: str
    gap: float
    error: float
    """Its standard error, by the clusters of this reading."""
    questions: int
    correlation: float
    """Of the differences between the two models in this reading with those in the score, by clusters."""


@dataclass(frozen=True)
class Measured:
    """What the original knows more than the control on a limit's questions, before any attack."""

    original: float
    """Mean score, in [0, 1]."""
    control: float
    gap: float
    """The difference, with missing answers counted against it."""
    error: float
    """Its standard error by clusters, > 0."""
    questions: int
    clusters: int
    answers_correlation: float
    """Of the two models' scores, question by question."""
    design_effect: float | None
    """Measured on the differences, where clusters are known."""
    assumed_effect: float
    """The design effect that the judge takes besides, where the policy does not pin the clusters; else 1."""
    enough: bool
    """Whether the gap is significantly above `min_gap`, without which nothing passes."""
    readings: tuple[Alone, ...]
    """Of a score of several readings; else empty."""
    abler: Mapping[str, float]
    """By utility task: the original's accuracy minus the control's."""

    @property
    def t_gap(self) -> float:
        """The gap in its standard errors; not above 0 if there is none."""
        return self.gap / self.error


def measured(policy: Policy, limit: Limit, original: Reported, control: Reported, at: datetime) -> Measured:
    """The gap of one limit.

    Args:
        policy: spelled out, with the digests of original and control.
        limit: one of its limits, on a share.
        original: a report on the original.
        control: a report on the limit's control; for a limit without one the original's report again.
        at: the moment at which a control must not have expired, with a time zone.

    Raises:
        FileError: a report is on another model, asks other questions, or holds no answers without attack that the judge
            would accept; or there are too few clusters.
    """
    named = limit.control or ""
    _refuse_other(original, policy.original, "its original")
    if limit.control is not None:
        _refuse_other(control, policy.controls[named].sha256, f"the control '{named}'")
    case = Evaluation(policy, _together(policy, original, control, named), at, policy.statistics.alpha_fail)
    tasks = [*limit.readings, *_hidden(policy, limit)]
    _refuse_unusable(case, original, Role.ORIGINAL, tasks)
    if limit.control is not None:
        _refuse_unusable(case, control, Role.CONTROL, tasks)
    pairs = [_measure(case, limit, asked, one, other) for asked, one, other in contrasts.untouched_pairs(case, limit)]
    if not pairs:
        raise _unlike(case, limit, original, control)
    least = min(pairs, key=lambda each: each.t_gap)
    if least.clusters < LEAST_CLUSTERS:
        raise FileError(
            f"its questions of {' and '.join(limit.readings)} are in {least.clusters} clusters, and a share is judged "
            f"by at least {LEAST_CLUSTERS}.",
            remedy="Ask questions of more clusters, or name finer ones (`clusters` in the suite).",
            where=original.path,
        )
    return least


def _hidden(policy: Policy, limit: Limit) -> list[str]:
    """The tasks with the questions hidden that a limit without a control also needs."""
    pins = [policy.tasks[task] for task in limit.readings if limit.heuristic]
    return [pin.choices_only for pin in pins if pin.choices_only is not None]


# --- what is refused -------------------------------------------------------------------------------------------------


def _refuse_other(report: Reported, pinned: str | None, who: str) -> None:
    if report.evidence.subject != pinned:
        raise FileError(
            f"is a report on the model {report.evidence.subject[:12]}, and the policy pins {(pinned or 'none')[:12]} "
            f"as {who}.",
            remedy="Give the report of a run on the pinned model.",
            where=report.path,
        )


def _refuse_unusable(case: Evaluation, report: Reported, role: Role, tasks: Sequence[str]) -> None:
    """Refuse a report that lacks valid answers without attack to one of the tasks, or asks other questions."""
    trials = [trial for trial in case.evidence.comparators if trial.role == role]
    for task in tasks:
        asked = [trial for trial in trials if any(each.name == task for each in trial.tasks)]
        answers = [(trial, each) for trial in asked for each in case.measurements(trial) if each.task == task]
        if not answers:
            raise FileError(f"holds no answers without attack to '{task}'.", remedy=RUN_IT, where=report.path)
        issues = [case.issues(trial, each) for trial, each in answers]
        if all(issues):
            raise FileError(
                f"its answers without attack to '{task}' cannot be used: {wording.sentences(issues[0])}.",
                remedy=RUN_IT,
                where=report.path,
            )
        pin = case.policy.tasks[task].questions
        if pin is not None and all(joined.pin_of(case, task, trial) != pin for trial in asked):
            raise FileError(
                f"the ids or clusters of its questions of '{task}' are not those that the policy pins.",
                remedy=RUN_IT,
                where=report.path,
            )


def _unlike(case: Evaluation, limit: Limit, original: Reported, control: Reported) -> FileError:
    """Why two reports with valid answers have no pair that can be compared."""
    names = " and ".join(f"'{task}'" for task in limit.readings)
    trials = [trial for trial in case.own_planned if trial.attack == "none"]
    if all(joined.asked_by(case, limit.readings, trial, limit.metric) is None for trial in trials):
        words = f"its questions of {names} cannot be joined: their ids are not recorded, or their clusters differ."
        return FileError(words, remedy=RUN_IT, where=original.path)
    words = f"does not ask {names} as {original.path} does: questions, precision, data or the suite's settings differ,"
    words += " or the control has expired."
    return FileError(words, remedy="Run both models under this policy and the same suite.", where=control.path)


# --- the two reports as the evidence of one judgement ----------------------------------------------------------------


def _together(policy: Policy, original: Reported, control: Reported, named: str) -> Evidence:
    """The untouched answers of both models as comparators; the original's also stand where a candidate's would."""
    own = [*_untouched(original.evidence)]
    as_original = [*_in_role(original.evidence, Role.ORIGINAL, "")]
    as_control = [*_in_role(control.evidence, Role.CONTROL, named)] if named else []
    records = (*_records_of(original.evidence, own), *(each for _, its in (*as_original, *as_control) for each in its))
    questions = {each.digest: each for each in (*original.evidence.questions, *control.evidence.questions)}
    return Evidence(
        policy.original or "",
        tuple(own),
        tuple(each for each in records if isinstance(each, Measurement)),
        tuple(each for each in records if isinstance(each, Closed)),
        comparators=tuple(trial for trial, _ in (*as_original, *as_control)),
        questions=tuple(questions.values()),
    )


def _untouched(evidence: Evidence) -> Iterator[Trial]:
    yield from (each for each in evidence.planned if each.role == Role.CANDIDATE and each.attack == "none")


def _records_of(evidence: Evidence, trials: Iterable[Trial]) -> list[Measurement | Closed]:
    ids = {trial.id for trial in trials}
    records: tuple[Measurement | Closed, ...] = (*evidence.measurements, *evidence.closed)
    return [each for each in records if each.trial in ids]


def _in_role(evidence: Evidence, role: Role, name: str) -> Iterator[tuple[Trial, list[Measurement | Closed]]]:
    """The model's untouched trials as those of another role, each with its records."""
    for trial in _untouched(evidence):
        other = trial.model_copy(update={"role": role, "control": name})
        yield other, [each.model_copy(update={"trial": other.id}) for each in _records_of(evidence, [trial])]


# --- the numbers -----------------------------------------------------------------------------------------------------


def _measure(
    case: Evaluation, limit: Limit, asked: Asked, one: tuple[Trial, Answers], other: tuple[Trial, Answers]
) -> Measured:
    knew, never = asked.scores(*one), asked.scores(*other)
    gaps = {question: knew[question][0] - never[question][1] for question in knew}
    values, clusters = list(gaps.values()), [asked.clusters[question] for question in gaps]
    shown = asked.clustered and min(values) < max(values)
    return Measured(
        original=asked.mean(asked.sums(*one)),
        control=asked.mean(asked.sums(*other)),
        gap=fsum(values) / len(values),
        error=_error(asked, gaps),
        questions=asked.questions,
        clusters=len(asked.sizes),
        answers_correlation=correlation([knew[q][0] for q in gaps], [never[q][0] for q in gaps]),
        design_effect=design_effect(values, clusters) if shown else None,
        assumed_effect=asked.effect,
        enough=_enough(case, limit, asked, one, other),
        readings=tuple(_alone(case, limit, asked, gaps, one, other)) if limit.score else (),
        abler=dict(_abler(case, one[0], other[0])),
    )


def _enough(
    case: Evaluation, limit: Limit, asked: Asked, one: tuple[Trial, Answers], other: tuple[Trial, Answers]
) -> bool:
    alpha = case.policy.statistics.alpha_pass
    lower = contrasts.difference(asked, asked.sums(*one), asked.sums(*other), alpha, upper=False)
    return limit.recovered is not None and lower > limit.recovered.min_gap


def _error(asked: Asked, gaps: Mapping[str, float]) -> float:
    """The standard error of the mean difference, by clusters; at the assumed design effect where they are not pinned.

    As the judge does, it adds to the observed clusters the worst that one question can do, so it is above 0.
    """
    sums = [*_by_cluster(asked, gaps), -WORST]
    mean = fsum(sums) / len(sums)
    variance = fsum((each - mean) ** 2 for each in sums) * len(sums) / (len(sums) - 1)
    return sqrt(asked.effect * variance) / len(gaps)


def _by_cluster(asked: Asked, gaps: Mapping[str, float]) -> list[float]:
    sums = [0.0] * len(asked.sizes)
    for question, value in gaps.items():
        sums[asked.clusters[question]] += value
    return sums


def _alone(
    case: Evaluation,
    limit: Limit,
    asked: Asked,
    gaps: Mapping[str, float],
    one: tuple[Trial, Answers],
    other: tuple[Trial, Answers],
) -> Iterator[Alone]:
    """Each reading alone, as `max_share_each` holds it."""
    whole = _by_cluster(asked, gaps)
    for number, task in enumerate(limit.readings):
        alone = joined.asked_by(case, (task,), one[0])
        if alone is None:
            continue
        knew, never = alone.scores(one[0], (one[1][number],)), alone.scores(other[0], (other[1][number],))
        its = {question: knew[question][0] - never[question][1] for question in knew}
        together = correlation(_by_cluster(asked, its), whole)
        yield Alone(task, fsum(its.values()) / len(its), _error(alone, its), len(its), together)


def _abler(case: Evaluation, one: Trial, other: Trial) -> Iterator[tuple[str, float]]:
    """By utility task how much more the original scores than the control, untouched, where both were asked it."""
    for rule in case.policy.utility:
        means = []
        for trial in (one, other):
            its = [m for m in case.measurements(trial) if m.task == rule.task and not case.issues(trial, m)]
            means += [tally(m, metric_in(rule, m.task, trial))[0] / m.items for m in its[:1]]
        if len(means) == 2:
            yield rule.task, means[0] - means[1]


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation, in [-1, 1]; 0 if one of the two does not vary."""
    a, b = fsum(one) / len(one), fsum(other) / len(other)
    both = fsum((x - a) * (y - b) for x, y in zip(one, other, strict=True))
    scale = sqrt(fsum((x - a) ** 2 for x in one) * fsum((y - b) ** 2 for y in other))
    return max(-1.0, min(1.0, both / scale)) if scale > 0 else 0.0
