"""More than a thousand mutants of one signed report: none of them is accepted as another claim.

Three kinds of liar. Who has no key changes bytes, or signs with a key of his own. Who has the trusted key can sign any
sentence; what he changes must then contradict something else in the report, or something that the auditor holds. What
contradicts nothing is his word alone: OWN_WORDS lists it, and docs/decisions/0008-what-verify-cannot-see.md says why.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import evidence
import pytest
from evidence import AT, LAB, STRANGER, files, look, made, name_of, signed

from robustness_gate.attestation import dsse, predicate
from robustness_gate.errors import Exit, Unverified
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.policy_language import load_policy
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Measurement, Role, Trial, seed_of
from robustness_gate.report import build as report_build
from robustness_gate.report import record
from robustness_gate.report.record import Origin
from robustness_gate.verdict import pack

TRIED: Counter[str] = Counter()
"""How many mutants each kind of liar made; the last test here counts them."""
At = tuple[str | int, ...]


@dataclass
class Case:
    """A signed report, and an auditor who holds all that an auditor can hold."""

    raw: bytes
    statement: dict[str, Any]
    asked: dict[str, Any]
    model: Path

    def accepts(self, raw: bytes, **other: Any) -> bool:
        return look(raw, **{**self.asked, **other}).verified


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    place: Path = tmp_path_factory.mktemp("mutants")
    model = evidence.checkpoint(place / "model")
    run = place / "run"
    run.mkdir()
    (run / "report.html").write_text("<p>PASS</p>")
    told = made("PASS", model, provenance=[Origin(role=Role.CANDIDATE, source="hf://lab/model@" + "1" * 40)])
    head = predicate.head_of(evidence.ledger_of(told, place / "ledger.jsonl"))
    before = signed(made("FAIL", at=AT - timedelta(days=2)), at=AT - timedelta(days=2))
    (place / "before.json").write_bytes(before)
    raw = signed(
        told,
        previous=name_of(before),
        supersedes=["d" * 64],
        revokes=["e" * 64],
        attachments=predicate.attachments_in(run),
        ledger=head,
    )
    policy, suite = files()
    asked = {
        "checkpoint": CheckpointRef(model),
        "policy": policy,
        "suite": suite,
        "attachments": run,
        "known": (place / "before.json",),
        "ledger": place / "ledger.jsonl",
    }
    found = Case(raw, json.loads(dsse.payload_of(raw)), asked, model)
    assert look(raw, **asked).exit_code == Exit.PASS
    return found


# --- without a key ----------------------------------------------------------------------------------------------------


def opens(raw: bytes) -> bool:
    try:
        dsse.open_bundle(raw, [LAB.public])
    except Unverified:
        return False
    return True


def test_every_changed_byte_of_the_bundle_is_noticed(case: Case) -> None:
    chance = random.Random(6)
    assert opens(case.raw)
    for _ in range(600):
        at = chance.randrange(len(case.raw))
        kind = chance.choice(("flip", "flip", "flip", "drop", "double", "cut"))
        raw = bytearray(case.raw)
        if kind == "flip":
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == "drop":
            del raw[at]
        elif kind == "double":
            raw.insert(at, raw[at])
        else:
            del raw[at:]
        if bytes(raw) == case.raw:
            continue
        TRIED["bytes"] += 1
        assert not opens(bytes(raw)), (kind, at)


def test_base64_that_says_the_same_bytes_is_the_same_claim_and_other_base64_is_none(case: Case) -> None:
    bundle = json.loads(case.raw)
    text = bundle["dsseEnvelope"]["payload"]
    payload = base64.b64decode(text)

    def wrapped(payload: str) -> bytes:
        return json.dumps({**bundle, "dsseEnvelope": {**bundle["dsseEnvelope"], "payload": payload}}).encode()

    same = wrapped(base64.urlsafe_b64encode(payload).decode())
    assert opens(same)
    assert name_of(same) == name_of(case.raw)
    spare = text.rstrip("=")
    spoilt = [text + "=", text + "\n", text[:76] + "\r\n" + text[76:], " " + text, text + "AAAA", text[4:], text[:-4]]
    if len(spare) < len(text):
        spoilt += [spare, spare[:-1] + chr(ord(spare[-1]) + 1) + text[len(spare) :]]
    for each in spoilt:
        TRIED["bytes"] += 1
        assert not opens(wrapped(each)), each[:90]


# --- with a key of his own --------------------------------------------------------------------------------------------


def leaves(value: Any, at: At = ()) -> Iterator[At]:
    """The address of everything in plain data but the whole."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*at, key)
        yield from leaves(each, (*at, key))


