"""Letting a model write: the likeliest token, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from robustness_gate.engine import ending, padding
from robustness_gate.engine.context import longest_prompt
from robustness_gate.engine.score import TOKENS_PER_BATCH, batches, encode


@torch.inference_mode()
def continued(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    special: bool,
    tokens: int,
    until: str = "",
    stops: Collection[int] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[str]:
    """What the model writes after each prompt, greedily. It ends at no end mark before a letter or digit was written.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer, with a padding token.
        prompts: their beginnings are cut off where there is no room for `tokens` more.
        special: whether the tokenizer adds its special tokens (BOS); a chat template writes its own.
        tokens: at most so many.
        until: writing ends before this text, if it comes; empty: at the end mark alone.
        stops: the end marks that count, by token id (`score.end_marks`); None: all that the checkpoint names.
        tokens_per_batch: prompts and what is written together hold at most so many.

    Returns:
        One text a prompt, as decoded, without the end mark.
    """
    longest, pad = longest_prompt(model), padding.filler(model, tokenizer)
    budgets = ending.ends(model, tokenizer) if stops is None else stops
    encoded = [ids[-max(1, longest - tokens) :] for ids in encode(tokenizer, prompts, special=special)]
    found = [""] * len(prompts)
    alike = padding.alike(model, encoded, pad=pad)
    for batch in batches([len(ids) + tokens for ids in encoded], tokens_per_batch, alike=alike):
        rows = [encoded[i] for i in batch]
        for at, text in zip(batch, _batch(model, tokenizer, rows, tokens, until, budgets), strict=True):
            found[at] = text
    return found


def _batch(
    model: Any, tokenizer: Any, encoded: Sequence[list[int]], tokens: int, until: str, stops: Collection[int]
) -> list[str]:
    """Padded on the left, with positions counted from each prompt's own first token, as in scoring.

    What was read is kept from one token to the next; a model that keeps no keys and values reads all of it again.
    """
    shown = padding.padded(model, encoded, pad=padding.filler(model, tokenizer))
    keeps = not getattr(model, "_is_stateful", False)  # transformers' word for a recurrent state in its place
    written: list[list[int]] = [[] for _ in encoded]
    open_ = set(range(len(encoded)))
    past = None
    for _ in range(tokens):
        read = {**shown, "past_key_values": past} if keeps else shown
        out = model(**read, use_cache=keeps, logits_to_keep=1)
        past = getattr(out, "past_key_values", None)
        begun = [ending.begun(_text(tokenizer, row)) for row in written]
        next_ = ending.likeliest(out.logits[:, -1], begun, stops)
        for row in sorted(open_):
            token = next_[row]
            if token not in stops:
                written[row].append(token)
            if token in stops or (until and until in _text(tokenizer, written[row])):
                open_.remove(row)
        if not open_:
            break
        ids, positions = torch.tensor(next_, device=shown["input_ids"].device).unsqueeze(1), shown["position_ids"]
        new = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "position_ids": positions[:, -1:] + 1,
        }
        only = ("attention_mask",) if past is not None else tuple(new)
        shown = {name: torch.cat([shown[name], each], dim=1) if name in only else each for name, each in new.items()}
    texts = [_text(tokenizer, each) for each in written]
    return [text.partition(until)[0] if until else text for text in texts]


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Special tokens stay in for the search of `until`: the end of a thinking block is one in some vocabularies."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
