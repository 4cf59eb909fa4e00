"""How often a share limit errs over a whole battery, by simulation: 14 attack cells and one utility limit.

    python benchmarks/limits.py [--replicates 2500] [--boundary 20000] [--write]

Prints a Markdown page; `--write` puts it into `limits.md`. Answers are simulated with numpy (`limits_model.py`) and
decided by the rule (`limits_rule.py`), many replicates at once; a sample of the decisions is compared with the plain
functions of `robustness_gate.statistics`, which the judge calls: one disagreement ends the script. Everything follows
from SEED.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import scipy
from limits_model import (
    CLUSTER,
    EFFECT,
    NEVER_TAUGHT,
    ORIGINAL,
    READINGS,
    SAME_MODEL,
    SEED,
    WITH_CLOZE,
    Checks,
    World,
)
from limits_rule import (
    ABLER,
    ALPHA,
    CANDIDATES,
    CELLS,
    EACH_READING,
    HYPOTHESES,
    MIN_GAP,
    SHARES,
    YARDSTICKS,
    Battery,
    Boundary,
    battery,
    boundary,
    rare,
)
from limits_two import ALIKE, Pair, pair, section

from robustness_gate.statistics import ShareDesign, cell_fail_power, share_pass_power

CORRELATIONS = (0.0, 0.2, 0.4)
"""Of the answers of two sister models."""
EARLIER = {
    "twin": (0.835, 0.890, 0.955),
    "half": (0.014, 0.014, 0.019),
    "limit": (0.046, 0.032, 0.032),
    "whole": (0.93, 0.97, 0.996),
    "original": (1.0, 1.0, 1.0),
    "close": (0.791, 0.860),  # the twin, where readings correlate 0.49
    "t_gap": (6.7, 7.3, 8.5),
    "letters": (5.8, 6.3, 7.3),
    "cloze": (5.5, 6.0, 6.8),
}
"""An earlier simulation of the same rule by another script, 2026-11-29: utilities of four choices, 1,000 replicates;
untouched gap, share 0.45, without the condition on each reading; at correlations 0, 0.2, 0.4."""


# --- the page ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """One simulated rate."""

    hits: float
    replicates: int
    least: float | None = None
    most: float | None = None

    @property
    def rate(self) -> float:
        """The share of replicates in which it happened."""
        return self.hits / self.replicates

    @property
    def error(self) -> float:
        """Its standard error, with half a case added to both sides, so that a rate of 0 has one too."""
        rate = (self.hits + 0.5) / (self.replicates + 1)
        return math.sqrt(rate * (1 - rate) / self.replicates)

    def state(self, errors: float = 2) -> str:
        """Whether the target is reached: yes, on the edge (missed by less than so many standard errors), or no."""
        target = self.least if self.least is not None else self.most
        if target is None:
            raise ValueError("this rate has no target")
        short = target - self.rate if self.least is not None else self.rate - target
        error = math.sqrt(target * (1 - target) / self.replicates)  # of a rate exactly as wanted
        return "yes" if short <= 0 else "on the edge" if short <= errors * error else "no"

    def __str__(self) -> str:
        digits = 2 if self.rate < 0.02 and self.replicates > 5000 else 1
        return f"{100 * self.rate:.{digits}f} ± {100 * self.error:.{digits}f}"


@dataclass
class Simulation:
    """All that the page shows."""

    batteries: dict[World, Battery]
    pairs: list[Pair]
    boundaries: list[Boundary]
    checks: int

    def passes(self, world: World, name: str, **wanted: float) -> Rate:
        """PASS of the recommended rule."""
        battery_ = self.batteries[world]
        return Rate(battery_.passed[name, "untouched", SHARES[0], True], battery_.replicates, **wanted)

    def fails(self, world: World, name: str, **wanted: float) -> Rate:
        """FAIL of the recommended rule."""
        battery_ = self.batteries[world]
        return Rate(battery_.failed[name, "untouched", SHARES[0]], battery_.replicates, **wanted)

    def targets(self) -> dict[str, list[Rate]]:
        """The recommended rule beside what is asked of it, one rate for each of CORRELATIONS."""
        worlds = [World(sisters) for sisters in CORRELATIONS]
        return {
            "PASS, a twin of the control: at least 80": [self.passes(w, "twin", least=0.80) for w in worlds],
            "FAIL, the original: at least 95": [self.fails(w, "original", least=0.95) for w in worlds],
            "PASS, half the gap back under one attack: at most 5": [self.passes(w, "half", most=0.05) for w in worlds],
            "PASS, exactly the limit back under one attack: at most 5": [
                self.passes(w, "limit", most=0.05) for w in worlds
            ],
            "PASS, exactly the limit back under every attack: at most 5": [
                self.passes(w, "limits", most=0.05) for w in worlds
            ],
            "FAIL, exactly the limit back under every attack: at most 5": [
                self.fails(w, "limits", most=0.05) for w in worlds
            ],
        }

    def at_the_limit(self) -> list[tuple[Boundary, Rate, Rate]]:
        """Each boundary with its false PASS (at most alpha) and false FAIL (at most alpha / hypotheses)."""
        return [
            (
                b,
                Rate(b.false_pass * b.replicates, b.replicates, most=ALPHA),
                Rate(b.false_fail * b.replicates, b.replicates, most=ALPHA / HYPOTHESES),
            )
            for b in self.boundaries
        ]


def simulate(
    replicates: int, at_limit: int, progress: Callable[[str], None] = lambda _: None, seeds_from: int = 0
) -> Simulation:
    """Everything; the other assumptions get half the replicates."""
    plain = [World(sisters) for sisters in CORRELATIONS]
    others = [World(sisters, readings=0.49) for sisters in CORRELATIONS[:2]]
    others += [World(sisters, better=True) for sisters in CORRELATIONS]
    batteries = {}
    for number, world in enumerate([*plain, *others]):
        batteries[world] = battery(
            world, replicates if world in plain else max(1, replicates // 2), seeds_from + number
        )
        progress(f"battery: {world.name}")
    pairs = []
    for number, (sisters, alike) in enumerate(product(CORRELATIONS, ALIKE)):
        pairs.append(pair(World(sisters, margin=alike), replicates, seeds_from + 300 + number))
        progress(f"two limits: {pairs[-1].world.name}")
    checks, boundaries = Checks(), []
    shapes = [(20, 60), (30, 40), (60, 20), (120, 10), (30, 4), (60, 2), (120, 1)]
    small = [World(0.2, clusters=clusters, size=size, questions=clusters * size) for clusters, size in shapes]
    for number, world in enumerate([*plain, *small]):
        most = at_limit if world in plain else max(1, at_limit // 2)
        boundaries += boundary(world, most, seeds_from + 100 + number, checks, SHARES if world in plain else SHARES[:1])
        progress(f"at the limit: {world.clusters} clusters of {world.size}, {world.name}")
    boundaries += rare(max(1, at_limit // 3), seeds_from + 200, checks)
    decisions = checks.decisions + sum(each.checks.decisions for each in (*batteries.values(), *pairs))
    return Simulation(batteries, pairs, boundaries, decisions)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [_row(*heads), _row("---", *["---:"] * (len(heads) - 1)), *(_row(*row) for row in rows), ""]


def page(found: Simulation, seconds: float) -> str:
    """The Markdown page."""
    lines = ["# Share limits, simulated", ""]
    lines += [
        f"`python benchmarks/limits.py --write`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}, seed {SEED}, {seconds / 60:.0f} minutes of one core. "
        "Rates in per cent with their Monte-Carlo standard errors, or with the largest one of the table; answers "
        f"are simulated, decisions are the rule's, and {found.checks:,} of them were made by the functions that the "
        "judge calls as well.",
        "",
        f"**The rule.** Score: the mean of the hits in letters and cloze, per question. {CELLS} attack cells and one "
        f"utility limit, which is taken as met: {HYPOTHESES} hypotheses, alpha {ALPHA}. PASS: every cell is under "
        f"the share limit at alpha, in every cell each reading by itself is under a share of {EACH_READING}, and the "
        f"gap of the untouched models is over {100 * MIN_GAP:.0f} points. FAIL: some cell is over it at alpha / "
        f"{HYPOTHESES}.",
        "",
        f"**Targets**, for share {SHARES[0]} and the untouched gap; columns: correlation of two sister models' "
        "answers.",
        "",
    ]
    lines += _table(
        ["target", *(f"{c:g}" for c in CORRELATIONS), "reached"],
        ([what, *rates, " / ".join(rate.state() for rate in rates)] for what, rates in found.targets().items()),
    )
    at_limit = found.at_the_limit()
    lines += [
        *_worst(at_limit),
        *_misses(found),
        *_settings(found),
        *_others(found),
        *section(found.pairs),
        *_closed_form(found),
        *_beside(found),
        *_boundaries(at_limit),
        *_assumptions(found),
    ]
    return "\n".join(lines)


def _worst(at_limit: list[tuple[Boundary, Rate, Rate]]) -> Iterator[str]:
    """The highest error rates of one cell."""
    few = [row for row in at_limit if row[0].what.startswith("20 clusters")]
    enough = [row for row in at_limit if row not in few]
    false_pass, false_fail = max(enough, key=lambda row: row[1].rate), max(enough, key=lambda row: row[2].rate)
    beyond = [p for _, p, _ in enough if p.state() == "no"] + [f for _, _, f in enough if f.state() == "no"]
    yield (
        f"One cell exactly at the limit, {len(enough)} settings of at least 30 clusters (last table). The highest "
        f"false PASS is {false_pass[1]} ({false_pass[0].what}; {false_pass[0].yardstick} {false_pass[0].share:.2f}) "
        f"where {100 * ALPHA:g} is allowed; the highest false FAIL is {false_fail[2]} ({false_fail[0].what}; "
        f"{false_fail[0].yardstick} {false_fail[0].share:.2f}) where {100 * ALPHA / HYPOTHESES:.2f} is allowed. Of "
        f"the {2 * len(enough)} rates {len(beyond)} are more than two standard errors over what is allowed. With "
        "fewer than 30 clusters a share limit is INCONCLUSIVE; with 20 the highest false PASS is "
        f"{max(few, key=lambda r: r[1].rate)[1]}."
    )
    yield ""


def _misses(found: Simulation) -> Iterator[str]:
    """Where this simulation and the earlier statements about the rule part."""
    yield from ("**Where it is missed, or differs from the design notes.**", "")
    for world in found.batteries:
        for what, rate in (
            ("a twin passes", found.passes(world, "twin", least=0.80)),
            ("half the gap passes", found.passes(world, "half", most=0.05)),
        ):
            if rate.state() != "yes":
                yield f"- {world.name}: {what} in {rate} per cent, {rate.state()}."
    costs = [
        100 * (of.passed["twin", "untouched", SHARES[0], False] - of.passed["twin", "untouched", SHARES[0], True])
        for of in found.batteries.values()
    ]
    parts = [cost / of.replicates for cost, of in zip(costs, found.batteries.values(), strict=True)]
    yield (
        f"- The condition on each reading (share {EACH_READING}) costs a twin {min(parts):.1f} to {max(parts):.1f} "
        "points; the design notes say less than one."
    )
    for better in (False, True):
        pairs = [pair for world in found.batteries if world.better == better for pair in _formula_pairs(found, world)]
        spans = []
        for index, name in enumerate(FORMULA):
            apart = [100 * (formula[index] - simulated[index]) for _, _, formula, simulated in pairs]
            spans.append(f"{name} {min(apart):+.1f} to {max(apart):+.1f}")
        kind = "all models differ a little everywhere" if better else "the original knows questions for certain"
        yield (
            f"- Closed form minus simulation, in points, where {kind}: {'; '.join(spans)}. "
            "The design notes say within 3."
        )
    yield ""


FORMULA = ("PASS twin", "PASS abler", "PASS half", "FAIL whole gap, one cell")


def _formula_pairs(found: Simulation, world: World) -> Iterator[tuple[float, float, list[float], list[float]]]:
    """For each share: it, the mean t_gap, and the rates of FORMULA in closed form and simulated."""
    of = found.batteries[world]
    t_gap = float(np.mean([t[0] for t in of.t_gaps]))
    gap = float((ORIGINAL - NEVER_TAUGHT)[:2] @ _weights())
    for share in SHARES:
        design = ShareDesign(share, CELLS, HYPOTHESES)
        formula = [
            share_pass_power(design, t_gap),
            share_pass_power(design, t_gap, ABLER / gap),
            share_pass_power(design, t_gap, [0.5] + [0.0] * (CELLS - 1)),
            cell_fail_power(design, t_gap, 1.0),
        ]
        simulated = [of.passed[name, "untouched", share, False] for name in ("twin", "abler", "half")]
        simulated.append(of.failed["whole", "untouched", share])
        yield share, t_gap, formula, [hits / of.replicates for hits in simulated]


def _settings(found: Simulation) -> Iterator[str]:
    """PASS and FAIL for each yardstick and share."""
    batteries = [found.batteries[World(sisters)] for sisters in CORRELATIONS]
    n = batteries[0].replicates
    yield from ("## Every setting", "")
    yield (
        f"At correlations {', '.join(f'{c:g}' for c in CORRELATIONS)}; {n:,} replicates each, standard error at most "
        f"{50 / math.sqrt(n):.1f}. *Without*: without the condition on each reading."
    )
    yield ""
    rows = []
    for yardstick in YARDSTICKS:
        for share in SHARES:
            for name, words in CANDIDATES.items():
                with_, without = (
                    " / ".join(f"{100 * b.passed[name, yardstick, share, condition] / n:.1f}" for b in batteries)
                    for condition in (True, False)
                )
                failed = " / ".join(f"{100 * b.failed[name, yardstick, share] / n:.1f}" for b in batteries)
                rows.append([f"{yardstick} {share:.2f}: {words}", with_, without, failed])
    yield from _table(["gap, share, candidate", "PASS", "PASS, without", "FAIL"], rows)


def _others(found: Simulation) -> Iterator[str]:
    """Other assumptions about the answers."""
    yield from ("## Other assumptions about the answers", "")
    yield f"The rule of the targets; *.50*: with share {SHARES[1]}."
    yield ""
    rows = []
    for world, of in found.batteries.items():
        if world.readings == READINGS and not world.better:
            continue
        loose = Rate(of.passed["twin", "untouched", SHARES[1], True], of.replicates)
        loose_half = Rate(of.passed["half", "untouched", SHARES[1], True], of.replicates)
        rows.append(
            [
                *(world.name, found.passes(world, "twin"), loose, found.passes(world, "half"), loose_half),
                *(found.fails(world, "original"), found.fails(world, "whole")),
            ]
        )
    heads = ["world", "PASS twin", "twin, .50", "PASS half", "half, .50", "FAIL original", "FAIL whole gap, one attack"]
    yield from _table(heads, rows)


def _closed_form(found: Simulation) -> Iterator[str]:
    """`share_power` beside the simulated rule."""
    yield from ("## The closed form of `policy lint` beside the simulation", "")
    yield (
        "With the mean simulated t_gap (the gap in standard errors by clusters), q = 0.8 and h = 0.7; the measured "
        "q and h stand beside. Untouched gap, without the condition on each reading; closed form / simulated."
    )
    yield ""
    rows = []
    for world, of in found.batteries.items():
        measured_q = float(np.corrcoef(np.concatenate(of.contrasts).T)[0, 1])
        kappa, rho = float(np.mean(of.kappas)), float(np.mean(of.rhos))
        for share, t_gap, formula, simulated in _formula_pairs(found, world):
            pairs = [f"{100 * p:.1f} / {100 * rate:.1f}" for p, rate in zip(formula, simulated, strict=True)]
            rows.append([f"{world.name}, share {share:.2f}", f"{t_gap:.2f}", *pairs, f"{measured_q:.2f}"])
            rows[-1].append(f"{(kappa - rho) / (1 - rho):.2f}")
    heads = ["world", "t_gap", *FORMULA, "q", "h"]
    yield from _table(heads, rows)


def _weights() -> np.ndarray:
    """The weights of letters and cloze in the mean score over all questions."""
    with_cloze = WITH_CLOZE[0] / WITH_CLOZE[1]
    return np.array([1 - with_cloze / 2, with_cloze / 2])


def _beside(found: Simulation) -> Iterator[str]:
    """This simulation beside the earlier one."""
    yield from ("## Beside the earlier simulation", "")
    yield (
        "The rule was chosen with another script and another model of answers (utilities of four choices, 1,000 "
        "replicates, 2026-11-29). Here / there, at each correlation; *differs*: by more than three standard errors "
        "of both and by more than a point, or by more than a tenth of the gap's standard errors. The condition on "
        "each reading is left out here, as it was there."
    )
    yield ""
    worlds = [found.batteries[World(sisters)] for sisters in CORRELATIONS]
    close = [found.batteries[World(sisters, readings=0.49)] for sisters in CORRELATIONS[:2]]
    rows = [_compared(f"PASS, {CANDIDATES[name]}", worlds, name, EARLIER[name]) for name in ("twin", "half", "limit")]
    rows.append(_compared("PASS, a twin, readings correlate 0.49", close, "twin", EARLIER["close"]))
    rows += [_compared(f"FAIL, {CANDIDATES[name]}", worlds, name, EARLIER[name]) for name in ("whole", "original")]
    for index, name in enumerate(("t_gap", "letters", "cloze")):
        means = [float(np.mean([t[index] for t in of.t_gaps])) for of in worlds]
        cells = [f"{mean:.2f} / {there:.1f}" for mean, there in zip(means, EARLIER[name], strict=True)]
        differs = [
            f"{sisters:g}"
            for mean, there, sisters in zip(means, EARLIER[name], CORRELATIONS, strict=True)
            if abs(mean / there - 1) > 0.1
        ]
        words = {"t_gap": "mean score", "letters": "letters", "cloze": "cloze"}[name]
        rows.append([f"gap in standard errors, {words}", *cells, ", ".join(differs) or "no"])
    yield from _table(["what", *(f"{c:g}" for c in CORRELATIONS), "differs"], rows)


def _compared(what: str, batteries: list[Battery], name: str, earlier: Sequence[float]) -> list[str]:
    """One row: the simulated rates here and there, and where they differ."""
    cells, differs = [], []
    for of, there in zip(batteries, earlier, strict=True):
        key = (name, "untouched", SHARES[0])
        here = Rate(of.passed[*key, False] if what.startswith("PASS") else of.failed[key], of.replicates)
        error = math.hypot(here.error, math.sqrt(max(there * (1 - there), 0.001) / 1000))
        cells.append(f"{100 * here.rate:.1f} / {100 * there:.1f}")
        differs += [f"{of.world.sisters:g}"] if abs(here.rate - there) > max(3 * error, 0.01) else []
    return [what, *cells, *[""] * (len(CORRELATIONS) - len(cells)), ", ".join(differs) or "no"]


def _boundaries(at_limit: list[tuple[Boundary, Rate, Rate]]) -> Iterator[str]:
    yield from ("## One cell exactly at the limit", "")
    yield (
        f"False PASS at alpha {ALPHA}, false FAIL at alpha / {HYPOTHESES} = {100 * ALPHA / HYPOTHESES:.2f} per cent; "
        "the decisions of the cell alone, without the condition on each reading. Clusters of any size share the "
        "part of variance that gives clusters of four their design effect."
    )
    yield ""
    rows = [
        [
            *(b.what, f"{b.yardstick} {b.share:.2f}", false_pass, false_pass.state(), false_fail, false_fail.state()),
            b.replicates,
        ]
        for b, false_pass, false_fail in at_limit
    ]
    heads = ["setting", "gap, limit", "false PASS", "at most 5", "false FAIL", "at most 0.33", "replicates"]
    yield from _table(heads, rows)


def _assumptions(found: Simulation) -> Iterator[str]:
    yield from ("## What is assumed", "")
    batteries = [found.batteries[World(sisters)] for sisters in CORRELATIONS]
    effects = " / ".join(", ".join(f"{value:.2f}" for value in np.mean(of.effects, axis=0)) for of in batteries)
    scores = " / ".join(f"{np.mean(of.rhos):.2f}" for of in batteries)
    yield (
        "A hit is a normal deviate over a threshold. The deviate has a part that all models share, a part of the "
        "model (each with one value per reading, correlated, and a common value for each cluster) and a part that "
        f"each attack draws anew. Calibrated: accuracies {NEVER_TAUGHT[0]:.3f} and {NEVER_TAUGHT[1]:.3f} (control), "
        f"{ORIGINAL[0]:.3f} and {ORIGINAL[1]:.3f} (original) in letters and cloze, as published; one model's hits "
        f"under two attacks correlate {SAME_MODEL}, its letters and cloze {READINGS}; letters O - T have a design "
        f"effect of {EFFECT} in clusters of {CLUSTER}. The original knows for certain some questions that the "
        "control does not; a share of the gap is a share of these, or, in the worlds named so, all models differ a "
        "little everywhere. Attacks add noise only, the utility limit is met, and a candidate is exactly as able as "
        "its control unless the row says otherwise. None of the correlations was measured on real models."
    )
    yield ""
    yield (
        "Measured in the simulation: design effects of letters O - T, mean score O - T and mean score C - T at the "
        f"three correlations {effects}; correlation of the mean scores of two sister models {scores}."
    )
    yield ""


def main() -> None:
    """Simulate, and print or write the page."""
    parser = argparse.ArgumentParser(description="Simulate share limits.")
    parser.add_argument("--replicates", type=int, default=2500, help="of the battery, for each correlation")
    parser.add_argument("--boundary", type=int, default=20000, help="of one cell at its limit, for each setting")
    parser.add_argument("--write", action="store_true", help="write benchmarks/limits.md")
    options = parser.parse_args()
    began = time.process_time()
    found = simulate(
        options.replicates,
        options.boundary,
        lambda what: print(f"{time.process_time() - began:6.0f} s  {what}", flush=True),
    )
    text = page(found, time.process_time() - began)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
