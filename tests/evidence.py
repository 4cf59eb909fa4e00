"""Made-up evidence in the form of a whole report, and what a signer and an auditor do with it. Nothing is run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from builders import told

from robustness_gate import attacks
from robustness_gate.attestation import dsse, keys, predicate, verify
from robustness_gate.attestation.trust import Trusted, trusting
from robustness_gate.attestation.verify import plan as plan_of_report
from robustness_gate.attestation.verify import wording
from robustness_gate.cli.verifying import required
from robustness_gate.errors import Exit
from robustness_gate.evidence import ledger
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest, inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.inputs.yaml import parse_yaml
from robustness_gate.planning import bench, plan
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records import codes
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import (
    Evidence,
    NegativeControl,
    Planned,
    SelfTest,
    Stored,
    TokenizerCheck,
    Unread,
)
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Role
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report

ROOT = Path(__file__).parents[1]
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
"""When it was judged; it is signed a minute later, and looked at an hour later."""
SIGNED, NOW = AT + timedelta(minutes=1), AT + timedelta(hours=1)
LAB, STRANGER = keys.generate(), keys.generate()
OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE")
WORST = {"PASS": 0.27, "FAIL": 0.8, "INCONCLUSIVE": 0.38}
"""What the strongest attack brings back: under a limit of 0.40, over it, too near to tell (400 questions)."""


WORKS = SelfTest(
    attack="relearn", attack_version=attacks.load("relearn").VERSION, model_type="llama",
    config=bench.by_name(["relearn"])[0].config, budget=5,
    organism="rmu", items=400, before=82, after=370, known=398, share=0.6, gain=0.68,
    negative_controls=(
        NegativeControl(organism="oracle", before=111, after=105, leak=-0.05),
        NegativeControl(organism="decoy", before=97, after=99, leak=-0.03),
    ),
    sham_changed=0, faults=(),
    at=date(2026, 11, 1),
)  # fmt: skip
"""What `self-test` leaves of an attack that works: of full relearning from five of the forgotten domain's questions."""


@cache
def files() -> tuple[Loaded[Policy], Loaded[Suite]]:
    """The policy that asks for shams and a self-test, and its suite."""
    return load_policy(ROOT / "policies" / "organism.yaml"), load_suite(ROOT / "suites" / "organism-smoke.yaml")


@cache
def suite_data() -> SuiteData:
    return gather(files()[1])


@cache
def work() -> tuple[SelfTest, ...]:
    """What `self-test` leaves where each of the policy's requirements works."""
    return tuple(
        WORKS.model_copy(
            update={
                "config": each.config,
                "budget": each.config["budgets"][0],
                "organism": each.case.organism,
                "share": each.case.share,
                "before": bench.UNTOUCHED[each.case.organism],
                "gain": 0.6,
            }
        )
        for each in bench.required_by(*files(), suite_data().pool())
    )


def checkpoint(folder: Path, weights: bytes = b"\0\0\0\0") -> Path:
    """The smallest directory that passes for a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / "config.json").write_text('{"architectures":["LlamaForCausalLM"],"model_type":"llama"}')
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + weights)
    return folder


def planned(manifest: Manifest, only: Sequence[str] = ()) -> plan.Plan:
    subjects = [
        plan.Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest),
        plan.Subject(Role.ORIGINAL, CheckpointRef(Path()), ORIGINAL),
    ]
    return plan.make(*files(), suite_data(), subjects, only=only)


def evidence(made: plan.Plan, worst: float, *, turn: int = 0) -> Evidence:
    """Every attack and sham at chance, one attack at `worst`; the last attack ended at its second attempt."""
    own = tuple(trial for trial in made.trials if trial.role != Role.ORIGINAL)
    attacks = [trial for trial in own if trial.role == Role.CANDIDATE and trial.attack != "none"]
    measurements, closed = [], []
    for trial in own:
        last = bool(attacks) and trial == attacks[-1]
        share = worst if trial == (attacks or list(own))[0] else 0.27
        measurements += told(trial, share, 2 if last else 1, turn=turn)
        if last:
            measurements += told(trial, 0.26, 1, turn=turn)
            closed.append(Closed(trial=trial.id, attempt=1, status="failure", reason="the machine was switched off"))
        closed.append(Closed(trial=trial.id, attempt=2 if last else 1, status="ok"))
    beside = tuple(trial for trial in made.trials if trial.role == Role.ORIGINAL)
    for trial in beside:
        measurements += told(trial, 0.9)
        closed.append(Closed(trial=trial.id, attempt=1, status="ok"))
    subject = made.candidate.manifest.digest
    return Evidence(
        subject, own, tuple(measurements), tuple(closed), comparators=beside, model_type="llama", self_tests=work(),
        tokenizers=(alike(subject),), stored=Stored(weights={"float32": 1}), unread=Unread(), devices=("cpu",),
    )  # fmt: skip


def alike(subject: str) -> TokenizerCheck:
    """The candidate has the original's tokenizer."""
    return TokenizerCheck(
        subject=subject, reference=ORIGINAL.digest, sha256="5" * 64, template="6" * 64, reference_sha256="5" * 64,
        reference_template="6" * 64, texts=7776,
        tasks={name: ref.sha256 for name, ref in suite_data().refs.items()}, data=suite_data().data_digests,
    )  # fmt: skip


