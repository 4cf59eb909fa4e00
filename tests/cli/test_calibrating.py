"""`calibrate`, and what `plan`, `run` and `judge` do with its file; nothing is trained here."""

from __future__ import annotations

from pathlib import Path

import evidence
import pytest
from calibrations import calibration, policy_in, told
from commands import gate

from robustness_gate.assurance import calibrate
from robustness_gate.evidence import ledger

SUITE = str(evidence.ROOT / "suites" / "organism-smoke.yaml")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory):
    return policy_in(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def file(policy, tmp_path: Path) -> Path:
    path = tmp_path / "calibration.jsonl"
    with ledger.writing(path) as opened:
        opened.append(calibration(policy.path))
    return path


@pytest.fixture
def blind(policy, tmp_path: Path) -> Path:
    """A calibration in which one attack recovers nowhere."""
    whole = calibration(policy.path)
    recoveries = tuple(
        each.model_copy(update={"test": each.test.model_copy(update={"after": 28, "gain": -0.04})})
        if each.test.config["source"] == "unrelated"
        else each
        for each in whole.recoveries
    )
    path = tmp_path / "blind.jsonl"
    with ledger.writing(path) as opened:
        opened.append(whole.model_copy(update={"recoveries": recoveries}))
    return path


def test_the_command_prints_the_table_the_words_and_where_to_give_the_file(
    policy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made = calibration(policy.path)
    monkeypatch.setattr(calibrate, "run", lambda *_: (made, policy.record))
    out = tmp_path / "out.jsonl"
    done = gate("calibrate", "organism:base", "--policy", str(policy.path), "--suite", SUITE, "--out", str(out))
    assert done.returncode == 0
    assert "28 > 80 of 96" in done.stdout
    assert "Of 66 facts taught to this original and suppressed by npo, relearn (unrelated, lora) brought back 52." in (
        done.stdout
    )
    assert f"{out}: give it to `run` with --calibration" in done.stdout
    short = made.model_copy(update={"recoveries": made.recoveries[:-1]})
    monkeypatch.setattr(calibrate, "run", lambda *_: (short, policy.record))
    monkeypatch.setattr(calibrate, "shortcomings", lambda *_: ["no result of an attack"])
    done = gate("calibrate", "organism:base", "--policy", str(policy.path), "--suite", SUITE, "--out", str(out))
    assert done.returncode == 4
    assert "no result of an attack" in done.stdout


def test_plan_says_first_which_attack_is_blind_and_what_a_calibration_takes(policy, file: Path, blind: Path) -> None:
    asked = ("plan", "organism:rmu", "--policy", str(policy.path), "--suite", SUITE, "--calibration")
    done = gate(*asked, str(blind))
    first = done.stdout.splitlines()[0]
    assert first.startswith("no PASS is possible with")
    assert "relearn (unrelated, lora)" in done.stdout.splitlines()[0] + done.stdout.splitlines()[1]
    assert "no bite shown on this model: it can establish a breach, never compliance" in done.stdout
    assert "a calibration: at most" in done.stdout
    assert "28 trials" in done.stdout  # 4 attacks x (3 spikes and their shams, and the blank)
    assert "no PASS is possible" not in gate(*asked, str(file)).stdout


def test_judge_takes_a_calibration_beside_the_ledger(policy, file: Path, tmp_path: Path) -> None:
    made = told(policy, calibrations=())
    assert made.verdict.outcome == "INCONCLUSIVE"
    book = evidence.ledger_of(made, tmp_path / "ledger.jsonl")
    asked = ("judge", str(book.path), "--policy", str(policy.path), "--at", "2026-11-21T12:00:00")
    assert gate(*asked).returncode == 4
    done = gate(*asked, "--calibration", str(file))
    assert done.returncode == 0
    assert "Of 66 facts taught to this original" in done.stdout


def test_a_file_without_a_finished_calibration_is_refused(policy, tmp_path: Path) -> None:
    path = tmp_path / "stopped.jsonl"
    with ledger.writing(path):
        pass
    run = ("run", "organism:rmu", "--policy", str(policy.path), "--suite", SUITE, "--out", str(tmp_path / "out"))
    done = gate(*run, "--calibration", str(path))
    assert done.returncode == 2
    assert "run to its end" in done.stderr
    assert gate(*run, "--calibration", str(tmp_path / "none.jsonl")).returncode == 2


@pytest.mark.slow
def test_a_run_records_the_device_and_compares_the_weights_with_the_pinned_original(policy, tmp_path: Path) -> None:
    """Untouched models alone are asked; the calibration is of another original and counts for nothing."""
    from robustness_gate import organisms
    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.report import reading

    digest = manifest_of(CheckpointRef(organisms.checkpoint("base"))).digest
    mine = tmp_path / "policy.yaml"
    text = policy.path.read_text(encoding="utf-8").replace(evidence.ORIGINAL.digest, digest)
    mine.write_text(text, encoding="utf-8")
    other = tmp_path / "calibration.jsonl"
    with ledger.writing(other) as opened:
        opened.append(calibration(policy.path))
    done = gate(
        "run", "organism:rmu", "--original", "organism:base", "--policy", mine, "--suite", SUITE, "--only", "none",
        "--calibration", other, "--out", tmp_path / "out", "--device", "cpu", "--no-mlflow", "--workers", 1,
    )  # fmt: skip
    assert done.returncode == 4
    made = reading.read(tmp_path / "out")
    assert made.devices == ("cpu",)
    (check,) = made.weights
    assert (check.reference, check.alike) == (digest, check.tensors)
    assert check.cosine > 0.9
    (blocker,) = (each for each in made.verdict.blockers if each.code == "calibration_does_not_count")
    assert {each.code for each in blocker.causes} == {"other_original"}
    assert not any(each.flag == "original_unrelated" for each in made.verdict.flags)
