"""Extension points: how attacks, task kinds, executors and publishers are found, ours and plug-ins.

Ours are the modules of a folder. Plug-ins are modules that an installed distribution names under an entry-point group:

    [project.entry-points."robustness_gate.attacks"]
    flip = "acme_attacks.flip"

A suite names it `acme-attacks/flip`, the distribution's normalised name before its own, so that it cannot be confused
with one of ours. There is no search: only a named plug-in is looked up and imported.

A plug-in's code affects the verdict, so a trial identifies it by content (`base.Plugin`): a digest over the files of
its RECORD. `inputs.recorded` computes it, and imports these files alone. What is needed for that is imported where a
name has a slash: most commands use no plug-in.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from robustness_gate.errors import GateError, PlanError
from robustness_gate.inputs import imported
from robustness_gate.system.sentences import nearest

if TYPE_CHECKING:
    from robustness_gate.records.base import Plugin


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
        package = f"robustness_gate.{self.folder}"
        found = sys.modules[package].__path__ if package in sys.modules else _folders(package)
        return _modules_in(tuple((folder, Path(folder).stat().st_mtime_ns) for folder in found))

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
            from robustness_gate.inputs import distributions

            module = distributions.imported_module(self, name, where)
        elif name in self.names():
            module = self._own(name)
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

    def _own(self, name: str) -> ModuleType:
        """The module of a file in our folder. Raises PlanError with file and line where its author made a mistake."""
        try:
            return importlib.import_module(f"robustness_gate.{self.folder}.{name}")
        except (GateError, ImportError):  # a library that is not installed is no mistake in the file
            raise
        except Exception as error:
            if isinstance(error, SyntaxError):
                file, line, words = error.filename, error.lineno, error.msg
            else:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                file, line, words = frame.filename, frame.lineno, str(error)
            raise PlanError(
                f"the {self.word} '{name}' cannot be imported: {type(error).__name__}: {' '.join(words.split())}.",
                remedy="Correct the file, or take it out of the folder.",
                where=f"{file}:{line or 1}",
                code=self.code,
            ) from error

    def check(self, name: str, *, where: str = "") -> None:
        """Whether there is one of that name, without importing it. Raises PlanError."""
        if "/" in name:
            from robustness_gate.inputs import distributions

            distributions.entry_point(self, distributions.distribution(name, where), name, where)
        elif name not in self.names():
            raise self._unknown(name, where)

    def _unknown(self, name: str, where: str) -> PlanError:
        return PlanError(
            f"there is no {self.word} '{name}'.", remedy=nearest(name, self.names()), where=where, code=self.code
        )

    def name_of(self, module: ModuleType) -> str:
        """The name by which a module was loaded."""
        return imported.NAMES.get(module.__name__, module.__name__.rpartition(".")[2])


def _folders(package: str) -> list[str]:
    """The folders of a package that need not be imported for it."""
    spec = importlib.util.find_spec(package)
    return list((spec and spec.submodule_search_locations) or ())


@lru_cache(maxsize=16)
def _modules_in(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """The names of the modules in folders, each with the time of its last change: read again when a file comes."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules([folder for folder, _ in folders])))


def origin(name: str, *, where: str = "") -> Plugin:
    """The installed distribution of a plug-in by name, version and content.

    Raises:
        PlanError: it is not installed, a file of its RECORD is missing, or one changed since it was first read.
    """
    from robustness_gate.inputs import distributions, recorded

    found = distributions.distribution(name, where)
    return recorded.content(found, distributions.points(found, where), where=where)


def of(names: Iterable[str]) -> tuple[Plugin, ...]:
    """The distributions of the plug-ins among these names, each once, sorted."""
    return tuple(origin(each) for each in sorted({n.partition("/")[0] + "/" for n in names if "/" in n}))


def hold(names: Iterable[str]) -> None:
    """Import distributions from what is held, as in the process from which their objects come. Raises PlanError."""
    from robustness_gate.inputs import distributions, recorded

    for each in names:
        found = distributions.distribution(f"{each}/", "")
        recorded.serve(found, distributions.points(found))
