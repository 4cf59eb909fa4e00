"""Vectors at the first positions: zeros are no change, padding moves nothing, and gradients reach the vectors alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from test_anatomy import FAMILIES

from robustness_gate import attacks
from robustness_gate.attacks import latent_prompt, soft_prompt
from robustness_gate.engine import anatomy, latent, train
from robustness_gate.running import trial

IDS = torch.tensor([[5, 9, 33, 2, 7], [1, 4, 4, 60, 21]])


@pytest.fixture(params=["llama", "gemma2", "gpt_neox", "gpt2", "phi"])
def model(request):
    name, keywords, _ = FAMILIES[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**keywords)
    return transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def places(model):
    """Each kind of place at which vectors are brought in."""
    parts = anatomy.dissect(model)
    return [parts.embedding, parts.blocks[1].mlp]


@torch.inference_mode()
def test_zero_vectors_change_no_bit_and_others_only_from_their_position_on(model):
    plain, generator = model(IDS).logits, torch.Generator().manual_seed(1)
    for module in places(model):
        with latent.at_first(model, {module: torch.zeros(3, 16)}):
            assert torch.equal(model(IDS).logits, plain)
        rows = torch.zeros(3, 16)
        rows[2] = torch.randn(16, generator=generator)
        with latent.at_first(model, {module: rows}):
            changed = model(IDS).logits
        assert torch.allclose(changed[:, :2], plain[:, :2], atol=1e-6), "nothing sees what comes after it"
        assert not torch.allclose(changed[:, 2:], plain[:, 2:], atol=1e-4)
    assert torch.equal(model(IDS).logits, plain), "the hooks are gone"


@torch.inference_mode()
@pytest.mark.parametrize("instead", [False, True])
def test_padding_on_either_side_moves_nothing(model, instead):
    rows = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    row, other = [5, 9, 33], [4, 4, 60, 21, 8]
    left = torch.tensor([[0, 0, *row], other])
    right = torch.tensor([[*row, 0, 0], other])
    mask_left, mask_right = torch.tensor([[0, 0, 1, 1, 1], [1] * 5]), torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    positions = (mask_left.cumsum(1) - 1).clamp(min=0)
    with latent.at_first(model, {module: rows for module in places(model)}, instead=instead):
        alone = model(input_ids=torch.tensor([row])).logits[0, -1]
        padded = model(input_ids=left, attention_mask=mask_left, position_ids=positions).logits[0, -1]
        assert torch.allclose(alone, padded, atol=1e-5)
        assert torch.allclose(alone, model(input_ids=right, attention_mask=mask_right).logits[0, 2], atol=1e-5)


def test_gradients_reach_the_vectors_alone(model):
    vectors = {module: torch.nn.Parameter(torch.zeros(2, 16)) for module in places(model)}
    with latent.at_first(model, vectors):
        model(IDS).logits[:, -1].logsumexp(-1).sum().backward()
    assert all(float(each.grad.norm()) > 0 for each in vectors.values())
    assert all(each.grad is None for each in model.parameters())


@torch.inference_mode()
def test_a_prompt_with_vectors_before_it_is_the_model_on_their_embeddings(byte_level):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**FAMILIES["llama"][1], "vocab_size": len(byte_level)})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    rows = torch.randn(3, 16)
    prompts = [[1, 7, 30, 44], [1, 9]]
    lm = latent.Prepended(model, byte_level, places=3)
    assert lm._longest == 64 - 3
    with latent.at_first(model, {model.get_input_embeddings(): rows}, instead=True):
        found = lm._logprobs(prompts, 1)[:, -1]
    for ids, got in zip(prompts, found, strict=True):
        embedded = torch.cat([rows, model.get_input_embeddings()(torch.tensor(ids))]).unsqueeze(0)
        assert torch.allclose(model(inputs_embeds=embedded).logits[0, -1].log_softmax(-1), got, atol=1e-5)
    example = latent.prepended(train.Example([1, 7], [False, True]), 3)
    assert (len(example.ids), example.counts) == (5, [False] * 4 + [True])


def test_what_prompts_share_is_their_beginning():
    rows = [[1, 5, 6, 9], [1, 5, 7, 9], [1, 5]]
    assert latent.shared_beginning([train.Example(row, [True] * len(row)) for row in rows]) == 2


def test_a_latent_prompt_stands_on_the_header_of_the_questions(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    config = latent_prompt.Config(budgets=(1,), learning_rates=(0.1,), questions=6, batch=2)
    (attacked,) = list(latent_prompt.attack(target, config, 1))
    header = rmu_model.tokenizer(small_suite_data.corpora["forget"].header)["input_ids"]
    assert attacked.signals["positions"] == len(header)
    assert attacked.signals["places"] == 4, "the embedding and the MLPs of layers 1, 2 and 3 of 4"


def test_a_soft_prompt_is_judged_with_its_vectors_before_the_question_and_none_is_no_change(
    small_suite_data, rmu_model
):
    target = trial.target_of(small_suite_data, rmu_model, None)
    config = soft_prompt.Config(vectors=3, budgets=(1,), learning_rates=(0.1,), questions=4, batch=2)
    questions = [item.question for item in target.dev]
    for attacked in soft_prompt.attack(target, config, 1):
        assert attacked.model.places == 3
        assert not torch.equal(
            attacked.model.loglikelihoods(questions, target.forms[0]),
            target.lm.loglikelihoods(questions, target.forms[0]),
        )
    (sham,) = list(soft_prompt.attack(target, soft_prompt.SHAM, 1))
    assert sham.model is target.lm


@pytest.mark.parametrize(
    "wrong",
    [
        {"budgets": (0,)},
        {"learning_rates": ()},
        {"depths": (), "embedding": False},
        {"depths": (1.0,)},
        {"questions": 1},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        latent_prompt.Config(**wrong)


def test_it_is_refused_without_questions_to_train_on_or_to_choose_on():
    config = latent_prompt.Config()
    assert "has 1" in attacks.refusal(latent_prompt, config, {"forget.items": 1, "dev": 4})
    assert "dev" in attacks.refusal(latent_prompt, config, {"forget.items": 9})
    assert (
        attacks.refusal(latent_prompt, dataclasses.replace(config, source="retain"), {"retain.items": 9, "dev": 4})
        is None
    )
