"""The training loop of every attack that trains something: weights, an adapter, or a few vectors.

Nothing is trained in 16 bits alone (`optimizer.py`). The examined model then has its own dtype with the rounded weights
in it; an adapter stays separate, in float32.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import frugal, optimizer, scope
from robustness_gate.engine.fit import LOST as LOST
from robustness_gate.engine.fit import Fit as Fit
from robustness_gate.engine.fit import fit as fit
from robustness_gate.engine.fit import mean_loss as mean_loss
from robustness_gate.engine.loss import Example as Example
from robustness_gate.engine.loss import batch_loss as batch_loss
from robustness_gate.engine.loss import loss_scale, parts_of_loss
from robustness_gate.errors import BrokenTrial
from robustness_gate.inputs.memory import FIT_ROWS, Way
from robustness_gate.records.attack import GridPoint
from robustness_gate.records.encode import Json


class Diverged(BrokenTrial):
    """The loss is not finite. One point of a grid may diverge; a trial in which every point diverges fails."""


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW with linear warm-up, then a linear fall to zero or the same factor a step."""

    learning_rate: float
    steps: int
    batch: int
    """Examples in a step; drawn without replacement until the pool is used up, then reshuffled."""
    warmup: float = 0.05
    """Share of the steps, in [0, 1]."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Maximum gradient norm; 0 is no clipping."""
    decay: float | None = None
    """Factor by which the rate falls each step, in (0, 1], without warm-up; None is the linear schedule."""


FITS = 0.9
"""Share of the trained tokens that a fitted model predicts."""
MOVED = 0.01
"""In nats: the mean change in the log-odds of the trained tokens after a run with an effect."""


class Course(NamedTuple):
    """The result of a training run."""

    losses: list[float]
    """Mean loss of each step's batch before its update, in nats a token."""
    tokens: int
    """Tokens seen, padding not counted."""
    way: Way = Way()
    """How its steps were made: the last of them, where memory ran out before."""


def train(
    model: Any,
    parameters: Mapping[str, torch.nn.Parameter],
    examples: Sequence[Example],
    recipe: Recipe,
    seed: int,
    way: Way | None = None,
) -> Course:
    """Fine-tune `parameters` in place on next-token prediction. The model's mode does not change (no dropout).

    Args:
        model: a transformers model.
        parameters: what is trained, by name.
        examples: of which a step has `recipe.batch`.
        recipe: how.
        seed: of the order of the examples, and of stochastic rounding.
        way: how steps are made, by what memory there is; None lets `frugal.chosen` decide. Where memory runs out all
            the same, a step is made again in a more frugal way, and so are those after it.

    Raises:
        Diverged: the loss is not finite; the message names the step.
        BrokenTrial: there is nothing to train or to train on, or too little memory for it.
    """
    if not parameters or not examples:
        raise BrokenTrial("nothing to train: no parameters or no examples")
    device = next(iter(parameters.values())).device
    wanted = frugal.Wanted(model, parameters, examples, recipe.batch, partial(batch_loss, model, device=device))
    way = way or frugal.chosen(wanted)
    draw = _Draw(len(examples), seed)
    stepper: optimizer.Stepper | optimizer.InPlace | None = None
    losses: list[float] = []
    tokens, scale = 0, loss_scale(model)
    while len(losses) < recipe.steps:
        batch = [examples[i] for i in draw.take(recipe.batch)]
        value = None
        while value is None:
            try:
                stepper = stepper or optimizer.stepper(parameters, recipe, seed, way.states)
                value, scale = _gradients(model, parameters, batch, way, scale, f"at step {len(losses)}")
            except torch.OutOfMemoryError:
                pass  # the step is made again below: here the error still holds the activations
            if value is None:
                frugal.forget(parameters)
                started = bool(losses)
                stepper = stepper if started else None
                way = frugal.after(way, wanted, started=started)
        assert stepper is not None
        stepper.step(scale)
        losses.append(value)
        tokens += sum(len(example.ids) for example in batch)
    frugal.forget(parameters)
    return Course(losses, tokens, way)


