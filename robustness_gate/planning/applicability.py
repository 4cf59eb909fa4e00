"""In which forms of the hazard an attack can run, and why not in the others.

An attack declares it in its own file (`SPEAKS`, `cannot`, `questions`), and the suite's data decide the rest. Both
`plan` and the trial use this module, so they cannot differ. An attack never substitutes another form for one in which
it cannot run. Without any form of the hazard it is not applicable; with some, it runs in these, its trial names them,
and it cannot establish compliance with a limit on another task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from robustness_gate.records.attack import Hazard


@dataclass(frozen=True)
class Applicable:
    """The forms of the hazard in which an attack can and cannot run."""

    hazards: tuple[Hazard, ...]
    """The forms in which it runs."""
    reasons: Mapping[str, str]
    """The reasons for the other forms, by task."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, with their formats, in whose form it runs."""
        return tuple(each.name for each in self.hazards)

    @property
    def why_not(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"'{name}': {reason}" for name, reason in self.reasons.items())


def of(module: ModuleType, config: Any, hazards: Sequence[Hazard]) -> Applicable:
    """Divide the forms of the hazard into those in which an attack with this config can run, and the others."""
    reasons = {each.name: reason for each in hazards if (reason := _why_not(module, config, each))}
    return Applicable(tuple(each for each in hazards if each.name not in reasons), reasons)


def _why_not(module: ModuleType, config: Any, hazard: Hazard) -> str:
    kind = hazard.task.JUDGED.attacked_as
    if kind not in module.SPEAKS:
        return str(getattr(module, "WHY_NOT", f"its SPEAKS does not list the kind '{kind}'"))
    if hasattr(module, "cannot") and (reason := module.cannot(config, kind)):
        return str(reason)
    return next((hazard.missing[each] for each in module.questions(config) if each in hazard.missing), "")
