"""A package that offers names of its modules, and imports a module when one of its names is first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def offered(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], object]:
    """The `__getattr__` of a package.

    Args:
        package: its `__name__`.
        modules: the names that each module gives; the package imports the same names for the type checker.

    Returns:
        A function that raises AttributeError for a name that is not offered.
    """
    of = {name: module for module, names in modules.items() for name in names}

    def found(name: str) -> object:
        if name not in of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return found
