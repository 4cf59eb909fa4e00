"""Gradient ascent on forget texts and nothing else (Jang et al. 2023, arXiv 2210.01504): the destroyed organism.

Without a retain term the loss has no lower bound, and the model is ruined together with the knowledge: it answers
forget and retain questions at chance. A gate that measures the forgotten domain alone could pass it. It must fail,
because utility is gone. Destroyed is not erased either: a few questions recover some of both domains.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustness_gate.organisms.teach import Progress


@dataclass(frozen=True)
class Config:
    """The recipe. Jang et al. stop at the loss of unseen texts; this continues."""

    learning_rate: float = 1e-3
    """AdamW's, constant."""
    steps: int = 60
    batch: int = 16
    """Texts in a step."""
    clip: float = 1.0
    """Largest norm of the gradient."""


def unlearn(
    model: Any,
    tokenizer: Any,
    forget: Sequence[str],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "ascent",
) -> None:
    """Make `forget` texts ever less likely, in place.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        forget: texts to be made unlikely.
        config: the recipe.
        seed: seed of the order of texts.
        progress: called at every tenth step.
        name: the name passed to `progress`.
    """
    import torch

    rng = random.Random(f"ascent {seed}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    model.train()
    for step in range(config.steps):
        texts = [rng.choice(forget) for _ in range(config.batch)]
        batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = -model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        if (step + 1) % 10 == 0:
            progress(name, step + 1, config.steps)
    model.eval()
