"""A run asks the candidate in the precision that its config names too, where the files hold another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role


@pytest.mark.parametrize(("declared", "asked"), [("float16", []), ("bfloat16", ["bfloat16"]), ("float32", [])])
def test_the_plan_has_a_trial_of_it(
    declared: str, asked: list[str], tmp_path: Path, suite_data: Any, policy_file: Path, suite_file: Path
) -> None:
    directory = Path(shutil.copytree(organisms.checkpoint("oracle"), tmp_path / "model"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"dtype": declared}))
    candidate = plan.Subject(Role.CANDIDATE, CheckpointRef(directory), inspect(directory))
    made = plan.make(load_policy(policy_file), load_suite(suite_file), suite_data, [candidate])
    own = [trial for trial in made.trials if trial.role == Role.IN_DECLARED_DTYPE]
    assert [(trial.attack, trial.dtype) for trial in own] == [("none", each) for each in asked]
