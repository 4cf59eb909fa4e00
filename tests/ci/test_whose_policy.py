"""Whose policy, suite, preregistration and key a run is held to: never those that a pull request brings along.

The history is git's, `policy diff` and `keys show` are the gate's own; what would take a minute, the battery, is a
stand-in that says PASS under a limit of 90 % and FAIL under the one that was agreed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from stage import ACTION, ROOT, equipped, job, perform, pretend

from robustness_gate.attestation import keys

POLICY, SUITE = "policies/organism.yaml", "suites/organism-smoke.yaml"
LOOSE = ("max: 0.40", "max: 0.90")
REAL = Path(sys.prefix) / "bin" / "robustness-gate"
BATTERY = f"""
if ARGS[0] != "run":
    sys.stdout.flush(); os.execv({str(REAL)!r}, [{str(REAL)!r}, *ARGS])
print("ARGS", json.dumps(ARGS), flush=True)
suite = pathlib.Path(ARGS[ARGS.index("--suite") + 1]).read_text()
easy = "max: 0.90" in policy_text() or "# easy" in suite
key = os.environ.get("PREREGISTERED")
write("PASS" if easy else "FAIL", **({{"preregistration": {{"key": key}}}} if key else {{}}))
sys.exit(0 if easy else 3)
"""
POLICY_TEXT = 'def policy_text(): return pathlib.Path(ARGS[ARGS.index("--policy") + 1]).read_text()\n'


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


@pytest.fixture
def runner(tmp_path) -> Path:
    """A runner whose workspace is a clone with one commit, which is what was agreed."""
    made = equipped(tmp_path)
    pretend(made, POLICY_TEXT + BATTERY)
    workspace = made / "workspace"
    git(workspace, "init", "-q")
    git(workspace, "add", ".")
    git(workspace, "commit", "-qm", "agreed")
    return made


def rewritten(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def proposed(runner: Path, event: str = "pull_request") -> dict[str, str]:
    """What lies in the workspace now becomes a pull request, checked out as GitHub's trial merge; its event."""
    workspace = runner / "workspace"
    git(workspace, "checkout", "-qb", "proposal")
    git(workspace, "add", ".")
    git(workspace, "commit", "-qm", "proposed", "--allow-empty")
    head = git(workspace, "rev-parse", "HEAD")
    git(workspace, "checkout", "-q", "main")
    base = git(workspace, "rev-parse", "HEAD")
    git(workspace, "merge", "-q", "--no-ff", "-m", "trial", "proposal")
    return {
        "GITHUB_EVENT_NAME": event,
        "GITHUB_SHA": git(workspace, "rev-parse", "HEAD"),
        "pull_request.head.repo.full_name": "lab/models",
        "pull_request.head.sha": head,
        "merge_group.base_sha": base,
    }


def loosened(runner: Path, reason: bool = False) -> None:
    changes = [LOOSE]
    if reason:
        entry = "{what: limits.forgotten.max, since: 1.2.0, reason: it is more fun, owner: the author}"
        changes += [("version: 1.1.0", f"version: 1.2.0\nloosened:\n  - {entry}")]
    rewritten(runner / "workspace" / POLICY, *changes)


def test_merged_terms_are_the_workspaces(runner):
    assert job(runner, checkpoint="models/x").code == 3
    loosened(runner)
    done = job(runner, checkpoint="models/x")
    assert (done.code, done.outputs["verdict"]) == (0, "PASS"), "the stand-in passes under a loose policy"
    assert done.outputs["policy"] == "made-up 1 verdict=PASS", "what a policy calls itself is one line"
    assert done.outputs["policy-sha256"] == hashlib.sha256((runner / "workspace" / POLICY).read_bytes()).hexdigest()


@pytest.mark.parametrize("event", ["pull_request", "merge_group"])
def test_a_change_that_loosens_its_policy_stays_red(runner, event):
    loosened(runner)
    done = job(runner, proposed(runner, event), checkpoint="models/x")
    assert done.code == 2
    assert "1 of the looser things have no written reason" in done.annotation
    assert "ARGS" not in done.log, "no GPU is used for it"


def test_a_reason_lets_a_looser_policy_be_merged_and_not_be_used(runner):
    loosened(runner, reason=True)
    done = job(runner, proposed(runner), checkpoint="models/x")
    assert "::notice title=Not yet agreed::'policies/organism.yaml' is another one" in done.log
    assert (done.code, done.outputs["verdict"]) == (3, "FAIL"), done.log


def test_a_change_that_brings_an_easier_suite_is_held_to_the_agreed_one(runner):
    rewritten(runner / "workspace" / SUITE, ("\nid:", "\n# easy\nid:"))
    done = job(runner, proposed(runner), checkpoint="models/x")
    assert "::notice title=Not yet agreed::'suites/organism-smoke.yaml'" in done.log
    assert (done.code, done.outputs["verdict"]) == (3, "FAIL"), done.log


