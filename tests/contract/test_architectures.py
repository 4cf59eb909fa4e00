"""Every attack on tiny random models of many families: marks as planned, finite answers, the model restored exactly."""

from __future__ import annotations

import contextlib

import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.assurance import attack_contract
from robustness_gate.engine.load import LoadedModel
from robustness_gate.engine.state import changes, state_of
from robustness_gate.errors import NotApplicable
from robustness_gate.running import trial

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
GROUPED = {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 256}
FAMILIES = {
    "llama": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 16}),
    "gemma3_text": ("Gemma3TextConfig", {**GROUPED, "head_dim": 16}),
    "gpt_neox": ("GPTNeoXConfig", {**SMALL, "max_position_embeddings": 256}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 256}),
    "starcoder2": ("Starcoder2Config", {**GROUPED, "use_bias": True}),
    "cohere": ("CohereConfig", GROUPED),
    "phi": ("PhiConfig", {**SMALL, "max_position_embeddings": 256}),
    "granite": ("GraniteConfig", {**GROUPED, "residual_multiplier": 0.3}),
    "granite-unnamed": ("GraniteConfig", {**GROUPED, "residual_multiplier": 0.3}),
}
UNKNOWN_BLOCKS = {"granite-unnamed"}
"""Its blocks scale what they add by a number that its config does not name, and the anatomy says that it cannot know
them."""


ALIKE = {"mistral", "qwen2", "granite"}
"""Blocks as those of llama, qwen3 and granite-unnamed: by `./run test-slow`."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in FAMILIES],
)
def family(request):
    name, keywords = FAMILIES[request.param]
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    config = getattr(transformers, name)(**keywords, vocab_size=len(tokenizer))
    loaded_models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        if request.param in UNKNOWN_BLOCKS:
            model.config.residual_multiplier = 1.0
        loaded_models.append(LoadedModel(model.requires_grad_(False), tokenizer))
    return request.param, *loaded_models


@pytest.mark.parametrize("name", attacks.names())
def test_an_attack_works_on_this_family_or_says_that_it_does_not_apply(family, name, small_suite_data):
    kind, loaded, original = family
    module, task_data = attacks.load(name), small_suite_data.tasks["forget"]
    config = module.Config(**module.CONTRACT.tiny)
    target = trial.target_of(small_suite_data, loaded, lambda: contextlib.nullcontext(original))
    questions, before = [item.question for item in task_data.items], state_of(loaded.model, loaded.tokenizer)
    plain, marks = target.lm.loglikelihoods(questions, task_data.form), []
    applies = kind not in UNKNOWN_BLOCKS or "blocks" not in getattr(module, "NEEDS", ())
    with contextlib.nullcontext() if applies else pytest.raises(NotApplicable):
        for attacked in module.attack(target, config, 1):
            marks.append(attacked.budget)
            found = attacked.model.loglikelihoods(questions, task_data.form)
            assert found.isfinite().all()
            assert torch.equal(found, plain) == (module.FAMILY in attack_contract.ONLY_LOOKS)
    assert tuple(marks) == (attacks.budgets(config) if applies else ())
    assert list(changes(before, state_of(loaded.model, loaded.tokenizer))) == []
