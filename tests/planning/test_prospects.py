"""Whether a PASS is possible for a model under a policy: said before anything runs, and the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from robustness_gate import organisms
from robustness_gate.assurance import doctor
from robustness_gate.assurance.doctor.findings import Code
from robustness_gate.assurance.doctor.wording import remedy, sentence
from robustness_gate.cli import app
from robustness_gate.errors import UsageError
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.planning import bench, plan, prospects
from robustness_gate.planning.prospects import Obstacle
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role
from tests import commands

ROOT = Path(__file__).parents[2]
POLICY, SUITE = ROOT / "policies" / "organism.yaml", ROOT / "suites" / "organism-smoke.yaml"
WITHOUT = "olmo2"
"""An architecture without organisms."""


def files(policy: Path = POLICY) -> tuple[Loaded[Policy], Loaded[Suite]]:
    return load_policy(policy), load_suite(SUITE)


def subject() -> plan.Subject:
    place = CheckpointRef(organisms.checkpoint("rmu"), source="organism:rmu")
    return plan.Subject(Role.CANDIDATE, place, manifest_of(place))


def noisy(folder: Path) -> Path:
    """The organisms' policy, which also requires an attack that has no case."""
    text = POLICY.read_text(encoding="utf-8")
    path = folder / "policy.yaml"
    path.write_text(text.replace("  - {attack: none}\n", "  - {attack: none}\n  - {attack: noise}\n"), encoding="utf-8")
    return path


GPT2 = tuple(kind for kind, each in bench.BENCHES.items() if "gpt2" in (kind, each.shipped_as))
"""No case shows on them what fine-tuning on unrelated questions recovers."""


@pytest.mark.parametrize("kind", GPT2)
def test_on_a_gpt2_the_one_kind_without_a_case_is_in_the_way(kind: str) -> None:
    policy, suite = files()
    (found,) = prospects.obstacles(policy, suite, kind)
    assert found.code == Obstacle.NO_CASE
    assert "'relearn (unrelated, lora)' is required, and cannot be tested" in prospects.sentence(found)
    smallest = load_policy(ROOT / "policies" / "smallest.yaml")
    assert prospects.obstacles(smallest, suite, kind) == ()


@pytest.mark.parametrize("kind", [each for each in bench.BENCHES if each not in GPT2])
def test_nothing_is_in_the_way_where_there_are_organisms(kind: str) -> None:
    assert prospects.obstacles(*files(), kind) == ()
    told = prospects.way(*files(), kind)
    assert "a PASS is possible" in told
    assert f"--model-type {kind} " in told
    assert ("written as that class" in told) == (kind in organisms.REWRITTEN)


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (WITHOUT, Obstacle.NO_ORGANISMS, f"no organism is a '{WITHOUT}', so no self-test counts for this checkpoint"),
        ("", Obstacle.NO_MODEL_TYPE, "config.json names no model_type"),
    ],
)
def test_what_is_in_the_way_has_a_code_a_sentence_and_a_remedy(kind: str, code: Obstacle, words: str) -> None:
    (found,) = prospects.obstacles(*files(), kind)
    assert found.code == code
    assert prospects.sentence(found).startswith(words)
    assert prospects.sentence(found).endswith("no PASS is possible")
    assert prospects.remedy(found)
    assert ("a calibration" in prospects.remedy(found)) == bool(kind)  # without a model_type none counts either


def test_a_required_attack_without_a_case_is_named_at_its_line(tmp_path: Path) -> None:
    policy = load_policy(noisy(tmp_path))
    (found,) = prospects.obstacles(policy, None, "mistral")
    assert (found.code, found.where) == (Obstacle.NO_CASE, policy.where("required", 1))
    assert "'noise' is required, and cannot be tested" in prospects.sentence(found)


@pytest.mark.parametrize("kind", ["llama", WITHOUT, ""])
def test_a_policy_that_asks_for_no_self_test_has_nothing_in_the_way(kind: str) -> None:
    policy = load_policy(ROOT / "policies" / "custom.yaml")
    assert policy.record.validity.self_test == "off"
    assert prospects.obstacles(policy, None, kind) == ()
    assert "does not show that the attacks work" in prospects.way(policy, None, kind)


@pytest.mark.parametrize("kind", ["llama", WITHOUT, ""])
def test_a_policy_that_can_only_find_a_breach_says_so_before_anything_runs(kind: str) -> None:
    policy = load_policy(ROOT / "policies" / "vendor-audit.yaml")
    (found,) = prospects.obstacles(policy, None, kind)
    assert (found.code, found.where) == (Obstacle.NEVER, policy.where("validity", "passes"))
    assert prospects.sentence(found).endswith("no PASS is possible")


def calibrated(folder: Path, methods: str, self_test: str = "required", calibration: str = "off") -> Loaded[Policy]:
    """The organisms' policy with terms for a calibration."""
    text = POLICY.read_text(encoding="utf-8")
    text = text.replace("self_test: required ", f"calibration: {calibration}\n  self_test: {self_test} ")
    path = folder / "policy.yaml"
    path.write_text(f"{text}calibration: {{methods: [{methods}]}}\noriginal: {'0' * 64}\n", encoding="utf-8")
    return load_policy(path)


def test_terms_for_a_calibration_open_a_way_where_there_are_no_organisms(tmp_path: Path) -> None:
    policy, suite = calibrated(tmp_path, "rmu, shallow, npo"), load_suite(SUITE)
    assert prospects.obstacles(policy, suite, WITHOUT) == ()
    told = prospects.way(policy, suite, WITHOUT)
    assert "stands in for the self-test" in told
    assert "robustness-gate calibrate" in told
    assert "robustness-gate self-test" not in told  # it would be refused
    trials = plan.make(policy, suite, gather(suite), [subject()]).trials
    assert prospects.untestable(policy.record, trials, WITHOUT) == {}
    assert set(prospects.untestable(policy.record, trials, "").values()) == {"config.json names no model_type"}


