"""The two wheels of a release: what is in them, how large they are, and the README's commands in any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "policy check custom --suite custom",
    "policy lint custom",
    "policy diff smallest organism",
    "policy show smallest --resolved",
    "policy test organism organism",
    "plan organism:rmu --policy custom --suite custom --original organism:base",
    "verify pass --checkpoint organism:oracle --public examples",
    "init .",
    "policy check gate/policy.yaml --suite gate/suite.yaml",
    "keys generate --out keys",
]
"""The README's, and what needs a shipped file, as far as they take a second and no torch."""
EACH = """
import json, pathlib, sys
from typer.testing import CliRunner
sys.modules["torch"] = None
import robustness_gate, robustness_gate_organisms
from robustness_gate.cli import app
done = {line: CliRunner().invoke(app, line.split()) for line in json.loads(sys.argv[1])}
told = {line: [each.exit_code, each.output + str(each.exception)] for line, each in done.items()}
print(json.dumps([robustness_gate.__file__, robustness_gate_organisms.__file__, told]))
"""


def built(folder: Path, into: Path) -> Path:
    """The wheel of the distribution in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: Any) -> tuple[Path, Path]:
    """The package's, and that of the organisms' data."""
    return (
        built(ROOT, tmp_path_factory.mktemp("gate")),
        built(ROOT / "organisms", tmp_path_factory.mktemp("organisms")),
    )


def test_the_package_is_small_and_carries_what_is_shipped_byte_for_byte(wheels: tuple[Path, Path]) -> None:
    gate, _ = wheels
    assert gate.stat().st_size < 1_500_000
    with zipfile.ZipFile(gate) as inside:
        prefix = "robustness_gate/shipped/"
        held = {name.removeprefix(prefix): inside.read(name) for name in inside.namelist() if name.startswith(prefix)}
    folders = ("policies", "suites", "reports/schema", "reports/examples")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert held == {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files}


def test_no_metadata_names_a_distribution_that_no_index_has(wheels: tuple[Path, Path]) -> None:
    """Whoever put something under that name would have it installed by all who install the gate."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as inside:
            (name,) = [name for name in inside.namelist() if name.endswith(".dist-info/METADATA")]
            told = BytesParser().parsebytes(inside.read(name))
        assert not [each for each in told.get_all("Requires-Dist", []) if "organisms" in each.lower()]
    assert told["Name"] == "robustness-gate-organisms"
    assert told.get_all("Requires-Dist") is None
    assert "Private :: Do Not Upload" in told.get_all("Classifier", []), "an index refuses it"


def test_the_readmes_commands_work_in_any_folder(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(site)
    done = subprocess.run(
        [sys.executable, "-c", EACH, json.dumps(COMMANDS)],
        cwd=empty, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    gate, organisms, told = json.loads(done.stdout)
    assert [Path(gate).parents[1], Path(organisms).parents[1]] == [site, site]
    assert {line: output for line, (code, output) in told.items() if code != 0} == {}
