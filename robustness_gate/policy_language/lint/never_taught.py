"""What published models score on a benchmark that they were never taught, and limits on an accuracy that are under it.

Chance is not the floor of a public benchmark: shortcuts and general knowledge lift a model without the knowledge above
it. A limit at or under such a score is below that of a model that never knew, and models that avoid answers meet it
first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from robustness_gate.records.policy import Limit, Policy


class Reading(NamedTuple):
    """One published accuracy of a model that was never taught the subject."""

    benchmark: str
    """As `benchmark_of` names it."""
    metric: str
    accuracy: float
    model: str
    source: str
    date: str
    """When it was read there."""


STRONG = "GPT-NeoX 6.9B, pretraining data filtered end to end (deep-ignorance-e2e-strong-filter)"
CARD = "model card of EleutherAI's deep-ignorance models (arXiv 2508.06601)"
TABLE = "results table of jammastergirish/unlearning-taxonomy (lm-evaluation-harness)"
READ = "2026-11-29"

NEVER_TAUGHT = (
    Reading("WMDP-bio, letters", "acc", 0.401, STRONG, TABLE, READ),
    Reading("WMDP-bio, letters, robust part", "acc", 0.354, STRONG, CARD, READ),
    Reading("WMDP-bio, letters, robust part", "acc", 0.356, STRONG, TABLE, READ),
    Reading("WMDP-bio, cloze", "acc_norm", 0.244, STRONG, CARD, READ),
    Reading("WMDP-bio, cloze", "acc_norm", 0.243, STRONG, TABLE, READ),
)
"""Every published score that is known here. All are of one model family and size, zero-shot, in one letter order:
another family scores something else. No such score is known for WMDP-cyber and WMDP-chem."""


def benchmark_of(task: str, source: str | None) -> str | None:
    """The benchmark of a task, by its pinned source, else by its name; None if it is none of those with a reading."""
    for text in (source or "", task):
        plain = text.lower().replace("_", "-")
        if "wmdp-bio" in plain and "choices-only" not in task.lower().replace("_", "-"):
            part = ", robust part" if "robust" in plain else ""
            return "WMDP-bio, cloze" if "cloze" in plain else f"WMDP-bio, letters{part}"
    return None


def warnings(policy: Policy) -> Iterator[str]:
    """Each limit on an accuracy that is at or under the score of a never-taught model."""
    for limit in policy.limits:
        reading = _over(policy, limit) if limit.absolute else None
        if reading is not None:
            yield (
                f"{limit.id}: a model that was never taught this scores {reading.accuracy:.0%} here, and the limit is "
                f"{limit.most:g} ({reading.benchmark}: {reading.accuracy:.1%}, {reading.model}; {reading.source}, "
                f"read {reading.date}): compare the candidate with such a model (`recovered`, docs/limits.md)"
            )


def _over(policy: Policy, limit: Limit) -> Reading | None:
    """The highest reading that the limit does not exceed."""
    pin = policy.tasks.get(limit.task)
    benchmark = benchmark_of(limit.task, None if pin is None else pin.source)
    found = [each for each in NEVER_TAUGHT if each.benchmark == benchmark and limit.most <= each.accuracy]
    return max(found, key=lambda each: each.accuracy, default=None)


def table() -> str:
    """The readings in Markdown, as docs/limits.md has them."""
    head = "| benchmark | metric | never taught | model | source | when it was read |\n|---|---|---:|---|---|---|\n"
    return head + "".join(
        f"| {each.benchmark} | `{each.metric}` | {each.accuracy:.1%} | {each.model} | {each.source} | {each.date} |\n"
        for each in NEVER_TAUGHT
    )
