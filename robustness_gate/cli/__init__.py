"""The commands: arguments in, exit code out, and one clear line for every user error.

Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify,
130 interrupted. A verb's module is imported when the verb is asked for (`verbs`), and a command imports what it needs
inside its function, so that `--help`, `plan` and `policy check` start at once and without torch.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from robustness_gate.cli.common import app
from robustness_gate.errors import Exit, GateError
from robustness_gate.inputs import imported
from robustness_gate.system import installed, redaction, writing

__all__ = ["app", "main", "script"]

OBJECTS = 100_000
"""So many new objects before Python looks for cycles among them. Its usual 700 come a hundred times while modules are
imported and schemas are built, and take a tenth of a light verb's time. Workers are processes of their own."""


def script() -> NoReturn:
    """`main` in a process of its own, whose exit code no plug-in changes after it.

    What a plug-in left behind runs between `main` and the end of the process: functions registered with `atexit`,
    finalizers, threads that wait for the end. Any of them could leave with 0 after a FAIL. So where code of a plug-in
    was imported, the process ends here. Nothing of ours runs later: files, temporary folders and worker processes are
    closed by the `with` and `finally` blocks inside `main`.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # no installed package decides what a valid record is
    gc.set_threshold(OBJECTS)
    try:
        main()
    except BaseException as left:
        if not imported.SERVED:
            raise
        _end(left)
    raise AssertionError("main returned without an exit code")


def _end(left: BaseException) -> NoReturn:
    """End the process at once, with the exit code that `left` stands for; a crash is printed first."""
    code = left.code if isinstance(left, SystemExit) else None
    try:
        if not isinstance(left, SystemExit):
            redaction.tell_crash(type(left), left, left.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
                stream.flush()
    finally:
        os._exit(code if isinstance(code, int) else Exit.INTERNAL)


def main() -> NoReturn:
    """Run the command line and raise SystemExit with its exit code."""
    sys.excepthook = redaction.tell_crash
    sys.stdout, sys.stderr = _safe_stream(sys.stdout, sys.__stdout__), _safe_stream(sys.stderr, sys.__stderr__)
    try:
        try:
            app()  # exits itself: 2 for a usage error, 130 if interrupted, else the command's own code
        finally:  # a full disk raises here; at its exit Python would ignore it
            sys.stdout.flush()
    except GateError as error:
        kind = f"error[{error.code}]" if error.code else "error"
        _leave(f"{kind}: {redaction.message(str(error))}", error.exit_code or Exit.USAGE)  # no error leaves with 0
    except ModuleNotFoundError as error:
        if error.name not in installed.RUN_EXTRA:
            raise
        _leave(f"error: {installed.lacking(error.name)}", Exit.USAGE)
    except OSError as error:
        if error.errno not in writing.NO_FAULT_OF_OURS:
            raise
        with contextlib.suppress(OSError):
            sys.stdout.close()  # what could not be written is not tried again
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"error: {where}{error.strerror}. {writing.ROOM}", Exit.USAGE)
    raise AssertionError("typer returned without an exit code")


class _Pipe(io.FileIO):
    """A file handle that discards output after the reader has closed the pipe."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _safe_stream(stream: TextIO | None, own: TextIO | None) -> TextIO:
    """A stream whose errors cannot change the exit code of a command.

    Click and rich exit with 1 if a pipe is closed, which means an internal error; a PASS piped into `head` would do
    this. A process that was started without a stream gets one that discards its output.

    Args:
        stream: the current stream.
        own: the stream that Python opened; a replaced stream is returned unchanged.
    """
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _leave(message: str, code: Exit) -> NoReturn:
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)  # noqa: T201 - the one place where a user error is printed
    sys.exit(int(code))
