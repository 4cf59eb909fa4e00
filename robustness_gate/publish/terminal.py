"""What a person sees in a terminal: progress while it runs, the table and the verdict when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from robustness_gate.publish import facts
from robustness_gate.publish.instruments import instruments
from robustness_gate.records.base import Metric
from robustness_gate.records.codes import INSTRUMENTS
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.report.record import Report
from robustness_gate.report.table import (
    Row,
    further_metrics,
    metric_lines,
    not_tried,
    origins,
    sentence,
    table,
    utility_lines,
)
from robustness_gate.running.executors import Event
from robustness_gate.verdict import label, tally, wording
from robustness_gate.verdict.hypotheses import judged_in
from robustness_gate.verdict.wording import model_name

COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}


def show(report: Report, console: Console) -> None:
    """The table of findings, the utility, what is missing, and the verdict in one sentence."""
    rows, further = (found := table(report)), further_metrics(found)
    several = len({row.task for row in rows}) > 1
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("attack", "left"),
        *((("task", "left"), ("metric", "left")) if several else ()),
        ("budget", "right"),
        ("before", "right"),
        ("after", "right"),
        ("95 % interval", "right"),
        *((metric, "right") for metric in further),
        ("limit", "right"),
        ("finding", "left"),
    ):  # fmt: skip - a list of columns reads best as a list
        grid.add_column(title, justify=justify, no_wrap=True)
    for row in rows:
        style = "red" if row.finding == "OVER" else "green" if row.finding == "within" else "yellow"
        seed = f", seed {row.seed_index}" if row.seed_index else ""
        grid.add_row(
            f"{row.attack}{seed}{row.suffix}",
            *((row.task, row.metric) if several else ()),
            str(row.budget) if row.budget else "-",
            _pct(row.before.get(row.metric)),
            Text(_pct(row.after.get(row.metric)), style="bold"),
            f"{_pct(row.interval[0])} - {_pct(row.interval[1])}",
            *("" if each == row.metric else _change(row, each) for each in further),
            f"{100 * row.limit:.0f}",
            Text(row.finding, style=style),
        )
    console.print(grid)
    for line in metric_lines(report):
        console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    for what, value in origins(report):
        if not value.startswith("organism:"):  # shipped with the package, and named in the command
            console.print(f"{what}: {value}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for line in (*_compared(report), *utility_lines(report)):
        console.print(line, style="dim", highlight=False, soft_wrap=True)
    size = facts.corrected(report)
    lines = [
        size.line if size else "",
        facts.trials_line(report),
        *facts.stated(report),
        facts.preregistration_line(report),
    ]
    for line in filter(None, lines):
        console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    for each in instruments(report):
        if each.state != "off":  # an instrument that is off is among the limitations
            style = "yellow" if each.state == "fault" else "dim"
            console.print(each.line, style=style, highlight=False, soft_wrap=True)
    _show_what_is_missing(report, console)
    for index, line in enumerate(facts.ruling_lines(report)):
        console.print(f"{'  ' if index else 'decision: '}{line}", highlight=False, markup=False, soft_wrap=True)
    colour = COLOURS[report.verdict.outcome]
    console.print(Text(sentence(report), style=f"bold {colour}"), soft_wrap=True)


def _show_what_is_missing(report: Report, console: Console) -> None:
    """Print the first few untried trials, open blockers and red flags, and every limitation."""
    groups = [("not tried", "dim", 3, not_tried(report))]
    groups.append(("red flag", "yellow", 5, facts.red_flags(report)))
    if report.verdict.outcome == "INCONCLUSIVE":
        elsewhere = {"flag", "left_out", *INSTRUMENTS}
        others = [wording.sentence(each) for each in report.verdict.blockers if each.code not in elsewhere]
        groups.append(("open", "yellow", 5, others))
    groups.append(("limitation", "yellow", len(report.limitations), list(report.limitations)))
    for what, style, most, lines in groups:
        for line in lines[:most]:
            console.print(f"{what}: {line}", style=style, highlight=False, markup=False, soft_wrap=True)
        if len(lines) > most:
            console.print(f"{what}: {len(lines) - most} more (see the report)", style=style, highlight=False)


def accuracy_text(trial: Trial, measurement: Measurement) -> str:
    """A measurement's task and accuracy in the deciding metric: `forget 88.2 %`."""
    metric = judged_in(measurement.task, trial).deciding
    return f"{measurement.task} {100 * tally(measurement, metric)[0] / measurement.items:.1f} %"


