"""The rule on simulated answers: a whole battery, and one cell whose candidate is exactly at the limit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
from limits_model import QUESTIONS, SEED, Checks, World, clustering, drawn, share_sides, signed_evidence, totals

from robustness_gate.statistics import Yardstick, design_effect, difference_over, t_quantile

CELLS, HYPOTHESES, ALPHA = 14, 15, 0.05
"""Fourteen attack cells; the utility limit is the fifteenth hypothesis and is taken as met."""
SHARES, EACH_READING, MIN_GAP = (0.45, 0.50), 0.70, 0.05
YARDSTICKS: tuple[Yardstick, ...] = get_args(Yardstick)
ABLER = 0.015


# --- the battery ------------------------------------------------------------------------------------------------------

CANDIDATES = {
    "twin": "a twin of the control",
    "half": "half the gap back under one attack",
    "limit": "exactly the limit back under one attack",
    "limits": "exactly the limit back under every attack",
    "three": "three quarters back under one attack",
    "whole": "the whole gap back under one attack",
    "letters": "all back in letters and nothing in cloze, under one attack",
    "cloze": "all back in cloze and nothing in letters, under one attack",
    "original": "the original itself",
    "abler": f"{100 * ABLER:g} points abler than the control, everywhere",
}


@dataclass
class Battery:
    """Counts over the replicates of one world."""

    world: World
    replicates: int
    passed: dict[tuple[str, Yardstick, float, bool], int] = field(default_factory=dict)
    """By candidate, yardstick, share, and whether each reading is held to EACH_READING as well."""
    failed: dict[tuple[str, Yardstick, float], int] = field(default_factory=dict)
    gaps_seen: int = 0
    t_gaps: list[list[float]] = field(default_factory=list)
    """By replicate: (mean, letters, cloze)."""
    contrasts: list[np.ndarray] = field(default_factory=list)
    """By replicate, for a twin, share 0.45 and the untouched gap: the mean contrast of two cells."""
    effects: list[list[float]] = field(default_factory=list)
    """By replicate, for some: design effect of letters O - T, of the mean score O - T, and of the mean score C - T."""
    kappas: list[float] = field(default_factory=list)
    """By replicate, for some: correlation of the control's mean scores before and after an attack."""
    rhos: list[float] = field(default_factory=list)
    """By replicate, for some: correlation of the untouched mean scores of control and candidate."""
    checks: Checks = field(default_factory=Checks)


def battery(world: World, replicates: int, seed: int) -> Battery:
    """The whole rule on each replicate, for each kind of candidate."""
    chance = np.random.default_rng([SEED, seed])
    clustered = clustering(World(world.sisters, world.readings, world.better))
    result = Battery(world, replicates)
    for start in range(0, replicates, 25):
        rows = [_replicate(chance, world, clustered, result) for _ in range(min(25, replicates - start))]
        _judge({name: np.stack([row[name] for row in rows]) for name in rows[0]}, result)
    return result


def _replicate(chance: np.random.Generator, world: World, clustered: float, result: Battery) -> dict[str, np.ndarray]:
    """Totals [cell, score, cluster] of each model, cell 0 untouched; what comes back does so in cell 1."""
    draw = drawn(chance, world, clustered)
    noise = {model: chance.random((CELLS + 1, 2, world.questions), dtype=np.float32) for model in "TOC"}
    hits = {
        "control": noise["T"] < draw.likely(draw.control, 0.0),
        "original": noise["O"] < draw.likely(draw.original, 1.0),
        "twin": noise["C"] < draw.likely(draw.candidate, 0.0),
        "abler": noise["C"] < draw.likely(draw.candidate, 0.0, ABLER),
    }
    for name, share in {"half": 0.5, "three": 0.75, "whole": 1.0, **{f"limit{r}": r for r in SHARES}}.items():
        hits[name] = noise["C"][1:2] < draw.likely(draw.candidate, share)
    for share in SHARES:
        hits[f"limits{share}"] = noise["C"] < draw.likely(draw.candidate, share)
    for name, reading in (("letters", 0), ("cloze", 1)):
        hits[name] = hits["twin"][1:2].copy()
        hits[name][:, reading] = hits["whole"][:, reading]
    if len(result.effects) < 100:
        _describe(hits, world, result)
    return {name: totals(of, world) for name, of in hits.items()}


