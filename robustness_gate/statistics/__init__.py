"""The statistics of verdicts and designs in plain Python: exact bounds, paired bounds, betting, and power.

An auditor can read each module without knowing scipy; the tests compare them with scipy and with brute force.

    binomial    Clopper and Pearson's bounds on an accuracy
    paired      Tango's bounds on the difference of two accuracies on the same items
    sequential  a betting test that can stop a trial early with a breach
    power       the power of a design: probabilities of a true PASS and a true FAIL, and the items that they need
    selection   the accuracy of the strongest attack, corrected for its selection

`binomial` and `power` at design effect 1 are exact, `sequential` and `selection` are valid at any number of items;
`paired` uses a normal approximation and documents its error.
"""

from robustness_gate.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper
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

__all__ = [
    "BETS",
    "JointPower",
    "Strongest",
    "betting_lower",
    "betting_stop",
    "betting_wealth",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "fail_power",
    "false_fail_rate",
    "items_needed",
    "joint_pass_power",
    "pass_power",
    "strongest_by_halves",
    "tango_lower",
    "tango_upper",
]
