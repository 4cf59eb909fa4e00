"""In which forms of the hazard an attack can be made, and why not in the others.

An attack declares it in its own file (`SPEAKS`, `cannot`, `questions`), the suite's data decide the rest, and both
`plan` and the trial ask here: what is foreseen and what happens cannot differ. An attack never does something else in
place of what it cannot do. Where it speaks no form of the hazard it is not applicable; where it speaks some, it is made
in these, its trial names them, and a limit on any other task cannot be met by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from robustness_gate.records.attack import Hazard


@dataclass(frozen=True)
class Applicable:
    """How an attack stands to each form of the hazard."""

    hazards: tuple[Hazard, ...]
    """Those in which it is made."""
    reasons: Mapping[str, str]
    """Why not in the others, by their names."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tasks, with their formats, in whose form it is made."""
        return tuple(each.name for each in self.hazards)

    @property
    def why_not(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"'{name}': {reason}" for name, reason in self.reasons.items())


def of(module: ModuleType, config: Any, hazards: Sequence[Hazard]) -> Applicable:
    """Divide the forms of the hazard into those in which an attack with this config can be made, and the others."""
    reasons = {each.name: reason for each in hazards if (reason := _why_not(module, config, each))}
    return Applicable(tuple(each for each in hazards if each.name not in reasons), reasons)


def _why_not(module: ModuleType, config: Any, hazard: Hazard) -> str:
    kind = hazard.task.JUDGED.attacked_as
    if kind not in module.SPEAKS:
        return str(module.WHY_NOT)
    if hasattr(module, "cannot") and (reason := module.cannot(config, kind)):
        return str(reason)
    return next((hazard.missing[each] for each in module.questions(config) if each in hazard.missing), "")
