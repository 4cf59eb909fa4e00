"""The kind of a finding and the role of a trial are enums: no code reads them out of a prefix, or writes them as words.

A `utility:TASK` that one module writes and another takes apart is a protocol that no type checker sees.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import ValidationError

import robustness_gate
from robustness_gate.records.encode import encode
from robustness_gate.records.trial import ModelRef, Role
from robustness_gate.records.verdict import FindingKind

PACKAGE = Path(robustness_gate.__file__).parent
TAKES_APART = {"startswith", "removeprefix", "partition", "rpartition", "split"}
PREFIX = re.compile(r"[a-z][a-z_-]*:")
ROLES, KINDS = {*Role}, {*Role, *FindingKind}
OTHER_PREFIXES = {
    "organism:": "how a user names a checkpoint of ours",
    "hf:": "how a user names a checkpoint on the hub",
    "hf-dataset:": "how a suite names items on the hub",
    "sqlite:": "of a tracker's address",
    "file:": "of a tracker's address",
}
"""What a user or another program writes, and may be taken apart, each with what it is."""


def words_in(node: ast.AST) -> Iterator[str]:
    yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def prefixes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where text is taken apart at `kind:`, loses its colons, or is put together as `kind:NAME`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            words = [*words_in(node)]
            if node.func.attr in TAKES_APART:
                yield from ((node.lineno, each) for each in words if PREFIX.fullmatch(each))
            if node.func.attr == "replace" and words[:1] == [":"]:
                yield node.lineno, ":"
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            head = str(node.values[0].value)
            yield from ((node.lineno, head) for kind in KINDS if head == f"{kind}:")


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a role is held against a word instead of a member."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            yield from ((node.lineno, each) for each in words_in(node) if "role" in names and each in ROLES)
        if isinstance(node, ast.MatchValue):
            yield from ((node.lineno, each) for each in words_in(node) if each in ROLES)


@cache
def trees() -> dict[str, ast.AST]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


@pytest.mark.parametrize("look", [prefixes, compared])
def test_no_kind_or_role_is_read_out_of_words(look) -> None:
    found = {f"{path}:{line}: '{each}'" for path, tree in trees().items() for line, each in look(tree)
             if each not in OTHER_PREFIXES}  # fmt: skip
    assert not found, "compare with a member of Role or FindingKind instead"


def test_every_prefix_that_is_let_through_is_there() -> None:
    assert {each for tree in trees().values() for _, each in prefixes(tree)} == OTHER_PREFIXES.keys()


@pytest.mark.parametrize(
    ("words", "look"),
    [
        ('rule.startswith("utility:")', prefixes),
        ('role.removeprefix("control:")', prefixes),
        ('relative_to.partition("control:")', prefixes),
        ('role.replace(":", " ")', prefixes),
        ('f"guardrail:{rule.id}"', prefixes),
        ('trial.role == "sham"', compared),
        ('(trial.role, trial.attack) == ("candidate", "none")', compared),
        ('match role:\n    case "candidate" | "sham":\n        pass', compared),
    ],
)
def test_it_finds_each_way_of_doing_so(words: str, look) -> None:
    assert list(look(ast.parse(words)))


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", ["", "clean"])
def test_a_control_has_a_name_and_no_other_model_has_one(role: Role, name: str) -> None:
    if (role == Role.CONTROL) == bool(name):
        assert ModelRef.model_validate_json(encode(ModelRef(role=role, control=name))).control == name
    else:
        with pytest.raises(ValidationError, match="a control has a name"):
            ModelRef(role=role, control=name)
