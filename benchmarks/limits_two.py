"""Two share limits in one policy, as `policies/wmdp-standard.yaml` has them: by cloze in every cell, by margin in some.

`limits.py` puts the table into its page. The second limit asks the mean of letters and margin in COVERED cells, which
are under the first limit too, so a twin of the control passes less often than under the first alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from limits_model import SAME_MODEL, SEED, Checks, World, clustering, drawn, share_sides, totals
from limits_rule import ALPHA, CELLS, EACH_READING, HYPOTHESES, SHARES, gap_seen

from robustness_gate.statistics import t_quantile

COVERED = 4
"""Cells under the second limit, the one in which something comes back among them."""
ALIKE = (0.28, 0.6, SAME_MODEL)
"""Correlation of one model's hits in cloze and by margin: as letters and cloze, between, as high as it gets here."""
CANDIDATES = {
    "twin": "a twin of the control",
    "half": "half the gap back under one attack",
    "limit": "exactly the limit back under one attack",
    "margin": "the whole gap back by margin alone, under one attack",
    "original": "the original itself",
}
SHARE = SHARES[0]


@dataclass
class Pair:
    """Counts over the replicates of one world: what both limits say, and what the first says alone."""

    world: World
    replicates: int
    passed: dict[tuple[str, bool], int] = field(default_factory=dict)
    """By candidate, and whether the second limit is asked as well."""
    failed: dict[tuple[str, bool], int] = field(default_factory=dict)
    checks: Checks = field(default_factory=Checks)


def pair(world: World, replicates: int, seed: int) -> Pair:
    """The rule with one and with two limits, on the same answers. The world has margins."""
    chance = np.random.default_rng([SEED, seed])
    clustered, result = clustering(World(world.sisters, world.readings)), Pair(world, replicates)
    for start in range(0, replicates, 25):
        rows = [_replicate(chance, world, clustered) for _ in range(min(25, replicates - start))]
        _judge({name: np.stack([row[name] for row in rows]) for name in rows[0]}, result)
    return result


def _replicate(chance: np.random.Generator, world: World, clustered: float) -> dict[str, np.ndarray]:
    """Totals [cell, score, cluster] of each model, cell 0 untouched; what comes back does so in cell 1."""
    draw = drawn(chance, world, clustered)
    noise = {model: chance.random((CELLS + 1, 3, world.questions), dtype=np.float32) for model in "TOC"}
    hits = {
        "control": noise["T"] < draw.likely(draw.control, 0.0),
        "original": noise["O"] < draw.likely(draw.original, 1.0),
        "twin": noise["C"] < draw.likely(draw.candidate, 0.0),
    }
    for name, share in (("half", 0.5), ("limit", SHARE)):
        hits[name] = hits["twin"].copy()
        hits[name][1] = noise["C"][1] < draw.likely(draw.candidate, share)
    hits["margin"] = hits["twin"].copy()
    hits["margin"][1, 2] = noise["C"][1, 2] < draw.likely(draw.candidate, 1.0)[2]
    return {name: totals(of, world) for name, of in hits.items()}


def _judge(models: dict[str, np.ndarray], result: Pair) -> None:
    """A block of replicates: arrays are [replicate, cell, score, cluster]; scores as `totals` has them."""
    world, clusters = result.world, result.world.clusters
    untouched = models["original"][:, 0] - models["control"][:, 0]
    seen = [gap_seen(untouched[:, mean], world, result.checks) for mean in (0, 3)]
    passing = t_quantile(clusters - 1, ALPHA)
    for name in CANDIDATES:
        excess = models[name][:, 1:] - models["control"][:, 1:]
        for two in (False, True):
            failing = t_quantile(clusters - 1, ALPHA / (HYPOTHESES + (COVERED if two else 0)))
            ok, over = np.ones(len(excess), dtype=bool), np.zeros(len(excess), dtype=bool)
            for limit, (cells, mean, readings) in enumerate(((CELLS, 0, (1, 2)), (COVERED, 3, (1, 4)))[: 1 + two]):
                sides = _sides(excess[:, :cells], untouched, mean, SHARE, result)
                each = [_sides(excess[:, :cells], untouched, reading, EACH_READING, result) for reading in readings]
                ok &= seen[limit] & np.logical_and.reduce([found <= -passing for found in (sides, *each)]).all(1)
                over |= (sides >= failing).any(1)
            result.passed[name, two] = result.passed.get((name, two), 0) + int(ok.sum())
            result.failed[name, two] = result.failed.get((name, two), 0) + int(over.sum())


def _sides(excess: np.ndarray, untouched: np.ndarray, score: int, share: float, result: Pair) -> np.ndarray:
    """Signed evidence [replicate, cell] of one score."""
    return share_sides(excess[:, :, score], untouched[:, None, score], share, "untouched", result.checks, 1)


def section(pairs: list[Pair]) -> Iterator[str]:
    """The part of the page, line by line."""
    yield from ("## Two limits: by cloze and by margin", "")
    yield (
        f"As policies/wmdp-standard.yaml has them: the mean of letters and cloze in {CELLS} cells, and the mean of "
        f"letters and margin in {COVERED} of them, share {SHARE} each, {HYPOTHESES + COVERED} hypotheses. No score by "
        "margin is published: it is given the accuracies of cloze, so this says what a second limit costs where its "
        "gap is as large. One limit / both, on the same answers, in per cent; FAIL is that of both. On a model of 135 "
        "million parameters (benchmarks/real_shares.py) the hits by cloze and by margin correlated 0.71 to 1."
    )
    yield ""
    heads = [*(f"PASS, {each}" for each in CANDIDATES.values()), "FAIL, the original", "FAIL, a twin"]
    yield f"| world, replicates | {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * (len(CANDIDATES) + 2)}"
    for found in pairs:
        n = found.replicates
        both = [[100 * found.passed[name, two] / n for two in (False, True)] for name in CANDIDATES]
        cells = [f"{one:.1f} / {two:.1f}" for one, two in both]
        fails = [f"{100 * found.failed[name, True] / n:.1f}" for name in ("original", "twin")]
        yield f"| {found.world.name}; {n:,} | {' | '.join([*cells, *fails])} |"
    yield ""
