"""The one small training loop, shared by every attack that fine-tunes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from robustness_gate.errors import BrokenTrial


class Diverged(BrokenTrial):
    """The loss is no longer a number. One point of a grid may do so; a trial with nothing else may not."""


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW with linear warm-up and linear decay."""

    learning_rate: float
    steps: int
    batch: int
    """Examples a step; drawn without replacement until the pool is used up, then reshuffled."""
    warmup: float = 0.05
    """Share of the steps, in [0, 1]."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest gradient norm; 0 is no clipping."""


class Example(NamedTuple):
    """Token ids and, for each, whether its prediction counts in the loss."""

    ids: list[int]
    counts: list[bool]


class Course(NamedTuple):
    """What a training run did."""

    losses: list[float]
    """Mean loss of each step's batch before its update, in nats a token."""
    tokens: int
    """Tokens seen, padding not counted."""


def train(
    model: Any, parameters: Mapping[str, torch.nn.Parameter], examples: Sequence[Example], recipe: Recipe, seed: int
) -> Course:
    """Fine-tune `parameters` in place on next-token prediction. The model stays in the mode it is in (no dropout).

    Raises:
        Diverged: the loss is not finite; the message names the step.
        BrokenTrial: there is nothing to train or to train on.
    """
    if not parameters or not examples:
        raise BrokenTrial("nothing to train: no parameters or no examples")
    decayed = [p for p in parameters.values() if p.ndim >= 2]  # norms and biases are not pulled towards zero
    others = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate)
    warmup = max(1, math.ceil(recipe.warmup * recipe.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, warmup, recipe.steps))
    draw = _Draw(len(examples), seed)
    device = next(iter(parameters.values())).device
    losses, tokens = [], 0
    with torch.enable_grad():
        for step in range(recipe.steps):
            batch = [examples[i] for i in draw.take(recipe.batch)]
            loss = batch_loss(model, batch, device)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise Diverged(f"the training loss is {value} at step {step}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(list(parameters.values()), recipe.clip)
            optimizer.step()
            schedule.step()
            losses.append(value)
            tokens += sum(len(example.ids) for example in batch)
    optimizer.zero_grad(set_to_none=True)
    return Course(losses, tokens)


@torch.inference_mode()
def mean_loss(model: Any, examples: Sequence[Example], batch: int = 16) -> float:
    """Mean loss over examples, in nats a counted token: the same quantity that training lowers."""
    device = model.get_input_embeddings().weight.device
    total = counted = 0.0
    for start in range(0, len(examples), batch):
        part = examples[start : start + batch]
        weight = sum(sum(example.counts[1:]) for example in part)
        total += float(batch_loss(model, part, device)) * weight
        counted += weight
    return total / counted if counted else math.nan


def _share(step: int, warmup: int, steps: int) -> float:
    """Linear rise over the warm-up, then linear fall to zero at the end."""
    return min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))


def batch_loss(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy over the counted tokens of a batch, padded on the right: a scalar with its gradient."""
    width = max(len(example.ids) for example in batch)
    ids = torch.tensor([e.ids + [0] * (width - len(e.ids)) for e in batch], device=device)
    mask = torch.tensor([[1] * len(e.ids) + [0] * (width - len(e.ids)) for e in batch], device=device)
    counts = torch.tensor([e.counts + [False] * (width - len(e.ids)) for e in batch], device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    wanted = counts[:, 1:]  # a token is predicted from the position before it
    return torch.nn.functional.cross_entropy(logits[:, :-1][wanted].float(), ids[:, 1:][wanted])


class _Draw:
    """Indices without replacement, reshuffled whenever the pool runs out; the order depends on the seed alone."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._generator = size, torch.Generator().manual_seed(seed)
        self._left: list[int] = []

    def take(self, count: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < count:
            if not self._left:
                self._left = torch.randperm(self._size, generator=self._generator).tolist()
            taken.append(self._left.pop())
        return taken
