"""docs/requirements.md names tests that exist, for every requirement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "requirements.md"
ROW = re.compile(r"^\| (R\d+) \| .+ \| (.+) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """The names of all test functions."""
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_each_requirement_names_tests_that_exist(functions):
    rows = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))
    assert list(rows) == [f"R{number}" for number in range(1, 22)]
    for number, tests in rows.items():
        named = re.findall(r"`(\w+)`", tests)
        assert named, f"{number} names no test"
        assert set(named) <= functions, f"{number}: {sorted(set(named) - functions)}"


def test_a_test_is_called_by_what_holds_and_not_by_a_number(functions):
    assert [name for name in functions if re.match(r"test_r\d+_", name)] == []
