"""The page for a reader with five minutes: one file, no script, nothing fetched, the same bytes for equal reports.

Python computes geometry, the template draws it: every string passes through Jinja's autoescape and none is ever marked
safe, so that a policy, an attack or a vendor's file cannot put markup into the page. Why the plots are hand-written
SVG, and what that costs, is in `docs/decisions/0002-html-report.md`.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby, product
from typing import Any, Literal, NamedTuple

import jinja2

from robustness_gate.ledger import OWN
from robustness_gate.nouns import READINGS, WRITTEN, Digest, Finding, Json, Mark, Reading, TaskRef, canonical
from robustness_gate.publish import facts
from robustness_gate.report import Record, Report, Row, origins, table, words
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import strongest, tally

MOST_ROWS = 60
"""Rows of the first plot and points of the second; the table holds all. Beyond this a plot is a texture."""

MOST_GAPS = 30
"""Empty rows of the first plot for what was not run; the list below the table holds all."""

NBSP = "\u00a0"

# Outlines around the origin: what a colour says, a shape says too.
SHAPES = {
    "OVER": "M0-7.5 7.5 5.5H-7.5Z",
    "open": "M0-7.5 7.5 0 0 7.5-7.5 0Z",
    "in doubt": "M-6-6H6V6H-6Z",
    "within": "M-6.5 0a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0-13 0Z",
}
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


class Span(NamedTuple):
    """An accuracy with its two-sided 95 % Clopper-Pearson interval."""

    at: float
    low: float
    high: float


class Reference(NamedTuple):
    """What an accuracy is held against: the limit, chance, the untouched model, the original, a control."""

    kind: Literal["limit", "chance", "before", "original", "control"]
    name: str
    span: Span


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


# --- plots as numbers ------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One width at which a plot is drawn. Two are in the page: text that scales with a picture cannot be read."""

    name: Literal["wide", "narrow"]
    width: float
    left: float
    right: float
    row: float
    """Height of a row of the first plot."""
    tall: float
    """Height of the second plot's field."""
    letters: int
    """Room for an attack's name, in letters; the narrow frame has the budget in the same line."""


FRAMES = (
    Frame("wide", 960, 244, 816, 38, 380, 29),
    Frame("narrow", 360, 14, 338, 56, 300, 40),
)


class Flag(NamedTuple):
    """A reference line with its label, kept clear of the other labels."""

    kind: str
    x: float
    low: float
    high: float
    label: str
    text_x: float
    text_y: float
    anchor: str


class Track(NamedTuple):
    """One row of the first plot."""

    line: Line
    y: float
    x: float
    low: float
    high: float
    other: float | None
    """Where the reading that does not decide stands."""
    name: str


class Gap(NamedTuple):
    """An empty row: what was not run takes as much room as what was."""

    y: float
    name: str
    why: str
    state: str


class Forest(NamedTuple):
    """Accuracy after each attack, with intervals, against the limit."""

    frame: Frame
    height: float
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    limit: float
    flags: tuple[Flag, ...]
    tracks: tuple[Track, ...]
    gaps: tuple[Gap, ...]
    says: str


class Dot(NamedTuple):
    """One point of the second plot."""

    label: str
    """The number of its finding; a letter for a model that nobody attacked."""
    key: str
    """What the label stands for."""
    state: str
    """Empty for a reference."""
    x: float
    y: float
    text_x: float
    text_y: float
    says: str


class Field(NamedTuple):
    """Hazard accuracy against utility, a point for every Recovery."""

    frame: Frame
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    limit: float
    floor: float | None
    dots: tuple[Dot, ...]
    key_x: float
    key_y: float
    says: str


class Beside(NamedTuple):
    """One paired comparison, with a small drawing of its bounds, of zero and of the limit."""

    told: facts.Comparison
    low: float
    at: float
    high: float
    limit: float
    zero: float


BESIDE = (200.0, 22.0)
"""Width and height of that drawing."""


