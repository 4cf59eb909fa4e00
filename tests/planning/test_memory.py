"""The arithmetic of memory, beside what torch really keeps for a small shape; and what it says of large ones."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.engine import frugal, lens, optimizer, scope, score, selection, train, usage
from robustness_gate.engine.load import DTYPES, load
from robustness_gate.errors import BrokenTrial, CheckpointError
from robustness_gate.inputs import memory
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.memory import States, Way
from robustness_gate.inputs.shape import Shape, shape_of
from robustness_gate.planning import tokens
from robustness_gate.planning.devices import device
from robustness_gate.records.work import Training
from robustness_gate.running import trial

LAYERS, WIDTH, HEADS, KEYS, INNER, VOCABULARY, BATCH, LENGTH, RANK = 3, 64, 4, 2, 176, 97, 4, 24, 4
LLAMA_7B = Shape(6_738_415_616, 32, 4096, 32, 32, 128, 11008, 32000, 2_498_560, 32000 * 4096, 6_476_005_376, 0)
LLAMA_70B = Shape(70_553_706_496, 80, 8192, 64, 8, 128, 28672, 128256, 12_943_360, 128256 * 8192, 68_451_041_280, 0)


@pytest.fixture
def small() -> Callable[[str], Any]:
    """A random Llama in a dtype, whose attention has fewer keys than queries."""

    def made(dtype: str) -> Any:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            num_key_value_heads=KEYS, intermediate_size=INNER, max_position_embeddings=64, tie_word_embeddings=True,
            pad_token_id=0,
        )  # fmt: skip
        model = transformers.AutoModelForCausalLM.from_config(config).to(DTYPES[dtype]).eval()
        return model.requires_grad_(requires_grad=False)

    return made


def shape(model: Any) -> Shape:
    count = sum(each.numel() for each in model.parameters())
    sides = LAYERS * (2 * (WIDTH + WIDTH) + 2 * (WIDTH + WIDTH // 2) + 3 * (WIDTH + INNER))
    inside = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + 3 * WIDTH * INNER)
    largest = VOCABULARY * WIDTH
    return Shape(count, LAYERS, WIDTH, HEADS, KEYS, WIDTH // HEADS, INNER, VOCABULARY, sides, largest, inside, 0)


def opened(model: Any, method: str) -> Any:
    if method == "full":
        return scope.trainable(model)
    return scope.adapter(model, rank=RANK, alpha=RANK, targets=scope.linear_names(model))


def examples() -> list[train.Example]:
    rows = torch.randint(3, VOCABULARY, (BATCH, LENGTH)).tolist()
    return [train.Example(row, [False] * (LENGTH - 1) + [True]) for row in rows]


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_blocks_keep_for_the_backward_pass_what_the_formula_says(
    small: Any, dtype: str, method: str, checkpointed: bool
) -> None:
    """Bytes of every storage that autograd keeps, without the weights, to a twentieth; of blocks that are computed
    again the inputs alone.
    """
    model = small(dtype)
    with opened(model, method) as parameters:
        weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *parameters.values())}
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        how = frugal.checkpointed(model) if checkpointed else contextlib.nullcontext()
        with torch.enable_grad(), how, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            train.batch_loss(model, examples(), torch.device("cpu"))
    found = sum(each.untyped_storage().nbytes() for place, each in kept.items() if place not in weights)
    its = Training("full" if method == "full" else "lora", BATCH, LENGTH, rank=RANK)
    plain = memory.activations(shape(model), dtype, its)
    if not checkpointed:
        assert plain == pytest.approx(found, rel=0.05)
        return
    forward, _ = memory.training(shape(model), dtype, its, Way(checkpointed=True), 1.0)
    assert forward["activations"] - plain / LAYERS == pytest.approx(found, rel=0.05)
    assert found < 0.2 * plain


@pytest.mark.parametrize(
    ("dtype", "states", "method"),
    [
        ("float32", "device", "full"),
        ("float32", "host", "full"),
        ("bfloat16", "device", "full"),
        ("bfloat16", "host", "full"),
        ("bfloat16", "in_place", "full"),
        ("float16", "in_place", "full"),
        ("bfloat16", "device", "lora"),
    ],
)
def test_an_optimiser_holds_what_the_formula_says(small: Any, dtype: str, states: States, method: str) -> None:
    """Weights, copies, gradients and moments just before a step, in bytes: what is on the device and on the host."""
    model = small(dtype)
    with opened(model, method) as parameters:
        stepper = optimizer.stepper(parameters, train.Recipe(1e-3, 3, BATCH), 0, states)
        for _ in range(2):  # moments exist after the first step
            stepper.forget()
            with torch.enable_grad():
                train.batch_loss(model, examples(), torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
            held = [*model.parameters(), *parameters.values(), *getattr(stepper, "held", {}).values()]
            gradients = [each.grad for each in held if each.grad is not None]
            moments = [each for pair in stepper.moments.values() for each in pair]
            found = {each.data_ptr(): each.numel() * each.element_size() for each in (*held, *gradients, *moments)}
            stepper.step(1.0)
    its = Training("full" if method == "full" else "lora", BATCH, LENGTH, rank=RANK)
    way, sizes = Way(states=states), shape(model)
    _, step = memory.training(sizes, dtype, its, way, memory.trained(sizes, its))
    wanted = sum(size for name, size in step.items() if name != "one matrix in float32")
    there = memory.on_host(dtype, way, memory.trained(sizes, its))
    assert (there > 0) == (states == "host")
    assert wanted + there == sum(found.values())


@pytest.mark.parametrize(("repair", "rates"), [("none", (1e-3,)), ("unrelated", (1e-4, 1e-3, 1e-2))])
@pytest.mark.usefixtures("_only_new")
def test_relearning_in_full_keeps_as_many_copies_of_the_weights_as_it_declares(
    small_suite_data: Any, rmu_model: Any, monkeypatch: pytest.MonkeyPatch, repair: str, rates: tuple[float, ...]
) -> None:
    """Copies of one weight that are alive at each look at dev and while the attacked model is examined: one of the
    start, one of the best run, and one of the delivered weights if they were repaired.
    """
    module, seen, alive = attacks.load("relearn"), list[int](), rmu_model.model.get_input_embeddings().weight

    def look(*_: Any) -> float:
        seen.append(copies_of(alive))
        return float(len(seen))

    monkeypatch.setattr(selection, "accuracy", look)
    config = module.Config(
        source="forget", method="full", budgets=(2, 4), learning_rates=rates, epochs=1, min_steps=1, batch=2,
        repair=repair, repair_on="questions", repair_steps=1, repair_rate=1e-3,
    )  # fmt: skip
    with contextlib.closing(module.attack(trial.target_of(small_suite_data, rmu_model, None), config, 1)) as attacked:
        for _ in attacked:
            seen.append(copies_of(alive))
    sizes = tokens.Planned(small_suite_data).sizes(small_suite_data.hazards, 4, original=False)
    assert max(seen) == module.work(config, sizes).copies == 1 + (repair != "none") + (len(rates) > 1)
    assert copies_of(alive) == 0


def test_the_lens_keeps_as_many_streams_as_it_declares(
    small_suite_data: Any, rmu_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, record, kept = attacks.load("logit_lens"), lens.Lens._record, list[int]()

    def recorded(*given: Any) -> Any:
        found = record(*given)
        kept.extend(each.numel() for each in found.values())
        return found

    monkeypatch.setattr(lens.Lens, "_record", recorded)
    data, config = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2]), module.Config(stages=("mlp",))
    for _ in module.attack(trial.target_of(data, rmu_model, None), config, 1):
        pass
    its = rmu_model.model.config
    sizes = tokens.Planned(data).sizes(data.hazards, its.num_hidden_layers, original=False)
    assert sum(kept) / its.hidden_size == module.work(config, sizes).vectors


def test_a_search_whose_blocks_are_not_computed_again_divides_its_step() -> None:
    its = Training("vectors", 8, 1000, every=True, again=False)
    tight = 1.01 * memory.MARGIN * memory.needed(LLAMA_7B, "bfloat16", its, Way(rows=2), 0)
    assert memory.fitting(LLAMA_7B, "bfloat16", its, 0, tight) == Way(rows=2)
    assert memory.fitting(LLAMA_7B, "bfloat16", dataclasses.replace(its, again=True), 0, tight).checkpointed


@pytest.fixture
def _only_new() -> Iterator[None]:
    """What exists already is not looked through: a session of tests has millions of objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def copies_of(weight: torch.Tensor) -> int:
    """How many new tensors of a weight's shape are in memory, the weight itself and its gradient not counted."""
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == weight.shape]
    own = {weight.data_ptr(), *([] if weight.grad is None else [weight.grad.data_ptr()])}
    return len({each.data_ptr() for each in alive} - own)


