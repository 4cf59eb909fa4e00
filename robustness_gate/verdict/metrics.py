"""What each metric is: one line for each of ours, which reports print beside the numbers.

A task kind declares its metrics (`records.questions.Kind`). A metric turns each answer into right or wrong, and its
value is the share of right answers. A plug-in's kind may declare names of its own, or use one of ours in another sense,
so its metrics are described by naming the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robustness_gate.errors import UnknownWord
from robustness_gate.records.base import Metric

METRICS: Mapping[Metric, str] = MappingProxyType(
    {
        "acc_permuted": "the model's answer is the choice whose letter has the highest log-likelihood, summed over all "
        "cyclic letter orders",
        "acc": "the model's answer is the choice with the highest log-likelihood; each question is asked once, in one "
        "order of its choices (lm-evaluation-harness's `acc`)",
        "acc_norm": "the model's answer is the choice whose text has the highest log-likelihood per character; no "
        "choice is shown (lm-evaluation-harness's `acc_norm`)",
        "exact_match": "the model writes its answer, which must equal the right choice apart from case, punctuation "
        "and articles",
        "answered": "share of questions that the model answers and does not decline: 1 minus the refusal rate",
        "auc": "share of pairs in which the forget text has a higher Min-K% Prob than the held-out text: 50 % means "
        "that nothing is remembered",
    }
)
"""The metrics of the kinds in `robustness_gate.tasks`, by name."""


def description(metric: Metric, kind: str) -> str:
    """What a metric of a task kind is. Raises UnknownWord for a metric of ours without a line."""
    if "/" in kind:
        return f"a metric of the plug-in's task kind '{kind}', which defines it"
    if metric not in METRICS:
        raise UnknownWord("metric", metric)
    return METRICS[metric]


def line(metric: Metric, kind: str, *, decides: bool) -> str:
    """The same as one line of a report: `acc_norm (cloze, decides): the choice ...`."""
    return f"{metric} ({kind}{', decides' if decides else ''}): {description(metric, kind)}"
