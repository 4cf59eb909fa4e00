"""A checkpoint's location on this machine, and its files by kind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from robustness_gate.inputs.filekinds import ADAPTER

HUB = re.compile(r"hf:(?://)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<commit>[0-9a-f]{40})", re.ASCII)


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint's location on this machine, for this run alone: its paths are never recorded."""

    path: Path
    base: CheckpointRef | None = None
    """The base of an adapter; None for an ordinary checkpoint."""
    links_into: Path | None = None
    """The blobs folder of the Hugging Face cache into which this snapshot's links may lead; None for a directory."""
    source: str | None = None
    """Its origin, independent of the machine: `hf://owner/name@commit`, `organism:NAME`."""
    listed: tuple[tuple[str, int], ...] | None = None
    """Every file of the commit with its size in bytes; None for a directory, and where the list is not available."""


@dataclass(frozen=True)
class Survey:
    """The files of a checkpoint by their kind for a loader; relative paths, sorted."""

    read: tuple[str, ...]
    weights: tuple[str, ...] = ()
    """Other weights, or files that may be weights."""
    code: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()
    """Documents, pictures, logs."""


def model_type(place: CheckpointRef) -> str:
    """`model_type` in config.json, of the base where the checkpoint is an adapter; empty where it is missing."""
    try:
        config = json.loads(((place.base or place).path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def is_adapter(place: CheckpointRef) -> bool:
    """Whether the directory holds a PEFT adapter; it may also hold a whole model, which `manifest_of` refuses."""
    return (place.path / ADAPTER).is_file()
