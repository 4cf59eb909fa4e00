"""Models of known truth beside one another, and share limits decided for many replicates at once, with numpy.

`limits.py` simulates with them. `share_sides` compares a sample of what it decides with the plain functions of
`robustness_gate.statistics`, which the judge calls: one disagreement raises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from robustness_gate.statistics import Yardstick, design_effect, share_evidence

SEED = 20261130
QUESTIONS, CLUSTER = 1273, 4
WITH_CLOZE = (11, 13)
"""Eleven questions of thirteen have a cloze reading too, spread over the clusters; published: 1,076 of 1,273."""
NEVER_TAUGHT, ORIGINAL = np.array([0.401, 0.244, 0.244]), np.array([0.526, 0.363, 0.363])
"""Published accuracies (letters, cloze) on WMDP-bio of two sister models of 6.9B parameters, one trained on filtered
data, one unfiltered (model card of the deep-ignorance models, arXiv 2508.06601). The third reading, by margin, is
simulated in a world that has it; no score of it is published, so it is given the accuracies of cloze."""
SAME_MODEL, READINGS, EFFECT = 0.78, 0.28, 1.3
"""Correlation of one model's hits under two attacks, and of its letters and cloze; design effect of letters O - T."""

# --- models of known truth --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """How the answers of models are related."""

    sisters: float
    """Correlation of the hits of two sister models, letters."""
    readings: float = READINGS
    better: bool = False
    """The original is a little better on every question, instead of knowing some questions for certain."""
    clusters: int = math.ceil(QUESTIONS / CLUSTER)
    size: int = CLUSTER
    questions: int = QUESTIONS
    """The last cluster may be smaller."""
    margin: float | None = None
    """Correlation of one model's hits in cloze and by margin, at most SAME_MODEL; None where margin is not read."""

    @property
    def name(self) -> str:
        """In words."""
        parts = [f"sisters {self.sisters:g}"]
        parts += [f"cloze and margin {self.margin:g}"] if self.margin is not None else []
        parts += [f"readings {self.readings:g}"] if self.readings != READINGS else []
        return ", ".join([*parts, *(["a little better everywhere"] if self.better else [])])


@cache
def latent(hits: float, first: float, second: float) -> float:
    """The correlation of two normal deviates whose excesses, of these frequencies, have the correlation `hits`."""
    if hits == 0:
        return 0.0

    def over(correlation: float) -> float:
        both = multivariate_normal.cdf([ndtri(first), ndtri(second)], cov=[[1, correlation], [correlation, 1]])
        return float(both - first * second - hits * math.sqrt(first * (1 - first) * second * (1 - second)))

    return float(brentq(over, 0, 1 - 1e-9))


@dataclass(frozen=True)
class Draw:
    """One replicate: what three models would do, before the noise of each attack. Arrays are [reading, question]."""

    control: np.ndarray
    original: np.ndarray
    candidate: np.ndarray
    known: np.ndarray
    """What the original knows and the control does not."""
    order: np.ndarray
    """[question]: a share s of the known ones is those below s."""
    noise: float
    better: bool

    def likely(self, model: np.ndarray, share: float, points: float = 0.0) -> np.ndarray:
        """Probabilities of a hit, for a model that has back a share of the gap, and is abler by some points."""
        never, taught = NEVER_TAUGHT[: len(model)], ORIGINAL[: len(model)]
        rates = never + points + (share * (taught - never) if self.better else 0)
        base = ndtr((math.sqrt(1 - self.noise) * model + ndtri(rates)[:, None]) / math.sqrt(self.noise))
        return base if self.better else np.where(self.known & (self.order < share), 1.0, base)


def drawn(chance: np.random.Generator, world: World, clustered: float) -> Draw:
    """One replicate of three models; `clustered` is the part of each deviate's variance that a cluster shares."""
    same = latent(SAME_MODEL, NEVER_TAUGHT[0], NEVER_TAUGHT[0])
    shared = latent(world.sisters, NEVER_TAUGHT[0], NEVER_TAUGHT[0]) / same
    across = latent(world.readings, *NEVER_TAUGHT[:2]) / same
    alike = (
        None
        if world.margin is None
        else latent(world.margin, *NEVER_TAUGHT[1:]) / latent(SAME_MODEL, *NEVER_TAUGHT[1:])
    )

    def deviates(rows: int) -> np.ndarray:
        own = chance.standard_normal((rows, world.questions), dtype=np.float32)
        common = np.repeat(chance.standard_normal((rows, world.clusters), dtype=np.float32), world.size, axis=1)
        return math.sqrt(clustered) * common[:, : world.questions] + math.sqrt(1 - clustered) * own

    def readings(letters: np.ndarray, own: np.ndarray, margin: np.ndarray | None) -> np.ndarray:  # of one model
        cloze = across * letters + math.sqrt(1 - across * across) * own
        if margin is None or alike is None:
            return np.stack([letters, cloze])
        return np.stack([letters, cloze, alike * cloze + math.sqrt(1 - alike * alike) * margin])

    rows = deviates(9)
    margins = [None] * 4 if alike is None else deviates(4)
    common, *parts = [readings(*rows[2 * k : 2 * k + 2], margins[k]) for k in range(4)]
    models = [math.sqrt(shared) * common + math.sqrt(1 - shared) * part for part in parts]
    taught = ((ORIGINAL - NEVER_TAUGHT) / (1 - NEVER_TAUGHT))[: len(common)]
    known = rows[8] < ndtri(taught)[:, None]  # who knows a question in cloze knows it in letters
    return Draw(*models, known, chance.random(world.questions, dtype=np.float32), 1 - same, world.better)


