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


def available() -> int | None:
    """Bytes that this process can still take without others losing theirs; None where the system does not give them.

    Linux counts them; a container may have a lower limit of its own. Elsewhere it is half of the machine's memory.
    """
    whole = memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None if whole is None else whole // 2
    left = _left_to_the_container()
    return free if left is None else min(free, left)


def _left_to_the_container() -> int | None:
    """What control groups (version 2) leave to this process, files that can be dropped included; None: no limit."""
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text(encoding="ascii"))
        now = int((group / "memory.current").read_text(encoding="ascii"))
        rows = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(0, most - now + int(rows.get("inactive_file", 0)))


def processor() -> str:
    """The processor's name; empty where the system does not give it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
