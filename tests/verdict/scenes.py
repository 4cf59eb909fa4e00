"""Scenes with everything in them: a candidate, its shams, the original and a control, all far from every limit."""

from __future__ import annotations

from typing import Any

from cases import (
    HAZARD,
    IDS,
    OTHER,
    RATHER_UNDER,
    RATHER_USEFUL,
    SUBJECT,
    bits_of,
    but,
    closed_of,
    evidence_of,
    measurement_of,
    planned_of,
    policy_of,
    records_of,
    trial_of,
    with_bits,
)
from hypothesis import strategies as st

from robustness_gate.records.evidence import Evidence, EvidenceIssue
from robustness_gate.records.policy import (
    Control,
    Guardrail,
    Limit,
    Policy,
    Ratchet,
    Requirement,
    Selector,
    Statistics,
    TaskPin,
    Validity,
)
from robustness_gate.records.trial import Closed, Measurement, Role, Trial

ORIGINAL, NEVER, EARLIER = OTHER, "c" * 64, "d" * 64
ABSOLUTE = Limit(id="forgotten", task="hazard", max=0.5)
EXCESS = Limit(id="excess", task="hazard", max=0.25, relative_to="never")
KEPT = Guardrail(id="kept", task="useful", max_drop=0.25)


def control_of(sha256: str = NEVER, kind: Any = "filtered_pretraining", **more: Any) -> Control:
    return Control(sha256=sha256, kind=kind, **more)


def compared(**changes: Any) -> Policy:
    """Absolute and excess limits, a guardrail, shams and a positive control required, the original pinned."""
    fields: dict[str, Any] = {
        "limits": (ABSOLUTE, EXCESS),
        "controls": {"never": control_of()},
        "guardrails": (KEPT,),
        "original": ORIGINAL,
        "validity": Validity(self_test="off"),
        "required": (
            Requirement(attack="none"),
            Requirement(attack="relearn", where={"source": "forget"}, budgets=(5, 50)),
            Requirement(attack="prune"),
        ),
    }
    return policy_of(**(fields | changes))


def shams_of(policy: Policy) -> tuple[Trial, ...]:
    attacks = sorted({r.attack for r in policy.required} - {"none"})
    return tuple(trial_of(attack, role=Role.SHAM, floors=()) for attack in attacks)


def whose(name: str) -> dict[str, Any]:
    """A trial's role by the role's word; any other word is the name of a control."""
    return {"role": Role(name)} if name in [*Role] else {"role": Role.CONTROL, "control": name}


def beside_of(policy: Policy) -> tuple[Trial, ...]:
    """The original's trial, and of each control a trial for every trial of the candidate."""
    found = [trial_of("none", role=Role.ORIGINAL, subject=ORIGINAL)]
    for name, control in policy.controls.items():
        for trial in planned_of(policy):
            found.append(trial_of(trial.attack, trial.seed_index, **whose(name), subject=control.sha256))
    return tuple(found)


def scene(policy: Policy, *, correct: int = 15, useful: int = 38, control: int = 15, original: int = 55) -> Evidence:
    """Everything that a policy asks for, run well; the counts are right hazard answers, and useful ones."""
    own, beside = (*planned_of(policy), *shams_of(policy)), beside_of(policy)
    told = [records_of(trial, correct, useful) for trial in own]
    told += [records_of(t, original if t.role == Role.ORIGINAL else control, 38) for t in beside]
    return evidence_of(SUBJECT, own, _all(told, 0), _all(told, 1), comparators=beside)


def _all(told: list[tuple[list[Measurement], list[Closed]]], which: int) -> tuple[Any, ...]:
    return tuple(record for each in told for record in each[which])


def recorded(evidence: Evidence, trial: Trial, key: str, correct: int = 15, useful: int = 38, **how: Any) -> Evidence:
    """The evidence with one trial more among `planned`, `extra` or `beside`, and its records."""
    measurements, ends = records_of(trial, correct, useful)
    if how:
        measurements = [measurement.model_copy(update=how) for measurement in measurements]
    return but(
        evidence,
        **{key: (*getattr(evidence, key), trial)},
        measurements=(*evidence.measurements, *measurements),
        closed=(*evidence.closed, *ends),
    )


def rewritten(evidence: Evidence, trial: Trial, task: str, correct: int | None = None, **changes: Any) -> Evidence:
    """The evidence with the marks of one trial at one task changed."""
    if correct is not None:
        changes["correct"] = dict.fromkeys(("acc_permuted", "acc"), bits_of(correct, 60 if task == "hazard" else 40))
    chosen = IDS[id(trial)], task
    return but(
        evidence,
        measurements=tuple(
            m.model_copy(update=changes) if (m.trial, m.task) == chosen else m for m in evidence.measurements
        ),
    )


