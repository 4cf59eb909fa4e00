"""A worker keeps its model from one trial to the next, so it looks whether the last one put everything back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robustness_gate import attacks, organisms, plan, trial
from robustness_gate.checkpoint import Place, manifest_of
from robustness_gate.errors import NotApplicable
from robustness_gate.executors import local


class Pipe:
    """The parent's end, that hears every mark and says go on."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def send(self, what: Any) -> None:
        self.heard.append(what)

    def recv(self) -> None:
        return None


@pytest.fixture
def job(small_materials) -> local.Job:
    place = Place(organisms.checkpoint("oracle"))
    return local.Job(small_materials, {manifest_of(place).digest: place}, "cpu", None)


@pytest.fixture
def planned(job):
    (digest,) = job.places
    subject = plan.Subject("candidate", job.places[digest], manifest_of(job.places[digest]))
    none = attacks.load("none")
    return plan.trial_of(subject, None, none, none.Config(), 0, job.materials, "float32")


def ended(resident, planned):
    pipe = Pipe()
    return local._restored(resident, local._attempt(resident, planned, 1, pipe)), pipe.heard


@pytest.mark.parametrize("leaves", [None, NotApplicable("it has no blocks", remedy="-")], ids=["ends well", "refuses"])
def test_a_trial_that_leaves_other_weights_is_a_failure_and_the_next_one_gets_the_model_anew(
    job, planned, monkeypatch, leaves
):
    resident = local._Resident(job)
    end, clean = ended(resident, planned)
    assert (end.status, len(clean) > 0) == ("ok", True)

    def careless(_planned, _materials, speaker, **_):
        with torch.no_grad():
            next(speaker.model.parameters())[0, 0] += 1e-3
        if leaves:
            raise leaves
        yield from ()

    with monkeypatch.context() as patch:
        patch.setattr(trial, "run", careless)
        end, _ = ended(resident, planned)
    assert end.status == "failure"
    assert "left other weights behind (model.embed_tokens.weight)" in end.reason
    end, again = ended(resident, planned)
    assert end.status == "ok"
    assert [mark.correct for mark in again] == [mark.correct for mark in clean]


def test_weights_that_are_not_numbers_are_as_they_were(job, planned):
    resident = local._Resident(job)
    with torch.no_grad():
        next(resident.speaker(planned).model.parameters())[0, 0] = torch.nan
    assert resident.moved() == "model.embed_tokens.weight"
    from robustness_gate.engine.state import sums_of

    resident._sums = sums_of(resident._speaker.model)
    assert resident.moved() == ""
