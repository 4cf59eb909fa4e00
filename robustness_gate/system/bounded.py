"""Work on untrusted files in a child process with limits on time and memory, which the parent enforces.

A chat template with nested loops, a tokenizer whose replacements grow, a config with a hundred thousand layers: each
may run for ever, mostly in native code that no exception interrupts. So code that loads a checkpoint, encodes or
decodes with its tokenizer, or renders its template declares it with `phase` and runs in a child. The child writes
counters into memory shared with its parent: the begin and end of each phase, and a heartbeat. The parent checks the
duration of each phase a few times a second, and kills a child that exceeds a limit. The child cannot prevent that, and
no limit changes its work: results are the same under every limit.

A panic of a library in Rust passes `except Exception`; `phase` converts it to a `Panic`, which does not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from robustness_gate.errors import GateError
from robustness_gate.system.durations import in_words
from robustness_gate.system.in_place import kept_open, less_memory

if TYPE_CHECKING:  # multiprocessing takes longer to import than many verbs to run
    from multiprocessing.connection import Connection

STARTED_BY = "spawn"
"""Children are spawned: CUDA does not survive a fork."""

DAY = 86_400.0
LOAD_SECONDS, LOAD_BYTES_A_SECOND = 600.0, 10e6
"""Ten minutes for loading, plus the time of a slow disk for the weights."""
STARTING = 300.0
"""Seconds until a child's first heartbeat."""
POLL = 0.25
"""Seconds between two checks by the parent."""
BEAT = 0.5
"""Seconds between two heartbeats."""
ROOM = 4 << 30
"""Bytes of memory that one text may take in addition to the process's present memory."""

T = TypeVar("T")

os.environ["PYTHONSAFEPATH"] = "1"
"""A spawned Python searches modules in the working directory first. That may be the checkpoint's folder, or a pull
request's workspace, and a file `pickle.py` in it would be run in every child."""


class Phase(IntEnum):
    """Phases of a child whose duration depends on untrusted files."""

    ALIVE = 0
    """No phase: the heartbeat's counter."""
    LOADING = 1
    ENCODING = 2
    """Encoding and decoding of texts."""
    RENDERING = 3


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds; infinity is no limit. They are not part of a trial's identity."""

    trial: float = DAY
    """A whole trial, without loading. None by default: training may take hours."""
    loading: float | None = None
    """Loading one checkpoint; None: ten minutes, and one second more for every 10 MB of weights."""
    text: float = 60.0
    """One rendering, or one call of a tokenizer: a text, or a few dozen of them."""
    silence: float = 600.0
    """Without a heartbeat: a stopped process, or native code that blocks all threads."""

    def to_load(self, size: int) -> float:
        """The limit for loading a checkpoint of `size` bytes of weights."""
        return LOAD_SECONDS + size / LOAD_BYTES_A_SECOND if self.loading is None else self.loading


class Panic(GateError):
    """A library failed on an untrusted file: it panicked, or needed more memory than one text may take.

    It is not a `BrokenTrial`: an attack may skip a form that is not applicable, but not one in which an untrusted file
    fails on purpose.
    """


class Gone(GateError):
    """A child was killed because it exceeded a limit, or died by itself; the message names the cause and the phase."""


# --- in the child ----------------------------------------------------------------------------------------------------

_BEATS: Any = None
"""The memory that is shared with the parent; None in a process that is not such a child."""
_OPEN: set[Phase] = set()

_WHO = {Phase.LOADING: "the loader", Phase.ENCODING: "the tokenizer", Phase.RENDERING: "the chat template"}


