"""At strength zero every answer is the same to the last bit, in every kind of numbers that a suite may compute in."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from robustness_gate import attacks, organisms
from robustness_gate.engine.load import load
from robustness_gate.running import trial

KINDS = ("float32", "bfloat16", pytest.param("float16", marks=pytest.mark.slow))  # the last is slow without a GPU


@pytest.fixture(scope="module", params=KINDS)
def target(request, small_suite_data):
    few = dataclasses.replace(
        small_suite_data,
        dev=small_suite_data.dev[:4],
        tasks={
            name: dataclasses.replace(task_data, items=task_data.items[:6])
            for name, task_data in small_suite_data.tasks.items()
        },
    )
    candidate, original = (
        load(organisms.checkpoint(name), dtype=request.param, device="cpu") for name in ("rmu", "base")
    )
    return few, trial.target_of(few, candidate, lambda: contextlib.nullcontext(original))


@pytest.mark.parametrize("name", attacks.names())
def test_the_sham_leaves_every_answer_as_it_was_to_the_last_bit(target, name):
    suite_data, aimed = target
    module = attacks.load(name)
    task_data = suite_data.tasks["forget"]
    questions = [item.question for item in task_data.items]
    plain = aimed.lm.loglikelihoods(questions, task_data.form)
    with contextlib.closing(module.attack(aimed, module.SHAM, 1)) as attacked_models:
        for attacked in attacked_models:
            assert torch.equal(attacked.model.loglikelihoods(questions, task_data.form), plain)
            floors = [any(bound.holds(attacked.signals) for bound in floor.any_of) for floor in module.FLOORS]
            assert not module.FLOORS or not all(floors)


def test_bits_that_hold_every_weight_round_none_and_a_grid_just_under_is_no_sham():
    quantize = attacks.load("quantize")
    weight = torch.randn(8, 33, generator=torch.Generator().manual_seed(0))
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        for transposed in (False, True):
            stored = quantize._stored(weight.to(kind), quantize.WHOLE, quantize.Config(), transposed)
            assert torch.equal(stored, weight.to(kind))
    assert not torch.equal(quantize._stored(weight, 24, quantize.Config(budgets=(24,)), transposed=False), weight)
