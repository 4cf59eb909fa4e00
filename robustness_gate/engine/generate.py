"""Letting a model write: the likeliest token, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from robustness_gate.engine.score import TOKENS_PER_BATCH, batches, encode, ends


@torch.inference_mode()
def continued(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    special: bool,
    tokens: int,
    until: str = "",
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[str]:
    """What the model writes after each prompt, greedily.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer, with a padding token.
        prompts: their beginnings are cut off where there is no room for `tokens` more.
        special: whether the tokenizer adds its special tokens (BOS); a chat template writes its own.
        tokens: at most so many.
        until: writing ends before this text, if it comes; empty: at the end mark alone.
        tokens_per_batch: prompts and what is written together hold at most so many.

    Returns:
        One text a prompt, as decoded, without the end mark.
    """
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1_000_000)
    encoded = [ids[-max(1, longest - tokens) :] for ids in encode(tokenizer, prompts, special=special)]
    found = [""] * len(prompts)
    for batch in batches([len(ids) + tokens for ids in encoded], tokens_per_batch):
        for at, text in zip(batch, _batch(model, tokenizer, [encoded[i] for i in batch], tokens, until), strict=True):
            found[at] = text
    return found


def _batch(model: Any, tokenizer: Any, encoded: Sequence[list[int]], tokens: int, until: str) -> list[str]:
    """Padded on the left, with positions counted from each prompt's own first token, as in scoring."""
    device = model.get_input_embeddings().weight.device
    width = max(len(ids) for ids in encoded)
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in encoded], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in encoded], device=device)
    stops = ends(model, tokenizer)
    written: list[list[int]] = [[] for _ in encoded]
    open_ = set(range(len(encoded)))
    positions, past = (mask.cumsum(dim=1) - 1).clamp(min=0), None
    for _ in range(tokens):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        past, ids = out.past_key_values, out.logits[:, -1:].argmax(dim=-1)
        for row in sorted(open_):
            token = int(ids[row, 0])
            if token not in stops:
                written[row].append(token)
            if token in stops or (until and until in _text(tokenizer, written[row])):
                open_.remove(row)
        if not open_:
            break
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1
    texts = [_text(tokenizer, each) for each in written]
    return [text.partition(until)[0] if until else text for text in texts]


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Special tokens stay in for the search of `until`: the end of a thinking block is one in some vocabularies."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
