"""RMU, representation misdirection for unlearning (Li et al. 2024, the WMDP paper, arXiv 2403.03218), in two strengths.

What it does: on texts of the forget domain the residual stream after some layers is moved towards one fixed random
direction of large norm; on other texts it is kept. The knowledge is not erased: the retrieval into the stream is
overwhelmed. A few gradient steps undo that, as Lucki et al. (arXiv 2409.18025) found at 7B.

`RMU` is the organism that the gate must fail: at chance in both metrics of multiple choice, and recovered after five
questions. `PLAIN` is another case: it only makes the model answer one letter, so it looks unlearned in one letter
order, and answers correctly when four are summed.

Departures from the paper, all forced by the small size: the target's length is measured in mean residual norms; whole
layers learn (`RMU`) or whole MLPs (`PLAIN`) instead of one matrix a layer; `RMU` steers two layers; the direction is
normal instead of uniform, so that it has no common sign. README.md in this folder lists what else was tried.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustness_gate.errors import UsageError
from robustness_gate.organisms.streams import Course, Pair, Streams, train

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.teach import Progress

MECHANISM = "representation"
"""How it suppresses: `records.declarations.Mechanism`."""


@dataclass(frozen=True)
class Config(Course):
    """Strength and layers. The paper's learning rate is 5e-5, at 7B."""

    layers: tuple[int, ...] = (1, 2)
    """Steer the residual stream after these decoder layers, from 0."""
    trained_layers: tuple[int, ...] = (0, 1, 2)
    """Decoder layers whose weights learn."""
    part: Literal["all", "mlp"] = "all"
    """Which of their weights."""
    steering: float = 20.0
    """Length of the target, in mean residual norms of retain texts; over 0. The paper's c is 6.5 to 300, absolute."""
    alpha: float = 30.0
    """Weight of the retain term; over 0. The paper's is 1,200 at a target of about its residual's own length."""

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for an invalid setting."""
        for name in ("steering", "learning_rate", "steps", "batch"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be over 0.")
        if not self.layers or not self.trained_layers:
            raise ValueError("layers and trained_layers must each name one layer at least.")


RMU = Config()
PLAIN = Config(layers=(2,), trained_layers=(1, 2), part="mlp", alpha=200.0)
LOW_RANK = Config(alpha=15.0, steps=160)
"""For an edit of low rank: it takes longer, and less can be retained."""


def unlearn(
    model: Any,
    tokenizer: Any,
    forget: Sequence[str],
    retain: Sequence[str],
    config: Config,
    seed: int,
    progress: Progress,
    name: str = "rmu",
) -> None:
    """Steer `model` away from the forget texts, in place.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        forget: texts whose knowledge should become unusable.
        retain: texts on which nothing should change.
        config: the recipe.
        seed: seed of the direction and of the order of texts.
        progress: called at every tenth step.
        name: the name passed to `progress`.

    Raises:
        UsageError: the model has no such layer, or its layers have no part called `mlp`.
        NotApplicable: its layers were not found.
    """
    import torch

    rng = random.Random(f"rmu {seed}")
    pair = Pair.of(model, tokenizer, config.layers)
    weights = _choose_weights(model, config)
    width = model.get_input_embeddings().embedding_dim
    direction = torch.randn(width, generator=torch.Generator().manual_seed(seed)).to(model.device)
    direction = direction / direction.norm()
    sample = pair.before([rng.choice(retain) for _ in range(64)])
    norm = sample.norm(dim=-1).mean()
    scale = norm**2 / sample.shape[-1]
    target = config.steering * norm * direction

    def loss(now: Streams, before: Streams, away: list[str], keep: list[str]) -> torch.Tensor:
        misdirect = (now(away) - target).square().mean()
        hold = (now(keep) - before(keep)).square().mean()
        whole: torch.Tensor = (misdirect + config.alpha * hold) / scale
        return whole

    train(pair, weights, (forget, retain), loss, config, rng, progress, name)


def _choose_weights(model: Any, config: Config) -> list[torch.nn.Parameter]:
    """Freeze all weights except the trained ones, and return these."""
    from robustness_gate.engine.anatomy import layers

    stack = layers(model)
    missing = [index for index in (*config.layers, *config.trained_layers) if not 0 <= index < len(stack)]
    if missing:
        raise UsageError(
            f"the model has no layer {missing[0]}, it has {len(stack)}.",
            remedy=f"Set layers and trained_layers to numbers from 0 to {len(stack) - 1}.",
        )
    model.requires_grad_(False)
    chosen = []
    for index in config.trained_layers:
        part = stack[index] if config.part == "all" else getattr(stack[index], "mlp", None)
        if part is None:
            raise UsageError(f"layer {index} has no part called mlp.", remedy="Set part to all.")
        chosen += list(part.parameters())
    for weight in chosen:
        weight.requires_grad_(True)
    return chosen
