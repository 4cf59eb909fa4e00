"""The comparison of two reports: what each tried, its accuracies, and where they differ beyond chance.

`compare` is pure. A difference has bounds only if both were asked exactly the same questions (by digest), item by item,
with Tango's score bound: two models agree on most items, so a paired bound is narrower than two separate intervals.
It gives no verdict; a gate judges each checkpoint against its policy, never against another checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from robustness_gate.evidence.answers import differences
from robustness_gate.records.base import Metric
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.statistics import tango_lower, tango_upper
from robustness_gate.verdict import spelled_out, tally
from robustness_gate.verdict.hypotheses import judged_in, metric_in

ALPHA = 0.05
"""Two-sided: each bound is at half of it."""
Unlike = Literal["attack_version", "config", "data", "dtype", "questions", "a_not_asked", "b_not_asked"]
LIKE: tuple[Unlike, ...] = ("attack_version", "config", "data", "dtype")
"""Fields that must be equal for two trials of one attack to be the same experiment on two checkpoints."""


@dataclass(frozen=True)
class Side:
    """One report in summary."""

    outcome: str
    reason: str
    at: str
    checkpoint: str
    policy: str
    """Id, version and the first digits of its digest."""
    suite: str


@dataclass(frozen=True)
class Line:
    """One metric of one task after one attack at one budget, in both reports."""

    attack: str
    seed_index: int
    budget: int
    task: str
    metric: Metric
    a: float
    """Accuracy; missing items count as wrong."""
    b: float
    difference: float
    """b - a: positive if B answers more."""
    lower: float | None
    """Lower bound of the difference, two-sided at 95 % with `upper`; missing items widen it. None if not paired."""
    upper: float | None
    beyond_chance: bool
    """Whether the bounds exclude zero after correction (Bonferroni) for all lines of the comparison."""
    unlike: tuple[Unlike, ...]
    """Why it is not a like-for-like comparison: settings that differ, other questions."""
    decides: bool
    """Whether a limit of either policy covers this task and metric."""


@dataclass(frozen=True)
class Alone:
    """A trial that only one of the reports examined."""

    attack: str
    seed_index: int
    budgets: tuple[int, ...]
    why: str
    """Its state in the other report."""


@dataclass(frozen=True)
class Comparison:
    """The output of `robustness-gate compare`."""

    sentence: str
    a: Side
    b: Side
    lines: tuple[Line, ...]
    only_a: tuple[Alone, ...]
    only_b: tuple[Alone, ...]
    caveats: tuple[str, ...]


def compare(a: Report, b: Report) -> Comparison:
    """Compare two reports by attack, seed index, budget, task and metric.

    If a report has several trials with the same key (reruns with other settings), planned trials and attempts that
    ended well have priority, then the one with the most right answers counts: an attacker keeps the best.
    """
    ours, theirs = _measurements(a), _measurements(b)
    shared = [key for key in ours if key in theirs]
    metrics = [(key, metric) for key in shared for metric in _metrics(ours[key]) if metric in _metrics(theirs[key])]
    effects = {name: max(_effects(each).get(name, 1.0) for each in (a, b)) for name in {*_effects(a), *_effects(b)}}
    rules = [(limit, found) for each, found in ((a, ours), (b, theirs)) for limit in spelled_out(each.resolved).limits]
    held = {
        (key, metric_in(limit, key[3], found[key][0].trial))
        for limit, found in rules
        for key in shared
        if key[3] in limit.readings
    }
    lines = tuple(
        _line(
            ours[key],
            theirs[key],
            metric,
            effects.get(key[3], 1.0),
            decides=(key, metric) in held,
            of=len(metrics),
        )
        for key, metric in metrics
    )
    one, other = _side(a), _side(b)
    return Comparison(
        sentence=_sentence(one, other, lines),
        a=one,
        b=other,
        lines=lines,
        only_a=_alone(ours, theirs, b),
        only_b=_alone(theirs, ours, a),
        caveats=(*_caveats(a, b, lines, effects), *_without_a_metric(ours, theirs)),
    )


_Key = tuple[str, int, int, str]
_Found = Mapping[_Key, tuple[TrialRecord, Measurement]]


def _measurements(report: Report) -> dict[_Key, tuple[TrialRecord, Measurement]]:
    """The candidate's measurements by label, seed index, budget and task; of several the strongest."""
    found: dict[_Key, list[tuple[TrialRecord, Measurement]]] = {}
    for record in report.trials:
        if record.trial.role == Role.CANDIDATE:
            for measurement in record.measurements:
                key = (record.label, record.trial.seed_index, measurement.budget, measurement.task)
                found.setdefault(key, []).append((record, measurement))

    def strength(pair: tuple[TrialRecord, Measurement]) -> tuple[bool, bool, int, str]:
        record, measurement = pair
        well = {end.status for end in record.closed if end.attempt == measurement.attempt} == {"ok"}
        deciding = judged_in(measurement.task, record.trial).deciding
        return record.planned, well, tally(measurement, deciding)[0], measurement.digest

    return {key: max(found[key], key=strength) for key in sorted(found)}


