"""What must start at once does not even import torch. How fast that is, is measured in benchmarks/, side by side."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hub import pinned_policy_file, pinned_suite

from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.validation import load_suite
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence
from robustness_gate.report import build as report_build

HEAVY = ("torch", "transformers", "peft", "mlflow", "datasets", "numpy")
SIGNED = "tests/fixtures/verify"
FILES = ["--policy", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"]


@pytest.fixture(scope="module")
def report_file(policy_file, suite_file, tmp_path_factory):
    """A report of nothing at all: no trial has been run."""
    policy, suite = load_policy(policy_file), load_suite(suite_file)
    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    evidence = Evidence(manifest.digest, ())
    made = report_build.make(policy, suite, manifest, evidence, datetime.now(UTC))
    path = tmp_path_factory.mktemp("run") / "report.json"
    path.write_bytes(encode(made.model_dump(mode="json", by_alias=True)))
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["attacks"],
        ["schema"],
        ["organisms", "list"],
        ["init", "{empty}"],
        ["why", "{report}"],
        ["compare", "{report}", "{report}"],
        ["plan", "organism:oracle", *FILES],
        ["plan", "organism:oracle", *FILES, "--device-figures", "h100"],
        ["verify", f"{SIGNED}/accepted.sigstore.json", "--no-checkpoint", "--trust", f"{SIGNED}/trust.yaml"],
        [
            "verify",
            f"{SIGNED}/accepted.sigstore.json",
            "--checkpoint",
            f"{SIGNED}/model",
            "--trust",
            f"{SIGNED}/trust.yaml",
        ],
        ["policy", "check", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"],
        ["policy", "show", "policies/organism.yaml", "--resolved"],
        ["policy", "lint", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"],
        ["policy", "diff", "policies/organism.yaml", "policies/smallest.yaml"],
        ["policy", "test", "policies/organism.yaml", "policies/organism.cases.yaml"],
        ["policy", "pin", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"],
        ["policy", "schema"],
    ],
    ids=" ".join,
)
def test_light_verbs_work_without_importing_anything_heavy(arguments, root, tmp_path, report_file):
    arguments = [each.format(empty=tmp_path, report=report_file) for each in arguments]
    code = (
        "import sys, atexit; sys.argv = ['robustness-gate', *sys.argv[1:]]\n"
        f"atexit.register(lambda: print('HEAVY', [m for m in {HEAVY} if m in sys.modules]))\n"
        "from robustness_gate.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("HEAVY []"), done.stdout


LIBRARIES = ("pydantic", "yaml", "rfc8785", "cryptography", "jinja2", "rich")
ROOMS = {
    "--help": "cli errors inputs system",
    "plan": "attacks cli errors evidence inputs organisms planning policy_language records running system tasks "
    "verdict",
    "policy check": "attacks cli errors evidence inputs organisms planning policy_language records system verdict",
    "verify": "attacks attestation cli errors evidence inputs organisms planning policy_language records report "
    "statistics system tasks verdict",
}
"""The rooms of which a light verb may import anything."""
BROUGHT = {
    "--help": set[str](),
    "plan": {"pydantic", "yaml", "rfc8785"},
    "policy check": {"pydantic", "yaml", "rfc8785"},
    "verify": {"pydantic", "yaml", "rfc8785", "cryptography"},
}
"""The libraries, of those that take long."""
UNUSED = {
    "plan": "inputs.recorded inputs.distributions evidence.ledger organisms.spikes running.executors verdict.findings",
    "policy check": "inputs.recorded inputs.distributions inputs.items organisms.world planning.plan verdict.findings",
    "verify": "inputs.recorded inputs.distributions planning.plan planning.suite_data cli.policies cli.checkpoints",
}
"""Modules of these rooms that it needs for nothing."""


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("--help", ["--help"]),
        ("plan", ["plan", "organism:oracle", *FILES]),
        ("policy check", ["policy", "check", "policies/organism.yaml"]),
        (
            "verify",
            ["verify", f"{SIGNED}/accepted.sigstore.json", "--no-checkpoint", "--trust", f"{SIGNED}/trust.yaml"],
        ),
    ],
)
def test_a_light_verb_imports_only_what_it_needs(verb, arguments, root):
    """A slower start is seen here as a set of modules. How long it takes is measured in benchmarks/startup.md."""
    code = (
        "import sys, atexit; sys.argv = ['robustness-gate', *sys.argv[1:]]\n"
        "atexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n"
        "from robustness_gate.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    modules = {*done.stderr.split("MODULES ")[-1].split()}
    own = {name.removeprefix("robustness_gate.") for name in modules if name.startswith("robustness_gate.")}
    assert {name.partition(".")[0] for name in own} - {*ROOMS[verb].split()} == set()
    assert own & {*UNUSED.get(verb, "").split()} == set()
    assert modules & {*LIBRARIES} - BROUGHT[verb] == set()


def test_without_a_verb_the_help_is_shown(root):
    done = subprocess.run(
        [sys.executable, "-m", "robustness_gate"], cwd=root, capture_output=True, text=True, check=False
    )
    assert "Exit codes" in done.stdout + done.stderr


def test_a_suite_on_the_hub_is_read_without_the_extra_and_the_missing_check_is_reported(root, tmp_path):
    """A runner for checks has the core alone: it must not be silent about what it could not look at."""
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; sys.argv = ['robustness-gate', *sys.argv[1:]]\n"
        "from robustness_gate.cli import main; main()"
    )
    suite = pinned_suite(root / "suites" / "wmdp-smoke.yaml", tmp_path)
    policy = pinned_policy_file(root / "policies" / "wmdp-open-weights.yaml", tmp_path)
    files = [str(policy), "--suite", str(suite)]
    done = subprocess.run(
        [sys.executable, "-c", code, "policy", "check", *files], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "NOT checked" in done.stdout
