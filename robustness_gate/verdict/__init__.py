"""From policy and evidence to a verdict, and from a verdict to a decision. Everything is pure and works without torch.

judgement    `judge`, the one verdict function: the rule in five steps
hypotheses   what a policy requires, hypothesis by hypothesis
bounds       one-sided bounds on accuracies and paired differences
joined       the tasks of a score joined by question, and the other models' answers to them
contrasts    comparisons of several models by clusters of questions: which share of a gap is back
validity     why a measurement cannot establish compliance
evaluation   the inputs of one judgement, with lookups
findings     each rule applied to each measurement
found        which finding is the strongest, and how a code names one
instruments  self-test, shams, positive control
selftests    what the records of self-tests show
known_truth  what the attacks' own files say of their self-tests
flags        red flags; `tokenizers` has those about the tokenizer
blockers     the reasons against a PASS
counts       how many trials are on record
wording      every sentence in English; one module for each family
explain      the steps from the numbers to the verdict
decision     waivers, which change the decision and never the verdict
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustness_gate.system import lazily

if TYPE_CHECKING:
    from robustness_gate.evidence.answers import answers, pack, tally, unpack
    from robustness_gate.verdict.decision import Decision, decide
    from robustness_gate.verdict.found import by_strength, strongest
    from robustness_gate.verdict.hypotheses import (
        Asked,
        asked_by,
        covers,
        declared_hypotheses,
        declares,
        label,
        spelled_out,
    )
    from robustness_gate.verdict.judgement import judge
    from robustness_gate.verdict.selftests import counting, faults

_OFFERED = {
    "robustness_gate.evidence.answers": ("answers", "pack", "tally", "unpack"),
    "robustness_gate.verdict.decision": ("Decision", "decide"),
    "robustness_gate.verdict.found": ("by_strength", "strongest"),
    "robustness_gate.verdict.hypotheses": (
        "Asked",
        "asked_by",
        "covers",
        "declared_hypotheses",
        "declares",
        "label",
        "spelled_out",
    ),
    "robustness_gate.verdict.judgement": ("judge",),
    "robustness_gate.verdict.selftests": ("counting", "faults"),
}
"""Module and names. Imported when they are first used: who reads or plans a policy needs `hypotheses` and judges
nothing."""
__all__ = [
    "Asked",
    "Decision",
    "answers",
    "asked_by",
    "by_strength",
    "counting",
    "covers",
    "decide",
    "declared_hypotheses",
    "declares",
    "faults",
    "judge",
    "label",
    "pack",
    "spelled_out",
    "strongest",
    "tally",
    "unpack",
]

__getattr__ = lazily.offered(__name__, _OFFERED)
