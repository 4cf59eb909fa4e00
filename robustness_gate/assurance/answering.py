"""Can a model answer a suite's questions at all, put as the suite puts them? Seen on a handful, before hours are spent.

A small model that was never taught to answer by letter reads 25 % of any four choices, whatever it knows and whatever
was unlearned: nothing that is asked of it in that form tells anything. Whether unlearning took the ability away, or it
never was there, only the original shows. The judge looks at the same on all items (`unanswerable`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustness_gate import tasks
from robustness_gate.errors import NotApplicable
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.statistics import clopper_pearson_lower

HANDFUL = 24
"""Questions of each task, evenly spread. Of four choices 11 must then be right: a model that knows half mostly has."""
ALPHA = 0.05


@dataclass(frozen=True)
class Heard:
    """What a model has right of a handful of one task's questions, what has no answer being wrong."""

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


def ask(lm: Any, suite: Mapping[str, TaskData], chances: Mapping[str, float]) -> dict[str, Heard]:
    """Ask a handful of each task, by name. Left out are baselines, and tasks that this model cannot be asked.

    Args:
        lm: the model, untouched.
        suite: the suite's tasks, with their formats.
        chances: what guessing gives in each, in [0, 1].
    """
    found = {}
    for name, task_data in suite.items():
        if task_data.untouched_only:  # it only tells, or hides the question: nobody need be good at it
            continue
        few = task_data.items[:: max(1, len(task_data.items) // HANDFUL)][:HANDFUL]
        task = tasks.load(task_data.kind)
        with contextlib.suppress(NotApplicable):  # a trial will say so
            rows = task.ask(lm, task.Config(tuple(item.question for item in few), task_data.form))
            marked = task.read(rows, [item.right for item in few])
            right = (
                good and not gone for good, gone in zip(marked.correct["content_sum"], marked.missing, strict=True)
            )
            found[name] = Heard(sum(right), len(few), chances[name])
    return found
