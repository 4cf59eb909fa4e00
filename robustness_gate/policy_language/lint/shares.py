"""Limits on the share of a gap: the gap that they need, and how often models of known kinds are within them.

Nothing is promised before the gap is measured (`measured`). Then all follows from the gap in its standard errors, in
closed form (`statistics.share_power`, `share_also`): a *twin* is a model that is to the control what a sister is, as
able and without the knowledge. It is no model at chance. Each figure is about this limit alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from statistics import NormalDist

from robustness_gate.policy_language.lint.measured import Measured
from robustness_gate.records.policy import Limit, Policy, Recovered
from robustness_gate.statistics import (
    Condition,
    ShareDesign,
    cell_fail_power,
    contrast_error,
    convicted_from,
    needed_t_gap,
    room,
    share_fail_power,
    share_pass_power,
    share_pass_power_with,
    t_quantile,
)
from robustness_gate.verdict import covers, declared_hypotheses, spelled_out
from robustness_gate.verdict.contrasts import LEAST_CLUSTERS

ABLER = 0.015
"""How much better than its control the second model is, on everything: a published control is 1.8 points of MMLU weaker
than its original."""
SAME_MODEL = 0.78
"""Correlation of one model's answers before and after an attack, as assumed where none is measured."""
AGREEMENT = 0.7
"""The largest agreement of the control's answers before and after an attack that is assumed (`ShareDesign`)."""
CEILING = 0.5
"""The largest `max_share` that a policy can have."""
MOST = 100.0
"""More than so many times the questions are not offered as a remedy."""


@dataclass(frozen=True)
class Prospect:
    """How often models are within one limit in every cell, or over it; None where no model of that kind can be."""

    twin: float
    """Probability that a twin of the control is within the limit in every cell, each reading alone included."""
    abler: float
    """The same for a model that is better by `ABLER` on every question."""
    half: float
    """Probability that a model with half of the gap back under one attack is within the limit in every cell."""
    whole_one: float
    """Probability that a model with all of it back under one attack is over the limit there."""
    whole_all: float
    """The same for one with all of it back under every attack, in at least one cell."""
    convicted_from: float
    """Least share that makes one given cell over the limit with probability 0.8; it can be above 1."""
    least_share: float | None
    """Least `max_share` at which twins pass as often as `min_design_power` asks; None if none up to 0.5 does."""
    questions_twin: int | None
    """Number of questions like these with which twins pass as often as that; None if no number up to a hundred times as
    many is enough."""
    questions_abler: int | None
    """The same for the abler model."""


@dataclass(frozen=True)
class ShareRow:
    """One limit on a share, in one format of its tasks."""

    limit: str
    score: tuple[str, ...]
    control: str | None
    yardstick: str
    max_share: float
    cells: int
    """Number of hypotheses: requirements that it covers x seeds x budgets. A PASS needs all of them."""
    needed: float
    """The gap in its standard errors at which twins are within the share in every cell as often as `min_design_power`
    asks; where it is measured, with so many clusters and questions."""
    false_fail: float
    """Upper bound of the probability of a false breach by any of its cells, for a model exactly at the limit."""
    measured: Measured | None = None
    prospect: Prospect | None = None
    """None without a measured gap, or where it is not significantly above `min_gap`: then nothing passes."""


def rows(policy: Policy, measure: Callable[[Policy, Limit], Measured] | None = None) -> Iterator[ShareRow]:
    """One row for each limit on a share, in each format of its tasks.

    Args:
        policy: merged with its parent.
        measure: the gap of one limit of the policy as spelled out; None where no answers exist yet.
    """
    spelled = spelled_out(policy)
    for limit in spelled.limits:
        rule = limit.recovered
        if rule is None:
            continue
        found = None if measure is None else measure(spelled, limit)
        design = _design(policy, spelled, limit, rule, found)
        yield ShareRow(
            limit=limit.id,
            score=limit.readings,
            control=rule.control,
            yardstick=rule.yardstick,
            max_share=rule.max_share,
            cells=design.cells,
            needed=needed_t_gap(design, policy.statistics.min_design_power) + _of_worst(rule, found),
            false_fail=design.cells * design.alpha_fail / design.hypotheses,
            measured=found,
            prospect=None if found is None or not found.enough else _prospect(spelled, limit, rule, design, found),
        )


