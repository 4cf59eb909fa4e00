"""What an attempt took is counted without changing an answer, and written down without changing a verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from builders import tasks_of, trial_of

from robustness_gate import organisms
from robustness_gate.engine import hooks, usage
from robustness_gate.engine.load import load
from robustness_gate.publish import took
from robustness_gate.records.cost import AttemptCost, Costs, Spent
from robustness_gate.records.encode import decode
from robustness_gate.records.trial import Closed, Trial
from robustness_gate.running import costs
from robustness_gate.running.executors import Event
from robustness_gate.running.spending import Meter

SPENT = Spent(
    cpu_seconds=1.5,
    loading_seconds=0.5,
    host_peak_bytes=7,
    host_peak_since="attempt",
    device_peak_bytes=None,
    parameters=100,
    dtype="float32",
    tokens_read=30,
    tokens_learnt=20,
    machine=None,
)


@pytest.fixture(scope="module")
def model() -> Any:
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu").model


@pytest.fixture
def trial() -> Trial:
    return trial_of("none", tasks=tasks_of(forget=10))


def prepared(*trials: Trial) -> Any:
    suite = SimpleNamespace(record=SimpleNamespace(id="small"), sha256="5" * 64)
    return SimpleNamespace(suite=suite, plan=SimpleNamespace(trials=trials))


def ended(trial: Trial, number: int = 1, spent: Spent | None = SPENT) -> list[Event]:
    return [Event(trial, None), Event(trial, Closed(trial=trial.id, attempt=number, status="ok"), None, spent)]


def noted(lines: Path, events: list[Event]) -> list[str]:
    faults: list[str] = []
    watch = costs.noting(lines, lambda *_: None, faults)
    for event in events:
        watch(event, 0, 1)
    return faults


def written(folder: Path) -> tuple[AttemptCost, ...]:
    return decode(Costs, (folder / "cost.json").read_bytes()).attempts


def test_counting_tokens_changes_no_answer_and_is_declared_tokenwise(model: Any) -> None:
    ids = torch.arange(3, 27).reshape(2, 12)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
    tokens = usage.Tokens()
    usage.watch(model, tokens)
    with torch.inference_mode():
        assert torch.equal(model(input_ids=ids).logits, before)
    assert all(map(hooks.is_tokenwise, model.base_model._forward_hooks.values())), "else no beginning is read once"
    assert (tokens.read, tokens.learnt) == (24, 0)
    put_in = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=put_in).logits.sum().backward()
    assert (tokens.read, tokens.learnt) == (24, 24)
    model(input_ids=ids)  # gradients are on, and nothing here has one
    model.base_model(ids)  # past the head
    assert (tokens.read, tokens.learnt) == (72, 24)


def test_a_meter_counts_one_attempt_after_the_other(model: Any) -> None:
    meter = Meter()
    meter.watch(model)
    ids = torch.arange(3, 15).reshape(1, 12)
    for passes in (1, 3):
        meter.begin()
        meter.examines(SimpleNamespace(model=model))
        with meter.loading(), torch.inference_mode():
            for _ in range(passes):
                model(input_ids=ids)
        found = meter.spent()
        assert found is not None
        assert (found.tokens_read, found.tokens_learnt) == (12 * passes, 0)
        assert (found.parameters, found.dtype, found.device_peak_bytes) == (usage.parameters(model), "float32", None)
        assert found.machine is not None
        assert found.machine.device == "cpu"
        assert found.loading_seconds > 0
        assert found.host_peak_bytes is None or found.host_peak_bytes > 4 * usage.parameters(model)
    meter.begin()
    nothing = meter.spent()
    assert nothing is not None
    assert (nothing.parameters, nothing.machine, nothing.tokens_read) == (None, None, 0)


def test_a_device_that_does_not_answer_leaves_a_gap_and_no_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("device-side assert")

    meter = Meter()
    meter.examines(SimpleNamespace(model=model))
    monkeypatch.setattr(usage, "peak", broken)
    assert meter.spent() is None


def test_attempts_of_this_and_earlier_runs_are_beside_the_report(tmp_path: Path, trial: Trial) -> None:
    lines, other = tmp_path / "cost.jsonl", trial_of("relearn", tasks=tasks_of(forget=10))
    assert noted(lines, [*ended(trial), *ended(other)]) == []
    assert noted(lines, ended(trial, 2, None)) == []
    assert costs.write(lines, prepared(trial), tmp_path / "out") == ()
    first, second = written(tmp_path / "out")
    assert (first.trial, first.attempt, first.status, first.spent) == (trial.id, 1, "ok", SPENT)
    assert (second.attempt, second.spent) == (2, None)
    assert first.key == second.key == ("candidate", "", "none", trial.seed_index)


def test_half_a_line_of_a_killed_run_loses_itself_alone(tmp_path: Path, trial: Trial) -> None:
    lines = tmp_path / "cost.jsonl"
    noted(lines, ended(trial))
    whole = lines.read_bytes()
    lines.write_bytes(whole + whole[: len(whole) // 2])
    noted(lines, ended(trial, 2))
    (warning,) = costs.write(lines, prepared(trial), tmp_path)
    assert warning.startswith("1 lines of ")
    assert [each.attempt for each in written(tmp_path)] == [1, 2]


def test_what_cannot_be_written_is_a_warning(tmp_path: Path, trial: Trial) -> None:
    for name in ("cost.jsonl", "cost.json"):
        (tmp_path / name).mkdir()
    faults = noted(tmp_path / "cost.jsonl", [*ended(trial), *ended(trial, 2)])
    assert faults == ["what the trials took could not be written: a folder lies in the file's place"]
    assert "the verdict stands" in costs.write(tmp_path / "cost.jsonl", prepared(trial), tmp_path)[0]
    (tmp_path / "cost.jsonl").rmdir()
    assert "the verdict stands" in costs.write(tmp_path / "cost.jsonl", prepared(trial), tmp_path)[0]


@pytest.mark.parametrize("raw", [None, b"{", b"[]", b'{"schema": "robustness-gate/cost/v1"}'])
def test_a_tracker_shows_totals_of_what_is_there(tmp_path: Path, trial: Trial, raw: bytes | None) -> None:
    noted(tmp_path / "cost.jsonl", [*ended(trial), *ended(trial, 2), *ended(trial, 3, None)])
    costs.write(tmp_path / "cost.jsonl", prepared(trial), tmp_path)
    found = took.totals(took.read(tmp_path))
    assert {name: found[name] for name in found if name != "cost/seconds"} == {
        "cost/attempts": 3.0, "cost/cpu_seconds": 3.0, "cost/tokens_read": 60.0, "cost/tokens_learnt": 40.0,
        "cost/host_peak_bytes": 7.0,
    }  # fmt: skip
    if raw is None:
        (tmp_path / "cost.json").unlink()
    else:
        (tmp_path / "cost.json").write_bytes(raw)
    assert took.totals(took.read(tmp_path)) == {}


def test_what_is_not_known_is_no_zero(tmp_path: Path, trial: Trial) -> None:
    noted(tmp_path / "cost.jsonl", ended(trial, 1, None))
    costs.write(tmp_path / "cost.jsonl", prepared(trial), tmp_path)
    assert took.totals(took.read(tmp_path)).keys() == {"cost/attempts", "cost/seconds"}