class Chapter(NamedTuple):
    """One limit of the policy, drawn."""

    rule: str
    task: str
    reading: Reading
    other: Reading
    limit: float
    left_out: int
    """Findings that are in the table only."""
    forests: tuple[Forest, ...]
    useful: str
    """The utility task of the second plot, empty where there is none."""
    floor: float | None
    fields: tuple[Field, ...]


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
        abilities=list(facts.abilities(report)),
        coverage=facts.coverage(report),
        again=facts.again(report),
        look_again=facts.LOOK_AGAIN,
        public=facts.PUBLIC,
        origins=origins(report),
        unfinished=[each for record in report.trials for each in _unfinished(record)],
        asked=_asked(report),
        screenings=[found for record in report.trials if (found := _screening(record)) is not None],
        report_sha256=hashlib.sha256(canonical(report.model_dump(mode="json", by_alias=True))).hexdigest(),
        shapes=SHAPES,
        keys=KEYS,
        drawing=BESIDE,
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters |= {
        "pct": _percent,
        "share": _share,
        "px": _pixels,
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
    return [Line(number, finding, row, _where(finding, seeds=seeds)) for number, (finding, row) in numbered]


def _where(finding: Finding, *, seeds: bool) -> str:
    parts = [f"budget {finding.mark}"] if finding.mark else []
    parts += [f"seed {finding.seed_index}"] if seeds else []
    parts += [f"attempt {finding.attempt}"] if finding.attempt > 1 else []
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
                _percent(before),
                f"of '{top.task}' answered right" if before is not None else "not asked",
            ),
            ("Highest reading", _percent(top.observed), _after(line)),
            *_corrected(report),
            ("Limit", _share(top.limit), f"on '{top.task}', read as {top.reading}"),
        ]  # fmt: skip - a list of rows reads best as a list
    for finding in report.verdict.findings:
        if finding.rule.startswith("utility:"):
            asked = f"on '{finding.task}'; at least {_share(finding.limit)} is asked"
            found.append(("Still useful", _percent(finding.observed), asked))
            break
    counts = _counts(report)
    missing = [f"{number} {what}" for what, number in counts.items() if what != "ended well" and number]
    whole = f"{counts['ended well']} of {sum(counts.values())}"
    ever = f"{report.verdict.trials} on record for this checkpoint"
    if more := len(facts.unasked(report)):
        ever += f", {more} of them not asked for by this plan"
    found.append(("Trials ended well", whole, f"{', '.join(missing) or 'none is missing'}; {ever}"))
    return found


def _corrected(report: Report) -> list[tuple[str, str, str]]:
    """The highest of many readings is partly luck; this one is not."""
    size = facts.corrected(report)
    if size is None:
        return []
    return [
        (
            "Corrected for choice",
            _percent(size.share),
            f"{_percent(size.low)} to {_percent(size.high)}, on the half of the questions that did not choose",
        )
    ]


def _comparisons(report: Report) -> list[Beside]:
    """All on one scale, from the lowest bound to the highest, in whole tens of points."""
    told = facts.comparisons(report)
    ends = [end for each in told for end in (each.finding.lower, each.finding.upper, each.finding.limit)]
    least, most = math.floor(10 * min((0.0, *ends))) / 10, math.ceil(10 * max((0.1, *ends))) / 10

    def x(difference: float) -> float:
        return 8 + (difference - least) / (most - least) * (BESIDE[0] - 16)

    return [
        Beside(
            each, x(each.finding.lower), x(each.finding.observed), x(each.finding.upper), x(each.finding.limit), x(0)
        )
        for each in told
    ]


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
    return "failed" if "failure" in ends else "not applicable" if ends else "not run"


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
    return f", {task.options} choices" if task.kind not in WRITTEN else ", answers written"


def _facts(record: Record) -> list[tuple[str, list[str]]]:
    """What was recorded at each budget: signs, costs and choices once, they are the same for every task."""
    found: dict[str, list[str]] = {}
    for mark in record.marks:
        attempt = f", attempt {mark.attempt}" if mark.attempt > 1 else ""
        told = found.setdefault(f"Budget {mark.mark}{attempt}", [])
        told += [f"{name} {_number(value)}" for name, value in sorted(mark.signs.items())]
        told += [f"spent {name} {_number(value)}" for name, value in sorted(mark.spent.items())]
        told += [f"chosen {name} {_plain(value)}" for name, value in sorted(mark.chosen.items())]
        told += [f"{mark.task} {name} {_number(value)}" for name, value in sorted(mark.summary.items())]
    return [(where, [each.replace("_", " ") for each in dict.fromkeys(told)]) for where, told in found.items()]


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


