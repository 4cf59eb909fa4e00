"""The converter of old YAML renames keys of ours at their place, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = """\
# says: a comment stays, with its marks: [1]
schema: robustness-gate/policy/v1
says: It stays gone.
tasks:
  says: {items: 8}
  over: {items: 8}   # tasks that a user named so
controls: {canary: {sha256: "%s", kind: retrained}}
limits:
  - {id: over, task: says, reading: content_sum, max: 0.4, over: canary}
required:
  - {attack: relearn, where: {source: over, "marks": [5]}, marks: [5, 50], tuning: {over: learning_rate}}
  - {attack: reformat, where: {chosen_by: "single_order"}}   # single_order
ratchet: {over: canary, max_rise: 0.1}
validity: {canary: off}
""" % ("a" * 64)
NEW = """\
# says: a comment stays, with its marks: [1]
schema: robustness-gate/policy/v1
description: It stays gone.
tasks:
  says: {items: 8}
  over: {items: 8}   # tasks that a user named so
controls: {canary: {sha256: "%s", kind: retrained}}
limits:
  - {id: over, task: says, metric: acc_permuted, max: 0.4, relative_to: canary}
required:
  - {attack: relearn, where: {source: over, "budgets": [5]}, budgets: [5, 50], tuning: {setting: learning_rate}}
  - {attack: reformat, where: {chosen_by: "acc"}}   # single_order
ratchet: {relative_to: canary, max_rise: 0.1}
validity: {positive_control: off}
""" % ("a" * 64)  # fmt: skip


def convert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "convert_words.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_are_renamed_at_their_place_and_names_of_users_are_not(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(OLD, encoding="utf-8")
    looked = convert(file)
    assert (looked.returncode, file.read_text(encoding="utf-8")) == (0, OLD)
    assert f"{file}:3: description: It stays gone." in looked.stdout
    assert convert("--write", file).returncode == 0
    assert file.read_text(encoding="utf-8") == NEW
    assert "in the new words already" in convert("--write", file).stdout


@pytest.mark.parametrize("text", [b"{", b"\xff"])
def test_what_is_no_yaml_is_left_alone(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(text)
    done = convert("--write", file)
    assert (done.returncode, file.read_bytes()) == (2, text)
    assert "cannot be read as YAML" in done.stderr


def test_the_shipped_files_are_in_the_new_words() -> None:
    files = [path for folder in ("policies", "suites") for path in sorted((ROOT / folder).glob("*.yaml"))]
    done = convert(*files)
    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if "already" not in line] == []
