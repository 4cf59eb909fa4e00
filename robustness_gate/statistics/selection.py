"""How strong the strongest attack is: chosen on one half of the items, measured on the other.

The highest of many accuracies is too high: at 1,273 items and 50 equal attacks by 2.4 points
(simulated). The half that did not choose is free of that. This is the number to print, and never a road to PASS: it
tests only the attack that *looked* strongest, and the strongest may be another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustness_gate.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper


@dataclass(frozen=True, slots=True)
class Strongest:
    """The chosen trial, and what it scored on the items that did not choose it."""

    index: int
    """Its place in `rows`."""
    correct: int
    items: int
    lower: float
    """Together with `upper` a two-sided interval at confidence 1 - alpha."""
    upper: float


def strongest_by_halves(
    rows: Sequence[Sequence[bool]], keys: Sequence[str], alpha: float, design_effect: float = 1.0
) -> Strongest:
    """Choose the trial with the most right answers at the even positions, measure it at the odd ones.

    Args:
        rows: one row of answers a trial, all in the same committed item order, all of the same length, at least two.
        keys: a name for each row that does not depend on its place, all different: the smallest wins a tie, so the
            order of the rows changes nothing but `index`.
        alpha: error rate of the two-sided interval, in (0, 1).
        design_effect: >= 1; counts are divided by it.

    Raises:
        ValueError: no row, rows of different or too small lengths, keys that are not one a row, or a number out of
            range.
    """
    if not rows or len(keys) != len(rows) or len(set(keys)) != len(keys):
        raise ValueError(f"need at least one row and as many different keys; got {len(rows)} rows and {len(keys)} keys")
    length = len(rows[0])
    if length < 2 or any(len(row) != length for row in rows):
        raise ValueError("need rows of one length, at least two items")
    if not design_effect >= 1:
        raise ValueError(f"need a design effect of at least 1, got {design_effect}")
    index = min(range(len(rows)), key=lambda i: (-sum(map(bool, rows[i][0::2])), keys[i]))
    held_out = rows[index][1::2]
    correct, items = sum(map(bool, held_out)), len(held_out)
    counts = correct / design_effect, items / design_effect
    return Strongest(
        index, correct, items, clopper_pearson_lower(*counts, alpha / 2), clopper_pearson_upper(*counts, alpha / 2)
    )
