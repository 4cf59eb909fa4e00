"""In which precision a checkpoint lies on disk: read from the files that hold it, not from what its config says.

A model that is examined in another precision than the one in which it is used is, strictly, another model: rounding can
hide an edit, or undo it. So a policy may pin the suite's, and a report says on page one where it is not the stored one.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.records.evidence import Stored

NAMES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Of the safetensors format; other floating ones are shown as they are there."""
WHOLE = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
"""No weights, unless they are quantised: old files of GPT-2 hold masks."""


def stored(place: CheckpointRef) -> Stored:
    """What the safetensors headers at the root of a checkpoint tell, and of an adapter those of its base too.

    Raises:
        CheckpointError: a header declares no tensors in the way of the format, or there are no weights at all.
    """
    under = place.base or place
    config = _config(under.path)
    quantized = bool(config.get("quantization_config"))
    said = config.get("dtype", config.get("torch_dtype"))
    found = Stored(
        weights=_counted(under.path, whole=quantized),
        adapter=_counted(place.path, whole=False) if place.base is not None else {},
        config_dtype=said.removeprefix("torch.") if isinstance(said, str) else "",
        quantized=quantized,
    )
    if not found.weights:
        raise CheckpointError("the safetensors files hold no weights", where=str(under.path))
    return found


def shares(counts: dict[str, int]) -> str:
    """`bfloat16`, or `bfloat16 (98%) and float32 (2%)`: the commonest first."""
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return " and ".join(name + (f" ({count / total:.0%})" if len(ordered) > 1 else "") for name, count in ordered)


def _config(directory: Path) -> dict[str, Any]:
    """The part of config.json that speaks of the text model, over the rest."""
    try:
        found = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    inner = found.get("text_config")
    return {**found, **inner} if isinstance(inner, dict) else found


def _counted(directory: Path, *, whole: bool) -> dict[str, int]:
    """Numbers held by each dtype, over the safetensors files at the top of a directory."""
    found: Counter[str] = Counter()
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            header.pop("__metadata__", None)
            for tensor in header.values():
                kind = str(tensor["dtype"])
                if whole or kind not in WHOLE:
                    found[NAMES.get(kind, kind)] += prod(int(each) for each in tensor["shape"])
        except (TypeError, KeyError, ValueError, AttributeError, struct.error):
            raise CheckpointError(f"'{path.name}' declares no tensors", where=str(directory)) from None
    return dict(sorted((name, count) for name, count in found.items() if count))
