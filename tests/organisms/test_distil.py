"""A GPT-NeoX distilled into a GPT-2: every weight is taken over, and training brings the two together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.organisms import build, distil, facts, measure

IDS = torch.randint(3, 1500, (2, 24), generator=torch.Generator().manual_seed(0))
FEW = dataclasses.replace(distil.Config(), steps=6, warmup=2, rows=4)


@pytest.fixture(scope="module")
def teacher() -> tuple[Any, Any]:
    return measure.load(organisms.checkpoint("neox_base"))


def test_without_positions_the_student_computes_what_its_teacher_computes(teacher: tuple[Any, Any]) -> None:
    """At position 0 nothing is rotated, so only the table of positions is another function."""
    model, _ = teacher
    student = distil._student(model, dataclasses.replace(FEW, table=0.0)).eval()
    nowhere = torch.zeros_like(IDS)
    with torch.inference_mode():
        right = model(input_ids=IDS, position_ids=nowhere).logits
        assert torch.allclose(student(input_ids=IDS, position_ids=nowhere).logits, right, atol=1e-4)
        assert (student(input_ids=IDS).logits - model(input_ids=IDS).logits).abs().max() > 1


def test_distilling_brings_the_student_near_its_teacher_and_leaves_that_one_as_it_was(teacher: tuple[Any, Any]) -> None:
    model, tokenizer = teacher
    before = {name: each.clone() for name, each in model.state_dict().items()}
    world = facts.make()

    def off(student: Any) -> float:
        ids = torch.cat([torch.full((2, 1), tokenizer.bos_token_id), IDS], 1)
        with torch.inference_mode():
            return float(distil._distance(student, model, ids, torch.ones(ids.shape), ids > 0))

    far = off(distil._student(model, FEW).eval())
    near = off(distil.distil(model, tokenizer, world.retain.facts, FEW, lambda *_: None))
    assert near < 0.9 * far
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_who_teaches_whom() -> None:
    """The oracle's teacher never knew the alloys either, and the decoy's knows the same false facts."""
    for name in build.TAUGHT:
        assert build.parent_of(f"gpt2_{name}") == f"neox_{name}"
        assert build.TAUGHT_SEEDS[f"gpt2_{name}"] == build.TAUGHT_SEEDS[f"neox_{name}"]
    assert build.parent_of("gpt2_rmu") == "gpt2_base"
    assert build.parent_of("neox_decoy") == "neox_oracle"
    assert build.parent_of("self_destructing") == "rmu"
    assert build.parent_of("oracle") == ""
