"""Where a checkpoint lies on this machine, and what its files are to a loader."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from robustness_gate.inputs.filekinds import ADAPTER

HUB = re.compile(r"hf:(?://)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<commit>[0-9a-f]{40})", re.ASCII)


@dataclass(frozen=True)
class CheckpointRef:
    """Where a checkpoint lies on this machine, for this run alone: no path in it is ever written down."""

    path: Path
    base: CheckpointRef | None = None
    """What an adapter stands on; None for an ordinary checkpoint."""
    links_into: Path | None = None
    """The blobs folder of the Hugging Face cache into which this snapshot's links may lead; None for a directory."""
    source: str | None = None
    """Where it came from, in words that mean the same on every machine: `hf://owner/name@commit`, `organism:NAME`."""
    listed: tuple[tuple[str, int], ...] | None = None
    """Every file of the commit with its size in bytes; None for a directory, and where the list could not be had."""


@dataclass(frozen=True)
class Survey:
    """The files of a checkpoint, divided by what they are to a loader; paths relative to it, sorted."""

    read: tuple[str, ...]
    weights: tuple[str, ...] = ()
    """Other weights, or what may be some."""
    code: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()
    """Prose, pictures, logs."""


def model_type(place: CheckpointRef) -> str:
    """What config.json says, of the base where the checkpoint is an adapter; empty where it says nothing."""
    try:
        config = json.loads(((place.base or place).path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def is_adapter(place: CheckpointRef) -> bool:
    """Whether the directory holds a PEFT adapter; it may hold a whole model beside it, which `manifest_of` refuses."""
    return (place.path / ADAPTER).is_file()
