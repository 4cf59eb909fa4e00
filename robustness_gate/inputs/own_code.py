"""Whether code of others replaced functions or constants of this program while it ran in the same process.

It finds a replaced attribute of a module or a class of ours, a function with other code or defaults, and another module
in the place of one of ours. A module that is first imported while code of others runs is recorded as soon as its own
file has made it (`_Own`); one that came otherwise counts as replaced.

It does not find what is changed in place (an entry of a dict) or outside of this package (torch, Python's own library):
code in the same process can do anything, so a policy must name it before it can take part in a PASS (docs/plugins.md).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

OURS = "robustness_gate"
HOME = Path(__file__).resolve().parents[1]
"""The folder of this package."""
LAZY = ("robustness_gate.statistics", "robustness_gate.verdict")
"""Packages that bind a name when it is first used (`system.lazily`): imported before code of others is."""
REBOUND = frozenset({"_BEATS"})
"""Names that this program itself binds again."""
PARTS = ("__code__", "__defaults__", "__kwdefaults__")
_ABSENT = object()


@dataclass
class Seen:
    """What this program was before code of others ran."""

    places: dict[tuple[int, str], tuple[Any, str, Any]] = field(default_factory=dict)
    """By owner and name: the owner (a module, a class, a function, or `sys.modules`), its name in a message, and the
    value."""
    whole: set[str] = field(default_factory=set)
    """The modules whose own file had run to its end when they were recorded."""
    late: str = ""
    """The first name that was replaced when a further module was about to be imported, which would keep it."""

    def add(self, name: str, module: ModuleType) -> None:
        """Record a module that its own file has made. What was recorded first stays."""
        self.bind(sys.modules, name, name, module)
        for owner, path, key, value in _inside(name, module):
            self.bind(owner, key, path, value)
        self.whole.add(name)

    def bind(self, owner: Any, key: str, path: str, value: Any) -> None:
        """Record one value, unless its place has one."""
        self.places.setdefault((id(owner), key), (owner, path, value))


_OPEN: list[Seen] = []
"""Of the blocks in which code of others runs now."""


def snapshot() -> Seen:
    """Every function, class and constant of the modules of ours that are imported by now."""
    for name in LAZY:
        importlib.import_module(name)
    for module in _ours().values():
        for offered in getattr(module, "__all__", ()):
            getattr(module, offered)  # `system.lazily`: a name that was not used yet could be replaced unseen
    seen = Seen()
    for name, module in _ours().items():
        seen.add(name, module)
    return seen


def follow(seen: Seen) -> None:
    """Record each module of ours that is imported from now on, until `leave`."""
    _OPEN.append(seen)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def leave(seen: Seen) -> None:
    """The end of `follow`."""
    _OPEN[:] = [each for each in _OPEN if each is not seen]
    if not _OPEN:
        sys.meta_path[:] = [each for each in sys.meta_path if each is not _FINDER]


def _ours() -> dict[str, ModuleType]:
    return {name: each for name, each in [*sys.modules.items()] if name == OURS or name.startswith(f"{OURS}.")}


def changed(before: Seen) -> str:
    """The first name that has another value than it was recorded with; empty where none has."""
    if before.late:
        return before.late
    for (_, key), (owner, path, value) in before.places.items():
        now = _now(owner, key)
        if now is not value and not (now is _ABSENT and inspect.ismodule(value)):  # a module may be about to come
            return path
    return next((name for name in _ours() if (id(sys.modules), name) not in before.places), "")


def put_back(before: Seen) -> None:
    """Give every changed name its recorded value, and take out modules that did not come from our files."""
    for (_, key), (owner, _, value) in before.places.items():
        if _now(owner, key) is value:
            continue
        if owner is sys.modules:
            sys.modules[key] = value
        else:
            setattr(owner, key, value)
    for name in _ours():
        if (id(sys.modules), name) not in before.places:
            del sys.modules[name]


@contextlib.contextmanager
def watched(active: bool = True) -> Iterator[Callable[[], str]]:
    """A block in which code of others runs: a function that names what it replaced so far. At its end all is put back.

    Args:
        active: False watches nothing.
    """
    if not active:
        yield str
        return
    before = snapshot()
    follow(before)
    try:
        yield lambda: changed(before)
    finally:
        leave(before)
        put_back(before)


class _Finder(MetaPathFinder):
    """Finds the modules of this package in its own folder alone, whatever `__path__` says."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's own finders look there
        target: ModuleType | None = None,  # noqa: ARG002 - of a reload
    ) -> ModuleSpec | None:
        """The spec of a module of ours; None for any other."""
        if not fullname.startswith(f"{OURS}."):
            return None
        place = HOME.joinpath(*fullname.split(".")[1:])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if not file.is_file():
            return None
        folders = [str(place)] if place.is_dir() else None
        own = _Own(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=own, submodule_search_locations=folders)


_FINDER = _Finder()


class _Own(SourceFileLoader):
    """Runs a module of ours, and records what its file made before any code of others can change it."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, not yet run: what it imports is compared while it is half made."""
        module = ModuleType(spec.name)
        for seen in _OPEN:
            seen.late = seen.late or changed(seen)
            seen.bind(sys.modules, spec.name, spec.name, module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        name, following = module.__name__, [*_OPEN]
        try:
            super().exec_module(module)
        except BaseException:
            for seen in following:
                seen.places.pop((id(sys.modules), name), None)
            raise
        parent, _, own = name.rpartition(".")
        for seen in following:
            seen.add(name, module)
            if parent in seen.whole:  # Python binds it there next; a parent that is half made may bind another value
                seen.bind(sys.modules[parent], own, name, module)


def _now(owner: Any, key: str) -> Any:
    if owner is sys.modules:
        return sys.modules.get(key, _ABSENT)
    return getattr(owner, key, _ABSENT) if key in PARTS else vars(owner).get(key, _ABSENT)


def _inside(name: str, module: ModuleType) -> Iterator[tuple[Any, str, str, Any]]:
    for key, value in [*vars(module).items()]:
        if key.startswith("__") or key in REBOUND:
            continue
        yield module, f"{name}.{key}", key, value
        if isinstance(value, FunctionType) and value.__module__ == name:
            yield from _of_function(f"{name}.{key}", value)
        if isinstance(value, type) and value.__module__ == name:
            for own, part in [*vars(value).items()]:
                if isinstance(part, FunctionType | classmethod | staticmethod | property):
                    yield value, f"{name}.{key}.{own}", own, part
                if isinstance(part, FunctionType):
                    yield from _of_function(f"{name}.{key}.{own}", part)


def _of_function(path: str, function: FunctionType) -> Iterator[tuple[Any, str, str, Any]]:
    for part in PARTS:
        yield function, path, part, getattr(function, part)
