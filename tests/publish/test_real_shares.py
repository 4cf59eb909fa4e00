"""The limit on a share on the real model: its questions are those of the calibration, and its pins are right."""

from __future__ import annotations

from pathlib import Path

from commands import gate

from robustness_gate.assurance.calibrate import questions
from robustness_gate.errors import Exit
from robustness_gate.inputs.validation import load_suite
from robustness_gate.organisms.world_files import read_items
from robustness_gate.policy_language import load_policy

ROOT = Path(__file__).parents[2]
REAL = ROOT / "suites" / "real"


def test_its_files_hold_the_questions_of_the_world_that_the_calibration_teaches() -> None:
    policy, suite = load_policy(ROOT / "policies/real-calibrated.yaml"), load_suite(ROOT / "suites/real.yaml")
    assert policy.record.calibration is not None
    _, _, data = questions.data_of(policy.record, suite, policy.record.calibration)
    assert read_items(REAL / "world.verdict.jsonl") == list(data.tasks[questions.INVENTED].items)
    assert read_items(REAL / "world.dev.jsonl") == list(data.dev)
    theirs = {
        item.question.stem: item.question.choices[item.answer] for item in data.corpora["forget"].items
    }  # wrong choices drawn anew
    assert {
        item.question.stem: item.question.choices[item.answer] for item in read_items(REAL / "world.relearn.jsonl")
    } == theirs


def test_its_policy_lacks_the_taught_model_alone(tmp_path: Path) -> None:
    policy, suite = ROOT / "policies/real-shares.yaml", ROOT / "suites/real-shares.yaml"
    refused = gate("policy", "check", policy, "--suite", suite)
    assert refused.returncode == Exit.USAGE
    assert "one field is not pinned: original" in refused.stderr
    filled = tmp_path / "policy.yaml"
    filled.write_text(policy.read_text(encoding="utf-8").replace("UNPINNED", "a" * 64), encoding="utf-8")
    accepted = gate("policy", "check", filled, "--suite", suite)
    assert accepted.returncode == Exit.PASS, accepted.stderr