def _change(row: Row, metric: Metric) -> str:
    """Before and after in one metric: `25.0 > 90.2`; empty if the task's kind does not have it."""
    return f"{_pct(row.before.get(metric))} > {_pct(row.after[metric])}" if metric in row.after else ""


def _pct(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


@contextmanager
def watching(console: Console, *, quiet: bool) -> Iterator[Callable[[Event, int, int], None]]:
    """A callback that shows a run's events: a live table on a terminal, else a line a trial, nothing when quiet."""
    if quiet:
        yield lambda *_: None
        return
    rows: dict[str, _Row] = {}
    begun = time.monotonic()
    screen = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
    with screen or nullcontext():

        def watch(event: Event, done: int, total: int) -> None:
            row = rows.setdefault(event.trial.id, _Row(event.trial, time.monotonic()))
            if isinstance(event.record, Measurement):
                row.measurements[event.record.budget, event.record.task] = event.record
            elif event.record is not None:
                row.took, row.status = time.monotonic() - row.begun, event.record.status.replace("_", " ")
                row.reason = event.record.reason
            if screen is not None:
                screen.update(_living(rows, done, total, time.monotonic() - begun))
            elif event.record is not None and not isinstance(event.record, Measurement):
                style = "dim" if event.record.status == "ok" else "yellow"
                console.print(
                    f"[{done}/{total}] {row.line()}", style=style, highlight=False, markup=False, soft_wrap=True
                )

        yield watch


@dataclass
class _Row:
    """The current state of one trial."""

    trial: Trial
    begun: float
    measurements: dict[tuple[int, str], Measurement] = field(default_factory=dict)
    status: str = "running"
    took: float = 0.0
    reason: str = ""

    def accuracies(self) -> str:
        """The accuracy at each budget on each task: `at 5: forget 90.2 %, retain 95.3 %`."""
        found = []
        for budget in sorted({budget for budget, _ in self.measurements}):
            texts = [accuracy_text(self.trial, each) for (at, _), each in self.measurements.items() if at == budget]
            found.append((f"at {budget}: " if budget else "") + ", ".join(texts))
        return "; ".join(found)

    def line(self) -> str:
        """One line, for a log."""
        reason = f": {self.reason}" if self.reason else ""
        accuracies = f"; {self.accuracies()}" if self.measurements else ""
        return f"{_name(self.trial)} {self.status} in {self.took:.0f} s{reason}{accuracies}"


def _name(trial: Trial) -> str:
    role = "" if trial.role == Role.CANDIDATE else f" [{model_name(trial)}]"
    return f"{label(trial)}, seed {trial.seed_index}{role}"


def _living(rows: Mapping[str, _Row], done: int, total: int, seconds: float) -> Table:
    """The table that is redrawn while trials run."""
    grid = Table(box=None, pad_edge=False, header_style="bold", caption=f"{done} of {total} trials, {seconds:.0f} s")
    for title in ("trial", "status", "seconds", "accuracy so far"):
        grid.add_column(title, overflow="fold")
    for row in rows.values():
        style = {"running": "cyan", "ok": "green"}.get(row.status, "yellow")
        took = row.took or time.monotonic() - row.begun
        grid.add_row(_name(row.trial), Text(row.status, style=style), f"{took:.0f}", row.reason or row.accuracies())
    return grid


@contextmanager
def hashing(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total), in bytes, that shows progress and speed while a checkpoint is read from the disk."""
    columns = (TextColumn("hashing"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("hashing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counting(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, total) for long work that counts steps."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
                if not console.is_terminal:
                    console.print(what, highlight=False)
            bar.update(tasks[what], completed=done, total=total)

        yield progress


def _compared(report: Report) -> list[str]:
    """Every comparison with another model, in one line each."""
    return [each.line for each in facts.shares(report)] + [each.line for each in facts.comparisons(report)]
