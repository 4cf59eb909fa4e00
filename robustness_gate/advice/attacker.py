"""What the attacker did, in words and numbers; and of all that breaks a limit, what takes the least effort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustness_gate.advice.case import Case, hazard, mark_of, own, record_of
from robustness_gate.advice.words import count, short
from robustness_gate.nouns import Finding, Reading
from robustness_gate.report import readings, words


@dataclass(frozen=True)
class Tried:
    """One attack at one budget, in words and in both readings."""

    attack: str
    does: str
    """What the attacker does, in the words of the attack's own file; empty where nobody told them."""
    mark: int
    seed_index: int
    settings: str
    spent: str
    task: str
    reading: Reading
    """The one that decides."""
    before: Mapping[Reading, float | None]
    """What the untouched model answers; empty where it was not examined."""
    after: Mapping[Reading, float | None]
    lower: float
    upper: float
    limit: float
    finding: str

    @property
    def name(self) -> str:
        """`relearn (forget, lora) at budget 50`."""
        name = "no attack" if self.attack == "none" else self.attack
        return name + (f" at budget {self.mark}" if self.mark else "")


def tried(case: Case, finding: Finding) -> Tried:
    """The attack behind a finding."""
    record, mark = record_of(case, finding), mark_of(case, finding)
    config = record.trial.config if record else {}
    chosen = {key: value for key, value in mark.chosen.items() if key not in ("grid_edge", "loss")} if mark else {}
    settings = [f"{key} {value}" for key, value in config.items() if isinstance(value, str)]
    settings += [f"{key.replace('_', ' ')} {short(value)}" for key, value in chosen.items()]
    return Tried(
        attack=finding.attack,
        does=case.attacks.get(record.trial.attack, "") if record else "",
        mark=finding.mark,
        seed_index=finding.seed_index,
        settings=", ".join(settings),
        spent=", ".join(count(value, key) for key, value in (mark.spent if mark else {}).items() if value),
        task=finding.task,
        reading=finding.reading,
        before=_untouched(case, finding.task),
        after=readings(mark) if mark else {finding.reading: finding.observed},
        lower=finding.lower,
        upper=finding.upper,
        limit=finding.limit,
        finding=words(finding),
    )


def cheapest_breach(case: Case) -> Finding | None:
    """What the least effort breaks a limit with: nothing at all, then no examples, then few, then few tokens."""

    def effort(finding: Finding) -> tuple[Any, ...]:
        mark = mark_of(case, finding)
        spent = mark.spent if mark else {}
        return finding.attack != "none", spent.get("examples", 0.0), spent.get("tokens", 0.0), finding.mark

    return min((f for f in hazard(case) if f.state == "over"), key=effort, default=None)


def _untouched(case: Case, task: str) -> Mapping[Reading, float | None]:
    marks = [m for r in own(case) if r.trial.attack == "none" for m in r.marks if m.task == task]
    return readings(marks[-1]) if marks else {}
