"""The composite action's shell, executed as the action executes it: the same script, the same environment, no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from evidence import work
from stage import ACTION, ROOT, TERMS, Done, equipped, gated, perform, pretend

from robustness_gate import organisms
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import SelfTests
from robustness_gate.records.trial import Role

SIGN = ROOT / ".github" / "actions" / "sign-report"


@pytest.fixture
def runner(tmp_path) -> Path:
    return equipped(tmp_path)


# the real gate


class Red(NamedTuple):
    """What one job of the real gate left, on a model that was never unlearned. To be read, not changed."""

    runner: Path
    given: dict[str, str]
    done: Done


@pytest.fixture(scope="module")
def red(tmp_path_factory) -> Red:
    runner, volume = equipped(tmp_path_factory.mktemp("runner")), tmp_path_factory.mktemp("volume")
    given = {"checkpoint": "organism:base", "only": "none", "device": "cpu", "ledgers": str(volume / "ledgers")}
    return Red(runner, given, gated(runner, **given))


def test_a_model_that_knows_is_red_and_leaves_verdict_report_and_summary(red):
    done = red.done
    assert done.code == 3
    named = {"policy", "policy-sha256", "suite-sha256"}
    assert set(done.outputs) == {"verdict", "report", "report-sha256", "folder", "artifact"} | named
    assert done.outputs["verdict"] == "FAIL"
    report = Path(done.outputs["report"])
    assert hashlib.sha256(report.read_bytes()).hexdigest() == done.outputs["report-sha256"]
    written = json.loads(report.read_text(encoding="utf-8"))
    assert written["verdict"]["outcome"] == "FAIL"
    for name, file in (("policy", "policies/organism.yaml"), ("suite", "suites/organism-smoke.yaml")):
        assert done.outputs[f"{name}-sha256"] == hashlib.sha256((ROOT / file).read_bytes()).hexdigest()
    assert done.outputs["policy"].startswith("organism ")
    assert done.annotation == f"::error title=FAIL (exit code 3)::{written['reason'].replace('%', '%25')}"
    assert done.summary.startswith((report.parent / "report.md").read_text(encoding="utf-8"))
    assert done.outputs["report-sha256"] in done.summary
    assert done.outputs["artifact"].endswith("-2"), "a second attempt must not collide with the first one's artifact"
    assert (Path(done.outputs["folder"]) / "ledger.jsonl").is_file()
    assert not list(red.runner.rglob("mlflow.db"))


def record(runner: Path) -> Path:
    """What a `self-test` of the policy leaves, today and where all is well."""
    found = tuple(each.model_copy(update={"at": datetime.now(UTC).date()}) for each in work())
    path = runner / "record.json"
    path.write_bytes(encode(SelfTests(tests=found).model_dump(mode="json", by_alias=True)))
    return path


@pytest.mark.slow
def test_an_unfinished_battery_is_red_too_and_has_original_and_self_test_on_record(runner):
    given = {"original": "organism:base", "only": "none", "device": "cpu", "self-test": str(record(runner))}
    done = gated(runner, checkpoint="organism:oracle", **given)
    assert done.code == 4
    report = json.loads(Path(done.outputs["report"]).read_text(encoding="utf-8"))
    assert [each["attack"] for each in report["self_tests"]] == ["relearn"] * 4
    assert [each["role"] for each in report["comparators"]] == ["original"]
    assert "breaks the limit 'forgotten'" in done.summary, "the positive control fails, as it must"
    assert not [each for each in report["verdict"]["blockers"] if each["code"].startswith("positive_control")]
    assert done.outputs["verdict"] == "INCONCLUSIVE"
    assert re.fullmatch("[0-9a-f]{64}", done.outputs["report-sha256"])
    assert done.annotation.startswith("::error title=INCONCLUSIVE (exit code 4)::")
    assert done.summary.startswith("# INCONCLUSIVE\n")


def spoil(runner: Path) -> int:
    """Misspell a key of the policy; the line where it stands."""
    policy = runner / "workspace" / "policies" / "organism.yaml"
    text = policy.read_text(encoding="utf-8").replace("max: 0.40", "mxa: 0.40")
    policy.write_text(text, encoding="utf-8")
    return next(number for number, line in enumerate(text.splitlines(), 1) if "mxa:" in line)


@pytest.mark.parametrize("step", ["Gate", "Check policy and suite"])
def test_a_broken_policy_is_annotated_at_its_line(runner, step):
    line = spoil(runner)
    given = {"checkpoint": "organism:base", "device": "cpu"}
    done = gated(runner, **given) if step == "Gate" else perform(runner, step, **given)
    assert done.code == 2
    assert done.annotation.startswith(f"::error file=policies/organism.yaml,line={line},col=")
    assert "max" in done.annotation
    if step == "Gate":
        assert done.outputs["verdict"] == "ERROR"
        assert done.outputs["report-sha256"] == ""
        assert done.summary.startswith("# ERROR\n")
        assert f"policies/organism.yaml:{line}:" in done.summary


def test_a_sound_policy_passes_the_check(runner):
    done = perform(runner, "Check policy and suite")
    assert done.code == 0
    assert "::error" not in done.log


@pytest.mark.parametrize("given", [{"policy": "organism"}, {"suite": "organism-smoke"}])
def test_a_bare_name_is_a_file_of_the_calling_repository_and_never_a_shipped_one(runner, given):
    done = perform(runner, "Check policy and suite", **given)
    assert done.code == 2
    assert next(iter(given.values())) in done.annotation


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.slow
def test_a_checkpoint_from_the_hub_is_examined_as_plain_files(runner):
    cache = runner / "hub" / "hub" / "models--lab--tiny"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for file in organisms.checkpoint("base").iterdir():
        shutil.copy(file, cache / "blobs" / file.name)
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)  # as the hub's client lays its cache out
    environment = {"HF_HOME": str(runner / "hub"), "HF_HUB_OFFLINE": "1"}
    done = gated(runner, environment, checkpoint=f"hf:lab/tiny@{COMMIT}", only="none", device="cpu")
    assert done.code == 3, done.log
    report = json.loads(Path(done.outputs["report"]).read_text(encoding="utf-8"))
    assert "model.safetensors" in {file["path"] for file in report["manifest"]["files"]}


@pytest.mark.parametrize("reference", ["hf:lab/tiny", "hf:lab/tiny@main", f"hf:tiny@{COMMIT}", "hf:../x@" + COMMIT[:7]])
def test_a_checkpoint_that_may_change_under_its_name_is_refused(runner, reference):
    done = gated(runner, checkpoint=reference)
    assert done.code == 2
    assert done.outputs["verdict"] == "ERROR"
    assert "Name the commit in full" in done.annotation


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    """A LoRA adapter that changes nothing, whose config names no base that could be found."""
    import warnings

    import peft
    import transformers

    folder = tmp_path_factory.mktemp("adapter")
    model = transformers.AutoModelForCausalLM.from_pretrained(organisms.checkpoint("base"))
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft's own use of a name that transformers gives up
        peft.get_peft_model(model, lora).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": ""}), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_an_adapter_is_examined_on_the_base_that_is_named(runner, adapter):
    done = gated(runner, checkpoint=str(adapter), base="organism:base", only="none", device="cpu")
    assert done.code == 3, done.log
    report = json.loads(Path(done.outputs["report"]).read_text(encoding="utf-8"))
    assert {"role": Role.CANDIDATE, "control": "", "base": True, "source": "organism:base"} in report["provenance"]


def test_an_adapter_whose_base_no_one_names_is_an_error(runner, adapter):
    done = gated(runner, checkpoint=str(adapter), only="none", device="cpu")
    assert done.code == 2
    assert done.outputs["verdict"] == "ERROR"
    assert "--base" in done.annotation


# a stand-in for the gate, to see what the shell makes of whatever a gate may do


def test_a_pass_is_green_and_unannotated(runner):
    pretend(runner, "write('PASS')")
    done = gated(runner, checkpoint="models/x")
    assert done.code == 0
    assert done.outputs["verdict"] == "PASS"
    assert "::error" not in done.log


@pytest.mark.parametrize(
    ("body", "code", "fragment"),
    [
        ("", 1, "neither is believed"),  # exit code 0 without a report
        ("write('FAIL')", 1, "the exit code 0 says PASS, the report says FAIL"),
        ("write('PASS'); sys.exit(3)", 1, "the exit code 3 says FAIL, the report says PASS"),
        ("write('PASS'); sys.exit(5)", 5, "it said nothing"),
        ("write('PASS'); raise RuntimeError('a fault of ours')", 1, "RuntimeError: a fault of ours"),
        ("print('[1/9] ok', flush=True); os.kill(os.getpid(), 9)", 137, "killed by signal 9; its last line: [1/9] ok"),
    ],
)
def test_whatever_is_not_a_verdict_is_an_error(runner, body, code, fragment):
    pretend(runner, body)
    done = gated(runner, checkpoint="models/x")
    assert done.code == code
    assert done.outputs["verdict"] == "ERROR"
    assert done.outputs["report-sha256"] == ""
    assert fragment in done.annotation
    assert fragment in done.summary


def test_inputs_are_words_and_never_code(runner):
    pretend(runner, "print('ARGS', json.dumps(ARGS)); print('TOKEN', os.environ.get('HF_TOKEN')); sys.exit(2)")
    hostile = '--only=none $(touch pwned) `touch pwned` "; touch pwned #'
    inputs = {"checkpoint": hostile, "policy": hostile, "suite": hostile, "only": "none  relearn *"}
    done = gated(runner, **inputs, **{"hf-token": "secret"})
    args = json.loads(next(line for line in done.log.splitlines() if line.startswith("ARGS"))[5:])
    assert args[-2:] == ["--", hostile], "a checkpoint is never read as an option"
    assert args.count(hostile) == 3
    assert [arg for arg in args[:-1] if arg.startswith("--only")][-3:] == ["--only=none", "--only=relearn", "--only=*"]
    assert "--no-mlflow" in args
    assert "TOKEN None" in done.log, "the attacks must not see the hub's token"
    assert not list(runner.rglob("pwned"))


def test_a_base_on_the_hub_is_fetched_by_planning_and_then_examined_offline(runner):
    pretend(
        runner, "print('ARGS', os.environ.get('HF_HUB_OFFLINE'), json.dumps(ARGS)); sys.exit(2 * (OUT is not None))"
    )
    base = f"hf:lab/base@{COMMIT}"
    done = gated(runner, checkpoint="models/adapter", base=base)
    calls = [line.split(" ", 2)[1:] for line in done.log.splitlines() if line.startswith("ARGS")]
    assert [(offline, json.loads(args)[0]) for offline, args in calls] == [("None", "plan"), ("1", "run")]
    assert all(f"--base={base}" in json.loads(args) for _, args in calls)


def test_runs_on_other_bases_have_folders_of_their_own_and_none_is_as_before(runner):
    pretend(runner, "print('ARGS', json.dumps(ARGS)); sys.exit(2)")
    plain, one, other = (
        gated(runner, checkpoint="models/x", **base) for base in ({}, {"base": "models/one"}, {"base": "models/other"})
    )
    assert len({done.outputs["folder"] for done in (plain, one, other)}) == 3
    words = b"models/x\0policies/organism.yaml\0suites/organism-smoke.yaml\0\0"
    assert Path(plain.outputs["folder"]).name == hashlib.sha256(words).hexdigest()[:12]
    assert "--base" not in plain.log


# what earlier jobs found


def test_a_second_job_finds_what_the_first_one_found_and_runs_nothing(red, runner):
    """Retry until green cannot work: the ledger outlives the runner's temporary folder, and every answer in it."""
    second = gated(runner, {"GITHUB_RUN_ATTEMPT": "3"}, **red.given)
    assert (red.done.code, second.code) == (3, 3)
    assert "[1/1] none" in red.done.log
    assert "[1/1]" not in second.log
    (kept,) = Path(red.given["ledgers"]).glob("*/ledger.jsonl")
    assert (Path(second.outputs["folder"]) / "ledger.jsonl").read_bytes() == kept.read_bytes()
    assert "::warning" not in red.done.log


