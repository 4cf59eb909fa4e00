"""What the documents link to and name is there: files, modules, tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"])
HISTORY = "0018-the-house-second-edition.md"
"""It names modules as they were called before."""
EXAMPLES = {"my_attack.py", "pickle.py"}
"""Files of users and of attackers, which are not ours."""


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Every Python file of ours, by its path with a slash in front."""
    folders = ("robustness_gate", "tests", "benchmarks", "reports", "tools")
    return [f"/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_module_that_is_named_is_there(page, sources):
    named = set(re.findall(r"[\w/]+\.py\b", page.read_text(encoding="utf-8"))) - EXAMPLES
    lacking = [name for name in named if not any(path.endswith(f"/{name}") for path in sources)]
    assert page.name == HISTORY or lacking == []


def test_every_test_that_a_decision_names_is_there():
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for name in re.findall(r"`(?:[\w/]+\.py::)?(test_\w+)`", page.read_text(encoding="utf-8")):
            assert f"def {name}(" in tests, f"{page.name}: {name}"


def test_the_files_of_the_evening_are_counted_as_they_are():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (\d+) \|", text, re.MULTILINE)
    stated = re.search(r"(\d+) files, about ([\d,]+) lines", text)
    assert stated
    assert int(stated[1]) == len(rows)
    lines = sum(len((ROOT / "robustness_gate" / name).read_text(encoding="utf-8").splitlines()) for name, _ in rows)
    assert lines == pytest.approx(int(stated[2].replace(",", "")), rel=0.1), "count again, with wc"
