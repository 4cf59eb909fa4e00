"""The statistics of verdicts and designs in plain Python: exact bounds, paired bounds, betting, and power.

An auditor can read each module without knowing scipy; the tests compare them with scipy and with brute force.

    binomial    Clopper and Pearson's bounds on an accuracy
    paired      Tango's bounds on the difference of two accuracies on the same items
    likelihood  bounds on the difference of two scores by clusters of questions
    share       whether a candidate is under or over a share of the gap between its original and a control
    clusters    the design effect, measured
    sequential  a betting test that can stop a trial early with a breach
    power       the power of a design: probabilities of a true PASS and a true FAIL, and the items that they need
    share_power the same for a share limit, from the gap in its standard errors
    share_also  the same together with further conditions of a PASS
    selection   the accuracy of the strongest attack, corrected for its selection

`binomial` and `power` at design effect 1 are exact, `sequential` and `selection` are valid at any number of items;
`paired` uses a normal approximation, `likelihood` and `share` a likelihood ratio's: their error rates are documented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustness_gate.system import lazily

if TYPE_CHECKING:
    from robustness_gate.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper
    from robustness_gate.statistics.clusters import design_effect
    from robustness_gate.statistics.likelihood import (
        difference_lower,
        difference_over,
        difference_upper,
        established,
        likelihood_ratio,
        t_quantile,
        t_tail,
    )
    from robustness_gate.statistics.paired import tango_lower, tango_upper
    from robustness_gate.statistics.power import (
        JointPower,
        fail_power,
        false_fail_rate,
        items_needed,
        joint_pass_power,
        pass_power,
    )
    from robustness_gate.statistics.selection import Strongest, strongest_by_halves
    from robustness_gate.statistics.sequential import BETS, betting_lower, betting_stop, betting_wealth
    from robustness_gate.statistics.share import (
        LARGEST_SHARE,
        ShareEvidence,
        Yardstick,
        share_evidence,
        share_lower,
        share_over,
        share_under,
        share_upper,
    )
    from robustness_gate.statistics.share_also import Condition, room, share_pass_power_with
    from robustness_gate.statistics.share_power import (
        ShareDesign,
        abler_share,
        cell_fail_power,
        contrast_error,
        convicted_from,
        least_share,
        needed_t_gap,
        questions_needed,
        share_fail_power,
        share_pass_power,
    )

_OFFERED = {
    "robustness_gate.statistics.binomial": (
        "clopper_pearson_lower",
        "clopper_pearson_upper",
    ),
    "robustness_gate.statistics.clusters": ("design_effect",),
    "robustness_gate.statistics.likelihood": (
        "difference_lower",
        "difference_over",
        "difference_upper",
        "established",
        "likelihood_ratio",
        "t_quantile",
        "t_tail",
    ),
    "robustness_gate.statistics.paired": (
        "tango_lower",
        "tango_upper",
    ),
    "robustness_gate.statistics.power": (
        "JointPower",
        "fail_power",
        "false_fail_rate",
        "items_needed",
        "joint_pass_power",
        "pass_power",
    ),
    "robustness_gate.statistics.selection": (
        "Strongest",
        "strongest_by_halves",
    ),
    "robustness_gate.statistics.sequential": (
        "BETS",
        "betting_lower",
        "betting_stop",
        "betting_wealth",
    ),
    "robustness_gate.statistics.share": (
        "LARGEST_SHARE",
        "ShareEvidence",
        "Yardstick",
        "share_evidence",
        "share_lower",
        "share_over",
        "share_under",
        "share_upper",
    ),
    "robustness_gate.statistics.share_also": (
        "Condition",
        "room",
        "share_pass_power_with",
    ),
    "robustness_gate.statistics.share_power": (
        "ShareDesign",
        "abler_share",
        "cell_fail_power",
        "contrast_error",
        "convicted_from",
        "least_share",
        "needed_t_gap",
        "questions_needed",
        "share_fail_power",
        "share_pass_power",
    ),
}
"""Imported when they are first used: the judge needs no power, and a plan no bounds."""

__all__ = [
    "BETS",
    "LARGEST_SHARE",
    "Condition",
    "JointPower",
    "ShareDesign",
    "ShareEvidence",
    "Strongest",
    "Yardstick",
    "abler_share",
    "betting_lower",
    "betting_stop",
    "betting_wealth",
    "cell_fail_power",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "contrast_error",
    "convicted_from",
    "design_effect",
    "difference_lower",
    "difference_over",
    "difference_upper",
    "established",
    "fail_power",
    "false_fail_rate",
    "items_needed",
    "joint_pass_power",
    "least_share",
    "likelihood_ratio",
    "needed_t_gap",
    "pass_power",
    "questions_needed",
    "room",
    "share_evidence",
    "share_fail_power",
    "share_lower",
    "share_over",
    "share_pass_power",
    "share_pass_power_with",
    "share_under",
    "share_upper",
    "strongest_by_halves",
    "t_quantile",
    "t_tail",
    "tango_lower",
    "tango_upper",
]

__getattr__ = lazily.offered(__name__, _OFFERED)
