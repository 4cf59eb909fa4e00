"""What the documents link to and name is there: files, modules, tests."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from robustness_gate import organisms
from robustness_gate.verdict import selftests

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
    found = {name: len((ROOT / "robustness_gate" / name).read_text(encoding="utf-8").splitlines()) for name, _ in rows}
    assert sum(found.values()) == pytest.approx(int(stated[2].replace(",", "")), rel=0.02), "count again, with wc"
    other = {name: found[name] for name, count in rows if abs(found[name] - int(count)) > max(10, found[name] // 20)}
    assert other == {}, "write these counts"


def test_the_organisms_are_counted_as_they_are():
    stated = re.search(r"(\d+) checkpoints", (ROOT / "organisms" / "README.md").read_text(encoding="utf-8"))
    assert stated
    shipped = ROOT / "organisms" / "robustness_gate_organisms" / "data" / "checkpoints"
    assert int(stated[1]) == len([each for each in shipped.iterdir() if each.is_dir()])


def test_the_rooms_are_named_in_the_order_of_the_layers():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (each["layers"] for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.search(r"From the lowest room to the highest: (.+?)\. A room", text, re.DOTALL)
    assert named
    assert re.findall(r"`([\w| ]+)`", named[1]) == layers[::-1]


PACKAGE = ROOT / "robustness_gate"
LIBRARIES = {"torch", "transformers", "peft"}


def at_the_top(path: Path) -> Iterator[ast.AST]:
    yield from ast.parse(path.read_text(encoding="utf-8")).body


def in_functions(path: Path) -> Iterator[ast.AST]:
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.FunctionDef):
            yield from ast.walk(each)


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Names of the libraries and of the modules of `engine` that these import statements name."""
    found = set()
    for each in nodes:
        if isinstance(each, ast.Import):
            found |= {alias.name for alias in each.names}
        elif isinstance(each, ast.ImportFrom):
            found |= {each.module or "", *(f"{each.module}.{alias.name}" for alias in each.names)}
    engine = {"".join(re.findall(r"^robustness_gate\.(engine\.\w+)", name)) for name in found}
    return (engine - {""}) | (LIBRARIES & {name.partition(".")[0] for name in found})


@cache
def heavy() -> set[str]:
    """The libraries, and the modules of `engine` that import them or one another."""
    modules = {f"engine.{path.stem}": imported(at_the_top(path)) for path in (PACKAGE / "engine").glob("*.py")}
    return LIBRARIES | {name for name, names in modules.items() if names}


def rooms_with(part: Callable[[Path], Iterator[ast.AST]]) -> set[str]:
    """The rooms with a module in which this part imports something heavy."""
    return {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for path in PACKAGE.rglob("*.py")
        if imported(part(path)) & heavy()
    }


def test_the_rooms_that_import_torch_are_those_that_are_named():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.search(r"Only modules of (.+?) import torch.+?at their top\. Functions.+?, in (.+?)\.", text, re.DOTALL)
    assert named
    top, inside = (set(re.findall(r"`(\w+)`", each)) for each in named.groups())
    assert (rooms_with(at_the_top), rooms_with(in_functions) - top) == (top, inside)


def test_the_documents_count_what_the_code_has() -> None:
    """The classes as which organisms are written, and the number of attacks from which their average is looked at."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven")[selftests.ENOUGH]
    read = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/calibration.md")}
    assert f"{len(organisms.REWRITTEN)} other classes" in " ".join(read["README.md"].split())
    for text in read.values():
        assert f"at least {words} different attacks" in " ".join(text.split())