def _metrics(pair: tuple[TrialRecord, Measurement]) -> tuple[Metric, ...]:
    """The metrics of a measurement, as its task's kind declares them."""
    record, measurement = pair
    return judged_in(measurement.task, record.trial).metrics


def _without_a_metric(ours: _Found, theirs: _Found) -> Iterator[str]:
    """Tasks that the reports ask in kinds without a metric in common: they have no line."""
    both = {key[3]: (_metrics(ours[key]), _metrics(theirs[key])) for key in ours if key in theirs}
    for task, (one, other) in sorted(both.items()):
        if not set(one) & set(other):
            yield f"'{task}' is scored as {', '.join(one)} in A and as {', '.join(other)} in B: it is not compared."


def _line(
    one: tuple[TrialRecord, Measurement],
    other: tuple[TrialRecord, Measurement],
    metric: Metric,
    effect: float,
    *,
    decides: bool,
    of: int,
) -> Line:
    (record, measurement), (its_record, its_measurement) = one, other
    unlike: list[Unlike] = [key for key in LIKE if _field(record, key) != _field(its_record, key)]
    unlike += ["a_not_asked"] if not record.planned else []
    unlike += ["b_not_asked"] if not its_record.planned else []
    bounds: tuple[float | None, float | None] = (None, None)
    beyond = False
    asked, its_asked = (_questions(each, measurement.task) for each in (record, its_record))
    if asked is None or asked != its_asked or measurement.items != its_measurement.items:
        unlike.append("questions")
    else:
        low, high = _bounds(its_measurement, measurement, metric, effect, ALPHA)
        bounds = (low, high)
        strict = _bounds(its_measurement, measurement, metric, effect, ALPHA / of)
        beyond = strict[0] > 0 or strict[1] < 0
    a, b = (tally(each, metric)[0] / each.items for each in (measurement, its_measurement))
    return Line(
        attack=record.label,
        seed_index=record.trial.seed_index,
        budget=measurement.budget,
        task=measurement.task,
        metric=metric,
        a=a,
        b=b,
        difference=b - a,
        lower=bounds[0],
        upper=bounds[1],
        beyond_chance=beyond,
        unlike=tuple(unlike),
        decides=decides,
    )


def _bounds(one: Measurement, other: Measurement, metric: Metric, effect: float, alpha: float) -> tuple[float, float]:
    """Two-sided bounds on the accuracy of `one` minus that of `other`; missing items widen both bounds."""
    items = one.items / effect
    least, most = (differences(one, other, metric, favour=favour) for favour in (False, True))
    return (
        tango_lower(least[0] / effect, least[1] / effect, items, alpha / 2),
        tango_upper(most[0] / effect, most[1] / effect, items, alpha / 2),
    )


def _field(record: TrialRecord, key: str) -> object:
    return getattr(record.trial, key)


def _questions(record: TrialRecord, task: str) -> str | None:
    return next((each.sha256 for each in record.trial.tasks if each.name == task), None)


def _effects(report: Report) -> dict[str, float]:
    return {name: pin.design_effect for name, pin in spelled_out(report.resolved).tasks.items()}


