"""Of a multimodal model an attack sees the part that computes text, also where its other parts have as many blocks."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.engine import matrices, scope, text
from robustness_gate.engine.anatomy import dissect, layers
from robustness_gate.engine.load import LoadedModel
from robustness_gate.running import trial

LAYERS = 2
PART = {
    "hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "intermediate_size": 24,
}  # fmt: skip
"""Of the text part and of the encoder of pictures: only their place tells them apart."""
PICTURES = {**PART, "image_size": 28, "patch_size": 14}
MORE = {"max_position_embeddings": 256, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 4}
TEXT = "model.language_model."


def build(kind: str, *, tied: bool = True, words: int = 64) -> Any:
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[kind](
        text_config={**PART, **MORE, "vocab_size": words, "tie_word_embeddings": tied},
        vision_config=PICTURES,
        tie_word_embeddings=tied,
        **({"mm_tokens_per_image": 4} if kind == "gemma3" else {}),
    )
    return transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_the_blocks_are_those_that_compute_text(kind: str) -> None:
    model = build(kind)
    names = {module: name for name, module in model.named_modules()}
    assert [names[layer] for layer in layers(model)] == [f"{TEXT}layers.{n}" for n in range(LAYERS)]


def test_they_are_dissected() -> None:
    assert len(dissect(build("gemma3")).blocks) == LAYERS


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_the_parameters_are_those_that_a_text_moves(kind: str, tied: bool) -> None:
    """Compared with what the pass itself used: a gradient reaches these and no others."""
    model = build(kind, tied=tied).requires_grad_(True)
    model(input_ids=torch.arange(3, 9).unsqueeze(0), use_cache=False).logits.square().sum().backward()
    moved = [name for name, each in model.named_parameters() if each.grad is not None]
    assert list(text.parameters(model)) == moved
    assert len(moved) < len(list(model.named_parameters()))
    found = list(matrices.of_blocks(model))
    assert set(found) <= set(moved)
    assert f"{TEXT}layers.0.mlp.up_proj.weight" in found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text"])
def test_of_a_model_of_text_alone_it_is_every_parameter(kind: str) -> None:
    config = transformers.CONFIG_MAPPING[kind](**{**PART, "vocab_size": 64})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    assert list(text.parameters(model).items()) == list(model.named_parameters())


SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("pruning", {"scores": ("snip",), "utility": ("retain",), "q": (50.0,), "p": (50.0,)}),
    ("quantize", {"budgets": (3,)}),
    ("noise", {"budgets": (100,), "draws": 1, "where": "all"}),
    ("interpolate", {"budgets": (50,)}),
    ("relearn", {"method": "lora", "layers": (0,)}),
    ("relearn", {"method": "full", "layers": ()}),
]


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=lambda each: each if isinstance(each, str) else "")
def test_an_attack_on_weights_reaches_all_that_it_asks_for_and_nothing_beside(
    name: str, settings: dict[str, Any], small_suite_data: Any
) -> None:
    """Pruning missed its floor for ever, because the encoder's matrices counted; LoRA in block 0 trained a block of it
    and failed, because no gradient came there.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    model, original = (build("gemma3", words=len(tokenizer)) for _ in range(2))
    with torch.no_grad():
        for each in original.parameters():
            each.mul_(1.1)
    before = scope.snapshot(scope.named(model))
    target = trial.target_of(
        small_suite_data,
        LoadedModel(model, tokenizer),
        lambda: contextlib.nullcontext(LoadedModel(original, tokenizer)),
    )
    module = attacks.load(name)
    for attacked in module.attack(target, module.Config(**{**module.CONTRACT.tiny, **settings}), 1):
        assert attacked.signals.get("share_of_asked", 1.0) == 1.0
        touched = [each for each in matrices.changed(scope.named(model), before) if not each.startswith(TEXT)]
        assert touched == []
        if settings.get("method") == "full":
            assert attacked.signals["parameters"] == sum(each.numel() for each in text.parameters(model).values())
    assert matrices.changed(scope.named(model), before) == []