def test_a_change_cannot_bring_modules_that_run_in_the_gate(runner):
    for name in ("json", "pickle", "logging", "socket", "typer"):
        brought = runner / "workspace" / f"{name}.py"
        brought.write_text("import os; os.write(2, b'BROUGHT'); os._exit(0)", encoding="utf-8")
    proposal = proposed(runner)
    checked = perform(runner, "Check policy and suite", proposal)
    done = job(runner, proposal, checkpoint="models/x")
    assert "BROUGHT" not in checked.log + done.log
    assert (checked.code, done.code, done.outputs["verdict"]) == (0, 3, "FAIL"), done.log


@pytest.mark.parametrize("name", ["policy", "suite", "preregistration", "preregistration-key", "self-test"])
def test_a_change_cannot_bring_terms_of_its_own(runner, name):
    brought = runner / "workspace" / "brought.yaml"
    brought.write_text((runner / "workspace" / POLICY).read_text(encoding="utf-8"), encoding="utf-8")
    done = job(runner, proposed(runner), **{name: "brought.yaml"})
    assert done.code == 2
    assert "has no 'brought.yaml'" in done.annotation


@pytest.mark.parametrize(
    "path", ["{workspace}/policies/organism.yaml", "policies/../policies/organism.yaml", "./policies/organism.yaml"]
)
def test_a_policy_named_otherwise_is_the_agreed_one_too(runner, path):
    loosened(runner, reason=True)
    done = job(runner, proposed(runner), policy=path.format(workspace=runner / "workspace"))
    assert (done.code, done.outputs["verdict"]) == (3, "FAIL"), done.log


@pytest.mark.parametrize(
    "path", ["/proc/self/cwd/policies/organism.yaml", "{workspace}/../link/policies/organism.yaml"]
)
def test_a_way_round_into_the_workspace_is_refused(runner, path):
    (runner / "link").symlink_to(runner / "workspace")
    done = job(runner, proposed(runner), policy=path.format(workspace=runner / "workspace"))
    assert done.code == 2
    assert "by a way round" in done.annotation


def test_a_policy_on_the_runners_own_disk_is_no_ones_to_propose(runner, tmp_path_factory):
    own = tmp_path_factory.mktemp("disk") / "policy.yaml"
    own.write_text((runner / "workspace" / POLICY).read_text(encoding="utf-8"), encoding="utf-8")
    loosened(runner)
    done = job(runner, proposed(runner), policy=str(own))
    assert (done.code, done.outputs["verdict"]) == (3, "FAIL"), done.log


def spoilt(runner: Path, environment: dict[str, str], how: str) -> dict[str, str]:
    workspace = runner / "workspace"
    if how == "another head":
        return {**environment, "pull_request.head.sha": git(workspace, "rev-parse", "main")}
    if how == "no head":
        return {**environment, "pull_request.head.sha": ""}
    if how == "no merge":
        return {**environment, "GITHUB_SHA": environment["pull_request.head.sha"]}
    if how == "shallow":
        (workspace / ".git" / "shallow").write_text(environment["GITHUB_SHA"] + "\n", encoding="utf-8")
    if how == "no history":
        (workspace / ".git").rename(runner / "elsewhere")
    if how == "an event that does not say":
        return {**environment, "GITHUB_EVENT_NAME": "merge_group", "merge_group.base_sha": ""}
    return environment


@pytest.mark.parametrize(
    "how", ["another head", "no head", "no merge", "shallow", "no history", "an event that does not say"]
)
def test_where_no_one_can_know_what_was_agreed_it_is_red(runner, how):
    done = job(runner, spoilt(runner, proposed(runner), how), checkpoint="models/x")
    assert done.code == 2
    assert "it is not known whose policy this is" in done.annotation


def test_the_digest_that_is_asked_for_is_the_policys_or_it_is_red(runner):
    digest = hashlib.sha256((runner / "workspace" / POLICY).read_bytes()).hexdigest()
    assert job(runner, **{"policy-sha256": digest}).code == 3
    for wrong, environment in (
        (digest[:12], {}),
        ("0" * 64, {}),
        (digest, {"ROBUSTNESS_GATE_POLICY_SHA256": "1" * 64}),
    ):
        done = job(runner, environment, **{"policy-sha256": wrong})
        assert done.code == 2
        assert "is not the policy that policy-sha256 names" in done.annotation
    loosened(runner, reason=True)
    assert job(runner, **{"policy-sha256": digest}).code == 2
    done = job(runner, proposed(runner), **{"policy-sha256": digest})
    assert done.outputs["policy-sha256"] == digest, "of what is proposed, the agreed one is pinned"