def test_without_a_place_for_ledgers_the_run_states_what_it_does_not_know(runner):
    pretend(runner, "print('ARGS', json.dumps(ARGS)); write('PASS')")
    done = gated(runner, checkpoint="models/x")
    assert done.code == 0
    assert "::warning title=No ledgers::What earlier jobs found does not count here" in done.log
    assert "--ledgers" not in done.log


@pytest.mark.parametrize("place", ["ledgers", "../ledgers", "{workspace}/ledgers", "{temp}/../temp/x", "{temp}"])
def test_a_place_that_is_emptied_between_jobs_is_refused(runner, place):
    pretend(runner, "write('PASS')")
    named = place.format(workspace=runner / "workspace", temp=runner / "temp")
    done = gated(runner, checkpoint="models/x", ledgers=named)
    assert done.code == 2
    assert done.outputs["verdict"] == "ERROR"
    assert "name an absolute path outside the workspace and RUNNER_TEMP" in done.annotation
    assert not list(runner.rglob("report.json"))


def test_the_runners_own_ledgers_go_before_the_callers(runner):
    pretend(runner, "print('ARGS', json.dumps(ARGS)); write('PASS')")
    own = {"ROBUSTNESS_GATE_LEDGERS": "/var/lib/gate"}
    done = gated(runner, own, checkpoint="models/x", ledgers="/somewhere/fresh")
    args = json.loads(next(line for line in done.log.splitlines() if line.startswith("ARGS"))[5:])
    assert [arg for arg in args if arg.startswith("--ledgers")] == ["--ledgers=/var/lib/gate"]


