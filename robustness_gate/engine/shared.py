"""What prompts have in common is read once: keys and values of the common beginning are kept, the rest is read behind.

The letter orders of a question have header, examples and stem in common, all questions the header and the examples,
and the choices of a cloze question its prompt. A tree of two levels is made over the encoded prompts, by token ids:
the trunk, with which all of them begin, and branches, whose prompts have a longer beginning in common. Trunk, branches
and the rest of each prompt are read in that order. Nothing is kept from one call to the next.

It is only done where it is exact. There is no list of families; each model is measured, like its padding: a few of its
own prompts, read in this way and alone, must agree as `padding.Drift` demands. A model without such a cache, with a
recurrent state, or whose cached pass fails is asked by plain passes. So is one with a hook that was not declared as
`hooks.tokenwise`, and so are prompts longer than a sliding window or than the context in
which a rotary embedding keeps its frequencies. The kind of pass follows from the untouched model and the prompts alone:
an attack at strength zero is asked in the same passes as no attack.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from robustness_gate.engine import hooks, padding
from robustness_gate.engine.batching import batches, halved
from robustness_gate.engine.context import attention_limit, longest_prompt

LEAST = 8
"""In tokens: a shorter common beginning is read with each prompt."""
WORTH = 0.1
"""Share of all tokens that must be saved."""
MOST_ROWS = 16
"""Maximum number of prompts in a branch: letter orders or choices of one question."""
CACHE_BYTES = 4 << 30
"""Maximum size of the keys and values of a batch."""
LOGIT_BYTES = 1 << 30
"""Maximum size of a batch's log-probabilities."""
FLAT = 1e-3
"""In nats. Where the likeliest and the least likely token are nearer than this, float32 keeps no order among
log-probabilities of about -10: a vendor who scales the logits of some prompts down so far would hide what greedy
decoding still says. Such an answer is missing, and a missing answer never supports compliance."""
# wide on purpose: any of them leaves this model with whole passes, which need no cache; lack of memory is raised
FAILURES = (TypeError, ValueError, AttributeError, LookupError, NotImplementedError, RuntimeError)
"""Errors of a family that cannot read behind a cache in our way."""


# --- which beginnings are common --------------------------------------------------------------------------------------


class Branch(NamedTuple):
    """Prompts with a common beginning."""

    length: int
    """Of the beginning in tokens, the trunk included."""
    rows: list[int]


class Tree(NamedTuple):
    """Common beginnings of prompts."""

    trunk: int
    """Number of tokens with which all prompts begin; 0 where they are few."""
    branches: list[Branch]
    """A prompt with nothing in common with another beside the trunk is a branch of its own, as long as the trunk."""
    saved: float
    """Share of all tokens that need not be read."""
    places: int
    """The most places in which a row can lie, gaps included."""


