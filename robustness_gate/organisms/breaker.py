"""A circuit breaker (Zou et al. 2024, arXiv 2406.04313) on the layers that retrieve a value: the hard organism.

On forget texts the residual stream is rotated until it is orthogonal to the original model's; on other texts it is
kept. The published method does so in the middle of a large model, and a short fine-tuning undoes that. Here it acts on
the layers that retrieve the facts, with all their weights trained, and little can be recovered: short attacks find
nothing, a long relearning some. It shows that a gate does not always fail a model, and that its verdict depends on its
budget.

Departures: all weights of the layers learn instead of a LoRA; the two terms keep their weights throughout instead of a
schedule; the retain term is a mean square in units of the stream's own size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.streams import Course, Pair, Streams, train

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.teach import Progress


@dataclass(frozen=True)
class Config(Course):
    """How hard, and where. Defaults are the research prototype's "rCB" unless they say otherwise."""

    layers: tuple[int, ...] = (0, 1)
    """Turn the residual stream after these decoder layers, from 0; only these are trained."""
    turn: float = 10.0
    """Weight of the mean positive cosine between the stream and the original's, on forget texts."""
    alpha: float = 10.0
    """Weight of the retain term."""


def unlearn(
    model: Any,
    tokenizer: Any,
    forget: Sequence[str],
    retain: Sequence[str],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "breaker",
) -> None:
    """Rotate the stream of `model` away from the original's on forget texts, in place.

    Arguments are those of `rmu.unlearn`. Raises NotApplicable where the model's layers were not found.
    """
    from torch.nn.functional import cosine_similarity

    from robustness_gate.engine.anatomy import layers

    rng = random.Random(f"breaker {seed}")
    pair = Pair.of(model, tokenizer, config.layers)
    stack = layers(model)
    model.requires_grad_(False)
    weights = [weight for index in config.layers for weight in stack[index].parameters()]
    for weight in weights:
        weight.requires_grad_(True)

    def loss(now: Streams, before: Streams, away: list[str], keep: list[str]) -> torch.Tensor:
        broken = cosine_similarity(now(away), before(away), dim=-1).relu().mean()
        kept = before(keep)
        hold = (now(keep) - kept).square().mean() / kept.square().mean()
        return config.turn * broken + config.alpha * hold

    train(pair, weights, (forget, retain), loss, config, rng, progress, name)
