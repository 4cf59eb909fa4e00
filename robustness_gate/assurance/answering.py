"""Whether a model can answer a suite's questions in the suite's format, measured on a few questions before a long run.

A small model that was never trained to answer by letter scores 25 % on four choices, whatever it knows: accuracy in
that format says nothing about its knowledge. Only the original shows whether unlearning removed the ability or it was
never there. The judge checks the same on all items (`unanswerable`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustness_gate import tasks
from robustness_gate.errors import NotApplicable
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.questions import asked
from robustness_gate.statistics import clopper_pearson_lower

HANDFUL = 24
"""Questions of each task, evenly spread. With four choices 11 must be right; a model that knows half usually has
that."""
ALPHA = 0.05


@dataclass(frozen=True)
class Answered:
    """How many of a few questions of one task a model answers correctly; no answer counts as wrong."""

    right: int
    items: int
    chance: float

    @property
    def answers(self) -> bool:
        """Whether that is significantly better than guessing."""
        return clopper_pearson_lower(self.right, self.items, ALPHA) > self.chance

    def __str__(self) -> str:
        """`7 of 24 right, guessing gives 25%`."""
        return f"{self.right} of {self.items} right, guessing gives {self.chance:.0%}"


def ask(lm: Any, suite: Mapping[str, TaskData], chances: Mapping[str, float]) -> dict[str, Answered]:
    """Ask a few questions of each task, by name. Tasks for the untouched model and tasks that do not apply are left
    out.

    Args:
        lm: the model, untouched.
        suite: the suite's tasks, with their formats.
        chances: the accuracy of guessing in each task, in [0, 1].
    """
    found = {}
    for name, task_data in suite.items():
        if task_data.untouched_only:  # informational, or hides the question
            continue
        few = task_data.items[:: max(1, len(task_data.items) // HANDFUL)][:HANDFUL]
        task = tasks.load(task_data.kind)
        with contextlib.suppress(NotApplicable):  # the trial will report it
            rows = asked(task, lm, [item.question for item in few], task_data.form)
            marked = task.read(rows, [item.right for item in few])
            decided = marked.correct[task.JUDGED.deciding]
            right = (good and not gone for good, gone in zip(decided, marked.missing, strict=True))
            found[name] = Answered(sum(right), len(few), chances[name])
    return found
