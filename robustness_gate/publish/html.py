"""The page for a reader with five minutes: one file, no script, nothing fetched, the same bytes for equal reports.

What it says is gathered here; `plots` computes where things stand in a drawing, `spelling` how a value is written, and
the template puts it on the page. Every string passes through Jinja's autoescape and none is ever marked safe, so that a
policy, an attack or a vendor's file cannot put markup into the page. Why the plots are hand-written SVG, and what that
costs, is in `docs/decisions/0002-html-report.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

import jinja2

from robustness_gate.ledger import OWN
from robustness_gate.nouns import READINGS, Digest, Finding, Json, Mark, Reading, TaskRef, canonical, judged_as
from robustness_gate.publish import facts, plots, spelling
from robustness_gate.report import NOT_ASKED, Record, Report, Row, origins, table, words
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import strongest, tally
from robustness_gate.verdict.cells import not_made, place_of

MOST_ROWS = 60
"""Rows of the first plot and points of the second; the table holds all. Beyond this a plot is a texture."""

MOST_GAPS = 30
"""Empty rows of the first plot for what was not run; the list below the table holds all."""

KEYS = {"OVER": "over", "USELESS": "over", "open": "open", "in doubt": "doubt", "within": "within"}
"""A finding's word as a CSS class."""


# --- what the page is made of ----------------------------------------------------------------------------------------


class Line(NamedTuple):
    """One finding on a hazard limit. `number` is its name in table and plots."""

    number: int
    finding: Finding
    row: Row
    where: str
    """Budget, and seed and attempt where the report has more than one."""


class Unfinished(NamedTuple):
    """A trial that was planned and did not simply end well."""

    name: str
    state: str
    reasons: tuple[str, ...]


class Screening(NamedTuple):
    """What an attack tried on the dev items before it chose: settings down, budgets across."""

    name: str
    marks: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[float | None, bool], ...]], ...]
    """Each setting with, for each budget, its dev accuracy and whether it was chosen."""
    edges: tuple[str, ...]
    """For each budget, at which edge of the grid the choice lies."""

    @property
    def at_edge(self) -> bool:
        """Whether the optimum may lie outside what was screened."""
        return any(edge in ("lowest", "highest", "only") for edge in self.edges)


class Compared(NamedTuple):
    """One paired comparison, with a small drawing of its bounds, of zero and of the limit."""

    told: facts.Comparison
    drawn: plots.Beside


class Chapter(NamedTuple):
    """One limit of the policy, drawn: accuracy after each attack, and the same against utility."""

    rule: str
    task: str
    reading: Reading
    other: Reading
    limit: float
    left_out: int
    """Findings that are in the table only."""
    forests: tuple[plots.Forest, ...]
    forest_says: str
    """The first plot in words, for whoever cannot see it."""
    useful: str
    """The utility task of the second plot, empty where there is none."""
    floor: float | None
    fields: tuple[plots.Field, ...]
    field_says: str
    """The second plot in words."""


def render(report: Report) -> str:
    """The report as one HTML page."""
    lines = _lines(report)
    rules = [(rule, list(own)) for rule, own in groupby(lines, key=lambda line: line.finding.rule)]
    return _template().render(
        report=report,
        lines=lines,
        chapters=[c for index, (rule, own) in enumerate(rules) for c in _chapters(report, rule, own, first=index == 0)],
        figures=_figures(report, lines),
        useful=[finding for finding in report.verdict.findings if finding.rule.startswith("utility:")],
        several_rules=len(rules) > 1,
        counts=_counts(report),
        comparisons=_comparisons(report),
        ruling=facts.ruling(report),
        red_flags=facts.red_flags(report),
        instruments=list(facts.instruments(report)),
        size=facts.corrected(report),
        seal=facts.seal_line(report),
        trials=facts.trials_line(report),
        unasked=facts.unasked(report),
        left_out=[*map(not_made, report.left_out)],
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
        "word": words,
    }
    return environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))


# --- facts -----------------------------------------------------------------------------------------------------------


def _lines(report: Report) -> list[Line]:
    hazards = [finding for finding in report.verdict.findings if finding.hazard]
    seeds = any(finding.seed_index for finding in hazards)
    numbered = enumerate(zip(hazards, table(report), strict=True), start=1)
    return [Line(number, finding, row, _where(finding, row, seeds=seeds)) for number, (finding, row) in numbered]


def _where(finding: Finding, row: Row, *, seeds: bool) -> str:
    parts = [f"budget {finding.mark}"] if finding.mark else []
    parts += [f"seed {finding.seed_index}"] if seeds else []
    parts += [f"attempt {finding.attempt}"] if finding.attempt > 1 else []
    parts += [] if row.asked else [NOT_ASKED]
    return ", ".join(parts) or "as delivered"


