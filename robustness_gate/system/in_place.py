"""Untrusted programs in pure Python, run in this process with limits on processor time and memory: templates.

What cannot be interrupted between two steps, because it works in native code, runs in a child (`bounded.py`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache

from robustness_gate.system.durations import in_words


class TooLong(Exception):
    """Work `in_place` took more processor time than allowed."""


@contextlib.contextmanager
def in_place(most: float, room: int) -> Iterator[None]:
    """Run an untrusted program in pure Python, in this process.

    It is interrupted between two of its steps, not within one: the caller must ensure that no step is endless. The time
    limit needs the main thread, where signals arrive, and the memory limit needs Linux.

    Args:
        most: seconds of this process's processor time.
        room: bytes of memory in addition to the process's present memory.

    Raises:
        TooLong, MemoryError: inside the block.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(less_memory(room))  # outermost, so that no signal interrupts its end
        if threading.current_thread() is threading.main_thread():

            def ring(*_: object) -> None:
                raise TooLong(f"takes longer than {in_words(most)}")

            stack.callback(signal.signal, signal.SIGVTALRM, signal.signal(signal.SIGVTALRM, ring) or signal.SIG_DFL)
            # again each second: an interpreter drops exceptions raised in destructors
            stack.callback(signal.setitimer, signal.ITIMER_VIRTUAL, *signal.setitimer(signal.ITIMER_VIRTUAL, most, 1.0))
        yield


@contextlib.contextmanager
def less_memory(room: int) -> Iterator[None]:
    """Limit the process's memory to `room` bytes more, before the whole machine runs out. On Linux alone."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(os.pread(kept_open("/proc/self/statm", os.O_RDONLY), 64, 0).split()[0])
    most = pages * resource.getpagesize() + room
    allowed = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *allowed]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@cache
def kept_open(path: str, mode: int) -> int:
    """A file's descriptor, kept open because a trial has thousands of phases. Raises OSError."""
    return os.open(path, mode)
