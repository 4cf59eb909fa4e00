"""Projections of a Report: the same facts for a terminal, a pull request, a tracker.

Nothing here decides anything. A projection that cannot be made (a tracker that is down) is a warning; the verdict and
the exit code stand.

A publisher is a module that declares `FILE`, a name, and `render(report)`, which gives the file's text or bytes; or
`send(report, sending)`, which puts it where others look and returns that place in words. Ours are those modules of this
folder that declare one of the two, and are all made; a plug-in's is made where a command asks for it, after the report
is judged and written, so that it can change nothing in it. Adding an output is one file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robustness_gate.errors import GateError
from robustness_gate.inputs.plugins import Door
from robustness_gate.records.literals import declared, modules
from robustness_gate.report.record import Report

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Sending:
    """What a publisher that sends is told beside the report."""

    folder: Path
    """The run's, with report.json and the rest in it."""
    checkpoint: str
    """As the command named it."""
    tracking_uri: str | None = None
    """As the command named it; None: the publisher's own default."""


class NotSent(GateError):
    """A publisher could not put the report where it should. A warning: the verdict stands."""


def _lacks(module: ModuleType) -> list[str]:
    if hasattr(module, "send"):
        return []
    return [part for part in ("FILE", "render") if not hasattr(module, part)]


DOOR = Door("publish", "publisher", (), "unknown-publisher", group="publishers")


def ours(part: str) -> tuple[ModuleType, ...]:
    """Our publishers that declare `FILE`, or `SENDS`, in the order of their names."""
    return tuple(load(name) for name in modules("publish") if declared("publish", name, part))


def load(name: str) -> ModuleType:
    """A publisher, ours or a plug-in's. Raises PlanError where there is none, or it lacks a part."""
    return DOOR.load(name, lacks=_lacks)


def files(report: Report) -> dict[str, bytes]:
    """Every file that ours make of a report, by name."""
    return {module.FILE: as_bytes(module.render(report)) for module in ours("FILE")}


def as_bytes(made: str | bytes) -> bytes:
    """What a publisher has rendered."""
    return made.encode() if isinstance(made, str) else made
