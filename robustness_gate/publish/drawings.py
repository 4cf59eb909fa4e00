"""What the plots of the page show: the findings on each limit, what was not run, and the models to compare with.

`plots` computes where they stand; nothing here knows a position.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.ledger import OWN
from robustness_gate.publish import plots, spelling
from robustness_gate.records.base import Digest, Metric
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import Finding, FindingKind
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.report.table import NOT_ASKED, Row, table
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import tally, wording
from robustness_gate.verdict.hypotheses import judged_in, named
from robustness_gate.verdict.wording import model_name, state

MOST_ROWS = 60
"""Maximum number of rows of the first plot and of points of the second; the table has all."""
MOST_GAPS = 30
"""Maximum number of empty rows of the first plot for absent trials; the list below the table has all."""


class Line(NamedTuple):
    """One finding on a hazard limit. `number` is its name in table and plots."""

    number: int
    finding: Finding
    row: Row
    where: str
    """Budget, and seed and attempt where the report has more than one."""


class Chapter(NamedTuple):
    """One limit of the policy, drawn: accuracy after each attack, and the same against utility."""

    rule: str
    task: str
    metric: Metric
    other: Metric | None
    """The first metric of the task's kind that does not decide, drawn as a ring; None if it has no other."""
    limit: float
    left_out: int
    """Findings that are in the table only."""
    forests: tuple[plots.Forest, ...]
    forest_says: str
    """A text alternative of the first plot, for accessibility."""
    useful: str
    """The utility task of the second plot, empty where there is none."""
    floor: float | None
    fields: tuple[plots.Field, ...]
    field_says: str
    """A text alternative of the second plot."""


def lines_of(report: Report) -> list[Line]:
    """The findings on hazard limits, numbered in the table's order."""
    hazards = [finding for finding in report.verdict.findings if finding.hazard]
    seeds = any(finding.seed_index for finding in hazards)
    numbered = enumerate(zip(hazards, table(report), strict=True), start=1)
    return [Line(number, finding, row, _where(finding, row, seeds=seeds)) for number, (finding, row) in numbered]


def _where(finding: Finding, row: Row, *, seeds: bool) -> str:
    parts = [f"budget {finding.budget}"] if finding.budget else []
    parts += [f"seed {finding.seed_index}"] if seeds else []
    parts += [f"attempt {finding.attempt}"] if finding.attempt > 1 else []
    parts += [] if row.asked else [NOT_ASKED]
    return ", ".join(parts) or "as delivered"


def after(line: Line) -> str:
    """What was done to the model before a line's accuracy, as the end of a sentence."""
    attack = line.finding.attack
    return "with no attack at all" if attack == "none" else f"after {attack}, {line.where}"


def ending(record: TrialRecord) -> Literal["ended", "not_run", "not_applicable", "failed"]:
    """How a trial ended, over all its attempts."""
    ends = {closed.status for closed in record.closed}
    if "ok" in ends:
        return "ended"
    return "not_run" if not ends else "not_applicable" if ends == {"not_applicable"} else "failed"


def chapters(report: Report, lines: Sequence[Line]) -> list[Chapter]:
    """The plots of each limit, in the table's order."""
    rules = [(rule, list(own)) for rule, own in groupby(lines, key=lambda line: line.finding.rule)]
    return [c for index, (rule, own) in enumerate(rules) for c in _chapters(report, rule, own, first=index == 0)]


def _chapters(report: Report, rule: str, lines: Sequence[Line], *, first: bool) -> Iterator[Chapter]:
    """The two plots of one limit; a second utility task gives a second pair (no shipped policy has one)."""
    finding = lines[0].finding
    drawn = lines
    if len(lines) > MOST_ROWS:  # keep the highest accuracies, in the table's order
        best = sorted(lines, key=lambda line: (-line.finding.observed, line.number))[:MOST_ROWS]
        drawn = sorted(best, key=lambda line: line.number)
    references = list(_references(report, finding))
    absences = list(_absences(report, lines, left_out=first))
    if len(absences) > MOST_GAPS:
        more = len(absences) - MOST_GAPS + 1
        rest = plots.Absence(f"and {more} more", "see what was not run, below", "not run")
        absences = [*absences[: MOST_GAPS - 1], rest]
    entries = [_entry(line) for line in drawn]
    for useful, metric, floor in _usefulness(report, finding.task):
        points = list(_points(report, drawn, useful, metric)) if useful else []
        yield Chapter(
            rule=rule,
            task=finding.task,
            metric=finding.metric,
            other=_other(lines[0]),
            limit=finding.limit,
            left_out=len(lines) - len(drawn),
            forests=tuple(plots.forest(each, entries, absences, references, finding.limit) for each in plots.FRAMES),
            forest_says=_forest_says(drawn, references, absences),
            useful=useful,
            floor=floor,
            fields=tuple(plots.field(each, points, finding.limit, floor) for each in plots.FRAMES) if useful else (),
            field_says=_field_says(finding, useful, points),
        )


def _entry(line: Line) -> plots.Entry:
    finding, metric = line.finding, _other(line)
    other = None if metric is None else line.row.after[metric]
    span = plots.Span(finding.observed, *line.row.interval)
    return plots.Entry(line.number, finding.attack, line.where, span, other, line.row.finding)


def _other(line: Line) -> Metric | None:
    """The first metric of a line that does not decide."""
    return next((each for each in line.row.after if each != line.finding.metric), None)


