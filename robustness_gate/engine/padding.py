"""Prompts of unequal length in one batch: the padding, and whether an answer depends on it.

An attention mask hides padding in most families. In some it does not: padding changes a recurrent state, and an answer
then depends on the other prompts of its batch. There is no list of families; each model is measured. A few of the first
prompts of unequal length, and the ends of the longest, are run alone and in one padded batch. In float32 the likeliest
tokens then differ by rounding alone, far under LIMIT. In a lower precision rounding is larger, and it is measured: the
same prompts in a batch of the same shape, filled with other tokens *after* them, which a causal model cannot use. A
larger change from padding is a property of the family, and its batches then hold equal lengths alone. So do those of
prompts that are longer than a model's attention looks (`context.attention_limit`), which no measurement reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch

from robustness_gate.engine import hooks
from robustness_gate.engine.context import attention_limit
from robustness_gate.errors import BrokenTrial

Side = Literal["left", "right"]
LIMIT = 0.02
"""In nats per log-likelihood."""
NOISE = 2.0
"""Under float32, this many times the measured rounding is allowed."""
MOST_NOISE = 0.25
"""In nats: the most that rounding can account for."""
ASKED = 4
"""Number of prompts in the measurement, and half as many ends of the longest."""
LONGEST = 256
"""A longer prompt is cut to its last tokens."""
UNKNOWN = 1000.0
"""In nats: the value for a difference that is NaN."""
LIKELY = 1e-4
"""Tokens of a smaller probability are not compared: their rounding error is large and does not matter."""


class Drift(NamedTuple):
    """The effect of padding on a model's answers, in nats per log-likelihood."""

    padded: float
    """Largest difference between a prompt alone and the same in a padded batch."""
    noise: float
    """The same with an invisible filling of the batch: rounding. 0 in float32, where it is not needed."""
    exact: bool
    """Whether the model computes in float32 or more."""

    @property
    def matters(self) -> bool:
        """Whether prompts of unequal length must not share a batch."""
        allowed = LIMIT if self.exact else max(LIMIT, NOISE * min(self.noise, MOST_NOISE))
        return self.padded > allowed


_KNOWN: WeakKeyDictionary[Any, dict[Side, Drift]] = WeakKeyDictionary()
"""By the input embedding, which belongs to one model and is the same through every wrapper of it."""
_SEEN: WeakKeyDictionary[Any, set[tuple[Any, ...]]] = WeakKeyDictionary()
"""The measured rows, by the same key."""


def rows_in(model: Any) -> int:
    """Number of token ids of a model: rows of its input embedding."""
    return int(model.get_input_embeddings().weight.shape[0])


def filler(model: Any, tokenizer: Any) -> int:
    """The token id that pads: the tokenizer's own, its end token, or 0, whichever is first a row of the embedding."""
    rows = rows_in(model)
    for each in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(each, int) and 0 <= each < rows:
            return each
    return 0


