"""What is loaded is what the files hold, to the value: nothing made up, nothing left out, one head."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from robustness_gate import organisms
from robustness_gate.engine.account import left_aside, refuse_other_weights, refuse_two_heads
from robustness_gate.engine.load import load
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.manifest import inspect

BASE = organisms.checkpoint("base")
NOTHING_SAID: dict[str, Any] = {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}
"""What transformers would say of its loading, were its books wrong."""
HEAD, EMBEDDING, LAYER = "lm_head.weight", "model.embed_tokens.weight", "model.layers.1."
Tensors = dict[str, torch.Tensor]
SIZES = {"vocab_size": 600, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 8}

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BASE, tmp_path / "model"))


def change(directory: Path, made: Callable[[Tensors], Tensors]) -> None:
    tensors = made(load_file(directory / "model.safetensors"))
    save_file(
        {k: v.clone().contiguous() for k, v in tensors.items()}, directory / "model.safetensors", {"format": "pt"}
    )


def edit(directory: Path, **keys: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, **keys}))


def opened(directory: Path, **more: Any) -> Any:
    if "base" not in more:
        inspect(directory)  # the directory itself is in order: only loading can tell
    return load(directory, dtype="float32", device="cpu", **more).model


def refusal(directory: Path, **more: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(directory, **more)
    assert str(directory) not in caught.value.message, "it ends up in a report"
    assert caught.value.remedy or "--base" in caught.value.message
    return caught.value.message


def tiny(folder: Path, config: Any, rename: Callable[[Tensors], Tensors] = lambda tensors: tensors) -> Path:
    """A random model of a family, with the organism's tokenizer."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, folder / name)
    change(folder, rename)
    return folder


# --- 1. what transformers tells ---------------------------------------------------------------------------------------

SPOILT: dict[str, tuple[Callable[[Tensors], Tensors], dict[str, Any], str]] = {
    "every name begins with a wrapper's": (
        lambda t: {f"_orig_mod.{k}": v for k, v in t.items()}, {},
        "39 of its weights are not in the files, the first is 'lm_head.weight'; 38 tensors of the files have no place",
    ),
    "a layer is missing": (
        lambda t: {k: v for k, v in t.items() if LAYER not in k}, {},
        f"9 of its weights are not in the files, the first is '{LAYER}",
    ),
    "a norm is missing": (
        lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"}, {}, "the first is 'model.norm.weight'",
    ),
    "the config has a layer more": (lambda t: t, {"num_hidden_layers": 5}, "the first is 'model.layers.4."),
    "the config has a layer less": (
        lambda t: t, {"num_hidden_layers": 3},
        "9 tensors of the files have no place in it, the first is 'model.layers.3.",
    ),
    "the config has other shapes": (lambda t: t, {"intermediate_size": 7}, "have another shape, the first is"),
    "the embedding has a row less": (
        lambda t: {k: v[:-1] if k == EMBEDDING else v for k, v in t.items()}, {},
        "1 have another shape, the first is 'model.embed",
    ),
    "the head stands under another name": (
        lambda t: t | {"output.weight": t[EMBEDDING] + 1}, {}, "no place in it, the first is 'output.weight'",
    ),
    "untied, and no head": (lambda t: t, {"tie_word_embeddings": False}, "the first is 'lm_head.weight'"),
    "a bias that the family does not have": (
        lambda t: t | {"model.layers.0.mlp.up_proj.bias": torch.zeros(4)}, {},
        "the first is 'model.layers.0.mlp.up_proj.bias'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_missing_mismatched_and_unexpected_tensors_are_refused_by_name_and_number(name: str, model: Path) -> None:
    made, keys, says = SPOILT[name]
    change(model, made)
    edit(model, **keys)
    told = refusal(model)
    assert says in told
    assert told.startswith("the files do not hold the model that config.json describes")


def test_the_base_of_an_adapter_is_looked_at_like_any_other_model(model: Path, tmp_path: Path) -> None:
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], init_lora_weights=False)
    attached = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    peft.get_peft_model(attached, lora).save_pretrained(tmp_path / "adapter")
    opened(tmp_path / "adapter", base=model)
    change(model, lambda t: {k: v for k, v in t.items() if LAYER not in k})
    assert "9 of its weights are not in the files" in refusal(tmp_path / "adapter", base=model)


@pytest.mark.parametrize("name", ["MistralForCausalLM", "Gemma3ForConditionalGeneration"])
def test_an_architecture_that_is_not_the_model_types_is_another_model_to_other_servers(name: str, model: Path) -> None:
    edit(model, architectures=[name])
    assert f"config.json names the architecture {name}, and its model_type makes it a LlamaForCausalLM" in refusal(
        model
    )
    edit(model, architectures=[])
    opened(model)


# --- 2. what the values tell ------------------------------------------------------------------------------------------


