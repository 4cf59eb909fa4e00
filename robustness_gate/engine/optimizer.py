"""AdamW on weights of any dtype: nothing is trained in 16 bits alone.

A step of fine-tuning is smaller than half the distance between two neighbouring 16-bit numbers: with rounding to the
nearest, most of it is lost.

- An attack's own parameters (adapters, vectors) are float32 for every model.
- Weights of a model in float32 are trained directly.
- For weights in bfloat16 or float16, float32 copies are trained (with their moments 16 more bytes for each weight), and
  after every step the model gets them rounded *stochastically*: up or down at random, unbiased on average, where the
  nearest number would be the old one. The random numbers follow from the seed.
- Where there is no memory for copies, each weight is updated in float32, one tensor at a time, and rounded in the same
  way in place; its moments then have the model's dtype (6 bytes for each weight, as in plain 16-bit training; float16
  moments would underflow, so they are float32).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from robustness_gate.engine import scope

if TYPE_CHECKING:
    from robustness_gate.engine.train import Recipe


COPIES = 16
"""Additional bytes for each 16-bit weight: its copy, the copy's gradient and two moments, float32."""


def stepper(parameters: Mapping[str, torch.nn.Parameter], recipe: Recipe, seed: int) -> Stepper | InPlace:
    """The optimiser for these parameters: by their dtype and, for 16 bits, by the free memory."""
    low = [each for each in parameters.values() if each.dtype != torch.float32]
    if low and not _is_room(low[0].device, COPIES * sum(each.numel() for each in low)):
        return InPlace(parameters, recipe, seed)
    return Stepper(parameters, recipe, seed)


class Stepper:
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


class InPlace:
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


def _share(step: int, warmup: int, recipe: Recipe) -> float:
    """Linear rise over the warm-up, then linear fall to zero at the end; or a geometric fall from the start."""
    if recipe.decay is not None:
        return float(recipe.decay**step)
    return min((step + 1) / warmup, max(0.0, (recipe.steps - step) / max(1, recipe.steps - warmup)))
