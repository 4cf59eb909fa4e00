"""Steering moves the stream after one block by a multiple of a mean difference, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.attacks import steer
from robustness_gate.engine import direction
from robustness_gate.engine.load import load
from robustness_gate.errors import NotApplicable
from robustness_gate.running import trial

SOURCES = ("forget", "retain", "unrelated")
SMALL = steer.Config(vectors=("retain",), depths=(0.25, 0.5), multiples=(1.0, 2.0), questions=6)


def test_the_stream_moves_by_the_multiple_that_was_chosen(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    (attacked,) = list(steer.attack(target, SMALL, 1))
    assert attacked.signals["settings"] == len(attacked.settings_tried) == 4
    assert attacked.signals["shift_off"] < 1e-4
    vector = steer._vectors(target, direction.forms(target, SOURCES)[0], SMALL)["retain"][attacked.selected["layer"]]
    assert attacked.signals["shift"] == pytest.approx(attacked.selected["multiple"] * float(vector.norm()), rel=1e-4)


def test_vectors_are_differences_of_means_at_the_last_position(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, lambda: contextlib.nullcontext(rmu_model))
    both = dataclasses.replace(SMALL, vectors=("original", "retain"))
    found = steer._vectors(target, direction.forms(target, SOURCES)[0], both)
    assert not found["original"].any(), "a model does not differ from itself"
    means = []
    for source in ("retain", "forget"):
        corpus = target.corpora[source]
        form = dataclasses.replace(target.forms[0], header=corpus.header)
        encoded = direction.prompts(target.tokenizer, corpus.items[:6], form)
        means.append(torch.stack([direction.last_streams(target.model, [ids], 1)[0, 0] for ids in encoded]).mean(0))
    assert torch.allclose(found["retain"], means[0] - means[1], atol=1e-4)


def test_without_the_original_its_vector_is_left_out_and_stated_so(small_suite_data, rmu_model):
    def nothing():
        raise NotApplicable("no original")

    target = trial.target_of(small_suite_data, rmu_model, nothing)
    (attacked,) = list(steer.attack(target, dataclasses.replace(SMALL, vectors=("original", "retain")), 1))
    assert attacked.signals["kinds_left_out"] == 1.0
    with pytest.raises(NotApplicable, match="original"):
        list(steer.attack(target, dataclasses.replace(SMALL, vectors=("original",)), 1))


def test_a_vector_of_the_original_is_tried_where_there_is_one(small_suite_data, rmu_model):
    base = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    target = trial.target_of(small_suite_data, rmu_model, lambda: contextlib.nullcontext(base))
    (attacked,) = list(steer.attack(target, dataclasses.replace(SMALL, vectors=("original",)), 1))
    assert {each.setting["vector"] for each in attacked.settings_tried} == {"original"}
    assert attacked.signals["kinds_left_out"] == 0.0


def test_a_vector_of_zeros_is_not_worth_an_examination(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, lambda: contextlib.nullcontext(rmu_model))
    (attacked,) = list(steer.attack(target, dataclasses.replace(SMALL, vectors=("original", "retain")), 1))
    assert {each.setting["vector"] for each in attacked.settings_tried} == {"retain"}
    assert attacked.signals["kinds_left_out"] == 0.0, "it was looked for"


@pytest.mark.parametrize("wrong", [{"vectors": ()}, {"multiples": (2.0, 1.0)}, {"depths": (1.0,)}, {"questions": 0}])
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        steer.Config(**wrong)
