"""What the trials took, as totals for a tracker: from `cost.json` beside the report, where it is there and readable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from robustness_gate.records.cost import NAME, AttemptCost, Costs
from robustness_gate.records.encode import NotPlain, decode, parse
from robustness_gate.system.writing import refuse_what_is_no_file


def read(folder: Path) -> tuple[AttemptCost, ...]:
    """The attempts; none where the file is missing or not as it was written, because a tracker shows what there is."""
    try:
        refuse_what_is_no_file(folder / NAME)
        raw = (folder / NAME).read_bytes()
        parse(raw)
        return decode(Costs, raw).attempts
    except (OSError, NotPlain, ValidationError):
        return ()


def totals(attempts: Sequence[AttemptCost]) -> dict[str, float]:
    """Sums and peaks over attempts, by the names of their metrics; nothing where nothing is known."""
    if not attempts:
        return {}
    found = {"cost/attempts": float(len(attempts)), "cost/seconds": sum(each.seconds for each in attempts)}
    spent = [each.spent for each in attempts if each.spent is not None]
    if spent:
        found |= {
            "cost/cpu_seconds": sum(each.cpu_seconds for each in spent),
            "cost/tokens_read": float(sum(each.tokens_read for each in spent)),
            "cost/tokens_learnt": float(sum(each.tokens_learnt for each in spent)),
        }
    for name in ("host_peak_bytes", "device_peak_bytes"):
        peaks = [getattr(each, name) for each in spent if getattr(each, name) is not None]
        found |= {f"cost/{name}": float(max(peaks))} if peaks else {}
    return found
