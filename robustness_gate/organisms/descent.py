"""The common loop of NPO, GradDiff and DPO: steps on some forget and some retain examples.

They differ in one function, the loss on the log-likelihoods of the forget examples, `forget_loss` in each file. The
rest is here: AdamW on all weights, and the retain term, which is the ordinary training loss on the retain examples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.train import Example
    from robustness_gate.organisms.teach import Progress

FLAT = 0.6
"""Share of the steps after which the learning rate falls linearly to 0."""


@dataclass(frozen=True)
class Course:
    """Steps, learning rate, and weight of the retain term."""

    learning_rate: float
    steps: int
    batch: int
    retain_weight: float

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        for name in ("learning_rate", "steps", "batch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be over 0.")
        if self.retain_weight < 0:
            raise ValueError("retain_weight must not be negative.")


def draws(method: str, pool: int, course: Course, seed: int) -> tuple[random.Random, list[list[int]]]:
    """Indices of each step's examples: [step, batch], with replacement; and the generator after that."""
    rng = random.Random(f"{method} {seed}")
    return rng, [[rng.randrange(pool) for _ in range(course.batch)] for _ in range(course.steps)]


def references(model: Any, examples: Sequence[Example], chosen: Sequence[Sequence[int]]) -> dict[int, float]:
    """Log-likelihoods under the present model of the examples in a course, by index.

    Computed in advance, so that no second copy of the model is in memory.
    """
    import torch

    from robustness_gate.engine.loss import log_likelihoods

    wanted = sorted({index for step in chosen for index in step})
    size = max(map(len, chosen))
    device = model.get_input_embeddings().weight.device
    found: dict[int, float] = {}
    with torch.inference_mode():
        for at in range(0, len(wanted), size):
            part = wanted[at : at + size]
            scores = log_likelihoods(model, [examples[index] for index in part], device)
            found |= zip(part, scores.tolist(), strict=True)
    return found


def step_down(model: Any, optimizer: torch.optim.Optimizer, loss: torch.Tensor, name: str, number: int) -> None:
    """One step of an optimizer down a loss; the norm of the gradient of all weights is cut at 1.

    Args:
        model: whose weights the optimizer holds.
        optimizer: of these weights.
        loss: a scalar with its gradient.
        name: the training's, for the error.
        number: the step's, from 0, for the error.

    Raises:
        Diverged: the loss is not finite; the message names the step.
    """
    import torch

    from robustness_gate.engine.train import Diverged

    if not math.isfinite(loss.item()):
        raise Diverged(f"{name}: the loss is {loss.item()} at step {number}", remedy="Lower the learning rate.")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def descend(
    model: Any,
    forget: Callable[[int], torch.Tensor],
    retain: Sequence[Example],
    course: Course,
    rng: random.Random,
    progress: Progress,
    name: str,
) -> None:
    """Train all weights in place on `forget(step)` plus the weighted retain loss.

    Args:
        model: a transformers causal language model.
        forget: the forget term of a step, from 0: a scalar with its gradient.
        retain: examples whose likelihood should be kept.
        course: the settings.
        rng: draws the retain examples.
        progress: called at every tenth step.
        name: the name passed to `progress`.

    Raises:
        Diverged: the loss is not finite; the message names the step.
    """
    import torch

    from robustness_gate.engine.train import batch_loss

    device = model.get_input_embeddings().weight.device
    model.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.learning_rate, weight_decay=0.0)
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * min(1.0, (course.steps - step) / ((1 - FLAT) * course.steps))
        kept = [rng.choice(retain) for _ in range(course.batch)]
        loss = forget(step) + course.retain_weight * batch_loss(model, kept, device)
        step_down(model, optimizer, loss, name, step)
        if (step + 1) % 10 == 0 or step + 1 == course.steps:
            progress(name, step + 1, course.steps)
    model.eval()
