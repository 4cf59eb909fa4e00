"""Models for pictures too: their text part is examined where transformers builds it, and the rest is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from robustness_gate import organisms
from robustness_gate.assurance import doctor
from robustness_gate.engine.account import left_aside
from robustness_gate.engine.load import load
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.inputs.filekinds import WRAPPERS

TEXT = {
    "vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 16, "intermediate_size": 48, "max_position_embeddings": 256,
}  # fmt: skip
PICTURES = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 28,
    "patch_size": 14, "depth": 1, "num_heads": 2, "out_hidden_size": 32,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Gemma3ForConditionalGeneration": ("gemma3", {}, {}, {"mm_tokens_per_image": 4}),
    "Gemma4ForConditionalGeneration": ("gemma4", {}, {}, {}),
    "Llama4ForConditionalGeneration": (
        "llama4", {"num_local_experts": 2, "intermediate_size_mlp": 48, "num_experts_per_tok": 1},
        {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}, {},
    ),
    "Qwen3_5ForConditionalGeneration": (
        "qwen3_5", {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
                    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}, {}, {},
    ),
}  # fmt: skip
ASIDE = {"Llama4ForConditionalGeneration", "Qwen3_5ForConditionalGeneration"}
"""Of these transformers builds the text part alone; of the others the whole, and no picture is ever shown to it."""


@pytest.fixture(scope="module", params=WRAPPERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A tiny random one, with the organism's tokenizer. To be read, not changed."""
    folder = tmp_path_factory.mktemp("made")
    kind, text, pictures, more = KINDS[request.param]
    config = transformers.CONFIG_MAPPING[kind](
        text_config={**TEXT, **text}, vision_config={**PICTURES, **pictures}, **more
    )
    torch.manual_seed(0)
    transformers.AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(organisms.checkpoint("base") / name, folder / name)
    return request.param, folder


@pytest.fixture
def wrapper(made: tuple[str, Path], tmp_path: Path) -> tuple[str, Path]:
    """A copy of it."""
    return made[0], Path(shutil.copytree(made[1], tmp_path / "model"))


def test_the_text_part_is_examined_and_the_rest_is_named(wrapper: tuple[str, Path]) -> None:
    name, directory = wrapper
    assert json.loads((directory / "config.json").read_text())["architectures"] == [name]
    inspect(directory)
    model = load(directory, dtype="float32", device="cpu").model
    assert type(model).__name__ == WRAPPERS[name]
    assert model(input_ids=torch.tensor([[1, 42, 16]]), use_cache=False).logits.isfinite().all()
    assert bool(left_aside(model, directory)) == (name in ASIDE)
    assert unread(CheckpointRef(directory)).wrapper == name
    told = doctor.examine(str(directory), weights=False)
    assert name in {check.args["architecture"] for check in told if check.code == doctor.Code.WRAPPER}


def test_a_text_tensor_without_a_place_is_refused_in_a_wrapper_too(wrapper: tuple[str, Path]) -> None:
    _, directory = wrapper
    tensors = load_file(directory / "model.safetensors")
    more = {"language_model.model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)}
    save_file(tensors | more, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 tensors of the files have no place in it, the first is '.*layers\.9"):
        load(directory, dtype="float32", device="cpu")
