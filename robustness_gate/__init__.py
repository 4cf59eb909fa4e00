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
    publish          the report as HTML, Markdown, JUnit, MLflow
    attestation      the report is signed, and verified without torch

`gate.run` is the whole trip. `assurance` asks whether the instrument itself is sound: self-tests on `organisms`, whose
truth is known, audits, and `doctor`. `statistics` has the bounds; `system` writes files and starts processes; `cli` is
the command line.

The public API, each name imported when it is first used:

    import robustness_gate as rg
    outcome = rg.run(rg.Request(checkpoint=..., policy=..., suite=..., out=...))
    verdict = rg.judge(policy, evidence, at)
    found = rg.verify(bundle, asked, at)
"""

__version__ = "0.1.0"

PUBLIC = {
    "Request": "robustness_gate.gate",
    "run": "robustness_gate.gate",
    "judge": "robustness_gate.verdict",
    "verify": "robustness_gate.attestation.verify",
    "Asked": "robustness_gate.attestation.verify",
}
"""Name and module. Imported by name at run time, so that a reader of reports does not load what only a run needs."""


def __getattr__(name: str) -> object:
    """A name of the public API. Raises AttributeError for any other."""
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Nothing is imported at the top: `python -m` looks in the working directory until `__main__` has taken it out.
    from importlib import import_module

    found: object = getattr(import_module(PUBLIC[name]), name)
    return found


def __dir__() -> list[str]:
    """What the package offers."""
    return sorted([*globals(), *PUBLIC])
