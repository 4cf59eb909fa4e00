"""At strength zero every answer is the same to the last bit, in every kind of numbers that a suite may compute in."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch

from robustness_gate import attacks, organisms, trial
from robustness_gate.engine.load import load

KINDS = ("float32", "bfloat16", "float16")


@pytest.fixture(scope="module", params=KINDS)
def target(request, small_materials):
    few = dataclasses.replace(
        small_materials,
        dev=small_materials.dev[:4],
        exams={name: dataclasses.replace(exam, items=exam.items[:6]) for name, exam in small_materials.exams.items()},
    )
    candidate, original = (
        load(organisms.checkpoint(name), dtype=request.param, device="cpu") for name in ("rmu", "base")
    )
    return few, trial.target_of(few, candidate, lambda: contextlib.nullcontext(original))


@pytest.mark.parametrize("name", attacks.names())
def test_the_sham_leaves_every_answer_as_it_was_to_the_last_bit(target, name):
    materials, aimed = target
    module = attacks.load(name)
    exam = materials.exams["forget"]
    questions = [item.question for item in exam.items]
    plain = aimed.respondent.choose(questions, exam.form)
    with contextlib.closing(module.attack(aimed, module.SHAM, 1)) as recoveries:
        for recovery in recoveries:
            assert torch.equal(recovery.respondent.choose(questions, exam.form), plain)
            floors = [any(bound.holds(recovery.signs) for bound in floor.any_of) for floor in module.FLOORS]
            assert not module.FLOORS or not all(floors)


def test_bits_that_hold_every_weight_round_none_and_a_grid_just_under_is_no_sham():
    quantize = attacks.load("quantize")
    weight = torch.randn(8, 33, generator=torch.Generator().manual_seed(0))
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        for transposed in (False, True):
            stored = quantize._stored(weight.to(kind), quantize.WHOLE, quantize.Config(), transposed)
            assert torch.equal(stored, weight.to(kind))
    assert not torch.equal(quantize._stored(weight, 24, quantize.Config(marks=(24,)), transposed=False), weight)
