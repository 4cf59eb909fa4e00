"""Named devices with the figures of their makers, for arithmetic before a run. None of them is a measurement of ours,
except where `source` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from robustness_gate.errors import UsageError

SHARE = 0.3
"""The share of the peak that a trial is assumed to reach. Not measured; printed with every prediction."""

KINDS = MappingProxyType({"float32": "float32", "bfloat16": "16 bits", "float16": "16 bits"})
"""The kind of arithmetic in which a model of a dtype computes. In float32 torch does not take TF32 by itself."""


@dataclass(frozen=True)
class Device:
    """A device's peak and memory."""

    name: str
    peaks: Mapping[str, float]
    """Floating-point operations a second by kind (`KINDS`), dense."""
    bytes: int | None
    """Memory, the maker's gigabytes of 10^9 bytes; None where it is the machine's, and what fits is not judged."""
    source: str


NVIDIA = "NVIDIA's data sheet, by notes of others on it, looked up 2026-11-30"
DEVICES = MappingProxyType(
    {
        each.name: each
        for each in (
            Device("a100", {"16 bits": 312e12, "float32": 19.5e12}, 80_000_000_000, f"A100 80GB SXM: {NVIDIA}"),
            Device("h100", {"16 bits": 989e12, "float32": 67e12}, 80_000_000_000, f"H100 SXM: {NVIDIA}"),
            Device("h200", {"16 bits": 989e12, "float32": 67e12}, 141_000_000_000, f"H200 SXM: {NVIDIA}"),
            Device(
                "cpu-core", {"float32": 92.6e9}, None,
                "one core of an AMD EPYC, measured 2026-11-30: a product of two 2048 x 2048 matrices, torch 2.13, "
                "median of five in CPU seconds",
            ),
        )
    }
)  # fmt: skip


def device(name: str) -> Device:
    """A device by its name. Raises UsageError for an unknown one."""
    if name not in DEVICES:
        raise UsageError(
            f"--device-figures '{name}': there are no figures of it.", remedy=f"Known are {', '.join(DEVICES)}."
        )
    return DEVICES[name]
