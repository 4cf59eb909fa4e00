"""The original is loaded once a process: kept where it fits, and always as if it had just been loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustness_gate import attacks, organisms
from robustness_gate.engine import anatomy, frugal, padding, usage
from robustness_gate.engine import load as loading
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning import plan
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.running import attempt
from robustness_gate.running.executors import Job

CONFIGS = {"model_guidance": {}, "interpolate": {"budgets": (50,)}, "none": {}}


@pytest.fixture(scope="module")
def job(small_suite_data: Any) -> Job:
    few = {
        name: dataclasses.replace(each, items=each.items[:8])
        for name, each in small_suite_data.tasks.items()
        if name == "forget"
    }
    places = {manifest_of(each).digest: each for each in map(CheckpointRef, map(organisms.checkpoint, ("rmu", "base")))}
    return Job(dataclasses.replace(small_suite_data, tasks=few), places, "cpu", None)


def trial_of(job: Job, name: str) -> Trial:
    """A trial of the first checkpoint; of one that may look at it, the second is the original."""
    subject, original = job.places
    module = attacks.load(name)
    candidate = plan.Subject(Role.CANDIDATE, job.places[subject], manifest_of(job.places[subject]))
    config = module.Config(**CONFIGS[name])
    return plan.trial_of(candidate, original, module, config, 0, job.suite_data, "float32")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the checkpoints that are loaded, in order."""
    names, whole = list[str](), loading.load

    def load(directory: Any, **how: Any) -> Any:
        names.append(directory.name)
        return whole(directory, **how)

    monkeypatch.setattr(loading, "load", load)
    return names


def answers(resident: attempt.Resident, trial: Trial) -> list[Any]:
    records = [each.record for each in resident.attempt(trial, 1)]
    assert records[-1].status == "ok", records[-1]
    return [each.correct for each in records if isinstance(each, Measurement)]


@pytest.fixture(scope="module")
def alone(job: Job) -> dict[str, list[Any]]:
    """The answers of each attack in a process of its own."""
    return {name: answers(attempt.Resident(job), trial_of(job, name)) for name in ("model_guidance", "interpolate")}


def test_it_is_loaded_once_and_no_answer_changes(job: Job, alone: dict[str, Any], loaded: list[str]) -> None:
    resident = attempt.Resident(job)
    for name in ("model_guidance", "interpolate", "model_guidance"):
        assert answers(resident, trial_of(job, name)) == alone[name]
    assert loaded == ["rmu", "base"]
    resident.forget()
    assert answers(resident, trial_of(job, "interpolate")) == alone["interpolate"]
    assert loaded == ["rmu", "base"] * 2


def weight(model: Any) -> None:
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[0, 0] += 1.0


def hook(model: Any) -> None:
    anatomy.layers(model)[1].register_forward_hook(lambda _module, _inputs, output: output * 0)


def frequencies(model: Any) -> None:
    dict(model.named_buffers())["model.rotary_emb.inv_freq"].mul_(0.5)


def training_mode(model: Any) -> None:
    model.train()


@pytest.mark.parametrize("damage", [weight, hook, frequencies, training_mode])
def test_what_an_attack_leaves_changed_in_it_does_not_reach_the_next(
    damage: Callable[[Any], None], job: Job, alone: dict[str, Any], loaded: list[str]
) -> None:
    """An attack may spoil what it was lent: a later one would be weaker, and nothing would say so."""
    resident, trial = attempt.Resident(job), trial_of(job, "model_guidance")
    with resident.reference(trial)() as original:
        pass
    damage(original.model)  # after its block, while it is kept
    assert answers(resident, trial) == alone["model_guidance"]
    assert loaded == ["base", "rmu", "base"]


def test_what_was_measured_of_it_for_one_trial_is_measured_again_for_the_next(job: Job) -> None:
    resident, trial = attempt.Resident(job), trial_of(job, "model_guidance")
    for _ in range(2):
        with resident.reference(trial)() as original:
            assert padding.drift(original.model) is None
            padding.look(original.model, [[1, 5], [1, 5, 9, 4]])


def test_where_memory_is_short_it_is_dropped_and_loaded_again(
    job: Job, alone: dict[str, Any], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resident, trial = attempt.Resident(job), trial_of(job, "interpolate")
    size = 4 * usage.parameters(loading.load(organisms.checkpoint("base"), dtype="float32", device="cpu").model)
    loaded.clear()
    monkeypatch.setattr(frugal, "free", lambda _: 3 * size)
    assert answers(resident, trial) == answers(resident, trial) == alone["interpolate"]
    assert loaded == ["rmu", "base"], "there is room for it beside questions"
    answers(resident, trial_of(job, "none"))
    answers(resident, trial)
    assert loaded == ["rmu", "base", "base"], "a trial that does not use it may need more"
    monkeypatch.setattr(frugal, "free", lambda _: size)
    for _ in range(2):
        assert answers(resident, trial) == alone["interpolate"]
    assert loaded == ["rmu", "base", "base", "base"]


def test_a_trial_that_cannot_train_for_want_of_memory_fails_and_is_no_case_of_not_applicable(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not applicable and not required blocks nothing: a vendor would take a small machine."""
    CONFIGS["relearn"] = {"source": "forget", "method": "full", "budgets": (2,), "epochs": 1}
    monkeypatch.setattr(frugal, "free", lambda _: 1_000_000)
    *measured, end = [each.record for each in attempt.Resident(job).attempt(trial_of(job, "relearn"), 1)]
    assert measured == []
    assert (end.status, end.code) == ("failure", "memory")
    assert "GB of memory beside the model" in end.reason
