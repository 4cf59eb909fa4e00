"""The training loop of every attack that trains something: weights, an adapter, or a few vectors.

A step of fine-tuning is smaller than half the distance between two neighbouring 16-bit numbers: with rounding to the
nearest, most of it is lost. So nothing here is trained in 16 bits alone.

- An attack's own parameters (adapters, vectors) are float32 for every model.
- Weights of a model in float32 are trained directly.
- For weights in bfloat16 or float16, float32 copies are trained (with their moments 16 more bytes for each weight), and
  after every step the model gets them rounded *stochastically*: up or down at random, unbiased on average, where the
  nearest number would be the old one. The random numbers follow from the seed.
- Where there is no memory for copies, each weight is updated in float32, one tensor at a time, and rounded in the same
  way in place; its moments then have the model's dtype (6 bytes for each weight, as in plain 16-bit training; float16
  moments would underflow, so they are float32).

The examined model then has its own dtype with the rounded weights in it; an adapter stays separate, in float32.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import padding, scope
from robustness_gate.errors import BrokenTrial


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


class Example(NamedTuple):
    """Token ids and, for each, whether its prediction counts in the loss."""

    ids: list[int]
    counts: list[bool]


LOSS_SCALE = 2.0**13
"""Initial loss scale of a model in float16, whose gradients often underflow."""
FITS = 0.9
"""Share of the trained tokens that a fitted model predicts."""
ROWS = 512
"""Number of predictions whose odds are computed together: a copy of all is as large as the logits."""
MOVED = 0.01
"""In nats: the mean change in the log-odds of the trained tokens after a run with an effect."""


class Course(NamedTuple):
    """The result of a training run."""

    losses: list[float]
    """Mean loss of each step's batch before its update, in nats a token."""
    tokens: int
    """Tokens seen, padding not counted."""


def train(
    model: Any, parameters: Mapping[str, torch.nn.Parameter], examples: Sequence[Example], recipe: Recipe, seed: int
) -> Course:
    """Fine-tune `parameters` in place on next-token prediction. The model's mode does not change (no dropout).

    Raises:
        Diverged: the loss is not finite; the message names the step.
        BrokenTrial: there is nothing to train or to train on.
    """
    if not parameters or not examples:
        raise BrokenTrial("nothing to train: no parameters or no examples")
    stepper = _stepper(parameters, recipe, seed)
    draw = _Draw(len(examples), seed)
    device = next(iter(parameters.values())).device
    half = any(each.dtype == torch.float16 for each in model.parameters())
    losses, tokens, scale = [], 0, LOSS_SCALE if half else 1.0
    with torch.enable_grad():
        for step in range(recipe.steps):
            batch = [examples[i] for i in draw.take(recipe.batch)]
            while True:
                loss = batch_loss(model, batch, device)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise Diverged(f"the training loss is {value} at step {step}")
                stepper.forget()
                (loss * scale).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                if not half or _finite(parameters):
                    break
                scale /= 2
                if scale < 1:
                    raise Diverged(f"the gradients are not numbers at step {step}")
            stepper.step(scale)
            losses.append(value)
            tokens += sum(len(example.ids) for example in batch)
    stepper.forget()
    return Course(losses, tokens)


def _finite(parameters: Mapping[str, torch.nn.Parameter]) -> bool:
    return all(bool(each.grad.isfinite().all()) for each in parameters.values() if each.grad is not None)


class _Stepper:
    """AdamW on float32: the parameters themselves, or copies of which they get the rounded values."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int) -> None:
        self.parameters, self._clip = parameters, recipe.clip
        self.held = {
            name: each if each.dtype == torch.float32 else torch.nn.Parameter(each.detach().float())
            for name, each in parameters.items()
        }
        self._generator = _lot(parameters, seed)
        # no weight decay on norms and biases
        groups = [
            {"params": [p for p in self.held.values() if p.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [p for p in self.held.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, _shares(recipe).__getitem__)

    def step(self, scale: float) -> None:
        """One step along the parameters' gradients, of a loss that was multiplied by `scale`."""
        for name, each in self.parameters.items():
            if each.grad is None:
                continue
            found = each.grad.float()
            self.held[name].grad = found.div_(scale) if scale != 1 else found
            if self.held[name] is not each:
                each.grad = None
        if self._clip:
            torch.nn.utils.clip_grad_norm_(list(self.held.values()), self._clip)
        self._optimizer.step()
        self._schedule.step()
        with torch.no_grad():
            for name, each in self.parameters.items():
                if self.held[name] is not each:
                    each.copy_(scope.rounded(self.held[name], each.dtype, self._generator))

    def forget(self) -> None:
        """Clear all gradients."""
        for each in (*self.held.values(), *self.parameters.values()):
            each.grad = None