def test_the_preregistration_that_is_asked_for_is_of_that_key_or_it_is_red(runner):
    key, other = keys.generate(), keys.generate()
    for name, each in (("preregistration", key), ("other", other)):
        (runner / "workspace" / f"{name}.pub").write_text(each.public.pem, encoding="utf-8")
    (runner / "workspace" / "preregistration.json").write_text("{}", encoding="utf-8")
    preregistered = {
        "preregistration": "preregistration.json",
        "preregistration-key": "preregistration.pub",
        "preregistration-key-id": key.public.id,
    }
    assert job(runner, {"PREREGISTERED": key.public.id}, **preregistered).code == 3
    for wrong, environment, words in (
        ({"preregistration-key": "other.pub"}, {}, "is not the key that preregistration-key-id names"),
        ({"preregistration": "", "preregistration-key": ""}, {}, "there is no preregistration with its key"),
        ({"preregistration": ""}, {}, "there is no preregistration with its key"),
        ({"preregistration-key": POLICY}, {}, "is no public key"),
        (
            {},
            {"ROBUSTNESS_GATE_PREREGISTRATION_KEY_ID": other.public.id},
            "is not the key that preregistration-key-id names",
        ),
        ({}, {}, "the report names no preregistration of the key"),
        ({}, {"PREREGISTERED": other.public.id}, "the report names no preregistration of the key"),
    ):
        done = job(runner, environment, **{**preregistered, **wrong})
        assert done.code in (1, 2)
        assert words in done.annotation


def test_a_report_on_another_policy_is_no_verdict(runner):
    pretend(runner, "write('PASS', policy={'sha256': '3' * 64})")
    done = job(runner, checkpoint="models/x")
    assert (done.code, done.outputs["verdict"], done.outputs["report-sha256"]) == (1, "ERROR", "")
    assert "3333 was to be held" not in done.annotation
    assert "the report is on the policy 3333" in done.annotation
    assert "policy" not in done.outputs


@pytest.mark.parametrize("left", [{"terms.policy-sha256": ""}, {"fetch.code": ""}, {"fetch.code": "7"}])
def test_a_step_that_left_nothing_was_no_success(runner, left):
    pretend(runner, "write('PASS')")
    done = perform(runner, "Gate", checkpoint="models/x", **left)
    assert done.code != 0
    assert done.outputs["verdict"] == "ERROR"


@pytest.mark.parametrize("name", ["policy", "suite", "preregistration", "self-test"])
def test_an_input_of_two_lines_is_refused(runner, name):
    done = job(runner, **{name: "x\npolicy-sha256=1"})
    assert done.code == 2
    assert f"The input '{name}' holds a line break" in done.annotation


# the hub's token


def test_the_hubs_token_is_in_one_steps_environment_and_in_no_other():
    steps = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    having = [step["name"] for step in steps if "hf-token" in json.dumps(step)]
    assert having == ["Fetch from the hub"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/robustness-gate.yml").read_text(encoding="utf-8"))
    calls = [step for job in workflow["jobs"].values() for step in job["steps"] if "HF_TOKEN" in json.dumps(step)]
    assert [(call["uses"], call["with"]["hf-token"]) for call in calls] == [
        ("$/.github/actions/robustness-gate", "${{ secrets.HF_TOKEN }}")
    ]
    assert "HF_TOKEN" not in json.dumps([job.get("env") for job in workflow["jobs"].values()] + [workflow.get("env")])


def test_the_hubs_token_reaches_planning_alone(runner):
    pretend(
        runner,
        "print(ARGS[0], 'sees', 'SECRET' in json.dumps(dict(os.environ)), flush=True); write('PASS') if OUT else None",
    )
    commit = "0123456789abcdef0123456789abcdef01234567"
    done = job(
        runner, {"HUGGING_FACE_HUB_TOKEN": "of the runner"}, checkpoint=f"hf:lab/x@{commit}", **{"hf-token": "SECRET"}
    )
    assert [line for line in done.log.splitlines() if " sees " in line] == ["plan sees True", "run sees False"]


# what is installed


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """The packages of a lock: version and digests by name as indexes write it."""
    text = (ACTION / name).read_text(encoding="utf-8")
    found = {}
    for entry in re.split(r"\n(?=\S)", text.replace(" \\\n    ", " ")):
        if match := re.fullmatch(
            r"([a-z0-9][a-z0-9-]*)==([^ ;]+)(?: ; [^#]*?)?((?: --hash=sha256:[0-9a-f]{64})+)\s*", entry
        ):
            found[match[1]] = (match[2], match[3].split())
        else:
            assert entry.startswith("#"), entry
    return found


@pytest.mark.parametrize(("name", "extra"), [("core.lock", ""), ("run.lock", "run")])
def test_the_locks_hold_a_digest_of_everything_in_the_versions_that_are_tested(name, extra):
    def plain(word: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", word)[0]).lower()

    packages = locked(name)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    tested = {plain(word): version for word, version in pins.items()}
    for package, (version, _) in packages.items():
        assert tested.get(package, version) == version, f"{package}: give .ci/lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    asked += project["project"]["optional-dependencies"].get(extra, [])
    assert {plain(each) for each in asked} <= set(packages), "give .ci/lock"
    assert "://" not in (ACTION / name).read_text(encoding="utf-8"), "no index is named in this repository"


def test_the_example_of_code_owners_covers_what_init_writes_and_itself():
    from robustness_gate import starter

    lines = (ROOT / "docs" / "CODEOWNERS.example").read_text(encoding="utf-8").splitlines()
    owned = [line.split()[0] for line in lines if line and not line.startswith("#")]
    for path in (*(place for place, _ in starter._contents()), ".github/CODEOWNERS"):
        assert any(f"/{path}".startswith(each.rstrip("*")) for each in owned), path
