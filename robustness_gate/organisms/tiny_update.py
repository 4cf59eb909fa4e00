"""RMU under the constraint that no weight leaves its cell of a coarse grid: an edit that rounding undoes.

The objective is rmu's, the constraint `projected.same_cell`: after every step each weight is put back to its side of
the boundaries of a 4-bit grid. What it hides comes back once the weights are stored in 4 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms import projected, rmu

if TYPE_CHECKING:
    from robustness_gate.organisms.teach import Progress

MECHANISM = "small_edit"
"""How it suppresses: `records.declarations.Mechanism`."""
Config = rmu.Config


def unlearn(
    model: Any,
    tokenizer: Any,
    forget: Sequence[str],
    retain: Sequence[str],
    config: rmu.Config,
    seed: int,
    progress: Progress,
    name: str = "tiny_update",
) -> None:
    """As `rmu.unlearn`, in place, with every weight kept in its cell. Arguments and errors are those of `rmu`."""
    with projected.projected(model, projected.same_cell(model)):
        rmu.unlearn(model, tokenizer, forget, retain, config, seed, progress, name)
