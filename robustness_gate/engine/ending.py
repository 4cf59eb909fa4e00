"""Where an answer ends: which end-of-sequence tokens count, and that an answer cannot end before it has begun.

The vendor declares end tokens in `generation_config.json` and in the tokenizer. One that is a word of the hazard would
cut every right answer short; one at the beginning would leave an empty answer. So an end token counts only if no
question and no accepted answer contains it and it is not an ordinary word of the vocabulary, and none is selected
before a letter or digit was written. The rest of a generation config is ignored: generation is greedy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch


class EndMarks(NamedTuple):
    """The end tokens that a checkpoint declares, by token id."""

    kept: frozenset[int]
    dropped: frozenset[int]
    """Declared end tokens that are words: they do not end an answer."""


def ends(model: Any, tokenizer: Any) -> set[int]:
    """A model may have several end tokens: the tokenizer's, and those of its chat turns. Ids without a token are
    dropped.
    """
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    named = [*(known if isinstance(known, (list, tuple)) else [known]), tokenizer.eos_token_id]
    rows = model.get_input_embeddings().weight.shape[0]
    return {each for each in named if isinstance(each, int) and not isinstance(each, bool) and 0 <= each < rows}


def end_marks(model: Any, tokenizer: Any, prompts: Iterable[str], answers: Iterable[str]) -> EndMarks:
    """The end tokens that count for answers to these prompts.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        prompts: without a chat template, whose text is not part of the question.
        answers: every accepted one. It counts in upper or lower case, with or without a space before it, so all these
            are tested.
    """
    named = ends(model, tokenizer)
    words = {each for each in named if _is_a_word(tokenizer, each)}
    if named - words:
        spelt = {way for each in answers for way in (each, each.lower(), each.upper(), each.title())}
        texts = {*prompts, *(before + way.strip() for way in spelt for before in ("", " "))}
        words |= named & _tokens_of(tokenizer, texts)
    return EndMarks(frozenset(named - words), frozenset(words))


def names_of(tokenizer: Any, budgets: Collection[int]) -> list[str]:
    """End tokens for a message: `'▁Paris' (4021)`."""
    return [f"{tokenizer.convert_ids_to_tokens(each)!r} ({each})" for each in sorted(budgets)]


def begun(text: str) -> bool:
    """Whether an answer has begun: a letter, a digit, or a symbol outside ASCII. Before that no end token is selected.

    ASCII's symbols do not count: scoring ignores them, like punctuation.
    """
    kinds = ((each, unicodedata.category(each)[0]) for each in text)
    return any(kind in "LN" or (kind == "S" and not each.isascii() and each != "\ufffd") for each, kind in kinds)


def likeliest(scores: torch.Tensor, begun: Sequence[bool], budgets: Collection[int]) -> list[int]:
    """The likeliest next token of each row, an end token only where the row has begun.

    Args:
        scores: logits or log-probabilities, [row, vocabulary].
        begun: whether a row may end, one truth value a row.
        budgets: end tokens by token id.
    """
    closed = [row for row, each in enumerate(begun) if not each]
    within = [each for each in budgets if each < scores.shape[-1]]
    if closed and within:
        rows = torch.tensor(closed, device=scores.device).unsqueeze(1)
        scores = scores.clone()
        scores[rows, torch.tensor(within, device=scores.device)] = -torch.inf
    found: list[int] = scores.argmax(dim=-1).tolist()
    return found


def _is_a_word(tokenizer: Any, token: int) -> bool:
    """Whether it is an ordinary piece of text: letters or digits, or nothing but white space.

    Punctuation may be a legitimate end of a turn (`###`), and scoring ignores it.
    """
    if token in tokenizer.all_special_ids or token in tokenizer.get_added_vocab().values():
        return False
    text = str(tokenizer.decode([token], skip_special_tokens=False))
    return begun(text) or not text.strip()


def _tokens_of(tokenizer: Any, texts: Collection[str]) -> set[int]:
    encoded = tokenizer(sorted(texts), add_special_tokens=False)["input_ids"] if texts else []
    return {token for ids in encoded for token in ids}
