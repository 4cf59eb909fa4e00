"""The arithmetic of memory, beside what torch really keeps for a small shape; and what it says of large ones."""

from __future__ import annotations

import gc
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.engine import optimizer, scope, score, train, usage
from robustness_gate.engine.load import DTYPES, load
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs import memory
from robustness_gate.inputs.memory import Way
from robustness_gate.inputs.shape import Shape, shape_of
from robustness_gate.planning.devices import device
from robustness_gate.records.work import Sizes, Training

LAYERS, WIDTH, HEADS, KEYS, INNER, VOCABULARY, BATCH, LENGTH, RANK = 3, 64, 4, 2, 176, 97, 4, 24, 4
LLAMA_7B = Shape(6_738_415_616, 32, 4096, 32, 32, 128, 11008, 32000, 2_498_560, 32000 * 4096)
LLAMA_70B = Shape(70_553_706_496, 80, 8192, 64, 8, 128, 28672, 128256, 12_943_360, 128256 * 8192)


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
    return Shape(count, LAYERS, WIDTH, HEADS, KEYS, WIDTH // HEADS, INNER, VOCABULARY, sides, VOCABULARY * WIDTH)


def opened(model: Any, method: str) -> Any:
    if method == "full":
        return scope.trainable(model)
    return scope.adapter(model, rank=RANK, alpha=RANK, targets=scope.linear_names(model))


def examples() -> list[train.Example]:
    rows = torch.randint(3, VOCABULARY, (BATCH, LENGTH)).tolist()
    return [train.Example(row, [False] * (LENGTH - 1) + [True]) for row in rows]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_blocks_keep_for_the_backward_pass_what_the_formula_says(small: Any, dtype: str, method: str) -> None:
    """Bytes of every storage that autograd keeps, without the weights, to a twentieth."""
    model = small(dtype)
    with opened(model, method) as parameters:
        weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *parameters.values())}
        kept: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            train.batch_loss(model, examples(), torch.device("cpu"))
    found = sum(each.untyped_storage().nbytes() for place, each in kept.items() if place not in weights)
    its = Training("full" if method == "full" else "lora", BATCH, LENGTH, rank=RANK)
    assert memory.activations(shape(model), dtype, its) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(
    ("dtype", "copies", "method"),
    [
        ("float32", False, "full"),
        ("bfloat16", True, "full"),
        ("bfloat16", False, "full"),
        ("float16", False, "full"),
        ("bfloat16", True, "lora"),
    ],
)
def test_an_optimiser_holds_what_the_formula_says(
    small: Any, dtype: str, copies: bool, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, copies, gradients and moments just before a step, in bytes."""
    monkeypatch.setattr(optimizer, "_is_room", lambda *_: copies)
    model = small(dtype)
    with opened(model, method) as parameters:
        stepper = optimizer.stepper(parameters, train.Recipe(1e-3, 3, BATCH), 0)
        for _ in range(2):  # moments exist after the first step
            stepper.forget()
            with torch.enable_grad():
                train.batch_loss(model, examples(), torch.device("cpu")).backward()  # type: ignore[no-untyped-call]
            held = [*model.parameters(), *parameters.values(), *getattr(stepper, "held", {}).values()]
            gradients = [each.grad for each in held if each.grad is not None]
            moments = (
                [each for pair in stepper._moments.values() for each in pair]
                if isinstance(stepper, optimizer.InPlace)
                else [each for state in stepper._optimizer.state.values() for each in state.values() if each.ndim]
            )
            found = {each.data_ptr(): each.numel() * each.element_size() for each in (*held, *gradients, *moments)}
            stepper.step(1.0)
    its = Training("full" if method == "full" else "lora", BATCH, LENGTH, rank=RANK)
    forward, _ = memory.training(shape(model), dtype, its, copies=copies)
    wanted = sum(size for name, size in forward.items() if name not in ("activations", "logits"))
    assert wanted == sum(found.values())


def test_a_grid_keeps_as_many_copies_in_host_memory_as_relearn_declares(small: Any) -> None:
    """Copies of one weight at a look at dev, when one rate is kept already: one less than while a better takes over."""
    model, seen = small("float32"), list[int]()
    wanted = model.get_input_embeddings().weight.shape

    def look() -> float:
        gc.collect()
        alive = [each for each in gc.get_objects() if type(each) is torch.Tensor and each.shape == wanted]
        seen.append(len({each.data_ptr() for each in alive}))
        return 1.0

    with scope.trainable(model) as parameters:
        start = scope.snapshot(parameters)  # as repaired
        recipes = [train.Recipe(rate, 1, BATCH) for rate in (1e-4, 1e-3, 1e-2)]
        done = train.sweep(model, parameters, examples(), recipes, 0, look)
    assert start
    assert not any(run.values for run in (*done.runs, done.best))
    module = attacks.load("relearn")
    sizes = Sizes(0, 0, 1, 4, {"unrelated": 1}, {"unrelated": 1}, {}, {"unrelated.items": 5})
    declared = module.work(module.Config(learning_rates=(1e-4, 1e-3, 1e-2)), sizes).copies
    assert seen == [declared - 2, declared - 1, declared - 1]


def test_the_constants_are_those_of_the_engine() -> None:
    assert memory.BATCH_TOKENS == score.TOKENS_PER_BATCH
    assert inspect.signature(train.fit).parameters["batch"].default == memory.FIT_ROWS


def test_copies_have_room_where_the_optimiser_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    its = Training("full", 1, 100)
    for number in range(100, 200, 5):
        free = number * 1e9 - 2 * LLAMA_7B.parameters
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 0))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
        theirs = optimizer._is_room(torch.device("cuda"), optimizer.COPIES * LLAMA_7B.parameters)
        assert memory.has_room(LLAMA_7B, "bfloat16", its, int(number * 1e9), 0.0) == theirs


def test_seven_billion_are_trained_in_place_on_one_device_and_seventy_on_none() -> None:
    """By arithmetic, nothing measured: 22 bytes a weight with copies, 8 in place."""
    its = Training("full", 8, 200)
    peaks = {
        (name, copies): max(map(memory.total, memory.training(shape, "bfloat16", its, copies=copies))) / 1e9
        for name, shape in (("7B", LLAMA_7B), ("70B", LLAMA_70B))
        for copies in (True, False)
    }
    (h100, h200) = ((device(name).bytes or 0) / 1e9 for name in ("h100", "h200"))
    assert peaks["7B", True] == pytest.approx(148, abs=1)
    assert peaks["7B", True] > h200
    assert 54 < peaks["7B", False] < h100
    assert peaks["70B", False] > 564
    adapter = max(
        map(memory.total, memory.training(LLAMA_70B, "bfloat16", Training("lora", 1, 200, rank=16), copies=False))
    )
    assert adapter / 1e9 > h200, "the weights alone take 141 GB"
    assert memory.host(LLAMA_7B, "bfloat16", 5 * 2 * LLAMA_7B.parameters, 0)["snapshots, or loading"] > 67e9


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
