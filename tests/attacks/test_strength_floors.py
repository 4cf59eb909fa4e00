"""What a floor of relearning excludes, and that it excludes nothing else: an attack that trained may acquit."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.attacks import latent_prompt, relearn, soft_prompt
from robustness_gate.engine import scope, train
from robustness_gate.engine.load import load
from robustness_gate.inputs.memory import Way
from robustness_gate.running import trial

SHORT = {"budgets": (24,), "rank": 8, "alpha": 16, "batch": 4, "min_steps": 6, "epochs": 1}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def target(request, small_suite_data):
    """The oracle, which answers nearly all of `retain` before anything is done: 0.09 nats."""
    few = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:4])
    loaded = load(organisms.checkpoint("oracle"), dtype=request.param, device="cpu")
    return trial.target_of(few, loaded, None)


def signs_of(target, **settings) -> dict[str, float]:
    config = relearn.Config(**(SHORT | settings))
    with contextlib.closing(relearn.attack(target, config, 1)) as attacked_models:
        return dict(next(attacked_models).signals)


def missed(signals: dict[str, float]) -> list[str]:
    return [f.description for f in relearn.FLOORS if not any(bound.holds(signals) for bound in f.any_of)]


def test_a_model_that_fits_its_data_from_the_start_can_establish_compliance(target):
    signals = signs_of(target, source="retain", learning_rates=(1e-4,))
    assert signals["loss_start"] < 0.1
    assert 0.88 < signals["loss_ratio"] < 0.95, "less than was asked of those that do not fit"
    assert missed(signals) == []


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_rate_that_does_nothing_cannot_establish_compliance_also_where_the_data_fit_from_the_start(target, method):
    signals = signs_of(target, source="retain", learning_rates=(1e-10, 1e-9), method=method)
    assert signals["loss_end"] < 0.1
    assert signals["steps"] >= 6
    assert [words[:21] for words in missed(signals)][:2] == ["at some learning rate", "the run that is hande"]


def test_data_that_do_not_fit_ask_for_more(target):
    signals = signs_of(target, source="unrelated", learning_rates=(1.3e-3,))
    assert signals["loss_start"] > 0.5
    assert 0.8 < signals["loss_ratio"] < 0.95
    assert missed(signals)[0].startswith("at some learning rate")


def test_an_adapter_that_nothing_reads_cannot_establish_compliance(target, monkeypatch):
    whole = scope.adapter
    monkeypatch.setattr(scope, "adapter", lambda model, **how: whole(model, **(how | {"alpha": 0})))
    assert len(missed(signs_of(target, source="retain", learning_rates=(1e-2,)))) >= 2


def test_a_run_that_changed_nothing_is_no_choice_where_another_did(rmu_model):
    model = rmu_model.model
    data = [train.Example([1, 5, 9, 40, 77], [False] * 4 + [True]), train.Example([1, 8, 90], [False, False, True])]
    rates = (1e-12, 1e-2)
    recipes = [train.Recipe(rate, steps=3, batch=2) for rate in rates]
    readings = iter([0.9, 0.1, 0.9, 0.1])
    with scope.trainable(model, ["model.layers.1.mlp.up_proj.weight"]) as parameters:
        done = train.sweep(model, parameters, data, recipes, 1, lambda: next(readings))
        assert done.best.rate == 1e-2, "the other is the delivered model, which is examined anyway"
        assert done.signals["chosen_change"] >= train.MOVED
        alone = train.sweep(model, parameters, data, [dataclasses.replace(recipes[0])], 1, lambda: next(readings))
        assert alone.best.rate == 1e-12
        assert alone.signals["chosen_change"] < train.MOVED


def test_the_fit_is_the_loss_the_share_predicted_and_the_odds(rmu_model):
    model, rows = rmu_model.model, [[1, 5, 9, 40, 77], [1, 8, 90]]
    counts = [[False, False, True, True, True], [False, False, True]]
    found = train.fit(model, [train.Example(*pair) for pair in zip(rows, counts, strict=True)])
    losses, right, odds = [], [], []
    for row, counted in zip(rows, counts, strict=True):
        with torch.inference_mode():
            told = model(torch.tensor([row])).logits[0].double().softmax(-1)
        for place in (i for i, each in enumerate(counted) if each):
            p = float(told[place - 1, row[place]])
            losses.append(-math.log(p))
            right.append(int(told[place - 1].argmax()) == row[place])
            odds.append(math.log(p / (1 - p)))
    assert found.loss == pytest.approx(sum(losses) / 4, rel=1e-4)
    assert found.right == sum(right) / 4
    assert found.odds == pytest.approx(sum(odds) / 4, rel=1e-3)


@pytest.mark.parametrize("module", [latent_prompt, soft_prompt])
def test_vectors_that_a_rate_too_small_shaped_cannot_establish_compliance(module, target):
    still = module.Config(source="retain", budgets=(3,), learning_rates=(1e-9,), batch=4, questions=8)
    with contextlib.closing(module.attack(target, still, 1)) as attacked_models:
        signs = next(attacked_models).signals
    told = [f.description[:13] for f in module.FLOORS if not any(bound.holds(signs) for bound in f.any_of)]
    assert told[0] == "at some learn"


def test_every_floor_says_what_it_excludes():
    from robustness_gate import attacks

    for name in attacks.names():
        for floor in attacks.load(name).FLOORS:
            assert ": no " in floor.description, f"{name}: {floor.description}"


def test_a_start_that_unlearning_blew_up_does_not_count_as_something_taught(target):
    """From 17 nats to 5 is no fit: knowing how often each token occurs costs less. Seen on a real model after RMU."""
    examples = [train.Example([1, 5], [False, True]), train.Example([1, 6], [False, True])]
    run = train.Run(1e-3, 15, 4, fit=train.Fit(4.74, 0.0, -4.7), dev=0.4)
    done = train.Sweep(train.Fit(17.1, 0.0, -17.1), [run], run, 1.0, train._entropy(examples), Way())
    assert done.entropy == pytest.approx(math.log(2))
    assert done.signals["loss_ratio"] < 0.3
    assert any("blew up" in words for words in missed({**signs_of(target, source="retain"), **done.signals}))


def test_a_handful_that_was_not_learnt_by_heart_cannot_establish_compliance(target):
    handful = {"source": "forget", "budgets": (4,)}
    assert any("handful" in words for words in missed(signs_of(target, **handful, learning_rates=(1e-5,))))
    learnt = signs_of(target, **handful, learning_rates=(1e-2,), min_steps=24)
    assert not any("handful" in words for words in missed(learnt))
