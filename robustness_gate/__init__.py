"""robustness_gate: does an unlearned language model stay unlearned when its weights are attacked?

What arrives: a *policy* (what "the knowledge stays gone" means), a *suite* (what is tried) and a *checkpoint*. What
leaves: a *verdict* (PASS, FAIL or INCONCLUSIVE), a *report* that a stranger can recompute, and an exit code.

The trip goes one way, and each room is one step of it:

    records          what travels: questions, trials, evidence, the verdict; one serialiser
    inputs           what arrives: YAML, items, datasets, checkpoints
    policy_language  a policy is loaded, checked, shown, compared with another
    planning         every trial is written out before anything runs
    attacks, tasks   what is done to a model, and what it is asked: one file each
    engine           torch: a model is loaded, trained, scored, and restored
    running          a trial is run, and its measurements go to the ledger
    evidence         the ledger: append-only, every attempt counts
    verdict          policy and evidence become a verdict; a pure function
    report           the verdict with everything that it rests on, and what to do next
    attestation      the report is signed, and verified without torch
    publish          the report as HTML, Markdown, JUnit, MLflow

`gate.run` is the whole trip. `assurance` asks whether the instrument itself is sound: self-tests on `organisms`, whose
truth is known, audits, and `doctor`. `system` writes files and starts processes; `cli` is the command line.

The two usual calls:

    from robustness_gate import gate
    outcome = gate.run(gate.Request(checkpoint=..., policy=..., suite=..., out=...))

    from robustness_gate.verdict import judge
    verdict = judge(policy, evidence, at)
"""

__version__ = "0.1.0"
