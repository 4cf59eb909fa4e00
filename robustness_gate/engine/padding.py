"""Prompts of unequal length in one batch: with what they are padded, and whether an answer depends on it.

An attention mask hides padding in most families. In some it does not: a recurrent state that has read it is another
one, and an answer then depends on what shares its batch. No list of families is kept; each model is asked. A few of the
first prompts of unequal length, and the ends of the longest, are put alone and in one padded batch. In float32 the
likeliest words then differ by rounding alone, far under LIMIT. In a smaller precision rounding is larger, and it is
measured: the same prompts in a batch of the same shape, filled up with other words *behind* them, which no causal model
sees before them. What padding changes beyond both is the family's own, and its batches hold equal lengths alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch

from robustness_gate.errors import BrokenTrial

Side = Literal["left", "right"]
LIMIT = 0.02
"""In nats a log-likelihood."""
NOISE = 2.0
"""In less than float32, so many times the measured rounding is allowed."""
MOST_NOISE = 0.25
"""In nats: rounding beyond this excuses nothing."""
ASKED = 4
"""So many prompts are put, and half as many ends of the longest."""
LONGEST = 256
"""Of a longer prompt so many last tokens are put."""
UNKNOWN = 1000.0
"""In nats: what stands for a difference that is not a number."""
LIKELY = 1e-4
"""Words of less probability than this are not compared: their rounding is large and decides nothing."""


class Drift(NamedTuple):
    """What padding does to a model's answers, in nats a log-likelihood."""

    padded: float
    """Largest difference between a prompt alone and the same in a padded batch."""
    noise: float
    """The same where what fills the batch cannot be seen: rounding. 0 where it is not needed, in float32."""
    exact: bool
    """Whether the model computes in float32 or more."""

    @property
    def matters(self) -> bool:
        """Whether prompts of unequal length must not share a batch."""
        allowed = LIMIT if self.exact else max(LIMIT, NOISE * min(self.noise, MOST_NOISE))
        return self.padded > allowed


_KNOWN: WeakKeyDictionary[Any, dict[Side, Drift]] = WeakKeyDictionary()
"""By the input embedding: it belongs to one model, and whatever stands around that model hands it on."""
_SEEN: WeakKeyDictionary[Any, set[tuple[Any, ...]]] = WeakKeyDictionary()
"""Which rows were looked at, by the same."""


def rows_in(model: Any) -> int:
    """How many token ids a model has: rows of its input embedding."""
    return int(model.get_input_embeddings().weight.shape[0])


def filler(model: Any, tokenizer: Any) -> int:
    """The token id that pads: the tokenizer's own, its end mark, or 0, whichever is first a row of the embedding."""
    rows = rows_in(model)
    for each in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(each, int) and 0 <= each < rows:
            return each
    return 0


def padded(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> dict[str, torch.Tensor]:
    """Token ids and their mask on the model's device, [row, position]; padded on the left, positions too.

    Positions are counted from each row's own first token, so a model with learnt positions sees no padding.

    Raises:
        BrokenTrial: an id is no row of the embedding; on a GPU that would take the whole process along.
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
    """Token ids that the model does not have. Raises BrokenTrial, naming one."""
    known = rows_in(model)
    stranger = next((each for row in rows for each in row if not 0 <= each < known), None)
    if stranger is not None:
        raise BrokenTrial(f"the tokenizer writes the token id {stranger}, and the model has {known} rows")


def guard(model: Any) -> None:
    """Let the model itself refuse token ids that it does not have, whoever hands them over.

    An embedding on a GPU answers with an assertion that spoils the process for every trial after it.
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

    embedding.register_forward_pre_hook(look)


def alike(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> bool:
    """Whether rows must be of equal length to share a batch of this model.

    Where nobody looked yet, the first rows of unequal length tell, for good unless they give no number.
    """
    if len({len(row) for row in rows}) < 2:
        return False
    found = drift(model, side) or look(model, rows, pad=pad, side=side)
    return found is None or found.matters


def look(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> Drift | None:
    """Measure on these rows, once, and remember the worst of all looks at a model; None, and nothing, without a number.

    A trial looks at the prompts of its own tasks before its attack begins: weights may be taught to answer one way
    alone and another behind padding, on one topic and no other, and an attack must not decide what is measured.
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


def forget() -> None:
    """Look at every model anew. For tests: a model that is looked at once is the same for good."""
    _KNOWN.clear()
    _SEEN.clear()


def drift(model: Any, side: Side = "left") -> Drift | None:
    """What was found out about a model; None where it was not asked yet."""
    return _KNOWN.get(model.get_input_embeddings(), {}).get(side)


def groups(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of rows by length, the shortest first."""
    found: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        found.setdefault(len(row), []).append(index)
    return [found[length] for length in sorted(found)]


@torch.no_grad()
def measured(model: Any, rows: Sequence[Sequence[int]], *, pad: int = 0, side: Side = "left") -> Drift:
    """Ask a few of these rows, and the ends of the longest, alone and in one batch."""
    some = _some(rows)
    longest = max(some, key=len)
    alone = [_answers(model, padded(model, [row]), [1])[0] for row in some]
    own_ends = [len(longest) - len(row) + 1 for row in some]
    batch = _answers(model, padded(model, some, pad=pad, side=side), [1] * len(some) if side == "left" else own_ends)
    if torch.finfo(model.get_input_embeddings().weight.dtype).bits >= 32:
        return Drift(_apart(alone, batch), 0.0, exact=True)
    behind = [[*row, *longest[: len(longest) - len(row)]] for row in some]
    filled = _answers(model, padded(model, behind), own_ends)
    return Drift(_apart(alone, batch), _apart(alone, filled), exact=False)


def _some(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The shortest, the longest and what lies between; and the last half and quarter of the longest."""
    ordered = sorted({tuple(row[-LONGEST:]) for row in rows}, key=lambda row: (len(row), row))
    last = len(ordered) - 1
    places = sorted({round(step * last / (ASKED - 1)) for step in range(ASKED)})
    longest = ordered[-1]
    ends = [longest[-max(1, len(longest) // share) :] for share in (2, 4)]
    return [list(row) for row in dict.fromkeys([*(ordered[place] for place in places), *ends]) if row]


def _filled(row: Sequence[int], width: int, pad: int, side: Side) -> list[int]:
    room = [pad] * (width - len(row))
    return [*room, *row] if side == "left" else [*row, *room]


def _answers(model: Any, shown: dict[str, torch.Tensor], places: Sequence[int]) -> list[torch.Tensor]:
    """Log-probabilities of the next word at the place of each row, counted from the end: [vocabulary], on the CPU."""
    logits = model(**shown, use_cache=False, logits_to_keep=max(places)).logits
    return [logits[row, -place].float().log_softmax(dim=-1).cpu() for row, place in enumerate(places)]


def _apart(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Largest difference of the likely words, in nats, at most UNKNOWN: that too where it is not a number."""
    gaps = []
    for a, b in zip(one, other, strict=True):
        likely = (a.exp() > LIKELY) | (b.exp() > LIKELY)
        gaps.append(float((a - b)[likely].abs().max()) if bool(likely.any()) else UNKNOWN)
    return max(min(gap, UNKNOWN) if gap == gap else UNKNOWN for gap in gaps)
