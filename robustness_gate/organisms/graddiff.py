"""GradDiff, gradient difference (Liu et al. 2022, arXiv 2203.12817; in this form Maini et al. 2024, TOFU, 2401.06121).

What it does: gradient ascent on the forget examples, ordinary training on the retain examples, in one sum. Ascent has
no end of its own: after the forget domain it damages the language.

Departure: a `floor`. An example that is already that unlikely has no more gradient; without a floor a small model is
ruined before it has forgotten. None leaves it out, like the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.descent import Course, descend, draws

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.train import Example
    from robustness_gate.organisms.teach import Progress

MECHANISM = "ascent"
"""How it suppresses: `records.declarations.Mechanism`."""


@dataclass(frozen=True)
class Config(Course):
    """Settings for a million parameters; the comments give those used at 7B."""

    learning_rate: float = 2e-3
    """AdamW's: constant for 60 % of the steps, then falling linearly to 0. TOFU's is 1e-5, at 1.5B and 7B."""
    steps: int = 100
    batch: int = 24
    """Forget examples in a step, and as many retain examples."""
    retain_weight: float = 1.0
    """Weight of the retain term, 0 or more. TOFU's is 1."""
    floor: float | None = -3.0
    """In nats per token, under 0: an example below it has no gradient; None: ascent without end. Far below chance is
    not better: a right letter that is avoided is a known one (`acc_permuted` of 8 % with a floor of -12, see
    README.md)."""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        super().__post_init__()
        if self.floor is not None and not self.floor < 0:
            raise ValueError("floor must be under 0: it is a log-likelihood.")


def forget_loss(now: torch.Tensor, tokens: torch.Tensor, floor: float | None) -> torch.Tensor:
    """Mean log-likelihood per token, which descent lowers, with each example clipped at the floor.

    Args:
        now: log-likelihood of each forget example under the model, in nats: [example].
        tokens: number of counted tokens of each: [example].
        floor: nats per token, or None.
    """
    rates = now / tokens
    return (rates if floor is None else rates.clamp(min=floor)).mean()


def unlearn(
    model: Any,
    forget: Sequence[Example],
    retain: Sequence[Example],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "graddiff",
) -> None:
    """Make the forget examples' counted tokens unlikely, in place.

    Arguments and errors are those of `descent.descend`.
    """
    import torch

    from robustness_gate.engine.loss import log_likelihoods

    device = model.get_input_embeddings().weight.device
    rng, plan = draws("graddiff", len(forget), config, seed)

    def term(step: int) -> torch.Tensor:
        batch = [forget[index] for index in plan[step]]
        tokens = torch.tensor([sum(example.counts[1:]) for example in batch], device=device)
        return forget_loss(log_likelihoods(model, batch, device), tokens, config.floor)

    descend(model, term, retain, config, rng, progress, name)