def test_terms_that_lack_a_method_open_none(tmp_path: Path) -> None:
    policy, suite = calibrated(tmp_path, "graddiff, shallow, npo"), load_suite(SUITE)
    found = prospects.obstacles(policy, suite, WITHOUT)
    assert {each.code for each in found} == {Obstacle.NEITHER}
    assert [each.where for each in found] == [policy.where("required", index) for index in (1, 2)]
    assert all("no method of 'calibration' is" in prospects.sentence(each) for each in found)
    assert prospects.obstacles(policy, suite, "llama") == ()  # the self-test is possible there
    trials = plan.make(policy, suite, gather(suite), [subject()]).trials
    lost = prospects.untestable(policy.record, trials, WITHOUT)
    assert len(lost) == 2
    assert set(lost.values()) == {f"no organism is a '{WITHOUT}'"}


def test_a_required_attack_that_the_command_left_out_is_untestable_as_well() -> None:
    """Else `why` would advise a self-test after `run --only none` that is refused."""
    made = plan.make(*files(), gather(files()[1]), [subject()], only=["none"])
    assert {each.attack for each in made.trials} == {"none"}
    lost = prospects.untestable(files()[0].record, [*made.trials, *made.left_out], WITHOUT)
    assert {name.split()[0] for name in lost} == {"relearn"}
    assert set(lost.values()) == {f"no organism is a '{WITHOUT}'"}
    assert prospects.untestable(files()[0].record, [*made.trials, *made.left_out], "mistral") == {}


@pytest.mark.parametrize("self_test", ["required", "off"])
def test_a_required_calibration_without_its_method_is_in_the_way_everywhere(tmp_path: Path, self_test: str) -> None:
    policy, suite = calibrated(tmp_path, "graddiff, shallow, npo", self_test, "required"), load_suite(SUITE)
    assert {each.code for each in prospects.obstacles(policy, suite, "llama")} == {Obstacle.NO_CALIBRATION}
    whole = calibrated(tmp_path, "rmu, shallow, npo", self_test, "required")
    assert prospects.obstacles(whole, suite, "llama") == ()
    told = prospects.way(whole, suite, "llama")
    assert "robustness-gate calibrate" in told
    assert ("robustness-gate self-test" in told) == (self_test == "required")


def test_every_obstacle_has_a_sentence_and_a_remedy() -> None:
    assert set(prospects.SENTENCES) == set(prospects.REMEDIES) == set(Obstacle)


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A checkpoint's directory of an architecture without organisms: only its config and weights' header matter."""
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(organisms.checkpoint("oracle"), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": WITHOUT, "architectures": ["Olmo2ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_policy_check_says_it_for_a_checkpoint(strange: Path) -> None:
    asked = ["policy", "check", str(POLICY), "--suite", str(SUITE), "--checkpoint"]
    assert f"no organism is a '{WITHOUT}'" in said(*asked, str(strange))
    told = said(*asked, "organism:oracle")
    assert "a PASS is possible" in told
    assert "--model-type llama" in told


@pytest.mark.parametrize("named", ["gone", "empty"])
def test_policy_check_refuses_a_checkpoint_that_is_not_there_as_plan_does(named: str, tmp_path: Path) -> None:
    """It said that config.json named no model_type, and left with 0."""
    place = tmp_path / named
    if named == "empty":
        place.mkdir()
    ways = (["policy", "check", str(POLICY), "--checkpoint", str(place)], ["plan", str(place), "--policy", str(POLICY)])
    check, planned = (commands.gate(*way, "--suite", SUITE) for way in ways)
    assert (check.returncode, planned.returncode) == (2, 2)
    assert check.stderr == planned.stderr
    assert str(place) in "".join(check.stderr.split())


def test_plan_says_it(strange: Path) -> None:
    asked = ["--policy", str(POLICY), "--suite", str(SUITE)]
    told = said("plan", str(strange), *asked)
    assert f"no organism is a '{WITHOUT}', so no self-test counts for this checkpoint: no PASS is possible" in told
    assert "say `validity: {self_test: off}`" in told
    assert "a PASS is possible" not in told
    assert "a PASS is possible" in said("plan", "organism:oracle", *asked)


def test_doctor_says_it_with_a_policy_and_without(strange: Path) -> None:
    def found(place: str, policy: Path | None) -> doctor.Check:
        checks = doctor.examine(place, weights=False, suite=SUITE, policy=policy)
        (check,) = [each for each in checks if each.code in OF_THE_SELF_TEST]
        return check

    assert found(str(strange), None).code == Code.CANNOT_BE_SELF_TESTED
    assert found("organism:oracle", None).code == Code.CAN_BE_SELF_TESTED
    hindered = found(str(strange), POLICY)
    assert (hindered.code, hindered.state) == (Code.NO_PASS, "note")
    assert "no PASS is possible" in sentence(hindered)
    assert "validity: {self_test: off}" in remedy(hindered)
    assert found("organism:oracle", POLICY).code == Code.PASS_IS_POSSIBLE


def test_doctor_asks_for_the_suite_of_the_policy() -> None:
    done = CliRunner().invoke(app, ["doctor", "organism:oracle", "--no-load", "--policy", str(POLICY)])
    assert isinstance(done.exception, UsageError)
    assert "--policy goes with --suite" in done.exception.message


OF_THE_SELF_TEST = {Code.CAN_BE_SELF_TESTED, Code.CANNOT_BE_SELF_TESTED, Code.NO_PASS, Code.PASS_IS_POSSIBLE}
