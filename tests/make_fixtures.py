"""Make tests/fixtures/verify: one small signed report of each kind, and what `verify` answers to it.

    python tests/make_fixtures.py

Run it when the form of a report changes on purpose, and read the difference: whoever holds an old bundle will meet it.
The keys are made from fixed numbers, so that a new run changes nothing that did not change; they protect nothing.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import evidence
from cryptography.hazmat.primitives.asymmetric import ec

from robustness_gate.attestation import dsse, keys, predicate, verify
from robustness_gate.attestation.trust import read_trust
from robustness_gate.cli.verifying import required
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence, TokenizerCheck, Unread
from robustness_gate.records.trial import Closed, Role
from robustness_gate.report import build as report_build
from robustness_gate.report import record

PLACE = Path(__file__).parent / "fixtures" / "verify"
YEARS = timedelta(days=3650)
SOMEWHERE = {"robustness-gate": "0.1.0", "python": "3.11.7", "platform": "linux-x86_64"}
CASES: dict[str, dict[str, str]] = {
    "accepted": {},
    "policy-rejected": {"bundle": "accepted", "policy": "strict.yaml"},
    "tampered-subject": {"bundle": "accepted", "checkpoint": "other-model"},
    "untrusted-signer": {},
    "stale": {},
    "too-old": {"bundle": "accepted", "max_age": "30"},
    "unsupported-version": {},
    "edited": {},
}
"""What an auditor does with a bundle of the same name, where it is not the plain thing."""


def key_of(number: int) -> keys.PrivateKey:
    return keys._private(ec.derive_private_key(number, ec.SECP256R1()))


def made() -> record.Report:
    """A PASS of the fixtures' policy, from made-up answers."""
    policy, suite = load_policy(PLACE / "policy.yaml"), load_suite(PLACE / "suite.yaml")
    manifest = inspect(PLACE / "model")
    its = plan.make(
        policy, suite, gather(suite), [plan.Subject(Role.CANDIDATE, CheckpointRef(PLACE / "model"), manifest)]
    )
    measurements = tuple(measurement for trial in its.trials for measurement in evidence.told(trial, 0.27))
    closed = tuple(Closed(trial=trial.id, attempt=1, status="ok") for trial in its.trials)
    check = TokenizerCheck(subject=manifest.digest, tasks={}, data={}, sha256="a" * 64, template="a" * 64)
    around = {"stored": precision.stored(CheckpointRef(PLACE / "model")), "unread": Unread()}
    told = Evidence(
        manifest.digest,
        its.trials,
        measurements,
        closed,
        model_type="llama",
        tokenizers=(check,),
        devices=("cpu",),
        **around,
    )
    return report_build.make(policy, suite, manifest, told, evidence.AT).model_copy(update={"environment": SOMEWHERE})


def bundles() -> dict[str, bytes]:
    """By name."""
    lab, stranger, told = key_of(1001), key_of(2002), made()
    accepted = evidence.signed(told, lab, valid_for=YEARS)
    other = json.loads(dsse.payload_of(accepted))
    other["predicateType"] = "urn:robustness-gate:report:v2"
    return {
        "accepted": accepted,
        "untrusted-signer": evidence.signed(told, stranger, valid_for=YEARS),
        "stale": evidence.signed(told, lab, valid_for=timedelta(minutes=30)),
        "unsupported-version": dsse.sign(encode(other), lab),
        "edited": evidence.resigned(accepted, lambda p: p["report"]["resolved"]["limits"][0].update(max=0.9), lab),
    }


def answer(name: str) -> dict[str, Any]:
    """What `verify` says to a case."""
    case = CASES[name]
    asked = verify.Asked(
        trusted=read_trust(PLACE / "trust.yaml"),
        checkpoint=CheckpointRef(PLACE / case.get("checkpoint", "model")),
        policy=load_policy(PLACE / case["policy"]) if "policy" in case else None,
        suite=required(load_suite(PLACE / "suite.yaml")),
        max_age=timedelta(days=int(case["max_age"])) if "max_age" in case else None,
    )
    at = datetime.fromisoformat("2027-01-01T00:00:00Z")
    found = verify.verify((PLACE / f"{case.get('bundle', name)}.sigstore.json").read_bytes(), asked, at)
    checks = [f"{check.number} {check.title}: {check.state}: {check.code}" for check in found.checks]
    return {"exit": int(found.exit_code), "checks": checks}


def main() -> None:
    """Write all of it."""
    evidence.checkpoint(PLACE / "model")
    evidence.checkpoint(PLACE / "other-model", b"\0\0\0\1")
    pem = key_of(1001).public.pem
    (PLACE / "lab.pub").write_text(pem)
    inside = "".join(f"      {line}\n" for line in pem.splitlines())
    (PLACE / "trust.yaml").write_text(
        f"schema: {'robustness-gate/trust/v1'}\nkeys:\n  - owner: The Lab\n    pem: |\n{inside}"
        f"    id: {key_of(1001).public.id}\n    valid_from: 2026-01-01\n"
    )
    manifest = inspect(PLACE / "model").model_dump(mode="json")
    (PLACE / predicate.MANIFEST).write_bytes(encode(manifest))
    for name, raw in bundles().items():
        (PLACE / f"{name}.sigstore.json").write_bytes(raw)
    answers = {name: answer(name) for name in CASES}
    (PLACE / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
