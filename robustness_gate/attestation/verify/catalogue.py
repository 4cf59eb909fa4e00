"""What this release's attacks prescribe for a trial; the only module of `verify` that reads the attacks, without
torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

from robustness_gate import attacks, tasks
from robustness_gate.errors import PlanError
from robustness_gate.inputs import plugins
from robustness_gate.records.encode import Json, encode, parse
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.questions import Kind
from robustness_gate.records.trial import Trial


class Prescribed(NamedTuple):
    """Everything that an attack's name and settings determine."""

    version: int
    config: dict[str, Json]
    """The settings with every default filled in."""
    family: str
    budgets: tuple[int, ...]
    kinds: tuple[str, ...]
    """The kinds of hazard task in whose form it can run."""


class Unknown(Exception):
    """This release has no such attack, or the attack has no such settings. `message` says which."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def prescribed(attack: str, config: Mapping[str, Json]) -> Prescribed:
    """What this release's attack of that name prescribes for these settings. Raises Unknown."""
    try:
        return _prescribed(attacks.load(attack), encode(config))
    except (PlanError, attacks.BadConfig) as error:
        raise Unknown(error.message) from None


@lru_cache(maxsize=1024)
def _prescribed(module: ModuleType, config: bytes) -> Prescribed:
    """The same for settings as canonical JSON: the trials of many seeds have the same. Raises BadConfig."""
    read = attacks.configure(module, parse(config))
    return Prescribed(
        module.VERSION, attacks.as_json(read), module.FAMILY, attacks.budgets(read), tuple(sorted(module.SPEAKS))
    )


def judged(kind: str) -> Kind:
    """The scoring of a kind of task here, ours or an installed plug-in's. Raises Unknown."""
    try:
        found: Kind = tasks.load(kind).JUDGED
    except PlanError as error:
        raise Unknown(error.message) from None
    return found


def has(test: SelfTest) -> bool:
    """Whether this release has the attack that was tested, in this version, and a plug-in's in this content."""
    if "/" in test.attack and plugins.of((test.attack,)) != test.plugins:
        return False
    known = "/" in test.attack or test.attack in attacks.names()
    return known and bool(test.attack_version == attacks.load(test.attack).VERSION)


def is_at_strength_zero(trial: Trial) -> bool:
    """Whether a sham's settings are the attack's SHAM, apart from the settings that select data."""
    module = attacks.load(trial.attack)
    config = attacks.configure(module, trial.config)
    borrowed = {name: getattr(config, name) for name in attacks.WHICH_DATA if hasattr(module.SHAM, name)}
    return bool(config == dataclasses.replace(module.SHAM, **borrowed))


def has_its_floors(trial: Trial) -> bool:
    """Whether a trial's strength floors are those of its attack."""
    return bool(trial.floors == attacks.load(trial.attack).FLOORS)