def test_an_original_on_the_hub_is_fetched_by_planning_and_has_a_folder_of_its_own(runner):
    pretend(
        runner, "print('ARGS', os.environ.get('HF_HUB_OFFLINE'), json.dumps(ARGS)); sys.exit(2 * (OUT is not None))"
    )
    original = f"hf:lab/base@{COMMIT}"
    done = gated(runner, checkpoint="models/x", original=original)
    calls = [line.split(" ", 2)[1:] for line in done.log.splitlines() if line.startswith("ARGS")]
    assert [(offline, json.loads(args)[0]) for offline, args in calls] == [("None", "plan"), ("1", "run")]
    assert all(f"--original={original}" in json.loads(args) for _, args in calls)
    plain = gated(runner, checkpoint="models/x")
    based = gated(runner, checkpoint="models/x", base=original)
    assert len({each.outputs["folder"] for each in (done, plain, based)}) == 3


# what else a run takes


def calls_in(log: str) -> list[list[str]]:
    """The arguments of every call of a stand-in that prints them."""
    return [json.loads(line[5:]) for line in log.splitlines() if line.startswith("ARGS ")]


TOLD = "print('ARGS', json.dumps(ARGS), flush=True); "


def test_everything_that_a_run_takes_reaches_it_and_lists_are_split_at_spaces_and_lines(runner):
    pretend(runner, TOLD + "write('PASS') if OUT else None")
    hostile = "x$(touch pwned);'\"--preregistration"
    done = gated(
        runner,
        checkpoint="models/x",
        only="none\n relearn ",
        controls="never=models/never  filtered=models/*\n$(touch${IFS}pwned)=`touch\tpwned`\n",
        anchors="best=runs/1/report.json\nlast=runs/2/report.json",
        statement=hostile,
        preregistration="gate/preregistration.json",
        workers="3",
        **{"self-test": "gate/self-test.json", "preregistration-key": "gate/preregistration.pub"},
    )
    assert done.code == 0, done.log
    (args,) = calls_in(done.log)
    taken = [each for each in args if each.startswith("--") and "=" in each and each != hostile]
    assert [each for each in taken if not each.startswith("--ledgers")] == [
        "--control=never=models/never", "--control=filtered=models/*", "--control=$(touch${IFS}pwned)=`touch",
        "--control=pwned`", "--only=none", "--only=relearn", "--anchor=best=runs/1/report.json",
        "--anchor=last=runs/2/report.json", "--workers=3", "--self-test=gate/self-test.json",
        f"--statement={hostile}", "--preregistration=gate/preregistration.json",
        "--preregistration-key=gate/preregistration.pub",
    ]  # fmt: skip
    assert not list(runner.rglob("pwned"))