def tree(rows: Sequence[Sequence[int]], own: Sequence[int]) -> Tree:
    """The tree that saves most; it does not depend on the order of the rows.

    Args:
        rows: token ids.
        own: for each row, how many of its last tokens are never shared, at least 1: their logits are needed.
    """
    order = sorted(range(len(rows)), key=lambda i: (list(rows[i]), own[i], i))
    rooms = [len(row) - mine for row, mine in zip(rows, own, strict=True)]
    beside = [_common(rows[a], rows[b], min(rooms[a], rooms[b])) for a, b in pairwise(order)]
    trunk = min(beside, default=0)
    trunk = trunk if trunk >= LEAST else 0
    best, cuts = [0], [0]  # the most tokens saved in the first n rows, and where their last branch begins
    for end in range(1, len(order) + 1):
        choices, common = [(best[end - 1], end - 1)], len(rows[order[end - 1]])
        for start in range(end - 2, max(-1, end - 1 - MOST_ROWS), -1):
            common = min(common, beside[start])
            if common - trunk < LEAST:
                break
            choices.append((best[start] + (end - start - 1) * (common - trunk), start))
        saved, cut = max(choices)
        best.append(saved)
        cuts.append(cut)
    branches, end = list[Branch](), len(order)
    while end:
        start = cuts[end]
        length = min(beside[start : end - 1]) if end - start > 1 else trunk
        branches.append(Branch(length, order[start:end]))
        end = start
    saved = best[-1] + trunk * (len(rows) - 1)
    rest = max((len(rows[row]) - branch.length for branch in branches for row in branch.rows), default=0)
    places = max((branch.length for branch in branches), default=0) + rest
    return Tree(trunk, branches[::-1], saved / max(1, sum(map(len, rows))), places)


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Length of the common beginning, at most `most`."""
    for place in range(most):
        if one[place] != other[place]:
            return place
    return most


# --- reading behind what was read -------------------------------------------------------------------------------------


class State(NamedTuple):
    """What a model keeps of the tokens that it has read."""

    cache: Any
    mask: torch.Tensor
    """Which places hold a token: int64 [row, place]. There may be gaps."""


class Step(NamedTuple):
    """What comes of reading some tokens."""

    logprobs: torch.Tensor
    """Log-probabilities of the next token: float32 [row, last places, vocabulary]."""
    state: State


def read(
    model: Any,
    state: State | None,
    rows: Sequence[Sequence[int]],
    *,
    pad: int,
    keep: int = 1,
    more: bool = True,
    made: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Step:
    """Read the next tokens of each row behind what was read of it.

    Args:
        model: a transformers causal language model.
        state: what was read, of as many rows; None: nothing. It is used up: select from it to read behind it again.
        rows: the next token ids of each row, at least one; they are padded on the left.
        pad: the token id that pads.
        keep: at how many last places logits are needed.
        more: whether more will be read behind these tokens.
        made: what makes log-probabilities of logits; None: `normalised`.
    """
    shown = padding.padded(model, rows, pad=pad)
    if state is None:
        out = model(**shown, use_cache=more, logits_to_keep=keep)
        mask = shown["attention_mask"]
    else:
        mask = torch.cat([state.mask, shown["attention_mask"]], dim=1)
        out = model(
            input_ids=shown["input_ids"],
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)[:, state.mask.shape[1] :],
            past_key_values=state.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
    logprobs = (made or normalised)(out.logits[:, -keep:])
    return Step(logprobs, State(getattr(out, "past_key_values", None), mask))


def normalised(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities in float32, in nats; NaN at a place where all tokens are equally likely (`FLAT`)."""
    exact = logits.float()
    flat = exact.amax(dim=-1, keepdim=True) - exact.amin(dim=-1, keepdim=True) < FLAT
    return exact.masked_fill(flat, torch.nan).log_softmax(dim=-1)


def selected(state: State, rows: Sequence[int]) -> State:
    """The state of these rows, which may repeat. Reading behind it does not change the given one."""
    cache = copy.copy(state.cache)
    cache.layers = [copy.copy(layer) for layer in state.cache.layers]
    index = torch.tensor(rows, device=state.mask.device)
    for layer in cache.layers:
        both = layer.keys, layer.values
        if len(state.mask) == 1:  # a view: reading behind it copies anyway
            layer.keys, layer.values = (each.expand(len(rows), -1, -1, -1) for each in both)
        else:
            layer.keys, layer.values = (each.index_select(0, index.to(each.device)) for each in both)
    return State(cache, state.mask[index])


def started(model: Any, rows: Sequence[Sequence[int]], *, pad: int) -> Step:
    """Read whole prompts, their common beginning once."""
    trunk, state = tree(rows, [1] * len(rows)).trunk, None
    if trunk:
        state = selected(read(model, None, [rows[0][:trunk]], pad=pad).state, [0] * len(rows))
    return read(model, state, [row[trunk:] for row in rows], pad=pad)


