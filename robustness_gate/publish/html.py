"""The report as one HTML page: one file, no script, no external resources, the same bytes for equal reports.

This module collects the content, and `drawings` that of the plots; `plots` computes positions in them, `spelling`
formats values, and the template lays out the page. Every string passes through Jinja's autoescape and none is ever
marked safe, so that a policy, an attack or a vendor's file cannot put markup into the page.
`docs/decisions/0002-html-report.md` explains why the plots are hand-written SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import jinja2

from robustness_gate.evidence.ledger import OWN
from robustness_gate.publish import facts, plots, spelling
from robustness_gate.publish.drawings import Line, after, chapters, ending, lines_of
from robustness_gate.publish.instruments import instruments
from robustness_gate.records.base import Digest
from robustness_gate.records.encode import Json, encode
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import FindingKind
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.report.table import NOT_ASKED, further_metrics, metric_lines, origins
from robustness_gate.verdict import strongest, wording
from robustness_gate.verdict.wording import model_name, state

KEYS = {
    "OVER": "over",
    "USELESS": "over",
    "open": "open",
    "not counted": "open",
    "not valid": "doubt",
    "within": "within",
}
"""The CSS class of a finding's state."""


# --- parts of the page -----------------------------------------------------------------------------------------------


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


FILE = "report.html"


def render(report: Report) -> str:
    """The report as one HTML page."""
    lines = lines_of(report)
    return _template().render(
        report=report,
        lines=lines,
        further=further_metrics([line.row for line in lines]),
        metrics=metric_lines(report),
        chapters=chapters(report, lines),
        figures=_figures(report, lines),
        useful=[finding for finding in report.verdict.findings if finding.kind == FindingKind.UTILITY],
        several_rules=len({line.finding.rule for line in lines}) > 1,
        counts=_counts(report),
        comparisons=_comparisons(report),
        shares=facts.shares(report),
        hypotheses=wording.HYPOTHESES,
        ruling=facts.ruling(report),
        red_flags=facts.red_flags(report),
        instruments=list(instruments(report)),
        calibrated=facts.calibrated(report),
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
            ("Highest accuracy", spelling.percent(top.observed), after(line)),
            *_corrected(report),
            ("Limit", spelling.share(top.limit), f"on '{top.task}', metric {top.metric}"),
        ]  # fmt: skip - a list of rows reads best as a list
    if (back := facts.most_back(report)) is not None:
        found += [
            ("Highest share back", back.share_alone, f"of the gap, {back.where}{_uncompared(report)}"),
            ("Limit", spelling.share(back.finding.limit), f"of the gap, rule '{back.finding.rule}'"),
        ]
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


def _uncompared(report: Report) -> str:
    """A note if an attack could not be compared, so that a higher share may not be shown."""
    many = sum(blocker.code == "not_compared" for blocker in report.verdict.blockers)
    return f"; {many} more could not be compared" if many else ""


def _corrected(report: Report) -> list[tuple[str, str, str]]:
    """The accuracy of the strongest attack without selection bias; the highest of many accuracies is biased."""
    size = facts.corrected(report)
    if size is None:
        return []
    ends = f"{spelling.percent(size.low)} to {spelling.percent(size.high)}"
    text = f"{ends}, on the half of the questions that was not used for the selection"
    return [("Corrected for selection", spelling.percent(size.share), text)]


def _comparisons(report: Report) -> list[Compared]:
    found = facts.comparisons(report)
    bounds = [(plots.Span(f.observed, f.lower, f.upper), f.limit) for f in (each.finding for each in found)]
    return [Compared(each, drawn) for each, drawn in zip(found, plots.beside(bounds), strict=True)]


def _counts(report: Report) -> dict[str, int]:
    """The candidate's trials and shams, counted by how they ended, and the trials that were left out."""
    found = {"ended": 0, "failed": 0, "not_applicable": 0, "not_run": 0, "left_out": len(report.left_out)}
    for record in report.trials:
        if record.trial.role in OWN and record.planned:
            found[ending(record)] += 1
    return found


def _name(record: TrialRecord) -> str:
    role = "" if record.trial.role in OWN else f" [{model_name(record.trial)}]"  # the label of a sham says so
    return f"{record.label}, seed {record.trial.seed_index}{role}"


def _unfinished(record: TrialRecord) -> Iterator[Unfinished]:
    """A trial that failed at some attempt, was not applicable, or did not end, with every recorded reason."""
    bad = [closed for closed in record.closed if closed.status != "ok"]
    if not bad and record.closed:
        return
    end = ending(record)
    status = "ended well at a later attempt" if end == "ended" else end.replace("_", " ")
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