def believed(directory: Path) -> Any:
    """As transformers loads it, without a word about what it made up."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def unlike(directory: Path, loaded: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        refuse_other_weights(loaded, NOTHING_SAID, directory)
    return caught.value.message


def test_values_that_come_from_no_file_are_seen_without_being_named(model: Path) -> None:
    change(model, lambda t: {k: v for k, v in t.items() if LAYER not in k})
    assert "values that come from no file: they were made up" in unlike(model, believed(model))


def test_values_that_were_made_up_in_place_of_others_are_seen_without_being_named(model: Path) -> None:
    change(model, lambda t: {k.replace(LAYER, "model.layers.9."): v for k, v in t.items()})
    assert "are not those of the files: they were made up" in unlike(model, believed(model))


@pytest.mark.parametrize("name", ["model.norm.weight", EMBEDDING, f"{LAYER}mlp.up_proj.weight"])
def test_one_value_that_is_not_the_files_is_seen(name: str, model: Path) -> None:
    loaded = believed(model)
    refuse_other_weights(loaded, NOTHING_SAID, model)
    with torch.no_grad():
        loaded.state_dict()[name].view(-1)[-1] += 1e-3
    assert f"'{name}' in the files is not what the loaded model computes with" in unlike(model, loaded)


def test_a_precision_of_the_gates_own_is_no_difference(model: Path) -> None:
    for dtype in ("bfloat16", "float16", "float32"):
        load(model, dtype=dtype, device="cpu")


def test_a_model_that_is_stored_quantised_is_not_compared_by_value(model: Path) -> None:
    loaded = believed(model)
    with torch.no_grad():
        loaded.model.norm.weight += 1
    loaded.hf_quantizer = object()
    refuse_other_weights(loaded, NOTHING_SAID, model)


EXPERTS: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 600, "num_local_experts": 4, "num_experts_per_tok": 2,
}  # fmt: skip


def test_experts_that_are_fused_on_the_way_are_the_files(tmp_path: Path) -> None:
    """Each expert is a tensor of its own in the files, and all of a layer are one in the model."""
    directory = tiny(tmp_path, transformers.MixtralConfig(**EXPERTS))
    loaded = opened(directory)
    names = {name for name in loaded.state_dict() if "experts" in name}
    assert names.isdisjoint(load_file(directory / "model.safetensors")), "nothing is fused, and this test tests nothing"
    with torch.no_grad():
        loaded.state_dict()[min(names)].normal_()
    assert "are not those of the files" in unlike(directory, loaded)


# --- what a family leaves aside ---------------------------------------------------------------------------------------


def test_a_gpt2_as_it_lies_on_the_hub_is_let_in_and_its_masks_are_named(tmp_path: Path) -> None:
    """Names without the part before the first dot, and which tokens are seen kept as a tensor."""

    def as_of_old(tensors: Tensors) -> Tensors:
        masks = {f"h.{i}.attn.bias": torch.ones(64, 64).tril().view(1, 1, 64, 64) for i in range(2)}
        return {k.removeprefix("transformer."): v for k, v in tensors.items()} | masks

    directory = tiny(tmp_path, transformers.GPT2Config(**SIZES), as_of_old)
    assert left_aside(opened(directory), directory) == ("h.0.attn.bias", "h.1.attn.bias")


@pytest.mark.parametrize("window", [0, 16])
def test_a_mask_that_its_family_does_not_declare_is_left_aside_if_it_is_one(window: int, tmp_path: Path) -> None:
    every = torch.ones(64, 64, dtype=torch.bool).tril()
    mask = (every & ~every.tril(-window) if window else every).view(1, 1, 64, 64)
    name = "transformer.h.0.attn.bias"
    more = {name: mask, "transformer.h.0.attn.masked_bias": torch.tensor(-1e9)}
    directory = tiny(tmp_path, transformers.GPTJConfig(**SIZES), lambda t: t | more)
    assert left_aside(opened(directory), directory) == (name, "transformer.h.0.attn.masked_bias")
    change(directory, lambda t: t | {name: mask.float().clone().index_fill_(2, torch.tensor([40]), 0.5)})
    assert f"no place in it, the first is '{name}'" in refusal(directory)


# --- 3. one head ------------------------------------------------------------------------------------------------------


def head(tensors: Tensors, *, more: float) -> Tensors:
    return tensors | {HEAD: tensors[EMBEDDING] + more}


def test_a_head_beside_a_flag_that_ties_it_is_refused_unless_it_is_the_embedding(model: Path) -> None:
    """transformers 5 computes with it, transformers 4 and others overwrite it with the embedding."""
    change(model, lambda t: head(t, more=0.0))
    opened(model)
    change(model, lambda t: head(t, more=0.5))
    assert "config.json ties the head to the embedding" in refusal(model)
    edit(model, tie_word_embeddings=False)
    opened(model)


def test_the_nested_flag_counts_as_the_outer_one_does(model: Path) -> None:
    """As wrappers have it; which of two flags a loader believes differs."""
    change(model, lambda t: head(t, more=0.5))
    edit(model, tie_word_embeddings=False)
    loaded = opened(model)
    edit(model, text_config={"tie_word_embeddings": False})
    refuse_two_heads(loaded, model)
    edit(model, text_config={"tie_word_embeddings": True})
    with pytest.raises(CheckpointError, match="ties the head to the embedding") as caught:
        refuse_two_heads(loaded, model)
    assert "text_config" in caught.value.remedy


def test_a_config_that_says_nothing_ties_where_its_family_does(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
    }
    config = transformers.GemmaConfig(vocab_size=600, num_key_value_heads=1, **sizes)
    directory = tiny(tmp_path, config, lambda t: head(t, more=0.5))
    said = json.loads((directory / "config.json").read_text())
    said.pop("tie_word_embeddings", None)
    (directory / "config.json").write_text(json.dumps(said))
    assert "ties the head to the embedding" in refusal(directory)


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_an_adapter_that_brings_its_own_end_does_not_go_on_a_base_that_ties_them(end: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], modules_to_save=[end])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attached = peft.get_peft_model(base, lora)
        with torch.no_grad():
            for name, weight in attached.named_parameters():
                if "modules_to_save" in name:
                    weight.add_(0.5)
        attached.save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="ties together"):
        load(tmp_path / "adapter", dtype="float32", device="cpu", base=BASE)
