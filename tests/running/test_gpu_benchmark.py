"""`benchmarks/gpu.py` runs where there is no GPU: every step once, on a tiny model, and what it says of itself."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path
from types import ModuleType

import pytest

from robustness_gate.evidence import ledger as ledgers

ROOT = Path(__file__).parents[2]
SUITE = """
schema: robustness-gate/suite/v1
id: mini
version: 1.0.0
description: A little of everything.
hazard: stones
tasks:
  stones:
    items: hf-dataset://of/stones@0000000000000000000000000000000000000000/all/test
    count: 16
    topic: stones
    roles: {dev: 0.25, key: public}
  part:
    kind: cloze
    items: hf-dataset://of/part@0000000000000000000000000000000000000000/all/test
    count: 8
    roles_of: stones
attacks:
  - attack: none
  - attack: quantize
    config: {scheme: channel, budgets: [4, 8]}
dtype: bfloat16
"""
POLICY = """
schema: robustness-gate/policy/v1
id: mini
version: 1.0.0
description: Stones stay gone.
threat_model: {access: open_weights, adversary: one person}
original: UNPINNED
tasks:
  stones: {items: UNPINNED}
  part: {items: UNPINNED}
limits:
  - {id: gone, task: stones, max: 0.6}
required:
  - {attack: none}
  - {attack: quantize, budgets: [4, 8]}
utility:
  - {task: part, min: 0.1, min_attacked: 0.1}
validity: {self_test: off}
"""
STEPS = [
    "rate", "scoring", "mini-00-candidate-none", "mini-01-sham-quantize-channel",
    "mini-02-candidate-quantize-channel-4", "mini-02-candidate-quantize-channel-8",
]  # fmt: skip


@pytest.fixture
def gpu(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


@pytest.fixture
def call(gpu, tmp_path, capsys):
    (tmp_path / "mini.yaml").write_text(SUITE, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    files = ["--suite", str(tmp_path / "mini.yaml"), "--policy", str(tmp_path / "policy.yaml")]
    usual = [*files, "--out", str(tmp_path / "out"), "--shape", "tiny", "--device", "cpu", "--words", "5"]

    def called(*given: str) -> tuple[int, str]:
        code = gpu.main([*given, *usual])
        return code, capsys.readouterr().out

    return called


def test_every_step_runs_without_a_gpu_into_one_ledger_and_the_table_adds_them_up(call, tmp_path):
    assert [line[6:] for line in call("--list")[1].splitlines()] == STEPS
    assert "4 of 4 steps lack a result, so there is no sum" in call("--table")[1]
    for _ in STEPS:
        code, _ = call("--next")
        assert code == 0
    found = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text(encoding="utf-8")) for name in STEPS}
    assert found["scoring"]["items"] == 12, "a quarter is for selection"
    assert all(each["examinations"] == 2 and each["read"] > 0 for name, each in found.items() if "mini" in name)
    assert all(each["busy"] is None for name, each in found.items() if name != "rate")
    with ledgers.writing(tmp_path / "out" / ledgers.NAME) as ledger:
        assert [each.status for each in ledger.closed] == ["ok"] * 4
        assert [each.budget for each in ledger.measurements] == [0, 0, 32, 32, 4, 4, 8, 8]
    seconds = [found[name]["seconds"] for name in STEPS[2:]]
    _, table = call("--table")
    assert f"the candidate's trials: {sum(seconds) / 60:.3g} minutes" in table
    assert (
        f"with 1 more on the original and the controls, by arithmetic: {(sum(seconds) + seconds[0]) / 60:.3g}" in table
    )
    assert "busy: not measured" in table
    call("--step", STEPS[2])
    with ledgers.writing(tmp_path / "out" / ledgers.NAME) as ledger:
        assert len(ledger.closed) == 4, "a step that has ended is not run again"


def test_a_step_that_takes_too_long_is_broken_off_and_not_counted(call, gpu, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "MOST", 1)
    monkeypatch.setattr(gpu, "rate", lambda _: time.sleep(20))
    begun = time.monotonic()
    assert call("--step", "rate")[0] == 1
    assert time.monotonic() - begun < 15
    found = json.loads((tmp_path / "out" / "rate.json").read_text(encoding="utf-8"))
    assert (found["status"], found["reason"]) == ("failure", "broken off after 1 seconds")
    monkeypatch.setattr(gpu, "rate", lambda _: {"rate": 2e12})
    assert call("--step", "rate")[0] == 0, "it is run again"
    assert "2 TFLOP/s" in call("--table")[1]
    with pytest.raises(SystemExit, match="no step 'other'"):
        call("--step", "other")
