"""The verbs: arguments in, exit code out, and one clear line for every mistake of the user's.

Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify,
130 interrupted. What a verb needs is imported inside it, so that `--help`, `plan` and `policy check` start at once and
without torch.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from robustness_gate.cli import auditing, checkpoints, evidence, house, organisms, policies, signing, verifying
from robustness_gate.cli.common import app
from robustness_gate.errors import Exit, GateError
from robustness_gate.system import installed, redaction, writing

__all__ = [
    "app",
    "auditing",
    "checkpoints",
    "evidence",
    "house",
    "main",
    "organisms",
    "policies",
    "signing",
    "verifying",
]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.excepthook = redaction.tell_crash
    sys.stdout, sys.stderr = _heard(sys.stdout, sys.__stdout__), _heard(sys.stderr, sys.__stderr__)
    try:
        try:
            app()  # leaves by itself: 2 for a usage error, 130 when interrupted, else the verb's own code
        finally:  # a full disk is found out here, or by nobody: Python only mumbles of it as it ends
            sys.stdout.flush()
    except GateError as error:
        kind = f"error[{error.code}]" if error.code else "error"
        _leave(f"{kind}: {redaction.message(str(error))}", error.exit_code)
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
    """A file handle. Whoever closed its other end has seen enough: what is still written is dropped."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _heard(stream: TextIO | None, own: TextIO | None) -> TextIO:
    """The stream, so that nothing written to it changes with what exit code a verb leaves.

    Click and rich make 1 of a closed pipe, which says that the gate broke down; a PASS that was piped into `head` would
    say so. Nor is there any stream where the process was started without one.

    Args:
        stream: as it is now.
        own: as Python opened it: another than this is somebody's own, and stays as it is.
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


def _leave(words: str, code: Exit) -> NoReturn:
    with contextlib.suppress(OSError):
        print(words, file=sys.stderr)  # noqa: T201 - the one place where a user's mistake is told
    sys.exit(int(code))