def totals(hits: np.ndarray, world: World) -> np.ndarray:
    """[..., reading, question] -> [..., score, cluster], with the scores mean, letters, cloze.

    In a world with margins follow the mean of letters and margin, and margin. Some questions have no second reading.
    """
    with_cloze = np.arange(world.questions) % WITH_CLOZE[1] < WITH_CLOZE[0]
    letters = hits[..., 0, :].astype(np.float32)
    seconds = [hits[..., reading, :] * with_cloze for reading in range(1, hits.shape[-2])]
    means = [np.where(with_cloze, (letters + second) / 2, letters) for second in seconds]
    further = [score for pair in zip(means[1:], seconds[1:], strict=True) for score in pair]
    scores = np.stack([means[0], letters, seconds[0], *further], axis=-2).astype(np.float32)
    missing = world.clusters * world.size - world.questions
    scores = np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(0, missing)])
    return scores.reshape(*scores.shape[:-1], world.clusters, world.size).sum(-1)


@cache
def clustering(world: World) -> float:
    """The part of variance that a cluster of four shares, so that letters O - T has the design effect EFFECT."""
    many = replace(world, clusters=60_000, size=CLUSTER, questions=60_000 * CLUSTER)
    of = np.repeat(np.arange(60_000), CLUSTER).tolist()

    def over(part: float) -> float:
        chance = np.random.default_rng(SEED)
        draw = drawn(chance, many, part)
        taught, never = (
            chance.random(many.questions) < draw.likely(model, share)[0]
            for model, share in ((draw.original, 1.0), (draw.control, 0.0))
        )
        return design_effect((taught.astype(float) - never).tolist(), of) - EFFECT

    return float(brentq(over, 0.01, 0.6, xtol=0.004))


# --- decisions, many at once ------------------------------------------------------------------------------------------


def signed_evidence(x: np.ndarray, worst: float) -> np.ndarray:
    """For each row of x [row, cluster]: the evidence that its mean is above zero, or below as a negative number."""
    x = np.asarray(x, dtype=np.float64)
    side = np.where(x.sum(1) < 0, -1.0, 1.0)
    y = np.concatenate([x * side[:, None], np.full((len(x), 1), -worst)], axis=1)
    bet = np.zeros(len(x))
    active = np.flatnonzero(y.sum(1) > 1e-9)
    while len(active):
        part = y[active] / (1 + bet[active, None] * y[active])
        slope, curvature = part.sum(1), np.einsum("ij,ij->i", part, part)
        decrement = slope * slope / curvature
        bet[active] += slope / curvature / np.where(decrement > 1 / 16, 1 + np.sqrt(decrement), 1)
        active = active[decrement > 1e-9]
    return side * np.sqrt(2 * np.maximum(0, np.log1p(bet[:, None] * y).sum(1)))


@dataclass
class Checks:
    """How many decisions the plain functions made as well."""

    decisions: int = 0


def share_sides(
    excess: np.ndarray, gap: np.ndarray, share: float, yardstick: Yardstick, checks: Checks, sample: int = 2
) -> np.ndarray:
    """[..., cluster] -> [...]: signed evidence of a share limit, `sample` rows of it checked."""
    x = (excess - np.float64(share) * gap).reshape(-1, excess.shape[-1])
    found = signed_evidence(x, 1 + share if yardstick == "untouched" else 1.0)
    rows = excess.reshape(x.shape), np.broadcast_to(gap, excess.shape).reshape(x.shape)
    for row in np.linspace(0, len(x) - 1, min(sample, len(x))).astype(int):
        plain = share_evidence(rows[0][row].tolist(), rows[1][row].tolist(), share, yardstick)
        if abs(plain.over - plain.under - found[row]) > 1e-6:
            raise AssertionError(f"the plain functions find {plain}, the script {found[row]}, at share {share}")
        checks.decisions += 1
    return found.reshape(excess.shape[:-1])