def _gradients(
    model: Any,
    parameters: Mapping[str, torch.nn.Parameter],
    batch: Sequence[Example],
    way: Way,
    scale: float,
    where: str,
) -> tuple[float, float]:
    """Leave the gradients of a batch's mean loss in the parameters; returns the loss, and by what they are multiplied.

    Args:
        model: the model.
        parameters: what is trained.
        batch: the examples of this step.
        way: how many of them go through the model together, and what is kept of it.
        scale: what the loss is multiplied by; in float16 it is halved where gradients overflow.
        where: the step, for messages.

    Raises:
        Diverged: the loss or the gradients are not finite.
    """
    half, device = loss_scale(model) > 1, next(iter(parameters.values())).device
    while True:
        frugal.forget(parameters)
        value = 0.0
        with torch.enable_grad(), frugal.checkpointed(model) if way.checkpointed else nullcontext():
            for loss in [batch_loss(model, batch, device)] if way.plain else parts_of_loss(model, batch, device, way):
                part = float(loss.detach())
                if not math.isfinite(part):
                    raise Diverged(f"the training loss is {part} {where}")
                value += part
                (loss * scale).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        if not half or _finite(parameters):
            return value, scale
        scale /= 2
        if scale < 1:
            raise Diverged(f"the gradients are not numbers {where}")


def _finite(parameters: Mapping[str, torch.nn.Parameter]) -> bool:
    return all(bool(each.grad.isfinite().all()) for each in parameters.values() if each.grad is not None)


class Run(NamedTuple):
    """One learning rate's training run."""

    rate: float
    steps: int
    tokens: int
    fit: Fit
    """Fit to the training examples, afterwards."""
    dev: float

    @property
    def loss(self) -> float:
        """Mean over the training examples afterwards, in nats a counted token."""
        return self.fit.loss


class Sweep(NamedTuple):
    """The results of a grid of learning rates; the best run's values are in place."""

    start: Fit
    """Fit to the training examples, before."""
    runs: list[Run]
    best: Run
    share_moved: float
    """Share of the trained numbers that the best run changed, in the model's dtype."""
    entropy: float
    """Entropy of the counted tokens, in nats per token: the loss of a predictor that knows their frequencies alone."""
    way: Way
    """How the steps were made, for want of memory: the last of them."""

    @property
    def loss_start(self) -> float:
        """Mean over the training examples before, in nats a counted token."""
        return self.start.loss

    @property
    def loss_end(self) -> float:
        """The lowest loss of the grid: a floor requires that some rate fitted the examples."""
        return min(run.loss for run in self.runs)

    @property
    def cost(self) -> dict[str, float]:
        """Optimiser steps, tokens and runs of the whole grid."""
        return {
            "steps": float(sum(run.steps for run in self.runs)),
            "tokens": float(sum(run.tokens for run in self.runs)),
            "runs": float(len(self.runs)),
        }

    @property
    def selected(self) -> dict[str, Json]:
        """The best run's learning rate, whether it lies at an edge of the grid, and its loss."""
        rates = [run.rate for run in self.runs]
        return {"learning_rate": self.best.rate, "grid_edge": edge(self.best.rate, rates), "loss": self.best.loss}

    def tried(self, budget: int) -> list[GridPoint]:
        """The grid's points at a budget, with their dev accuracies."""
        return [GridPoint({"budget": budget, "learning_rate": run.rate}, run.dev) for run in self.runs]

    @property
    def signals(self) -> dict[str, float]:
        """Signals of the training."""
        fitting = [run.fit for run in self.runs if run.fit.right >= FITS]
        ratios = [each.loss / self.loss_start for each in fitting if self.loss_start > 0]
        return {
            "loss_start": self.loss_start,
            "loss_end": self.loss_end,
            "loss_ratio": self.loss_end / self.loss_start if self.loss_start > 0 else 1.0,
            "right_end": max(run.fit.right for run in self.runs),
            "unigram_ratio": self.loss_end / self.entropy if self.entropy > 0 else 1.0,
            "fitted_ratio": min(ratios, default=1.0),
            "fitted_gain": max((each.odds - self.start.odds for each in fitting), default=0.0),
            "chosen_change": abs(self.best.fit.odds - self.start.odds),
            "share_moved": self.share_moved,
            "steps": float(self.best.steps),
            **self.way.signals,
        }


