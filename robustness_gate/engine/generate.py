"""Greedy generation: the likeliest token, one after the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch

from robustness_gate.engine import ending, padding
from robustness_gate.engine.context import longest_prompt
from robustness_gate.engine.prompting import encode
from robustness_gate.engine.score import TOKENS_PER_BATCH, batches


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
    """Generate greedily after each prompt. No end token counts before a letter or digit was written.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer, with a padding token.
        prompts: too long ones lose their beginning, so that `tokens` more fit.
        special: whether the tokenizer adds its special tokens (BOS); a chat template writes its own.
        tokens: maximum number of new tokens.
        until: generation ends before this text; empty: at an end token alone.
        stops: the end tokens that count, by token id (`prompting.end_marks`); None: all that the checkpoint declares.
        tokens_per_batch: maximum number of tokens of prompts and new text in a batch.

    Returns:
        One decoded text for each prompt, without the end token.
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
    """Generate for one batch, padded on the left, with positions counted from each prompt's own first token, as in
    scoring.

    The cache is kept from one token to the next; a model without keys and values processes the whole prompt again.
    """
    shown = padding.padded(model, encoded, pad=padding.filler(model, tokenizer))
    keeps = not getattr(model, "_is_stateful", False)  # transformers' name for a recurrent state instead of a cache
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
    """Decode with special tokens, because `until` (the end of a thinking block) is one in some vocabularies."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
