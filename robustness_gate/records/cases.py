"""The self-test cases in the attacks' own files, read from their source: nothing is imported, as in `literals`.

The judge must know on which organism a kind of attack is tested, and must not import the code that attacks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from robustness_gate.records import declarations
from robustness_gate.records.declarations import SelfTestCase
from robustness_gate.records.encode import Json
from robustness_gate.records.literals import modules, tree


@cache
def cases_of(attack: str) -> tuple[SelfTestCase, ...] | None:
    """`SELF_TEST` of an attack of ours; None for any other.

    Raises ValueError if it is not a tuple of calls whose arguments are literals and constants of the same file.
    """
    if attack not in modules("attacks"):
        return None
    known: dict[str, ast.expr] = {"MOST_OF_THE_GAP": ast.Constant(declarations.MOST_OF_THE_GAP)}
    for name, value in _assigned(tree("attacks", attack).body):
        if name == "SELF_TEST":
            calls = value.elts if isinstance(value, ast.Tuple) else ()
            return tuple(_case(each, known) for each in calls)
        known[name] = value
    return ()


@cache
def words_of(attack: str) -> Mapping[str, Json]:
    """The defaults of the settings of one of our attacks that are words, and of its `layers`."""
    config = next(
        (each for each in tree("attacks", attack).body if isinstance(each, ast.ClassDef) and each.name == "Config"),
        None,
    )
    found: dict[str, Json] = {}
    for name, value in _assigned(config.body if config is not None else ()):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found[name] = value.value
        elif name == "layers":
            found[name] = [*ast.literal_eval(value)]
    return found


def _assigned(body: Any) -> Iterator[tuple[str, ast.expr]]:
    for each in body:
        match each:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _case(call: ast.expr, known: Mapping[str, ast.expr]) -> SelfTestCase:
    if not isinstance(call, ast.Call):
        raise ValueError(f"a case is not a call: {ast.unparse(call)}")
    given = [_value(each, known) for each in call.args]
    return SelfTestCase(*given, **{str(each.arg): _value(each.value, known) for each in call.keywords})


def _value(node: ast.expr, known: Mapping[str, ast.expr]) -> Any:
    """A literal, a constant of the file, or a dict of both. Raises ValueError for anything else."""
    match node:
        case ast.Name(id=name) if name in known:
            return _value(known[name], known)
        case ast.Dict(keys=keys, values=values):
            whole: dict[str, Any] = {}
            for key, value in zip(keys, values, strict=True):
                read = _value(value, known)
                whole.update(read if key is None else {ast.literal_eval(key): read})
            return whole
    return ast.literal_eval(node)