# --- geometry --------------------------------------------------------------------------------------------------------


def _chapters(report: Report, rule: str, lines: Sequence[Line], *, first: bool) -> Iterator[Chapter]:
    """The two plots of one limit; a second utility task gives a second pair, which no shipped policy has."""
    finding = lines[0].finding
    drawn = lines
    if len(lines) > MOST_ROWS:  # keep what an attacker would use, in the table's order
        best = sorted(lines, key=lambda line: (-line.finding.observed, line.number))[:MOST_ROWS]
        drawn = sorted(best, key=lambda line: line.number)
    references = list(_references(report, finding))
    gaps = list(_gaps(report, lines, left_out=first))
    if len(gaps) > MOST_GAPS:
        more = len(gaps) - MOST_GAPS + 1
        gaps = [*gaps[: MOST_GAPS - 1], (f"and {more} more", "see what was not run, below", "not run")]
    for useful, reading, floor in _usefulness(report, finding.task):
        yield Chapter(
            rule=rule,
            task=finding.task,
            reading=finding.reading,
            other=next(each for each in READINGS if each != finding.reading),
            limit=finding.limit,
            left_out=len(lines) - len(drawn),
            forests=tuple(_forest(frame, drawn, references, gaps) for frame in FRAMES),
            useful=useful,
            floor=floor,
            fields=tuple(_field(frame, report, drawn, useful, reading, floor) for frame in FRAMES) if useful else (),
        )


def _gaps(report: Report, lines: Sequence[Line], *, left_out: bool) -> Iterator[tuple[str, str, str]]:
    """Name, reason and state of what the plot would show had it been run. Only one plot shows what was left out."""
    for record in report.trials:
        if record.trial.role != "candidate" or not record.planned:
            continue
        told = {line.finding.mark for line in lines if line.finding.trial == record.id}
        if told:
            missing = [mark for mark in record.trial.marks if mark not in told]
            yield from ((record.label, f"budget {mark}, seed {record.trial.seed_index}", "not run") for mark in missing)
        elif not record.marks:  # with marks and no finding, the limit does not speak of this trial
            yield record.label, f"seed {record.trial.seed_index}", _state(record)
    for text in report.left_out if left_out else ():
        place, _, why = text.partition(": ")
        name, _, seed = place.partition(", seed ")
        yield name, f"seed {seed}: {why}" if seed else why, "left out"


def _usefulness(report: Report, hazard: str) -> list[tuple[str, Reading, float | None]]:
    """Utility tasks with the floor that the untouched model must reach; without findings on them, what was asked."""
    told = {f.task: (f.task, f.reading, f.limit) for f in report.verdict.findings if f.rule.startswith("utility:")}
    if told:
        return list(told.values())
    asked = sorted({mark.task for record in report.trials for mark in record.marks} - {hazard})
    return [(asked[0] if asked else "", "content_sum", None)]


def _references(report: Report, finding: Finding) -> Iterator[Reference]:
    """What the accuracies of one limit are compared with."""
    yield Reference("limit", "limit", Span(finding.limit, finding.limit, finding.limit))
    chances = {t.chance for record in report.trials for t in record.trial.tasks if t.name == finding.task}
    for chance in sorted(chances, reverse=True):
        yield Reference("chance", "chance", Span(chance, chance, chance))
    for record in report.trials:
        if record.trial.attack != "none":
            continue
        span = next((_span(m, finding.reading) for m in record.marks[::-1] if m.task == finding.task), None)
        role = record.trial.role
        if span is None or (role == "candidate" and not record.planned):
            continue
        if role == "candidate":
            yield Reference("before", "before attack", span)
        elif role == "original":
            yield Reference("original", "original", span)
        else:
            yield Reference("control", role.replace(":", " "), span)


def _span(mark: Mark, reading: Reading) -> Span:
    correct = tally(mark, reading)[0]
    low, high = (
        clopper_pearson_lower(correct, mark.items, 0.025),
        clopper_pearson_upper(correct, mark.items, 0.025),
    )
    return Span(correct / mark.items, low, high)


