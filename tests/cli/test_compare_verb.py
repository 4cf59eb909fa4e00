"""`compare` as a person meets it: two folders in, one table out, in a process of its own and without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import measurement_of

from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Closed, Role
from robustness_gate.report import build as report_build

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from robustness_gate.cli import main; main()"


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "compare", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.fixture(scope="module")
def run_of(
    tmp_path_factory: pytest.TempPathFactory, policy_file: Path, suite_file: Path, suite_data: SuiteData
) -> Callable[[str, float], Path]:
    """The folder of a run that examined the untouched model alone, with so large a share of every task right."""
    policy, suite = load_policy(policy_file), load_suite(suite_file)

    def make(weights: str, share: float) -> Path:
        manifest = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256=weights * 64),))
        planned = plan.make(
            policy, suite, suite_data, [plan.Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest)], only=("none",)
        )
        own = plan.of_candidate(planned)
        measurements = tuple(
            measurement_of(trial, 0, task, round(share * task.items)) for trial in own for task in trial.tasks
        )
        closed = tuple(Closed(trial=trial.id, attempt=1, status="ok") for trial in own)
        evidence = Evidence(manifest.digest, own, measurements, closed)
        told = report_build.make(policy, suite, manifest, evidence, datetime(2026, 1, 1, tzinfo=UTC))
        place: Path = tmp_path_factory.mktemp("out")
        (place / "report.json").write_bytes(encode(told.model_dump(mode="json", by_alias=True)))
        return place

    return make


def test_two_runs_side_by_side(run_of: Callable[[str, float], Path]) -> None:
    before, after = run_of("a", 0.9), run_of("b", 0.25)
    done = gate(str(before), str(after / "report.json"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("A is FAIL, B is ")
    assert lines[0].endswith("most with no attack: 90.0% in A, 25.0% in B on 'forget'.")
    row = next(line for line in lines if line.startswith("none") and "forget" in line)
    assert row.split()[:7] == ["none", "-", "forget", "acc_permuted", "90.0", "25.0", "-65.0"]
    assert row.endswith("less")
    told = json.loads(gate(str(before), str(after), "--json").stdout)
    assert told["sentence"] == lines[0]
    assert [(x["task"], x["metric"], x["decides"]) for x in told["lines"]] == [
        ("forget", "acc_permuted", True), ("forget", "acc", False),
        ("retain", "acc_permuted", False), ("retain", "acc", False),
    ]  # fmt: skip
    assert all(x["beyond_chance"] for x in told["lines"])


def test_what_is_no_report_is_one_line_and_2(run_of: Callable[[str, float], Path]) -> None:
    done = gate(str(run_of("a", 0.9)), "README.md")
    assert done.returncode == 2
    assert done.stderr == "error: README.md: is not JSON. Give the report.json of a run.\n"
