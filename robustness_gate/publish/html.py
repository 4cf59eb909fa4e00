"""The report as one HTML page: one file, no script, no external resources, the same bytes for equal reports.

This module collects the content; `plots` computes positions in the drawings, `spelling` formats values, and the
template lays out the page. Every string passes through Jinja's autoescape and none is ever marked safe, so that a
policy, an attack or a vendor's file cannot put markup into the page. `docs/decisions/0002-html-report.md` explains why
the plots are hand-written SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Literal, NamedTuple

import jinja2

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.ledger import OWN
from robustness_gate.publish import facts, plots, spelling
from robustness_gate.records.base import Digest, Metric
from robustness_gate.records.encode import Json, encode
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import Finding, FindingKind
from robustness_gate.report.record import (
    NOT_ASKED,
    Report,
    Row,
    TrialRecord,
    further_metrics,
    metric_lines,
    origins,
    table,
)
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import strongest, tally, wording
from robustness_gate.verdict.hypotheses import judged_in, named
from robustness_gate.verdict.wording import model_name, state

MOST_ROWS = 60
"""Maximum number of rows of the first plot and of points of the second; the table has all."""

MOST_GAPS = 30
"""Maximum number of empty rows of the first plot for absent trials; the list below the table has all."""

KEYS = {"OVER": "over", "USELESS": "over", "open": "open", "not valid": "doubt", "within": "within"}
"""The CSS class of a finding's state."""


# --- parts of the page -----------------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One finding on a hazard limit. `number` is its name in table and plots."""

    number: int
    finding: Finding
    row: Row
    where: str
    """Budget, and seed and attempt where the report has more than one."""


class Unfinished(NamedTuple):
    """A planned trial that did not end well at its first attempt."""

    name: str
    state: str
    reasons: tuple[str, ...]


class Screening(NamedTuple):
    """The grid that an attack tried on the dev items: settings in rows, budgets in columns."""

    name: str
    budgets: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float | None, bool], ...]], ...]
    """Each setting with its dev accuracy and whether it was selected, for each budget."""
    edges: tuple[str, ...]
    """For each budget, the edge of the grid at which the selected setting lies."""

    @property
    def at_edge(self) -> bool:
        """Whether the optimum may lie outside the grid."""
        return any(edge in ("lowest", "highest", "only") for edge in self.edges)


class Compared(NamedTuple):
    """One paired comparison, with a small drawing of its bounds, of zero and of the limit."""

    fact: facts.Comparison
    drawn: plots.Beside


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


FILE = "report.html"


def render(report: Report) -> str:
    """The report as one HTML page."""
    lines = _lines(report)
    rules = [(rule, list(own)) for rule, own in groupby(lines, key=lambda line: line.finding.rule)]
    return _template().render(
        report=report,
        lines=lines,
        further=further_metrics([line.row for line in lines]),
        metrics=metric_lines(report),
        chapters=[c for index, (rule, own) in enumerate(rules) for c in _chapters(report, rule, own, first=index == 0)],
        figures=_figures(report, lines),
        useful=[finding for finding in report.verdict.findings if finding.kind == FindingKind.UTILITY],
        several_rules=len(rules) > 1,
        counts=_counts(report),
        comparisons=_comparisons(report),
        ruling=facts.ruling(report),
        red_flags=facts.red_flags(report),
        instruments=list(facts.instruments(report)),
        size=facts.corrected(report),
        preregistration=facts.preregistration_line(report),
        trials=facts.trials_line(report),
        unasked=facts.unasked(report),
        left_out=[*map(wording.left_out, report.left_out)],
        not_asked=NOT_ASKED,
        abilities=list(facts.abilities(report)),
        coverage=facts.coverage(report),
        again=facts.again(report),
        look_again=facts.LOOK_AGAIN,
        public=facts.PUBLIC,
        origins=origins(report),
        unfinished=[each for record in report.trials for each in _unfinished(record)],
        asked=_asked(report),
        screenings=[found for record in report.trials if (found := _screening(record)) is not None],
        shapes=plots.SHAPES,
        keys=KEYS,
        drawing=plots.BESIDE,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=spelling.visible,
    )
    environment.filters |= {
        "pct": spelling.percent,
        "share": spelling.share,
        "px": spelling.pixels,
        "facts": _facts,
        "config": _config,
        "word": state,
        "model": model_name,
        "sentence": wording.sentence,
    }
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))


