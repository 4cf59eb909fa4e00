"""The installed distribution of a plug-in, its entry points and its modules: for `plugins`, for a name with a slash."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import sys
from importlib.metadata import Distribution, EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING

from robustness_gate.errors import PlanError
from robustness_gate.inputs import imported, own_code, recorded
from robustness_gate.system.sentences import nearest

if TYPE_CHECKING:
    from robustness_gate.inputs.plugins import Door

PREFIX = "robustness_gate."
"""Prefix of our entry-point groups."""


def points(found: Distribution, where: str = "") -> set[str]:
    """The modules that its entry points name. Raises PlanError where it has none in a group of ours."""
    ours = [_module_of(point) for point in found.entry_points if point.group.startswith(PREFIX)]
    if not ours:
        raise PlanError(
            f"the distribution '{found.name}' has no plug-in for this program.",
            remedy="Name one that has an entry point in a group `robustness_gate.*`.",
            where=where,
            code="no-plugin",
        )
    return {each for each in ours if _is_module(each)}


def _module_of(point: EntryPoint) -> str:
    """What an entry point names, without its extras."""
    return point.value.partition("[")[0].strip()


def distribution(name: str, where: str) -> Distribution:
    """The installed distribution that a plug-in's name begins with. Raises PlanError where there is none."""
    wanted = name.partition("/")[0]
    try:
        found = importlib.metadata.distribution(wanted)
    except importlib.metadata.PackageNotFoundError:
        raise PlanError(
            f"'{name}' is a plug-in's, and no distribution '{wanted}' is installed here.",
            remedy="Install it, or take it out.",
            where=where,
            code="no-plugin",
        ) from None
    if recorded.normalised(found.name) != wanted:
        raise PlanError(
            f"the distribution '{wanted}' is called '{recorded.normalised(found.name)}'.",
            remedy="Write it so, in lower case and with hyphens: a plug-in has one name.",
            where=where,
            code="no-plugin",
        )
    return found


def imported_module(door: Door, name: str, where: str) -> ModuleType:
    """The module of a plug-in. Raises PlanError: there is none, it raises an error, or it replaces code of ours."""
    found = distribution(name, where)
    point = entry_point(door, found, name, where)
    recorded.serve(found, points(found, where), where=where)
    try:
        with contextlib.redirect_stdout(sys.stderr), own_code.watched() as replaced:
            module = importlib.import_module(_module_of(point))
            other = replaced()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plug-in may fail with any error, which is reported
        raise PlanError(
            f"the plug-in '{name}' cannot be imported: {imported.as_words(error)}.",
            remedy="Mend it or install it again, or take it out.",
            where=where,
            code="broken-plugin",
        ) from None
    if other:
        raise PlanError(
            f"the plug-in '{name}' replaces '{other}' of this program when it is imported.",
            remedy="Take it out: with code that changes the gate no verdict means anything.",
            where=where,
            code="broken-plugin",
        )
    if imported.NAMES.setdefault(module.__name__, name) != name:
        raise PlanError(
            f"the plug-ins '{name}' and '{imported.NAMES[module.__name__]}' are one module.",
            remedy="Give each a module of its own.",
            where=where,
            code="broken-plugin",
        )
    return module


def entry_point(door: Door, found: Distribution, name: str, where: str) -> EntryPoint:
    """The entry point of a plug-in by its name. Raises PlanError where there is none, or none that can be used."""
    own = name.partition("/")[2]
    theirs = [point for point in found.entry_points if point.group == PREFIX + (door.group or door.folder)]
    matching = [point for point in theirs if point.name == own]
    if not matching:
        raise PlanError(
            f"the distribution '{found.name}' has no {door.word} '{own}'.",
            remedy=nearest(own, [point.name for point in theirs]),
            where=where,
            code=door.code,
        )
    if own in door.names():
        raise PlanError(
            f"the plug-in '{name}' is named as the shipped {door.word} '{own}' is.",
            remedy=f"Write '{own}' for the shipped one. For the plug-in's, its author has to give it another name.",
            where=where,
            code="broken-plugin",
        )
    fault = (
        "stands in its entry points twice" if len(matching) > 1
        else f"is '{matching[0].value}', which is no module's name" if not _is_module(_module_of(matching[0]))
        else ""
    )  # fmt: skip
    if fault:
        raise PlanError(
            f"the plug-in '{name}' {fault}.",
            remedy="Its author has to correct the entry points of the distribution.",
            where=where,
            code="broken-plugin",
        )
    return matching[0]


def _is_module(value: str) -> bool:
    return all(part.isidentifier() for part in value.split(".")) and not f"{value}.".startswith(PREFIX)
