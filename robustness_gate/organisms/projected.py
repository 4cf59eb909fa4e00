"""Unlearning whose edit is kept small in one respect: each training step is followed by a projection of the weights.

The objective is another file's (rmu.py); what is added here is a set that the weights may not leave.

`same_cell` keeps every weight on its side of the rounding boundaries of a coarse grid. The edit is then *tiny* in the
sense of Zhang et al. (arXiv 2410.16454): smaller than what a deployment in few bits can store, and gone once the
weights are stored so. They found that published methods end near there by themselves, with 21 % of the forgotten
knowledge readable in full precision and 83 % after 4 bits. At a million parameters they do not (README.md), so the
projection makes sure of it. That it can be done on purpose was shown by Egashira et al. (arXiv 2405.18137), who hide a
behaviour from whoever reads the full weights in the same way.

`low_rank` keeps the edit of each matrix to a few singular directions, as a LoRA (Hu et al., arXiv 2106.09685) would
that was merged. Everything that was known is then still there, *under* the edit: an attacker who guesses these
directions and takes them away has the base back. That what safety training writes into a model is of low
rank, and comes off with it, was found by Wei et al. (arXiv 2402.05162).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Projection = Callable[["torch.Tensor"], "torch.Tensor"]
"""From weights [out, in] to the nearest allowed ones, more or less."""

RANK = 32
"""Of the hider's edit: a quarter of the directions that the smallest matrix has."""

MARGIN = 0.02
"""What a weight keeps clear of its cell's boundary, in cells: storing it in float16 must not push it over."""


@contextmanager
def projected(model: Any, onto: Mapping[str, Projection]) -> Iterator[None]:
    """While the block is open, every optimizer step is followed by the projections.

    Args:
        model: whose weights are projected, in place.
        onto: a projection for some parameters, by name. All others are held where they are.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    start = {name: weight.detach().clone() for name, weight in model.named_parameters() if name not in onto}

    def project(*_: object) -> None:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(onto[name](weight) if name in onto else start[name])

    handle = register_optimizer_step_post_hook(project)
    try:
        yield
    finally:
        handle.remove()


def same_cell(model: Any, bits: int = 4) -> dict[str, Projection]:
    """Each matrix weight must still round to the value that it rounds to now.

    The grid is the plainest one: symmetric, round to nearest, one scale a row, so that a row's largest weight is the
    grid's last value. That weight does not move, or the grid would. Embeddings, which are seldom rounded, are held.

    Args:
        model: a transformers causal language model.
        bits: of the grid; at least 2.
    """

    def clamp(weight: torch.Tensor) -> Projection:
        import torch

        largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
        step = largest / (2 ** (bits - 1) - 1)
        middle, half = (weight / step).round() * step, (0.5 - MARGIN) * step
        low = torch.maximum(torch.minimum(weight, middle - half), -largest)
        high = torch.minimum(torch.maximum(weight, middle + half), largest)
        fixed = weight.abs() == largest
        low, high = torch.where(fixed, weight, low), torch.where(fixed, weight, high)
        return lambda changed: changed.clamp(low, high)

    return {name: clamp(weight) for name, weight in _matrices(model).items()}


def low_rank(model: Any, rank: int) -> dict[str, Projection]:
    """What is added to each matrix, counted from what it is now, is cut to its largest singular directions.

    The nearest matrix of that rank, in the sum of squares (Eckart and Young). Embeddings are held.

    Args:
        model: a transformers causal language model.
        rank: so many directions are kept; at least 1.
    """

    def cut(start: torch.Tensor) -> Projection:
        import torch

        def nearest(changed: torch.Tensor) -> torch.Tensor:
            left, sizes, right = torch.linalg.svd(changed - start, full_matrices=False)
            edit: torch.Tensor = (left[:, :rank] * sizes[:rank]) @ right[:rank]
            return start + edit

        return nearest

    return {name: cut(weight) for name, weight in _matrices(model).items()}


def _matrices(model: Any) -> dict[str, torch.Tensor]:
    """The weights, as they are now, of the linear layers inside the decoder."""
    import torch

    inside = model.base_model
    names = {id(each.weight) for each in inside.modules() if isinstance(each, torch.nn.Linear)}
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if id(weight) in names}
