"""The codes of `doctor` are a closed set: each has a sentence, its arguments, a place, a row in docs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustness_gate.assurance.doctor import Check, Code, wording
from robustness_gate.assurance.doctor.asking import DAMAGE
from robustness_gate.assurance.doctor.findings import problem
from robustness_gate.errors import UnknownWord, UsageError
from robustness_gate.system.sentences import arguments, fill


def made(root: Path) -> Iterator[tuple[Code, set[str]]]:
    """(code, names of its arguments) wherever a check is made with a code that stands there."""
    for path in (root / "robustness_gate" / "assurance" / "doctor").glob("*.py"):
        for call in (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "found":
                names = {each.arg or "**" for each in call.keywords}
                for each in ast.walk(call.args[3]):
                    if isinstance(each, ast.Attribute):
                        yield Code[each.attr], names


def test_each_code_has_a_sentence_and_only_codes_have_a_remedy() -> None:
    assert set(wording.SENTENCES) == set(Code)
    assert set(wording.REMEDIES) <= set(Code)


def test_each_code_is_made_with_the_arguments_of_its_sentence(root: Path) -> None:
    for code, names in made(root):
        wanted = arguments(wording.SENTENCES[code]) | arguments(wording.REMEDIES.get(code, ""))
        assert wanted <= names or "**" in names, (code, wanted - names)


def test_no_code_is_without_a_place_where_it_is_made(root: Path) -> None:
    text = "\n".join(path.read_text() for path in (root / "robustness_gate/assurance/doctor").glob("*.py"))
    for code in set(Code) - {code for code, _ in made(root)} - {*DAMAGE.values()}:
        assert text.count(f"Code.{code.name}") > 1 + (code in wording.REMEDIES), code


def test_a_code_that_is_not_known_raises() -> None:
    check = Check("machine", "ok", "x", "new", {})  # type: ignore[arg-type]
    for write in (wording.sentence, wording.remedy):
        with pytest.raises(UnknownWord):
            write(check)


def test_an_error_is_a_problem_with_its_own_remedy() -> None:
    check = problem("checkpoint", "files", UsageError("it is broken.", remedy="Mend it.", where="model"))
    assert (check.state, check.code) == ("PROBLEM", Code.REFUSED)
    assert (wording.sentence(check), wording.remedy(check)) == ("model: it is broken.", "Mend it.")
    assert problem("checkpoint", "files", ValueError("x\ny")).args == {"message": "ValueError: x"}


def test_the_manual_lists_them_all(root: Path) -> None:
    manual = (root / "docs" / "checkpoints.md").read_text()
    assert wording.table() in manual, "write what assurance.doctor.wording.table() gives into docs/checkpoints.md"


@pytest.mark.parametrize(
    ("template", "args", "sentence"),
    [
        ("{a}[ and {b} more]", {"a": "x", "b": 0}, "x"),
        ("{a}[ and {b} more]", {"a": "x", "b": 2}, "x and 2 more"),
        ("'gate[run]' {a}", {"a": "\x1b[2J"}, "'gate[run]' \N{REPLACEMENT CHARACTER}[2J"),
        ("{a}", {"a": tuple("abcdefg")}, "'a', 'b', 'c', 'd', 'e' and 2 more"),
        ("{a:bytes}, {b:minutes}", {"a": 4_200_000, "b": 121}, "4.2 MB, 121 minutes"),
        ("{b:minutes}", {"b": 30 * 24 * 60 + 1}, "31 days"),
    ],
)
def test_a_sentence_is_filled(template: str, args: dict[str, object], sentence: str) -> None:
    assert fill(template, args) == sentence  # type: ignore[arg-type]
