"""A run asks the candidate in the precision that its config names too, where the files hold another."""

from __future__ import annotations

import dataclasses
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
from robustness_gate.records.policy import Control
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


@pytest.mark.parametrize("compared", [True, False])
def test_the_models_that_it_is_compared_with_are_asked_in_that_precision_too(
    compared: bool, tmp_path: Path, suite_data: Any, policy_file: Path, suite_file: Path
) -> None:
    """Else a candidate that knows in that precision only would be compared with nothing there."""
    directory = Path(shutil.copytree(organisms.checkpoint("oracle"), tmp_path / "model"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    others = [(Role.ORIGINAL, "", "base"), (Role.CONTROL, "blank", "decoy")]
    subjects = [plan.Subject(Role.CANDIDATE, CheckpointRef(directory), inspect(directory))]
    for role, name, organism in others:
        place = organisms.checkpoint(organism)
        subjects.append(plan.Subject(role, CheckpointRef(place), inspect(place), name))
    policy = load_policy(policy_file)
    control = Control(sha256=subjects[2].manifest.digest, kind="retrained")
    limits = tuple(each.model_copy(update={"relative_to": "blank"}) for each in policy.record.limits)
    changed = {"controls": {"blank": control}, "limits": limits if compared else policy.record.limits}
    policy = dataclasses.replace(policy, record=policy.record.model_copy(update=changed))
    made = plan.make(policy, load_suite(suite_file), suite_data, subjects)
    (own,) = (trial for trial in made.trials if trial.role == Role.IN_DECLARED_DTYPE)
    beside = [trial for trial in made.trials if trial.dtype == "bfloat16" and trial is not own]
    wanted = [(role, name) for role, name, _ in others] if compared else []
    assert [(trial.role, trial.control) for trial in beside] == wanted
    for trial, subject in zip(beside, subjects[1:], strict=compared):
        assert (trial.subject, trial.attack, trial.tasks) == (subject.manifest.digest, "none", own.tasks)
