"""A checkpoint's location on this machine, and its files by kind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness_gate.inputs.filekinds import ADAPTER

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""Under which names configs have the number of decoder layers."""
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


TEXT_PARTS = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
}
"""The `model_type` of the text part of each model in `filekinds.WRAPPERS`. It is fixed by the wrapper's class, so the
one that a config names for its text part is not read."""


def model_type(place: CheckpointRef) -> str:
    """The `model_type`, as transformers has it, of what is examined; empty where config.json names none.

    That of the base where the checkpoint is an adapter, and of the text part where a model has others.
    """
    return text_part(str(_config(place).get("model_type", "")))


def layers_of(place: CheckpointRef) -> int | None:
    """The number of decoder layers that config.json names, of the same model; None where it names none."""
    config = _config(place)
    inner = config.get("text_config")
    named = {**config, **inner} if isinstance(inner, dict) else config
    return next((named[key] for key in LAYERS if type(named.get(key)) is int and named[key] > 0), None)


def _config(place: CheckpointRef) -> dict[str, Any]:
    try:
        config = json.loads(((place.base or place).path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def text_part(model_type: str) -> str:
    """The `model_type` of a model's text part: its own, unless it is a wrapper."""
    return TEXT_PARTS.get(model_type, model_type)


def is_adapter(place: CheckpointRef) -> bool:
    """Whether the directory holds a PEFT adapter; it may also hold a whole model, which `manifest_of` refuses."""
    return (place.path / ADAPTER).is_file()