def _figures(report: Report, lines: Sequence[Line]) -> list[tuple[str, str, str]]:
    """The handful of numbers under the verdict: what, how much, a note."""
    found = []
    top = strongest(report.verdict.findings)
    if top is not None:
        line = next(line for line in lines if line.finding is top)
        before = line.row.before.get(top.reading)
        found += [
            (
                "Before any attack",
                spelling.percent(before),
                f"of '{top.task}' answered right" if before is not None else "not asked",
            ),
            ("Highest reading", spelling.percent(top.observed), _after(line)),
            *_corrected(report),
            ("Limit", spelling.share(top.limit), f"on '{top.task}', read as {top.reading}"),
        ]  # fmt: skip - a list of rows reads best as a list
    for finding in report.verdict.findings:
        if finding.rule.startswith("utility:"):
            asked = f"on '{finding.task}'; at least {spelling.share(finding.limit)} is asked"
            found.append(("Still useful", spelling.percent(finding.observed), asked))
            break
    counts = _counts(report)
    missing = [f"{number} {what}" for what, number in counts.items() if what != "ended well" and number]
    whole = f"{counts['ended well']} of {sum(counts.values())}"
    found.append(
        ("Trials ended well", whole, f"{', '.join(missing) or 'none is missing'}; {facts.trials_line(report)}")
    )
    return found


def _corrected(report: Report) -> list[tuple[str, str, str]]:
    """The highest of many readings is partly luck; this one is not."""
    size = facts.corrected(report)
    if size is None:
        return []
    ends = f"{spelling.percent(size.low)} to {spelling.percent(size.high)}"
    says = f"{ends}, on the half of the questions that did not choose"
    return [("Corrected for choice", spelling.percent(size.share), says)]


def _comparisons(report: Report) -> list[Compared]:
    told = facts.comparisons(report)
    bounds = [(plots.Span(f.observed, f.lower, f.upper), f.limit) for f in (each.finding for each in told)]
    return [Compared(each, drawn) for each, drawn in zip(told, plots.beside(bounds), strict=True)]


def _after(line: Line) -> str:
    attack = line.finding.attack
    return "with no attack at all" if attack == "none" else f"after {attack}, {line.where}"


def _counts(report: Report) -> dict[str, int]:
    """How the candidate's trials and its shams ended, and how many were left out."""
    found = {"ended well": 0, "failed": 0, "not applicable": 0, "not run": 0, "left out": len(report.left_out)}
    for record in report.trials:
        if record.trial.role in OWN and record.planned:
            found[_state(record)] += 1
    return found


def _state(record: Record) -> str:
    ends = {closed.status for closed in record.closed}
    if "ok" in ends:
        return "ended well"
    return "not run" if not ends else "not applicable" if ends == {"not_applicable"} else "failed"


def _name(record: Record) -> str:
    role = "" if record.trial.role in OWN else f" [{record.trial.role}]"  # a sham is called one in its label
    return f"{record.label}, seed {record.trial.seed_index}{role}"


def _unfinished(record: Record) -> Iterator[Unfinished]:
    """A trial that failed at some attempt, was not applicable, or never ended: with every reason on record."""
    bad = [closed for closed in record.closed if closed.status != "ok"]
    if not bad and record.closed:
        return
    state = _state(record)
    reasons = tuple(f"attempt {c.attempt}, {c.status.replace('_', ' ')}: {c.reason or 'no reason given'}" for c in bad)
    yield Unfinished(_name(record), f"{state} at a later attempt" if state == "ended well" else state, reasons)


def _asked(report: Report) -> list[tuple[str, str, Digest]]:
    """Every set of questions and texts that a trial could see: its name, what it is, its digest."""
    tasks = {
        (f"task {task.name}", f"{task.kind}, {task.items} items{_choices(task)}", task.sha256)
        for record in report.trials
        for task in record.trial.tasks
    }
    data = {(f"data {name}", "", digest) for record in report.trials for name, digest in record.trial.data.items()}
    return [*sorted(tasks), *sorted(data)]


def _choices(task: TaskRef) -> str:
    return f", {task.options} choices" if not judged_as(task.kind).written else ", answers written"


def _facts(record: Record) -> list[tuple[str, list[str]]]:
    """What was recorded at each budget: signs, costs and choices once, they are the same for every task."""
    found: dict[str, list[str]] = {}
    for mark in record.marks:
        attempt = f", attempt {mark.attempt}" if mark.attempt > 1 else ""
        told = found.setdefault(f"Budget {mark.mark}{attempt}", [])
        told += [f"{name} {spelling.number(value)}" for name, value in sorted(mark.signs.items())]
        told += [f"spent {name} {spelling.number(value)}" for name, value in sorted(mark.spent.items())]
        told += [f"chosen {name} {spelling.plain(value)}" for name, value in sorted(mark.chosen.items())]
        told += [f"{mark.task} {name} {spelling.number(value)}" for name, value in sorted(mark.summary.items())]
    return [(where, [each.replace("_", " ") for each in dict.fromkeys(told)]) for where, told in found.items()]


