"""AdamW on weights of any dtype: nothing is trained in 16 bits alone.

A step of fine-tuning is smaller than half the distance between two neighbouring 16-bit numbers: with rounding to the
nearest, most of it is lost.

- An attack's own parameters (adapters, vectors) are float32 for every model.
- Weights of a model in float32 are trained directly.
- For weights in bfloat16 or float16, float32 copies are trained (with their moments 16 more bytes for each weight), and
  after every step the model gets them rounded *stochastically*: up or down at random, unbiased on average, where the
  nearest number would be the old one. The random numbers follow from the seed.
- Without memory for copies, each weight can be updated in float32, one tensor at a time, and rounded in the same way
  in place; its moments then have the model's dtype (6 bytes for each weight, as in plain 16-bit training; float16
  moments would underflow, so they are float32).
- Or copies and moments are in the host's memory, and each tensor's come to the weights' device for its own update: the
  same numbers as with all of them on the device.

Which of these is used, is decided in `engine/frugal.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.optim.adamw import adamw

from robustness_gate.engine import scope
from robustness_gate.inputs.memory import States

if TYPE_CHECKING:
    from robustness_gate.engine.train import Recipe


BETAS, EPS = (0.9, 0.999), 1e-8
"""The defaults of torch's AdamW."""


def stepper(
    parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int, states: States = "device"
) -> Stepper | InPlace:
    """The optimiser for these parameters, its numbers where `states` says."""
    if states == "in_place":
        return InPlace(parameters, recipe, seed)
    return Stepper(parameters, recipe, seed, on_host=states == "host")


class Stepper:
    """torch's AdamW on float32: the parameters themselves, or copies of which they get the rounded values.

    Parameters in float32 with all numbers beside them are updated together; else one tensor after the other, so that no
    more than one float32 gradient of a 16-bit weight exists.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int, *, on_host: bool = False
    ) -> None:
        self.parameters, self._recipe, self._shares, self._done = parameters, recipe, _shares(recipe), 0
        home = torch.device("cpu") if on_host else None
        self.held = {
            name: each if each.dtype == torch.float32 else each.detach().to(home, torch.float32)
            for name, each in parameters.items()
        }
        self._together = not on_host and all(self.held[name] is each for name, each in parameters.items())
        self._fused = self._together and next(iter(parameters.values())).device.type == "cuda"
        self.moments = {
            name: [torch.zeros_like(each, dtype=torch.float32, device=home) for _ in BETAS]
            for name, each in parameters.items()
        }
        self._steps = {
            name: torch.zeros((), device=each.device if self._fused else "cpu") for name, each in parameters.items()
        }
        self._generator = _lot(parameters, seed)

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """One step along the parameters' gradients, of a loss that was multiplied by `scale`."""
        moving = [name for name, each in self.parameters.items() if each.grad is not None]
        shrink = self._shrink(moving, scale)
        rate = self._recipe.learning_rate * self._shares[self._done]
        self._done += 1
        if self._together:  # no weight decay on norms and biases
            self._update([name for name in moving if self.held[name].ndim >= 2], rate, shrink, scale)
            self._update([name for name in moving if self.held[name].ndim < 2], rate, shrink, scale)
            return
        for name, each in self.parameters.items():
            if each.grad is not None:
                self._update([name], rate, shrink, scale)
                each.grad = None
            if self.held[name] is not each:
                each.copy_(scope.rounded(_at(self.held[name], each.device), each.dtype, self._generator))

    def _shrink(self, moving: Sequence[str], scale: float) -> torch.Tensor | None:
        """By what all gradients are multiplied, as `torch.nn.utils.clip_grad_norm_` does; None where nothing is."""
        if not self._recipe.clip or not moving:
            return None
        found = [self.parameters[name].grad for name in moving]
        norms = [torch.linalg.vector_norm(each.float() / scale) for each in found if each is not None]
        return torch.clamp(self._recipe.clip / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6), max=1.0)

    def _update(self, names: Sequence[str], rate: float, shrink: torch.Tensor | None, scale: float) -> None:
        """AdamW on some parameters of equal weight decay."""
        if not names:
            return
        gradients = []
        for name in names:
            found = self.parameters[name].grad
            assert found is not None
            found = found.float()
            found = found.div_(scale) if scale != 1 else found
            gradients.append(found.mul_(shrink) if shrink is not None else found)
        kept = [[self.held[name], *self.moments[name]] for name in names]
        here = [[_at(each, found.device) for each in row] for row, found in zip(kept, gradients, strict=True)]
        held, first, second = (list(column) for column in zip(*here, strict=True))
        adamw(
            held, gradients, first, second, [], [self._steps[name] for name in names], foreach=False,
            fused=self._fused, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate,
            weight_decay=self._recipe.weight_decay if held[0].ndim >= 2 else 0.0, eps=EPS, maximize=False,
        )  # fmt: skip
        for row, moved in zip(kept, here, strict=True):
            for old, new in zip(row, moved, strict=True):
                if old is not new:
                    old.copy_(new)

    def forget(self) -> None:
        """Clear all gradients."""
        for each in self.parameters.values():
            each.grad = None


class InPlace:
    """AdamW on 16-bit weights without a copy of them: one tensor at a time is updated in float32 and rounded."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int) -> None:
        self.parameters, self._recipe, self._shares, self._done = parameters, recipe, _shares(recipe), 0
        self._generator = _lot(parameters, seed)
        self.moments = {
            name: [torch.zeros_like(each, dtype=_kind_of_moments(each.dtype)) for _ in BETAS]
            for name, each in parameters.items()
        }

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """As `Stepper.step`."""
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
                for kept, found, beta in zip(self.moments[name], (gradient, gradient.square()), BETAS, strict=True)
            ]
            first, second = (moment / (1 - beta**self._done) for moment, beta in zip(moments, BETAS, strict=True))
            if each.ndim >= 2:
                now *= 1 - rate * self._recipe.weight_decay
            now -= rate * first / (second.sqrt() + EPS)
            each.copy_(scope.rounded(now, each.dtype, self._generator))
            for kept, moment in zip(self.moments[name], moments, strict=True):
                kept.copy_(scope.rounded(moment, kept.dtype, self._generator))

    def forget(self) -> None:
        """Clear all gradients."""
        for each in self.parameters.values():
            each.grad = None


def _at(kept: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device: itself where it is there already."""
    return kept.to(device)


def _lot(parameters: Mapping[str, torch.nn.Parameter], seed: int) -> torch.Generator:
    return torch.Generator(next(iter(parameters.values())).device).manual_seed(seed)


def _kind_of_moments(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the moments: float16 has no numbers as small as a gradient's square."""
    return dtype if dtype == torch.bfloat16 else torch.float32


def _shares(recipe: Recipe) -> list[float]:
    """The share of the learning rate at each step, and after the last."""
    warmup = max(1, math.ceil(recipe.warmup * recipe.steps))
    return [_share(step, warmup, recipe) for step in range(recipe.steps + 1)]


def _share(step: int, warmup: int, recipe: Recipe) -> float:
    """Linear rise over the warm-up, then linear fall to zero at the end; or a geometric fall from the start."""
    if recipe.decay is not None:
        return float(recipe.decay**step)
    return min((step + 1) / warmup, max(0.0, (recipe.steps - step) / max(1, recipe.steps - warmup)))