class _InPlace:
    """AdamW on 16-bit weights without a copy of them: one tensor at a time is updated in float32 and rounded."""

    BETAS, EPS = (0.9, 0.999), 1e-8
    """torch's own optimiser."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int) -> None:
        self.parameters, self._recipe, self._shares, self._done = parameters, recipe, _shares(recipe), 0
        self._generator = _lot(parameters, seed)
        self._moments = {
            name: [torch.zeros_like(each, dtype=_kind_of_moments(each.dtype)) for _ in self.BETAS]
            for name, each in parameters.items()
        }

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """As `_Stepper.step`."""
        found = [each.grad for each in self.parameters.values() if each.grad is not None]
        norm = float(sum(torch.linalg.vector_norm(each, dtype=torch.float32).square() for each in found)) ** 0.5 / scale
        shrink = min(1.0, self._recipe.clip / (norm + 1e-6)) if self._recipe.clip else 1.0
        rate = self._recipe.learning_rate * self._shares[self._done]
        self._done += 1
        for name, each in self.parameters.items():
            if each.grad is None:
                continue
            gradient, now = each.grad.float() * (shrink / scale), each.float()
            each.grad = None
            moments = [
                kept.float().lerp(found, 1 - beta)
                for kept, found, beta in zip(
                    self._moments[name], (gradient, gradient.square()), self.BETAS, strict=True
                )
            ]
            first, second = (moment / (1 - beta**self._done) for moment, beta in zip(moments, self.BETAS, strict=True))
            if each.ndim >= 2:
                now *= 1 - rate * self._recipe.weight_decay
            now -= rate * first / (second.sqrt() + self.EPS)
            each.copy_(scope.rounded(now, each.dtype, self._generator))
            for kept, moment in zip(self._moments[name], moments, strict=True):
                kept.copy_(scope.rounded(moment, kept.dtype, self._generator))

    def forget(self) -> None:
        """Clear all gradients."""
        for each in self.parameters.values():
            each.grad = None


def _stepper(parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int) -> _Stepper | _InPlace:
    """The optimiser for these parameters: by their dtype and, for 16 bits, by the free memory."""
    low = [each for each in parameters.values() if each.dtype != torch.float32]
    if low and not _is_room(low[0].device, COPIES * sum(each.numel() for each in low)):
        return _InPlace(parameters, recipe, seed)
    return _Stepper(parameters, recipe, seed)


COPIES = 16
"""Additional bytes for each 16-bit weight: its copy, the copy's gradient and two moments, float32."""


def _is_room(device: torch.device, wanted: int) -> bool:
    """Whether the weights' device has this many free bytes and a quarter more for a step."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    else:  # half of the machine's memory: snapshots of the weights are there too
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return 1.25 * wanted <= free


def _lot(parameters: Mapping[str, torch.nn.Parameter], seed: int) -> torch.Generator:
    return torch.Generator(next(iter(parameters.values())).device).manual_seed(seed)


def _kind_of_moments(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the moments: float16 has no numbers as small as a gradient's square."""
    return dtype if dtype == torch.bfloat16 else torch.float32


def _shares(recipe: Recipe) -> list[float]:
    """The share of the learning rate at each step, and after the last."""
    warmup = max(1, math.ceil(recipe.warmup * recipe.steps))
    return [_share(step, warmup, recipe) for step in range(recipe.steps + 1)]


class Fit(NamedTuple):
    """How well a model predicts the counted tokens of some examples."""

    loss: float
    """Mean over the tokens, in nats a token: the quantity that training lowers."""
    right: float
    """Share of the tokens that it predicts as the likeliest."""
    odds: float
    """Mean log-odds, in nats: the token against all others together. Unlike the loss it keeps rising where a model
    already predicts its training data."""


