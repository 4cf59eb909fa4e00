"""A runner that executes the composite action's steps as GitHub does: the same script and environment, no more."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "robustness-gate"


class Done(NamedTuple):
    code: int
    log: str
    outputs: dict[str, str]
    summary: str

    @property
    def annotation(self) -> str:
        (line,) = [line for line in self.log.splitlines() if line.startswith("::error ")]
        return line


def equipped(folder: Path) -> Path:
    """A runner: a workspace with policy and suite alone, a temporary folder, and the gate installed where it looks."""
    for room in ("policies", "suites"):
        (folder / "workspace" / room).mkdir(parents=True)
    shutil.copy(ROOT / "policies" / "organism.yaml", folder / "workspace" / "policies")
    shutil.copy(ROOT / "suites" / "organism-smoke.yaml", folder / "workspace" / "suites")
    (folder / "temp").mkdir()
    (folder / "temp" / "robustness-gate-venv").symlink_to(sys.prefix)
    return folder


TERMS = ("policy", "suite", "preregistration", "preregistration-key", "self-test")


def gated(runner: Path, environment: dict[str, str] | None = None, **inputs: str) -> Done:
    """The last two steps of action.yml, with the terms as they are found where everything is merged."""
    fetched = perform(runner, "Fetch from the hub", environment, **inputs)
    done = perform(runner, "Gate", environment, **{"fetch.code": fetched.outputs["code"], **inputs})
    return done._replace(log=fetched.log + done.log)


def perform(runner: Path, name: str, environment: dict[str, str] | None = None, **inputs: str) -> Done:
    """One step of action.yml as GitHub runs it: expressions filled in, `shell: bash`, the step's own environment.

    What earlier steps leave is `terms.NAME` and `fetch.code`; by default what they leave where everything is merged.
    """
    action = yaml.safe_load((ACTION / "action.yml").read_text(encoding="utf-8"))
    (step,) = [each for each in action["runs"]["steps"] if each["name"] == name]
    given = {"policy": "policies/organism.yaml", "suite": "suites/organism-smoke.yaml", "checkpoint": ""}
    given |= {"self-test": "off", **inputs}  # by itself it is `auto`, which takes a minute: tests of it ask for it
    for key, declared in action["inputs"].items():
        given.setdefault(key, declared.get("default", ""))
    values = {f"inputs.{key}": value for key, value in given.items()} | {"runner.temp": str(runner / "temp")}
    policy = runner / "workspace" / given["policy"]
    digest = hashlib.sha256(policy.read_bytes()).hexdigest() if policy.is_file() else ""
    left = {f"terms.{key}": given[key] for key in TERMS} | {
        "terms.policy-sha256": digest,
        "terms.preregistration-key-id": "",
    }
    left |= {"fetch.code": "0"} | {key: value for key, value in inputs.items() if "." in key}
    values |= {"steps." + key.replace(".", ".outputs."): value for key, value in left.items()}
    for key in ("pull_request.head.repo.full_name", "pull_request.head.sha", "merge_group.base_sha"):
        values[f"github.event.{key}"] = (environment or {}).get(key, "")
    values["inputs.check-only != 'true' && 'run' || ''"] = "" if given["check-only"] == "true" else "run"

    def fill(text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], text)

    output, summary = runner / "temp" / "output", runner / "temp" / "summary.md"
    output.write_text("", encoding="utf-8")
    summary.write_text("", encoding="utf-8")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=runner / "workspace",
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(runner),
            "OMP_NUM_THREADS": "1",
            "RUNNER_TEMP": str(runner / "temp"),
            "GITHUB_ACTION_PATH": str(ACTION),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "GITHUB_EVENT_NAME": "workflow_dispatch",
            "GITHUB_REPOSITORY": "lab/models",
            "GITHUB_RUN_ATTEMPT": "2",
            **{key: value for key, value in (environment or {}).items() if "." not in key},
            **{key: fill(value) for key, value in step["env"].items()},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    lines = output.read_text(encoding="utf-8").splitlines()
    outputs = dict(line.split("=", 1) for line in lines)  # of two lines with one name the later counts, as on GitHub
    return Done(done.returncode, done.stdout, outputs, summary.read_text(encoding="utf-8"))


def pretend(runner: Path, body: str) -> None:
    """Replace the installed gate by a few lines of Python; OUT, ARGS and `write(outcome)` are there for them."""
    venv = runner / "temp" / "robustness-gate-venv"
    shutil.rmtree(venv) if not venv.is_symlink() else venv.unlink()
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    gate = venv / "bin" / "robustness-gate"
    head = f"""#!{sys.executable}
import hashlib, json, os, pathlib, sys
ARGS = sys.argv[1:]
OUT = pathlib.Path(ARGS[ARGS.index("--out") + 1]) if "--out" in ARGS else None
def write(outcome, reason="because", markdown="# report\\n", **more):
    policy = pathlib.Path(ARGS[ARGS.index("--policy") + 1])
    digest = hashlib.sha256(policy.read_bytes()).hexdigest() if policy.is_file() else "none"
    (OUT / "report.json").write_text(json.dumps({{
        "verdict": {{"outcome": outcome}}, "reason": reason, "suite": {{"sha256": "2" * 64}}, **more,
        "policy": {{"sha256": digest, "id": "made-up", "version": "1\\nverdict=PASS", **more.get("policy", {{}})}},
    }}))
    (OUT / "report.md").write_text(markdown)
"""
    gate.write_text(head + body, encoding="utf-8")
    gate.chmod(0o755)


def job(runner: Path, environment: dict[str, str] | None = None, **inputs: str) -> Done:
    """The action's steps from the first to the last, each with what those before it left; the first red one ends it."""
    given = {"self-test": "off", **inputs}
    log, left = "", {}
    for name in ("Refuse pull requests from forks", "Find the terms", "Fetch from the hub", "Gate"):
        done = perform(runner, name, environment, **given, **left)
        log += done.log
        if done.code != 0:
            return done._replace(log=log)
        step = {"Find the terms": "terms", "Fetch from the hub": "fetch"}.get(name, "")
        left |= {f"{step}.{key}": value for key, value in done.outputs.items()}
    return done._replace(log=log)
