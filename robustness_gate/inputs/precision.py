"""The precision of a checkpoint's stored weights, from the files themselves and not from its config.

A model examined in another precision than its usual one is, strictly, another model: rounding can hide an edit, or undo
it. So a policy may pin the suite's, and a report states on page one where it differs from the stored one.
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
"""Names of dtypes in the safetensors format; other floating ones are shown unchanged."""
WHOLE = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
"""Not weights, unless they are quantised: old files of GPT-2 contain masks."""


def stored(place: CheckpointRef) -> Stored:
    """The precision from the safetensors headers of a checkpoint, and for an adapter of its base too.

    Raises:
        CheckpointError: a header declares no tensors in the format, or there are no weights at all.
    """
    under = place.base or place
    config = _config(under.path)
    quantized = bool(config.get("quantization_config"))
    dtype = config.get("dtype", config.get("torch_dtype"))
    found = Stored(
        weights=_counted(under.path, whole=quantized),
        adapter=_counted(place.path, whole=False) if place.base is not None else {},
        config_dtype=dtype.removeprefix("torch.") if isinstance(dtype, str) else "",
        quantized=quantized,
    )
    if not found.weights:
        raise CheckpointError("the safetensors files hold no weights", where=str(under.path))
    return found


def shares(counts: dict[str, int]) -> str:
    """`bfloat16`, or `bfloat16 (98%) and float32 (2%)`: the most frequent first."""
    total = sum(counts.values())
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return " and ".join(name + (f" ({count / total:.0%})" if len(ordered) > 1 else "") for name, count in ordered)


def _config(directory: Path) -> dict[str, Any]:
    """config.json with the values of its text model's part on top."""
    try:
        found = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    inner = found.get("text_config")
    return {**found, **inner} if isinstance(inner, dict) else found


def _counted(directory: Path, *, whole: bool) -> dict[str, int]:
    """Number of values of each dtype in the safetensors files at the top of a directory."""
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