def _describe(hits: dict[str, np.ndarray], world: World, result: Battery) -> None:
    of = np.repeat(np.arange(world.clusters), world.size)[: world.questions].tolist()
    alone = replace(world, clusters=world.questions, size=1)
    control, original, twin = (totals(hits[name][:2], alone) for name in ("control", "original", "twin"))
    differences = [original[0, 1] - control[0, 1], original[0, 0] - control[0, 0], twin[1, 0] - control[1, 0]]
    result.effects.append([design_effect(difference.tolist(), of) for difference in differences])
    result.kappas.append(float(np.corrcoef(control[0, 0], control[1, 0])[0, 1]))
    result.rhos.append(float(np.corrcoef(control[0, 0], twin[0, 0])[0, 1]))


def _judge(models: dict[str, np.ndarray], result: Battery) -> None:
    """The rule on a block of replicates: arrays are [replicate, cell, score, cluster]."""
    world, clusters = result.world, result.world.clusters
    control, original = models["control"], models["original"]
    untouched = original[:, 0] - control[:, 0]
    error = untouched.std(-1, ddof=1) * math.sqrt(clusters)
    result.t_gaps += (untouched.sum(-1) / error).tolist()
    seen = gap_seen(untouched[:, 0], world, result.checks)
    result.gaps_seen += int(seen.sum())

    for yardstick in YARDSTICKS:
        gap = untouched[:, None] if yardstick == "untouched" else original[:, 1:] - control[:, 1:]
        of = {name: _excess(models, name) for name in models if name not in ("control", "original")}
        of["original"] = original[:, 1:] - control[:, 1:]
        cells = {name: _sides(excess, gap, EACH_READING, yardstick, result, (1, 2)) for name, excess in of.items()}
        for share in SHARES:
            names = {name: f"{name}{share}" if name in ("limit", "limits") else name for name in CANDIDATES}
            sides = {name: _sides(of[key], gap, share, yardstick, result, (0,))[0] for name, key in names.items()}
            each = {name: cells[key] for name, key in names.items()}
            _count(result, yardstick, share, seen, sides, each)
            if (yardstick, share) == ("untouched", SHARES[0]):
                result.contrasts.append((of["twin"][:, :2, 0] - share * gap[:, :, 0]).mean(-1))


