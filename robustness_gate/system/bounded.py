"""Work on a stranger's files, in a child that can be killed; the parent holds the clock.

A chat template with nested loops, a tokenizer whose replacements grow, a config with a hundred thousand layers: each
runs for ever, mostly in native code that no exception interrupts. So whatever loads a checkpoint, encodes or decodes
with its tokenizer, or renders its template says so with `phase`, and does it in a child. The child counts into memory
that it shares with its parent: when a phase begins, when it ends, and that it lives. The parent looks a few times a
second how long each phase has lasted, and kills a child that exceeds a limit. Nothing that happens in the child can
stop that, and no limit reaches into it: what is measured there is the same under every limit.

A library in Rust that gives up raises what passes `except Exception`; `phase` makes a `Panic` of it, which does not.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from robustness_gate.errors import GateError

if TYPE_CHECKING:  # multiprocessing takes longer to import than many a verb to run
    from multiprocessing.connection import Connection

STARTED_BY = "spawn"
"""How a child begins: CUDA does not survive a fork, so each imports for itself."""

DAY = 86_400.0
LOAD_SECONDS, LOAD_BYTES_A_SECOND = 600.0, 10e6
"""Loading may take ten minutes, and as long as a slow disk takes for the weights."""
STARTING = 300.0
"""Seconds that a child may take until it counts for the first time."""
POLL = 0.25
"""Seconds from one look of the parent's to the next."""
BEAT = 0.5
"""Seconds from one sign of life to the next."""
ROOM = 4 << 30
"""Bytes of memory that one text may take beyond what the process has already."""

T = TypeVar("T")

os.environ["PYTHONSAFEPATH"] = "1"
"""A spawned Python looks for modules in the working directory before all others. That may be the folder of the very
checkpoint, or a pull request's workspace, and a file `pickle.py` in it would be run in every child."""


class Phase(IntEnum):
    """What a child is at, as far as a stranger's files decide how long it takes."""

    ALIVE = 0
    """No phase: counted up for as long as it lives."""
    LOADING = 1
    ENCODING = 2
    """From text to token ids, and back."""
    RENDERING = 3


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds; infinity is no limit. They are no part of what a trial is."""

    trial: float = DAY
    """From the hand-over to the end, without loading: whoever trains for an hour may."""
    loading: float | None = None
    """Of one checkpoint; None: ten minutes, and one second more for every 10 MB of weights."""
    text: float = 60.0
    """One rendering, or one call of a tokenizer: a text, or a few dozen of them."""
    silence: float = 600.0
    """Without a sign of life: a process that was stopped, or sits in native code that lets nothing else run."""

    def to_load(self, size: int) -> float:
        """For a checkpoint of so many bytes of weights."""
        return LOAD_SECONDS + size / LOAD_BYTES_A_SECOND if self.loading is None else self.loading


def seconds(text: str) -> float:
    """A length of time as a user writes it: `90`, `90s`, `10m`, `2h`, or `none` for no limit.

    Raises:
        ValueError: anything else, and what is not above zero.
    """
    if text.strip().lower() == "none":
        return math.inf
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh]?)", text.strip())
    length = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if length <= 0:
        raise ValueError(f"'{text}' is no length of time: write seconds (600), 10m, 2h, or none.")
    return length


def in_words(length: float) -> str:
    """Seconds as a report names them."""
    return f"{length:,.0f} s" if length >= 10 else f"{length:g} s"


class Panic(GateError):
    """A library broke down over a stranger's file: it panicked, or asked for more memory than one text may take.

    No `BrokenTrial`: an attack may go on without a form that a trial cannot be made in, and not without one in which a
    stranger's file chose to break.
    """


class TooLong(Exception):
    """What is done `in_place` took more processor time than it may."""


class Gone(GateError):
    """A child was killed because it exceeded a limit, or died by itself; the message says which, and at what."""


# --- in the child ----------------------------------------------------------------------------------------------------

_BEATS: Any = None
"""The memory that is shared with the parent; None in a process that is nobody's child."""
_OPEN: set[Phase] = set()

_WHO = {Phase.LOADING: "the loader", Phase.ENCODING: "the tokenizer", Phase.RENDERING: "the chat template"}


@contextlib.contextmanager
def phase(which: Phase) -> Iterator[None]:
    """Work that a stranger's file decides over. In a child its time is measured; its memory too where it is one text.

    Raises:
        Panic: a library panicked in it, or memory ran out.
    """
    try:
        if _BEATS is None or which in _OPEN:
            yield
            return
        _OPEN.add(which)
        _BEATS[which] += 1
        try:
            with _muted(), _room() if which != Phase.LOADING else contextlib.nullcontext():
                yield
        finally:
            _BEATS[which] += 1
            _OPEN.discard(which)
    except MemoryError:
        raise Panic(f"{_WHO[which]} ran out of memory", code="memory") from None
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - pyo3's PanicException, which no module offers to be named here
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise Panic(f"{_WHO[which]} broke down: {first[:300]}") from None


