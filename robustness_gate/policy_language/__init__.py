"""The policy language: what takes more than one record to see, and what a person asks of a policy before any run.

    load     a file, and the one that it extends, to a Policy; every contradiction refused at its place, with a code
    checks   those contradictions
    show     a policy as YAML with every default filled in, and read aloud
    diff     what is looser, what is tighter, what merely differs
    lint     whether its limits can be met, and how often they err
    cases    a policy tried on made-up evidence, by the judge himself
    pin      the digests of a suite's questions and settings, ready to paste
    schema   JSON Schema, for editors
    codes    every code of refusal, in one sentence each

Nothing here reads a clock, and nothing here knows an attack: what a policy and a suite say to each other is `plan`'s.
"""

from robustness_gate.policy_language.checks import refuse_untimely
from robustness_gate.policy_language.load import load_policy

__all__ = ["load_policy", "refuse_untimely"]