# --- facts -----------------------------------------------------------------------------------------------------------


def _lines(report: Report) -> list[Line]:
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


def _figures(report: Report, lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """The main numbers under the verdict: name, value, note."""
    found = []
    top = strongest(report.verdict.findings)
    if top is not None:
        line = next(line for line in lines if line.finding is top)
        before = line.row.before.get(top.metric)
        found += [
            (
                "Before any attack",
                spelling.percent(before),
                f"of '{top.task}' answered right" if before is not None else "not asked",
            ),
            ("Highest accuracy", spelling.percent(top.observed), _after(line)),
            *_corrected(report),
            ("Limit", spelling.share(top.limit), f"on '{top.task}', metric {top.metric}"),
        ]  # fmt: skip - a list of rows reads best as a list
    for finding in report.verdict.findings:
        if finding.kind == FindingKind.UTILITY:
            asked = f"on '{finding.task}'; at least {spelling.share(finding.limit)} is asked"
            found.append(("Still useful", spelling.percent(finding.observed), asked))
            break
    counts = _counts(report)
    missing = [f"{number} {what.replace('_', ' ')}" for what, number in counts.items() if what != "ended" and number]
    whole = f"{counts['ended']} of {sum(counts.values())}"
    found.append(
        ("Trials ended well", whole, f"{', '.join(missing) or 'none is missing'}; {facts.trials_line(report)}")
    )
    return found


def _corrected(report: Report) -> list[tuple[str, str, str]]:
    """The accuracy of the strongest attack without selection bias; the highest of many accuracies is biased."""
    size = facts.corrected(report)
    if size is None:
        return []
    ends = f"{spelling.percent(size.low)} to {spelling.percent(size.high)}"
    says = f"{ends}, on the half of the questions that was not used for the selection"
    return [("Corrected for selection", spelling.percent(size.share), says)]


def _comparisons(report: Report) -> list[Compared]:
    found = facts.comparisons(report)
    bounds = [(plots.Span(f.observed, f.lower, f.upper), f.limit) for f in (each.finding for each in found)]
    return [Compared(each, drawn) for each, drawn in zip(found, plots.beside(bounds), strict=True)]


def _after(line: Line) -> str:
    attack = line.finding.attack
    return "with no attack at all" if attack == "none" else f"after {attack}, {line.where}"


def _counts(report: Report) -> dict[str, int]:
    """The candidate's trials and shams, counted by how they ended, and the trials that were left out."""
    found = {"ended": 0, "failed": 0, "not_applicable": 0, "not_run": 0, "left_out": len(report.left_out)}
    for record in report.trials:
        if record.trial.role in OWN and record.planned:
            found[_ending(record)] += 1
    return found


def _ending(record: TrialRecord) -> Literal["ended", "not_run", "not_applicable", "failed"]:
    ends = {closed.status for closed in record.closed}
    if "ok" in ends:
        return "ended"
    return "not_run" if not ends else "not_applicable" if ends == {"not_applicable"} else "failed"


def _name(record: TrialRecord) -> str:
    role = "" if record.trial.role in OWN else f" [{model_name(record.trial)}]"  # the label of a sham says so
    return f"{record.label}, seed {record.trial.seed_index}{role}"


def _unfinished(record: TrialRecord) -> Iterator[Unfinished]:
    """A trial that failed at some attempt, was not applicable, or did not end, with every recorded reason."""
    bad = [closed for closed in record.closed if closed.status != "ok"]
    if not bad and record.closed:
        return
    ending = _ending(record)
    status = "ended well at a later attempt" if ending == "ended" else ending.replace("_", " ")
    reasons = tuple(f"attempt {c.attempt}, {c.status.replace('_', ' ')}: {c.reason or 'no reason given'}" for c in bad)
    yield Unfinished(_name(record), status, reasons)


def _asked(report: Report) -> list[tuple[str, str, Digest]]:
    """Every set of questions and texts that a trial could see: its name, its description, its digest."""
    tasks = {
        (f"task {task.name}", f"{task.kind}, {task.items} items{_choices(task)}", task.sha256)
        for record in report.trials
        for task in record.trial.tasks
    }
    data = {(f"data {name}", "", digest) for record in report.trials for name, digest in record.trial.data.items()}
    return [*sorted(tasks), *sorted(data)]


def _choices(task: TaskRef) -> str:
    return f", {task.options} choices" if not task.judged.generative else ", answers written"


def _facts(record: TrialRecord) -> list[tuple[str, list[str]]]:
    """The records at each budget: signals, costs and selected settings once, as they are the same for every task."""
    found: dict[str, list[str]] = {}
    for measurement in record.measurements:
        attempt = f", attempt {measurement.attempt}" if measurement.attempt > 1 else ""
        lines = found.setdefault(f"Budget {measurement.budget}{attempt}", [])
        lines += [f"{name} {spelling.number(value)}" for name, value in sorted(measurement.signals.items())]
        lines += [f"cost: {name} {spelling.number(value)}" for name, value in sorted(measurement.cost.items())]
        lines += [f"selected {name} {spelling.plain(value)}" for name, value in sorted(measurement.selected.items())]
        lines += [
            f"{measurement.task} {name} {spelling.number(value)}" for name, value in sorted(measurement.summary.items())
        ]
    return [(where, [each.replace("_", " ") for each in dict.fromkeys(lines)]) for where, lines in found.items()]


def _config(record: TrialRecord) -> str:
    """Every field of the attack's config, as JSON in a fixed order."""
    return "; ".join(f"{name} = {encode(value).decode()}" for name, value in sorted(record.trial.config.items()))


def _screening(record: TrialRecord) -> Screening | None:
    """Dev accuracies of a trial's grid. They are the same for every task, so one measurement per budget is enough.

    None for a sham, because its grid says nothing about the attack.
    """
    if record.trial.role == Role.SHAM:
        return None
    measurements: dict[tuple[int, int], Measurement] = {}
    for measurement in record.measurements:
        if measurement.settings_tried:
            measurements.setdefault((measurement.attempt, measurement.budget), measurement)
    if not measurements:
        return None
    tried = {
        at: {_setting(c): c.get("dev_accuracy") for c in measurement.settings_tried}
        for at, measurement in measurements.items()
    }
    settings = dict.fromkeys(setting for own in tried.values() for setting in own)
    chosen = {
        at: _setting({**measurement.selected, "dev_accuracy": 0}, like=measurement.settings_tried)
        for at, measurement in measurements.items()
    }
    attempts = len({attempt for attempt, _ in measurements}) > 1
    return Screening(
        name=_name(record),
        budgets=tuple(f"{budget}, attempt {attempt}" if attempts else f"{budget}" for attempt, budget in measurements),
        rows=tuple(
            (setting, tuple((tried[at].get(setting), setting == chosen[at]) for at in measurements))
            for setting in settings
        ),
        edges=tuple(
            str(measurement.selected.get("grid_edge", "not recorded")) for measurement in measurements.values()
        ),
    )


def _setting(point: Mapping[str, Json], like: Sequence[Mapping[str, Json]] = ()) -> str:
    """The settings of a grid point as text, without its budget and its accuracy."""
    names = {key for each in (like or (point,)) for key in each} - {"budget", "dev_accuracy"}
    return ", ".join(
        f"{name.replace('_', ' ')} {encode(point[name]).decode()}" for name in sorted(names) if name in point
    )


# --- the content of the plots -----------------------------------------------------------------------------------------


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
            yield plots.Absence(record.label, f"seed {record.trial.seed_index}", _ending(record).replace("_", " "))
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
        f"The highest is {spelling.percent(top.finding.observed)}, {_after(top)}. "
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
        + "; ".join(point.says for point in points)
        + "."
    )
