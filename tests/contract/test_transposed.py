"""What an attack does to weights is the same whether a matrix is stored as [out, in] or, like GPT-2's, as [in, out].

GPTBigCode computes what GPT-2 computes, with ordinary linear modules. So an attack that takes rows for columns, on
either, gives other answers on one of the two.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.engine import matrices
from robustness_gate.engine.load import LoadedModel
from robustness_gate.organisms import rewrite
from robustness_gate.running import trial

SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256, "pad_token_id": 0, "bos_token_id": 1}
STILL = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
RELEARN = {"learning_rates": [1e-2], "budgets": [2], "batch": 2, "min_steps": 2, "rotations": 1, "source": "forget"}
ON_WEIGHTS: dict[str, tuple[str, dict[str, Any]]] = {
    "one scale a channel": ("quantize", {"budgets": [3], "scheme": "channel"}),
    "one scale a group": ("quantize", {"budgets": [3], "scheme": "group", "group": 48}),
    "nf4": ("quantize", {"budgets": [4], "scheme": "nf4", "group": 48}),
    "pruned by wanda": ("pruning", {"samples": 4, "q": [50.0], "p": [5.0], "scores": ["wanda"], "q_over_p": True}),
    "pruned by snip": ("pruning", {"samples": 4, "q": [50.0], "p": [5.0], "scores": ["snip"], "q_over_p": True}),
    "mixed with the original": ("interpolate", {"budgets": [50]}),
    "all weights trained": ("relearn", {**RELEARN, "method": "full"}),
    "an adapter trained": ("relearn", {**RELEARN, "method": "lora"}),
    "an adapter in one block": ("relearn", {**RELEARN, "method": "lora", "layers": [1]}),
}


def pair(seed: int) -> tuple[LoadedModel, LoadedModel]:
    """The same function twice: as a GPT-2 and as a GPTBigCode."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    torch.manual_seed(seed)
    config = transformers.GPT2Config(**SIZES, **STILL, eos_token_id=2, vocab_size=len(tokenizer))
    gpt2 = transformers.AutoModelForCausalLM.from_config(config).eval()
    for each in gpt2.parameters():
        torch.nn.init.normal_(each, std=0.2)
    models = gpt2, rewrite.REWRITINGS["gpt_bigcode"](gpt2)
    return tuple(LoadedModel(each.requires_grad_(False), tokenizer) for each in models)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def pairs() -> tuple[tuple[LoadedModel, LoadedModel], tuple[LoadedModel, LoadedModel]]:
    """Candidate and original, in both classes."""
    return pair(0), pair(1)


def test_each_matrix_is_known_for_how_it_is_stored(pairs: Any) -> None:
    (gpt2, bigcode), _ = pairs
    here, there = matrices.plain(gpt2.model), matrices.plain(bigcode.model)
    assert [each.transposed for each in here.values()] == [True] * 8
    assert [each.transposed for each in there.values()] == [False] * 8
    assert [each.weight.shape for each in here.values()] == [each.weight.T.shape for each in there.values()]


@pytest.mark.parametrize("what", ON_WEIGHTS)
def test_an_attack_on_weights_gives_the_same_answers_however_they_are_stored(
    pairs: Any, small_suite_data: Any, what: str
) -> None:
    name, settings = ON_WEIGHTS[what]
    module, task = attacks.load(name), small_suite_data.tasks["forget"]
    config = attacks.configure(module, settings)
    questions = [item.question for item in task.items]
    answers = []
    for candidate, original in zip(*pairs, strict=True):
        target = trial.target_of(small_suite_data, candidate, lambda it=original: contextlib.nullcontext(it))
        plain = target.lm.loglikelihoods(questions, task.form)
        for attacked in module.attack(target, config, 1):
            answers.append(attacked.model.loglikelihoods(questions, task.form))
            assert (answers[-1] - plain).abs().max() > 1e-2, "the attack does something"
    assert torch.allclose(*answers, atol=1e-3)
