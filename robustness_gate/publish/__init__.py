"""Outputs of a Report: the same facts for a terminal, a pull request, a tracker.

Nothing here decides anything. An output that fails (a tracker that is down) is a warning; the verdict and the exit code
do not change.

A publisher is a module that declares `FILE`, a name, and `render(report)`, which returns the file's text or bytes; or
`SENDS`, the destination's name, and `send(report, sending)`, which sends the report there and returns the place as
text. Both names are literals, because they are read from the source. Ours are the modules of
this folder that declare one of the two, and all of them run; a plug-in's runs if a command asks for it, after the
report is judged and written, so that it cannot change the report. Adding an output means adding one file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from robustness_gate.errors import GateError, PlanError
from robustness_gate.inputs.plugins import Door
from robustness_gate.records.literals import declared, modules
from robustness_gate.report.record import Report

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Sending:
    """What a publisher with `send` gets besides the report."""

    folder: Path
    """The run's folder, with report.json and the other files."""
    checkpoint: str
    """As the command named it."""
    tracking_uri: str | None = None
    """As the command named it; None: the publisher's own default."""


class NotSent(GateError):
    """A publisher could not send the report. A warning: the verdict does not change."""


def _lacks(module: ModuleType) -> list[str]:
    if hasattr(module, "send"):
        return []
    return [part for part in ("FILE", "render") if not hasattr(module, part)]


DOOR = Door("publish", "publisher", (), "unknown-publisher", group="publishers")


def ours(part: str) -> tuple[ModuleType, ...]:
    """Our publishers that declare `FILE`, or `SENDS`, in the order of their names."""
    return tuple(load(name) for name in modules("publish") if declared("publish", name, part))


def check(name: str) -> None:
    """Whether a publisher that a command asks for is installed; it is not imported. Ours always run.

    Raises:
        PlanError: no plug-in has a publisher of that name.
    """
    if "/" not in name:
        raise PlanError(
            f"'{name}' is no publisher of a plug-in.",
            remedy="Shipped outputs are always written. Name another's as DISTRIBUTION/NAME.",
            code="unknown-publisher",
        )
    DOOR.check(name)


def load(name: str) -> ModuleType:
    """A publisher, ours or a plug-in's. Raises PlanError if it does not exist or lacks a part."""
    return DOOR.load(name, lacks=_lacks)


def files(report: Report) -> dict[str, bytes]:
    """Every file that our publishers render from a report, by name."""
    return {module.FILE: as_bytes(module.render(report)) for module in ours("FILE")}


def as_bytes(made: str | bytes) -> bytes:
    """The bytes that a publisher has rendered."""
    return made.encode() if isinstance(made, str) else made
