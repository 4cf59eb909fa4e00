"""NPO, negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868, equation 3, with their retain term).

What it does: preference optimisation with only the rejected half. The forget examples are made less likely than under
the model before unlearning, and the gradient weakens with success: it is that of gradient ascent times a weight that
goes to 0. With beta towards 0 the weight is 1 and NPO becomes gradient ascent (their proposition 1); beta over 0 keeps
it from diverging.

Departures: the retain term is the mean over tokens, as a trainer computes it, independent of the length of a forget
example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.descent import Course, descend, draws, references

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.train import Example
    from robustness_gate.organisms.teach import Progress

MECHANISM = "preference"
"""How it suppresses: `records.declarations.Mechanism`."""


@dataclass(frozen=True)
class Config(Course):
    """Settings for a million parameters; the comments give those used at 7B."""

    learning_rate: float = 2e-3
    """AdamW's: constant for 60 % of the steps, then falling linearly to 0. At 7B: 1e-5 to 5e-4 (Lucki et al.)."""
    steps: int = 150
    batch: int = 24
    """Forget examples in a step, and as many retain examples."""
    retain_weight: float = 3.0
    """Weight of the retain term, 0 or more. Lucki et al. try 0.5 to 5."""
    beta: float = 0.25
    """How soon the gradient weakens, in 1/nats, over 0. The paper's is 0.1; Lucki et al. try 0.05 to 0.5. At 0.1 a
    small model only learns to answer one letter: three in four questions then have the full gradient, though they are
    forgotten."""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        super().__post_init__()
        if not self.beta > 0:
            raise ValueError("beta must be over 0; its limit 0 is the method graddiff.")


def forget_loss(now: torch.Tensor, before: torch.Tensor, beta: float) -> torch.Tensor:
    """(2 / beta) * mean log(1 + (p_now / p_before) ** beta): the paper's equation 3.

    Args:
        now: log-likelihood of each forget example under the model, in nats: [example].
        before: the same under the model before unlearning: [example].
        beta: over 0.
    """
    import torch

    return -torch.nn.functional.logsigmoid(beta * (before - now)).mean() * 2 / beta


def unlearn(
    model: Any,
    forget: Sequence[Example],
    retain: Sequence[Example],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "npo",
) -> None:
    """Make the forget examples' counted tokens unlikely, in place.

    Arguments and errors are those of `descent.descend`.
    """
    import torch

    from robustness_gate.engine.loss import log_likelihoods

    device = model.get_input_embeddings().weight.device
    rng, plan = draws("npo", len(forget), config, seed)
    known = references(model, forget, plan)

    def term(step: int) -> torch.Tensor:
        now = log_likelihoods(model, [forget[index] for index in plan[step]], device)
        before = torch.tensor([known[index] for index in plan[step]], device=device)
        return forget_loss(now, before, config.beta)

    descend(model, term, retain, config, rng, progress, name)
