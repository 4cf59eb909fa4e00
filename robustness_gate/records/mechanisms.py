"""How a method suppresses knowledge, as the method's own file says.

Apart from what a calibration records: a policy names mechanisms, and reading a policy needs no such record.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, get_args

from robustness_gate.records.literals import declared, modules

Mechanism = Literal["representation", "last_layer", "small_edit", "preference", "ascent"]
"""How a method suppresses knowledge; each file of a method declares it as `MECHANISM`.

    representation   hidden states are moved away from the knowledge (rmu, breaker)
    last_layer       the output layers no longer write it (shallow)
    small_edit       an edit smaller than the rounding of a coarse grid (projected)
    preference       other answers are preferred (npo, dpo)
    ascent           the answers are made unlikely by gradient ascent (graddiff)
"""


@cache
def mechanism_of(method: str) -> Mechanism | None:
    """How a method of ours suppresses knowledge, from its own file; None if there is no such method."""
    found = declared("organisms", method, "MECHANISM")
    return next((each for each in get_args(Mechanism) if each == found), None)


def methods() -> tuple[str, ...]:
    """Every method by which a calibration can suppress, sorted."""
    return tuple(each for each in modules("organisms") if mechanism_of(each) is not None)
