"""Where an answer ends: which end marks count, and that an answer cannot end before it has begun.

End marks are the vendor's: `generation_config.json` and the tokenizer name them, and nobody has to read the same there.
One that is a word of the hazard would cut every right answer short; one that comes first leaves nothing to be read.
So an end mark counts only if no question and no accepted answer holds it and it is no plain word of the vocabulary, and
none is chosen before a letter or digit was written. Nothing else of a generation config is obeyed: writing is greedy.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch


class EndMarks(NamedTuple):
    """The end marks that a checkpoint names, by token id."""

    kept: frozenset[int]
    dropped: frozenset[int]
    """They are words: they end nothing."""


def ends(model: Any, tokenizer: Any) -> set[int]:
    """A model may have several end marks: the tokenizer's, and those of its chat turns. Ids of no token fall out."""
    known = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    named = [*(known if isinstance(known, (list, tuple)) else [known]), tokenizer.eos_token_id]
    rows = model.get_input_embeddings().weight.shape[0]
    return {each for each in named if isinstance(each, int) and not isinstance(each, bool) and 0 <= each < rows}


def end_marks(model: Any, tokenizer: Any, prompts: Iterable[str], answers: Iterable[str]) -> EndMarks:
    """The end marks that count where these prompts are answered.

    Args:
        model: a transformers causal language model.
        tokenizer: the one that belongs to it.
        prompts: as they are put, without a chat template: what that writes is not the question's.
        answers: every accepted one. It counts in any case of its letters, with or without a space before it, so all
            these are looked for.
    """
    named = ends(model, tokenizer)
    words = {each for each in named if _is_a_word(tokenizer, each)}
    if named - words:
        spelt = {way for each in answers for way in (each, each.lower(), each.upper(), each.title())}
        texts = {*prompts, *(before + way.strip() for way in spelt for before in ("", " "))}
        words |= named & _tokens_of(tokenizer, texts)
    return EndMarks(frozenset(named - words), frozenset(words))


def names_of(tokenizer: Any, budgets: Collection[int]) -> list[str]:
    """End marks as a person may read them: `'▁Paris' (4021)`."""
    return [f"{tokenizer.convert_ids_to_tokens(each)!r} ({each})" for each in sorted(budgets)]


def begun(text: str) -> bool:
    """Whether something was said: a letter, a digit, or a symbol that is not ASCII's. Before, no end mark is chosen.

    ASCII's symbols do not count: an answer is read without them, as without punctuation.
    """
    kinds = ((each, unicodedata.category(each)[0]) for each in text)
    return any(kind in "LN" or (kind == "S" and not each.isascii() and each != "\ufffd") for each, kind in kinds)


def likeliest(scores: torch.Tensor, begun: Sequence[bool], budgets: Collection[int]) -> list[int]:
    """The likeliest next token of each row, an end mark only where the row has begun.

    Args:
        scores: logits or log-probabilities, [row, vocabulary].
        begun: whether a row may end, one truth value a row.
        budgets: end marks by token id.
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

    Punctuation may honestly end a turn (`###`), and an answer is read without it.
    """
    if token in tokenizer.all_special_ids or token in tokenizer.get_added_vocab().values():
        return False
    text = str(tokenizer.decode([token], skip_special_tokens=False))
    return begun(text) or not text.strip()


def _tokens_of(tokenizer: Any, texts: Collection[str]) -> set[int]:
    encoded = tokenizer(sorted(texts), add_special_tokens=False)["input_ids"] if texts else []
    return {token for ids in encoded for token in ids}
