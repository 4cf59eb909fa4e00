"""Checks of the machine: the libraries, the disk, the device and its memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from robustness_gate.assurance.doctor.findings import Check, Code, found
from robustness_gate.system import installed as libraries

USEFUL = {"mlflow": "no runs are logged to MLflow", "pyarrow": "no suite can read Parquet, as most hub datasets are"}
LITTLE_DISK = 1 << 30
"""A run writes a ledger, a report and the log-likelihoods: some tens of megabytes. Less free space is reported."""


def installed() -> Iterator[Check]:
    """Python, the required libraries, and the optional ones."""
    yield found(
        "machine", "ok", "python", Code.PYTHON,
        version=platform.python_version(), system=platform.system(), machine=platform.machine(),
    )  # fmt: skip
    missing = libraries.missing()
    there = [f"{name} {_version(name)}" for name in libraries.RUN_EXTRA if name not in missing]
    if there:
        yield found("machine", "ok", "run extra", Code.INSTALLED, versions=", ".join(there))
    if missing:
        yield found("machine", "PROBLEM", "run extra", Code.NOT_INSTALLED, names=", ".join(missing))
    for name, loss in USEFUL.items():
        if libraries.is_there(name):
            yield found("machine", "ok", name, Code.INSTALLED, versions=_version(name))
        else:
            yield found("machine", "note", name, Code.USEFUL_NOT_INSTALLED, loss=loss)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(no version)"


def disk() -> Check:
    """Free space in the working folder."""
    free = shutil.disk_usage(Path()).free
    if not os.access(Path(), os.W_OK):
        return found("machine", "note", "disk", Code.FOLDER_NOT_WRITABLE)
    if free < LITTLE_DISK:
        return found("machine", "note", "disk", Code.LITTLE_DISK, free=free)
    return found("machine", "ok", "disk", Code.DISK, free=free)


def _memory() -> int | None:
    """The machine's memory in bytes; None where the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def device(wish: str, needed: int, dtype: str) -> tuple[Check, ...]:
    """The device that a run would use, and whether the weights (`needed` bytes) fit.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    from robustness_gate.engine.load import pick_device

    place = pick_device(wish)
    if place.type == "cuda":
        free, total = torch.cuda.mem_get_info(place)
        name = torch.cuda.get_device_name(place)
        checks = [found("machine", "ok", "device", Code.GPU, name=name, device=str(place), free=free, total=total)]
        room: int | None = free
    else:
        room = _memory()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
        on_cpu = place.type == "cpu"
        name, cores = ("CPU", cores) if on_cpu else (str(place), 0)
        checks = [found("machine", "ok", "device", Code.CPU, name=name, cores=cores, memory=room or 0)]
    if room is not None and needed > room:
        checks.append(
            found("machine", "PROBLEM", "memory", Code.MEMORY_TOO_SMALL, needed=needed, dtype=dtype, room=room)
        )
    elif room is not None and 2 * needed > room:
        checks.append(found("machine", "note", "memory", Code.MEMORY_SCARCE, needed=needed, dtype=dtype))
    return tuple(checks)
