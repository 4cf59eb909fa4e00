"""The common loop of RMU and the circuit breaker: weights are trained to move the residual stream of some texts and to
keep that of others, relative to a frozen copy of the model. The loss on the streams is in the file of each.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from robustness_gate.organisms.measure import LONGEST

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.teach import Progress

Streams = Callable[[Sequence[str]], "torch.Tensor"]
"""The residual stream at texts: [tokens of all texts, width] for each layer."""
Loss = Callable[[Streams, Streams, list[str], list[str]], "torch.Tensor"]
"""Of (the model's streams, those before, forget texts, retain texts): a scalar with its gradient."""


@dataclass(frozen=True)
class Course:
    """Steps and learning rate."""

    learning_rate: float = 2e-3
    """AdamW's: constant for 60 % of the steps, then falling linearly to 0."""
    steps: int = 120
    batch: int = 24
    """Texts of each kind in a step."""


class Pair(NamedTuple):
    """A model in training and a frozen copy of it."""

    model: Any
    frozen: Any
    tokenizer: Any
    layers: tuple[int, ...]
    """Decoder layers, from 0, after which the streams are taken."""

    @classmethod
    def of(cls, model: Any, tokenizer: Any, layers: tuple[int, ...]) -> Pair:
        """The model with a copy of its present state."""
        return cls(model, copy.deepcopy(model).eval(), tokenizer, layers)

    def now(self, texts: Sequence[str]) -> torch.Tensor:
        """The model's streams, with their gradient."""
        return residual(self.model, self.tokenizer, texts, self.layers)

    def before(self, texts: Sequence[str]) -> torch.Tensor:
        """The copy's streams, without gradient."""
        import torch

        with torch.no_grad():
            return residual(self.frozen, self.tokenizer, texts, self.layers)


def train(
    pair: Pair,
    weights: Sequence[torch.nn.Parameter],
    texts: tuple[Sequence[str], Sequence[str]],
    loss: Loss,
    course: Course,
    rng: random.Random,
    progress: Progress,
    name: str,
) -> None:
    """Train the pair's model in place; afterwards all its weights require gradients again.

    Args:
        pair: the model and its copy.
        weights: the trained weights of the model.
        texts: forget texts and retain texts, drawn from with replacement.
        loss: the loss on the streams.
        course: the settings.
        rng: draws the texts.
        progress: called at every tenth step.
        name: the name passed to `progress`.
    """
    import torch

    forget, retain = texts
    optimizer = torch.optim.AdamW(weights, lr=course.learning_rate, weight_decay=0.0)
    pair.model.train()
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * min(1.0, (course.steps - step) / (0.4 * course.steps))
        away = [rng.choice(forget) for _ in range(course.batch)]
        keep = [rng.choice(retain) for _ in range(course.batch)]
        optimizer.zero_grad()
        loss(pair.now, pair.before, away, keep).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % 10 == 0:
            progress(name, step + 1, course.steps)
    pair.model.requires_grad_(True).eval()


def residual(model: Any, tokenizer: Any, texts: Sequence[str], layers: Sequence[int]) -> torch.Tensor:
    """The residual stream after a layer at every real token except the first: [tokens of all texts, width].

    The first token, `<s>`, does not depend on the text: it cannot be moved for forget texts and kept for retain texts
    at once.
    """
    import torch

    batch = tokenizer(
        list(texts), return_tensors="pt", padding=True, padding_side="right", truncation=True, max_length=LONGEST
    ).to(model.device)
    mask = batch["attention_mask"]
    output = model.base_model(
        input_ids=batch["input_ids"], attention_mask=mask, output_hidden_states=True, use_cache=False
    )
    real = mask[:, 1:].bool()
    return torch.stack([output.hidden_states[layer + 1][:, 1:][real] for layer in layers])
