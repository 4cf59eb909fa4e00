"""A worker keeps its model from one trial to the next, so it looks whether the last one put everything back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robustness_gate import attacks, organisms
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning import plan
from robustness_gate.records.attack import AttackedModel
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running import attempt, trial
from robustness_gate.running.executors import local


class Pipe:
    """The parent's end: hands out trials, hears every mark, says go on, and is gone after the last trial's end."""

    def __init__(self, *trials: Trial, between: Any = lambda: None) -> None:
        self.waiting, self.between, self.received = list(trials), between, []

    def send(self, what: Any) -> None:
        self.received.append(what)

    def recv(self) -> Any:
        if self.received and isinstance(self.received[-1], Measurement):
            return None
        if not self.waiting:
            raise EOFError
        if self.received:
            self.between()
        return self.waiting.pop(0), 1

    def ends(self) -> list[Closed]:
        return [each for each in self.received if isinstance(each, Closed)]


@pytest.fixture
def job(small_suite_data) -> local.Job:
    place = CheckpointRef(organisms.checkpoint("oracle"))
    return local.Job(small_suite_data, {manifest_of(place).digest: place}, "cpu", None)


@pytest.fixture
def planned(job):
    (digest,) = job.places
    subject = plan.Subject(Role.CANDIDATE, job.places[digest], manifest_of(job.places[digest]))
    none = attacks.load("none")
    return plan.trial_of(subject, None, none, none.Config(), 0, job.suite_data, "float32")


def moved_weight(model):
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3


def hook(model):
    model.model.layers[0].register_forward_hook(lambda _module, _inputs, output: output * 0)


def other_method(model):
    model.model.layers[0].forward = lambda *given, **_: given[0]


@pytest.mark.parametrize("leaves", [None, NotApplicable("it has no blocks", remedy="-")], ids=["ends well", "refuses"])
@pytest.mark.parametrize(
    ("what", "told"),
    [
        (moved_weight, "other weights behind (model.embed_tokens.weight)"),
        (hook, "other settings behind (hooks: model.layers.0)"),
        (other_method, "other settings behind (attributes: model.layers.0.forward)"),
    ],
)
def test_a_trial_that_leaves_another_model_is_a_failure_and_the_next_one_gets_the_model_anew(
    job, planned, monkeypatch, leaves, what, told
):
    clean = Pipe(planned)
    local._work(clean, job)
    assert [end.status for end in clean.ends()] == ["ok"]

    def careless(_planned, _materials, loaded, **_):
        what(loaded.model)
        if leaves:
            raise leaves
        yield from ()

    whole = trial.run
    monkeypatch.setattr(trial, "run", careless)
    pipe = Pipe(planned, planned, between=lambda: monkeypatch.setattr(trial, "run", whole))
    local._work(pipe, job)
    failed, after = pipe.ends()
    assert failed.status == "failure"
    assert f"left {told}" in failed.reason
    assert after.status == "ok"
    marks = [[each.correct for each in one.received if isinstance(each, Measurement)] for one in (clean, pipe)]
    assert marks[0] == marks[1] != []


def test_weights_that_are_not_numbers_are_as_they_were(job, planned):
    resident = attempt.Resident(job)
    with torch.no_grad():
        next(resident.loaded_model(planned).model.parameters())[0, 0] = torch.nan
    assert resident.moved() == "model.embed_tokens.weight"
    from robustness_gate.engine.state import sums_of

    resident._sums = sums_of(resident._model.model)
    assert resident.moved() == ""


def yields(**parts):
    def attack(target, _config, _seed):
        yield AttackedModel(target.lm, 0, **{"cost": {}, **parts})

    return attack


def says(*_):
    yield "a model"


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (lambda *_: [], "the attack returned []; it must yield each AttackedModel"),
        (lambda *_: None, "the attack returned None"),
        (says, "the attack yielded 'a model', which is no AttackedModel"),
        (yields(cost=None), "the attack yielded a 'cost' that is no mapping of names: None"),
        (yields(settings_tried=[{}]), "'settings_tried' that are no GridPoints"),
        (yields(cost={"examples": "3"}), "the attack's 'examples' is '3', no number"),
        (yields(selected={"a": "\ud800"}), "cannot be written"),
    ],
)
def test_what_an_attack_yields_is_checked_and_costs_its_trial_alone(job, planned, monkeypatch, attack, told):
    """Also a text that cannot be written into the ledger: found there it would end the run, and every later one."""
    monkeypatch.setattr(attacks.load("none"), "attack", attack)
    pipe = Pipe(planned)
    local._work(pipe, job)
    (end,) = pipe.ends()
    assert end.status == "failure"
    assert told in end.reason
