"""Which modules have which verb: a command imports, and typer builds, only what it needs.

A module registers its commands with typer when it is imported. To import all of them, and to build every option of
every command, takes longer than most verbs take to do their work.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import MappingProxyType

MODULES = MappingProxyType(
    {
        "audit": ("auditing",),
        "calibrate": ("calibrating",),
        "run": ("checkpoints",),
        "plan": ("checkpoints",),
        "doctor": ("doctor",),
        "judge": ("evidence",),
        "why": ("evidence",),
        "compare": ("evidence",),
        "init": ("house",),
        "attacks": ("house",),
        "self-test": ("house",),
        "schema": ("house",),
        "demo": ("house",),
        "sign": ("verifying",),
        "verify": ("verifying",),
        "policy": ("linting", "policies", "signing"),
        "suites": ("suites",),
        "keys": ("signing",),
        "attack": ("house",),
        "organisms": ("organisms",),
        "checkpoint": ("doctor",),
    }
)
"""The modules of this room that register a verb or a group of verbs, in the order of the help."""
ALL = tuple(dict.fromkeys(module for modules in MODULES.values() for module in modules))


def imported(modules: Iterable[str]) -> bool:
    """Import modules of this room; whether any of them is new."""
    names = [f"{__package__}.{each}" for each in modules]
    new = [each for each in names if each not in sys.modules]
    for each in new:
        importlib.import_module(each)
    return bool(new)
