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
from robustness_gate.records.declarations import Given
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


PRUNED = "scores: [snip], calibrate_on: [questions], utility: [unrelated]"
LAYERS = {"num_hidden_layers": 3}


def foreseen(
    folder: Path,
    attack: str,
    config: str,
    layers: dict[str, int],
    hazard: str = "letters",
    *,
    original: bool = True,
) -> list[str]:
    extra = {"  - attack: sample\n": f"  - attack: {attack}\n    config: {config}\n"}
    suite = load_suite(write(folder, hazard, **extra))
    text = POLICY.replace("LIMITED", "letters").replace("REQUIRED", RELEARN)
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **layers}), encoding="utf-8")
    roles = (Role.CANDIDATE, Role.ORIGINAL) if original else (Role.CANDIDATE,)
    files = [FileEntry(path="-", size=size, sha256="0" * 64) for size in range(len(roles))]
    subjects = [
        plan.Subject(role, CheckpointRef(folder), Manifest(files=(file,)))
        for role, file in zip(roles, files, strict=True)
    ]
    made = plan.make(load_policy(folder / "policy.yaml"), suite, gather(suite), subjects)
    return [line for line in made.foreseen if "its settings" in line]


@pytest.mark.parametrize("attack", SMALL)
def test_a_search_of_two_points_is_told_by_its_name_its_points_and_its_floor(attack: str, tmp_path: Path) -> None:
    (told,) = foreseen(tmp_path, attack, SMALL[attack], LAYERS)
    assert told.startswith(attack)
    points = 1 if attack == "reformat" else 2
    assert f"its settings are too few (at most {points}), so it can establish a breach, but not compliance" in told
    assert "required: at least three" in told


@pytest.mark.parametrize(
    ("attack", "config", "points", "enough"),
    [
        ("steer", "{vectors: [unrelated], depths: [0.0], multiples: [0, 1, 2]}", 2, "[0, 1, 2, 4]"),
        ("pruning", f"{{{PRUNED}, p: [1, 5], q: [0, 1]}}", 2, "[0, 1, 5]"),
        ("pruning", f"{{{PRUNED}, p: [5, 100], q: [1, 2]}}", 2, "[1, 2, 5]"),
    ],
    ids=["a multiple of nothing", "nothing may be cut", "everything is spared"],
)
def test_a_point_that_changes_nothing_is_no_setting(
    attack: str, config: str, points: int, enough: str, tmp_path: Path
) -> None:
    (told,) = foreseen(tmp_path, attack, config, LAYERS)
    assert f"too few (at most {points})" in told
    assert not foreseen(tmp_path, attack, f"{config[: config.rindex('[')]}{enough}}}", LAYERS)


def test_a_vector_of_length_zero_is_told_by_its_own_floor(tmp_path: Path) -> None:
    (told,) = foreseen(tmp_path, "steer", "{vectors: [unrelated], depths: [0.0, 0.4, 0.7], multiples: [0]}", LAYERS)
    assert "required: the vector that is added is not zero" in told


@pytest.mark.parametrize(
    ("attack", "config", "lost", "left"),
    [
        ("ablation", "{directions: [original, unrelated, principal], single_layers: false}", 2, 1),
        ("steer", "{vectors: [original, unrelated], depths: [0.0], multiples: [1.0, 2.0]}", 1, 2),
        ("steer", "{vectors: [original, unrelated]}", 1, None),
    ],
)
def test_kinds_that_need_an_original_are_missed_where_none_is_named(
    attack: str, config: str, lost: int, left: int | None, tmp_path: Path
) -> None:
    told = foreseen(tmp_path, attack, config, LAYERS, original=False)
    assert f"its settings ask for more than there is (kinds_left_out: at least {lost})" in told[0]
    assert "need" in told[0]
    assert "--original" in told[0]
    assert len(told) == (1 if left is None else 2)
    assert left is None or f"too few (at most {left})" in told[1]
    assert not foreseen(tmp_path, attack, config, LAYERS)


def test_more_layers_and_more_forms_make_more_points(tmp_path: Path) -> None:
    ablation = "ablation", SMALL["ablation"].replace("false", "true")
    assert not foreseen(tmp_path, *ablation, {"n_layer": 1})  # two directions, at one layer and at all
    assert not foreseen(tmp_path, "ablation", SMALL["ablation"], {"n_layer": 4}, hazard="[letters, words]")


@pytest.mark.parametrize("attack", SMALL)
def test_of_a_model_whose_config_names_no_layers_is_said_what_needs_no_number_of_them(
    attack: str, tmp_path: Path
) -> None:
    told = foreseen(tmp_path, attack, SMALL[attack], {"num_hidden_layers": 0})
    assert len(told) == (attack not in ("steer", "logit_lens"))
    assert not foreseen(tmp_path, "ablation", "{directions: [original, unrelated]}", {"num_hidden_layers": 0})


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"num_hidden_layers": 5}, 5),
        ({"n_layer": 7}, 7),
        ({"n_layers": 8}, 8),
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
        if hasattr(module, "at_best"):
            best = module.at_best(attacks.configure(module, entry.get("config", {})), Given(1, 4))
            for bound in (each for floor in module.FLOORS for each in floor.any_of if each.signal in best):
                tried += 1
                assert bound.holds(best), f"{entry['attack']}: {bound.signal}"
    assert tried or path.stem not in ("real", "wmdp-standard", "organism-full")