def _absences(report: Report, lines: Sequence[Line], *, left_out: bool) -> Iterator[plots.Absence]:
    """Empty rows for trials that were not run. Only one plot shows those that were left out."""
    for record in report.trials:
        if record.trial.role != Role.CANDIDATE or not record.planned:
            continue
        shown = {line.finding.budget for line in lines if line.finding.trial == record.id}
        if shown:
            for budget in (each for each in record.trial.budgets if each not in shown):
                yield plots.Absence(record.label, f"budget {budget}, seed {record.trial.seed_index}", "not run")
        elif not record.measurements:  # with measurements but no finding, the limit does not cover this trial
            yield plots.Absence(record.label, f"seed {record.trial.seed_index}", ending(record).replace("_", " "))
    for each in report.left_out if left_out else ():
        yield plots.Absence(wording.name_of(named(each)), f"seed {each.seed_index}: {wording.BY[each.why]}", "left out")


def _usefulness(report: Report, hazard: str) -> list[tuple[str, Metric, float | None]]:
    """Utility tasks with the minimum for the untouched model; without findings on them, another task of the trials."""
    found = {f.task: (f.task, f.metric, f.limit) for f in report.verdict.findings if f.kind == FindingKind.UTILITY}
    if found:
        return list(found.values())
    asked = sorted(
        (measurement.task, judged_in(measurement.task, record.trial).deciding)
        for record in report.trials
        for measurement in record.measurements
        if measurement.task != hazard
    )
    return [(*asked[0], None)] if asked else [("", "", None)]


def _references(report: Report, finding: Finding) -> Iterator[plots.Reference]:
    """The reference lines for the accuracies of one limit."""
    yield plots.Reference("limit", "limit", plots.Span(finding.limit, finding.limit, finding.limit))
    chances = {t.chance for record in report.trials for t in record.trial.tasks if t.name == finding.task}
    for chance in sorted(chances, reverse=True):
        yield plots.Reference("chance", "chance", plots.Span(chance, chance, chance))
    for record in report.trials:
        if record.trial.attack != "none":
            continue
        span = next((_span(m, finding.metric) for m in record.measurements[::-1] if m.task == finding.task), None)
        role = record.trial.role
        if span is None or (role in OWN and (role != Role.CANDIDATE or not record.planned)):
            continue
        match role:
            case Role.CANDIDATE:
                yield plots.Reference("before", "before attack", span)
            case Role.ORIGINAL:
                yield plots.Reference("original", "original", span)
            case Role.CONTROL:
                yield plots.Reference("control", model_name(record.trial), span)
            case unknown:
                raise UnknownWord("role of a trial", unknown)


def _span(measurement: Measurement, metric: Metric) -> plots.Span:
    """An accuracy with its two-sided 95 % Clopper-Pearson interval."""
    correct = tally(measurement, metric)[0]
    low, high = (
        clopper_pearson_lower(correct, measurement.items, 0.025),
        clopper_pearson_upper(correct, measurement.items, 0.025),
    )
    return plots.Span(correct / measurement.items, low, high)


def _forest_says(
    lines: Sequence[Line], references: Sequence[plots.Reference], absences: Sequence[plots.Absence]
) -> str:
    first = lines[0].finding
    over = sum(state(line.finding) == "OVER" for line in lines)
    top = max(lines, key=lambda line: line.finding.observed)
    return (
        f"Accuracy on '{first.task}' from 0 to 100 %, one row for each attack and budget, with 95 % intervals. "
        f"{over} of {len(lines)} rows are over the limit of {spelling.share(first.limit)}. "
        f"The highest is {spelling.percent(top.finding.observed)}, {after(top)}. "
        + ". ".join(f"{each.name}: {spelling.share(each.span.at)}" for each in references if each.kind != "limit")
        + f". Not run: {'; '.join(each.name for each in absences) or 'nothing'}. "
        "The table below holds the same numbers."
    )


def _points(report: Report, lines: Sequence[Line], useful: str, metric: Metric) -> Iterator[plots.Point]:
    """Hazard accuracy against utility: a number for every AttackedModel, a letter for every untouched model."""
    hazard = lines[0].finding

    def point(label: str, key: str, state: str, kept: float, known: float) -> plots.Point:
        says = f"{label}: {key}: {spelling.percent(known)} on '{hazard.task}', {spelling.percent(kept)} on '{useful}'"
        return plots.Point(label, key, state, kept, known, says)

    measurements = {
        (m.trial, m.attempt, m.budget): m for r in report.trials for m in r.measurements if m.task == useful
    }
    for line in lines:
        measurement = measurements.get(_address(line.finding))
        if measurement is None:  # it was not asked the utility task: its validity issues say so
            continue
        name, kept = f"{line.finding.attack}, {line.where}", _span(measurement, metric).at
        yield point(str(line.number), name, state(line.finding), kept, line.finding.observed)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for record in report.trials:
        both = {measurement.task: measurement for measurement in record.measurements}
        if record.trial.role not in OWN and record.trial.attack == "none" and {hazard.task, useful} <= set(both):
            kept, known = _span(both[useful], metric).at, _span(both[hazard.task], hazard.metric).at
            yield point(next(letters, "z"), model_name(record.trial), "", kept, known)


def _address(finding: Finding) -> tuple[Digest, int, int]:
    return finding.trial, finding.attempt, finding.budget


def _field_says(hazard: Finding, useful: str, points: Sequence[plots.Point]) -> str:
    return (
        f"Accuracy on '{hazard.task}' upwards against accuracy on '{useful}' to the right, one numbered point for each "
        f"attack result. The limit on '{hazard.task}' is {spelling.share(hazard.limit)}. "
        + "; ".join(point.text for point in points)
        + "."
    )
