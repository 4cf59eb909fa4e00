"""Builders of calibrations: each record with defaults, and a whole one in which every attack recovers everywhere."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import evidence
from evidence import AT

from robustness_gate import attacks, organisms
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import bench, calibrated, plan
from robustness_gate.policy_language import load_policy
from robustness_gate.records.calibration import (
    Calibration,
    Recovery,
    Spike,
    SpikeReading,
    SpikeWorld,
    UtilityReading,
    WeightsCheck,
)
from robustness_gate.records.evidence import NegativeControl, SelfTest
from robustness_gate.records.mechanisms import mechanism_of
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.statistics import tango_lower
from robustness_gate.verdict.selftests import ALPHA

WORLD, RECIPE = "7" * 64, "8" * 64
METHODS = ("rmu", "shallow", "npo")
ITEMS, BLANK, TAUGHT, DOWN, BACK = 96, 24, 94, 28, 80
POOL = {"dev": 13, "forget.items": 51, "forget.texts": 204, "retain.items": 40, "unrelated.items": 100}


def organism(name: str, role: Role = Role.CANDIDATE) -> plan.Subject:
    """A shipped organism as a model of a run."""
    place = CheckpointRef(organisms.checkpoint(name), source=f"organism:{name}")
    return plan.Subject(role, place, manifest_of(place))


def policy_in(folder: Path, original: str = evidence.ORIGINAL.digest) -> Loaded[Policy]:
    """The organisms' policy with a calibration required, besides a self-test."""
    text = (evidence.ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8")
    text = text.replace("self_test: required ", "calibration: required\n  self_test: required ")
    text += f"calibration: {{methods: [rmu, shallow, npo]}}\noriginal: {original}\n"
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


# --- one record -------------------------------------------------------------------------------------------------------


def reading(**changes: Any) -> SpikeReading:
    fields: dict[str, Any] = {
        "items": ITEMS,
        "blank": BLANK,
        "taught": TAUGHT,
        "suppressed": DOWN,
        "utility": (UtilityReading(task="retain", items=200, original=196, spiked=194),),
    }
    return SpikeReading(**(fields | changes))


def spike(method: str, read: SpikeReading | None = None, **changes: Any) -> Spike:
    """An accepted spike; of `taught` with nothing suppressed."""
    fields: dict[str, Any] = {
        "original": evidence.ORIGINAL.digest,
        "world": WORLD,
        "recipe": RECIPE,
        "dtype": "float32",
        "device": "cpu",
        "method": method,
        "mechanism": mechanism_of(method),
        "number": 0,
        "settings": {},
        "reading": read or reading(**({"suppressed": TAUGHT} if method == "taught" else {})),
    }
    return Spike(**(fields | changes))


def gain(before: int, after: int) -> float:
    only_after, only_before = max(0, after - before), max(0, before - after)
    return tango_lower(only_after, only_before, ITEMS, ALPHA)


def self_test_of(method: str, attack: str, after: int = BACK, leak: int = BLANK, **changes: Any) -> SelfTest:
    """What an attack brought back on a spike, and on the blank; `changes` name at least version, config and budget."""
    fields: dict[str, Any] = {
        "attack": attack,
        "model_type": "llama",
        "organism": method,
        "items": ITEMS,
        "before": DOWN,
        "after": after,
        "known": TAUGHT,
        "gain": gain(DOWN, after),
        "negative_controls": (NegativeControl(organism="blank", before=BLANK, after=leak, leak=gain(BLANK, leak)),),
        "sham_changed": 0,
        "faults": (),
        "at": AT.date(),
    }
    return SelfTest(**(fields | changes))


def calibration_of(**changes: Any) -> Calibration:
    """A calibration; `changes` name at least its recoveries."""
    fields: dict[str, Any] = {
        "original": evidence.ORIGINAL.digest,
        "model_type": "llama",
        "dtype": "float32",
        "device": "cpu",
        "world": SpikeWorld(seed=1, facts=160, verdict_facts=ITEMS, form="multiple_choice", sha256=WORLD),
        "recipe": 1,
        "recipe_sha256": RECIPE,
        "methods": METHODS,
        "spikes": tuple(map(spike, ("taught", *METHODS))),
        "policy": "1" * 64,
        "suite": "2" * 64,
        "at": AT.date(),
    }
    return Calibration(**(fields | changes))


def related(**changes: Any) -> WeightsCheck:
    subject, original = evidence.MANIFEST.digest, evidence.ORIGINAL.digest
    fields: dict[str, Any] = {"subject": subject, "reference": original, "tensors": 9, "alike": 9, "cosine": 0.99}
    return WeightsCheck(**(fields | changes))


# --- of a whole policy ------------------------------------------------------------------------------------------------


def recovery(method: str, each: bench.Tried) -> Recovery:
    """Of an attack as a policy requires it."""
    attack = each.case.attack
    test = self_test_of(
        method, attack, attack_version=attacks.load(attack).VERSION, config=each.config,
        budget=each.config["budgets"][0], extended=each.extended,
    )  # fmt: skip
    return Recovery(method=method, expected=calibrated.expected(attack, each.config, "llama"), test=test)


@cache
def calibration(path: Path) -> Calibration:
    """In which every attack that a policy requires recovers on every spike."""
    policy, suite = load_policy(path), evidence.files()[1]
    found = [recovery(m, each) for m in METHODS for each in calibrated.spiked(policy, suite, m, POOL)]
    return calibration_of(recoveries=tuple(found))


def told(policy: Loaded[Policy], outcome: str = "PASS", **changes: Any) -> report.Report:
    its = evidence.planned(evidence.MANIFEST)
    around: dict[str, Any] = {"calibrations": (calibration(policy.path),), "weights": (related(),), "self_tests": ()}
    found = dataclasses.replace(evidence.evidence(its, evidence.WORST[outcome]), **around | changes)
    return report_build.make(policy, evidence.files()[1], evidence.MANIFEST, found, AT)