def _forest(
    frame: Frame, lines: Sequence[Line], references: Sequence[Reference], gaps: Sequence[tuple[str, str, str]]
) -> Forest:
    def x(share: float) -> float:
        return frame.left + share * (frame.right - frame.left)

    flags, lanes = _flags(frame, references, x)
    top = 10.0 + 17 * lanes
    bottom = top + frame.row * (len(lines) + len(gaps))
    tracks = []
    for index, line in enumerate(lines):
        finding = line.finding
        other = next((line.row.after.get(each) for each in READINGS if each != finding.reading), None)
        tracks.append(
            Track(
                line=line,
                y=top + frame.row * index,
                x=x(finding.observed),
                low=x(line.row.interval[0]),
                high=x(line.row.interval[1]),
                other=None if other is None else x(other),
                name=_cut(finding.attack, frame.letters - (len(line.where) if frame.name == "narrow" else 0)),
            )
        )
    empty = tuple(
        Gap(top + frame.row * (len(lines) + index), _cut(name, frame.letters), _cut(why, frame.letters), state)
        for index, (name, why, state) in enumerate(gaps)
    )
    first = lines[0].finding
    over = sum(words(line.finding) == "OVER" for line in lines)
    top_line = max(lines, key=lambda line: line.finding.observed)
    says = (
        f"Accuracy on '{first.task}' from 0 to 100 %, one row for each attack and budget, with 95 % intervals. "
        f"{over} of {len(lines)} rows are over the limit of {_share(first.limit)}. "
        f"The highest is {_percent(top_line.finding.observed)}, {_after(top_line)}. "
        + ". ".join(f"{each.name}: {_share(each.span.at)}" for each in references if each.kind != "limit")
        + f". Not run: {'; '.join(name for name, _, _ in gaps) or 'nothing'}. The table below holds the same numbers."
    )
    step = 20 if frame.name == "wide" else 25
    ticks = tuple((x(at / 100), f"{at}{NBSP}%") for at in range(0, 101, step))
    return Forest(frame, bottom + 30, top, bottom, ticks, x(first.limit), flags, tuple(tracks), empty, says)


def _flags(frame: Frame, references: Sequence[Reference], x: Callable[[float], float]) -> tuple[tuple[Flag, ...], int]:
    """Labels of the reference lines, from left to right, each in a lane under all labels that its line would cut."""
    taken: list[tuple[float, float, int]] = []
    found = []
    for each in sorted(references, key=lambda each: (each.span.at, each.kind, each.name)):
        label = f"{each.name} {_share(each.span.at)}"
        at, width = x(each.span.at), 7.2 * len(label)
        flip = at + 5 + width > frame.width - 4
        begin, end = (at - 5 - width, at) if flip else (at, at + 5 + width)
        lane = max((1 + own for low, high, own in taken if low < end + 6 and begin < high + 6), default=0)
        taken.append((begin, end, lane))
        found.append((each, at, label, flip, lane))
    flags = tuple(
        Flag(
            kind=each.kind,
            x=at,
            low=x(each.span.low),
            high=x(each.span.high),
            label=label,
            text_x=at - 5 if flip else at + 5,
            text_y=16.0 + 17 * lane,
            anchor="end" if flip else "start",
        )
        for each, at, label, flip, lane in found
    )
    return flags, 1 + max(lane for *_, lane in found)


