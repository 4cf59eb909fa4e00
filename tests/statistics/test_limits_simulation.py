"""Share limits err as seldom as `benchmarks/limits.md` says: its simulation, smaller and with other seeds."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from robustness_gate.statistics import ShareEvidence, likelihood_ratio

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def limits() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("limits")


@pytest.mark.slow
def test_the_targets_are_reached_within_three_standard_errors(limits: Any) -> None:
    found = limits.simulate(300, 3000, seeds_from=1000)
    targets = found.targets()
    assert len(targets) == 6
    states = {what: [rate.state(3) for rate in rates] for what, rates in targets.items()}
    assert {what: of for what, of in states.items() if "no" in of} == {}
    assert found.checks > 1000

    assert len(found.pairs) == 9
    for pair in found.pairs:  # a second limit passes nothing that the first does not, and sees what the first cannot
        n = pair.replicates
        assert all(pair.passed[name, True] <= pair.passed[name, False] for name, _ in pair.passed)
        assert pair.passed["margin", False] > 0.7 * n
        assert pair.passed["margin", True] <= 0.05 * n
        assert pair.failed["original", True] == n
        assert pair.passed["limit", True] <= 0.05 * n + 3 * (0.05 * 0.95 * n) ** 0.5

    boundaries = found.at_the_limit()
    assert len(boundaries) == 70
    enough = [
        (b, p, f) for b, p, f in boundaries if not b.what.startswith("20 clusters")
    ]  # fewer than 30 decide nothing
    # 66 settings, so one or two beyond two standard errors are expected, and none beyond four
    assert [b for b, p, f in enough if "no" in (p.state(4), f.state(4))] == []


@pytest.mark.slow
def test_the_simulation_can_tell_a_rule_that_is_wrong(limits: Any) -> None:
    """Questions taken as independent: too many at the limit pass; and without the added question rare gains do."""
    model, rule = importlib.import_module("limits_model"), importlib.import_module("limits_rule")
    chance, world = np.random.default_rng(5), model.World(0.2, clusters=60, size=20, questions=1200)
    alone = model.World(0.2, clusters=1200, size=1, questions=1200)
    part = model.clustering(model.World(0.2))
    excess, gap = [], []
    for _ in range(800):
        draw = model.drawn(chance, world, part)
        noise = chance.random((4, 2, world.questions), dtype=np.float32)
        control, original = draw.likely(draw.control, 0.0), draw.likely(draw.original, 1.0)
        after, before = (model.totals(noise[k] < control, alone)[0] for k in (0, 1))
        excess.append(model.totals(noise[2] < draw.likely(draw.candidate, 0.45), alone)[0] - after)
        gap.append(model.totals(noise[3] < original, alone)[0] - before)
    sides = model.share_sides(np.stack(excess), np.stack(gap), 0.45, "untouched", model.Checks())
    passed, _ = rule._errors(sides, world.questions) / 800
    assert passed > 0.1

    gains = (chance.random((4000, 120)) < 0.02).astype(float)
    almost_none = model.signed_evidence(gains - 0.02, 1e-6)
    wrongly, _ = rule._errors(almost_none, 120) / 4000
    right, _ = rule._errors(model.signed_evidence(gains - 0.02, 1.02), 120) / 4000
    assert right <= 0.05 < wrongly


def test_many_decisions_at_once_are_those_of_the_plain_function(limits: Any) -> None:
    model = importlib.import_module("limits_model")
    chance = np.random.default_rng(3)
    x = chance.choice([-1.45, -0.5, 0.0, 0.275, 0.5, 1.0], (60, 40)) * chance.choice([1.0, -1.0, 0.1], (60, 1))
    found = model.signed_evidence(x, 1.45)
    plain = [likelihood_ratio(row.tolist(), 1.45) - likelihood_ratio((-row).tolist(), 1.45) for row in x]
    assert found == pytest.approx(np.array(plain), abs=1e-6)
    assert (found > 1).any()
    assert (found < -1).any()


def test_one_disagreement_with_the_plain_function_ends_the_simulation(
    limits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rule = importlib.import_module("limits_model"), importlib.import_module("limits_rule")
    world = model.World(0.2, clusters=30, size=4, questions=120)
    checks = model.Checks()
    monkeypatch.setattr(rule, "clustering", lambda _: 0.2)  # what 60,000 clusters would show
    assert len(list(rule.boundary(world, 3, 1, checks, [0.45]))) == 4
    assert checks.decisions == 8
    monkeypatch.setattr(model, "share_evidence", lambda *_: ShareEvidence(0.0, 9.0))
    with pytest.raises(AssertionError, match="the plain functions find"):
        list(rule.boundary(world, 3, 1, checks, [0.45]))


def test_a_rate_says_whether_its_target_is_reached(limits: Any) -> None:
    rate = limits.Rate
    assert rate(80, 100, least=0.80).state() == "yes"
    assert rate(75, 100, least=0.80).state() == "on the edge"
    assert rate(60, 100, least=0.80).state() == "no"
    assert rate(5, 100, most=0.05).state() == "yes"
    assert rate(9, 100, most=0.05).state() == "on the edge"
    assert rate(10, 100, most=0.05).state() == "no"
    with pytest.raises(ValueError, match="no target"):
        rate(5, 100).state()
