"""The package's errors: what happened, what to do next, and the exit code.

Every error that a user can cause is a `GateError`. The command line prints it as one line and exits with its code; a
traceback therefore always means a fault in this package (exit code 1).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the process. No policy can change these."""

    PASS = 0
    INTERNAL = 1
    USAGE = 2
    FAIL = 3
    INCONCLUSIVE = 4
    UNVERIFIED = 5
    INTERRUPTED = 130


class GateError(Exception):
    """An error that the user can act on.

    Args:
        message: what happened, in one sentence that names the object.
        remedy: what to do next, in the imperative; empty where the message already states it.
        where: `file:line:column` or a path, for errors that have a place.
        code: a stable name of the kind of mistake, for policies and suites; docs/policy.md lists them.
    """

    exit_code: Exit = Exit.USAGE

    def __init__(self, message: str, *, remedy: str = "", where: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where
        self.code = code

    def __str__(self) -> str:
        """One line: place, what happened, what to do."""
        place = f"{self.where}: " if self.where else ""
        if not self.remedy:
            return f"{place}{self.message}"
        stop = "" if self.message.endswith((".", "!", "?", ":")) else "."
        return f"{place}{self.message}{stop} {self.remedy}"


class UsageError(GateError):
    """The command's arguments do not fit together."""


class FileError(GateError):
    """A policy, suite, item or ledger file is not what it must be. `where` is `file:line:column`."""


class UnknownWord(GateError):
    """A kind, setting, code or status that this release does not know. It is raised where a default would be a
    guess.
    """

    def __init__(self, what: str, word: object) -> None:
        remedy = "Nothing is guessed in its place: use the release that knows it, or register all of it."
        super().__init__(f"this release does not know the {what} '{str(word)[:80]}'.", remedy=remedy, code="unknown")


class CheckpointError(GateError):
    """The checkpoint directory is missing, unsafe or not a causal language model."""


class PlanError(GateError):
    """Policy, suite and checkpoint are each well formed but do not fit each other."""


class LedgerError(GateError):
    """The ledger is broken, belongs to something else, or is in use by another process."""


class WriteError(GateError):
    """Something cannot be written: no space, no permission, a broken disk, or the path is not a file."""


class SetupError(GateError):
    """This installation lacks something that the verb needs (usually the `run` extra)."""


class SigningError(GateError):
    """A key cannot be made, read or used for signing."""


class Unverified(GateError):
    """A signed file does not verify: another key, changed bytes, an unknown form, or another subject."""

    exit_code = Exit.UNVERIFIED


class NotApplicable(GateError):
    """This attack or task does not apply to this model. It establishes neither a breach nor compliance."""


class BrokenTrial(GateError):
    """A trial cannot go on: non-finite logits, diverged training. Recorded; INCONCLUSIVE at best."""
