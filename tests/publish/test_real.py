"""`./run real`: policies, suites and data are valid and disjoint, and what benchmarks/real.py does without a model."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from calibrations import calibration_of, spike
from commands import gate
from evidence import made

from robustness_gate import attacks
from robustness_gate.evidence import ledger
from robustness_gate.inputs.datasets import read_items
from robustness_gate.inputs.validation import load_suite
from robustness_gate.organisms import unlearn
from robustness_gate.planning.calibrated import uncalibrated
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Closed

ROOT = Path(__file__).parents[2]
DATA = ROOT / "suites" / "real"
CHANCE = 0.25


@pytest.fixture(scope="module")
def real() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real", ROOT / "benchmarks" / "real.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real"] = module
    spec.loader.exec_module(module)
    return module


# --- policies, suites and data ----------------------------------------------------------------------------------------


def files(name: str) -> list[str]:
    return ["--policy", f"policies/{name}.yaml", "--suite", f"suites/{name}.yaml"]


@pytest.mark.parametrize(
    ("name", "suite"), [("real", "real"), ("real-quick", "real-quick"), ("real-calibrated", "real")]
)
def test_policy_and_suite_fit_together(name: str, suite: str) -> None:
    done = gate("policy", "check", f"policies/{name}.yaml", "--suite", f"suites/{suite}.yaml", cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_full_run_takes_over_every_trial_of_the_quick_one() -> None:
    """A trial is known by its digest, so these are the same settings, questions and data."""

    def trials(name: str) -> set[str]:
        done = gate("plan", "organism:rmu", *files(name), "--original", "organism:base", cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return {line.partition(" ")[0] for line in done.stdout.splitlines() if ", seed " in line}

    quick, full = trials("real-quick"), trials("real")
    assert len(quick) == 6  # three attacks, two shams, the original
    assert quick < full


@pytest.mark.parametrize("domain", ["capitals", "opposites", "colours"])
def test_no_question_and_no_fact_is_in_two_files(domain: str) -> None:
    """Also not turned round: who learns that the opposite of hot is cold knows that of cold."""
    facts = {
        path.name: {
            frozenset(
                (item.question.stem.rstrip("?").rpartition(" ")[2].lower(), item.question.choices[item.answer].lower())
            )
            for item in read_items(path)
        }
        for path in sorted(DATA.glob(f"{domain}.*.jsonl"))
    }
    assert {name: len(each) for name, each in facts.items()} == {
        name: len(read_items(DATA / name)) for name in facts
    }, "a fact is there twice"
    for one, other in combinations(facts, 2):
        words = [{word for fact in facts[name] for word in fact} for name in (one, other)]
        assert facts[one].isdisjoint(facts[other])
        if domain == "capitals":  # neither a country nor a capital of one file is asked for in another
            assert words[0].isdisjoint(words[1]), (one, other)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.jsonl")), ids=lambda path: path.name)
def test_a_question_has_four_choices_and_their_order_shows_nothing(path: Path) -> None:
    items = read_items(path)
    assert all(len(set(item.question.choices)) == 4 for item in items)
    most = max(sum(item.answer == place for item in items) for place in range(4))
    assert most / len(items) < 2 * CHANCE


# --- the script -------------------------------------------------------------------------------------------------------


def test_every_method_has_settings_that_it_knows(real: Any) -> None:
    assert [each.name for each in real.METHODS] == ["rmu", "npo", "dpo", "shallow"]
    for method in real.METHODS:
        attacks.configure(unlearn.METHODS[method.name], dict(method.settings))
    assert set(real.QUICK) <= {each.name for each in real.METHODS}


def test_the_data_that_it_names_is_there(real: Any) -> None:
    named = {f"{name}.jsonl" for name in (*real.FORGET, *real.RETAIN)}
    assert named < {path.name for path in DATA.iterdir()}
    assert "opposites.verdict.jsonl" not in named, "what shows the damage is not trained to stay"


def test_the_table_shows_verdicts_what_found_them_and_an_attempt_that_ended_well(real: Any) -> None:
    lines = list(
        real.table({"original": made("FAIL"), "rmu": made("PASS"), "npo": made("INCONCLUSIVE", only=["none"])})
    )
    assert lines[0].startswith("Per cent right: forget / retain. ")
    assert lines[2] == "| attack | budget | original | rmu | npo |"
    rows = {tuple(cell.strip() for cell in line.split("|")[1:3]): line.split("|")[3:-1] for line in lines[4:]}
    cells = {key: [cell.strip() for cell in row] for key, row in rows.items()}
    assert cells["none", ""] == ["27 / 95", "27 / 95", "38 / 95"]
    assert cells["**verdict**", ""] == ["FAIL", "PASS", "INCONCLUSIVE"]
    assert cells["relearn (unrelated, lora)", "100"] == ["80 / 95", "27 / 95", "-"]
    assert cells["found by", ""] == ["relearn (unrelated, lora) at 100", "-", "-"]


@pytest.mark.parametrize(
    ("first", "second", "cells"),
    [("failure", "ok", {5: "27 / 95"}), ("ok", "failure", {5: "26 / 95"}), ("failure", "failure", {})],
)
def test_a_cell_is_of_the_last_attempt_that_ended_well(first: str, second: str, cells: Any, real: Any) -> None:
    """The first attempt measured 26 %, the second 27: one that was broken off shows nothing, also where it is later."""
    record = next(each for each in made("PASS").trials if each.label == "relearn (forget, full)")
    ended = tuple(
        Closed(trial=record.id, attempt=number, status=status, reason="" if status == "ok" else "switched off")
        for number, status in ((1, first), (2, second))
    )
    assert real.cells_of(record.model_copy(update={"closed": ended})) == cells


@pytest.fixture
def steps(real: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], Callable[[int], None]]:
    """The commands that the script would give, and a way to say with which code they end."""
    given: list[list[str]] = []
    codes = [0]

    def step(*words: object) -> int:
        given.append([str(word) for word in words])
        return codes[-1]

    monkeypatch.setattr(real, "step", step)
    return given, codes.append


def test_an_unlearned_model_is_kept_and_half_of_one_is_made_anew(real: Any, steps: Any, tmp_path: Path) -> None:
    given, ends_with = steps
    whole, half = tmp_path / "whole", tmp_path / "half"
    for folder in (whole, half):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"")
    (whole / "unlearning.json").write_text("{}")
    for folder in (whole, half):
        assert real.unlearned(tmp_path / "original", real.METHODS[0], folder, "cpu") == folder
    assert not half.exists()
    (command,) = given
    assert command[:5] == ["organisms", "unlearn", str(tmp_path / "original"), "--method", "rmu"]
    assert "layers=[5, 6, 7]" in command
    ends_with(2)
    with pytest.raises(SystemExit, match="2"):
        real.unlearned(tmp_path / "original", real.METHODS[0], tmp_path / "other", "cpu")


@pytest.mark.parametrize(("code", "stops"), [(0, False), (3, False), (4, False), (1, True), (2, True), (130, True)])
def test_a_verdict_goes_on_and_an_error_stops(code: int, stops: bool, real: Any, steps: Any, tmp_path: Path) -> None:
    given, ends_with = steps
    ends_with(code)
    asked = (tmp_path / "rmu", tmp_path / "original", "real-calibrated", "real", tmp_path / "rmu", "cpu", "1")
    if stops:
        with pytest.raises(SystemExit, match=str(code)):
            real.examined(*asked)
    else:
        real.examined(*asked)
    assert given[0][given[0].index("--original") + 1] == str(tmp_path / "original")


def test_the_original_is_not_its_own_original(real: Any, steps: Any, tmp_path: Path) -> None:
    real.examined(tmp_path, tmp_path, "real-calibrated", "real", tmp_path / "real" / "original", "cpu", "1")
    assert "--original" not in steps[0][0]


def whole_calibration(out: Path) -> None:
    """A finished calibration where the script looks for it."""
    with ledger.writing(out / "calibration.jsonl") as book:
        book.append(calibration_of(recoveries=()))


def test_a_finished_calibration_is_not_made_again_and_an_unfinished_one_goes_on(
    real: Any, steps: Any, tmp_path: Path
) -> None:
    given, _ = steps
    asked = Namespace(out=tmp_path, device="cpu", workers="1")
    with ledger.writing(tmp_path / "calibration.jsonl") as book:
        book.append(spike("taught"))  # stopped after its first attempt
    file = str(tmp_path / "calibration.jsonl")
    assert real.calibrated(tmp_path / "original", "real-calibrated", "real", asked) == file
    (command,) = given
    assert command[:2] == ["calibrate", str(tmp_path / "original")]
    assert command[command.index("--out") + 1] == file
    whole_calibration(tmp_path)
    assert real.calibrated(tmp_path / "original", "real-calibrated", "real", asked) == file
    assert len(given) == 1


@pytest.mark.parametrize(("code", "stops"), [(0, False), (4, False), (1, True), (2, True), (3, True), (130, True)])
def test_what_a_calibration_lacks_is_no_error(code: int, stops: bool, real: Any, steps: Any, tmp_path: Path) -> None:
    steps[1](code)
    asked = (tmp_path, "real-calibrated", "real", Namespace(out=tmp_path, device="cpu", workers="1"))
    if stops:
        with pytest.raises(SystemExit, match=str(code)):
            real.calibrated(*asked)
    else:
        real.calibrated(*asked)


@pytest.mark.parametrize("quick", [True, False])
def test_the_full_run_is_judged_with_the_calibration_and_the_quick_one_without(
    quick: bool, real: Any, steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, _ = steps
    monkeypatch.setattr(real, "converted", lambda out: out)
    monkeypatch.setattr(real.reading, "read", lambda _: made("FAIL"))
    monkeypatch.setattr(sys, "argv", ["real", "--out", str(tmp_path), *(["--quick"] if quick else [])])
    for name in ("real", "real-quick"):
        (tmp_path / name).mkdir()
    assert real.main() == 0
    verbs = [command[0] for command in given]
    assert verbs.count("calibrate") == (0 if quick else 1)
    runs = [command for command in given if command[0] == "run"]
    assert len(runs) == (2 if quick else 5)
    wanted = str(tmp_path / "calibration.jsonl")
    assert all(("--calibration" in command) != quick for command in runs)
    assert quick or all(command[command.index("--calibration") + 1] == wanted for command in runs)
    policy = "real-quick" if quick else "real-calibrated"
    assert all(command[command.index("--policy") + 1] == f"policies/{policy}.yaml" for command in runs)


def test_the_calibrated_policy_asks_for_nothing_that_no_calibration_can_show() -> None:
    policy = load_policy(ROOT / "policies" / "real-calibrated.yaml")
    suite = load_suite(ROOT / "suites" / "real.yaml")
    assert policy.record.validity.calibration == "required"
    assert policy.record.original is not None
    assert list(uncalibrated(policy, suite, "llama")) == []