def found(value: Any, at: At) -> Any:
    for key in at:
        value = value[key]
    return value


GONE = object()


def replaced(value: Any, at: At, by: Any) -> Any:
    """A copy with one thing in it replaced, or taken out."""
    new = copy.copy(value)
    if len(at) > 1:
        new[at[0]] = replaced(value[at[0]], at[1:], by)
    elif by is GONE:
        del new[at[0]]
    else:
        new[at[0]] = by
    return new


def others(value: Any) -> list[Any]:
    """Other values of the same type, and of another."""
    if isinstance(value, bool):
        return [not value, 1, GONE]
    if isinstance(value, (int, float)):
        return [value + 1, value * 0.9 - 0.1, GONE, str(value)]
    if isinstance(value, str):
        return [("b" if value[:1] == "a" else "a") + value[1:], value + "x", "", GONE]
    if isinstance(value, list):
        return [value[:-1], value + value[-1:], value[::-1], [], GONE]
    if isinstance(value, dict):
        return [{**value, "more": "a"}, {}, GONE]
    return ["word", 0]


def test_a_strangers_signature_is_refused_whatever_it_signs_and_whatever_name_it_gives(case: Case) -> None:
    chance = random.Random(7)
    places = list(leaves(case.statement))
    for number in range(300):
        at = chance.choice(places)
        by = chance.choice([each for each in others(found(case.statement, at)) if each is not GONE])
        raw = dsse.sign(json.dumps(replaced(case.statement, at, by)).encode(), STRANGER)
        if number % 2:
            raw = raw.replace(STRANGER.public.id.encode(), LAB.public.id.encode())
        TRIED["own key"] += 1
        assert not opens(raw), at


# --- with the trusted key ---------------------------------------------------------------------------------------------

OWN_WORDS = (
    "report.environment",  # what was installed there
    "report.provenance",  # where checkpoints came from
    "revokes",
    "supersedes",
    "declarations",  # who ran it and who paid
    "attachments",  # a file that he does not name is told as not signed, and not as missing
)
"""What a signer can say as he likes, and no file that an auditor holds contradicts."""


def shape(at: At) -> str:
    return ".".join("*" if isinstance(key, int) else key for key in at)


def test_a_report_of_a_dishonest_signer_contradicts_itself_wherever_one_thing_is_changed(case: Case) -> None:
    """One mutant of every kind of field that a report has, each signed with the trusted key."""
    its = case.statement["predicate"]
    original = predicate.read_issued(dsse.payload_of(case.raw))
    kinds: dict[str, list[At]] = {}
    for at in leaves(its):
        kinds.setdefault(shape(at), []).append(at)
    one_comparison = [kind for kind in sorted(kinds) if kind.startswith("report.resolved.")]  # catches all of these
    for number, (kind, places) in enumerate(sorted(kinds.items())):
        if kind in one_comparison and one_comparison.index(kind) % 3:
            continue
        at = places[number % len(places)]
        value = found(its, at)
        changes = [each for each in others(value) if each is GONE or each != value]
        by = changes[number % len(changes)]
        payload = json.dumps({**case.statement, "predicate": replaced(its, at, by)}).encode()
        raw = dsse.sign(payload, LAB)
        TRIED["trusted key"] += 1
        if not case.accepts(raw, policy=None, suite=None):  # theirs are tried below, and cost as much as all the rest
            continue
        again = predicate.read_issued(payload)
        default_left_out = (by is GONE or by == {}) and again == original
        first = kind == "previous" and by is GONE  # a signer can call any statement his first (0008)
        assert default_left_out or first or kind.startswith(OWN_WORDS), (kind, str(by)[:80])
        assert name_of(raw) != name_of(case.raw), "whatever he says is another statement"


# --- with the trusted key, and careful --------------------------------------------------------------------------------


def again(case: Case, told: Evidence, policy: Any = None, suite: Any = None, **more: Any) -> bytes:
    """Other evidence, judged anew and in full, and signed: nothing in the report contradicts anything else."""
    made_before = predicate.read_issued(dsse.payload_of(case.raw))
    mine, its_suite = files()
    fields = {"manifest": made_before.report.manifest, "at": AT} | more
    forged = report_build.make(
        policy or mine, suite or its_suite, fields.pop("manifest"), told, fields.pop("at"), **fields
    )
    TRIED["careful"] += 1
    stated = {"previous": made_before.previous, "ledger": made_before.ledger, "attachments": made_before.attachments}
    return signed(forged, **stated)


def evidence_of(case: Case) -> Evidence:
    return record.evidence_in(predicate.read_issued(dsse.payload_of(case.raw)).report)


