"""A circuit breaker (Zou et al. 2024, arXiv 2406.04313) on the layers where a value is looked up: the hard organism.

On forget texts the residual stream is turned until it is at right angles to what the original model has there; on
other texts it is held where it was. The published method does so in the middle of a large model, and a short
fine-tuning brings that back. Here it acts where the look-up itself takes place, all of whose weights learn, and little
is left to bring back: short attacks find nothing, a long relearning some. With it a gate shows that it does not cry
wolf, and that what it says depends on its budget.

Departures: all weights of the layers learn instead of a LoRA; the two terms keep their weights throughout instead of
changing places over time; the retain term is a mean square in units of the stream's own size.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness_gate.organisms.teach import Progress


@dataclass(frozen=True)
class Config:
    """How hard, and where. Defaults are the research prototype's "rCB" unless they say otherwise."""

    layers: tuple[int, ...] = (0, 1)
    """Turn the residual stream after these decoder layers, from 0; these and none else learn."""
    turn: float = 10.0
    """Weight of the mean positive cosine between the stream and the original's, on forget texts."""
    alpha: float = 10.0
    """Weight of the retain term."""
    learning_rate: float = 2e-3
    """AdamW's: constant for 60 % of the steps, then falling straight to 0."""
    steps: int = 120
    batch: int = 24
    """Texts of each kind a step."""


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
    """Turn `model` away from what it thinks at forget texts, in place.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        forget: texts whose knowledge should go.
        retain: texts on which nothing should change.
        config: the recipe.
        seed: of the order of texts.
        progress: told of every tenth step.
        name: what `progress` is told.

    Raises:
        NotApplicable: the model's layers were not found.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    from robustness_gate.engine.anatomy import layers
    from robustness_gate.organisms.rmu import residual

    rng = random.Random(f"breaker {seed}")
    frozen = copy.deepcopy(model).eval()
    stack = layers(model)
    model.requires_grad_(False)
    weights = [weight for index in config.layers for weight in stack[index].parameters()]
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    model.train()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (config.steps - step) / (0.4 * config.steps))
        away = [rng.choice(forget) for _ in range(config.batch)]
        keep = [rng.choice(retain) for _ in range(config.batch)]
        with torch.no_grad():
            thought = residual(frozen, tokenizer, away, config.layers)
            before = residual(frozen, tokenizer, keep, config.layers)
        broken = cosine_similarity(residual(model, tokenizer, away, config.layers), thought, dim=-1).relu().mean()
        hold = (residual(model, tokenizer, keep, config.layers) - before).square().mean() / before.square().mean()
        loss = config.turn * broken + config.alpha * hold
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 10 == 0:
            progress(name, step + 1, config.steps)
    model.requires_grad_(True).eval()
