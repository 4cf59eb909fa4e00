"""The verbs: arguments in, exit code out, and one clear line for every mistake of the user's.

Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify,
130 interrupted. What a verb needs is imported inside it, so that `--help`, `plan` and `policy check` start at once and
without torch.
"""

from __future__ import annotations

import contextlib
import sys
from typing import NoReturn

from robustness_gate import redaction, writing
from robustness_gate.cli import auditing, checkpoints, evidence, house, organisms, policies, signing, verifying
from robustness_gate.cli.common import app
from robustness_gate.errors import Exit, GateError

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
    try:
        try:
            app()  # leaves by itself: 2 for a usage error, 130 when interrupted, else the verb's own code
        finally:  # a full disk is found out here, or by nobody: Python only mumbles of it as it ends
            _flush()
    except GateError as error:
        kind = f"error[{error.code}]" if error.code else "error"
        _leave(f"{kind}: {redaction.message(str(error))}", error.exit_code)
    except OSError as error:
        if error.errno not in writing.NO_FAULT_OF_OURS:
            raise
        with contextlib.suppress(OSError):
            sys.stdout.close()  # what could not be written is not tried again
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"error: {where}{error.strerror}. {writing.ROOM}", Exit.USAGE)
    raise AssertionError("typer returned without an exit code")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough, and the exit code is what it was
        with contextlib.suppress(OSError):
            sys.stdout.close()


def _leave(words: str, code: Exit) -> NoReturn:
    with contextlib.suppress(OSError):
        print(words, file=sys.stderr)  # noqa: T201 - the one place where a user's mistake is told
    sys.exit(int(code))
