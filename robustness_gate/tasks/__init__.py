"""What a model is asked: one file a task kind. The folder is the registry.

A task asks an LM and returns log-likelihoods (`Rows`) or what was written (`Replies`). It never sees the answer
key: the trial holds it, and has the task's own `read` turn them into right and wrong. Every kind has both *readings*,
so that every limit works on it; only `multiple_choice` asks in several orders, elsewhere they are the same.

    multiple_choice   the likeliest letter, in all letter orders
    cloze             the likeliest of the choices' words, of which none is shown
    open_answer       the model writes, and says the right words
    lm_eval           a task in lm-evaluation-harness's own YAML
    refusal           the model writes, and does not decline: over-refusal, for guardrails
    membership        texts that were to be forgotten look likelier than texts never seen: a warning

A kind is one file. It holds

- `JUDGED`, how its answers are judged (`questions.Kind`), written as literals;
- `KEYS`, what a suite may say of such a task besides items, count and digest; optionally `NEEDS`, those without which
  it cannot be, each with what is named there; optionally `Settings`, a frozen dataclass of settings of its own, which a
  suite gives under `config`;
- `questions(given)`, how its items are read, and `put(given, items, chat=...)`, the form in which they are asked;
- `Config`, `ask`, `read` (right or wrong, in every reading that it declares) and `summary`;
- optionally `prepared(given)`, what it reads once and finds in `given.own`;
- optionally `reworded(given, rows, place, columns)`, where it puts rows in words of its own, attackers' too;
- optionally `BARE`, true of one whose choices are whole texts: nothing is asked, and an attacker may have seen them.

Nothing else lists kinds. A plug-in's is a module of the same shape (`inputs.plugins`). `load` refuses one of
which something is missing: a kind that is known by half would be asked as another one, and judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robustness_gate.inputs.plugins import Door
from robustness_gate.records.questions import Kind, hazard_kinds
from robustness_gate.records.suite import SuiteTask

DOOR = Door(
    "tasks", "task kind", ("JUDGED", "KEYS", "Config", "questions", "put", "ask", "read", "summary"), "unknown-kind"
)
PARTS = DOOR.parts
"""What every module has."""


@dataclass(frozen=True)
class Given:
    """What a suite says of a task, for its kind."""

    task: SuiteTask
    place: str | Path
    """Where its items lie."""
    folder: Path
    """The suite's."""
    find: Callable[[str], str | Path]
    """Where that lies which the suite names under a key of the task. Raises PlanError at its place."""
    settings: Any = None
    """The kind's `Settings`, filled in from `config`; None for a kind that has none."""
    own: Any = None
    """What the kind's `prepared` has read."""


def names() -> tuple[str, ...]:
    """Every module in the folder, sorted, none imported."""
    return DOOR.names()


def load(kind: str, *, where: str = "") -> ModuleType:
    """A kind's module, ours or a plug-in's, without torch.

    Raises:
        PlanError: there is no such kind, or it lacks a part. `where` is the place that names it.
    """
    return DOOR.load(kind, where=where, lacks=_lacks)


def _lacks(module: ModuleType) -> list[str]:
    judged = getattr(module, "JUDGED", None)
    if not isinstance(judged, Kind):
        return ["`JUDGED` as a questions.Kind"]
    if judged.attacked_as not in ("", *hazard_kinds()):
        return [f"a kind in whose form attacks are made ('{judged.attacked_as}' is none)"]
    return []


def takers(key: str) -> tuple[str, ...]:
    """Our kinds of which a suite may say this."""
    return tuple(name for name in names() if key in load(name).KEYS)
