"""Training in sixteen bits does what it does in float32, whether weights, an adapter or a few vectors are trained."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from unittest import mock

import pytest
import torch

from robustness_gate import attacks, organisms
from robustness_gate.engine import examples, frugal, optimizer, scope, train
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.engine.state import changes, state_of
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.memory import Way
from robustness_gate.records.questions import Form
from robustness_gate.running import trial

RATES = (5e-6, 2e-5, 1e-4)
"""Those at which `wmdp-full` trains all weights."""
STEPS = 8
LOW = ("bfloat16", "float16")


def close(low: float, full: float) -> bool:
    """The stated margin on how far a loss falls: 0.01 nats, about what bfloat16 rounds off a loss, and 2 %."""
    return abs(low - full) <= 0.01 + 0.02 * full


@pytest.fixture(scope="module")
def loaded_models() -> dict[str, LoadedModel]:
    return {each: load(organisms.checkpoint("rmu"), dtype=each, device="cpu") for each in ("float32", *LOW)}


def drill(loaded: LoadedModel) -> list[train.Example]:
    items = load_items(organisms.world("forget.relearn"))[:8]
    return [examples.answered(loaded.tokenizer, item, shift, Form()) for item in items for shift in range(2)]


@dataclasses.dataclass
class Trained:
    """How far the loss fell, after the training and step by step, and what moved."""

    fell: float
    losses: list[float]
    moved: float
    """Share of the numbers that the optimiser steps on which are not what they were."""
    values: dict[str, torch.Tensor]


def trained(loaded: LoadedModel, method: str, rate: float) -> Trained:
    model, data, made = loaded.model, drill(loaded), []
    whole = optimizer.stepper
    if method == "full":
        opened = scope.trainable(model)
    else:
        opened = scope.adapter(model, rank=16, alpha=32, targets=scope.linear_names(model))
    kept = mock.patch.object(optimizer, "stepper", lambda *given: made.append(whole(*given)) or made[-1])
    with kept, scope.seeded(1), opened as parameters:
        start, before = scope.snapshot(parameters), train.mean_loss(model, data)
        losses = train.train(model, parameters, data, train.Recipe(rate, steps=STEPS, batch=4), 1).losses
        stepped = made[-1].held if isinstance(made[-1], optimizer.Stepper) else parameters
        share = scope.share_moved(stepped, {name: each.float() for name, each in start.items()})
        return Trained(before - train.mean_loss(model, data), losses, share, scope.snapshot(parameters))


@pytest.fixture(scope="module")
def in_float32(loaded_models):
    """How training goes in float32, by method and rate: each once."""
    return functools.cache(lambda *how: trained(loaded_models["float32"], *how))


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        ("full", RATES[0]),
        ("lora", RATES[-1]),
        pytest.param("full", RATES[1], marks=pytest.mark.slow),
        pytest.param("full", RATES[2], marks=pytest.mark.slow),
        pytest.param("lora", RATES[0], marks=pytest.mark.slow),
        pytest.param("lora", RATES[1], marks=pytest.mark.slow),
    ],
)
def test_the_loss_falls_and_the_weights_move_as_in_float32(loaded_models, in_float32, method, rate):
    full = in_float32(method, rate)
    assert full.moved > 0.99
    for kind in LOW:
        low = trained(loaded_models[kind], method, rate)
        assert close(low.fell, full.fell), (kind, low.fell, full.fell)
        for step, (a, b) in enumerate(zip(low.losses, full.losses, strict=True)):
            assert a == pytest.approx(b, abs=0.03), f"{kind} at step {step}"
        assert low.moved == pytest.approx(full.moved, abs=0.01)
        expected = {torch.float32} if method == "lora" else {getattr(torch, kind)}
        assert {each.dtype for each in low.values.values()} == expected
    assert {each.dtype for each in loaded_models[kind].model.parameters()} == {getattr(torch, kind)}


@pytest.mark.parametrize(
    ("rate", "kind"),
    [
        (RATES[0], "bfloat16"),
        (RATES[0], "float16"),
        (RATES[-1], "bfloat16"),
        pytest.param(RATES[1], "bfloat16", marks=pytest.mark.slow),
        pytest.param(RATES[1], "float16", marks=pytest.mark.slow),
        pytest.param(RATES[-1], "float16", marks=pytest.mark.slow),
    ],
)
def test_where_copies_have_no_room_the_loss_falls_as_far(loaded_models, in_float32, kind, rate, monkeypatch):
    full = in_float32("full", rate)
    monkeypatch.setattr(frugal, "chosen", lambda _: Way(states="in_place"))
    low = trained(loaded_models[kind], "full", rate)
    assert close(low.fell, full.fell)
    if rate == RATES[-1]:
        again = trained(loaded_models[kind], "full", rate)
        assert all(torch.equal(low.values[name], each) for name, each in again.values.items())


def test_the_same_seed_rounds_in_the_same_way_and_another_in_another(loaded_models):
    found = []
    for seed in (1, 1, 2):
        model = loaded_models["bfloat16"].model
        with scope.trainable(model) as parameters:
            train.train(
                model, parameters, drill(loaded_models["bfloat16"])[:4], train.Recipe(2e-5, steps=2, batch=4), seed
            )
            found.append(scope.snapshot(parameters))
    assert all(torch.equal(found[0][name], each) for name, each in found[1].items())
    assert not all(torch.equal(found[0][name], each) for name, each in found[2].items())


def test_stepping_in_place_is_adamw():
    """On float32, which nothing rounds, it must do what torch's does."""
    recipe = train.Recipe(1e-2, steps=4, batch=1, clip=0.5, weight_decay=0.1)
    first = {"w": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3)), "b": torch.nn.Parameter(torch.ones(3))}
    second = {name: torch.nn.Parameter(each.detach().clone()) for name, each in first.items()}
    steppers = (optimizer.Stepper(first, recipe, 1), optimizer.InPlace(second, recipe, 1))
    for step in range(4):
        for parameters, stepper in zip((first, second), steppers, strict=True):
            (parameters["w"].square().sum() * (step + 1) + parameters["b"].sum()).backward()
            stepper.step(1.0)
            stepper.forget()
    for name, each in first.items():
        assert torch.allclose(each, second[name], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_by_lot_keeps_what_is_exact_and_is_right_on_average(dtype):
    lot = torch.Generator().manual_seed(1)
    exact = torch.randn(1000, generator=lot).to(dtype)
    assert torch.equal(scope.rounded(exact.float(), dtype, lot), exact)
    between = torch.full((200_000,), 1.0) + 0.25 * torch.finfo(dtype).eps
    found = scope.rounded(between, dtype, lot)
    assert set(found.float().tolist()) == {1.0, 1.0 + torch.finfo(dtype).eps}
    assert float((found > 1).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(scope.rounded(torch.tensor([float("inf")]), dtype, lot), torch.tensor([float("inf")]).to(dtype))
    rows = scope.rounded(between.reshape(2, -1), dtype, lot, by_channel=True)
    assert torch.equal(rows[0], rows[1]), "what an answer is rounded to does not depend on its neighbours"


@pytest.mark.parametrize("kind", LOW)
def test_an_adapter_that_is_none_changes_no_answer_in_sixteen_bits(loaded_models, kind):
    model = loaded_models[kind].model
    ids = torch.tensor([[1, 5, 9, 40]])
    plain = model(ids).logits
    with scope.adapter(model, rank=4, alpha=8, targets=scope.linear_names(model)) as parameters:
        assert {each.dtype for each in parameters.values()} == {torch.float32}
        assert torch.equal(model(ids).logits, plain)


@pytest.mark.parametrize("name", ["latent_prompt", "soft_prompt"])
def test_vectors_are_float32_whatever_the_model_is_in(name, loaded_models, small_suite_data, monkeypatch):
    """And the smallest rate of the grid moves them."""
    seen = []
    whole = train.train
    monkeypatch.setattr(train, "train", lambda model, p, *rest: seen.append(dict(p)) or whole(model, p, *rest))
    module = attacks.load(name)
    config = module.Config(budgets=(3,), learning_rates=(1e-3,), batch=4, questions=8)
    target = trial.target_of(small_suite_data, loaded_models["bfloat16"], None)
    with contextlib.closing(module.attack(target, config, 1)) as attacked_models:
        signs = next(attacked_models).signals
    assert {each.dtype for each in seen[0].values()} == {torch.float32}
    # of the latent ones a quarter lies after the last block's MLP, at positions that no answer is read from
    assert signs["share_moved"] >= (0.75 if name == "latent_prompt" else 0.99)


@pytest.mark.parametrize("kind", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])  # slow without a GPU
@pytest.mark.parametrize("method", ["full", "lora"])
def test_relearning_with_a_repair_examines_the_model_in_its_own_kind_and_restores_it(
    kind, method, loaded_models, small_suite_data
):
    relearn = attacks.load("relearn")
    config = relearn.Config(
        source="forget", method=method, budgets=(4,), learning_rates=(1e-2,), min_steps=24, batch=4, rank=4, alpha=8,
        repair="unrelated", repair_on="questions", repair_steps=4, repair_rate=1e-3,
    )  # fmt: skip
    loaded = loaded_models[kind]
    few = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2])  # float16 is slow without a GPU
    target, before = trial.target_of(few, loaded, None), state_of(loaded.model)
    with contextlib.closing(relearn.attack(target, config, 1)) as attacked_models:
        signs = next(attacked_models).signals
        assert {each.dtype for each in loaded.model.parameters()} == {getattr(torch, kind)}
    assert signs["repair_loss_end"] < signs["repair_loss_start"]
    assert [f.description for f in relearn.FLOORS if not any(bound.holds(signs) for bound in f.any_of)] == []
    assert list(changes(before, state_of(loaded.model))) == []


def test_a_gradient_too_small_for_float16_is_scaled_up_and_one_too_large_down():
    class Steep(torch.nn.Module):
        def __init__(self, slope: float) -> None:
            super().__init__()
            self.weight, self.slope = torch.nn.Parameter(torch.zeros(1, 1, dtype=torch.half)), slope

    for slope in (2.0**-26, 2.0**12):
        model = Steep(slope)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "batch_loss", lambda m, *_: (m.weight * m.slope).float().sum() - 1.0)
            recipe = train.Recipe(1e-2, steps=1, batch=1, weight_decay=0.0, clip=0.0)
            train.train(model, {"w": model.weight}, [train.Example([1, 2], [False, True])], recipe, 1)
        assert float(model.weight.detach()) == pytest.approx(-1e-2 * slope / (slope + 1e-8), rel=0.2), (
            "AdamW adds 1e-8 to the gradient's size"
        )