def test_a_control_on_the_hub_is_fetched_by_planning_too(runner):
    pretend(runner, TOLD + "sys.exit(2 * (OUT is not None))")
    control = f"never=hf:lab/never@{COMMIT}"
    done = gated(runner, checkpoint="models/x", controls=f"other=models/y {control}")
    assert [call[0] for call in calls_in(done.log)] == ["plan", "run"]
    assert all(f"--control={control}" in call for call in calls_in(done.log))


def test_runs_beside_other_models_or_under_another_preregistration_have_folders_of_their_own(runner):
    pretend(runner, "sys.exit(2)")
    more = ({}, {"controls": "a=x"}, {"anchors": "a=x"}, {"statement": "x"}, {"preregistration": "x"})
    done = [gated(runner, checkpoint="models/x", **each) for each in more]
    assert len({each.outputs["folder"] for each in done}) == len(more)


# that the attacks work

TESTS = """
if ARGS[0] == "self-test":
    told = pathlib.Path(next(arg for arg in ARGS if arg.startswith("--out="))[6:])
    print("FOUND", told.read_text() if told.exists() else None)
    {body}
    sys.exit({code})
if ARGS[0] == "run":
    print("GIVEN", *(arg for arg in ARGS if arg.startswith("--self-test=")))
    write("PASS")
"""


