"""Read and plan everything before anything runs: step 2 of `gate`, and all that `plan` needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness_gate.inputs import imported
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.plugins import Door
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import checkpoints, plan
from robustness_gate.planning.plan import Prepared
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role

EXECUTORS = Door("running.executors", "executor", ("start",), "unknown-executor", group="executors")
"""Who runs the trials: a plan names it, and imports nothing of it."""
USUAL = "local"
"""The executor of every command that names none."""


def prepare(
    policy_path: Path,
    suite_path: Path,
    checkpoint: str,
    original: str | None = None,
    controls: Sequence[tuple[str, str]] = (),
    only: Sequence[str] = (),
    base: str | None = None,
    executor: str = USUAL,
) -> Prepared:
    """Read and plan: steps that need neither torch nor a GPU. Raises GateError for every user error."""
    with imported.as_errors():
        EXECUTORS.check(executor)
        policy, suite = load_policy(policy_path), load_suite(suite_path)
        suite_data = gather(suite)
        named = [(Role.CANDIDATE, "", checkpoint), *([(Role.ORIGINAL, "", original)] if original else [])]
        named += [(Role.CONTROL, name, place) for name, place in controls]
        subjects = []
        for role, control, place in named:
            found = checkpoints.find_checkpoint(place, base if role == Role.CANDIDATE else None)
            subjects.append(plan.Subject(role, found, manifest_of(found), control))
        made = plan.make(policy, suite, suite_data, subjects, only=only, executor=executor)
        return Prepared(policy, suite, suite_data, made)
