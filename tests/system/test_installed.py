"""Without torch, or without the organisms' data, a verb that needs them says in one sentence what to install."""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustness_gate import demo, organisms
from robustness_gate.assurance import doctor, self_test
from robustness_gate.assurance.doctor import wording
from robustness_gate.cli import app
from robustness_gate.errors import Exit, SetupError

ATTACKING = {
    "run": "run organism:oracle --policy organism --suite organism-smoke --out OUT --no-mlflow",
    "demo": "demo --out OUT",
    "self-test": "self-test --out OUT/self-test.json",
    "attack try": "attack try none.py",
}
NAMING = {
    "a checkpoint": "plan organism:rmu --policy custom --suite custom",
    "a suite": "policy pin organism --suite organism-smoke",
    "demo": "demo --out OUT",
    "self-test": "self-test --out OUT/self-test.json",
    "attack try": "attack try none.py",
}


def refused(arguments: str, out: Path) -> SetupError:
    done = CliRunner().invoke(app, arguments.replace("OUT", str(out)).split())
    assert isinstance(done.exception, SetupError), done.output
    assert done.exception.exit_code is Exit.USAGE
    assert not list(out.glob("*.json")), "nothing was begun"
    return done.exception


@pytest.mark.parametrize("verb", ATTACKING)
def test_without_torch_the_verbs_that_attack_name_the_extra(verb: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(demo, "subprocess", None)  # what got so far would take minutes
    monkeypatch.setattr(self_test, "records_of", None)
    told = refused(ATTACKING[verb], tmp_path)
    assert str(told) == "torch is not installed. Install what attacks need: pip install 'robustness-gate[run]'."


@pytest.mark.parametrize("case", NAMING)
def test_without_the_data_what_names_an_organism_says_how_to_get_them(case: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, organisms.PACKAGE, None)
    assert str(refused(NAMING[case], tmp_path)) == f"the organisms' data are not installed. {organisms.INSTALL}"


def test_without_the_data_the_organisms_are_listed_all_the_same(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, organisms.PACKAGE, None)
    done = CliRunner().invoke(app, ["organisms", "list"])
    assert done.exit_code == 0
    assert "organism:rmu" in done.output
    assert organisms.INSTALL in done.output


def test_no_one_is_advised_to_install_them_by_a_name_that_is_on_no_index() -> None:
    assert "pip install robustness" not in organisms.INSTALL
    assert "robustness-gate-organisms" not in organisms.INSTALL


def test_without_the_data_doctor_loads_no_model_that_it_has_nothing_to_ask(tmp_path: Path, monkeypatch) -> None:
    place = shutil.copytree(organisms.checkpoint("oracle"), tmp_path / "mine")
    monkeypatch.setitem(sys.modules, organisms.PACKAGE, None)
    (told,) = [check for check in doctor.examine(str(place)) if check.name == "loading"]
    assert told.state == "note"
    assert told.code == doctor.Code.NOTHING_TO_ASK
    assert wording.remedy(told).startswith("Name your questions with --suite.")


@pytest.mark.parametrize("manifest", ["{}", None])
def test_the_data_of_another_release_are_refused(manifest: str | None, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "data").mkdir()
    if manifest is not None:
        (tmp_path / "data" / "manifest.json").write_text(manifest)
    other = importlib.machinery.ModuleSpec(organisms.PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: other if name == organisms.PACKAGE else None)
    with pytest.raises(SetupError, match="are not those of this release"):
        organisms.world("forget.dev")