def padded(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> dict[str, torch.Tensor]:
    """Token ids and their mask on the model's device, [row, position]; padded on the left, positions too.

    Positions are counted from each row's own first token, so a model with learnt positions sees no padding.

    Raises:
        BrokenTrial: an id has no row in the embedding; on a GPU that would break the whole process.
    """
    width = max(len(row) for row in rows)
    ids = [_filled(row, width, pad, side) for row in rows]
    mask = torch.tensor([_filled([1] * len(row), width, 0, side) for row in rows])
    refuse_strangers(model, rows)
    device = model.get_input_embeddings().weight.device
    found = {"input_ids": torch.tensor(ids, device=device), "attention_mask": mask.to(device)}
    if side == "left":
        found["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0).to(device)
    return found


def refuse_strangers(model: Any, rows: Sequence[Sequence[int]]) -> None:
    """Refuse token ids that the model does not have. Raises BrokenTrial with one of them."""
    known = rows_in(model)
    stranger = next((each for row in rows for each in row if not 0 <= each < known), None)
    if stranger is not None:
        raise BrokenTrial(f"the tokenizer writes the token id {stranger}, and the model has {known} rows")


def guard(model: Any) -> None:
    """Make the model itself refuse token ids that it does not have, in any call.

    An embedding on a GPU fails with an assertion that breaks the process for every later trial.
    """
    embedding = model.get_input_embeddings()
    known = rows_in(model)

    def look(_module: Any, arguments: Any) -> None:
        ids = arguments[0] if arguments else None
        if torch.is_tensor(ids) and ids.numel() and not ids.is_floating_point():
            least, most = (int(each) for each in ids.aminmax())
            if least < 0 or most >= known:
                stranger = least if least < 0 else most
                raise BrokenTrial(f"the tokenizer writes the token id {stranger}, and the model has {known} rows")

    embedding.register_forward_pre_hook(hooks.tokenwise(look))


def alike(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> bool:
    """Whether rows must be of equal length to share a batch of this model.

    Without a measurement so far, the first rows of unequal length are measured; the result stays unless it is NaN. No
    measurement reaches as far as the attention of a model whose config limits it: longer rows are always asked apart.
    """
    if len({len(row) for row in rows}) < 2:
        return False
    found = drift(model, side) or look(model, rows, pad=pad, side=side)
    return found is None or found.matters or max(map(len, rows)) > attention_limit(model)


def look(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> Drift | None:
    """Measure on these rows once, and store the worst of all measurements of a model; None, and nothing stored, for
    NaN.

    A trial measures the prompts of its own tasks before its attack begins: weights may be trained to answer differently
    after padding on one topic alone, and an attack must not select what is measured.
    """
    seen, these = _SEEN.setdefault(model.get_input_embeddings(), set()), (side, *map(tuple, rows))
    if these in seen:
        return drift(model, side)
    found = measured(model, rows, pad=pad, side=side)
    if found.padded >= UNKNOWN:
        return None
    seen.add(these)
    known = _KNOWN.setdefault(model.get_input_embeddings(), {})
    known[side] = max((each for each in (known.get(side), found) if each), key=lambda each: (each.matters, each.padded))
    return known[side]


def forget(model: Any = None) -> None:
    """Clear the measurements of one model, which is to be as if it had just been loaded; None: of all, for tests."""
    for kept in (_KNOWN, _SEEN):
        if model is None:
            kept.clear()
        else:
            kept.pop(model.get_input_embeddings(), None)


def drift(model: Any, side: Side = "left") -> Drift | None:
    """The measurement of a model; None where there is none yet."""
    return _KNOWN.get(model.get_input_embeddings(), {}).get(side)


def groups(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of rows by length, the shortest first."""
    found: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(len(row), []).append(index)
    return [found[length] for length in sorted(found)]


@torch.no_grad()
def measured(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> Drift:
    """Run a few of these rows, and the ends of the longest, alone and in one batch."""
    some = some_of(rows)
    longest = max(some, key=len)
    alone = [answers(model, padded(model, [row]), [1])[0] for row in some]
    own_ends = [len(longest) - len(row) + 1 for row in some]
    batch = answers(model, padded(model, some, pad=pad, side=side), [1] * len(some) if side == "left" else own_ends)
    if is_exact(model):
        return Drift(apart(alone, batch), 0.0, exact=True)
    behind = [[*row, *longest[: len(longest) - len(row)]] for row in some]
    filled = answers(model, padded(model, behind), own_ends)
    return Drift(apart(alone, batch), apart(alone, filled), exact=False)


def is_exact(model: Any) -> bool:
    """Whether the model computes in float32 or more."""
    return torch.finfo(model.get_input_embeddings().weight.dtype).bits >= 32


def some_of(rows: Sequence[Sequence[int]], most: int = LONGEST) -> list[list[int]]:
    """Rows from the shortest to the longest, and the last half and quarter of the longest, none longer than `most`."""
    ordered = sorted({tuple(row[-most:]) for row in rows}, key=lambda row: (len(row), row))
    last = len(ordered) - 1
    places = sorted({round(step * last / (ASKED - 1)) for step in range(ASKED)})
    longest = ordered[-1]
    ends = [longest[-max(1, len(longest) // share) :] for share in (2, 4)]
    return [list(row) for row in dict.fromkeys([*(ordered[place] for place in places), *ends]) if row]


def _filled(row: Sequence[int], width: int, pad: int, side: Side) -> list[int]:
    room = [pad] * (width - len(row))
    return [*room, *row] if side == "left" else [*row, *room]


def answers(model: Any, shown: dict[str, torch.Tensor], places: Sequence[int]) -> list[torch.Tensor]:
    """Log-probabilities of the next token at the position of each row, counted from the end: [vocabulary], on the
    CPU.
    """
    logits = model(**shown, use_cache=False, logits_to_keep=max(places)).logits
    return [logits[row, -place].float().log_softmax(dim=-1).cpu() for row, place in enumerate(places)]


def apart(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Largest difference of the likely tokens, in nats, at most UNKNOWN, which also stands for NaN."""
    gaps = []
    for a, b in zip(one, other, strict=True):
        likely = (a.exp() > LIKELY) | (b.exp() > LIKELY)
        gaps.append(float((a - b)[likely].abs().max()) if bool(likely.any()) else UNKNOWN)
    return max(min(gap, UNKNOWN) if gap == gap else UNKNOWN for gap in gaps)
