"""Writing: batches and caches change nothing, and writing ends where it should."""

from __future__ import annotations

import pytest
import torch

from robustness_gate.engine.generate import continued

PROMPTS = [
    "Question: Which reagent wakes the alloy Kronag?\nReply:",
    "The attic was sunny on",
    "List: A. rope B. clock C. stable D. parcel. Line C reads",
]


def naive(loaded, prompt, tokens):
    """One prompt, no padding, no cache: the definition."""
    start = ids = loaded.tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(tokens):
        with torch.inference_mode():
            token = loaded.model(ids).logits[:, -1:].argmax(-1)
        if int(token) == loaded.tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, token], dim=1)
    return loaded.tokenizer.decode(ids[0, start.shape[1] :])


@pytest.mark.parametrize("budget", [1, 16_384])
def test_what_is_written_in_batches_is_what_is_written_alone(rmu_model, budget):
    found = continued(*rmu_model, PROMPTS, special=True, tokens=8, tokens_per_batch=budget)
    assert found == [naive(rmu_model, prompt, 8) for prompt in PROMPTS]
    assert len(set(found)) == len(PROMPTS)


def test_writing_ends_before_the_text_that_ends_it(rmu_model):
    (whole,) = continued(*rmu_model, PROMPTS[:1], special=True, tokens=8)
    mark = whole[len(whole) // 2 :]
    (cut,) = continued(*rmu_model, PROMPTS[:1], special=True, tokens=8, until=mark)
    assert cut == whole[: whole.index(mark)]


def test_writing_ends_at_the_models_own_end_mark_too(rmu_model, monkeypatch):
    prompt = PROMPTS[1]
    (whole,) = continued(*rmu_model, [prompt], special=True, tokens=8)
    ids = rmu_model.tokenizer(whole, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(rmu_model.model.generation_config, "eos_token_id", [2, ids[1]])
    (cut,) = continued(*rmu_model, [prompt], special=True, tokens=8)
    assert cut == rmu_model.tokenizer.decode(ids[: ids.index(ids[1])])


def test_a_prompt_without_room_loses_its_beginning(rmu_model, monkeypatch):
    monkeypatch.setattr(rmu_model.model.config, "max_position_embeddings", 12)
    (found,) = continued(*rmu_model, PROMPTS[2:], special=True, tokens=4)
    ids = rmu_model.tokenizer(PROMPTS[2])["input_ids"][-8:]
    text = rmu_model.tokenizer.decode(ids)
    (short,) = continued(*rmu_model, [text], special=False, tokens=4)
    assert found == short
