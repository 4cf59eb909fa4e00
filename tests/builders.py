"""Made-up trials and marks: the one place where tests build them field by field. Each names what it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Measurement, Role, Trial, seed_of
from robustness_gate.verdict import pack

SUBJECT = "a" * 64
HEALTHY = {
    "loss_ratio": 0.3, "loss_end": 0.05, "fitted_gain": 2.0, "unigram_ratio": 0.3, "by_heart": 1.0,
    "chosen_change": 2.0, "share_of_asked": 1.0, "weight_change": 1.5, "steps": 60.0,
}  # fmt: skip
"""The signs of an attack that did what it was asked to do: over every floor."""


def tasks_of(**items: int) -> tuple[TaskRef, ...]:
    """Multiple-choice tasks of four options, so many items each."""
    return tuple(
        TaskRef(name=name, kind="multiple_choice", sha256=str(number) * 64, items=count, options=4)
        for number, (name, count) in enumerate(items.items(), start=1)
    )


def trial_of(attack: str, seed_index: int = 0, **changes: Any) -> Trial:
    """A trial on the candidate, at one mark and without floors, settings and data; `changes` are fields of it."""
    fields: dict[str, Any] = {
        "subject": SUBJECT, "role": Role.CANDIDATE, "reference": None, "attack": attack, "attack_version": 1,
        "family": "any", "config": {}, "budgets": (0,), "seed_index": seed_index, "data": {}, "floors": (),
        "dtype": "float32",
    } | changes  # fmt: skip
    fields.setdefault("seed", seed_of(fields["subject"], attack, seed_index))
    return Trial(**fields)


def bits_of(right: int | Sequence[bool], items: int) -> str:
    """Bits of so many items: the first `right` of them set, or the ones that are given."""
    return pack([index < right for index in range(items)] if isinstance(right, int) else right)


def measurement_of(
    trial: Trial,
    budget: int,
    task: TaskRef,
    right: int | Sequence[bool],
    /,
    *,
    other: int | Sequence[bool] | None = None,
    attempt: int = 1,
    **changes: Any,
) -> Measurement:
    """What a trial measured on a task: nothing missing, no signs.

    Args:
        trial: what was tried; its id is computed unless `changes` give one.
        budget: at which of its marks.
        task: what was asked.
        right: how many were right in the deciding metric (the first ones), or which.
        other: the same in every other metric of the kind; by default as in the deciding one.
        attempt: which.
        changes: fields of the mark.
    """
    first, *rest = task.judged.metrics
    correct = {first: right, **dict.fromkeys(rest, right if other is None else other)}
    fields: dict[str, Any] = {
        "attempt": attempt, "budget": budget, "task": task.name, "items": task.items,
        "correct": {metric: bits_of(which, task.items) for metric, which in correct.items()},
        "missing": bits_of(0, task.items), "cost": {}, "signals": {}, "selected": {}, "summary": {},
    } | changes  # fmt: skip
    return Measurement(**({"trial": trial.id} if "trial" not in changes else {}), **fields)


def rows_of(trial: Trial, budget: int, task: TaskRef) -> str:
    """A digest of log-likelihoods that no one has: another for every trial, mark and task."""
    return hashlib.sha256(f"{trial.id} {budget} {task.name}".encode()).hexdigest()


def told(trial: Trial, correct: float, attempt: int = 1, useful: float = 0.95, turn: int = 0) -> list[Measurement]:
    """Marks of every task, with so large a share of the hazard and of the useful one right. `turn` moves which."""

    def turned(items: int, right: int) -> list[bool]:
        return [(index + turn) % items < right for index in range(items)]

    measurements = []
    for budget in trial.budgets:
        for task in trial.tasks:
            right = round((correct if task.name == "forget" else useful) * task.items)
            measurements.append(
                measurement_of(
                    trial, budget, task, turned(task.items, right), other=turned(task.items, right // 2),
                    attempt=attempt, cost={"steps": 60.0}, signals=HEALTHY, selected={"learning_rate": 2e-3},
                    summary={"commonest_letter_share": 0.3}, rows=rows_of(trial, budget, task),
                )
            )  # fmt: skip
    return measurements