def _config(record: Record) -> str:
    """Every field of the attack's config, as JSON in a fixed order."""
    return "; ".join(f"{name} = {canonical(value).decode()}" for name, value in sorted(record.trial.config.items()))


def _screening(record: Record) -> Screening | None:
    """Dev accuracies of a trial's grid. Tasks share one screening, so the first mark of each budget is enough.

    None for a sham: it is no attack, and what it tried says nothing about one.
    """
    if record.trial.role == "sham":
        return None
    marks: dict[tuple[int, int], Mark] = {}
    for mark in record.marks:
        if mark.screened:
            marks.setdefault((mark.attempt, mark.mark), mark)
    if not marks:
        return None
    tried = {at: {_setting(c): c.get("dev_accuracy") for c in mark.screened} for at, mark in marks.items()}
    settings = dict.fromkeys(setting for own in tried.values() for setting in own)
    chosen = {at: _setting({**mark.chosen, "dev_accuracy": 0}, like=mark.screened) for at, mark in marks.items()}
    attempts = len({attempt for attempt, _ in marks}) > 1
    return Screening(
        name=_name(record),
        marks=tuple(f"{mark}, attempt {attempt}" if attempts else f"{mark}" for attempt, mark in marks),
        rows=tuple(
            (setting, tuple((tried[at].get(setting), setting == chosen[at]) for at in marks)) for setting in settings
        ),
        edges=tuple(str(mark.chosen.get("grid_edge", "not recorded")) for mark in marks.values()),
    )


def _setting(candidate: Mapping[str, Json], like: Sequence[Mapping[str, Json]] = ()) -> str:
    """A grid point in words; what the budget is and what it scored are not part of it."""
    names = {key for each in (like or (candidate,)) for key in each} - {"mark", "dev_accuracy"}
    return ", ".join(
        f"{name.replace('_', ' ')} {canonical(candidate[name]).decode()}" for name in sorted(names) if name in candidate
    )


# --- what the plots show ----------------------------------------------------------------------------------------------


