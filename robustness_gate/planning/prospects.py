"""Whether a PASS is possible for this model under this policy, known before anything runs.

A policy with `self_test: required` is passed only with a self-test of each required attack on the candidate's own
architecture, or, where the policy has terms for it, with a calibration on the candidate's original in its place. Where
there can be neither, hours of attacks can end in FAIL or INCONCLUSIVE only. `plan`, `doctor` and
`policy check --checkpoint` report it with what to do, and `why` advises no self-test that cannot be made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.bench import (
    BENCHES,
    asked,
    bench_of,
    unprovable,
    without_case,
)
from robustness_gate.planning.calibrated import uncalibrated, without_calibration
from robustness_gate.records.evidence import LeftOut
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Trial
from robustness_gate.system.sentences import fill
from robustness_gate.verdict.hypotheses import Asked, label_of


class Obstacle(StrEnum):
    """Why no PASS is possible."""

    NEVER = "never"
    NO_MODEL_TYPE = "no_model_type"
    NO_ORGANISMS = "no_organisms"
    NO_CASE = "no_case"
    NEITHER = "neither"
    NO_CALIBRATION = "no_calibration"


class Prospect(NamedTuple):
    """One reason why no PASS is possible."""

    code: Obstacle
    args: Mapping[str, str]
    where: str = ""
    """file:line:column of the requirement in the policy."""


OWNER = (
    "or let the policy's owner say `validity: {{self_test: off}}`, which the report then states on page one. A run can "
    "establish FAIL as it is."
)
CALIBRATE = "`robustness-gate calibrate ORIGINAL --policy POLICY --suite SUITE --out calibration.jsonl`"
SENTENCES: Mapping[Obstacle, str] = {
    Obstacle.NEVER: "the policy says 'passes: never': no PASS is possible",
    Obstacle.NO_MODEL_TYPE: "config.json names no model_type, so no self-test counts for this checkpoint: no PASS is "
    "possible",
    Obstacle.NO_ORGANISMS: "no organism is a '{model_type}', so no self-test counts for this checkpoint: no PASS is "
    "possible",
    Obstacle.NO_CASE: "{reason}: no PASS is possible",
    Obstacle.NEITHER: "no organism is a '{model_type}', and {reason}: no PASS is possible",
    Obstacle.NO_CALIBRATION: "{reason}: no PASS is possible",
}
REMEDIES: Mapping[Obstacle, str] = {
    Obstacle.NEVER: "A run can establish FAIL as it is; docs/vendor-audit.md says what a PASS would need.",
    Obstacle.NO_MODEL_TYPE: "Save the model with save_pretrained, which writes it.",
    Obstacle.NO_ORGANISMS: "docs/architectures.md lists the architectures that have organisms. Let the policy's owner "
    f"add terms for a calibration, which stands in for the self-test on the original (docs/calibration.md), {OWNER}",
    Obstacle.NO_CASE: "Let the policy's owner require another attack in its place, add terms for a calibration on the "
    f"original under which it can be tested (docs/calibration.md), {OWNER}",
    Obstacle.NEITHER: f"Let the policy's owner name a method for it under 'calibration', {OWNER}",
    Obstacle.NO_CALIBRATION: "Let the policy's owner name a method for it under 'calibration', or take it out of "
    "'required', or say `validity: {{calibration: off}}`. A run can establish FAIL as it is.",
}


def obstacles(policy: Loaded[Policy], suite: Loaded[Suite] | None, model_type: str) -> tuple[Prospect, ...]:
    """Why no self-test or calibration can satisfy the policy for a model of this architecture; empty where they can.

    Args:
        policy: the requirements; where it requires neither self-test nor calibration, or no attack, nothing is in the
            way.
        suite: the suite whose settings it requires; None: the attacks' defaults.
        model_type: of the candidate's text part (`inputs.checkpoint.place.model_type`); empty where it names none.

    Raises:
        UsageError: the suite runs no attack that the policy requires, or without a suite its settings are incomplete.
    """
    validity = policy.record.validity
    if validity.passes == "never":
        return (Prospect(Obstacle.NEVER, {}, policy.where("validity", "passes")),)
    if all(each.attack == "none" for each in policy.record.required):
        return ()
    found = [] if validity.self_test == "off" else [*_of_self_test(policy, suite, model_type)]
    if validity.calibration != "off":
        found += [
            Prospect(Obstacle.NO_CALIBRATION, {"reason": reason}, policy.where("required", index))
            for index, reason in uncalibrated(policy, suite, model_type)
        ]
    return tuple(found)


def _of_self_test(policy: Loaded[Policy], suite: Loaded[Suite] | None, model_type: str) -> Iterator[Prospect]:
    """What is in the way of a self-test, and of a calibration that stands in for it under the policy's terms."""
    spiked = policy.record.calibration is not None
    lost = dict(uncalibrated(policy, suite, model_type)) if spiked else {}
    if not model_type:
        yield Prospect(Obstacle.NO_MODEL_TYPE, {})
    elif model_type in BENCHES:
        for index, reason in unprovable(policy, suite, model_type):
            if not spiked or index in lost:
                yield Prospect(Obstacle.NO_CASE, {"reason": reason}, policy.where("required", index))
    elif not spiked:
        yield Prospect(Obstacle.NO_ORGANISMS, {"model_type": model_type})
    else:
        for index, reason in lost.items():
            args = {"model_type": model_type, "reason": reason}
            yield Prospect(Obstacle.NEITHER, args, policy.where("required", index))


