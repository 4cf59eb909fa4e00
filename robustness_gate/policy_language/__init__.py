"""The policy language: checks across several records, and tools for a policy before any run.

    load     from a file, and the file that it extends, to a Policy; every contradiction is refused with place and code
    checks   the contradictions
    show     a policy as YAML with every default, and as sentences
    diff     what is looser, what is stricter, what only differs
    lint     whether its limits can be met, and their error rates
    cases    a policy tested on synthetic evidence with the real judge
    pin      the digests of a suite's questions and settings, ready to paste
    schema   JSON Schema, for editors
    codes    every error code, with one sentence each

Nothing here reads a clock, and nothing here knows an attack: `planning` checks whether policy and suite fit.
"""

from robustness_gate.policy_language.checks import refuse_untimely
from robustness_gate.policy_language.load import load_policy

__all__ = ["load_policy", "refuse_untimely"]
