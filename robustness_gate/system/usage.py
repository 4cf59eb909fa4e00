"""Memory of this process and of the machine, as the system counts it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Literal

Since = Literal["attempt", "process"]


def restart_peak() -> Since:
    """Let the system count this process's peak anew; returns since when `peak` now counts."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # another system, or one that does not allow it
        return "process"
    return "attempt"


def peak() -> int | None:
    """The most memory that this process had, in bytes; None where the system does not give it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # no Linux
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return None


def memory() -> int | None:
    """The machine's memory in bytes; None where the system does not give it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def processor() -> str:
    """The processor's name; empty where the system does not give it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
