"""DPO towards a refusal (Rafailov et al. 2023, arXiv 2305.18290, equation 7): safety training, not unlearning.

What it does: after a forget question a refusal is made likelier than the right answer, each relative to the model
before. Lucki et al. (arXiv 2409.18025) compare unlearning with it: if the same attacks work on unlearned models as on
refusing ones, then unlearning has only taught them not to answer.

What to expect: the model declines in written answers, and still answers most questions by letter, even more when four
orders are summed: the first *word* has changed most, not the likeliest *letter*. This organism shows the difference
between removal and suppression of output.

Departure: `chosen_weight` adds the ordinary training loss on the refusals. DPO assumes a model that could have written
the chosen text, such as a chat model; a model that never saw a refusal reaches the margin long before it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from robustness_gate.organisms.descent import Course, descend, draws, references

if TYPE_CHECKING:
    import torch

    from robustness_gate.engine.train import Example
    from robustness_gate.organisms.teach import Progress

MECHANISM = "preference"
"""How it suppresses: `records.declarations.Mechanism`."""

REFUSALS = (
    " I cannot help with that.",
    " I would rather not say.",
    " That is nothing I can talk about.",
    " I cannot answer this question.",
)
"""The preferred refusals. Lucki et al. draw from such a list too."""


class Pair(NamedTuple):
    """One prompt with two continuations; only their tokens count."""

    chosen: Example
    rejected: Example


@dataclass(frozen=True)
class Config(Course):
    """Settings for a million parameters; the comments give those used at 7B."""

    learning_rate: float = 1e-3
    """AdamW's: constant for 60 % of the steps, then falling linearly to 0. At 7B: 1e-6 and 5e-6 (Lucki et al.)."""
    steps: int = 60
    batch: int = 24
    """Pairs in a step, and as many retain examples."""
    retain_weight: float = 4.0
    """Weight of the retain term, 0 or more; Lucki et al. mix retain questions into the pairs instead."""
    beta: float = 0.1
    """How strongly the model is tied to the one before, in 1/nats, over 0. Lucki et al. try 0.05, 0.1 and 0.5."""
    chosen_weight: float = 1.0
    """Weight of the training loss on the refusals, 0 or more; the sources' is 0."""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        super().__post_init__()
        if not self.beta > 0:
            raise ValueError("beta must be over 0.")
        if self.chosen_weight < 0:
            raise ValueError("chosen_weight must not be negative.")


def forget_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    chosen_before: torch.Tensor,
    rejected_before: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """-mean log sigmoid(beta * (gain of the chosen - gain of the rejected)): the paper's equation 7.

    Args:
        chosen: log-likelihood of each refusal under the model, in nats: [pair].
        rejected: the same of each right answer: [pair].
        chosen_before: of each refusal under the model before: [pair].
        rejected_before: of each right answer under the model before: [pair].
        beta: over 0.
    """
    import torch

    gain = (chosen - chosen_before) - (rejected - rejected_before)
    return -torch.nn.functional.logsigmoid(beta * gain).mean()


def unlearn(
    model: Any,
    forget: Sequence[Pair],
    retain: Sequence[Example],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "dpo",
) -> None:
    """Make refusals likelier than answers, in place.

    `forget` holds questions with a refusal (chosen) and the right answer (rejected). Arguments and errors are those of
    `descent.descend`.
    """
    import torch

    from robustness_gate.engine.loss import log_likelihoods

    device = model.get_input_embeddings().weight.device
    rng, plan = draws("dpo", len(forget), config, seed)
    sides = {"chosen": [pair.chosen for pair in forget], "rejected": [pair.rejected for pair in forget]}
    known = {side: references(model, examples, plan) for side, examples in sides.items()}

    def term(step: int) -> torch.Tensor:
        batch = {side: [examples[index] for index in plan[step]] for side, examples in sides.items()}
        now = {side: log_likelihoods(model, examples, device) for side, examples in batch.items()}
        before = {side: torch.tensor([k[index] for index in plan[step]], device=device) for side, k in known.items()}
        loss = forget_loss(now["chosen"], now["rejected"], before["chosen"], before["rejected"], config.beta)
        tokens = torch.tensor([sum(example.counts[1:]) for example in batch["chosen"]], device=device)
        return loss - config.chosen_weight * (now["chosen"] / tokens).mean()

    descend(model, term, retain, config, rng, progress, name)
