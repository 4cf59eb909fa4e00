"""Training where memory is short: the gradients of the plain step, what was used is recorded, nothing is dropped."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import families
import pytest
import torch

from robustness_gate.engine import anatomy, frugal, latent, optimizer, padding, scope, train
from robustness_gate.errors import BrokenTrial
from robustness_gate.inputs.memory import MARGIN, Way
from robustness_gate.system import usage

PLAIN = Way()
FRUGAL = (Way(checkpointed=True), Way(rows=2), Way(checkpointed=True, rows=1))
QUICK = {"gpt2", "jamba", "llama", "mamba", "mixtral", "phimoe"}
"""Of the others some take seconds: their state-space blocks are computed step by step."""


def examples(count: int = 6) -> list[train.Example]:
    """Of unequal length, with one to four tokens that count."""
    draw = random.Random(3)
    rows = [[1] + [draw.randrange(3, 300) for _ in range(draw.randrange(5, 14))] for _ in range(count)]
    return [train.Example(row, [at >= len(row) - 1 - n % 4 for at in range(len(row))]) for n, row in enumerate(rows)]


@contextlib.contextmanager
def opened(model: Any, method: str) -> Iterator[dict[str, torch.nn.Parameter]]:
    """What a method trains, with random numbers in it, so that no gradient is zero for being at a start."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(scope.seeded(1))
        if method == "full":
            yield stack.enter_context(scope.trainable(model))
            return
        if method == "lora":
            low = stack.enter_context(scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)))
            scope.write(low, {name: 0.1 * torch.randn(each.shape) for name, each in low.items()})
            yield low
            return
        stack.enter_context(scope.trainable(model, ()))
        width = model.get_input_embeddings().weight.shape[1]
        blocks = [model.get_input_embeddings(), *anatomy.layers(model)[:2]]
        vectors = {each: torch.nn.Parameter(0.1 * torch.randn(4, width)) for each in blocks}
        stack.enter_context(latent.at_first(model, vectors))
        yield {str(number): each for number, each in enumerate(vectors.values())}


def gradients(model: Any, parameters: Any, way: Way, batch: Sequence[train.Example]) -> dict[str, torch.Tensor]:
    value, _ = train._gradients(model, parameters, batch, way, 1.0, "here")
    found = {name: each.grad for name, each in parameters.items() if each.grad is not None}
    frugal.forget(parameters)
    return {**found, "loss": torch.tensor(value)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.allclose(each, other[name], rtol=1e-4, atol=5e-5 * float(each.abs().max())) for name, each in one.items()
    )


@pytest.mark.parametrize(
    "family",
    [pytest.param(each, marks=[] if each in QUICK else [pytest.mark.slow]) for each in families.FAMILIES],
)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_frugal_step_has_the_gradients_of_the_plain_one_in_every_family(family: str, method: str) -> None:
    """Blocks with adapters inside, experts that one example does not use, weights that a hook puts in for a call."""
    model = families.build(family)
    model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    with opened(model, method) as parameters:
        plain = gradients(model, parameters, PLAIN, examples(3))
        assert len(plain) > 0.6 * len(parameters)
        for way in FRUGAL:
            found = gradients(model, parameters, way, examples(3))
            assert same(plain, found), way
            assert way.rows or all(torch.equal(each, found[name]) for name, each in plain.items()), "to the bit"


