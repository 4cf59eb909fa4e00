"""What outputs print of a report: the table of results, and single lines about its trials, models and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from robustness_gate.records.base import Metric
from robustness_gate.records.evidence import Unread
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.records.verdict import FindingKind
from robustness_gate.report.record import Report
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import metrics, strongest, tally
from robustness_gate.verdict.hypotheses import judged_in
from robustness_gate.verdict.wording import left_out, state

SHOWN = 12
"""Number of other weights that page one names; it counts the rest, and the record lists all."""


class Row(NamedTuple):
    """One line of the table of results."""

    attack: str
    seed_index: int
    budget: int
    task: str
    before: dict[Metric, float | None]
    """By metric of the task's kind, as declared; of the untouched candidate on the same questions."""
    after: dict[Metric, float | None]
    interval: tuple[float, float]
    """Two-sided 95 % Clopper-Pearson interval in the metric that decides."""
    metric: Metric
    """The metric that decides: the one that the limit is on."""
    limit: float
    finding: str
    attempt: int = 1
    asked: bool = True
    """False for a trial from an earlier run that is not part of this plan."""

    @property
    def suffix(self) -> str:
        """What distinguishes this line from a similar one: `, attempt 2, not asked for by this plan`."""
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return again + ("" if self.asked else f", {NOT_ASKED}")


NOT_ASKED = "not asked for by this plan"
"""Printed for a trial from an earlier run, perhaps of another suite."""


def table(report: Report) -> list[Row]:
    """The findings on hazard limits, with the untouched model's accuracy, in every metric."""
    measurements = {(m.trial, m.attempt, m.budget, m.task): m for record in report.trials for m in record.measurements}
    trials = {record.id: record for record in report.trials}
    before: dict[tuple[str, str], dict[Metric, float | None]] = {}
    for record in sorted(report.trials, key=lambda each: each.planned):  # this plan's own last: they replace the others
        if record.trial.role == Role.CANDIDATE and record.trial.attack == "none":
            before |= {
                (m.task, _questions(record.trial, m.task)): accuracies(record.trial, m) for m in record.measurements
            }
    rows = []
    for finding in report.verdict.findings:
        if not finding.hazard:
            continue
        measurement, record = (
            measurements[finding.trial, finding.attempt, finding.budget, finding.task],
            trials[finding.trial],
        )
        rows.append(
            Row(
                attack=finding.attack,
                seed_index=finding.seed_index,
                budget=finding.budget,
                task=finding.task,
                before=before.get((finding.task, _questions(record.trial, finding.task)), {}),
                after=accuracies(record.trial, measurement),
                interval=(
                    clopper_pearson_lower(finding.correct, finding.items, 0.025),
                    clopper_pearson_upper(finding.correct, finding.items, 0.025),
                ),
                metric=finding.metric,
                limit=finding.limit,
                finding=state(finding),
                attempt=finding.attempt,
                asked=record.planned,
            )
        )
    return rows


def _questions(trial: Trial, task: str) -> str:
    """Digest of a trial's questions of a task; another suite may use the same name for other questions."""
    return next((each.sha256 for each in trial.tasks if each.name == task), "")


def accuracies(trial: Trial, measurement: Measurement) -> dict[Metric, float | None]:
    """Accuracy in each metric of the task's kind, in its order, with missing items counted as wrong."""
    metrics = judged_in(measurement.task, trial).metrics
    return {metric: tally(measurement, metric)[0] / measurement.items for metric in metrics}


def further_metrics(rows: Sequence[Row]) -> list[Metric]:
    """Metrics that some row has besides the one that decides, in the order of their kinds: a column each."""
    return list(dict.fromkeys(metric for row in rows for metric in row.after if metric != row.metric))


def metric_lines(report: Report) -> list[str]:
    """What each metric of this report is, one line each, by task kind."""
    asked = {task.name: task for record in report.trials for task in record.trial.tasks}
    decide = {(asked[finding.task].kind, finding.metric) for finding in report.verdict.findings}
    kinds = {task.kind: task.judged for task in asked.values()}
    return [
        metrics.line(metric, kind, decides=(kind, metric) in decide)
        for kind, judged in kinds.items()
        for metric in judged.metrics
    ]


def not_tried(report: Report) -> list[str]:
    """Trials of the plan that have no end: left out by the command, or not run."""
    stopped = report.verdict.outcome == "FAIL" and report.resolved.statistics.fail_fast != "off"
    why = "not run to its end" + (", a breach was proved before" if stopped else "")
    never = [record for record in report.trials if record.planned and not record.closed]
    return [
        *map(left_out, report.left_out),
        *(f"{record.label}, seed {record.trial.seed_index}: {why}" for record in never),
    ]


def utility_lines(report: Report) -> list[str]:
    """The untouched model's utility, one line per task."""
    return [
        f"utility on '{f.task}': {f.observed:.1%} before any attack (at least {f.limit:.0%} is asked): {state(f)}"
        for f in report.verdict.findings
        if f.kind == FindingKind.UTILITY
    ]


def origins(report: Report) -> list[tuple[str, str]]:
    """Facts about the checkpoints besides their digests: an adapter's base, their sources, other weights."""
    base = report.manifest.base
    found = [("adapter merged on base", base)] if base is not None else []
    found += [(f"{each.name} from", each.source) for each in report.provenance]
    return [*found, *other_weights(report.unread)]


def other_weights(unread: Unread | None) -> Iterator[tuple[str, str]]:
    """Heading and text for each part of the candidate's repository that was not examined; nothing if all was."""
    if unread is None:
        yield "other weights of this repository", "not known, nothing is on record"
        return
    if unread.weights:
        more = f" and {len(unread.weights) - SHOWN} more" if len(unread.weights) > SHOWN else ""
        yield "other weights of this repository, not examined", ", ".join(unread.weights[:SHOWN]) + more
    if unread.wrapper:
        yield "not examined", f"what {unread.wrapper} has beside text"
    if not unread.listed:
        yield "other weights of this repository", "not known, its file list could not be had"


def sentence(report: Report) -> str:
    """The verdict in one sentence, with the strongest attack."""
    return f"{report.verdict.outcome}: {report.reason}"


def headline(report: Report) -> dict[str, Any]:
    """The main values, for a tracker or a job summary."""
    top = strongest(report.verdict.findings)
    return {
        "verdict": report.verdict.outcome,
        "reason": report.reason,
        "strongest_attack": top.attack if top else None,
        "strongest_accuracy": top.observed if top else None,
        "limit": top.limit if top else None,
        "decision": report.decision.outcome,
        "trials": report.verdict.trials,
    }