@contextlib.contextmanager
def in_place(most: float, room: int) -> Iterator[None]:
    """A stranger's program that runs in pure Python, in this very process.

    It is interrupted between two of its steps, not within one: whoever uses this sees to it that no step is endless.
    The clock needs the main thread, where signals arrive, and the room Linux.

    Args:
        most: seconds of this process's processor time.
        room: bytes of memory beyond what the process has already.

    Raises:
        TooLong, MemoryError: inside the block.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_room(room))  # left last, when no clock can interrupt it
        if threading.current_thread() is threading.main_thread():

            def ring(*_: object) -> None:
                raise TooLong(f"takes longer than {in_words(most)}")

            stack.callback(signal.signal, signal.SIGVTALRM, signal.signal(signal.SIGVTALRM, ring) or signal.SIG_DFL)
            # again each second: an interpreter drops what is raised while it clears away
            stack.callback(signal.setitimer, signal.ITIMER_VIRTUAL, *signal.setitimer(signal.ITIMER_VIRTUAL, most, 1.0))
        yield


@contextlib.contextmanager
def _room(room: int = ROOM) -> Iterator[None]:
    """Whoever asks for more than this is refused, before the whole machine runs out. On Linux alone."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(os.pread(_opened("/proc/self/statm", os.O_RDONLY), 64, 0).split()[0])
    most = pages * resource.getpagesize() + room
    allowed = [each for each in (soft, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most, *allowed]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """A library that panics prints pages to the process's own standard error; the sentence is in its exception."""
    before = os.dup(2)
    os.dup2(_opened(os.devnull, os.O_WRONLY), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


@cache
def _opened(path: str, mode: int) -> int:
    """A file that is kept open: a trial has thousands of phases."""
    return os.open(path, mode)


def _begin(pipe: Connection, beats: Any, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The child's life: a group of its own, so that its children end with it; a sign of life; the work."""
    global _BEATS
    _BEATS = beats
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads of a tokenizer take room by themselves
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: whoever kills the parent kills this too
    with contextlib.suppress(OSError):  # where memory runs out, better this process than the one with the ledger
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    threading.Thread(target=_beat, args=(beats,), daemon=True, name="sign of life").start()
    work(pipe, *arguments)


def _beat(beats: Any) -> None:
    """Count for as long as this process lives and other threads may run, and end it when its parent is gone."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    while True:
        beats[Phase.ALIVE] += 1
        if parent is None:
            time.sleep(BEAT)
        elif wait([parent.sentinel], BEAT):
            os.killpg(0, signal.SIGKILL) if os.getpgrp() == os.getpid() else os._exit(1)


# --- in the parent ---------------------------------------------------------------------------------------------------

_OPTION = {Phase.LOADING: "--load-timeout", Phase.ENCODING: "--text-timeout", Phase.RENDERING: "--text-timeout"}
_TOO_LONG = {
    Phase.LOADING: "it took longer than {} to load",
    Phase.ENCODING: "the tokenizer took longer than {} over a text",
    Phase.RENDERING: "the chat template took longer than {} over a prompt",
}
_WHILE = {
    Phase.LOADING: " while it loaded a checkpoint",
    Phase.ENCODING: " in the tokenizer",
    Phase.RENDERING: " in the chat template",
}


class Child:
    """A process that works on a stranger's files, and the parent's clock on it."""

    def __init__(self, work: Callable[..., None], *arguments: Any, limits: Limits, size: int = 0, name: str) -> None:
        """Start it.

        Args:
            work: a function of a module, called there with the child's end of the pipe and the arguments.
            arguments: whatever can be pickled.
            limits: what it may take.
            size: bytes of the largest checkpoint that it may load.
            name: what messages call it.
        """
        import ctypes
        import multiprocessing

        self.name = name
        self.exceeded = ""
        self._names_a_limit = False
        """Which limit it was killed for, in words; empty where it was not."""
        self._limits = {
            Phase.ALIVE: limits.silence,
            Phase.LOADING: limits.to_load(size),
            Phase.ENCODING: limits.text,
            Phase.RENDERING: limits.text,
        }
        self._trial = limits.trial
        self._busy: float | None = None
        """Seconds of its trial; none where it has none."""
        context: Any = multiprocessing.get_context(STARTED_BY)
        self._beats = context.RawArray(ctypes.c_uint64, len(Phase))
        self._seen, self._lasted = [0] * len(Phase), [0.0] * len(Phase)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_begin, args=(theirs, self._beats, work, arguments), daemon=True, name=f"robustness-gate {name}"
        )
        self.process.start()
        theirs.close()

    def begins(self) -> None:
        """From now on the time of a trial is counted."""
        self._busy = 0.0

    def rests(self) -> None:
        """It has ended what it was given."""
        self._busy = None

    def hear(self) -> Any:
        """What it says next, once `ready` has named it.

        Raises:
            Gone: it was killed, or died.
        """
        if not self.exceeded:
            with contextlib.suppress(EOFError, OSError):
                return self.pipe.recv()
        words = self.exceeded or self.death()
        killed = not self.exceeded and self.process.exitcode == -signal.SIGKILL
        raise Gone(words, code="memory" if killed else "limit" if self._names_a_limit else "")

    def death(self) -> str:
        """How it died by itself, in words."""
        self.process.join(timeout=10)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the {self.name} died ({how}){_WHILE.get(self.at, '')}"

    @property
    def at(self) -> Phase:
        """The phase in which it is, or in which it ended; ALIVE where it is in none."""
        return next((which for which in _WHILE if self._beats[which] % 2), Phase.ALIVE)

    def look(self, elapsed: float) -> str:
        """Count so many seconds more, and say which limit is exceeded, in words; empty where none is."""
        for which in Phase:
            count = self._beats[which]
            goes_on = which is Phase.ALIVE or count % 2 == 1
            self._lasted[which] = self._lasted[which] + elapsed if goes_on and count == self._seen[which] else 0.0
            self._seen[which] = count
        started = self._seen[Phase.ALIVE] > 0
        if self._busy is not None and started and self._seen[Phase.LOADING] % 2 == 0:
            self._busy += elapsed
        for which, words in _TOO_LONG.items():
            if self._lasted[which] > self._limits[which]:
                self._names_a_limit = True
                return f"{words.format(in_words(self._limits[which]))} (limit {_OPTION[which]})"
        if self._busy is not None and self._busy > self._trial:
            self._names_a_limit = True
            return f"it took longer than {in_words(self._trial)} (limit --trial-timeout)"
        silent = self._limits[Phase.ALIVE] if started else max(self._limits[Phase.ALIVE], STARTING)
        if self._lasted[Phase.ALIVE] > silent:
            return f"the {self.name} gave no sign of life for {in_words(silent)}"
        return ""

    def stop(self, patience: float = 0.0) -> None:
        """End it; an idle one sees the end of its pipe and goes by itself within `patience` seconds."""
        with contextlib.suppress(OSError):
            self.pipe.close()
        self.process.join(timeout=patience)
        self.kill()

    def kill(self) -> None:
        """End it and its children at once, stopped or not."""
        with contextlib.suppress(OSError, TypeError):  # no such group: it had not begun, or is over
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=10)


def ready(children: Sequence[Child]) -> list[Child]:
    """Those that have something to say, or nothing any more; waits for the first. What exceeds a limit is killed.

    Time in which this process itself did not run (a terminal's Ctrl-Z, a machine asleep) counts against nobody.
    """
    from multiprocessing.connection import wait

    while True:
        before = time.monotonic()
        pipes = wait([each.pipe for each in children], POLL)
        elapsed = min(time.monotonic() - before, 2 * POLL)
        found = []
        for each in children:
            exceeded = each.look(elapsed)
            if each.pipe in pipes:
                found.append(each)
            elif exceeded:
                each.exceeded = exceeded
                each.kill()
                found.append(each)
        if found:
            return found


def stream(work: Callable[..., None], *arguments: Any, limits: Limits, size: int = 0, name: str) -> Iterator[Any]:
    """Whatever `work(tell, *arguments)` tells, out of a child. Arguments and values are pickled.

    Raises:
        Gone: it exceeded a limit, or died.
        GateError: whatever of it was raised there.
    """
    child = Child(_hand_over, work, arguments, limits=limits, size=size, name=name)
    child.begins()
    try:
        while True:
            ready([child])
            is_value, said = child.hear()
            if is_value:
                yield said
            elif said is None:
                return
            else:
                raise said
    finally:
        child.stop(patience=0.0)


def call(work: Callable[..., T], *arguments: Any, limits: Limits, size: int = 0, name: str) -> T:
    """What `work(*arguments)` returns, out of a child. Raises what `stream` does."""
    found: T
    (found,) = stream(_once, work, arguments, limits=limits, size=size, name=name)
    return found


def _once(tell: Callable[[Any], None], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    tell(work(*arguments))


def _hand_over(pipe: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        try:
            work(lambda value: pipe.send((True, value)), *arguments)
        except GateError as error:
            pipe.send((False, error))
        except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - a fault of ours: its trace is shown here, and told there
            traceback.print_exc()
            pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}")))
        else:
            pipe.send((False, None))


def weights_in(*places: Path) -> int:
    """Bytes of the largest of these checkpoints' weights. What cannot be read counts nothing: its reader will tell."""
    found = [0]
    for place in places:
        with contextlib.suppress(OSError):
            found.append(sum(each.stat().st_size for each in place.glob("*.safetensors")))
    return max(found)
