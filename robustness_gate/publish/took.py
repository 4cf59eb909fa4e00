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
    """Sums and peaks over attempts, by the names of their metrics; empty without attempts."""
    if not attempts:
        return {}
    spent = [each.spent for each in attempts if each.spent is not None]
    host = [each.host_peak_bytes for each in spent if each.host_peak_bytes is not None]
    device = [each.device_peak_bytes for each in spent if each.device_peak_bytes is not None]
    return {
        "cost/attempts": float(len(attempts)),
        "cost/seconds": sum(each.seconds for each in attempts),
        "cost/cpu_seconds": sum(each.cpu_seconds for each in spent),
        "cost/tokens_read": float(sum(each.tokens_read for each in spent)),
        "cost/tokens_learnt": float(sum(each.tokens_learnt for each in spent)),
        **({"cost/host_peak_bytes": float(max(host))} if host else {}),
        **({"cost/device_peak_bytes": float(max(device))} if device else {}),
    }
