"""What each metric is: one line, which reports print beside the numbers.

A metric turns each answer into right or wrong, and its value is the share of right answers. A task kind of ours
describes its metrics in its own file (`METRICS`), which is read from its source: nothing is imported. A plug-in's kind
may declare names of its own, or use one of ours in another sense, and nothing of a plug-in is read here. So its metrics
are described by naming the kind.
"""

from __future__ import annotations

from robustness_gate.errors import UnknownWord
from robustness_gate.records.base import Metric
from robustness_gate.records.literals import declared, modules


def description(metric: Metric, kind: str) -> str:
    """What a metric of a task kind is. Raises UnknownWord for one that a kind of ours does not describe."""
    if "/" in kind:
        return f"a metric of the plug-in's task kind '{kind}', which defines it"
    described: dict[Metric, str] = declared("tasks", kind, "METRICS") or {}
    if metric not in described:
        raise UnknownWord("metric", metric)
    return described[metric]


def line(metric: Metric, kind: str, *, decides: bool) -> str:
    """The same as one line of a report: `acc_norm (cloze, decides): the choice ...`."""
    return f"{metric} ({kind}{', decides' if decides else ''}): {description(metric, kind)}"


def table() -> str:
    """The metrics of every kind of ours, as the table in docs/policy.md."""
    rows = ["| kind | metric | what it is |", "|---|---|---|"]
    for kind in modules("tasks"):
        for metric, what in (declared("tasks", kind, "METRICS") or {}).items():
            rows.append(f"| `{kind}` | `{metric}` | {what} |")
    return "\n".join(rows)
