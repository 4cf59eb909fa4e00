"""Which code of plug-ins this process imports, and blocks in which it does no harm. Most commands import none of it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from robustness_gate.errors import GateError, PlanError
from robustness_gate.inputs import own_code

if TYPE_CHECKING:
    from robustness_gate.inputs.recorded import Held

NAMES: dict[str, str] = {}
"""Imported plug-ins: name by module."""
SERVED: dict[str, Held] = {}
"""The distributions whose modules `recorded` imports from what it holds."""
_OPEN: list[list[own_code.Seen]] = []
"""For each open block of `as_errors`: this program before code of others was imported, once it is about to be."""


def watch() -> None:
    """Code of others is imported from now on: every open block compares its end with what this program is now."""
    for before in _OPEN:
        if not before:
            _begin(before)


def _begin(before: list[own_code.Seen]) -> None:
    before.append(own_code.snapshot())
    own_code.follow(before[0])


@contextlib.contextmanager
def as_errors() -> Iterator[None]:
    """A block that runs code of plug-ins: whatever they raise, `sys.exit(0)` too, becomes one sentence.

    Raises:
        PlanError: a plug-in raised another error than ours, or replaced code of this program.
    """
    before: list[own_code.Seen] = []
    replaced = ""
    if SERVED:
        _begin(before)
    _OPEN.append(before)
    try:
        try:
            yield
        finally:
            _OPEN.pop()
            for seen in before:
                own_code.leave(seen)
            if NAMES and (replaced := own_code.changed(before[0])):
                own_code.put_back(before[0])
    except (GateError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        at = _place(error)
        if at is None:
            raise
        raise PlanError(
            f"the plug-in '{at[0]}' failed: {as_words(error)} ({at[1]}).",
            remedy="Mend it, or take it out.",
            code="broken-plugin",
        ) from error
    if replaced:
        raise PlanError(
            f"code of a plug-in ({', '.join(sorted(NAMES.values()))}) replaced '{replaced}' of this program: nothing "
            "that it did since can be believed.",
            remedy="Take it out, and run again with new --ledgers.",
            code="broken-plugin",
        )


def _place(error: BaseException) -> tuple[str, str] | None:
    """The plug-in in whose code an error was raised, and the last line of it; None for an error of our own."""
    names = {module.partition(".")[0]: name for module, name in NAMES.items()}
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = names.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if name is not None:
            found = name, f"{frame.f_code.co_filename}:{line}"
    return found


def as_words(error: BaseException) -> str:
    """An error in one line of at most two hundred characters, with its class."""
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