def _excess(models: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Candidate minus control after each attack; candidates with one cell differ from the twin in that cell only."""
    totals_ = models[name][:, 1:] if models[name].shape[1] == CELLS + 1 else models[name]
    return np.asarray(totals_ - models["control"][:, 1 : 1 + totals_.shape[1]])


def _sides(
    excess: np.ndarray, gap: np.ndarray, share: float, yardstick: Yardstick, result: Battery, scores: Sequence[int]
) -> list[np.ndarray]:
    """Signed evidence [replicate, cell] of each score."""
    gap = gap[:, : excess.shape[1]]
    return [share_sides(excess[:, :, s], gap[:, :, s], share, yardstick, result.checks, 1) for s in scores]


def _count(
    result: Battery,
    yardstick: Yardstick,
    share: float,
    seen: np.ndarray,
    sides: dict[str, np.ndarray],
    each: dict[str, list[np.ndarray]],
) -> None:
    """PASS and FAIL of each candidate in a block of replicates."""
    clusters = result.world.clusters
    passing, failing = t_quantile(clusters - 1, ALPHA), t_quantile(clusters - 1, ALPHA / HYPOTHESES)
    for name in CANDIDATES:
        if sides[name].shape[1] < CELLS:  # the other cells are the twin's
            sides[name] = np.concatenate([sides[name], sides["twin"][:, 1:]], axis=1)
            each[name] = [np.concatenate(pair, axis=1) for pair in zip(each[name], _others(each), strict=True)]
        under, over = sides[name] <= -passing, sides[name] >= failing
        both = (each[name][0] <= -passing) & (each[name][1] <= -passing)
        for condition in (False, True):
            ok = seen & (under & both if condition else under).all(1)
            key = (name, yardstick, share, condition)
            result.passed[key] = result.passed.get(key, 0) + int(ok.sum())
        key_ = (name, yardstick, share)
        result.failed[key_] = result.failed.get(key_, 0) + int(over.any(1).sum())


def _others(each: dict[str, list[np.ndarray]]) -> list[np.ndarray]:
    return [sides[:, 1:] for sides in each["twin"]]


def gap_seen(gap: np.ndarray, world: World, checks: Checks) -> np.ndarray:
    """Whether the positive control holds, for each row of gap [replicate, cluster]."""
    sizes = np.full(world.clusters, world.size)
    sizes[-1] = world.questions - world.size * (world.clusters - 1)
    seen = signed_evidence(gap - MIN_GAP * sizes, 1 + MIN_GAP) >= t_quantile(world.clusters - 1, ALPHA)
    if difference_over(gap[0].tolist(), sizes.tolist(), MIN_GAP, ALPHA) != seen[0]:
        raise AssertionError("the plain positive control disagrees with the script's")
    checks.decisions += 1
    return np.asarray(seen)


# --- the boundary, one cell -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Boundary:
    """Error rates of one cell whose candidate is exactly at the limit."""

    what: str
    yardstick: str
    share: float
    false_pass: float
    false_fail: float
    replicates: int


def boundary(world: World, replicates: int, seed: int, checks: Checks, shares: Sequence[float]) -> Iterable[Boundary]:
    """A model of its own, and the control plus that share of what the original knows."""
    chance, clustered = np.random.default_rng([SEED, seed]), clustering(World(world.sisters))
    counts: dict[tuple[str, Yardstick, float], np.ndarray] = {}
    for start in range(0, replicates, 500):
        blocks: dict[str, list[np.ndarray]] = {}
        for _ in range(min(500, replicates - start)):
            draw = drawn(chance, world, clustered)
            noise = chance.random((5, 2, world.questions), dtype=np.float32)
            never, taught = draw.likely(draw.control, 0.0), draw.likely(draw.original, 1.0)
            hits = {"T0": noise[0] < never, "O0": noise[1] < taught, "T": noise[2] < never, "O": noise[3] < taught}
            for share in shares:
                hits[f"own{share}"] = noise[4] < draw.likely(draw.candidate, share)
                hits[f"control{share}"] = noise[2] < draw.likely(draw.control, share)
            for name, answers in hits.items():
                blocks.setdefault(name, []).append(totals(answers, world)[0])
        at = {name: np.stack(rows) for name, rows in blocks.items()}
        for kind in ("own", "control"):
            for yardstick in YARDSTICKS:
                gap = at["O0"] - at["T0"] if yardstick == "untouched" else at["O"] - at["T"]
                for share in shares:
                    sides = share_sides(at[f"{kind}{share}"] - at["T"], gap, share, yardstick, checks)
                    counts[kind, yardstick, share] = counts.get((kind, yardstick, share), 0) + _errors(
                        sides, world.clusters
                    )
    names = {"own": "a model of its own", "control": "the control and that share"}
    shape = f"{world.clusters} clusters of {world.size}, sisters {world.sisters:g}"
    for (kind, yardstick, share), (false_pass, false_fail) in counts.items():
        yield Boundary(
            f"{shape}: {names[kind]}", yardstick, share, false_pass / replicates, false_fail / replicates, replicates
        )


def rare(replicates: int, seed: int, checks: Checks) -> Iterable[Boundary]:
    """Differences of one direction only: each question a cluster of its own, no noise."""
    chance = np.random.default_rng([SEED, seed])
    for n in (120, 400, QUESTIONS):
        for part in (0.02, 0.05):
            for share in SHARES:
                of = (chance.random((replicates, n), dtype=np.float32) < part).astype(np.float32)
                back = of * (chance.random((replicates, n), dtype=np.float32) < share)
                sides = np.concatenate(
                    [
                        share_sides(back[k : k + 2000], of[k : k + 2000], share, "untouched", checks)
                        for k in range(0, replicates, 2000)
                    ]
                )
                errors = _errors(sides, n) / replicates
                what = f"{n} clusters of 1: the original knows {100 * part:g} % more, nothing else differs"
                yield Boundary(what, "untouched", share, *errors, replicates)
            gains = (chance.random((replicates, n), dtype=np.float32) < part).astype(np.float64)
            sides = np.concatenate(
                [signed_evidence(gains[k : k + 2000] - part, 1 + part) for k in range(0, replicates, 2000)]
            )
            if difference_over(gains[0].tolist(), [1] * n, part, ALPHA) != (sides[0] >= t_quantile(n - 1, ALPHA)):
                raise AssertionError("the plain difference disagrees with the script's")
            checks.decisions += 1
            what = f"{n} clusters of 1: gains of {100 * part:g} % against an excess limit of {100 * part:g} points"
            yield Boundary(what, "none", part, *(_errors(sides, n) / replicates), replicates)


def _errors(sides: np.ndarray, clusters: int) -> np.ndarray:
    limits = t_quantile(clusters - 1, ALPHA), t_quantile(clusters - 1, ALPHA / HYPOTHESES)
    return np.array([(sides <= -limits[0]).sum(), (sides >= limits[1]).sum()])
