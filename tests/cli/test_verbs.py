"""`doctor`, `why` and `init` as a person meets them, with their exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml

from robustness_gate import starter
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from robustness_gate.cli import main; main()"


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip


gate = partial(commands.gate, COLUMNS="120")


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_looks_at_machine_checkpoint_and_every_attack() -> None:
    done = gate("doctor", "organism:oracle", "--json", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["can_run"] is True
    checks = {check["name"]: check for check in told["checks"]}
    args = {name: check["args"] for name, check in checks.items()}
    assert checks["blocks"]["sentence"] == "4 recognised, attention, then MLP"
    assert checks["letters"]["sentence"] == "A to D are one token each after 'Answer:'"
    assert args["parameters"]["dtypes"] == "float16"
    assert len(args["digest"]["digest"]) == 64
    assert args["device"]["name"] == "CPU"
    from robustness_gate import attacks

    assert {each["name"] for each in told["checks"] if each["part"] == "attacks"} == set(attacks.names())
    assert (checks["interpolate"]["state"], checks["interpolate"]["code"]) == ("note", "not-applicable")
    assert checks["relearn"] == {
        "part": "attacks", "state": "ok", "name": "relearn",
        "code": "reaches-all", "args": {"missing": "", "shares": "100 %"},
        "sentence": "applies, reaching 100 % of the weights in the blocks' matrices", "remedy": "",
    }  # fmt: skip


@pytest.mark.slow  # 3 s: every attack is tried
def test_doctor_tries_the_suites_attacks_with_the_original() -> None:
    suite = ["--suite", "suites/organism-smoke.yaml", "--original", "organism:base"]
    done = gate("doctor", "organism:rmu", *suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "has the same tensors as the candidate" in done.stdout
    assert "relearn" in done.stdout
    assert "quantize" not in done.stdout
    assert "with its right answer" in " ".join(done.stdout.split()), "what each attack is made on is shown"
    assert "The gate can run on it." in done.stdout


def test_doctor_without_torch_says_what_it_can_and_leaves_with_2() -> None:
    done = without_torch("doctor", "organism:oracle")
    assert done.returncode == 2, done.stderr
    assert "not installed: torch" in done.stdout
    assert "pip install 'robustness-gate[run]'" in done.stdout
    assert "1,045,120 on disk as float16" in done.stdout
    assert "not tried, the model was not loaded" in done.stdout


def test_doctor_on_what_is_refused_names_the_remedy_and_leaves_with_2(tmp_path: Path) -> None:
    from robustness_gate import organisms

    place = shutil.copytree(organisms.checkpoint("oracle"), tmp_path / "model")
    (place / "model.bin").write_bytes(b"pickle")
    done = gate("doctor", str(place), "--no-load", "--quiet")
    assert done.returncode == 2
    assert "PROBLEM" in done.stdout
    assert "a loader may take for weights: 'model.bin'" in " ".join(done.stdout.split())
    assert "checkpoint copy SRC DST" in " ".join(done.stdout.split())


def test_doctor_points_into_a_suite_that_is_wrong(tmp_path: Path) -> None:
    starter.write(tmp_path)
    suite = tmp_path / "gate" / "suite.yaml"
    suite.write_text(suite.read_text().replace("budgets: [2, 4]", "budgest: [2, 4]"))
    done = gate("doctor", "organism:oracle", "--no-load", "--suite", str(suite))
    assert done.returncode == 2
    assert "unknown setting 'budgest'" in done.stdout
    assert "Did you mean 'budgets'?" in done.stdout


# --- why -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any, policy_file: Path, suite_file: Path, suite_data: SuiteData) -> Path:
    """The report of a run that was killed before its first mark."""
    policy, suite = load_policy(policy_file), load_suite(suite_file)
    manifest = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="a" * 64),))
    planned = plan.make(policy, suite, suite_data, [plan.Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest)])
    evidence = Evidence(manifest.digest, planned.trials)
    made = report_build.make(policy, suite, manifest, evidence, datetime(2026, 1, 1, tzinfo=UTC))
    place: Path = tmp_path_factory.mktemp("out")
    (place / "report.json").write_bytes(encode(made.model_dump(mode="json", by_alias=True)))
    return place


def test_why_starts_without_torch_and_says_what_to_do_next(folder: Path) -> None:
    done = without_torch("why", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("INCONCLUSIVE: ")
    assert "nothing was examined" in done.stdout
    assert f"--out {folder}" in done.stdout
    assert "\x1b" not in done.stdout


def test_why_as_json_and_in_short(folder: Path) -> None:
    told = json.loads(gate("why", str(folder / "report.json"), "--json").stdout)
    assert told["outcome"] == "INCONCLUSIVE"
    assert told["strongest"] is None
    assert told["steps"][0]["command"].startswith("robustness-gate run CHECKPOINT")
    short = gate("why", str(folder), "--quiet").stdout
    assert "next" in short
    assert "bear in mind" not in short


def test_why_on_something_else_is_one_line_and_2() -> None:
    done = gate("why", "README.md")
    assert done.returncode == 2
    assert done.stderr == "error: README.md: is not JSON. Give the report.json of a run.\n"


# --- init ------------------------------------------------------------------------------------------------------------


def test_what_init_writes_is_valid_and_can_be_planned(tmp_path: Path) -> None:
    done = gate("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote gate/policy.yaml" in done.stdout
    printed = [line.strip() for line in done.stdout.splitlines() if line.startswith("  robustness-gate")]
    assert [command.split()[1] for command in printed] == ["policy", "doctor", "run"]
    checked = gate(*printed[0].split()[1:], cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    files = ["--policy", "gate/policy.yaml", "--suite", "gate/suite.yaml"]
    planned = gate("plan", "organism:oracle", *files, cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert "relearn (unrelated, lora), seed 1" in planned.stdout


def test_init_overwrites_nothing_and_writes_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    mine = tmp_path / "gate" / "suite.yaml"
    mine.write_text("mine")
    done = gate("init", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {mine}: is there already")
    assert [path.name for path in tmp_path.rglob("*")] == ["gate", "suite.yaml"]
    assert mine.read_text() == "mine"


def test_the_starters_comments_name_the_files_that_it_writes(tmp_path: Path) -> None:
    for path in starter.write(tmp_path).files:
        assert "custom.yaml" not in path.read_text(encoding="utf-8"), path


def test_the_starters_workflow_calls_ours_as_it_wants_to_be_called(root: Path) -> None:
    ours = yaml.safe_load((root / ".github/workflows/robustness-gate.yml").read_text(encoding="utf-8"))
    called = ours[True]["workflow_call"]  # YAML 1.1 reads the key `on` as true
    job = yaml.safe_load((starter.HERE / "workflow.yml").read_text(encoding="utf-8"))["jobs"]["gate"]
    assert job["uses"] == "OWNER/robustness-gate/.github/workflows/robustness-gate.yml@COMMIT"
    assert set(job["with"]) <= set(called["inputs"])
    assert {name for name, each in called["inputs"].items() if each.get("required")} <= set(job["with"])
    assert set(job["secrets"]) <= set(called["secrets"])


# --- help ------------------------------------------------------------------------------------------------------------


def test_every_verb_shows_how_it_is_called() -> None:
    import typer

    from robustness_gate.cli import app, verbs

    def below(command: Any, name: str) -> list[tuple[str, Any]]:
        if hasattr(command, "commands"):  # a group
            return [found for key, each in command.commands.items() for found in below(each, f"{name} {key}")]
        return [(name, command)]

    verbs.imported(verbs.ALL)
    found = below(typer.main.get_command(app), "robustness-gate")
    assert len(found) >= 11
    for name, command in found:
        assert (command.epilog or "").startswith(f"Example: {name}"), name
        assert (command.help or "").strip(), name
        assert all(each.help for each in command.params), name


def test_the_table_of_verbs_names_the_modules_that_register_them() -> None:
    """A verb of a module that the table does not name would be missing where another verb was imported alone."""
    import typer

    from robustness_gate.cli import app, verbs

    verbs.imported(verbs.ALL)
    registered: dict[str, set[str]] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for each in getattr(command, "commands", {name: command}).values():
            registered.setdefault(name, set()).add(each.callback.__module__.rpartition(".")[2])
    assert registered == {verb: {*modules} for verb, modules in verbs.MODULES.items()}


# --- doctor, in this process: models that load and are not well ------------------------------------------------------


@pytest.fixture
def spoilt(tmp_path: Path) -> Any:
    """A copy of an organism with its tensors changed."""
    from safetensors.torch import load_file, save_file

    from robustness_gate import organisms

    def make(change: Any) -> str:
        place = tmp_path / "model"
        shutil.copytree(organisms.checkpoint("oracle"), place)
        tensors = change(load_file(place / "model.safetensors"))
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
        return str(place)

    return make


def problems(checkpoint: str) -> dict[str, Any]:
    from robustness_gate.assurance import doctor

    checks = doctor.examine(checkpoint, device="cpu")
    assert not doctor.can_run(checks)
    return {check.name: check for check in checks if check.state == "PROBLEM"}


def test_doctor_notices_weights_that_were_made_up_at_random(spoilt: Any) -> None:
    found = problems(spoilt(lambda tensors: {n: t for n, t in tensors.items() if "layers.3" not in n}))
    assert "9 of its weights are not in the files, the first is 'model.layers.3." in found["loading"].args["message"]


def test_doctor_notices_answers_that_are_not_numbers(spoilt: Any) -> None:
    found = problems(spoilt(lambda tensors: {n: t * float("nan") for n, t in tensors.items()}))
    assert found["answers"].code == "not-finite"


def test_doctor_without_a_tokenizer_or_a_device_says_so_and_does_not_go_on(spoilt: Any) -> None:
    place = Path(spoilt(dict))
    from robustness_gate.assurance import doctor

    there = doctor.examine(str(place), device="cuda:99")
    assert [check.name for check in there if check.state == "PROBLEM"] == ["device"]
    (place / "tokenizer.json").unlink()
    found = doctor.examine(str(place), weights=False)
    assert [check.code for check in found if check.name == "tokenizer"] == [doctor.Code.NO_TOKENIZER]


@pytest.mark.slow  # 3 s: every attack is tried
def test_doctor_tries_attacks_in_the_suites_formats(spoilt: Any, suite_file: Path, tmp_path: Path) -> None:
    from robustness_gate.assurance import doctor

    text = suite_file.read_text(encoding="utf-8").replace("count: 400,", "count: 400, formats: [raw, chat],")
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    place = spoilt(dict)

    def checks() -> dict[str, doctor.Check]:
        return {check.name: check for check in doctor.examine(place, device="cpu", suite=tmp_path / "suite.yaml")}

    without = checks()
    assert without["chat template"].code == doctor.Code.TEMPLATE_NEEDED
    assert "no chat template" in without["relearn"].args["message"]
    template = "{{ bos_token }}user: {{ messages[0].content }} assistant:"
    (Path(place) / "chat_template.jinja").write_text(template, encoding="utf-8")
    there = checks()
    assert {there[name].state for name in ("chat template", "letters", "relearn")} == {"ok"}