def sweep(
    model: Any,
    parameters: Mapping[str, torch.nn.Parameter],
    examples: Sequence[Example],
    recipes: Sequence[Recipe],
    seed: int,
    dev: Callable[[], float],
    start: Mapping[str, torch.Tensor] | None = None,
) -> Sweep:
    """Train with each recipe from the parameters' present values, and leave the best on `dev` in place.

    Beside `start` there is one copy of the values in memory, the best run's, and none for a grid of one.

    Args:
        model: a transformers model.
        parameters: what is trained, by name.
        examples: the training data.
        recipes: one for each point of the grid; they have the same batch.
        seed: see `train`.
        dev: the accuracy by which the best is selected.
        start: the present values, where the caller has a copy of them: another one is then not made.

    A run that changed nothing is not selected where another changed something: it is the untouched model, which is
    examined anyway. Between equals the higher rate counts as better: the stronger change. `dev` is evaluated while a
    run's values are in place.

    Raises:
        BrokenTrial: training diverged at every rate.
    """
    start = scope.snapshot(parameters) if start is None else start
    device = next(iter(parameters.values())).device
    loss = partial(batch_loss, model, device=device)
    way = frugal.chosen(frugal.Wanted(model, parameters, examples, recipes[0].batch, loss))
    rows = min(FIT_ROWS, way.rows or FIT_ROWS)
    before = fit(model, examples, rows)
    runs: list[Run] = []

    def standing(run: Run) -> tuple[bool, float, float]:
        return abs(run.fit.odds - before.odds) >= MOVED, run.dev, run.rate

    best: Run | None = None
    values: dict[str, torch.Tensor] = {}
    for number, recipe in enumerate(recipes):
        scope.write(parameters, start)
        try:
            course = train(model, parameters, examples, recipe, seed, way)
            way = course.way  # where memory ran out, it would again
            run = Run(recipe.learning_rate, recipe.steps, course.tokens, fit=fit(model, examples, rows), dev=0.0)
        except Diverged:  # a rate that is too high for this model is not a failure of the trial
            run = Run(recipe.learning_rate, steps=0, tokens=0, fit=LOST, dev=0.0)
        if not math.isfinite(run.loss):
            runs.append(run._replace(fit=LOST))
            continue
        run = run._replace(dev=dev())
        runs.append(run)
        if best is None or standing(run) >= standing(best):
            best = run
            if number < len(recipes) - 1:  # the last one's are in place
                scope.keep(values, parameters)
    if best is None:
        rates = [recipe.learning_rate for recipe in recipes]
        raise BrokenTrial(f"training diverged at every learning rate of {rates}", code="diverged")
    if best is not runs[-1]:
        scope.write(parameters, values)
    return Sweep(before, runs, best, scope.share_moved(parameters, start), _entropy(examples), way)


def _entropy(examples: Sequence[Example]) -> float:
    """Entropy of the counted tokens' frequencies: nats per token, 0 where all are the same."""
    tokens = Counter(
        token for each in examples for token, counts in zip(each.ids[1:], each.counts[1:], strict=True) if counts
    )
    return sum(-many / tokens.total() * math.log(many / tokens.total()) for many in tokens.values())


def edge(rate: float, grid: Sequence[float]) -> str:
    """Whether the chosen rate is the grid's lowest or highest: the optimum may then lie outside."""
    if len(grid) == 1:
        return "only"
    return {grid[0]: "lowest", grid[-1]: "highest"}.get(rate, "no")


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