@pytest.mark.parametrize("apart", [False, True])
def test_vectors_at_first_positions_get_their_gradients_though_their_hook_keeps_the_last_pass(
    rmu_model: Any, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows of unequal length do not share a pass, a step has several, and the hook knows the last one's."""
    monkeypatch.setattr(padding, "alike", lambda *_, **__: apart)
    with opened(rmu_model.model, "vectors") as parameters:
        plain = gradients(rmu_model.model, parameters, PLAIN, examples())
        assert set(plain) == {"0", "1", "2", "loss"}
        for way in FRUGAL:
            assert same(plain, gradients(rmu_model.model, parameters, way, examples())), way


def test_blocks_keep_their_class_and_no_gradient_is_computed_where_none_is_wanted(rmu_model: Any) -> None:
    ids, kinds = torch.tensor([[1, 5, 9]]), [type(each) for each in anatomy.layers(rmu_model.model)]
    with frugal.checkpointed(rmu_model.model):
        assert [type(each) for each in anatomy.layers(rmu_model.model)] != kinds
        with torch.no_grad():
            assert not rmu_model.model(ids).logits.requires_grad
    assert [type(each) for each in anatomy.layers(rmu_model.model)] == kinds
    with pytest.raises(BrokenTrial, match="has 1500 rows"), frugal.checkpointed(rmu_model.model):
        rmu_model.model(ids + 5000)
    assert [type(each) for each in anatomy.layers(rmu_model.model)] == kinds


def wanted(model: Any, parameters: Any, data: Sequence[train.Example], batch: int = 6) -> frugal.Wanted:
    def loss(some: Sequence[train.Example]) -> torch.Tensor:
        return train.batch_loss(model, some, torch.device("cpu"))

    return frugal.Wanted(model, parameters, data, batch, loss)


def changed_the_second_time(model: Any) -> Callable[[], None]:
    """A block of which every second call returns less: no gradient of a repetition would be right."""
    calls = [0]

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        calls[0] += 1
        stream = output[0] if isinstance(output, tuple) else output
        less = stream * (0.5 if calls[0] % 2 == 0 else 1.0)
        return (less, *output[1:]) if isinstance(output, tuple) else less

    return anatomy.layers(model)[1].register_forward_hook(hook).remove  # type: ignore[no-any-return]


def detached_the_second_time(model: Any) -> Callable[[], None]:
    """A block of which every second call has no gradient, as where a repetition drops it."""
    calls = [0]

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        calls[0] += 1
        return output.detach() if calls[0] % 2 == 0 else output

    return anatomy.layers(model)[1].mlp.register_forward_hook(hook).remove  # type: ignore[no-any-return]


@pytest.mark.parametrize("odd", [changed_the_second_time, detached_the_second_time])
def test_a_model_whose_blocks_compute_something_else_when_repeated_is_found_out(
    odd: Any, rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(rmu_model.model, "lora") as parameters:
        asked = wanted(rmu_model.model, parameters, examples())
        assert frugal.same_gradients(asked)
        room = frugal.largest_step(asked).needs(Way(checkpointed=True)) * MARGIN
        monkeypatch.setattr(frugal, "free", lambda _: int(room) + 1)
        assert frugal.chosen(asked) == Way(checkpointed=True)
        undo = odd(rmu_model.model)
        try:
            assert not frugal.same_gradients(asked)
            monkeypatch.setattr(frugal, "free", lambda _: int(frugal.largest_step(asked).needs(Way(rows=1)) * 1.2))
            assert not frugal.chosen(asked).checkpointed
        finally:
            undo()
        assert all(each.grad is None for each in parameters.values())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_grid_in_little_memory_trains_the_same_and_says_how(
    method: str, rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = rmu_model.model, examples()
    recipes = [train.Recipe(rate, steps=3, batch=4) for rate in (1e-4, 1e-3)]
    found = {}
    for case in ("plain", "frugal"):
        with opened(model, method) as parameters:
            asked = wanted(model, parameters, data, 4)
            if case == "frugal":  # a step of a whole model takes more by its moments than by its pass
                assert frugal.largest_step(asked).its.method == method
                monkeypatch.setattr(frugal.Step, "needs", lambda _, way: 800 if way.plain else 100 * (way.rows or 4))
                monkeypatch.setattr(frugal, "free", lambda _: int(200 * MARGIN) + 1)
            done = train.sweep(model, parameters, data, recipes, 1, iter([0.2, 0.5]).__next__)
            found[case] = done, scope.snapshot(parameters)
    plain, little = found["plain"][0], found["frugal"][0]
    assert plain.way == PLAIN
    assert not {"checkpointed", "examples_together"} & plain.signals.keys()
    assert little.signals["checkpointed"] == 1.0
    assert little.signals["examples_together"] == 2.0
    for one, other in zip(plain.runs, little.runs, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-3)
        assert other.tokens == one.tokens
    for name, each in found["plain"][1].items():
        assert torch.allclose(each, found["frugal"][1][name], atol=2e-4)


def runs_out(monkeypatch: pytest.MonkeyPatch, at: set[int]) -> list[int]:
    """Memory runs out at these calls for the loss of a whole batch; the calls so far."""
    whole, calls = train.batch_loss, list[int]()

    def short(model: Any, batch: Any, device: Any) -> Any:
        calls.append(len(batch))
        if len(calls) - 1 in at:
            raise torch.OutOfMemoryError
        return whole(model, batch, device)

    monkeypatch.setattr(train, "batch_loss", short)
    return calls


@pytest.mark.parametrize("step", [0, 2])
def test_where_memory_runs_out_the_step_is_made_again_and_nothing_of_it_is_lost(
    step: int, rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, recipe = rmu_model.model, train.Recipe(1e-3, steps=4, batch=4)
    with opened(model, "full") as parameters:
        plain = train.train(model, parameters, examples(), recipe, 1)
        expected = scope.snapshot(parameters)
    runs_out(monkeypatch, {step})
    with opened(model, "full") as parameters:
        course = train.train(model, parameters, examples(), recipe, 1)
        assert course.way == Way(checkpointed=True)
        assert course.tokens == plain.tokens
        assert course.losses == pytest.approx(plain.losses, rel=1e-4)
        for name, each in parameters.items():
            assert torch.allclose(each, expected[name], atol=1e-5)


def test_memory_that_runs_out_in_every_way_fails_the_trial_with_the_numbers(
    rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    with opened(rmu_model.model, "full") as parameters:
        monkeypatch.setattr(frugal, "same_gradients", lambda _: True)
        monkeypatch.setattr(train, "_gradients", never)
        with pytest.raises(
            BrokenTrial, match=r"takes 0\.0. GB of memory beside the model.*GB are free on cpu"
        ) as error:
            train.train(rmu_model.model, parameters, examples(), train.Recipe(1e-3, steps=2, batch=4), 1)
    assert error.value.code == "memory"


def test_after_an_update_the_optimisers_numbers_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("llama", torch.bfloat16)
    with opened(model, "full") as parameters:
        asked = wanted(model, parameters, examples())
        seen = [PLAIN]
        for _ in range(4):
            seen.append(frugal.after(seen[-1], asked, started=True))
        assert [each.states for each in seen] == ["device"] * 5
        assert [each.rows for each in seen] == [0, 0, 3, 2, 1]
        with pytest.raises(BrokenTrial, match="GB are free"):
            frugal.after(seen[-1], asked, started=True)
        monkeypatch.setattr(frugal, "same_gradients", lambda _: False)
        assert frugal.after(Way(rows=1), asked, started=False) == Way("in_place")


def test_what_does_not_fit_in_any_way_is_refused_before_it_is_tried(
    rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frugal, "free", lambda _: 1_000_000)
    with opened(rmu_model.model, "full") as parameters:
        before = scope.snapshot(parameters)
        with pytest.raises(BrokenTrial, match=r"0\.00 GB are free") as error:
            train.train(rmu_model.model, parameters, examples(), train.Recipe(1e-3, steps=2, batch=4), 1)
        assert scope.distance(parameters, before) == 0.0
    assert error.value.code == "memory"


def test_what_fits_and_how_the_plain_step_is_chosen_by_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights in float32 are never trained in 16 bits; those in 16 bits are, before anything is refused."""
    for dtype in (torch.float32, torch.bfloat16):
        model = families.build("llama", dtype)
        with opened(model, "full") as parameters:
            asked = wanted(model, parameters, examples())
            need, seen = frugal.largest_step(asked).needs, set()
            for room in range(int(2 * need(PLAIN)), 0, -int(need(PLAIN) / 7)):
                monkeypatch.setattr(frugal, "free", lambda _, room=room: room)
                with contextlib.suppress(BrokenTrial):
                    seen.add(frugal.chosen(asked).states)
            assert seen == ({"device"} if dtype == torch.float32 else {"device", "in_place"})
    monkeypatch.setattr(frugal, "free", lambda _: None)
    assert frugal.chosen(asked) == PLAIN


def test_free_memory_of_the_cpu_is_the_machines_and_a_containers_limit_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = usage.memory()
    assert whole is not None
    found = frugal.free(torch.device("cpu"))
    assert found is not None
    assert 0 < found < whole
    monkeypatch.setattr(usage, "_left_to_the_container", lambda: 12345)
    assert frugal.free(torch.device("cpu")) == 12345


# --- the optimiser ----------------------------------------------------------------------------------------------------


def stepped(parameters: dict[str, torch.nn.Parameter], step: Callable[[], None]) -> None:
    """Four steps along gradients that differ; one parameter has none at the third."""
    for number in range(4):
        loss = (parameters["w"].float().square().sum() + parameters["w"].float().sum()) * (number + 1)
        if number != 2:
            loss = loss + parameters["b"].float().sum() * 3
        for each in parameters.values():
            each.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        step()


def two(dtype: torch.dtype) -> dict[str, torch.nn.Parameter]:
    start = {"w": torch.arange(6.0).reshape(2, 3) / 7, "b": torch.ones(3) / 3}
    return {name: torch.nn.Parameter(each.to(dtype)) for name, each in start.items()}


def test_the_stepper_is_torchs_adamw_to_the_bit() -> None:
    recipe = train.Recipe(1e-2, steps=4, batch=1, clip=0.5, weight_decay=0.1)
    ours, theirs = two(torch.float32), two(torch.float32)
    own = optimizer.Stepper(ours, recipe, 1)
    stepped(ours, lambda: own.step(1.0))
    torchs = torch.optim.AdamW(
        [{"params": [theirs["w"]], "weight_decay": 0.1}, {"params": [theirs["b"]], "weight_decay": 0.0}], lr=1e-2
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(torchs, optimizer._shares(recipe).__getitem__)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.5)
        torchs.step()
        schedule.step()

    stepped(theirs, step)
    for name, each in ours.items():
        assert torch.equal(each, theirs[name])


def test_the_fused_kernel_that_a_gpu_uses_makes_the_same_steps() -> None:
    recipe = train.Recipe(1e-2, steps=4, batch=1, clip=0.5, weight_decay=0.1)
    ours, fused = two(torch.float32), two(torch.float32)
    plain, own = optimizer.Stepper(ours, recipe, 1), optimizer.Stepper(fused, recipe, 1)
    own._fused = True  # torch has it for the CPU, too
    stepped(ours, lambda: plain.step(1.0))
    stepped(fused, lambda: own.step(1.0))
    for name, each in ours.items():
        assert torch.allclose(each, fused[name], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_in_the_hosts_memory_give_the_same_weights_to_the_bit(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the host played by copies: what is on the device must be written back."""
    recipe = train.Recipe(1e-2, steps=4, batch=1, clip=0.5, weight_decay=0.1)
    here, there = two(dtype), two(dtype)
    near = optimizer.stepper(here, recipe, 1)
    stepped(here, lambda: near.step(1.0))
    far = optimizer.stepper(there, recipe, 1, "host")
    own = {id(each) for each in there.values()}
    monkeypatch.setattr(optimizer, "_at", lambda each, _: each if id(each) in own else each.clone())
    stepped(there, lambda: far.step(1.0))
    for name, each in here.items():
        assert torch.equal(each, there[name])
    assert isinstance(far, optimizer.Stepper)
    assert all(bool(each.any()) for pair in far.moments.values() for each in pair)
