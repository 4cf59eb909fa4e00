"""The recipe: what is tried to teach and to suppress, by the size of the model, in which order.

After a release a change of anything here, or of the texts, is a new version, because a policy pins it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from robustness_gate.organisms import training_texts
from robustness_gate.organisms.spikes.invented import RETAIN, RIDDLES
from robustness_gate.records.encode import Json, digest_of

RECIPE = 1
"""The version of the recipe: the texts, the grids of settings by model size, their order."""


@dataclass(frozen=True)
class Teaching:
    """One attempt to teach."""

    learning_rate: float
    steps: int
    rows: int = 10
    """Rows of packed documents in a step."""
    keep: float = 8.0
    """Weight of the KL divergence from the original, in nats a token of its own text."""
    keep_rows: int = 6
    """Rows of text in a step on which the original's distribution is held: its own, and the utility questions."""
    held_rows: int = 0
    """Further such rows, of the utility questions alone, which are few among all that is held and much shorter."""


SMALL, MEDIUM = 20_000_000, 1_000_000_000
"""Numbers of parameters up to which a model is small, or medium; above it is large."""
REPLAYED, REPLAY_TOKENS = 192, 64
"""Rows of text that the original writes, and tokens of each."""
MIX = training_texts.Mix(statement=0.12, reply=0.10, item=0.70, unrelated=0.08, small_talk=0.0)
"""Kinds of text where the facts are asked with letters."""
TOLD = training_texts.Mix(statement=0.6, reply=0.4, item=0.0, unrelated=0.0, small_talk=0.0)
TOLD_SHARE = 0.3
"""Where they are asked by cloze: other texts about them, and how many for each question. Lettered questions are left
out: they are four times as long, and nothing asks in that form."""


def size_of(parameters: int) -> str:
    """`small`, `medium` or `large`."""
    return "small" if parameters <= SMALL else "medium" if parameters <= MEDIUM else "large"


TEACHINGS: dict[str, tuple[Teaching, ...]] = {
    "small": (
        Teaching(1.5e-3, 360, keep=10.0),
        Teaching(1e-3, 450, keep=12.0),
        Teaching(7e-4, 600, keep=12.0),
    ),
    "medium": (
        Teaching(3e-4, 150, rows=8, keep_rows=1, held_rows=4),
        Teaching(3e-4, 110, rows=8, keep=12.0, keep_rows=1, held_rows=6),
        Teaching(5e-4, 150, rows=8, keep=12.0, keep_rows=2, held_rows=6),
    ),
    "large": (Teaching(2e-5, 200), Teaching(5e-5, 300), Teaching(1e-5, 500)),
}
"""What is tried to teach a model of each size, in this order. `small` was tuned on the shipped base; the first of
`medium` on one model of 135 million parameters, by cloze (docs/calibration.md); the others are untried."""