def warnings(policy: Policy, found: tuple[ShareRow, ...]) -> Iterator[str]:
    """Limits that a twin of the control would too often not be within, as the measured gap shows."""
    least = policy.statistics.min_design_power
    for row in found:
        its, prospect = row.measured, row.prospect
        if its is None:
            continue
        twins = f"{100 * least:.0f} of 100 twins"
        if prospect is None:
            yield (
                f"{row.limit}: no model can be within it: the gap of {100 * its.gap:.1f} points is not shown to be "
                "over 'min_gap' (questions like these, or a pair of models that differ more, are needed)"
            )
        elif its.t_gap < row.needed:
            yield (
                f"{row.limit}: the gap is {its.t_gap:.1f} of its standard errors, and a share of {row.max_share:g} in "
                f"{row.cells} cells needs {row.needed:.1f} for {twins} to pass: {_remedy(prospect)}"
            )
        elif prospect.twin < least:
            weak = min(its.readings, key=lambda each: each.gap / each.error, default=None)
            alone = "" if weak is None else f" (the gap in '{weak.task}' alone is {weak.gap / weak.error:.1f} errors)"
            yield (
                f"{row.limit}: the score's gap is enough, but only {100 * prospect.twin:.0f} of 100 twins are also "
                f"within what it asks besides the share{alone}: {_remedy(prospect)}"
            )


def _remedy(prospect: Prospect) -> str:
    more = "no number of questions up to 100 times as many is enough"
    if prospect.questions_twin is not None:
        more = f"{prospect.questions_twin:,} questions like these would do"
    share = "and no share up to 0.5" if prospect.least_share is None else f"or a share of {prospect.least_share:.2f}"
    return f"{more}, {share}"


def _design(policy: Policy, spelled: Policy, limit: Limit, rule: Recovered, found: Measured | None) -> ShareDesign:
    """The limit and its battery, with the quantiles of so many clusters and the agreement where they are measured."""
    numbers, hypotheses = policy.statistics, declared_hypotheses(policy)
    alpha_pass, alpha_fail, agreement = numbers.alpha_pass, numbers.alpha_fail, AGREEMENT
    if found is not None:
        rho = max(0.0, found.answers_correlation)
        agreement = min(AGREEMENT, max(0.0, (SAME_MODEL - rho) / (1 - rho))) if rho < 1 else 0.0
        alpha_pass = _as_normal(found, alpha_pass)
        alpha_fail = _as_normal(found, alpha_fail / hypotheses) * hypotheses
    return ShareDesign(
        share=rule.max_share,
        cells=sum(each.seeds * max(1, len(each.budgets)) for each in spelled.required if covers(limit, each)),
        hypotheses=hypotheses,
        yardstick=rule.yardstick,
        alpha_pass=alpha_pass,
        alpha_fail=alpha_fail,
        attack_agreement=agreement,
    )


def _as_normal(found: Measured, alpha: float) -> float:
    """The error rate at which a normal quantile is that of Student's t with the clusters' degrees of freedom."""
    return NormalDist().cdf(-t_quantile(found.clusters - 1, alpha))


# --- what follows from a measured gap --------------------------------------------------------------------------------


