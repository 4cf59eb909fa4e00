"""Whether an attempt that ended well has every answer that it was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from robustness_gate.evidence.answers import in_metrics
from robustness_gate.records.trial import Measurement, Trial
from robustness_gate.records.verdict import Blocker
from robustness_gate.verdict.hypotheses import judged_in, named


def incomplete(trial: Trial, attempt: int, measurements: Iterable[Measurement]) -> Blocker | None:
    """A blocker for the answers that an attempt lacks although it ended well; None if it is complete.

    A measurement must have exactly the metrics of its task's kind, with one bit per item in each: removing one would
    hide the changes in it.

    Args:
        trial: a trial; every one of its tasks is asked at every one of its budgets.
        attempt: an attempt that was closed as `ok`.
        measurements: the trial's measurements, of any attempt.
    """
    there = {
        (each.budget, each.task)
        for each in measurements
        if each.attempt == attempt and in_metrics(each, judged_in(each.task, trial).metrics)
    }
    gone = [(budget, task.name) for budget in trial.budgets for task in trial.tasks if (budget, task.name) not in there]
    if not gone:
        return None
    budget, task = gone[0]
    args = {**named(trial), "attempt": attempt, "task": task, "budget": budget, "more": len(gone) - 1}
    return Blocker(code="incomplete", args=args)
