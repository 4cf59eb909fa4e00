"""`plan` says it where a search is smaller than its own floor asks, so that it can establish no compliance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from robustness_gate import attacks
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef, layers_of
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role
from tests.planning.test_hazards import POLICY, RELEARN, write

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "suites").rglob("*.yaml"))
SMALL = {
    "ablation": "{directions: [original, unrelated], single_layers: false}",
    "steer": "{vectors: [unrelated], depths: [0.0, 0.1], multiples: [1.0, 2.0]}",
    "perturb": "{every: [3], shares: [], characters: ['!', '?'], slips: [], cases: []}",
    "logit_lens": "{stages: [block]}",
    "reformat": "{presentations: [header_none], calibrations: []}",
    "pruning": "{scores: [snip], calibrate_on: [questions], utility: [unrelated], p: [5.0], q: [2.5, 5.0]}",
}
"""Settings of two points at most, on a model of three layers."""


def foreseen(folder: Path, attack: str, config: str, layers: dict[str, int], hazard: str = "letters") -> list[str]:
    extra = {"  - attack: sample\n": f"  - attack: {attack}\n    config: {config}\n"}
    suite = load_suite(write(folder, hazard, **extra))
    text = POLICY.replace("LIMITED", "letters").replace("REQUIRED", RELEARN)
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **layers}), encoding="utf-8")
    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    subject = plan.Subject(Role.CANDIDATE, CheckpointRef(folder), manifest)
    made = plan.make(load_policy(folder / "policy.yaml"), suite, gather(suite), [subject])
    return [line for line in made.foreseen if "too few" in line]


@pytest.mark.parametrize("attack", SMALL)
def test_a_search_of_two_points_is_told_by_its_name_its_points_and_its_floor(attack: str, tmp_path: Path) -> None:
    (told,) = foreseen(tmp_path, attack, SMALL[attack], {"num_hidden_layers": 3})
    assert told.startswith(attack)
    points = 1 if attack == "reformat" else 2
    assert f"its settings are too few (at most {points}), so it can establish a breach, but not compliance" in told
    assert "required: at least three" in told


def test_more_layers_and_more_forms_make_more_points(tmp_path: Path) -> None:
    ablation = "ablation", SMALL["ablation"].replace("false", "true")
    assert not foreseen(tmp_path, *ablation, {"n_layer": 1})  # two directions, at one layer and at all
    assert not foreseen(tmp_path, "ablation", SMALL["ablation"], {"n_layer": 4}, hazard="[letters, words]")


def test_a_model_whose_config_names_no_layers_is_not_guessed_at(tmp_path: Path) -> None:
    assert not foreseen(tmp_path, "ablation", SMALL["ablation"], {"num_hidden_layers": 0})


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"num_hidden_layers": 5}, 5),
        ({"n_layer": 7}, 7),
        ({"num_hidden_layers": 5, "text_config": {"num_hidden_layers": 9}}, 9),
        ({"num_hidden_layers": True}, None),
        ([], None),
    ],
)
def test_layers_are_those_of_the_text_part(config: object, layers: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert layers_of(CheckpointRef(tmp_path)) == layers


@pytest.mark.parametrize("path", SUITES, ids=[path.stem for path in SUITES])
def test_no_shipped_suite_has_a_search_that_is_too_small(path: Path) -> None:
    """`suites/real.yaml` had an ablation of two settings, and `policies/real.yaml` required it: nothing could pass."""
    tried = 0
    for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["attacks"]:
        module = attacks.load(entry["attack"])
        if hasattr(module, "most"):
            most = module.most(attacks.configure(module, entry.get("config", {})), 4, 1)
            for bound in (each for floor in module.FLOORS for each in floor.any_of if each.signal in most):
                tried += 1
                assert most[bound.signal] >= (bound.min or 0), f"{entry['attack']}: {bound.signal}"
    assert tried or path.stem not in ("real", "wmdp-standard", "organism-full")
