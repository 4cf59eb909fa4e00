"""Whether a policy's limits can be met, and their error rates: what is known before a candidate is run.

accuracies    limits on an accuracy or an excess: models at chance, and two points above
shares        limits on the share of a gap: twins of the control, and models that know more
measured      the gap of such a limit, from the untouched answers of original and control
never_taught  published readings of models that were never taught a benchmark, and limits under them
words         what is printed of a limit on a share
hints         what the policy leaves open
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from robustness_gate.policy_language.lint import accuracies, hints, never_taught, shares
from robustness_gate.policy_language.lint.accuracies import Row
from robustness_gate.policy_language.lint.measured import Measured
from robustness_gate.policy_language.lint.shares import ShareRow
from robustness_gate.records.policy import Limit, Policy
from robustness_gate.statistics import JointPower
from robustness_gate.verdict import covers, declared_hypotheses, spelled_out


@dataclass(frozen=True)
class Lint:
    """The result of `lint`."""

    rows: tuple[Row, ...]
    shares: tuple[ShareRow, ...]
    joint: JointPower | None
    """Probability that a model at chance is within every limit of `rows`, in every required trial. None without a limit
    on an accuracy. Limits on a share of a gap, and on the excess of a score, are not in it."""
    joint_above: JointPower | None
    hypotheses: int
    false_fail: float
    """Upper bound of the probability of a false FAIL for a model exactly at every limit, of whatever kind."""
    warnings: tuple[str, ...]
    hints: tuple[str, ...]


def lint(
    policy: Policy,
    chances: Mapping[str, float] | None = None,
    measure: Callable[[Policy, Limit], Measured] | None = None,
) -> Lint:
    """The power and the error rates of a policy.

    Args:
        policy: merged with its parent.
        chances: accuracy of guessing by task, from the suite; the default is that of four choices.
        measure: the gap of a limit on a share, by the policy as spelled out and the limit; None without answers.
    """
    rows = tuple(accuracies.rows(policy, chances or {}))
    joint = accuracies.joint(rows)
    found = tuple(shares.rows(policy, measure))
    return Lint(
        rows=rows,
        shares=found,
        joint=None if joint is None else joint[0],
        joint_above=None if joint is None else joint[1],
        hypotheses=declared_hypotheses(policy),
        false_fail=min(1.0, sum(r.false_fail for r in rows) + sum(r.false_fail for r in found) + _of_scores(policy)),
        warnings=(
            *accuracies.warnings(policy, rows, None if joint is None else joint[0]),
            *shares.warnings(policy, found),
            *never_taught.warnings(policy),
        ),
        hints=tuple(hints.hints(policy)),
    )


def _of_scores(policy: Policy) -> float:
    """The part of the false-FAIL bound that belongs to limits on the excess of a score, which have no row."""
    spelled = spelled_out(policy)
    cells = sum(
        each.seeds * max(1, len(each.budgets))
        for limit in spelled.limits
        if limit.score and limit.recovered is None
        for each in spelled.required
        if covers(limit, each)
    )
    return cells * policy.statistics.alpha_fail / declared_hypotheses(policy)