def trying(runner: Path, body: str = "told.write_text('a record')", code: int = 0) -> None:
    """A stand-in for the gate whose `self-test` does this; it tells what it found and what `run` was given."""
    pretend(runner, TOLD + TESTS.format(body=body, code=code))


def test_a_self_test_is_made_after_planning_offline_and_without_the_token_and_given_to_the_run(runner):
    trying(
        runner,
        "told.write_text('a record'); print('NET', os.environ.get('HF_HUB_OFFLINE'), os.environ.get('HF_TOKEN'))",
    )
    checkpoint, base = f"hf:lab/tiny@{COMMIT}", "models/base $(touch pwned)"
    done = gated(runner, checkpoint=checkpoint, base=base, **{"self-test": "auto", "hf-token": "secret"})
    assert [call[0] for call in calls_in(done.log)] == ["plan", "self-test", "run"]
    made = f"{done.outputs['folder']}/self-test.json"
    assert calls_in(done.log)[1][1:] == [
        "--if-needed", "--policy=policies/organism.yaml", "--suite=suites/organism-smoke.yaml",
        f"--checkpoint={checkpoint}", f"--base={base}", f"--out={made}",
    ]  # fmt: skip
    assert "NET 1 None" in done.log
    assert f"GIVEN --self-test={made}" in done.log.splitlines()
    assert not list(runner.rglob("pwned"))


def test_where_the_policy_needs_no_self_test_the_run_is_given_none(runner):
    trying(runner, "pass")
    done = gated(runner, checkpoint="models/x", **{"self-test": "auto"})
    assert done.code == 0
    assert "GIVEN" in done.log.splitlines()


@pytest.mark.parametrize(
    ("choice", "given"), [("off", "GIVEN"), ("", "GIVEN"), ("gate/t.json", "GIVEN --self-test=gate/t.json")]
)
def test_a_self_test_that_is_given_or_not_wanted_is_not_made(runner, choice, given):
    trying(runner)
    done = gated(runner, checkpoint="models/x", **{"self-test": choice})
    assert [call[0] for call in calls_in(done.log)] == ["run"]
    assert given in done.log.splitlines()


def test_a_self_test_that_cannot_be_made_is_a_warning_and_the_battery_runs_without(runner):
    trying(runner, "print('error: gate/policy.yaml:7:6: 50% of it\\tcannot be tested.')", code=2)
    done = gated(runner, checkpoint="models/x", **{"self-test": "auto"})
    assert [call[0] for call in calls_in(done.log)] == ["self-test", "run"]
    assert "GIVEN" in done.log.splitlines()
    warned = "::warning title=No self-test::gate/policy.yaml:7:6: 50%25 of it\tcannot be tested. No PASS is possible."
    assert warned in done.log.splitlines()


def test_a_self_test_that_is_killed_is_an_error_before_anything_is_attacked(runner):
    trying(runner, "os.kill(os.getpid(), 9)")
    done = gated(runner, checkpoint="models/x", **{"self-test": "auto"})
    assert done.outputs["verdict"] == "ERROR"
    assert [call[0] for call in calls_in(done.log)] == ["self-test"]


def test_a_self_test_is_kept_for_other_checkpoints_but_not_for_other_policies(runner, tmp_path_factory):
    volume = tmp_path_factory.mktemp("volume") / "ledgers"
    given = {"ledgers": str(volume), "self-test": "auto"}
    trying(runner)
    for checkpoint, found in (("models/x", "FOUND None"), ("models/y", "FOUND a record")):
        done = gated(runner, checkpoint=checkpoint, **given)
        assert found in done.log.splitlines()
    policy = runner / "workspace" / "policies" / "organism.yaml"
    policy.write_text(policy.read_text(encoding="utf-8") + "# another\n", encoding="utf-8")
    done = gated(runner, checkpoint="models/z", **given)
    assert "FOUND None" in done.log.splitlines()
    assert sorted({each.suffix for each in (volume / "self-tests").iterdir()}) == [".json"]
    assert len(list((volume / "self-tests").iterdir())) == 2


def test_a_failed_self_test_goes_to_the_judge_and_is_not_kept(runner, tmp_path_factory):
    volume = tmp_path_factory.mktemp("volume") / "ledgers"
    trying(runner, code=4)
    done = gated(runner, checkpoint="models/x", ledgers=str(volume), **{"self-test": "auto"})
    assert done.code == 0
    assert f"GIVEN --self-test={done.outputs['folder']}/self-test.json" in done.log.splitlines()
    assert not volume.exists()