def rebuilt(told: Evidence, which: Callable[[Trial], bool], **changes: Any) -> Evidence:
    """Trials changed, with the records that name them by id following."""
    ids = {}
    planned = []
    for trial in told.planned:
        new = trial.model_copy(update=changes) if which(trial) else trial
        ids[trial.id] = new.id
        planned.append(new)
    measurements = tuple(
        measurement.model_copy(update={"trial": ids.get(measurement.trial, measurement.trial)})
        for measurement in told.measurements
    )
    closed = tuple(end.model_copy(update={"trial": ids.get(end.trial, end.trial)}) for end in told.closed)
    return dataclasses.replace(told, planned=tuple(planned), measurements=measurements, closed=closed)


def relearns(trial: Trial) -> bool:
    return trial.role == Role.CANDIDATE and trial.attack == "relearn"


def is_sham(trial: Trial) -> bool:
    return trial.role == Role.SHAM


def full(trial: Trial) -> bool:
    return relearns(trial) and trial.config["method"] == "full"


FORGERIES: dict[str, Callable[[Evidence], Evidence]] = {
    "a trial dropped": lambda e: dataclasses.replace(e, planned=tuple(t for t in e.planned if not full(t))),
    "a trial called unplanned": lambda e: dataclasses.replace(
        e, planned=tuple(t for t in e.planned if not full(t)), extra=tuple(t for t in e.planned if full(t))
    ),
    "a failed attempt dropped": lambda e: dataclasses.replace(
        e,
        measurements=tuple(m for m in e.measurements if m.attempt == 2 or not _twice(e, m.trial)),
        closed=tuple(c for c in e.closed if c.attempt == 2 or not _twice(e, c.trial)),
    ),
    "seeds chosen": lambda e: rebuilt(e, relearns, seed=12345),
    "the seed of another index": lambda e: rebuilt(e, full, seed=seed_of(e.subject, "relearn", 1)),
    "another index": lambda e: rebuilt(e, full, seed=seed_of(e.subject, "relearn", 1), seed_index=1),
    "floors removed": lambda e: rebuilt(e, relearns, floors=()),
    "an older attack": lambda e: rebuilt(e, relearns, attack_version=0),
    "a sham that is an attack": lambda e: rebuilt(e, is_sham, config=next(t.config for t in e.planned if full(t))),
    "a sham with floors": lambda e: rebuilt(e, is_sham, floors=next(t.floors for t in e.planned if full(t))),
    "fewer learning rates": lambda e: rebuilt(
        e, full, config={**next(t.config for t in e.planned if full(t)), "learning_rates": [1e-6]}
    ),
    "half precision": lambda e: rebuilt(e, lambda _: True, dtype="bfloat16"),
    "a mark after the last": lambda e: rebuilt(e, full, budgets=(5, 50)),
    "another family": lambda e: rebuilt(e, full, family="baseline"),
    "another model's trials": lambda e: rebuilt(e, full, subject="c" * 64, seed=seed_of("c" * 64, "relearn", 0)),
}


def _twice(told: Evidence, trial: str) -> bool:
    return any(end.trial == trial and end.attempt == 2 for end in told.closed)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_careful_forger_who_judges_everything_anew_is_caught(name: str, case: Case) -> None:
    raw = again(case, FORGERIES[name](evidence_of(case)))
    alone = look(raw)
    assert not alone.verified, "even without anything that the auditor holds"
    assert "verdict" not in evidence.failed(alone), "the forger was careful"
    assert alone.exit_code == Exit.UNVERIFIED


def answered(measurement: Measurement, share: float) -> Measurement:
    """The mark with so large a share of the hazard task right."""
    if measurement.task != "forget":
        return measurement
    bits = pack([i < share * measurement.items for i in range(measurement.items)])
    return measurement.model_copy(update={"correct": dict.fromkeys(measurement.correct, bits)})


def test_answers_that_were_flipped_and_judged_anew_are_seen_only_beside_the_ledger(case: Case) -> None:
    """What verify cannot see, of itself: the signed answers are the signer's word."""
    told = evidence_of(case)
    sham = {trial.id for trial in told.planned if trial.role == Role.SHAM or trial.attack == "none"}
    flipped = tuple(
        measurement if measurement.trial in sham else answered(measurement, 0.26) for measurement in told.measurements
    )
    raw = again(case, dataclasses.replace(told, measurements=flipped))
    assert look(raw).verified
    assert not case.accepts(raw)
    assert evidence.failed(look(raw, **case.asked)) == ["before and after"]


