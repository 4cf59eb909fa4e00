"""Graded organisms: models between two checkpoints, made on demand.

Between `base` and `rmu` the knowledge is suppressed gradually. A gate's measurement should follow: where more is left,
more should be found. Nothing is trained; each weight is interpolated linearly (Wortsman et al., WiSE-FT, arXiv
2109.01903), and the accuracy of such a model must be measured, since it need not be linear.
"""

from __future__ import annotations

import math
from pathlib import Path

from robustness_gate.errors import UsageError
from robustness_gate.organisms import checkpoint


def graded(share: float, out: Path, *, start: str = "base", end: str = "rmu") -> None:
    """Write a checkpoint whose weights lie between those of two organisms of one architecture.

    Args:
        share: of the way from `start` (0) to `end` (1).
        out: a folder; made where missing.
        start: a shipped organism.
        end: another one.

    Raises:
        UsageError: the share is not from 0 to 1, an organism does not exist, or the two have different tensors.
    """
    from robustness_gate.organisms.build import save
    from robustness_gate.organisms.measure import load

    if not (math.isfinite(share) and 0.0 <= share <= 1.0):
        raise UsageError(f"a share of {share} lies outside both models.", remedy="Give a share from 0 to 1.")
    model, tokenizer = load(checkpoint(start))
    there = load(checkpoint(end))[0].state_dict()
    here = model.state_dict()
    if {name: weight.shape for name, weight in here.items()} != {name: weight.shape for name, weight in there.items()}:
        raise UsageError(f"{start} and {end} are built differently.", remedy="Choose two of one architecture.")
    model.load_state_dict({name: weight.lerp(there[name], share) for name, weight in here.items()})
    save(model, tokenizer, out)
