"""Declarations of a module of ours, read from its source: its folder is the registry, and nothing is imported.

The judge must know how answers to a task kind are judged, and must not import the code that asks the questions.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

ROOTS: tuple[Path, ...] = (Path(__file__).parents[1],)
"""The directories that contain the folders."""


@cache
def modules(folder: str) -> tuple[str, ...]:
    """The names of the modules in one of our folders, sorted."""
    found = (each.name for root in ROOTS for each in root.joinpath(folder).iterdir())
    return tuple(sorted(name.removesuffix(".py") for name in found if name.endswith(".py")))


@cache
def declared(folder: str, module: str, name: str) -> Any:
    """The value of the top-level `name` in a module's source; None if the module or the name does not exist.

    For a call, its keyword arguments as a dict. Raises ValueError if the value is not written as literals.
    """
    if module not in modules(folder):
        return None
    for each in tree(folder, module).body:
        if isinstance(each, ast.Assign) and [ast.unparse(target) for target in each.targets] == [name]:
            if isinstance(each.value, ast.Call):
                return {str(one.arg): ast.literal_eval(one.value) for one in each.value.keywords}
            return ast.literal_eval(each.value)
    return None


@cache
def tree(folder: str, module: str) -> ast.Module:
    """The parsed source of one of our modules."""
    places = (root.joinpath(folder, f"{module}.py") for root in ROOTS)
    source = next(place for place in places if place.is_file())
    return ast.parse(source.read_text(encoding="utf-8"))
