"""Named devices with the figures of their makers, for arithmetic before a run. None of them is a measurement of ours,
except where `source` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from robustness_gate.errors import UsageError

SHARE = 0.3
"""The share of the peak that a trial is assumed to reach. Not measured; printed with every prediction."""


@dataclass(frozen=True)
class Device:
    """A device's peak and memory."""

    name: str
    peak: float
    """Floating-point operations a second in `kind`, dense."""
    kind: str
    bytes: int | None
    """Memory, the maker's gigabytes of 10^9 bytes; None where it is the machine's, and what fits is not judged."""
    source: str


NVIDIA = "NVIDIA's data sheet, by notes of others on it, looked up 2026-11-30"
DEVICES = MappingProxyType(
    {
        each.name: each
        for each in (
            Device("a100", 312e12, "bfloat16", 80_000_000_000, f"A100 80GB SXM: {NVIDIA}"),
            Device("h100", 989e12, "bfloat16", 80_000_000_000, f"H100 SXM: {NVIDIA}"),
            Device("h200", 989e12, "bfloat16", 141_000_000_000, f"H200 SXM: {NVIDIA}"),
            Device(
                "cpu-core", 92.6e9, "float32", None,
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
