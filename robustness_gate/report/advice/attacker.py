"""The strongest attack with its numbers, and the breach with the least effort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustness_gate.records.base import Metric
from robustness_gate.records.verdict import Finding
from robustness_gate.report.advice.case import Case, hazard, measurement_of, own, record_of
from robustness_gate.report.advice.words import count, short
from robustness_gate.report.table import accuracies
from robustness_gate.verdict.wording import state


@dataclass(frozen=True)
class Tried:
    """One attack at one budget, with a description and its accuracies in every metric."""

    attack: str
    does: str
    """The description from the attack's own file; empty if it is not known."""
    budget: int
    seed_index: int
    settings: str
    cost: str
    task: str
    metric: Metric
    """The metric that decides."""
    before: Mapping[Metric, float | None]
    """The untouched model's accuracies; empty if it was not examined."""
    after: Mapping[Metric, float | None]
    lower: float
    upper: float
    limit: float
    finding: str

    @property
    def name(self) -> str:
        """`relearn (forget, lora) at budget 50`."""
        name = "no attack" if self.attack == "none" else self.attack
        return name + (f" at budget {self.budget}" if self.budget else "")


def tried(case: Case, finding: Finding) -> Tried:
    """The attack behind a finding."""
    record, measurement = record_of(case, finding), measurement_of(case, finding)
    config = record.trial.config if record else {}
    chosen = (
        {key: value for key, value in measurement.selected.items() if key not in ("grid_edge", "loss")}
        if measurement
        else {}
    )
    settings = [f"{key} {value}" for key, value in config.items() if isinstance(value, str)]
    settings += [f"{key.replace('_', ' ')} {short(value)}" for key, value in chosen.items()]
    return Tried(
        attack=finding.attack,
        does=case.attacks.get(record.trial.attack, "") if record else "",
        budget=finding.budget,
        seed_index=finding.seed_index,
        settings=", ".join(settings),
        cost=", ".join(count(value, key) for key, value in (measurement.cost if measurement else {}).items() if value),
        task=finding.task,
        metric=finding.metric,
        before=_untouched(case, finding.task),
        after=accuracies(record.trial, measurement) if record and measurement else {finding.metric: finding.observed},
        lower=finding.lower,
        upper=finding.upper,
        limit=finding.limit,
        finding=state(finding),
    )


def cheapest_breach(case: Case) -> Finding | None:
    """The breach with the least effort: no attack first, then fewer examples, then fewer tokens."""

    def effort(finding: Finding) -> tuple[Any, ...]:
        measurement = measurement_of(case, finding)
        cost = measurement.cost if measurement else {}
        return finding.attack != "none", cost.get("examples", 0.0), cost.get("tokens", 0.0), finding.budget

    return min((f for f in hazard(case) if f.state == "over"), key=effort, default=None)


def _untouched(case: Case, task: str) -> Mapping[Metric, float | None]:
    found = [(r.trial, m) for r in own(case) if r.trial.attack == "none" for m in r.measurements if m.task == task]
    return accuracies(*found[-1]) if found else {}