def _field(
    frame: Frame, report: Report, lines: Sequence[Line], useful: str, reading: Reading, floor: float | None
) -> Field:
    wide = frame.name == "wide"
    left, right, top = (52.0, 592.0, 30.0) if wide else (44.0, 350.0, 30.0)
    bottom = top + frame.tall
    air = 14.0  # a point at 100 % lies inside the field, with room for its number

    def x(share: float) -> float:
        return left + air + share * (right - left - 2 * air)

    def y(share: float) -> float:
        return bottom - air - share * (bottom - top - 2 * air)

    marks = {(m.trial, m.attempt, m.mark): m for r in report.trials for m in r.marks if m.task == useful}
    first = lines[0].finding
    dots = []
    for line in lines:
        mark = marks.get(_address(line.finding))
        if mark is None:  # the Recovery was not asked whether it is still useful: the doubts say so
            continue
        name, known, kept = f"{line.finding.attack}, {line.where}", line.finding.observed, _span(mark, reading).at
        dots.append((str(line.number), name, words(line.finding), known, kept))
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    for record in report.trials:
        both = {mark.task: mark for mark in record.marks}
        if record.trial.role != "candidate" and record.trial.attack == "none" and {first.task, useful} <= set(both):
            known, kept = _span(both[first.task], first.reading).at, _span(both[useful], reading).at
            dots.append((next(letters, "z"), record.trial.role.replace(":", " "), "", known, kept))
    spots = _spots(
        [label for label, *_ in dots], [(x(kept), y(known)) for *_, known, kept in dots], (left, right, top, bottom)
    )
    drawn = tuple(
        Dot(
            label=label,
            key=name,
            state=state,
            x=x(kept),
            y=y(known),
            text_x=spot[0],
            text_y=spot[1],
            says=f"{label}: {name}: {_percent(known)} on '{first.task}', {_percent(kept)} on '{useful}'",
        )
        for (label, name, state, known, kept), spot in zip(dots, spots, strict=True)
    )
    key_x, key_y = (636.0, top + 6) if wide else (4.0, bottom + 66)
    height = max(bottom + 46, key_y + 21 * len(drawn)) if wide else key_y + 21 * len(drawn)
    step = 20 if wide else 25
    says = (
        f"Accuracy on '{first.task}' upwards against accuracy on '{useful}' to the right, one numbered point for each "
        f"Recovery. The limit on '{first.task}' is {_share(first.limit)}. " + "; ".join(dot.says for dot in drawn) + "."
    )
    return Field(
        frame=frame,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        across=tuple((x(at / 100), f"{at}{NBSP}%") for at in range(0, 101, step)),
        up=tuple((y(at / 100), f"{at}{NBSP}%") for at in range(0, 101, step)),
        limit=y(first.limit),
        floor=None if floor is None else x(floor),
        dots=drawn,
        key_x=key_x,
        key_y=key_y,
        says=says,
    )


def _address(finding: Finding) -> tuple[Digest, int, int]:
    return finding.trial, finding.attempt, finding.mark


def _spots(
    labels: Sequence[str], dots: Sequence[tuple[float, float]], box: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """A place for each label (its middle), near its dot, off every dot and every other label, inside the box."""
    left, right, top, bottom = box
    taken: list[tuple[float, float, float]] = [(at, up, 8.0) for at, up in dots]
    found = []
    for label, (at, up) in zip(labels, dots, strict=True):
        half = 2.5 + 3.4 * len(label)
        spot = (at, up)
        for far, turn in product((0.0, 8.0, 18.0, 30.0, 44.0), range(16)):
            angle = math.pi * turn / 8
            where = (at - (8 + half + far) * math.cos(angle), up - (17 + far) * math.sin(angle))
            inside = left + half < where[0] < right - half and top + 8 < where[1] < bottom - 8
            if inside and all(abs(where[0] - x) > half + w or abs(where[1] - y) > 16 for x, y, w in taken):
                spot = where
                break
        taken.append((*spot, half))
        found.append(spot)
    return found


# --- words -----------------------------------------------------------------------------------------------------------


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}{NBSP}%"


def _share(share: float) -> str:
    """A share that somebody chose: 40 %, 32.5 %, not 40.0 %."""
    return f"{100 * share:.1f}".removesuffix(".0") + f"{NBSP}%"


def _pixels(length: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{length:.1f}".removesuffix(".0")


def _number(value: float) -> str:
    """A sign or a cost. 60 and 60.0 are equal, so they are written alike."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _plain(value: Json) -> str:
    """A value that an attack recorded: words bare, numbers short, the rest as JSON."""
    if isinstance(value, str):
        return value
    return _number(value) if isinstance(value, float) else canonical(value).decode()


def _config(record: Record) -> str:
    """Every field of the attack's config, as JSON in a fixed order."""
    return "; ".join(f"{name} = {canonical(value).decode()}" for name, value in sorted(record.trial.config.items()))


def _visible(value: Any) -> Any:
    """Characters that hide or turn text around are shown by their code: an auditor must see what is there.

    Jinja calls this on everything that it writes, before it escapes; what a macro of ours returns has been through it.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or (value.isascii() and value.isprintable()):
        return value
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c
        for c in value.replace("\r\n", "\n")
    )