def way(policy: Loaded[Policy], suite: Loaded[Suite] | None, model_type: str) -> str:
    """What makes a PASS possible where nothing is in the way; the self-test's or calibration's command, if required."""
    validity, spiked = policy.record.validity, policy.record.calibration is not None
    names = dict.fromkeys(label_of(each.requirement.attack, each.config) for _, each in asked(policy, suite))
    if (validity.self_test, validity.calibration) == ("off", "off"):
        return "the policy requires no self-test: a PASS does not show that the attacks work on this architecture"
    if not names:
        return "the policy requires no attack, so no self-test is needed"
    if validity.self_test == "off":
        return f"a PASS is possible: the policy requires no self-test, and a calibration must be made: {CALIBRATE}"
    if spiked and (model_type not in BENCHES or any(True for _ in unprovable(policy, suite, model_type))):
        return (
            f"a PASS is possible: not all of {len(names)} required attacks can be tested on organisms of a "
            f"'{model_type}', and a calibration on the original stands in for the self-test: {CALIBRATE}"
        )
    of = f"organisms of a '{model_type}'"
    if source := bench_of(model_type).shipped_as:
        of += f" ({source} organisms, written as that class with the same function)"
    return (
        f"a PASS is possible: each of {len(names)} required attacks can be tested on {of}; the self-test must be made: "
        f"`robustness-gate self-test --policy POLICY --suite SUITE --model-type {model_type} --out self-test.json`"
        + (f"; and a calibration: {CALIBRATE}" if validity.calibration != "off" else "")
    )


def untestable(policy: Policy, planned: Iterable[Trial | LeftOut], model_type: str) -> dict[str, str]:
    """Required attacks of a run, by label, without a possible self-test on this architecture; each with the reason.

    Where the policy has terms for a calibration, only those for which no calibration is possible either.

    Args:
        policy: the policy of the run.
        planned: the candidate's trials, with the suite's settings, and those that the command left out.
        model_type: of the candidate's text part.
    """
    found: dict[str, str] = {}
    for each in planned:
        for requirement in policy.required:
            if requirement.attack == "none" or not requirement.fits(each.attack, each.config):
                continue
            name = label_of(each.attack, each.config)
            one = Asked(requirement, 0, each.config, ())  # what is testable depends on the kind alone
            terms = policy.calibration if model_type else None
            if terms is not None and not without_calibration(one, terms, model_type):
                continue
            if not model_type:
                found[name] = "config.json names no model_type"
            elif model_type not in BENCHES:
                found[name] = f"no organism is a '{model_type}'"
            elif reason := without_case(one, bench_of(model_type)):
                found[name] = reason
    return found


def sentence(each: Prospect) -> str:
    """The sentence of an obstacle, after its place in the policy."""
    told = fill(SENTENCES[each.code], each.args)
    return f"{each.where}: {told}" if each.where else told


def remedy(each: Prospect) -> str:
    """What to do about it."""
    return fill(REMEDIES[each.code], each.args)
