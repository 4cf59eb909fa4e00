"""Spiked models lie beside the calibration's file while they are needed, and are deleted whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

PREFIX = ".{}.spikes-"


@contextlib.contextmanager
def opened(out: Path) -> Iterator[Path]:
    """A folder for spiked models beside the file, which is deleted at the end, whatever happens.

    What a killed calibration left there is deleted first: the file's lock shows that none is running.
    """
    prefix = PREFIX.format(out.name)
    for left in out.parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=prefix) as folder:
        yield Path(folder)


@contextlib.contextmanager
def cleared(folder: Path) -> Iterator[Path]:
    """A folder of that name, which does not exist before and after."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ends_on_terminate() -> Iterator[None]:
    """SIGTERM ends the work like Ctrl-C, so that spiked models are deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
