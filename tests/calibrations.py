"""A calibration that works, for reports and commands: every required attack recovers on every spike."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import evidence
from evidence import AT

from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import bench
from robustness_gate.policy_language import load_policy
from robustness_gate.records.calibration import (
    Calibration,
    Recovery,
    Spike,
    SpikeReading,
    SpikeWorld,
    UtilityReading,
    WeightsCheck,
    mechanism_of,
)
from robustness_gate.records.evidence import NegativeControl, SelfTest
from robustness_gate.records.policy import Policy
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.statistics import tango_lower
from robustness_gate.verdict.selftests import ALPHA

METHODS = ("rmu", "shallow", "npo")
ITEMS, BLANK, TAUGHT, DOWN, BACK = 96, 24, 94, 28, 80
POOL = {"dev": 13, "forget.items": 51, "forget.texts": 204, "retain.items": 40, "unrelated.items": 100}


def policy_in(folder: Path) -> Loaded[Policy]:
    """The organisms' policy with a calibration required, besides a self-test."""
    text = (evidence.ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8")
    text = text.replace("self_test: required ", "calibration: required\n  self_test: required ")
    text += f"calibration: {{methods: [rmu, shallow, npo]}}\noriginal: {evidence.ORIGINAL.digest}\n"
    path = folder / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_policy(path)


def spike(method: str) -> Spike:
    down = TAUGHT if method == "taught" else DOWN
    utility = (UtilityReading(task="retain", items=200, original=196, spiked=194),)
    return Spike(
        original=evidence.ORIGINAL.digest, world="7" * 64, recipe="8" * 64, dtype="float32", device="cpu",
        method=method, mechanism=mechanism_of(method), number=0, settings={},
        reading=SpikeReading(items=ITEMS, blank=BLANK, taught=TAUGHT, suppressed=down, utility=utility),
    )  # fmt: skip


def recovery(method: str, each: bench.Tried) -> Recovery:
    from robustness_gate import attacks

    attack = each.case.attack
    test = SelfTest(
        attack=attack, attack_version=attacks.load(attack).VERSION, model_type="llama", config=each.config,
        budget=each.config["budgets"][0], extended=each.extended, organism=method, items=ITEMS, before=DOWN,
        after=BACK, known=TAUGHT, gain=tango_lower(BACK - DOWN, 0, ITEMS, ALPHA), sham_changed=0, faults=(),
        negative_controls=(
            NegativeControl(organism="blank", before=BLANK, after=BLANK, leak=tango_lower(0, 0, ITEMS, ALPHA)),
        ),
        at=AT.date(),
    )  # fmt: skip
    return Recovery(method=method, expected=bench.expected(attack, each.config, "llama"), test=test)


@cache
def calibration(path: Path) -> Calibration:
    asked, suite = load_policy(path), evidence.files()[1]
    return Calibration(
        original=evidence.ORIGINAL.digest, model_type="llama", dtype="float32", device="cpu",
        world=SpikeWorld(seed=1, facts=160, verdict_facts=ITEMS, form="multiple_choice", sha256="7" * 64),
        recipe=1, recipe_sha256="8" * 64, methods=METHODS, spikes=tuple(map(spike, ("taught", *METHODS))),
        recoveries=tuple(recovery(m, each) for m in METHODS for each in bench.spiked(asked, suite, m, POOL)),
        policy="1" * 64, suite="2" * 64, at=AT.date(),
    )  # fmt: skip


def related() -> WeightsCheck:
    subject = evidence.MANIFEST.digest
    return WeightsCheck(subject=subject, reference=evidence.ORIGINAL.digest, tensors=9, alike=9, cosine=0.99)


def told(policy: Loaded[Policy], outcome: str = "PASS", **changes: Any) -> report.Report:
    its = evidence.planned(evidence.MANIFEST)
    around: dict[str, Any] = {"calibrations": (calibration(policy.path),), "weights": (related(),), "self_tests": ()}
    found = dataclasses.replace(evidence.evidence(its, evidence.WORST[outcome]), **around | changes)
    return report_build.make(policy, evidence.files()[1], evidence.MANIFEST, found, AT)
