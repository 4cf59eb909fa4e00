"""The one small training loop, shared by every attack that trains something: weights, an adapter, a few vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import padding, scope
from robustness_gate.errors import BrokenTrial


class Diverged(BrokenTrial):
    """The loss is no longer a number. One point of a grid may do so; a trial with nothing else may not."""


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW with linear warm-up, then a linear fall to zero or the same factor a step."""

    learning_rate: float
    steps: int
    batch: int
    """Examples a step; drawn without replacement until the pool is used up, then reshuffled."""
    warmup: float = 0.05
    """Share of the steps, in [0, 1]."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest gradient norm; 0 is no clipping."""
    decay: float | None = None
    """Factor by which the rate falls each step, in (0, 1], without warm-up; None is the linear schedule."""


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
    shares = {step: _share(step, warmup, recipe) for step in range(recipe.steps + 1)}
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shares.__getitem__)
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


class Run(NamedTuple):
    """One learning rate's training run."""

    rate: float
    steps: int
    tokens: int
    loss: float
    """Mean over the training examples afterwards, in nats a counted token."""
    dev: float
    values: dict[str, torch.Tensor]
    """Empty unless it was the best so far."""


class Sweep(NamedTuple):
    """What a grid of learning rates did; the best run's values are in place."""

    loss_start: float
    """Mean over the training examples before, in nats a counted token."""
    runs: list[Run]
    best: Run

    @property
    def loss_end(self) -> float:
        """The lowest of the grid: a floor asks that some rate fitted the examples."""
        return min(run.loss for run in self.runs)

    @property
    def signs(self) -> dict[str, float]:
        """What shows that there was training."""
        return {
            "loss_start": self.loss_start,
            "loss_end": self.loss_end,
            "loss_ratio": self.loss_end / self.loss_start if self.loss_start > 0 else 1.0,
            "steps": float(self.best.steps),
        }


def sweep(
    model: Any,
    parameters: Mapping[str, torch.nn.Parameter],
    examples: Sequence[Example],
    recipes: Sequence[Recipe],
    seed: int,
    dev: Callable[[], float],
) -> Sweep:
    """Train with each recipe from the values that the parameters have now, and leave those of the best on `dev`.

    Between equals the higher rate counts as better: the stronger change. `dev` is asked while a run's values are in
    place.

    Raises:
        BrokenTrial: training diverged at every rate.
    """
    start = scope.snapshot(parameters)
    loss_start = mean_loss(model, examples)
    runs: list[Run] = []
    for recipe in recipes:
        scope.write(parameters, start)
        rate = recipe.learning_rate
        try:
            course = train(model, parameters, examples, recipe, seed)
        except Diverged:  # a rate too high for this model is a finding about the grid, not a failure
            runs.append(Run(rate, steps=0, tokens=0, loss=math.inf, dev=0.0, values={}))
            continue
        reading = dev()
        fit = mean_loss(model, examples)
        keep = not runs or reading >= max(run.dev for run in runs)
        values = scope.snapshot(parameters) if keep else {}
        runs.append(Run(rate, recipe.steps, course.tokens, fit, reading, values))
    best = max(runs, key=lambda run: (run.dev, run.rate))
    if not best.values:
        raise BrokenTrial(f"training diverged at every learning rate of {[recipe.learning_rate for recipe in recipes]}")
    scope.write(parameters, best.values)
    return Sweep(loss_start, runs, best)


def edge(rate: float, grid: Sequence[float]) -> str:
    """Whether the chosen rate is the grid's lowest or highest: the optimum may then lie outside."""
    if len(grid) == 1:
        return "only"
    return {grid[0]: "lowest", grid[-1]: "highest"}.get(rate, "no")


def _share(step: int, warmup: int, recipe: Recipe) -> float:
    """Linear rise over the warm-up, then linear fall to zero at the end; or a geometric fall from the start."""
    if recipe.decay is not None:
        return float(recipe.decay**step)
    return min((step + 1) / warmup, max(0.0, (recipe.steps - step) / max(1, recipe.steps - warmup)))


def batch_loss(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy over the counted tokens of a batch, padded on the right: a scalar with its gradient."""
    logits, targets, _ = _predictions(model, batch, device)
    return torch.nn.functional.cross_entropy(logits, targets)


def log_likelihoods(model: Any, batch: Sequence[Example], device: torch.device) -> torch.Tensor:
    """Log-likelihood of each example's counted tokens together, in nats: [example], with its gradient."""
    logits, targets, rows = _predictions(model, batch, device)
    scores = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return torch.zeros(len(batch), device=device).index_add(0, rows, scores)


def _predictions(
    model: Any, batch: Sequence[Example], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every counted token of a batch: logits [token, vocabulary], the token [token], its example [token].

    Padding on the right is behind what is predicted; where a model minds it all the same, equal lengths go together.
    """
    rows = [example.ids for example in batch]
    parts = padding.groups(rows) if padding.alike(model, rows, side="right") else [list(range(len(batch)))]
    found = [_of_part(model, [batch[at] for at in part], part, device) for part in parts]
    if len(found) == 1:
        return found[0]
    return tuple(torch.cat(each) for each in zip(*found, strict=True))  # type: ignore[return-value]  # three of them


def _of_part(
    model: Any, batch: Sequence[Example], numbers: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same of examples that share one forward pass, under their own numbers."""
    shown = padding.padded(model, [example.ids for example in batch], side="right")
    width = shown["input_ids"].shape[1]
    counts = torch.tensor([e.counts + [False] * (width - len(e.ids)) for e in batch], device=device)
    logits = model(**shown, use_cache=False).logits
    wanted = counts[:, 1:]  # a token is predicted from the position before it
    mine = torch.tensor(numbers, device=device)[wanted.nonzero()[:, 0]]
    return logits[:, :-1][wanted].float(), shown["input_ids"][:, 1:][wanted], mine


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
