"""Whether code of others replaced functions or constants of this program while it ran in the same process.

It finds a replaced attribute of a module or a class of ours, and a function with other code or defaults. It does not
find what is changed in place (an entry of a dict) or outside of this package (torch, Python's own library): code in the
same process can do anything, so a policy must name it before it can take part in a PASS (docs/plugins.md).
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

OURS = "robustness_gate"
REBOUND = frozenset({"_BEATS"})
"""Names that this program itself binds again."""
PARTS = ("__code__", "__defaults__", "__kwdefaults__")

Places = Mapping[tuple[int, str], tuple[Any, str, Any]]
"""By owner and name: the owner (a module, a class or a function), its name in a message, and the value."""


def snapshot() -> Places:
    """Every function, class and constant of the modules of ours that are imported by now."""
    for module in _ours().values():
        for offered in getattr(module, "__all__", ()):
            getattr(module, offered)  # `system.lazily`: a name that was not used yet could be replaced unseen
    found: dict[tuple[int, str], tuple[Any, str, Any]] = {}
    for name, module in _ours().items():
        for owner, path, key, value in _inside(name, module):
            found[id(owner), key] = owner, path, value
    return found


def _ours() -> dict[str, ModuleType]:
    return {name: each for name, each in [*sys.modules.items()] if name == OURS or name.startswith(f"{OURS}.")}


def changed(before: Places) -> str:
    """The first name that has another value than in the snapshot; empty where none has."""
    return next((path for (_, key), (owner, path, value) in before.items() if _now(owner, key) is not value), "")


def put_back(before: Places) -> None:
    """Give every changed name its value of the snapshot."""
    for (_, key), (owner, _, value) in before.items():
        if _now(owner, key) is not value:
            setattr(owner, key, value)


@contextlib.contextmanager
def watched(active: bool = True) -> Iterator[Callable[[], str]]:
    """A block in which code of others runs: a function that names what it replaced so far. At its end all is put back.

    Args:
        active: False watches nothing.
    """
    before = snapshot() if active else {}
    try:
        yield lambda: changed(before)
    finally:
        put_back(before)


_ABSENT = object()


def _now(owner: Any, key: str) -> Any:
    return getattr(owner, key, _ABSENT) if key in PARTS else vars(owner).get(key, _ABSENT)


def _inside(name: str, module: ModuleType) -> Iterator[tuple[Any, str, str, Any]]:
    for key, value in [*vars(module).items()]:
        if key.startswith("__") or key in REBOUND or inspect.ismodule(value):
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