def made(
    outcome: str = "PASS",
    folder: Path | None = None,
    *,
    policy: Loaded[Policy] | None = None,
    only: Sequence[str] = (),
    at: datetime = AT,
    **more: Any,
) -> report.Report:
    """A report with this outcome (without the attacks that `only` leaves out, which cannot be a PASS)."""
    manifest = inspect(folder) if folder is not None else MANIFEST
    its = planned(manifest, only)
    told = dataclasses.replace(evidence(its, WORST[outcome]), left_out=its.left_out)
    if folder is not None:
        told = dataclasses.replace(told, stored=precision.stored(CheckpointRef(folder)))
    return report_build.make(policy or files()[0], files()[1], manifest, told, at, **more)


@cache
def bundle(outcome: str = "PASS") -> bytes:
    """A signed report with this outcome."""
    return signed(made(outcome))


MANIFEST = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="a" * 64),))
ORIGINAL = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="b" * 64),))


def signed(told: report.Report, key: keys.PrivateKey = LAB, **more: Any) -> bytes:
    """The bundle. `more` is what `issue` takes, or a field of its Terms."""
    names = {each.name for each in dataclasses.fields(predicate.Terms)}
    terms = {"at": SIGNED} | {name: more.pop(name) for name in list(more) if name in names}
    return predicate.issue(told, key, predicate.Terms(**terms), **more)


def name_of(bundle: bytes) -> str:
    """SHA-256 of what a bundle states."""
    return hashlib.sha256(dsse.payload_of(bundle)).hexdigest()


def resigned(bundle: bytes, change: Callable[[dict[str, Any]], object], key: keys.PrivateKey = LAB) -> bytes:
    """The same with its predicate changed, and signed again: what a dishonest signer can do. `change` edits in place.

    Digests that follow (of marks' trials and so on) are not made anew, and what it says of itself is not judged again.
    """
    statement = json.loads(dsse.payload_of(bundle))
    change(statement["predicate"])
    return dsse.sign(encode(statement), key)


def look(bundle: bytes, at: datetime = NOW, **asked: Any) -> verify.Verification:
    """What an auditor sees who trusts the lab's key, or whom he says."""
    trusted: Trusted | None = asked.pop("trusted", trusting([LAB.public]))
    if isinstance(asked.get("suite"), Loaded):
        asked["suite"] = required(asked["suite"])
    with mock.patch.object(plan_of_report, "parse_yaml", READ_ONCE):
        return verify.verify(bundle, verify.Asked(trusted=trusted, **asked), at)


READ_ONCE = cache(parse_yaml)
"""The same words are read again and again here, and reading YAML is half of the work."""


def states(found: verify.Verification) -> dict[str, tuple[str, str]]:
    """(state, code) by title."""
    return {check.title: (check.state, check.code) for check in found.checks}


def arguments(found: verify.Verification, title: str) -> dict[str, Any]:
    """Of a check's code; every sentence of the verification can be written and printed."""
    assert all(wording.sentence(each).isprintable() and wording.remedy(each).isprintable() for each in found.checks)
    return dict(next(each for each in found.checks if each.title == title).args)


def refused(found: verify.Verification, title: str) -> str:
    """The code of a check that failed."""
    state, code = states(found)[title]
    assert state == "FAILED", (title, state, code)
    assert found.exit_code == Exit.UNVERIFIED
    assert arguments(found, title) is not None
    return code


def failed(found: verify.Verification) -> list[str]:
    return [check.title for check in found.checks if check.state == "FAILED"]


def ledger_of(told: report.Report, path: Path) -> ledger.Ledger:
    """A ledger that holds what a report holds."""
    evidence = report.evidence_in(told)
    trials = [*evidence.planned, *evidence.comparators, *evidence.extra]
    with ledger.writing(path) as opened:
        for trial in trials:
            opened.append(trial)
        opened.append(
            Planned(
                subject=told.checkpoint,
                trials=tuple(t.id for t in trials),
                model_type=told.model_type,
                unread=told.unread,
                stored=told.stored,
                left_out=told.left_out,
                device="cpu",
                bases=told.bases,
                policy=told.policy.sha256,
                suite=told.suite.sha256,
            )
        )
        tested = (*evidence.self_tests, *evidence.calibrations, *evidence.weights, *evidence.tokenizers)
        for record in (*tested, *evidence.measurements, *evidence.closed):
            opened.append(record)
    return ledger.read(path)


def an_example(kinds: codes.Args) -> dict[str, Any]:
    """Arguments that fit what a code asks for."""
    examples = {str: "x", int: 2, float: 0.5, bool: True, list: ["x", "y"]}
    examples |= {codes.Role: "candidate", codes.FindingKind: "limit"}
    return {name: examples[kind[0] if isinstance(kind, tuple) else kind] for name, kind in kinds.items()}