def _chapters(report: Report, rule: str, lines: Sequence[Line], *, first: bool) -> Iterator[Chapter]:
    """The two plots of one limit; a second utility task gives a second pair, which no shipped policy has."""
    finding = lines[0].finding
    drawn = lines
    if len(lines) > MOST_ROWS:  # keep what an attacker would use, in the table's order
        best = sorted(lines, key=lambda line: (-line.finding.observed, line.number))[:MOST_ROWS]
        drawn = sorted(best, key=lambda line: line.number)
    references = list(_references(report, finding))
    absences = list(_absences(report, lines, left_out=first))
    if len(absences) > MOST_GAPS:
        more = len(absences) - MOST_GAPS + 1
        rest = plots.Absence(f"and {more} more", "see what was not run, below", "not run")
        absences = [*absences[: MOST_GAPS - 1], rest]
    entries = [_entry(line) for line in drawn]
    for useful, reading, floor in _usefulness(report, finding.task):
        points = list(_points(report, drawn, useful, reading)) if useful else []
        yield Chapter(
            rule=rule,
            task=finding.task,
            reading=finding.reading,
            other=next(each for each in READINGS if each != finding.reading),
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
    finding = line.finding
    other = next((line.row.after.get(each) for each in READINGS if each != finding.reading), None)
    span = plots.Span(finding.observed, *line.row.interval)
    return plots.Entry(line.number, finding.attack, line.where, span, other, line.row.finding)


def _absences(report: Report, lines: Sequence[Line], *, left_out: bool) -> Iterator[plots.Absence]:
    """What the plot would show had it been run. Only one plot shows what was left out."""
    for record in report.trials:
        if record.trial.role != "candidate" or not record.planned:
            continue
        told = {line.finding.mark for line in lines if line.finding.trial == record.id}
        if told:
            for mark in (each for each in record.trial.marks if each not in told):
                yield plots.Absence(record.label, f"budget {mark}, seed {record.trial.seed_index}", "not run")
        elif not record.marks:  # with marks and no finding, the limit does not speak of this trial
            yield plots.Absence(record.label, f"seed {record.trial.seed_index}", _state(record))
    for each in report.left_out if left_out else ():
        name, _, seed = place_of(each).partition(", seed ")
        why = not_made(each).partition(": ")[2]
        yield plots.Absence(name, f"seed {seed}: {why}" if seed else why, "left out")


def _usefulness(report: Report, hazard: str) -> list[tuple[str, Reading, float | None]]:
    """Utility tasks with the floor that the untouched model must reach; without findings on them, what was asked."""
    told = {f.task: (f.task, f.reading, f.limit) for f in report.verdict.findings if f.rule.startswith("utility:")}
    if told:
        return list(told.values())
    asked = sorted({mark.task for record in report.trials for mark in record.marks} - {hazard})
    return [(asked[0] if asked else "", "content_sum", None)]


def _references(report: Report, finding: Finding) -> Iterator[plots.Reference]:
    """What the accuracies of one limit are compared with."""
    yield plots.Reference("limit", "limit", plots.Span(finding.limit, finding.limit, finding.limit))
    chances = {t.chance for record in report.trials for t in record.trial.tasks if t.name == finding.task}
    for chance in sorted(chances, reverse=True):
        yield plots.Reference("chance", "chance", plots.Span(chance, chance, chance))
    for record in report.trials:
        if record.trial.attack != "none":
            continue
        span = next((_span(m, finding.reading) for m in record.marks[::-1] if m.task == finding.task), None)
        role = record.trial.role
        if span is None or (role in OWN and (role != "candidate" or not record.planned)):
            continue
        if role == "candidate":
            yield plots.Reference("before", "before attack", span)
        elif role == "original":
            yield plots.Reference("original", "original", span)
        else:
            yield plots.Reference("control", role.replace(":", " "), span)


def _span(mark: Mark, reading: Reading) -> plots.Span:
    """An accuracy with its two-sided 95 % Clopper-Pearson interval."""
    correct = tally(mark, reading)[0]
    low, high = (
        clopper_pearson_lower(correct, mark.items, 0.025),
        clopper_pearson_upper(correct, mark.items, 0.025),
    )
    return plots.Span(correct / mark.items, low, high)


def _forest_says(
    lines: Sequence[Line], references: Sequence[plots.Reference], absences: Sequence[plots.Absence]
) -> str:
    first = lines[0].finding
    over = sum(words(line.finding) == "OVER" for line in lines)
    top = max(lines, key=lambda line: line.finding.observed)
    return (
        f"Accuracy on '{first.task}' from 0 to 100 %, one row for each attack and budget, with 95 % intervals. "
        f"{over} of {len(lines)} rows are over the limit of {spelling.share(first.limit)}. "
        f"The highest is {spelling.percent(top.finding.observed)}, {_after(top)}. "
        + ". ".join(f"{each.name}: {spelling.share(each.span.at)}" for each in references if each.kind != "limit")
        + f". Not run: {'; '.join(each.name for each in absences) or 'nothing'}. "
        "The table below holds the same numbers."
    )


def _points(report: Report, lines: Sequence[Line], useful: str, reading: Reading) -> Iterator[plots.Point]:
    """Hazard accuracy against utility, a point for every Recovery; letters for models that nobody attacked."""
    hazard = lines[0].finding

    def point(label: str, key: str, state: str, kept: float, known: float) -> plots.Point:
        says = f"{label}: {key}: {spelling.percent(known)} on '{hazard.task}', {spelling.percent(kept)} on '{useful}'"
        return plots.Point(label, key, state, kept, known, says)

    marks = {(m.trial, m.attempt, m.mark): m for r in report.trials for m in r.marks if m.task == useful}
    for line in lines:
        mark = marks.get(_address(line.finding))
        if mark is None:  # the Recovery was not asked whether it is still useful: the doubts say so
            continue
        name, kept = f"{line.finding.attack}, {line.where}", _span(mark, reading).at
        yield point(str(line.number), name, words(line.finding), kept, line.finding.observed)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for record in report.trials:
        both = {mark.task: mark for mark in record.marks}
        if record.trial.role not in OWN and record.trial.attack == "none" and {hazard.task, useful} <= set(both):
            kept, known = _span(both[useful], reading).at, _span(both[hazard.task], hazard.reading).at
            yield point(next(letters, "z"), record.trial.role.replace(":", " "), "", kept, known)


def _address(finding: Finding) -> tuple[Digest, int, int]:
    return finding.trial, finding.attempt, finding.mark


def _field_says(hazard: Finding, useful: str, points: Sequence[plots.Point]) -> str:
    return (
        f"Accuracy on '{hazard.task}' upwards against accuracy on '{useful}' to the right, one numbered point for each "
        f"Recovery. The limit on '{hazard.task}' is {spelling.share(hazard.limit)}. "
        + "; ".join(point.says for point in points)
        + "."
    )