def _side(report: Report) -> Side:
    return Side(
        outcome=report.verdict.outcome,
        reason=report.reason,
        at=report.verdict.at,
        checkpoint=report.checkpoint,
        policy=f"{report.policy.id} {report.policy.version} ({report.policy.sha256[:12]})",
        suite=f"{report.suite.id} {report.suite.version} ({report.suite.sha256[:12]})",
    )


def _alone(ours: _Found, theirs: _Found, other: Report) -> tuple[Alone, ...]:
    """Trials with measurements that the other report lacks, and their state there."""
    there = {key[:3] for key in theirs}
    missing: dict[tuple[str, int], set[int]] = {}
    for label, seed, budget, _ in ours:
        if (label, seed, budget) not in there:
            missing.setdefault((label, seed), set()).add(budget)
    return tuple(
        Alone(label, seed, tuple(sorted(budgets)), _instead(label, seed, other))
        for (label, seed), budgets in missing.items()
    )


def _instead(label: str, seed: int, report: Report) -> str:
    alike = [
        each
        for each in report.trials
        if (each.trial.role, each.label, each.trial.seed_index) == (Role.CANDIDATE, label, seed)
    ]
    if not alike:
        return "not planned"
    ends = [end for each in alike for end in each.closed]
    if any(measurement for each in alike for measurement in each.measurements):
        return "only at other budgets"
    if not ends:
        return "not run to its end"
    return f"{ends[-1].status.replace('_', ' ')}: {ends[-1].reason}"


def _sentence(a: Side, b: Side, lines: Sequence[Line]) -> str:
    """Both verdicts, and on how many deciding metrics the two differ beyond chance."""
    verdicts = f"A is {a.outcome}, B is {b.outcome}"
    if a.checkpoint == b.checkpoint:
        verdicts = f"A and B are the same checkpoint; {verdicts}"
    paired = [line for line in lines if line.decides and line.lower is not None]
    if not paired:
        return f"{verdicts}; they answered no hazard questions in common."
    more = [line for line in paired if line.beyond_chance and line.difference > 0]
    less = [line for line in paired if line.beyond_chance and line.difference < 0]
    count = f"{len(paired)} accurac{'ies' if len(paired) > 1 else 'y'}"
    if not more and not less:
        return f"{verdicts}; on {count} of the same hazard questions they do not differ beyond chance."
    most = max((*more, *less), key=lambda line: (abs(line.difference), line.attack, line.budget, line.task))
    after = "with no attack" if most.attack == "none" else f"after {most.attack}"
    budget = f" at budget {most.budget}" if most.budget else ""
    return (
        f"{verdicts}; of {count} of the same hazard questions B recovers more in {len(more)} and less in {len(less)} "
        f"beyond chance, most {after}{budget}: {most.a:.1%} in A, {most.b:.1%} in B on '{most.task}'."
    )


def _caveats(a: Report, b: Report, lines: Sequence[Line], effects: Mapping[str, float]) -> list[str]:
    found = []
    if a.policy.sha256 != b.policy.sha256:
        found.append("The verdicts rest on different policies: compare the numbers, not PASS with FAIL.")
    if a.suite.sha256 != b.suite.sha256:
        found.append("The suites differ: one may have tried harder than the other.")
    if any("questions" in line.unlike for line in lines):
        found.append("If the questions differ, no bound is given: only the accuracies are shown.")
    if any(why in LIKE for line in lines for why in line.unlike):
        found.append("Some attacks ran with other settings: the difference may be the attack's and not the model's.")
    if len(lines) > 1:
        found.append(
            f"Each interval is at 95 % by itself; 'beyond chance' is corrected for all {len(lines)} comparisons."
        )
    wide = sorted(f"'{name}' by {effect:g}" for name, effect in effects.items() if effect > 1)
    if wide:
        found.append(f"Counts are divided by the larger pinned design effect: {', '.join(wide)}.")
    if a.environment != b.environment:
        changed = sorted(
            name for name in {*a.environment, *b.environment} if a.environment.get(name) != b.environment.get(name)
        )
        found.append(f"The environments differ: {', '.join(changed)}.")
    return found
