"""A config.json that says one thing twice, or under a name of transformers' own, is refused with the keys it names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from robustness_gate import organisms
from robustness_gate.engine import configs
from robustness_gate.engine.load import _refuse_chance, load, tokenizer_of
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.manifest import inspect

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SCALED = {"rope_type": "linear", "factor": 4.0}


def lay(folder: Path, text: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(text))
    return folder


def refused(folder: Path, **keys: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        configs.refuse_ambiguous(lay(folder, {"model_type": "llama", "rope_parameters": ROPE, **keys}))
    assert caught.value.remedy
    return caught.value.message


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rope_theta": 5.0}, "says rope_theta: 5.0 and rope_parameters.rope_theta: 10000.0"),
        ({"rope_scaling": SCALED}, "rope_parameters of the type 'default' and rope_scaling of the type 'linear'"),
        ({"rope_scaling": None, "rope_parameters": {**ROPE, **SCALED}}, "rope_scaling of the type 'default'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {**ROPE, **SCALED}}, "says 'factor'"),
        (
            {"rope_scaling": {**SCALED, "rope_theta": 3.0}, "rope_parameters": None, "rope_theta": 4.0},
            "rope_theta: 4.0",
        ),
        ({"partial_rotary_factor": 0.5, "rope_parameters": {**ROPE, "partial_rotary_factor": 1.0}}, "factor: 0.5"),
        ({"model_type": "gpt_neox", "rotary_emb_base": 7}, "rotary_emb_base: 7 and rope_parameters.rope_theta"),
        ({"rope_theta": 9.0, "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}}, "none of those"),
        ({"model_type": "gpt2", "n_embd": 8, "hidden_size": 16}, "says n_embd: 8 and hidden_size: 16"),
        ({"attribute_map": {"hidden_size": "num_hidden_layers"}}, "an 'attribute_map' of its own"),
        ({"get_text_config": {}}, "the key 'get_text_config', which is the name of a method of LlamaConfig"),
        ({"to_dict": 1}, "the key 'to_dict'"),
        ({"dtype": "float32", "torch_dtype": "bfloat16"}, "says dtype: float32 and torch_dtype: bfloat16"),
        ({"from_pretrained": "x"}, "the key 'from_pretrained'"),
        ({"text_config": {"vocab_size": 3}}, "has a 'text_config', and llama has none"),
        ({"text_config": "x"}, "has a 'text_config'"),
        ({"decoder": {}}, "has a 'decoder'"),
        ({"model_type": "gemma3", "text_config": {"get_text_config": 1}}, "config.json's text_config has the key"),
        (
            {"model_type": "gemma3", "text_config": {"rope_theta": 5.0, "rope_parameters": ROPE}},
            "text_config says rope",
        ),
    ],
)
def test_two_settings_for_one_thing_are_refused_with_both(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refused(tmp_path, **keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_theta": 10000.0},
        {"rope_theta": 10000, "rope_scaling": None},
        {"rope_theta": 5.0, "rope_parameters": None, "rope_scaling": SCALED},
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {**ROPE, **SCALED}},
        {
            "rope_theta": 1e6,
            "rope_parameters": {"full_attention": {**ROPE, "rope_theta": 1e6}, "sliding_attention": ROPE},
        },
        {"rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [1, 2]}, "rope_parameters": None},
        {"text_config": None},
        {"dtype": "bfloat16", "torch_dtype": "torch.bfloat16"},
        {"torch_dtype": "float32", "rope_parameters": None, "_name_or_path": "x", "num_labels": 2},
        {"model_type": "gpt2", "n_embd": 8, "hidden_size": 8},
        {"model_type": "unheard_of", "to_dict": 1},
    ],
)
def test_what_is_stated_once_or_twice_alike_is_let_in(keys: dict[str, Any], tmp_path: Path) -> None:
    configs.refuse_ambiguous(lay(tmp_path, {"model_type": "llama", "rope_parameters": ROPE, **keys}))


FAMILIES = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_5", "gemma2", "gemma3", "gemma4", "phi3", "gpt2", "gptj",
    "gpt_neox", "gpt_neo", "bloom", "falcon", "mpt", "opt", "olmo2", "cohere2", "llama4", "mamba", "rwkv", "jamba",
    "deepseek_v3", "gpt_oss", "granite", "stablelm", "starcoder2", "codegen", "xglm", "smollm3", "ministral3",
)  # fmt: skip


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_transformers_itself_writes_is_let_in(name: str, full: bool, tmp_path: Path) -> None:
    text = transformers.CONFIG_MAPPING[name]().to_json_string(use_diff=not full)
    configs.refuse_ambiguous(lay(tmp_path, json.loads(text)))


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(organisms.checkpoint("base"), tmp_path / "model"))


def changed(model: Path, name: str, /, **keys: Any) -> Path:
    path = model / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
    return model


def refusal(model: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load(model, dtype="float32", device="cpu")
    return caught.value


def test_a_model_whose_rope_is_given_twice_is_not_loaded(model: Path) -> None:
    assert "rope_theta: 5.0" in refusal(changed(model, "config.json", rope_theta=5.0)).message


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kernel", ["flash_attention_2", "nope"])
def test_attention_that_is_not_here_is_reported_with_its_key(model: Path, key: str, kernel: str) -> None:
    told = refusal(changed(model, "config.json", **{key: kernel}))
    assert (
        told.remedy
        == f"config.json asks for its own attention ({key}: {kernel}). Take that out: torch then computes it."
    )


@pytest.mark.parametrize("value", ["kernels-community/flash-attn", {"": "o/kernel"}, "paged|o/kernel@main"])
def test_kernels_of_a_repository_are_code_and_refused_without_loading(model: Path, value: Any) -> None:
    for name in ("config.json", "generation_config.json"):
        before = (model / name).read_text() if (model / name).exists() else "{}"
        (model / name).write_text(before)
        changed(model, name, attn_implementation=value)
        with pytest.raises(CheckpointError, match="asks for remote code") as caught:
            inspect(model)
        assert "attn_implementation" in caught.value.message
        (model / name).write_text(before)


def test_a_library_that_is_not_here_is_to_be_installed_or_done_without(model: Path) -> None:
    told = refusal(changed(model, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}))
    assert "Install what it names" in told.remedy


def test_a_tokenizer_that_leaves_out_merges_at_random_is_named_as_one(model: Path) -> None:
    whole = json.loads((model / "tokenizer.json").read_text())
    changed(model, "tokenizer.json", model={**whole["model"], "dropout": 0.1})
    told = refusal(model)
    assert "leaves out merges at random (dropout: 0.1)" in told.message
    assert "Set dropout to null" in told.remedy
    with pytest.raises(CheckpointError, match="dropout"):
        tokenizer_of(model)
    changed(model, "tokenizer.json", model={**whole["model"], "dropout": 0.0})
    assert tokenizer_of(model)("a lamp")["input_ids"]


def test_a_tokenizer_that_samples_in_another_way_is_found_by_what_it_does(model: Path) -> None:
    """One that is written in Python, over sentencepiece say: a fast one draws lots for merges alone."""

    class Sampling:
        calls = 0

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            self.calls += 1
            return {"input_ids": [len(text), self.calls % 2]}

    with pytest.raises(CheckpointError, match="other tokens of the same text each time"):
        _refuse_chance(Sampling(), model)
