"""What decides and plans a verdict, in plain Python: exact bounds, paired bounds, bets, and the power of a design.

An auditor can read each module without knowing scipy; the tests hold them against scipy and against brute force.

    binomial    Clopper and Pearson's bounds on an accuracy
    paired      Tango's bounds on the difference of two accuracies on the same items
    sequential  a betting test that may stop a trial early to convict it
    power       what a design can show: chances of a true PASS and a true FAIL, and the items they need
    selection   how strong the strongest attack is, once corrected for having been chosen

`binomial` and `power` at design effect 1 are exact, `sequential` and `selection` hold at any number of items;
`paired` rests on a normal approximation and says by how much it can miss.
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
