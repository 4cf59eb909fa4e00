"""Noise is as large as it says, the same at every scale but for its size, and gone afterwards."""

from __future__ import annotations

import contextlib

import pytest
import torch

from robustness_gate.attacks import noise
from robustness_gate.engine import matrices, scope
from robustness_gate.errors import NotApplicable
from robustness_gate.running import trial

WEIGHTS = {"a": torch.full((200, 300), 3.0), "b": torch.randn(50_000, generator=torch.Generator().manual_seed(2)) / 10}


def noisy(weights, scale, seed, draw):
    change = noise._noisy(scale, seed, draw)
    return {name: change(name, each) for name, each in weights.items()}


def test_its_standard_deviation_is_the_share_of_each_tensors_root_mean_square():
    found = noisy(WEIGHTS, 0.2, seed=1, draw=0)
    for name, each in WEIGHTS.items():
        added = found[name] - each
        expected = 0.2 * float(each.square().mean().sqrt())
        assert float(added.std()) == pytest.approx(expected, rel=0.02)
        assert abs(float(added.mean())) < 0.02 * expected
    assert float((found["a"] - WEIGHTS["a"]).std()) == pytest.approx(0.6, rel=0.02)


def test_a_draw_keeps_its_direction_from_scale_to_scale_and_draws_differ():
    small, large = (noisy(WEIGHTS, scale, seed=1, draw=0) for scale in (0.1, 0.4))
    assert torch.allclose(4 * (small["b"] - WEIGHTS["b"]), large["b"] - WEIGHTS["b"], atol=1e-5)
    assert not torch.equal(small["b"], noisy(WEIGHTS, 0.1, seed=1, draw=1)["b"])
    assert not torch.equal(small["b"], noisy(WEIGHTS, 0.1, seed=2, draw=0)["b"])
    assert torch.equal(small["b"], noisy(WEIGHTS, 0.1, seed=1, draw=0)["b"])
    assert torch.equal(noisy(WEIGHTS, 0.0, seed=1, draw=0)["b"], WEIGHTS["b"])


def test_what_is_handed_over_is_the_draw_that_was_chosen_and_it_is_taken_back(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    before = {name: each.detach().clone() for name, each in target.model.named_parameters()}
    config = noise.Config(budgets=(100, 300), draws=3, where="linear")
    with contextlib.closing(noise.attack(target, config, 5)) as attacked_models:
        for attacked in attacked_models:
            best = max(attacked.settings_tried, key=lambda each: each.dev_accuracy)
            assert attacked.signals["chosen_dev"] == best.dev_accuracy
            mean = sum(each.dev_accuracy for each in attacked.settings_tried) / 3
            assert attacked.signals["dev_rise"] == pytest.approx(mean - attacked.signals["dev_unshaken"])
            assert attacked.signals["relative_change"] == pytest.approx(attacked.budget / 1000, rel=0.02)
            linear = {f"{name}.weight" for name in scope.linear_modules(target.model)}
            weights = {name: before[name] for name in before if name in linear}
            expected = noisy(weights, attacked.budget / 1000, 5, int(attacked.selected["draw"]))
            for name, each in target.model.named_parameters():
                assert torch.equal(each, expected[name] if name in linear else before[name])
    assert all(torch.equal(each, before[name]) for name, each in target.model.named_parameters())


def test_a_model_without_such_weights_is_not_applicable(small_suite_data, rmu_model, monkeypatch):
    monkeypatch.setattr(matrices, "of_blocks", lambda _model: {})
    target = trial.target_of(small_suite_data, rmu_model, None)
    with pytest.raises(NotApplicable, match="no weight matrix with plain numbers"):
        next(noise.attack(target, noise.Config(where="linear"), 1))
