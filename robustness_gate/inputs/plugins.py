"""Extension points: how attacks, task kinds, executors and publishers are found, ours and plug-ins.

Ours are the modules of a folder. Plug-ins are modules that an installed distribution names under an entry-point group:

    [project.entry-points."robustness_gate.attacks"]
    flip = "acme_attacks.flip"

A suite names it `acme-attacks/flip`, the distribution's normalised name before its own, so that it cannot be confused
with one of ours. There is no search: only a named plug-in is looked up and imported.

A plug-in's code affects the verdict, so a trial identifies it by content (`base.Plugin`): a digest over the files of
its RECORD. `inputs.recorded` computes it, and imports these files alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint
from types import ModuleType

from robustness_gate.errors import GateError, PlanError
from robustness_gate.inputs import own_code, recorded
from robustness_gate.inputs.validation import nearest
from robustness_gate.records.base import Plugin

PREFIX = "robustness_gate."
"""Prefix of our entry-point groups."""


@dataclass(frozen=True)
class Door:
    """One kind of extension."""

    folder: str
    """Ours."""
    word: str
    """Its name in a message."""
    parts: tuple[str, ...]
    """Names that each module must have."""
    code: str
    """Code of the refusal."""
    group: str = ""
    """The end of the entry-point group's name, where it differs from the folder's."""

    def names(self) -> tuple[str, ...]:
        """The names of all modules of our folder, sorted; none is imported."""
        folder = importlib.import_module(f"robustness_gate.{self.folder}").__path__
        return tuple(sorted(module.name for module in pkgutil.iter_modules(folder)))

    def load(
        self, name: str, *, where: str = "", lacks: Callable[[ModuleType], list[str]] = lambda _: []
    ) -> ModuleType:
        """The module of one of ours by its name, or of a plug-in as `distribution/name`.

        Args:
            name: as in a suite or a command.
            where: the place of that name, for errors.
            lacks: further missing parts of a module, for the message.

        Raises:
            PlanError: there is none, it cannot be imported, or it lacks a part.
        """
        if "/" in name:
            module = _imported(self, name, where)
        elif name in self.names():
            module = importlib.import_module(f"robustness_gate.{self.folder}.{name}")
        else:
            raise self._unknown(name, where)
        missing = [part for part in self.parts if not hasattr(module, part)] or lacks(module)
        if missing:
            raise PlanError(
                f"the {self.word} '{name}' is there in part alone: its file lacks {', '.join(missing)}.",
                remedy="Nothing is guessed in its place: write them, or take it out.",
                where=where,
                code=self.code,
            )
        return module

    def check(self, name: str, *, where: str = "") -> None:
        """Whether there is one of that name, without importing it. Raises PlanError."""
        if "/" in name:
            _entry_point(self, _distribution(name, where), name, where)
        elif name not in self.names():
            raise self._unknown(name, where)

    def _unknown(self, name: str, where: str) -> PlanError:
        return PlanError(
            f"there is no {self.word} '{name}'.", remedy=nearest(name, self.names()), where=where, code=self.code
        )

    def name_of(self, module: ModuleType) -> str:
        """The name by which a module was loaded."""
        return _NAMES.get(module.__name__, module.__name__.rpartition(".")[2])


_NAMES: dict[str, str] = {}
"""Imported plug-ins: name by module."""


def origin(name: str, *, where: str = "") -> Plugin:
    """The installed distribution of a plug-in by name, version and content.

    Raises:
        PlanError: it is not installed, a file of its RECORD is missing, or one changed since it was first read.
    """
    found = _distribution(name, where)
    return recorded.content(found, _points(found, where), where=where)


def of(names: Iterable[str]) -> tuple[Plugin, ...]:
    """The distributions of the plug-ins among these names, each once, sorted."""
    return tuple(origin(each) for each in sorted({n.partition("/")[0] + "/" for n in names if "/" in n}))


def hold(distributions: Iterable[str]) -> None:
    """Import distributions from what is held, as in the process from which their objects come. Raises PlanError."""
    for each in distributions:
        found = _distribution(f"{each}/", "")
        recorded.serve(found, _points(found))


def _points(found: Distribution, where: str = "") -> set[str]:
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


def _distribution(name: str, where: str) -> Distribution:
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


def _imported(door: Door, name: str, where: str) -> ModuleType:
    found = _distribution(name, where)
    point = _entry_point(door, found, name, where)
    recorded.serve(found, _points(found, where), where=where)
    try:
        with contextlib.redirect_stdout(sys.stderr), own_code.watched() as replaced:
            module = importlib.import_module(_module_of(point))
            other = replaced()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plug-in may fail with any error, which is reported
        raise PlanError(
            f"the plug-in '{name}' cannot be imported: {_as_words(error)}.",
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
    if _NAMES.setdefault(module.__name__, name) != name:
        raise PlanError(
            f"the plug-ins '{name}' and '{_NAMES[module.__name__]}' are one module.",
            remedy="Give each a module of its own.",
            where=where,
            code="broken-plugin",
        )
    return module


@contextlib.contextmanager
def as_errors() -> Iterator[None]:
    """A block that runs code of plug-ins: whatever they raise, `sys.exit(0)` too, becomes one sentence.

    Raises:
        PlanError: a plug-in raised another error than ours, or replaced code of this program.
    """
    before, replaced = own_code.snapshot(), ""
    try:
        try:
            yield
        finally:
            if _NAMES and (replaced := own_code.changed(before)):
                own_code.put_back(before)
    except (GateError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        at = _place(error)
        if at is None:
            raise
        raise PlanError(
            f"the plug-in '{at[0]}' failed: {_as_words(error)} ({at[1]}).",
            remedy="Mend it, or take it out.",
            code="broken-plugin",
        ) from error
    if replaced:
        raise PlanError(
            f"code of a plug-in ({', '.join(sorted(_NAMES.values()))}) replaced '{replaced}' of this program: nothing "
            "that it did since can be believed.",
            remedy="Take it out, and run again with new --ledgers.",
            code="broken-plugin",
        )


def _place(error: BaseException) -> tuple[str, str] | None:
    """The plug-in in whose code an error was raised, and the last line of it; None for an error of our own."""
    names = {module.partition(".")[0]: name for module, name in _NAMES.items()}
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = names.get(str(frame.f_globals.get("__name__")).partition(".")[0])
        if name is not None:
            found = name, f"{frame.f_code.co_filename}:{line}"
    return found


def _as_words(error: BaseException) -> str:
    words = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _entry_point(door: Door, found: Distribution, name: str, where: str) -> EntryPoint:
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