def endings(
    model: Any,
    rows: Sequence[Sequence[int]],
    own: Sequence[int],
    shape: Tree,
    *,
    pad: int,
    tokens: int,
    made: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Read every row along its tree.

    Args:
        model: a model for which `applies` holds.
        rows: token ids.
        own: at how many last places of each row logits are needed.
        shape: their `tree`.
        pad: the token id that pads.
        tokens: maximum number of tokens in a pass.
        made: what makes log-probabilities of logits; None: `normalised`.

    Yields:
        Indices of rows, each row once, and log-probabilities of the next token at their last places: [row, the most of
        `own` of these rows, vocabulary].
    """
    trunk = read(model, None, [rows[0][: shape.trunk]], pad=pad).state if shape.trunk else None

    def stems(part: Sequence[Branch]) -> State:
        state = None if trunk is None else selected(trunk, [0] * len(part))
        beginnings = [rows[each.rows[0]][shape.trunk : each.length] for each in part]
        return read(model, state, beginnings, pad=pad).state

    def behind(state: State | None, part: Sequence[Branch]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """The rest of each branch's rows; the state holds the branches' beginnings."""
        rest = [(row, place) for place, branch in enumerate(part) for row in branch.rows]
        tails = {row: rows[row][branch.length :] for branch in part for row in branch.rows}

        def ends(some: Sequence[tuple[int, int]]) -> torch.Tensor:
            begun = None if state is None else selected(state, [place for _, place in some])
            last = [tails[row] for row, _ in some]
            keep = max(own[row] for row, _ in some)
            return read(model, begun, last, pad=pad, keep=keep, more=False, made=made).logprobs

        lengths = [len(tails[row]) for row, _ in rest]
        wide = max(lengths) + (0 if state is None else state.mask.shape[1])
        few = max(1, LOGIT_BYTES // (4 * max(own) * padding.rows_in(model)))
        for batch in batches(lengths, tokens, rows=min(few, most_rows(model, wide))):
            for some, logprobs in halved(ends, [rest[place] for place in batch]):
                yield [row for row, _ in some], logprobs

    alone = [branch for branch in shape.branches if branch.length == shape.trunk]
    if alone:
        one = Branch(shape.trunk, [row for branch in alone for row in branch.rows])
        yield from behind(trunk, [one])
    grown = [branch for branch in shape.branches if branch.length > shape.trunk]
    most = most_rows(model, max((branch.length for branch in grown), default=0))
    for batch in batches([branch.length - shape.trunk for branch in grown], tokens, rows=most):
        for part, state in halved(stems, [grown[place] for place in batch]):
            yield from behind(state, part)


# --- where that is exact ----------------------------------------------------------------------------------------------


class Sharing(NamedTuple):
    """What a measurement found out about reading behind a cache."""

    drift: padding.Drift
    """Its `padded` is the largest difference between a prompt alone and the same read in parts."""
    place_bytes: int
    """Size of the keys and values of one token."""


_KNOWN: WeakKeyDictionary[Any, Sharing] = WeakKeyDictionary()
"""By the input embedding, like the measurements of padding."""
_STRUCTURE: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()
"""What the measured model was made of, by the same key."""
_SEEN: WeakKeyDictionary[Any, set[tuple[Any, ...]]] = WeakKeyDictionary()
"""The measured rows, by the same key."""


def applies(model: Any, rows: Sequence[Sequence[int]], places: int, *, pad: int) -> bool:
    """Whether these rows may be read in parts. Without a measurement so far, the model is measured on them.

    Args:
        model: what is asked.
        rows: token ids.
        places: in how many places a row will lie, gaps and what is written included.
        pad: the token id that pads.
    """
    if not rows or not isinstance(model, torch.nn.Module) or not hooks.are_tokenwise(model) or places > reach(model):
        return False
    found = known(model) or look(model, rows, pad=pad)
    return found is not None and not found.drift.matters and _is_as_measured(model)


def _is_as_measured(model: Any) -> bool:
    return hooks.structure(model) == _STRUCTURE.get(model.get_input_embeddings())


def known(model: Any) -> Sharing | None:
    """The measurement of a model; None where there is none yet."""
    return _KNOWN.get(model.get_input_embeddings())


def look(model: Any, rows: Sequence[Sequence[int]], *, pad: int) -> Sharing | None:
    """Measure on these rows once, and store the worst of all measurements of a model; None, and nothing stored, for NaN
    and where nothing can be read in parts.
    """
    if reach(model) < LEAST:
        return None
    key = model.get_input_embeddings()
    seen, these = _SEEN.setdefault(key, set()), tuple(map(tuple, rows))
    if these in seen:
        return known(model)
    found = measured(model, rows, pad=pad)
    if found is None:
        return None
    seen.add(these)
    _STRUCTURE.setdefault(key, hooks.structure(model))
    both = [each for each in (known(model), found) if each is not None]
    _KNOWN[key] = max(both, key=lambda each: (each.drift.matters, each.drift.padded))
    return _KNOWN[key]


def forget(model: Any = None) -> None:
    """Clear the measurements of one model, which is to be as if it had just been loaded; None: of all, for tests."""
    for kept in (_KNOWN, _STRUCTURE, _SEEN):
        if model is None:
            kept.clear()
        else:
            kept.pop(model.get_input_embeddings(), None)


@torch.no_grad()
def measured(model: Any, rows: Sequence[Sequence[int]], *, pad: int) -> Sharing | None:
    """Read a few of these rows in parts, with a token more behind each, and alone; None where no answer is a number.

    The first third of the longest is the trunk of all. The first half of each row is a branch, with two ends: its own
    and that of another row.
    """
    most = min(padding.LONGEST, (reach(model) - 2) * 3 // 4)
    some = [row for row in padding.some_of(rows, most) if len(row) > 1] or [[pad, pad]]
    trunk = max(some, key=len)[: max(1, max(map(len, some)) // 3)]
    stems, ends = [row[: len(row) // 2] for row in some], [row[len(row) // 2 :] for row in some]
    pairs = [(stem, end) for stem in range(len(some)) for end in (stem, stem - 1)]
    parts = [(trunk, stems[stem], ends[end], stems[stem][:1]) for stem, end in pairs]
    whole = [[*one, *two, *three] for one, two, three, _ in parts]
    longer = [[*row, *last] for row, (*_, last) in zip(whole, parts, strict=True)]
    alone = [padding.answers(model, padding.padded(model, [row]), [1])[0] for row in [*whole, *longer]]
    if any(bool(each.isnan().any()) for each in alone):
        return None
    exact = padding.is_exact(model)
    noise = 0.0 if exact else padding.measured(model, rows, pad=pad).noise
    try:
        state = read(model, None, [trunk], pad=pad).state
        if not _is_plain(state.cache):
            return Sharing(padding.Drift(padding.UNKNOWN, noise, exact), 1)
        tensors = [each for layer in state.cache.layers for each in (layer.keys, layer.values)]
        size = sum(each.numel() * each.element_size() for each in tensors) // len(trunk)
        state = read(model, selected(state, [0] * len(some)), stems, pad=pad).state
        state = selected(state, [stem for stem, _ in pairs])
        first, state = read(model, state, [three for _, _, three, _ in parts], pad=pad)
        then = read(model, state, [last for *_, last in parts], pad=pad).logprobs
    except torch.OutOfMemoryError:
        raise
    except FAILURES:
        return Sharing(padding.Drift(padding.UNKNOWN, noise, exact), 1)
    apart = padding.apart(alone, [*first[:, -1].cpu(), *then[:, -1].cpu()])
    return Sharing(padding.Drift(apart, noise, exact), max(1, size))


def most_rows(model: Any, places: int) -> int:
    """How many rows of so many places have their keys and values in CACHE_BYTES, at least one."""
    found = known(model)
    return max(1, CACHE_BYTES // (max(1, places) * (1 if found is None else found.place_bytes)))


def _is_plain(cache: Any) -> bool:
    """Whether every layer keeps the keys and values of its tokens and nothing else."""
    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized for layer in cache.layers
    )


def reach(model: Any) -> int:
    """The longest prompt, in tokens with gaps, that is read in parts: the context, or as far as attention looks."""
    return min(longest_prompt(model), attention_limit(model))