def _prospect(spelled: Policy, limit: Limit, rule: Recovered, design: ShareDesign, found: Measured) -> Prospect:
    power, points, others = spelled.statistics.min_design_power, _points(spelled, limit), design.cells - 1

    def share_of(better: float, factor: float, limit_: float) -> float:
        """The share at which it appears, with the one worst question that the judge adds."""
        return (better + _worst(rule, limit_) / (found.questions * factor**2)) / found.gap

    def passes(better: float, factor: float = 1.0, limit_: float = rule.max_share) -> float:
        """How often a model that is better by so much than the control passes, with `factor`^2 times the questions."""
        asked = replace(design, share=limit_)
        conditions = _conditions(rule, asked, found, points, better, factor)
        return share_pass_power_with(asked, factor * found.t_gap, share_of(better, factor, limit_), conditions)

    def enough(better: float, factor: float = 1.0, limit_: float = rule.max_share) -> bool:
        asked = replace(design, share=limit_)
        alone = share_pass_power(asked, factor * found.t_gap, share_of(better, factor, limit_))
        return alone >= power and passes(better, factor, limit_) >= power

    return Prospect(
        twin=passes(0.0),
        abler=passes(ABLER),
        half=share_pass_power(design, found.t_gap, [0.5] + [0.0] * others),
        whole_one=cell_fail_power(design, found.t_gap, 1.0),
        whole_all=share_fail_power(design, found.t_gap, 1.0),
        convicted_from=convicted_from(design, found.t_gap),
        least_share=_least(lambda share: enough(0.0, limit_=share), 0.01, CEILING),
        questions_twin=_questions(rule, design.alpha_pass, found, power, lambda factor: enough(0.0, factor)),
        questions_abler=_questions(rule, design.alpha_pass, found, power, lambda factor: enough(ABLER, factor)),
    )


def _points(spelled: Policy, limit: Limit) -> float | None:
    """The limit's `max` in points over the control: when spelled out, an excess limit of its own."""
    base, dot, format_ = limit.id.partition(".")
    names = {f"{limit.id}.points", f"{base}.points{dot}{format_}"}
    return next((each.max for each in spelled.limits if each.id in names and each.relative_to is not None), None)


def _conditions(
    rule: Recovered, design: ShareDesign, found: Measured, points: float | None, better: float, factor: float
) -> list[Condition]:
    """What a PASS asks besides the share: each reading alone, and the points."""
    alpha, h = design.alpha_pass, 1.0 if design.yardstick == "same_attack" else design.attack_agreement
    alone = contrast_error(rule.max_share_each, design.yardstick, design.attack_agreement)
    conditions = []
    for each in found.readings:
        worst = _worst(rule, rule.max_share_each) / (each.questions * factor**2)
        distance = factor * (rule.max_share_each * each.gap - better - worst) / each.error / alone
        conditions.append(Condition(room(distance, alpha), each.correlation))
    if points is not None:  # its contrast is C - T, with a part of the share's in common
        f = contrast_error(design.share, design.yardstick, design.attack_agreement)
        joined = min(1.0, (1 - design.share * h / 2) / f)
        worst = (1 + points) / (found.questions * factor**2)
        conditions.append(Condition(room(factor * (points - better - worst) / found.error, alpha), joined))
    return conditions


def _of_worst(rule: Recovered, found: Measured | None) -> float:
    """How much more gap, in its standard errors, the one worst question asks for."""
    if found is None:
        return 0.0
    return _worst(rule, rule.max_share) / rule.max_share / found.questions / found.error


def _worst(rule: Recovered, limit: float) -> float:
    """What the judge adds as the worst that one question can do (`statistics.share`)."""
    return 1.0 if rule.yardstick == "same_attack" else 1.0 + limit


def _questions(
    rule: Recovered, alpha: float, found: Measured, power: float, enough: Callable[[float], bool]
) -> int | None:
    """How many questions like these are enough: with n times as many, every gap is sqrt(n) times its errors.

    They must also be enough clusters for a judgement, and show the gap to be over `min_gap` as often.
    """

    def shown(factor: float) -> bool:
        return NormalDist().cdf(room(factor * (found.gap - rule.min_gap) / found.error, alpha)) >= power

    factor = _least(lambda factor: shown(factor) and enough(factor), MOST**-0.5, MOST**0.5)
    least = found.questions * LEAST_CLUSTERS / found.clusters
    return None if factor is None else ceil(max(least, found.questions * factor**2))


def _least(enough: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value at which something holds that holds from there on; None if not even at the highest."""
    if not enough(high):
        return None
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
