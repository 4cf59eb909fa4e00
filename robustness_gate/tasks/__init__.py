"""The task kinds: one file each. The folder is the registry.

A task asks an LM and returns log-likelihoods (`Rows`) or written answers (`Replies`). It never gets the answer key: the
trial holds it, and uses the task's own `read` to score the answers, in the *metrics* that the kind declares. The first
one decides.

A kind is one file. It holds

- `JUDGED`, how its answers are scored (`robustness_gate.records.questions.Kind`), written as literals;
- `METRICS`, what each of its metrics is, by name, in the order of `JUDGED`, written as literals: reports print these
  lines. A plug-in's kind needs none, because reports read nothing of a plug-in and name the kind instead;
- `KEYS`, a suite's keys for such a task besides items, count and digest; optionally `NEEDS`, the required ones, each
  with a description of its value; optionally `Settings`, a frozen dataclass of settings of its own, which a suite gives
  under `config` and which count in the task's digest. `questions`, `put`, `prepared` and `reworded` find them as
  `declared.settings`, `ask` as `config.form.settings`, `read` and `summary` as `rows.settings`;
- `questions(declared)`, which reads its items: each has at least two choices and the index of the right one, also where
  the answer is written (`open_answer`); and `put(declared, items, chat=...)`, the form in which they are asked;
- `Config`, `ask`, `read` (right or wrong, in every metric that it declares) and `summary`;
- optionally `prepared(declared)`, data that are read once and then available as `declared.own`;
- optionally `reworded(declared, rows, place, columns)`, which makes its own prompts of any rows, also the attackers',
  as a tuple of Items. `rows` are pairs of a row's place, for messages, and the row, a mapping; `place` is their source;
  `columns` are the columns of the task's own rows if the rows must be exactly like these, and None for rows of any
  shape. It raises FileError for rows of which it makes no prompt. A kind whose prompts are not its rows' `question`,
  `choices` and `answer` as they stand needs it;
- optionally `BARE`, true of a kind whose choices are whole texts: there are no questions, and an attacker may have the
  texts.

A plug-in's kind is a module of the same shape (`inputs.plugins`). `load` refuses an incomplete one, which would be
asked and scored like another kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from robustness_gate.inputs.plugins import Door
from robustness_gate.inputs.rows import Place
from robustness_gate.records.literals import declared
from robustness_gate.records.questions import Kind, hazard_kinds
from robustness_gate.records.suite import SuiteTask

DOOR = Door(
    "tasks", "task kind", ("JUDGED", "KEYS", "Config", "questions", "put", "ask", "read", "summary"), "unknown-kind"
)
PARTS = DOOR.parts
"""Names that every module must have."""


@dataclass(frozen=True)
class Declared:
    """A suite's declarations of a task, for its kind."""

    task: SuiteTask
    place: Place
    """The location of its items."""
    folder: Path
    """The suite's folder."""
    find: Callable[[str], str | Path]
    """The location of the source under a key of the task. Raises PlanError at its place."""
    settings: Any = None
    """The kind's `Settings`, filled in from `config`; None for a kind that has none."""
    own: Any = None
    """The result of the kind's `prepared`."""


def names() -> tuple[str, ...]:
    """The names of all modules in the folder, sorted; none is imported."""
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
    name = DOOR.name_of(module)
    if "/" in name or _describes(name, judged):
        return []
    return [f"`METRICS` with {', '.join(judged.metrics)} as literals"]


def _describes(name: str, judged: Kind) -> bool:
    """Whether a kind of ours describes its metrics where reports read it, in its source."""
    try:
        described = declared("tasks", name, "METRICS")
    except ValueError:  # not literals
        return False
    if not isinstance(described, dict) or tuple(described) != judged.metrics:
        return False
    return all(isinstance(what, str) and what.strip() and "\n" not in what for what in described.values())


def takers(key: str) -> tuple[str, ...]:
    """Our kinds that allow this key."""
    return tuple(name for name in names() if key in load(name).KEYS)