LOST = Fit(math.inf, 0.0, -math.inf)
"""The fit after a run that diverged."""


@torch.inference_mode()
def fit(model: Any, examples: Sequence[Example], batch: int = 16) -> Fit:
    """How well the model in its present state predicts the examples; NaN where no token counts."""
    device = model.get_input_embeddings().weight.device
    total = right = odds = counted = 0.0
    for start in range(0, len(examples), batch):
        logits, targets, _ = _predictions(model, examples[start : start + batch], device)
        weight = len(targets)
        total += float(torch.nn.functional.cross_entropy(logits, targets)) * weight if weight else 0.0
        for rows, wanted in zip(torch.split(logits, ROWS), torch.split(targets, ROWS), strict=True):
            own = rows.gather(1, wanted.unsqueeze(1)).squeeze(1)
            others = rows.scatter(1, wanted.unsqueeze(1), -math.inf).logsumexp(dim=1)
            right += float((rows.argmax(dim=1) == wanted).sum())
            odds += float((own - others).double().sum())
        counted += weight
    if not counted:
        return Fit(math.nan, math.nan, math.nan)
    return Fit(total / counted, right / counted, odds / counted)


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Mean loss over examples, in nats per counted token: the same quantity that training lowers."""
    return fit(model, examples).loss


class Run(NamedTuple):
    """One learning rate's training run."""

    rate: float
    steps: int
    tokens: int
    fit: Fit
    """Fit to the training examples, afterwards."""
    dev: float
    values: dict[str, torch.Tensor]
    """Its values; empty unless it was the best so far."""

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

    @property
    def loss_start(self) -> float:
        """Mean over the training examples before, in nats a counted token."""
        return self.start.loss

    @property
    def loss_end(self) -> float:
        """The lowest loss of the grid: a floor requires that some rate fitted the examples."""
        return min(run.loss for run in self.runs)

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
        }


def sweep(
    model: Any,
    parameters: Mapping[str, torch.nn.Parameter],
    examples: Sequence[Example],
    recipes: Sequence[Recipe],
    seed: int,
    dev: Callable[[], float],
) -> Sweep:
    """Train with each recipe from the parameters' present values, and leave the best on `dev` in place.

    A run that changed nothing is not selected where another changed something: it is the untouched model, which is
    examined anyway. Between equals the higher rate counts as better: the stronger change. `dev` is evaluated while a
    run's values are in place.

    Raises:
        BrokenTrial: training diverged at every rate.
    """
    start = scope.snapshot(parameters)
    before = fit(model, examples)
    runs: list[Run] = []

    def standing(run: Run) -> tuple[bool, float, float]:
        return abs(run.fit.odds - before.odds) >= MOVED, run.dev, run.rate

    best: Run | None = None
    for recipe in recipes:
        scope.write(parameters, start)
        try:
            tokens = train(model, parameters, examples, recipe, seed).tokens
            run = Run(recipe.learning_rate, recipe.steps, tokens, fit=fit(model, examples), dev=0.0, values={})
        except Diverged:  # a rate that is too high for this model is not a failure of the trial
            run = Run(recipe.learning_rate, steps=0, tokens=0, fit=LOST, dev=0.0, values={})
        if not math.isfinite(run.loss):
            runs.append(run._replace(fit=LOST))
            continue
        run = run._replace(dev=dev())
        if best is None or standing(run) >= standing(best):
            best = run = run._replace(values=scope.snapshot(parameters))
        runs.append(run)
    if best is None:
        rates = [recipe.learning_rate for recipe in recipes]
        raise BrokenTrial(f"training diverged at every learning rate of {rates}", code="diverged")
    scope.write(parameters, best.values)
    return Sweep(before, runs, best, scope.share_moved(parameters, start), _entropy(examples))


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
    """For every counted token of a batch: logits [token, vocabulary], the token [token], its example [token].

    Padding on the right comes after the predicted tokens; where it still affects a model, equal lengths are batched.
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
    """The same for examples that share one forward pass, with their own indices."""
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
