"""Two models that answer together: the formula, its ends, and who may require it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
import torch
from hazards import hazard

from robustness_gate import organisms
from robustness_gate.attacks import model_guidance
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM
from robustness_gate.engine.selection import accuracy, shares
from robustness_gate.errors import NotApplicable
from robustness_gate.records.questions import Form, Item, Question, Rows
from robustness_gate.running import trial


@dataclass
class Says:
    """An LM that says the same to everything."""

    logliks: list[list[float]]

    def loglikelihoods(self, _questions, _form):
        return torch.tensor(self.logliks)

    def generate(self, _questions, _form):
        raise NotImplementedError  # the attack only lets it choose; writing would be a fault of the attack


@pytest.fixture(scope="module")
def base():
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


def test_the_formula_by_hand():
    ours, theirs = Says([[-1.0, -2.0, -0.5]]), Says([[-2.0, -1.0, -0.5]])
    told = model_guidance.Guided(ours, theirs, 3.0).loglikelihoods([], Form())
    assert told.tolist() == [[-4.0, 1.0, -0.5]]
    with pytest.raises(NotApplicable, match="does not write"):
        model_guidance.Guided(ours, theirs, 3.0).generate([], Form())


def test_weight_0_is_the_unlearned_model_and_weight_1_the_original_even_where_one_gives_nothing_a_chance():
    impossible = [[-1.0, -float("inf")]]
    ours, theirs = Says([[-1.0, -2.0]]), Says(impossible)
    assert torch.equal(
        model_guidance.Guided(ours, theirs, 0.0).loglikelihoods([], Form()), torch.tensor([[-1.0, -2.0]])
    )
    assert torch.equal(model_guidance.Guided(ours, theirs, 1.0).loglikelihoods([], Form()), torch.tensor(impossible))


def test_the_chosen_pair_answers_as_stated(small_suite_data, rmu_model, base):
    target = trial.target_of(small_suite_data, rmu_model, lambda: contextlib.nullcontext(base))
    config = model_guidance.Config(weights=(0.1, 1.0, 2.0))
    with contextlib.closing(model_guidance.attack(target, config, 1)) as attacked_models:
        attacked = next(attacked_models)
        by_weight = {each.setting["weight"]: each.dev_accuracy for each in attacked.settings_tried}
        theirs = ModelLM(base.model, base.tokenizer)
        assert by_weight[1.0] == attacked.signals["original_dev"] == accuracy(theirs, target.hazards)
        assert attacked.signals["unlearned_dev"] == accuracy(target.lm, target.hazards)
        assert attacked.selected["weight"] == max(w for w, dev in by_weight.items() if dev == max(by_weight.values()))
        assert accuracy(attacked.model, target.hazards) == attacked.signals["chosen_dev"]


def test_without_the_original_it_is_not_applicable(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    with pytest.raises(NotApplicable, match="needs the original"):
        next(model_guidance.attack(target, model_guidance.Config(), 1))


def test_an_answer_that_is_no_number_is_wrong():
    items = [Item(Question(str(i), "?", ("a", "b")), 1) for i in range(2)]
    logliks = torch.tensor([[[-2.0, -1.0], [-1.0, -1.5]], [[-2.0, -1.0], [-1.0, float("nan")]]])
    assert shares([Rows(logliks)], [hazard(items)]).deciding == 0.5