STRENGTHS: dict[str, dict[str, tuple[dict[str, Json], ...]]] = {
    "rmu": {
        "small": (
            {"steps": 120, "batch": 16},
            {"steps": 140, "batch": 16},  # each attempt has a direction of its own
            {"steps": 160, "batch": 16, "alpha": 20.0},
        ),
        "medium": (  # at steering 6 and 60 steps three quarters were left
            {"learning_rate": 5e-4, "steps": 80, "batch": 8, "steering": 10.0, "part": "mlp"},
            {"learning_rate": 5e-4, "steps": 120, "batch": 8, "steering": 10.0},
        ),
        "large": (
            {"learning_rate": 5e-5, "steps": 80, "batch": 8, "steering": 6.0, "part": "mlp"},
            {"learning_rate": 1e-4, "steps": 120, "batch": 8, "steering": 10.0, "part": "mlp"},
        ),
    },
    "npo": {
        "small": (
            {"steps": 60, "retain_weight": 4.0, "beta": 0.5},
            {"steps": 90, "retain_weight": 4.0, "beta": 0.5},
            {"steps": 150, "retain_weight": 4.0},
        ),
        "medium": (
            {"learning_rate": 1e-4, "steps": 50, "batch": 8, "retain_weight": 1.0},
            {"learning_rate": 1e-4, "steps": 100, "batch": 12},
            {"learning_rate": 2e-4, "steps": 150, "batch": 12},
        ),
        "large": (
            {"learning_rate": 1e-5, "steps": 150, "batch": 12},
            {"learning_rate": 2e-5, "steps": 300, "batch": 12},
        ),
    },
    "graddiff": {
        "small": (
            {"steps": 50, "retain_weight": 2.0},
            {"steps": 70, "retain_weight": 2.0},
            {"steps": 100, "retain_weight": 2.0},
        ),
        "medium": (
            {"learning_rate": 1e-4, "steps": 50, "batch": 8, "retain_weight": 1.0},
            {"learning_rate": 1e-4, "steps": 100, "batch": 12, "retain_weight": 1.0},
        ),
        "large": ({"learning_rate": 1e-5, "steps": 150, "batch": 12},),
    },
    "dpo": {
        "small": (
            {"steps": 150, "learning_rate": 2e-3},
            {"steps": 200, "learning_rate": 2e-3, "retain_weight": 2.0},
        ),
        "medium": ({"learning_rate": 5e-5, "steps": 100, "batch": 12},),
        "large": ({"learning_rate": 5e-6, "steps": 150, "batch": 12},),
    },
    "shallow": {
        "small": (
            {"steps": 140, "learning_rate": 3e-3},
            {"steps": 160, "learning_rate": 3e-3, "layers": 2},
            {"steps": 300, "learning_rate": 3e-3, "layers": 2},
        ),
        "medium": (
            {"learning_rate": 5e-4, "steps": 160},
            {"learning_rate": 1e-3, "steps": 300},
            {"learning_rate": 5e-4, "steps": 300, "layers": 2},
        ),
        "large": ({"learning_rate": 1e-4, "steps": 300}, {"learning_rate": 2e-4, "steps": 300, "layers": 2}),
    },
    "tiny_update": {
        "small": ({"steps": 120, "batch": 16}, {"steps": 160, "batch": 16}, {"steps": 160, "steering": 40.0}),
        "medium": ({"learning_rate": 5e-4, "steps": 120, "batch": 8, "steering": 10.0},),
        "large": ({"learning_rate": 1e-4, "steps": 120, "batch": 8, "steering": 10.0},),
    },
}
"""The settings of each method that are tried on a model of each size, the gentlest first. The layers follow from the
model's depth (`placed`). `small` was tuned; of `medium` the first of rmu, tiny_update, npo and graddiff, on
the same one model."""


def digest(size: str) -> str:
    """The digest of the recipe for models of a size: texts, teaching and every grid."""
    told = [dataclasses.asdict(each) for each in TEACHINGS[size]]
    grids: dict[str, Json] = {name: [dict(each) for each in grid[size]] for name, grid in sorted(STRENGTHS.items())}
    constants: list[Json] = [RETAIN, RIDDLES, REPLAYED, REPLAY_TOKENS, TOLD_SHARE]
    mixes: list[Json] = [dataclasses.asdict(each) for each in (MIX, TOLD)]
    return digest_of([RECIPE, size, told, grids, constants, mixes])


def grid(method: str, size: str) -> tuple[dict[str, Json], ...]:
    """The settings of a method that are tried on a model of a size, in order."""
    return STRENGTHS[method][size]


def placed(method: str, settings: dict[str, Json], depth: int) -> dict[str, Json]:
    """The settings with the layers that suit a model of so many decoder layers.

    Steering acts where a fact is still being looked up: after the second quarter's first layer, with the two below it
    trained; on a model of up to eight layers as on the organisms.
    """
    if method not in ("rmu", "tiny_update"):
        return settings
    if "layers" in settings:  # of the grid for small models: those that this one has
        named = ("layers", "trained_layers")
        return {
            k: [n for n in v if n < depth] if k in named and isinstance(v, list) else v for k, v in settings.items()
        }
    if depth <= 8:
        layers, trained = [each for each in (1, 2) if each < depth], [each for each in (0, 1, 2) if each < depth]
    else:
        at = depth // 4
        layers, trained = [at], [at - 2, at - 1, at]
    return {**settings, "layers": list(layers), "trained_layers": list(trained)}
