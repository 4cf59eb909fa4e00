"""From policy and evidence to a verdict, and from a verdict to a decision. All of it pure, none of it needs torch.

judgement    `judge`, the one verdict function: the rule in five steps
cells        what a policy asks, cell by cell
bounds       one-sided bounds on accuracies and paired differences
validity     why a measurement cannot establish compliance
evaluation   one judgement's inputs, laid out
findings     each rule held against each measurement
instruments  self-test, shams, positive control
selftests    what the records of self-tests show
flags        red flags; `tokenizers` has those about the tokenizer
blockers     what stands between the evidence and a PASS
counts       how many trials there were
wording      all of it in English
explain      the road from the numbers to the verdict
decision     waivers, which change the decision and never the verdict
"""

from robustness_gate.evidence.answers import answers, pack, tally, unpack
from robustness_gate.verdict.decision import Decision, decide
from robustness_gate.verdict.findings import strongest
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

__all__ = [
    "Asked",
    "Decision",
    "answers",
    "asked_by",
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