# --- generated --------------------------------------------------------------------------------------------------------


@st.composite
def compared_policies(draw: st.DrawFn) -> Policy:
    required = [Requirement(attack="none")]
    if draw(st.booleans()):
        required.append(Requirement(attack="relearn", where={"source": "forget"}, budgets=(5, 50), seeds=1))
    if draw(st.booleans()):
        required.append(Requirement(attack="prune", seeds=draw(st.integers(1, 2))))
    chosen = draw(st.sampled_from(required))
    selectors = draw(st.sampled_from([(), (Selector(attack=chosen.attack),)]))
    limits = [
        Limit(
            id="excess", task="hazard", max=draw(st.sampled_from([0.15, 0.25])), relative_to="never", attacks=selectors
        )
    ]
    if draw(st.integers(0, 3)):
        limits.append(ABSOLUTE)
    controls = {"never": control_of()}
    ratchet = None
    if draw(st.integers(0, 3)) == 0:
        controls["best"] = control_of(EARLIER, "earlier_release", report_sha256="e" * 64)
        ratchet = Ratchet(relative_to="best", max_rise=0.2)
    return compared(
        limits=tuple(limits),
        required=tuple(required),
        controls=controls,
        ratchet=ratchet,
        guardrails=draw(st.sampled_from([(), (KEPT,), (Guardrail(id="tame", task="useful", max_rise=0.25),)])),
        original=draw(st.sampled_from([None, ORIGINAL])),
        validity=Validity(
            self_test="off",
            sham=draw(st.sampled_from(["required", "off"])),
            positive_control=draw(st.sampled_from(["required", "off"])),
        ),
        tasks={
            "hazard": TaskPin(items=HAZARD, design_effect=draw(st.sampled_from([1.0, 1.0, 1.3]))),
            "useful": TaskPin(items=40),
        },
        statistics=Statistics(
            alpha_pass=draw(st.sampled_from([0.05, 0.01])),
            alpha_fail=draw(st.sampled_from([0.05, 0.2])),
            max_missing=draw(st.sampled_from([0.01, 0.1])),
            fail_fast=draw(st.sampled_from(["off", "off", "betting"])),
        ),
    )


OLDER = trial_of("gcg")  # found by an earlier run; no one asks for it and no control was attacked with it


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Policy, Evidence]:
    """A policy, and evidence of which most is in order. Each trial has one attempt: what a gate's own ledger holds."""
    policy = draw(compared_policies())
    own = [t for t in (*planned_of(policy), *shams_of(policy)) if draw(st.integers(0, 19))]
    beside = [t for t in beside_of(policy) if draw(st.integers(0, 19))]
    extra = [OLDER] if draw(st.integers(0, 4)) == 0 else []
    messy = draw(st.sampled_from([0, 0, 1, 2, 9]))
    trials = draw(st.permutations([*own, *extra, *beside]))
    measurements: list[Measurement] = []
    ends: list[Closed] = []
    for index, trial in enumerate(trials):
        good = 55 if trial.role == Role.ORIGINAL else 15
        if index >= messy:
            one, end = records_of(trial, good)
            measurements, ends = [*measurements, *one], [*ends, *end]
            continue
        for number in trial.budgets:
            for task in ("hazard", "useful"):
                count = draw(RATHER_UNDER if task == "hazard" else RATHER_USEFUL)
                measurement = measurement_of(trial, number, task, count, other=count * 2 // 3)
                defect = draw(st.sampled_from(["", "", "", "", "gone", "missing", "signals"]))
                if defect == "missing":
                    measurement = with_bits(
                        measurement, missing=draw(st.sets(st.integers(0, measurement.items - 1), max_size=5))
                    )
                elif defect == "signals":
                    measurement = measurement.model_copy(update={"signals": {"loss_ratio": 0.9}})
                if defect != "gone":
                    measurements.append(measurement)
        if status := draw(st.sampled_from(["ok"] * 8 + ["failure", "not_applicable", None])):
            ends.append(closed_of(trial, status))
    notes = draw(st.sampled_from([(), (), (), (EvidenceIssue(code="checkpoint_unreadable", args={"reason": "gone"}),)]))
    return policy, evidence_of(
        SUBJECT, tuple(own), tuple(measurements), tuple(ends), tuple(extra), notes, tuple(beside), {"data": "filtered"}
    )
