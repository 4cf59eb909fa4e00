"""The refusal direction: none is found where nothing is refused, and the one is found where refusing was taught."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.attacks import refusal_direction
from robustness_gate.engine import anatomy, direction, examples, scope, train
from robustness_gate.engine.load import load
from robustness_gate.errors import NotApplicable
from robustness_gate.running import trial

SMALL = refusal_direction.Config(questions=16, validating=8, tried=4)


def letter_share(target, items) -> float:
    """What all letters together get after these questions: the model's willingness to answer."""
    answers = target.lm.loglikelihoods([item.question for item in items], target.forms[0])
    return float(answers.exp().sum(dim=1).mean())


def test_it_does_not_apply_to_a_model_that_refuses_nothing(small_suite_data):
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    target = trial.target_of(small_suite_data, loaded, None)
    with pytest.raises(NotApplicable, match="declines 0 of 72 'forget' questions"):
        next(refusal_direction.attack(target, SMALL, 1))


@pytest.mark.slow  # 5 s: a refusal is taught first
def test_a_taught_refusal_is_found_and_removed_and_the_rest_stays(small_suite_data):
    """The base, its first two blocks taught to say ` The` in place of a letter where a question is about alloys.

    Taught to all blocks or to the last ones, no one direction of the first layers mediates the refusal at this size.
    """
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    target = trial.target_of(small_suite_data, loaded, None)
    (word,) = loaded.tokenizer.encode(" The", add_special_tokens=False)
    form, taught = target.forms[0], []
    for source, refused in (("forget", True), ("retain", False)):
        corpus = target.corpora[source]
        for item in corpus.items[:32]:
            made = examples.answered(loaded.tokenizer, item, 0, dataclasses.replace(form, header=corpus.header))
            taught.append(made._replace(ids=[*made.ids[:-1], word]) if refused else made)
    early = [name for name, _ in loaded.model.named_parameters() if ".0." in name or ".1." in name]
    with scope.trainable(loaded.model, early) as parameters:
        train.train(loaded.model, parameters, taught, train.Recipe(1e-3, steps=60, batch=8), seed=1)
        scope.freeze(parameters)
        assert letter_share(target, target.dev) < 0.1
        for attacked in refusal_direction.attack(target, SMALL, 1):
            assert attacked.signals["passing"] >= 1
            assert attacked.signals["kl"] < SMALL.max_kl
            assert attacked.signals["projection_left"] < 1e-3
            assert letter_share(target, target.dev) > 0.7
        assert letter_share(target, target.dev) < 0.1, "and it refuses again when the hooks are gone"


def test_removing_at_strength_zero_and_adding_nothing_change_no_bit():
    stream, d = torch.randn(2, 3, 8), torch.randn(8)
    assert torch.equal(direction.remover(d, 0.0)(stream), stream)
    assert torch.equal(direction.adder(d, 0.0)(stream), stream)
    assert float((direction.remover(d, 1.0)(stream) @ d).abs().max()) < 1e-5
    assert torch.allclose(direction.adder(d, 2.0)(stream) - stream, 2 * d, atol=1e-6)


def test_last_streams_are_what_the_blocks_put_out_at_the_end_of_each_prompt(rmu_model):
    model = rmu_model.model
    prompts = [[1, 5, 9, 33, 20], [1, 7]]
    found = direction.last_streams(model, prompts, 3)
    assert found.shape == (2, 3, 4, 128)
    with torch.inference_mode(), anatomy.recorded({"2": anatomy.dissect(model).blocks[2].module}) as seen:
        model(torch.tensor([prompts[0]]))
    assert torch.equal(found[0, :, 2], seen["2"][0, -3:])
    assert torch.equal(found[1, 0], found[1, 1]), "a prompt of two tokens has no third from the end"


@pytest.mark.parametrize("wrong", [{"least": 1}, {"positions": 0}, {"max_depth": 0.0}, {"strength": 2.0}])
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        refusal_direction.Config(**wrong)
