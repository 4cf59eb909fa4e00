"""Whether a PASS is possible for this model, under a policy or under any that requires a self-test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robustness_gate.assurance.doctor.findings import Check, Code, found, problem
from robustness_gate.errors import GateError
from robustness_gate.inputs.checkpoint.place import CheckpointRef, model_type
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import prospects
from robustness_gate.planning.bench import BENCHES
from robustness_gate.policy_language import load_policy
from robustness_gate.records.suite import Suite


def of(place: CheckpointRef, policy: Path | None, suite: Loaded[Suite] | None) -> Iterator[Check]:
    """The finding about the self-test on this architecture."""
    kind = model_type(place)
    if policy is None:
        if kind:  # a config without one has its own finding
            known = kind in BENCHES
            code = Code.CAN_BE_SELF_TESTED if known else Code.CANNOT_BE_SELF_TESTED
            rewritten = BENCHES[kind].shipped_as if known else ""
            yield found("checkpoint", "ok" if known else "note", "self-test", code, model_type=kind, source=rewritten)
        return
    try:
        loaded = load_policy(policy)
        hindered = prospects.obstacles(loaded, suite, kind)
        way = "" if hindered else prospects.way(loaded, suite, kind)
    except GateError as error:
        yield problem("checkpoint", "policy", error)
        return
    for each in hindered:
        args = {"why": prospects.sentence(each), "remedy": prospects.remedy(each)}
        yield found("checkpoint", "note", "PASS", Code.NO_PASS, **args)
    if way:
        yield found("checkpoint", "ok", "PASS", Code.PASS_IS_POSSIBLE, way=way)