def test_a_volume_on_which_nothing_can_be_kept_is_reported(runner, tmp_path_factory):
    volume = tmp_path_factory.mktemp("volume")
    (volume / "self-tests").write_text("a file in the way", encoding="utf-8")
    trying(runner)
    done = gated(runner, checkpoint="models/x", ledgers=str(volume), **{"self-test": "auto"})
    assert done.code == 0
    assert "::warning title=Self-test not kept::" in done.log


def test_the_real_gate_uses_a_kept_record_while_it_counts(runner, tmp_path_factory):
    """Of the real `self-test` no more than its options and its look at what was kept: a whole one takes a minute."""
    policy = runner / "workspace" / "policies" / "organism.yaml"
    head = policy.read_text(encoding="utf-8").partition("\nvalidity:")[0]
    policy.write_text(f"{head}\nvalidity: {{self_test: required}}\n", encoding="utf-8")
    given = {"checkpoint": "organism:oracle", "self-test": "auto"}
    given["ledgers"] = str(tmp_path_factory.mktemp("volume") / "ledgers")
    trying(runner, f"told.write_bytes(pathlib.Path({str(record(runner))!r}).read_bytes())")
    gated(runner, **given)
    real = Path(sys.prefix) / "bin" / "robustness-gate"
    trying(runner, f"sys.stdout.flush(); os.execv({str(real)!r}, [{str(real)!r}, *ARGS])")
    done = gated(runner, **given)
    made = f"{done.outputs['folder']}/self-test.json"
    assert f"nothing was tested: {made} still counts" in done.log.splitlines()
    assert f"GIVEN --self-test={made}" in done.log.splitlines()


def test_what_the_gate_prints_is_no_command_to_the_runner(runner):
    pretend(runner, "print('::error::forged'); write('FAIL', reason='50 % of a, b: c\\n::error::forged'); sys.exit(3)")
    done = gated(runner, checkpoint="models/x")
    lines = done.log.splitlines()
    (token,) = [line.removeprefix("::stop-commands::") for line in lines if line.startswith("::stop-commands::")]
    assert lines.index(f"::stop-commands::{token}") < lines.index("::error::forged") < lines.index(f"::{token}::")
    assert done.annotation == "::error title=FAIL (exit code 3)::50 %25 of a, b: c ::error::forged"
    assert lines[-1] == done.annotation


def test_a_summary_too_long_for_github_is_cut(runner):
    pretend(runner, "write('FAIL', markdown='# FAIL\\n' + 'x' * 3_000_000); sys.exit(3)")
    done = gated(runner, checkpoint="models/x")
    assert done.summary.startswith("# FAIL\n")
    assert done.outputs["report-sha256"] in done.summary
    assert len(done.summary.encode()) < 2**20


# the other steps


@pytest.mark.parametrize(
    ("event", "head", "code"),
    [
        ("push", "", 0),
        ("schedule", "", 0),
        ("pull_request", "lab/models", 0),
        ("pull_request", "stranger/models", 2),
        ("pull_request", "", 2),  # the fork was deleted
        ("pull_request_target", "lab/models", 2),
        ("workflow_run", "", 2),
        ("issue_comment", "", 2),
        ("invented_tomorrow", "", 2),
    ],
)
def test_strangers_never_reach_the_gpu(runner, event, head, code):
    environment = {"GITHUB_EVENT_NAME": event, "pull_request.head.repo.full_name": head}
    done = perform(runner, "Refuse pull requests from forks", environment)
    assert done.code == code
    assert ("::error title=REFUSED::" in done.log) == (code != 0)


@pytest.mark.parametrize(("check_only", "lock"), [("false", "run.lock"), ("true", "core.lock")])
def test_what_is_installed_has_the_digests_that_are_locked(runner, check_only, lock):
    (runner / "temp" / "robustness-gate-venv").unlink()
    python = runner / "python"  # makes a venv that holds itself, and writes down what pip was asked
    python.write_text(
        '#!/bin/sh\ncase "$2" in\nvenv) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;\n'
        f"pip) printf '%s\\n' \"$@\" >>'{runner}/asked' ;;\nesac\n",
        encoding="utf-8",
    )
    python.chmod(0o755)
    done = perform(runner, "Install", {"PYTHON": str(python)}, **{"check-only": check_only})
    assert done.code == 0, done.log
    quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    assert (runner / "asked").read_text(encoding="utf-8").splitlines() == [
        *quiet, "--require-hashes", "--only-binary", ":all:", "--requirement", str(ACTION / lock),
        *quiet, "--no-index", "--no-deps", "--no-build-isolation", str(ROOT), str(ROOT / "organisms"),
    ]  # fmt: skip


