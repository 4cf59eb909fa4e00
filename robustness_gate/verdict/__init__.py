"""From policy and evidence to a verdict, and from a verdict to a decision. All of it pure, none of it needs torch.

`judge` is the one verdict function; `court` has its rule in five steps. `cells` counts what a policy asks, `selftests`
looks at what the attacks did where the truth is known, `flags` for instruments that cannot be trusted, `words` says it
in a sentence, `explain` shows the road, `decision` applies waivers, which change the decision and never the verdict.
"""

from robustness_gate.verdict.bits import answers, pack, tally, unpack
from robustness_gate.verdict.cells import Asked, asked_by, covers, declared_cells, declares, label, spelled_out
from robustness_gate.verdict.court import BELOW_CHANCE, SELF_TEST_MISSING, judge
from robustness_gate.verdict.decision import Decision, decide
from robustness_gate.verdict.selftests import counting, faults
from robustness_gate.verdict.words import strongest

__all__ = [
    "BELOW_CHANCE",
    "SELF_TEST_MISSING",
    "Asked",
    "Decision",
    "answers",
    "asked_by",
    "counting",
    "covers",
    "decide",
    "declared_cells",
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