def test_the_constants_are_those_of_the_engine() -> None:
    assert memory.BATCH_TOKENS == score.TOKENS_PER_BATCH
    assert inspect.signature(train.fit).parameters["batch"].default == memory.FIT_ROWS


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_plan_and_the_engine_choose_the_same_way(dtype: str, method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    its = Training(method, 8, 1024, every=True, rank=16)
    count = memory.trained(LLAMA_7B, its)
    step = frugal.Step(LLAMA_7B, dtype, its, int(count), torch.device("cuda"))
    monkeypatch.setattr(frugal, "largest_step", lambda _: step)
    monkeypatch.setattr(frugal, "same_gradients", lambda _: True)
    monkeypatch.setattr(frugal.usage, "available", lambda: 1 << 50)
    seen = []
    for room in range(250_000_000_000, 0, -1_000_000_000):
        monkeypatch.setattr(frugal, "free", lambda _, room=room: room)
        by_plan = memory.fitting(LLAMA_7B, dtype, its, count, room)
        if step.needs(by_plan) <= room:
            assert frugal.chosen(None) == by_plan  # type: ignore[arg-type]  # which step it is, is patched
            seen.append(by_plan)
        else:
            with pytest.raises(BrokenTrial, match="GB are free on cuda"):
                frugal.chosen(None)  # type: ignore[arg-type]
    kinds = ["device", *(["in_place"] if dtype == "bfloat16" else []), "host"] if method == "full" else ["device"]
    assert list(dict.fromkeys(each.states for each in seen)) == kinds
    assert seen[0] == Way()
    assert any(each.checkpointed for each in seen)


def test_seven_billion_are_trained_on_one_device_and_seventy_on_none() -> None:
    """By arithmetic, nothing measured: 16 bytes a weight with copies, 8 in place, 4 with the host's memory."""
    its = Training("full", 8, 200)

    def way(shape: Shape, name: str) -> Way:
        room = (device(name).bytes or 0) - 2 * shape.parameters
        return memory.fitting(shape, "bfloat16", its, shape.parameters, room)

    def peak(shape: Shape, how: Way) -> float:
        return max(map(memory.total, memory.training(shape, "bfloat16", its, how, shape.parameters))) / 1e9

    assert way(LLAMA_7B, "h200") == Way()
    assert way(LLAMA_7B, "h100") == Way("in_place")
    its = Training("full", 8, 1024, every=True)
    assert way(LLAMA_7B, "h200") == Way(checkpointed=True)
    assert way(LLAMA_7B, "h100") == Way("in_place", checkpointed=True)
    its = Training("full", 8, 200)
    assert peak(LLAMA_7B, Way()) == pytest.approx(111, abs=1)
    assert peak(LLAMA_7B, Way("in_place")) == pytest.approx(57, abs=1)
    least = way(LLAMA_70B, "h200")
    assert least.states == "host"
    assert peak(LLAMA_70B, least) > 282, "the weights and their gradients alone"
    low = Training("lora", 1, 200, rank=16)
    numbers = memory.trained(LLAMA_70B, low)
    most = max(map(memory.total, memory.training(LLAMA_70B, "bfloat16", low, Way(checkpointed=True), numbers)))
    assert most / 1e9 > (device("h200").bytes or 0) / 1e9, "the weights alone take 141 GB"
    assert memory.host(LLAMA_7B, "bfloat16", 2 * 2 * LLAMA_7B.parameters, 0)["snapshots, or loading"] < 27e9


def test_the_sizes_of_a_checkpoint_are_read_from_its_files() -> None:
    place = organisms.checkpoint("base")
    found, model = shape_of(CheckpointRef(place)), load(place, dtype="float32", device="cpu").model
    assert found.parameters == usage.parameters(model)
    assert (found.layers, found.width, found.heads, found.kv_heads, found.head) == (4, 128, 4, 4, 32)
    assert (found.inner, found.vocabulary, found.largest) == (384, 1500, 1500 * 128)
    linear = [model.get_parameter(name) for name in scope.linear_names(model)]
    assert found.sides == sum(sum(each.shape) for each in linear)


@pytest.mark.parametrize(
    "change", [{"hidden_size": None}, {"intermediate_size": None}, {"quantization_config": {"a": 1}}]
)
def test_a_size_that_is_not_known_is_not_guessed(tmp_path: Path, change: dict[str, Any]) -> None:

    source = organisms.checkpoint("base")
    shutil.copy(source / "model.safetensors", tmp_path)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | change
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be predicted"):
        shape_of(CheckpointRef(tmp_path))
