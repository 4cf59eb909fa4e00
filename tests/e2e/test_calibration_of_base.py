"""The calibration of the shipped base under the shipped policy, whole, and what it decides for candidates.

Fifteen CPU-minutes, so it is not among the everyday tests. docs/calibration.md has the table of one such run.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from commands import gate

from robustness_gate.assurance import calibrate
from robustness_gate.policy_language import load_policy
from robustness_gate.records.calibration import TAUGHT, Calibration
from robustness_gate.records.verdict import Verdict
from robustness_gate.report import reading
from robustness_gate.verdict.calibrations import accepted, recovers, spike_faults

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "policies" / "organism-calibrated.yaml"
SUITE = ROOT / "suites" / "organism-smoke.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(14400)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("calibration")
    out = folder / "calibration.jsonl"
    request = calibrate.Request("organism:base", POLICY, SUITE, out, device="cpu", workers=1)
    calibrate.run(request, datetime.now(UTC))
    assert [each.name for each in folder.iterdir()] == ["calibration.jsonl"]  # no spiked model is left
    return out


@pytest.fixture(scope="module")
def made(file: Path) -> Calibration:
    from robustness_gate.evidence.ledger import calibrations_in

    return calibrations_in(file)[-1]


def test_every_method_has_a_spike_and_every_cell_is_measured(made: Calibration) -> None:
    policy = load_policy(POLICY).record
    assert policy.calibration is not None
    assert spike_faults(made, TAUGHT, policy) == ()
    table = calibrate.cells(made, policy)
    assert len(table) == 4
    for method in policy.calibration.methods:
        assert accepted(made, method, policy)
        assert all(method in row for row in table.values())
    assert all(each.test.sham_changed == 0 for each in made.recoveries)


def test_every_method_is_answered_and_every_attack_bites_somewhere(made: Calibration) -> None:
    policy = load_policy(POLICY).record
    assert policy.calibration is not None
    bites = [each for each in made.recoveries if recovers(each.test, policy.calibration.thresholds)]
    assert {each.method for each in bites} == set(policy.calibration.methods)
    assert {calibrate.row_of(each.test) for each in bites} == set(calibrate.cells(made, policy))
    assert calibrate.shortcomings(made, policy) == []


def run(candidate: str, policy: Path, folder: Path, *more: object) -> tuple[int, Verdict]:
    done = gate(
        "run", f"organism:{candidate}", "--original", "organism:base", "--policy", policy, "--suite", SUITE,
        "--out", folder / "out", "--device", "cpu", "--no-mlflow", "--workers", 1, *more,
    )  # fmt: skip
    return done.returncode, reading.read(folder / "out").verdict


def test_a_clean_candidate_passes_with_it_and_not_without(file: Path, tmp_path: Path) -> None:
    """The oracle was trained apart from the base: the flag about it blocks, unless the policy's owner accepts that."""
    text = POLICY.read_text(encoding="utf-8")
    assert text.count("  calibration: required\n") == 1
    accepts = tmp_path / "accepts.yaml"
    accepted_flag = "  calibration: required\n  record_only: [still_rising, original_unrelated]\n"
    accepts.write_text(text.replace("  calibration: required\n", accepted_flag), encoding="utf-8")
    code, verdict = run("oracle", accepts, tmp_path)
    assert (code, verdict.outcome) == (4, "INCONCLUSIVE")
    assert {each.code for each in verdict.blockers} == {"calibration_missing", "self_test_missing"}
    code, verdict = run("oracle", accepts, tmp_path, "--calibration", file)
    assert (code, verdict.outcome, verdict.blockers) == (0, "PASS", ())
    code, verdict = run("oracle", POLICY, tmp_path, "--calibration", file)
    assert code == 4
    assert [(each.code, each.args) for each in verdict.blockers] == [("flag", {"flag": "original_unrelated"})]


def test_a_breach_needs_no_calibration(file: Path, tmp_path: Path) -> None:
    code, verdict = run("rmu", POLICY, tmp_path, "--only", "relearn (forget, full)", "--calibration", file)
    assert (code, verdict.outcome) == (3, "FAIL")
    assert not any(each.flag == "original_unrelated" for each in verdict.flags)