@contextlib.contextmanager
def phase(which: Phase) -> Iterator[None]:
    """Work whose cost depends on an untrusted file. In a child its time is measured, and its memory where it is one
    text.

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
            with _muted(), less_memory(ROOM) if which != Phase.LOADING else contextlib.nullcontext():
                yield
        finally:
            _BEATS[which] += 1
            _OPEN.discard(which)
    except MemoryError:
        raise Panic(f"{_WHO[which]} ran out of memory", code="memory") from None
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - pyo3's PanicException, which cannot be imported
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise Panic(f"{_WHO[which]} broke down: {first[:300]}") from None


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Silence the process's standard error: a panic prints pages there, and its message is in the exception."""
    before = os.dup(2)
    os.dup2(kept_open(os.devnull, os.O_WRONLY), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _begin(pipe: Connection, beats: Any, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The child's main function: a process group of its own, so that its children end with it; the heartbeat; the
    work.
    """
    global _BEATS
    _BEATS = beats
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a tokenizer's threads need memory of their own
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: this process dies with its parent
    with contextlib.suppress(OSError):  # when memory runs out, this process is killed before the one with the ledger
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    threading.Thread(target=_beat, args=(beats,), daemon=True, name="sign of life").start()
    work(pipe, *arguments)


def _beat(beats: Any) -> None:
    """Send heartbeats while this process lives and threads can run, and end it when its parent is gone."""
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
    """A child process that works on untrusted files, with the parent's time limits."""

    def __init__(self, work: Callable[..., None], *arguments: Any, limits: Limits, size: int = 0, name: str) -> None:
        """Start it.

        Args:
            work: a module's function, called there with the child's end of the pipe and the arguments.
            arguments: anything that can be pickled.
            limits: its time limits.
            size: bytes of the largest checkpoint that it may load.
            name: its name in messages.
        """
        import ctypes
        import multiprocessing

        self.name = name
        self.exceeded = ""
        self._names_a_limit = False
        """The exceeded limit for which it was killed, as a sentence; empty where it was not killed."""
        self._limits = {
            Phase.ALIVE: limits.silence,
            Phase.LOADING: limits.to_load(size),
            Phase.ENCODING: limits.text,
            Phase.RENDERING: limits.text,
        }
        self._trial = limits.trial
        self._busy: float | None = None
        """Seconds of its trial; None where it has no trial."""
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
        """Start counting the time of a trial."""
        self._busy = 0.0

    def rests(self) -> None:
        """Stop counting the time of a trial."""
        self._busy = None

    def receive(self) -> Any:
        """Its next message, once `ready` has returned it.

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
        """How it died by itself, as a sentence."""
        self.process.join(timeout=10)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the {self.name} died ({how}){_WHILE.get(self.at, '')}"

    @property
    def at(self) -> Phase:
        """Its present or last phase; ALIVE where it is in none."""
        return next((which for which in _WHILE if self._beats[which] % 2), Phase.ALIVE)

    def look(self, elapsed: float) -> str:
        """Add seconds, and return the exceeded limit as a sentence; empty where there is none."""
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
        """End it; an idle one reads the end of its pipe and ends by itself within `patience` seconds."""
        with contextlib.suppress(OSError):
            self.pipe.close()
        self.process.join(timeout=patience)
        self.kill()

    def kill(self) -> None:
        """Kill it and its children at once, even if they are stopped."""
        with contextlib.suppress(OSError, TypeError):  # no such group: it has not begun, or has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=10)


def ready(children: Sequence[Child]) -> list[Child]:
    """Wait for children with a message or an ended pipe, and return them. A child that exceeds a limit is killed.

    Time in which this process itself did not run (Ctrl-Z in a terminal, a sleeping machine) is not counted.
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
    """The values that `work(tell, *arguments)` sends from a child. Arguments and values are pickled.

    Raises:
        Gone: it exceeded a limit, or died.
        GateError: any GateError that was raised there.
    """
    child = Child(_hand_over, work, arguments, limits=limits, size=size, name=name)
    child.begins()
    try:
        while True:
            ready([child])
            is_value, value = child.receive()
            if is_value:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        child.stop(patience=0.0)


def call(work: Callable[..., T], *arguments: Any, limits: Limits, size: int = 0, name: str) -> T:
    """The result of `work(*arguments)` in a child. Raises as `stream` does."""
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
        except BaseException as error:  # noqa: BLE001 - a bug: its trace is printed here, and its message is sent
            traceback.print_exc()
            pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}")))
        else:
            pipe.send((False, None))


def weights_in(*places: Path) -> int:
    """Bytes of the largest of these checkpoints' weights. An unreadable one counts 0: loading it will raise the
    error.
    """
    found = [0]
    for place in places:
        with contextlib.suppress(OSError):
            found.append(sum(each.stat().st_size for each in place.glob("*.safetensors")))
    return max(found)