# the files


def workflows() -> dict[str, dict[Any, Any]]:
    return {
        path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    }


def steps() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted((ROOT / ".github" / "actions").glob("*/action.yml")):
        action = yaml.safe_load(path.read_text(encoding="utf-8"))
        found += [(f"{path.parent.name}/action.yml", step) for step in action["runs"]["steps"]]
    for name, workflow in workflows().items():
        found += [(f"{name}:{job}", step) for job, body in workflow["jobs"].items() for step in body["steps"]]
    return found


def test_every_action_is_pinned_by_commit_and_says_its_version():
    lines = [
        line.strip()
        for path in (ROOT / ".github").rglob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(- )?uses:", line)
    ]
    assert len(lines) == sum("uses" in step for _, step in steps())
    for line in lines:
        own = re.search(r"uses: (\$|\.)/", line)
        assert own or re.search(r"uses: [\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_no_expression_is_pasted_into_a_script():
    scripts = [(where, step["run"]) for where, step in steps() if "run" in step]
    assert len(scripts) > 3
    assert [where for where, script in scripts if "${{" in script] == []


RIGHTS = {"sign": {}, "publish": {"id-token": "write"}, "attach": {"contents": "write"}}
"""Of the jobs that may do something else than check out."""


@pytest.mark.parametrize("name", workflows())
def test_a_workflow_starts_without_rights_and_ends_in_time(name):
    workflow = workflows()[name]
    assert workflow["permissions"] == {}
    for name_of_job, job in workflow["jobs"].items():
        assert job["permissions"] == RIGHTS.get(name_of_job, {"contents": "read"})
        assert job["timeout-minutes"]


def test_a_release_is_built_tested_and_published_in_that_order_and_the_job_with_rights_runs_none_of_our_code():
    jobs = workflows()["release.yml"]["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None, "test": "build", "publish": "test", "attach": "publish",
    }  # fmt: skip
    for name in ("publish", "attach"):
        assert not any(
            "checkout" in step.get("uses", "") or "python" in step.get("run", "") for step in jobs[name]["steps"]
        )
    (published,) = [step["with"]["name"] for step in jobs["publish"]["steps"] if "download" in step["uses"]]
    assert published == "package", "the organisms go to the release page and to no index"


def test_no_checkout_leaves_its_token_behind():
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_the_gate_workflow_says_the_same_to_callers_to_hands_and_to_readers():
    workflow = workflows()["robustness-gate.yml"]
    on = workflow[True]  # YAML 1.1 reads the word `on` as true
    assert set(on) == {"workflow_call", "workflow_dispatch"}
    assert on["workflow_call"]["inputs"] == on["workflow_dispatch"]["inputs"]
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for heading, names in (("Inputs", on["workflow_call"]["inputs"]), ("Outputs", on["workflow_call"]["outputs"])):
        section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == list(names)


def test_the_gate_workflow_and_the_action_fit():
    action = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))
    workflow = workflows()["robustness-gate.yml"]
    calls = [step for _, step in steps() if step.get("uses") == "$/.github/actions/robustness-gate"]
    assert len(calls) == 2
    for step in calls:
        assert set(step["with"]) <= set(action["inputs"]), "GitHub merely warns of an input that does not exist"
    checked = {
        "checkpoint",
        "policy",
        "suite",
        "check-only",
        "preregistration",
        "preregistration-key",
        "policy-sha256",
        "preregistration-key-id",
    }
    assert set(calls[0]["with"]) == checked, "another policy or key is found out before a GPU is asked for"
    own = {"runner", "sign", "timeout-minutes", "retention-days"}
    assert set(workflow[True]["workflow_call"]["inputs"]) - own == set(action["inputs"]) - {"check-only", "hf-token"}
    assert set(calls[1]["with"]) == set(action["inputs"]) - {"check-only"}, "an input that goes nowhere"
    used = {value for step in action["runs"]["steps"] for value in step["env"].values()}
    assert {f"${{{{ inputs.{name} }}}}" for name in set(action["inputs"]) - {"check-only"}} <= used
    by_id = {step["id"]: step["env"] for step in action["runs"]["steps"] if "id" in step}
    for name in TERMS:  # as they were found, which is not always as they were given
        for step in ("fetch", "gate"):
            assert f"${{{{ inputs.{name} }}}}" not in by_id[step].values()
        assert f"${{{{ steps.terms.outputs.{name} }}}}" in by_id["gate"].values()
    text = (ROOT / ".github" / "workflows" / "robustness-gate.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"steps\.gate\.outputs\.([\w-]+)", text)) <= set(action["outputs"])
    battery = workflow["jobs"]["battery"]
    assert battery["needs"] == "validate"
    assert workflow["concurrency"]["cancel-in-progress"] is False
    assert battery["steps"][-1]["if"].startswith("${{ always()"), "a red verdict is evidence too"


# signing


def signed(runner: Path, folder: Path, digest: str, key: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The step that signs, as GitHub runs it."""
    output = runner / "temp" / "output"
    output.write_text("", encoding="utf-8")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(SIGN / "sign.sh")],
        cwd=runner / "workspace",
        env={
            "PATH": os.environ["PATH"],
            "GITHUB_OUTPUT": str(output),
            "GATE_VENV": str(runner / "temp" / "robustness-gate-venv"),
            "GATE_FOLDER": str(folder),
            "GATE_REPORT_SHA256": digest,
            "ROBUSTNESS_GATE_SIGNING_KEY": key,
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_REF": "refs/tags/v1",
            "GITHUB_REF_PROTECTED": "true",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=100,
    )


def test_what_the_battery_left_is_signed_and_nothing_else_is(red, runner):
    from robustness_gate.attestation import dsse, keys

    folder, digest, key = runner / "temp" / "left", red.done.outputs["report-sha256"], keys.generate()
    shutil.copytree(red.done.outputs["folder"], folder)
    pem = keys.private_pem(key).decode()
    for wrong, reason in (
        ({"digest": "0" * 64}, "is not the one that the battery left"),
        ({"key": ""}, "no signing key"),
        ({"folder": runner}, "left none"),
        ({"GATE_POLICY_SHA256": "0" * 64}, "policy-sha256 names 0000"),
        ({"GATE_PREREGISTRATION_KEY_ID": "0" * 64}, "no preregistration of the key 0000"),
        *(
            ({"GITHUB_EVENT_NAME": event}, "nothing is signed")
            for event in ("pull_request", "merge_group", "tomorrow", "")
        ),
        ({"GITHUB_REF_PROTECTED": "false"}, "'refs/tags/v1' is not protected"),
        ({"GITHUB_REF_PROTECTED": ""}, "is not protected"),
    ):
        refused = signed(runner, **{"folder": folder, "digest": digest, "key": pem, **wrong})
        assert refused.returncode == 5
        assert refused.stdout.startswith("::error title=NOT SIGNED::")
        assert reason in refused.stdout
    told = signed(runner, folder, digest, pem, GATE_POLICY_SHA256=red.done.outputs["policy-sha256"])
    assert told.returncode == 0, told.stdout
    lines = (runner / "temp" / "output").read_text(encoding="utf-8").splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    opened = dsse.open_bundle(Path(outputs["bundle"]).read_bytes(), [key.public])
    assert outputs["statement-sha256"] == opened.sha256
    report = folder / "report.json"
    report.write_text(report.read_text(encoding="utf-8").replace('"FAIL"', '"PASS"', 1), encoding="utf-8")
    Path(outputs["bundle"]).unlink()
    lie = signed(runner, folder, hashlib.sha256(report.read_bytes()).hexdigest(), pem)
    assert lie.returncode == 5, "a verdict that does not follow from its evidence"
    assert "would not verify" in lie.stdout
    assert not Path(outputs["bundle"]).exists()


def test_the_job_that_signs_has_no_checkout_and_no_rights_and_alone_has_the_key():
    jobs = workflows()["robustness-gate.yml"]["jobs"]
    sign = jobs["sign"]
    assert (sign["needs"], sign["runs-on"], sign["permissions"]) == ("battery", "ubuntu-24.04", {})
    assert not any("checkout" in step.get("uses", "") for step in sign["steps"])
    for name, job in jobs.items():
        assert ("SIGNING_KEY" in str(job)) == (name == "sign")
    action = yaml.safe_load((SIGN / "action.yml").read_text(encoding="utf-8"))
    (call,) = [step for step in sign["steps"] if step.get("uses", "").startswith("$/")]
    assert set(call["with"]) == set(action["inputs"])
    assert "!cancelled()" in sign["if"], "a FAIL is signed too"
    assert """!contains(fromJSON('["pull_request","merge_group"]'), github.event_name)""" in sign["if"]
    for name in ("policy-sha256", "preregistration-key-id"):
        assert call["with"][name] == f"${{{{ inputs.{name} }}}}", "the key's job believes no other job about it"