def test_a_flipped_answer_of_a_sham_is_seen_in_the_verdict(case: Case) -> None:
    told = evidence_of(case)
    shams = {trial.id for trial in told.planned if trial.role == Role.SHAM}
    flipped = tuple(
        answered(measurement, 0.3) if measurement.trial in shams else measurement for measurement in told.measurements
    )
    assert look(again(case, dataclasses.replace(told, measurements=flipped))).exit_code == Exit.INCONCLUSIVE


def test_a_policy_that_was_loosened_throughout_does_not_help_before_an_auditor_with_his_own(
    case: Case, tmp_path: Path
) -> None:
    loose = tmp_path / "policy.yaml"
    loose.write_text(files()[0].text.replace("max: 0.40", "max: 0.60"))
    told = evidence_of(case)
    attacked = {trial.id for trial in told.planned if relearns(trial)}
    half = tuple(
        answered(measurement, 0.5) if measurement.trial in attacked else measurement
        for measurement in told.measurements
    )
    raw = again(case, dataclasses.replace(told, measurements=half), policy=load_policy(loose))
    assert look(raw).exit_code == Exit.PASS
    assert look(raw, policy=files()[0]).exit_code == Exit.FAIL


def test_a_suite_that_was_weakened_throughout_does_not_help_before_an_auditor_with_his_own(
    case: Case, tmp_path: Path
) -> None:
    weak = tmp_path / "suite.yaml"
    weak.write_text(files()[1].text.replace("learning_rates: [1e-4, 5e-4, 2e-3]", "learning_rates: [1e-9]"))
    told = FORGERIES["fewer learning rates"](evidence_of(case))
    told = rebuilt(told, full, config={**next(t.config for t in told.planned if full(t)), "learning_rates": [1e-9]})
    raw = again(case, told, suite=load_suite(weak))
    assert look(raw).exit_code == Exit.PASS
    assert evidence.failed(look(raw, suite=files()[1])) == ["your suite"]


def test_a_report_of_another_model_is_not_one_of_this(case: Case, tmp_path: Path) -> None:
    """The same evaluator, the same policy, an honest report: replayed beside another checkpoint."""
    other = evidence.checkpoint(tmp_path / "other", b"\0\0\0\7")
    assert not case.accepts(case.raw, checkpoint=CheckpointRef(other))
    assert not case.accepts(signed(made("PASS", other)))
    for number, name in enumerate(("config.json", "model.safetensors")):
        folder = evidence.checkpoint(tmp_path / f"renamed{number}")
        assert inspect(folder).digest == inspect(case.model).digest
        (folder / name).rename(folder / f"{name}.txt")
        assert not case.accepts(case.raw, checkpoint=CheckpointRef(folder))
        TRIED["careful"] += 1


@pytest.mark.parametrize("path", ["../ledger.jsonl", "/etc/hostname", "a/../../ledger.jsonl", "rows/../../before.json"])
def test_attachments_do_not_reach_out_of_their_folder(path: str, case: Case) -> None:
    outside = {"path": path, "size": 1, "sha256": "a" * 64, "visibility": "public"}
    predicate = {**case.statement["predicate"], "attachments": [outside]}
    TRIED["careful"] += 1
    assert not case.accepts(dsse.sign(json.dumps({**case.statement, "predicate": predicate}).encode(), LAB))


@pytest.mark.parametrize(
    ("issued_at", "valid_until"),
    [
        ("2099-01-01T00:00:00Z", "2099-04-01T00:00:00Z"),  # not yet
        ("2026-11-21T11:59:59Z", "2027-02-19T12:01:00Z"),  # before it was judged
        ("2026-11-21T12:01:00Z", "2026-11-21T12:59:59Z"),  # over a second ago
        ("2026-11-21T12:01:00+00:00", "2027-02-19T12:01:00Z"),
        ("2026-11-21t12:01:00z", "2027-02-19T12:01:00Z"),
        ("2026-11-21T12:01:00Z", "9999-99-99T00:00:00Z"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_are_refused(issued_at: str, valid_until: str, case: Case) -> None:
    predicate = {**case.statement["predicate"], "issued_at": issued_at, "valid_until": valid_until}
    TRIED["careful"] += 1
    assert not case.accepts(dsse.sign(json.dumps({**case.statement, "predicate": predicate}).encode(), LAB))


def test_there_were_more_than_a_thousand() -> None:
    """Of the whole file; a part of it alone proves less."""
    if len(TRIED) < 4:
        pytest.skip("only some of the mutants were made")
    assert TRIED.total() >= 1000
    assert TRIED["trusted key"] >= 200
