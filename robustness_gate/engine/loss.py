"""The loss of a batch of examples on next-token prediction, whole or in parts that add up to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import padding
from robustness_gate.inputs.memory import Way


class Example(NamedTuple):
    """Token ids and, for each, whether its prediction counts in the loss."""

    ids: list[int]
    counts: list[bool]


LOSS_SCALE = 2.0**13
"""Initial loss scale of a model in float16, whose gradients often underflow."""


def loss_scale(model: Any) -> float:
    """What a model's loss is multiplied by at first before its backward pass: 1 for all but float16."""
    return LOSS_SCALE if any(each.dtype == torch.float16 for each in model.parameters()) else 1.0


def batch_loss(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy over the counted tokens of a batch, padded on the right: a scalar with its gradient."""
    logits, targets, _ = predictions(model, batch, device)
    return torch.nn.functional.cross_entropy(logits, targets)


def log_likelihoods(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Log-likelihood of each example's counted tokens together, in nats: [example], with its gradient."""
    logits, targets, rows = predictions(model, batch, device)
    scores = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return torch.zeros(len(batch), device=device).index_add(0, rows, scores)


def parts_of_loss(model: Any, batch: Sequence[Example], device: torch.device, way: Way) -> Iterator[torch.Tensor]:
    """Scalars that add up to the mean loss of a batch, each of one forward pass.

    Each needs its backward pass before the next one is made: see `frugal.checkpointed`.
    """
    counted = sum(sum(example.counts[1:]) for example in batch)
    for part in _alike(model, batch):
        for start in range(0, len(part), way.rows or len(part)):
            some = part[start : start + (way.rows or len(part))]
            logits, targets, _ = _of_part(model, [batch[at] for at in some], some, device)
            yield torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / counted


def predictions(
    model: Any, batch: Sequence[Example], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For every counted token of a batch: logits [token, vocabulary], the token [token], its example [token].

    Padding on the right comes after the predicted tokens; where it still affects a model, equal lengths are batched.
    """
    found = [_of_part(model, [batch[at] for at in part], part, device) for part in _alike(model, batch)]
    if len(found) == 1:
        return found[0]
    return tuple(torch.cat(each) for each in zip(*found, strict=True))  # type: ignore[return-value]  # three of them


def _alike(model: Any, batch: Sequence[Example]) -> list[list[int]]:
    """Indices of the examples that may share one forward pass."""
    rows = [example.ids for example in batch]
    return padding.groups(rows) if padding.alike(model, rows, side="right") else [list(range(len(batch)))]


def _of_part(
    model: Any, batch: Sequence[Example], numbers: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for examples that share one forward pass, with their own indices."""
    shown = padding.padded(model, [example.ids for example in batch], side="right")
    width = shown["input_ids"].shape[1]
    counts = torch.tensor([e.counts + [False] * (width - len(e.ids)) for e in batch], device=device)
    logits = model(**shown, use_cache=False).logits
    wanted = counts[:, 1:]  # a token is predicted from the position before it
    mine = torch.tensor(numbers, device=device)[wanted.nonzero()[:, 0]]
    return logits[:, :-1][wanted].float(), shown["input_ids"][:, 1:][wanted], mine
