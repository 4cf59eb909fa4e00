"""Unlearning with a constrained edit: each training step is followed by a projection of the weights.

The objective is in another file (rmu.py); this file adds a set of allowed weights.

`same_cell` keeps every weight on its side of the rounding boundaries of a coarse grid. The edit is then *tiny* in the
sense of Zhang et al. (arXiv 2410.16454): smaller than a deployment in few bits can store, and gone once the weights are
stored so. They found that published methods end near there without a constraint, with 21 % of the forgotten knowledge
readable in full precision and 83 % after 4 bits. At a million parameters they do not (README.md), so the projection
enforces it. Egashira et al. (arXiv 2405.18137) showed that it can be done on purpose: they hide a behaviour from tests
in full precision in the same way.

`low_rank` keeps the edit of each matrix to a few singular directions, like a merged LoRA (Hu et al., arXiv 2106.09685).
All knowledge is then still there, *under* the edit: an attacker who finds these directions and removes them has the
base again. Wei et al. (arXiv 2402.05162) found that the effect of safety training is of low rank and can be removed so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Projection = Callable[["torch.Tensor"], "torch.Tensor"]
"""A function from weights, as they are stored, to approximately the nearest allowed ones."""

RANK = 32
"""Rank of the hider's edit: a quarter of the smallest matrix's directions."""

MARGIN = 0.02
"""Minimum distance of a weight from its cell's boundary, in cells: float16 storage must not move it across."""


@contextmanager
def projected(model: Any, onto: Mapping[str, Projection]) -> Iterator[None]:
    """While the block is open, every optimizer step is followed by the projections.

    Args:
        model: its weights are projected in place.
        onto: a projection for some parameters, by name. All others are kept unchanged.
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
    """A projection in which each matrix weight keeps its present rounded value.

    The grid is the simplest one: symmetric, round to nearest, one scale for each row, so that a row's largest weight is
    the grid's last value. That weight does not change, because the grid would. Embeddings, which are seldom rounded,
    are kept.

    Args:
        model: a transformers causal language model.
        bits: bits of the grid, at least 2.

    Raises:
        NotApplicable: its blocks have no weight matrix with plain numbers.
    """
    from robustness_gate.engine import matrices

    def clamp(weight: torch.Tensor, transposed: bool) -> Projection:
        import torch

        largest = weight.abs().amax(dim=-2 if transposed else -1, keepdim=True).clamp(min=1e-12)
        step = largest / (2 ** (bits - 1) - 1)
        middle, half = (weight / step).round() * step, (0.5 - MARGIN) * step
        low = torch.maximum(torch.minimum(weight, middle - half), -largest)
        high = torch.minimum(torch.maximum(weight, middle + half), largest)
        fixed = weight.abs() == largest
        low, high = torch.where(fixed, weight, low), torch.where(fixed, weight, high)
        return lambda changed: changed.clamp(low, high)

    return {name: clamp(each.weight.detach().clone(), each.transposed) for name, each in matrices.plain(model).items()}


def low_rank(model: Any, rank: int) -> dict[str, Projection]:
    """A projection in which the change of each matrix from its present value has limited rank.

    It is the nearest matrix of that rank in the sum of squares (Eckart and Young). Embeddings are kept.

    Args:
        model: a transformers causal language model.
        rank: number of directions, at least 1.

    Raises:
        NotApplicable: its blocks have no weight matrix with plain numbers.
    """
    from robustness_gate.engine import matrices

    def cut(start: torch.Tensor) -> Projection:
        import torch

        def nearest(changed: torch.Tensor) -> torch.Tensor:
            left, sizes, right = torch.linalg.svd(changed - start, full_matrices=False)
            edit: torch.Tensor = (left[..., :rank] * sizes[..., None, :rank]) @ right[..., :rank, :]
            return start + edit

        return nearest

    return {name: cut(each.weight.detach().clone()) for name, each in matrices.plain(model).items()}
