"""Every numbered check: what makes it ok, what makes it fail and with which code, and what leaves it not checked."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import evidence
import pytest
from evidence import (
    AT,
    LAB,
    SIGNED,
    STRANGER,
    arguments,
    bundle,
    failed,
    look,
    made,
    name_of,
    refused,
    resigned,
    signed,
    states,
)

from robustness_gate.attestation import dsse, keys, predicate
from robustness_gate.attestation import preregistration as preregistrations
from robustness_gate.attestation.trust import Revoked, RevokedReport, Signer, Trusted, TrustedKey
from robustness_gate.attestation.verify import Confirmed, Fault, NotTried, Unchecked, wording
from robustness_gate.attestation.verify.signer import SKEW
from robustness_gate.errors import Exit
from robustness_gate.evidence import ledger
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import EvidenceIssue, Note
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.verdict import pack, unpack

Predicate = dict[str, Any]
TITLES = [
    "signature", "form", "signer", "checkpoint", "time", "policy and suite", "nothing left out", "evidence", "verdict",
    "your policy", "your suite", "attachments", "preregistration", "before and after",
]  # fmt: skip


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run's folder as its evaluator leaves it, and everything that an auditor can bring."""
    place: Path = tmp_path_factory.mktemp("audit")
    model = evidence.checkpoint(place / "model")
    policy, suite = evidence.files()
    data, its = evidence.suite_data(), evidence.planned(inspect(model))
    terms = preregistrations.make(
        policy, suite, data.refs, data.data_digests, plan.of_candidate(its), AT - timedelta(days=1)
    )
    (place / "preregistration.json").write_bytes(preregistrations.sign_preregistration(terms, LAB))
    read = preregistrations.read_preregistration(place / "preregistration.json", [LAB.public])
    told = made(
        "PASS",
        model,
        preregistration=report.PreregisteredBefore(sha256=read.sha256, key=read.key.id, at=terms.preregistered_at),
    )
    run = place / "run"
    run.mkdir()
    (run / "report.html").write_text("<p>PASS</p>")
    (run / "rows").mkdir()
    (run / "rows" / "a.npy").write_bytes(b"rows")
    ledger = evidence.ledger_of(told, run / "ledger.jsonl")
    before = signed(made("FAIL", at=AT - timedelta(days=2)), at=SIGNED - timedelta(days=2))
    (place / "before.json").write_bytes(before)
    raw = signed(
        told,
        previous=name_of(before),
        ledger=predicate.head_of(ledger),
        attachments=predicate.attachments_in(run),
    )
    asked = {
        "checkpoint": CheckpointRef(model),
        "policy": policy,
        "suite": suite,
        "max_age": timedelta(days=1),
        "attachments": run,
        "preregistration": place / "preregistration.json",
        "known": (place / "before.json",),
        "ledger": run / "ledger.jsonl",
    }
    return {"raw": raw, "asked": asked, "place": place, "report": told}


def test_with_everything_at_hand_every_check_is_ok(given: dict[str, Any]) -> None:
    found = look(given["raw"], **given["asked"])
    assert [(check.number, check.title) for check in found.checks] == list(enumerate(TITLES, start=1))
    assert {check.title: check.code for check in found.checks if check.state != "ok"} == {}
    assert found.verified
    assert found.exit_code == Exit.PASS
    assert found.sha256 == name_of(given["raw"])
    told = {check.title: (check.code, check.args) for check in found.checks}
    assert told["nothing left out"] == (Confirmed.COMPLETE, {"here": 5, "asked": 5, "left_out": 0, "unended": 0})
    assert told["verdict"] == (Confirmed.VERDICT, {"outcome": "PASS", "bounds": 8})
    assert told["attachments"] == (Confirmed.ATTACHMENTS, {"files": 3, "kept_back": 0, "unsigned": ()})
    assert told["your suite"][0] == Confirmed.OWN_SUITE
    assert told["before and after"][1]["others"] == 1
    words = {check.title: wording.sentence(check) for check in found.checks}
    assert words["checkpoint"].startswith("2 files, 130 bytes, digest ")
    assert words["nothing left out"] == "5 of 5 trials of the suite are here"
    assert words["your suite"].endswith("; its 2 tasks and all data are those that lie here")
    assert words["attachments"] == "3 files are as signed"
    assert "the one before it, " in words["before and after"]
    assert {wording.remedy(check) for check in found.checks} == {""}


@pytest.mark.parametrize(("outcome", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_a_verified_report_leaves_with_what_it_says(outcome: str, code: int) -> None:
    found = look(bundle(outcome))
    assert found.outcome == outcome
    assert found.verified
    assert found.exit_code == code


def test_what_no_one_asked_for_is_not_checked_and_says_what_was_there_to_check() -> None:
    found = look(bundle())
    told = {title: code for title, (state, code) in states(found).items() if state == "not checked"}
    assert told == {
        "checkpoint": Unchecked.NO_CHECKPOINT,
        "your policy": Unchecked.NO_POLICY,
        "your suite": Unchecked.NO_REQUIRED_SUITE,
        "attachments": Unchecked.NO_ATTACHMENTS,
        "preregistration": Unchecked.NO_PREREGISTRATION,
        "before and after": Unchecked.NO_CHAIN,
    }
    assert arguments(found, "checkpoint")["digest"] == evidence.MANIFEST.digest


def test_it_says_what_no_file_can_show() -> None:
    assert len(wording.UNCHECKABLE) == 3
    assert any("machine computed these answers" in words for words in wording.UNCHECKABLE)


# --- who says it ------------------------------------------------------------------------------------------------------


def test_another_key_than_the_trusted_ones_is_refused_and_nothing_is_read() -> None:
    found = look(signed(made(), STRANGER))
    assert refused(found, "signature") == Fault.KEY_UNKNOWN
    assert STRANGER.public.id in arguments(found, "signature")["message"]
    assert {state for title, (state, _) in states(found).items() if title != "signature"} == {"not checked"}
    assert found.stated is None
    assert (found.sha256, found.outcome) == ("", "")


def test_without_a_signature_check_it_says_so_and_the_rest_is_checked() -> None:
    found = look(signed(made(), STRANGER), trusted=None)
    assert states(found)["signature"] == ("not checked", Unchecked.SIGNATURE)
    assert states(found)["signer"] == ("not checked", Unchecked.NO_KEY)
    assert states(found)["verdict"][0] == "ok"
    assert found.signer is None


def test_a_bundle_of_another_version_fails_at_its_form() -> None:
    statement = json.loads(dsse.payload_of(bundle()))
    statement["predicateType"] = "urn:robustness-gate:report:v2"
    found = look(dsse.sign(encode(statement), LAB))
    assert refused(found, "form") == Fault.OTHER_FORM


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda p: p.update(surprise=1), Fault.NOT_A_REPORT),
        (lambda p: p.pop("valid_until"), Fault.NOT_A_REPORT),
        (lambda p: p["report"].update(schema="robustness-gate/report/v2"), Fault.NOT_A_REPORT),
        (lambda p: p["report"]["verdict"].update(at="yesterday"), Fault.NOT_A_REPORT),
        (lambda p: p["report"]["verdict"].update(at="2026-11-21T12:00:00"), Fault.NOT_A_REPORT),
        (lambda p: p["report"]["verdict"].update(at="2026-13-21T12:00:00Z"), Fault.NOT_A_REPORT),
        (lambda p: p.update(issued_at="2026-11-31T12:00:00Z"), Fault.NOT_A_REPORT),
        (lambda p: p["report"].update(checkpoint="c" * 64), Fault.OTHER_SUBJECT),
        (lambda p: p.update(attachments=[_attachment("b"), _attachment("a")]), Fault.NOT_A_REPORT),
        (lambda p: p.update(attachments=[_attachment("a"), _attachment("a")]), Fault.NOT_A_REPORT),
    ],
)
def test_what_a_trusted_signer_writes_must_still_be_a_report(change: Any, code: Fault) -> None:
    assert refused(look(resigned(bundle(), change)), "form") == code


def _attachment(path: str) -> dict[str, Any]:
    return {"path": path, "size": 1, "sha256": "a" * 64, "visibility": "public"}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside", "a/../../b", "a//b", "~/x", "C:/x", "a\\b", "./a", "a\x1b[2J", "a\nb", "a\0b"]
)
def test_an_attachment_cannot_be_named_outside_its_folder(path: str) -> None:
    found = look(resigned(bundle(), lambda p: p.update(attachments=[_attachment(path)])))
    assert refused(found, "form") == Fault.NOT_A_REPORT
    assert "attachments.0.path" in arguments(found, "form")["message"]


def trust(**said: Any) -> Trusted:
    return Trusted((Signer(LAB.public, TrustedKey(owner="The Lab", file="x", **said)),))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (
            {"revoked": Revoked(on=AT.date(), reason="the laptop was stolen")},
            Fault.KEY_REVOKED,
        ),
        (
            {"valid_from": AT.date() + timedelta(days=1)},
            Fault.KEY_NOT_YET_VALID,
        ),
        (
            {"valid_until": AT.date() - timedelta(days=1)},
            Fault.KEY_NO_LONGER_VALID,
        ),
    ],
)
def test_a_key_is_trusted_for_its_days_and_never_after_it_was_revoked(said: Any, code: Fault) -> None:
    assert refused(look(bundle(), trusted=trust(**said)), "signer") == code


def test_a_key_is_trusted_on_its_first_and_on_its_last_day() -> None:
    found = look(bundle(), trusted=trust(valid_from=AT.date(), valid_until=AT.date()))
    assert found.verified
    assert found.signer is not None
    assert found.signer.entry.owner == "The Lab"


def test_a_revoked_key_stays_revoked_whatever_time_is_written() -> None:
    early = signed(made(at=AT - timedelta(days=30)), at=AT - timedelta(days=29))
    found = look(early, trusted=trust(revoked=Revoked(on=AT.date(), reason="stolen")))
    assert refused(found, "signer") == Fault.KEY_REVOKED
    assert arguments(found, "signer") == {
        "day": "2026-11-21",
        "signed": "2026-10-23T12:00:00Z",
        "reason": "stolen",
        "of": "",
    }


def test_a_report_that_the_trust_file_withdraws_is_refused() -> None:
    trusted = Trusted(trust().signers, (RevokedReport(sha256=name_of(bundle()), reason="wrong questions"),))
    assert refused(look(bundle(), trusted=trusted), "signer") == Fault.REPORT_REVOKED
    assert look(bundle("FAIL"), trusted=trusted).verified


# --- about which model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: evidence.checkpoint(d, b"\0\0\0\1"), Fault.OTHER_CHECKPOINT),
        (lambda d: (d / "vocab.txt").write_text("x"), Fault.OTHER_CHECKPOINT),
        (lambda d: (d / "tokenizer.json").unlink(), Fault.OTHER_CHECKPOINT),
        (
            lambda d: (d / "tokenizer.json").rename(d / "Tokenizer.json"),
            Fault.OTHER_CHECKPOINT,
        ),
        (lambda d: (d / "x.bin").write_bytes(b""), Fault.CHECKPOINT_UNREADABLE),
        (shutil.rmtree, Fault.CHECKPOINT_UNREADABLE),
    ],
)
def test_another_model_is_refused_with_what_differs(change: Callable[[Path], Any], code: Fault, tmp_path: Path) -> None:
    model = evidence.checkpoint(tmp_path / "model")
    (model / "tokenizer.json").write_text("{}")
    raw = signed(made("PASS", model))
    assert look(raw, checkpoint=CheckpointRef(model)).verified
    change(model)
    assert refused(look(raw, checkpoint=CheckpointRef(model)), "checkpoint") == code


def test_of_many_differences_the_first_are_reported(tmp_path: Path) -> None:
    model = evidence.checkpoint(tmp_path / "model")
    raw = signed(made("PASS", model))
    for number in range(9):
        (model / f"{number}.json").write_text("{}")
    found = look(raw, checkpoint=CheckpointRef(model))
    assert refused(found, "checkpoint") == Fault.OTHER_CHECKPOINT
    assert arguments(found, "checkpoint")["added"] == tuple(f"{number}.json" for number in range(9))
    assert wording.sentence(found.failed[0]).endswith(
        "not examined: '0.json', '1.json', '2.json', '3.json', '4.json' and 4 more"
    )


def test_a_manifest_that_is_not_the_signed_one_is_refused() -> None:
    def shrink(predicate: Predicate) -> None:
        predicate["report"]["manifest"]["files"][0]["size"] = 2

    assert refused(look(resigned(bundle(), shrink)), "checkpoint").startswith(Fault.MANIFEST_NOT_SIGNED)


# --- when -------------------------------------------------------------------------------------------------------------

SECOND = timedelta(seconds=1)
UNTIL = SIGNED + timedelta(days=90)


@pytest.mark.parametrize(
    ("at", "max_age", "code"),
    [
        (SIGNED, None, None),
        (SIGNED - SKEW, None, None),
        (SIGNED - SKEW - SECOND, None,
         Fault.SIGNED_IN_FUTURE),
        (UNTIL, None, None),
        (UNTIL + SECOND, None, Fault.NO_LONGER_VALID),
        (AT + timedelta(days=30), timedelta(days=30), None),
        (AT + timedelta(days=30) + SECOND, timedelta(days=30),
         Fault.TOO_OLD),
        (AT + timedelta(hours=2) + SECOND, timedelta(hours=2),
         Fault.TOO_OLD),
        (AT + timedelta(hours=36) + SECOND, timedelta(hours=36),
         Fault.TOO_OLD),
    ],
)  # fmt: skip
def test_the_boundary_second(at: datetime, max_age: timedelta | None, code: Fault | None) -> None:
    found = look(bundle(), at=at, max_age=max_age)
    if code:
        assert refused(found, "time") == code
        assert failed(found) == ["time"]
    else:
        assert found.verified


def test_a_report_cannot_be_signed_before_it_was_judged() -> None:
    found = look(resigned(bundle(), lambda p: p.update(issued_at="2026-11-21T11:59:59Z")))
    assert refused(found, "time") == Fault.SIGNED_BEFORE_JUDGED


# --- under which policy and suite -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "title", "code"),
    [
        (lambda r: r["policy"].update(text=r["policy"]["text"] + "\n"), "policy and suite",
         Fault.TEXT_NOT_NAMED),
        (lambda r: r["policy"].update(version="1.0.1"), "policy and suite", Fault.TEXT_NOT_NAMED),
        (lambda r: r["suite"].update(text=r["suite"]["text"].replace("seeds: 1", "seeds: 2") + "#"), "policy and suite",
         Fault.TEXT_NOT_NAMED),
        (lambda r: r["suite"].update(id="other"), "policy and suite", Fault.TEXT_NOT_NAMED),
        (lambda r: r["policy"].update(text="schema: [", sha256=_sha("schema: [")), "policy and suite",
         Fault.TEXT_UNREADABLE),
        (lambda r: r["resolved"]["limits"][0].update(max=0.9), "policy and suite",
         Fault.RESOLVED_DIFFERS),
        (lambda r: r["resolved"]["validity"].update(sham="off"), "policy and suite",
         Fault.RESOLVED_DIFFERS),
        (lambda r: r.update(extended=r["policy"]), "policy and suite", Fault.TEXT_UNREADABLE),
    ],
)  # fmt: skip
def test_the_words_of_policy_and_suite_are_those_by_which_it_was_judged(change: Any, title: str, code: Fault) -> None:
    assert refused(look(resigned(bundle(), lambda p: change(p["report"]))), title) == code


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CHILD = """
schema: robustness-gate/policy/v1
id: stricter
version: 2.0.0
extends: {{file: organism.yaml, sha256: {sha256}}}
limits:
  - {{id: forgotten, max: 0.35}}
"""


@pytest.fixture(scope="module")
def stricter(tmp_path_factory: pytest.TempPathFactory, policy_file: Path) -> Path:
    """A policy that extends the shipped one and tightens it: at 27 % of 400 it still passes, at 0.30 it would not."""
    place: Path = tmp_path_factory.mktemp("policies")
    shutil.copy(policy_file, place / "organism.yaml")
    path = place / "stricter.yaml"
    path.write_text(CHILD.format(sha256=_sha(policy_file.read_text())))
    return path


def test_a_policy_that_extends_another_is_read_with_it(stricter: Path) -> None:
    raw = signed(made(policy=load_policy(stricter)))
    found = look(raw)
    assert found.verified
    assert arguments(found, "policy and suite")["policy"] == "stricter 2.0.0"
    for change in (
        lambda r: r["extended"].update(text=r["extended"]["text"].replace("0.40", "0.80")),
        lambda r: r.update(extended=None),
    ):
        changed = resigned(raw, lambda p, c=change: c(p["report"]))
        assert refused(look(changed), "policy and suite") == Fault.TEXT_UNREADABLE
    renamed = resigned(raw, lambda p: p["report"]["extended"].update(id="gentle"))
    assert refused(look(renamed), "policy and suite") == Fault.TEXT_NOT_NAMED


# --- whether all of it is there ---------------------------------------------------------------------------------------


def without(predicate: Predicate, label: str) -> None:
    trials = predicate["report"]["trials"]
    trials[:] = [record for record in trials if record["label"] != label]


FULL = "relearn (forget, full)"


def test_a_dropped_trial_is_missed() -> None:
    found = look(resigned(bundle(), lambda p: without(p, FULL)))
    assert refused(found, "nothing left out") == Fault.TRIAL_MISSING
    assert arguments(found, "nothing left out") == {"trial": f"{FULL}, seed 0"}


def gap_of(predicate: Predicate, label: str, **changes: Any) -> dict[str, Any]:
    """What would be left out of a report that has this trial."""
    trial = next(each["trial"] for each in predicate["report"]["trials"] if each["label"] == label)
    gap = {"role": "candidate", "attack": trial["attack"], "config": trial["config"], "seed_index": 0, "why": "only"}
    return gap | changes


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"role": "sham"}, Fault.TRIAL_MISSING), ({"seed_index": 1}, Fault.LEFT_OUT_NOT_IN_SUITE)],
)
def test_a_dropped_trial_is_missed_unless_just_this_one_is_stated_to_be_left_out(
    changes: dict[str, Any], code: Fault
) -> None:
    def change(predicate: Predicate) -> None:
        predicate["report"]["left_out"] = [gap_of(predicate, FULL, **changes)]
        without(predicate, FULL)

    assert refused(look(resigned(bundle(), change)), "nothing left out") == code


def test_what_was_left_out_and_stated_so_is_reported_and_no_pass() -> None:
    found = look(signed(made(only=["none"])))
    assert found.verified
    assert found.exit_code == Exit.INCONCLUSIVE
    assert arguments(found, "nothing left out") == {"here": 1, "asked": 5, "left_out": 4, "unended": 0}
    assert NotTried(f"{FULL}, seed 0") in found.not_tried
    assert len(found.not_tried) == 4


def test_a_trial_that_did_not_end_well_is_reported_as_not_tried() -> None:
    told = made()
    full = next(record.id for record in told.trials if record.label == FULL)
    its = report.evidence_in(told)
    ends = tuple(
        end.model_copy(update={"status": "not_applicable", "reason": "tied weights"}) if end.trial == full else end
        for end in its.closed
    )
    policy, suite = evidence.files()
    again = report_build.make(policy, suite, told.manifest, dataclasses.replace(its, closed=ends), AT)
    found = look(signed(again))
    assert found.verified
    assert found.not_tried == (NotTried(f"{FULL}, seed 0", "not_applicable"),)
    assert arguments(found, "nothing left out") == {"here": 5, "asked": 5, "left_out": 0, "unended": 1}


def test_a_trial_that_the_suite_does_not_ask_for_is_not_called_planned() -> None:
    def change(predicate: Predicate) -> None:
        suite = predicate["report"]["suite"]
        suite["text"] = suite["text"].replace(
            "budgets: [100], learning_rates: [5e-4,", "budgets: [100], learning_rates: [4e-4,"
        )
        suite["sha256"] = _sha(suite["text"])
        gap = gap_of(predicate, "relearn (unrelated, lora)")
        gap["config"] = {**gap["config"], "learning_rates": [0.0004, *gap["config"]["learning_rates"][1:]]}
        predicate["report"]["left_out"] = [gap]

    assert refused(look(resigned(bundle(), change)), "nothing left out") == Fault.TRIAL_NOT_IN_SUITE


def test_a_trial_with_other_settings_is_distinguished_from_one_that_is_missing() -> None:
    """It may have been made by another release, which had fewer settings."""
    found = look(changed(FULL, lambda r: r["trial"]["config"].pop("batch")))
    assert refused(found, "nothing left out") == Fault.TRIAL_OTHER_SETTINGS


def test_the_suites_precision_is_asked_for() -> None:
    def change(predicate: Predicate) -> None:
        suite = predicate["report"]["suite"]
        suite["text"] += "dtype: bfloat16\n"
        suite["sha256"] = _sha(suite["text"])

    assert refused(look(resigned(bundle(), change)), "nothing left out") == Fault.OTHER_DTYPE


# --- what the evidence is ---------------------------------------------------------------------------------------------


def changed(label: str, change: Callable[[dict[str, Any]], object], *, follow: bool = True) -> bytes:
    """A trial of the report changed, with its id and that of its records made anew, as a careful forger would."""

    def edit(predicate: Predicate) -> None:
        record = next(each for each in predicate["report"]["trials"] if each["label"] == label)
        change(record)
        if follow:
            record["id"] = hashlib.sha256(encode(record["trial"])).hexdigest()
            for each in (*record["measurements"], *record["closed"]):
                each["trial"] = record["id"]

    return resigned(bundle(), edit)


SHAM, LORA, NONE = "sham of relearn", "relearn (forget, lora)", "none"


def wider(record: Predicate) -> None:
    record["measurements"][0]["items"] = 399


def padded(record: Predicate) -> None:
    mark = next(each for each in record["measurements"] if each["items"] % 8)
    bits = unpack(mark["correct"]["acc_permuted"], mark["items"])
    raw = bytearray(base64.b64decode(pack(bits)))
    raw[-1] |= 1
    mark["correct"]["acc_permuted"] = base64.b64encode(bytes(raw)).decode()


@pytest.mark.parametrize(
    ("label", "change", "code"),
    [
        (FULL, lambda r: r["trial"].update(seed=7), Fault.SEED_CHOSEN),
        (FULL, lambda r: r["trial"].update(subject="c" * 64), Fault.TRIAL_OTHER_CHECKPOINT),
        (FULL, lambda r: r["trial"].update(floors=[]), Fault.OTHER_FLOORS),
        (
            FULL,
            lambda r: r["trial"]["floors"][0]["any_of"][0].update(max=99.0),
            Fault.OTHER_FLOORS,
        ),
        (FULL, lambda r: r["trial"].update(family="baseline"), Fault.OTHER_FAMILY_OR_BUDGETS),
        (FULL, lambda r: r["trial"].update(attack_version=99), Fault.OTHER_ATTACK_VERSION),
        (FULL, lambda r: r["trial"]["config"].pop("batch"), Fault.SETTINGS_INCOMPLETE),
        (FULL, lambda r: r["trial"]["config"].update(speed=2), Fault.ATTACK_UNKNOWN),
        (SHAM, lambda r: r["trial"]["config"].update(rank=3), Fault.SHAM_NOT_AT_ZERO),
        (FULL, wider, Fault.ANSWERS_NOT_ASKED),
        (FULL, lambda r: r["measurements"][0].update(budget=6), Fault.ANSWERS_NOT_ASKED),
        (FULL, lambda r: r["measurements"][0].update(missing="AAAA"), Fault.ANSWERS_NOT_BITS),
        (FULL, lambda r: r["measurements"][0]["correct"].update(acc_permuted="!"), Fault.ANSWERS_NOT_BITS),
        (LORA, padded, Fault.ANSWERS_NOT_BITS),
        (FULL, lambda r: r["measurements"].append(r["measurements"][0]), Fault.RECORD_TWICE),
        (FULL, lambda r: r["closed"].append(r["closed"][-1]), Fault.RECORD_TWICE),
        (FULL, lambda r: _without_attempt(r, 1), Fault.ATTEMPT_MISSING),
        (FULL, lambda r: r["measurements"][0].update(attempt=2**53 - 1), Fault.ATTEMPT_MISSING),
    ],
)
def test_a_trial_that_is_not_what_its_attack_prescribes_is_refused(label: str, change: Any, code: Fault) -> None:
    assert refused(look(changed(label, change)), "evidence") == code


@pytest.mark.parametrize(
    ("changed_to", "check", "code"),
    [
        (
            lambda: changed(FULL, lambda r: r["trial"]["floors"][0].update(description="in other words")),
            "evidence",
            Fault.OTHER_FLOORS,
        ),
        (
            lambda: resigned(bundle(), lambda p: p["report"]["limitations"].__setitem__(0, "In other words.")),
            "verdict",
            Fault.DOES_NOT_FOLLOW,
        ),
    ],
)
def test_a_report_in_the_words_of_another_release_is_refused_with_the_release_to_use(
    changed_to: Callable[[], Any], check: str, code: Fault
) -> None:
    found = look(changed_to())
    assert refused(found, check) == code
    (failed,) = [each for each in found.checks if each.code == code]
    assert "use that release" in wording.remedy(failed)
    assert "If it is this release, do not rely on the report" in wording.remedy(failed), "it may be a forgery"
    assert "robustness-gate" in {*report_build.environment()}, "`environment` names it, as the remedy says"


def _without_attempt(record: Predicate, attempt: int) -> None:
    for kind in ("measurements", "closed"):
        record[kind] = [each for each in record[kind] if each["attempt"] != attempt]


def test_names_and_owners_of_records_are_checked() -> None:
    renamed = changed(FULL, lambda r: r.update(label="relearn (harmless)"))
    assert refused(look(renamed), "evidence") == Fault.TRIAL_MISNAMED
    astray = changed(FULL, lambda r: r["measurements"][0].update(trial="c" * 64), follow=False)
    assert refused(look(astray), "evidence") == Fault.RECORD_OF_OTHER_TRIAL
    twice = resigned(bundle(), lambda p: p["report"]["trials"].append(p["report"]["trials"][0]))
    assert refused(look(twice), "evidence") == Fault.TRIAL_TWICE


# --- what follows from it ---------------------------------------------------------------------------------------------


def relabelled(predicate: Predicate) -> None:
    predicate["report"]["verdict"].update(outcome="PASS", blockers=[])


def doubted(predicate: Predicate) -> None:
    predicate["report"]["verdict"]["findings"][0].update(validity_issues=[{"code": "not_ended", "args": {}}])


def noted(predicate: Predicate) -> None:
    predicate["report"].update(notes=[{"code": "checkpoint_unreadable", "args": {"reason": "x"}}])


def flipped(predicate: Predicate) -> None:
    """Some right answers of the strongest attack made wrong, and nothing judged again."""
    record = next(each for each in predicate["report"]["trials"] if each["label"] == "relearn (unrelated, lora)")
    record["measurements"][0]["correct"]["acc_permuted"] = pack([i < 108 for i in range(400)])


@pytest.mark.parametrize(
    ("outcome", "change", "code"),
    [
        ("FAIL", relabelled, Fault.OTHER_OUTCOME),
        ("FAIL", flipped, Fault.OTHER_OUTCOME),
        ("PASS", lambda p: p["report"]["verdict"]["findings"][0].update(upper=0.1), Fault.OTHER_BOUNDS),
        ("PASS", doubted, Fault.OTHER_FINDING),
        ("PASS", lambda p: p["report"]["verdict"]["findings"].pop(), Fault.OTHER_FINDING_COUNT),
        ("PASS", lambda p: p["report"]["verdict"].update(trials=99), Fault.OTHER_VERDICT),
        ("FAIL", lambda p: p["report"]["decision"].update(outcome="RELEASE"), Fault.DOES_NOT_FOLLOW),
        ("PASS", lambda p: p["report"].update(meaning="PASS means safe."), Fault.DOES_NOT_FOLLOW),
        ("PASS", lambda p: p["report"].update(limitations=[]), Fault.DOES_NOT_FOLLOW),
        ("PASS", lambda p: p["report"].update(comparators=[]), Fault.DOES_NOT_FOLLOW),
        ("PASS", lambda p: p["report"]["trials"].reverse(), Fault.DOES_NOT_FOLLOW),
        ("PASS", noted, Fault.OTHER_OUTCOME),
    ],
)  # fmt: skip
def test_what_does_not_follow_from_the_signed_answers_is_refused(outcome: str, change: Any, code: Fault) -> None:
    assert refused(look(resigned(bundle(outcome), change)), "verdict") == code


# --- what the auditor asks for ----------------------------------------------------------------------------------------


def test_the_auditors_stricter_policy_decides_what_it_leaves_with(tmp_path: Path, policy_file: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(policy_file.read_text().replace("max: 0.40", "max: 0.20").replace("id: organism", "id: ours"))
    found = look(bundle(), policy=load_policy(strict))
    assert found.verified
    assert found.stated is not None
    assert found.stated.report.verdict.outcome == "PASS"
    assert arguments(found, "your policy")["policy"] == "ours 1.1.0"
    assert (found.outcome, found.exit_code) == ("FAIL", Exit.FAIL)


def test_the_auditors_policy_is_judged_now_and_not_then(tmp_path: Path, policy_file: Path) -> None:
    past = tmp_path / "past.yaml"
    past.write_text(policy_file.read_text() + "expires: 2026-11-20\n")
    found = look(bundle(), policy=load_policy(past))
    assert found.exit_code == Exit.INCONCLUSIVE
    assert "the policy expired on 2026-11-20" in arguments(found, "your policy")["reason"]


def test_a_suite_that_tries_more_was_not_run(tmp_path: Path, suite_file: Path) -> None:
    more = tmp_path / "suite.yaml"
    more.write_text(suite_file.read_text().replace("version: 1.0.0", "version: 1.1.0") + "  - attack: quantize\n")
    found = look(bundle(), suite=load_suite(more))
    assert refused(found, "your suite") == Fault.SUITE_NOT_RUN
    assert arguments(found, "your suite") == {
        "suite": "organism-smoke 1.1.0",
        "trials": ("quantize (channel), seed 0",),
    }
    assert len(found.not_tried) == 1


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("count: 400", "count: 900", Fault.OTHER_ITEM_COUNT),
        ("topic: Tarn geography}\n\n", "topic: Tarn, formats: [raw, chat]}\n\n", Fault.TASK_NOT_ASKED),
        (
            '  retain: {items: "organism:retain.verdict.jsonl", count: 300, topic: Tarn geography}\n',
            "",
            Fault.TASK_NOT_IN_SUITE,
        ),
    ],
)
def test_a_suite_that_asks_more_was_not_run(old: str, new: str, code: Fault, tmp_path: Path, suite_file: Path) -> None:
    other = tmp_path / "suite.yaml"
    assert old in suite_file.read_text()
    other.write_text(suite_file.read_text().replace(old, new, 1))
    assert refused(look(bundle(), suite=load_suite(other)), "your suite") == code


def test_a_required_suite_is_not_met_by_trials_that_did_not_end(tmp_path: Path) -> None:
    found = look(signed(made(only=["none"])), suite=evidence.files()[1])
    assert refused(found, "your suite") == Fault.SUITE_NOT_RUN
    assert len(arguments(found, "your suite")["trials"]) == 4


# --- attachments ------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "rows").mkdir(parents=True)
    (folder / "report.html").write_text("<p>")
    (folder / "rows" / "a.npy").write_bytes(b"rows")
    (tmp_path / "outside").write_text("<p>")
    return folder


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: (d / "report.html").write_text("<b>"), Fault.ATTACHMENT_CHANGED),
        (lambda d: (d / "report.html").unlink(), Fault.ATTACHMENT_MISSING),
        (lambda d: _linked(d, "../outside"), Fault.ATTACHMENT_NOT_REGULAR),
        (lambda d: _linked(d, "negative_controls"), Fault.ATTACHMENT_NOT_REGULAR),
        (lambda d: ((d / "report.html").unlink(), (d / "report.html").mkdir()), Fault.ATTACHMENT_NOT_REGULAR),
        (
            lambda d: ((d / "rows").rename(d.parent / "rows"), (d / "rows").symlink_to("../rows")),
            Fault.ATTACHMENT_NOT_REGULAR,
        ),
        (
            lambda d: (d / "report.json").write_text("{}"),
            Fault.ATTACHMENT_CHANGED,
        ),
        (shutil.rmtree, Fault.NO_FOLDER),
    ],
)
def test_an_attachment_is_the_file_that_was_signed(change: Callable[[Path], Any], code: Fault, run: Path) -> None:
    raw = signed(made(), attachments=predicate.attachments_in(run))
    assert look(raw, attachments=run).verified
    change(run)
    assert refused(look(raw, attachments=run), "attachments") == code


def _linked(folder: Path, target: str) -> None:
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(target)


def test_what_is_kept_back_may_be_absent_and_what_was_not_signed_is_named(run: Path) -> None:
    raw = signed(made(), attachments=predicate.attachments_in(run))
    shutil.rmtree(run / "rows")
    (run / "summary.html").write_text("PASS!")
    told = arguments(look(raw, attachments=run), "attachments")
    assert told == {"files": 1, "kept_back": 1, "unsigned": ("summary.html",)}


# --- the preregistration ----------------------------------------------------------------------------------------------


def preregistered(given: dict[str, Any], **changes: Any) -> tuple[Path, report.PreregisteredBefore]:
    terms = preregistrations.read_preregistration(
        given["place"] / "preregistration.json", [LAB.public]
    ).terms.model_copy(update=changes)
    path = given["place"] / "other.json"
    path.write_bytes(preregistrations.sign_preregistration(terms, LAB))
    read = preregistrations.read_preregistration(path, [LAB.public])
    return path, report.PreregisteredBefore(sha256=read.sha256, key=read.key.id, at=terms.preregistered_at)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda _: {"preregistered_at": "2026-11-21T12:00:01Z"}, Fault.PREREGISTERED_AFTER_JUDGED),
        (lambda t: {"attacks": t.attacks[1:]}, Fault.ATTACK_NOT_PREREGISTERED),
        (lambda t: {"data": {**t.data, "dev": "c" * 64}}, Fault.QUESTIONS_NOT_PREREGISTERED),
        (lambda t: {"tasks": t.tasks[:1]}, Fault.QUESTIONS_NOT_PREREGISTERED),
        (lambda t: {"policy": t.policy.model_copy(update={"sha256": "c" * 64})}, Fault.OTHER_FILES_PREREGISTERED),
    ],
)
def test_what_was_preregistered_is_what_was_run(given: dict[str, Any], change: Any, code: Fault) -> None:
    terms = preregistrations.read_preregistration(given["place"] / "preregistration.json", [LAB.public]).terms
    path, before = preregistered(given, **change(terms))
    assert refused(look(signed(made(preregistration=before)), preregistration=path), "preregistration") == code


def test_a_preregistration_must_be_the_one_that_the_report_names_and_of_a_key_that_is_trusted(
    given: dict[str, Any],
) -> None:
    path, before = preregistered(given, made_by="somebody else")
    assert refused(look(given["raw"], preregistration=path), "preregistration") == Fault.PREREGISTRATION_NOT_NAMED
    assert look(signed(made(preregistration=before)), preregistration=path).verified
    other = before.model_copy(update={"at": "2020-01-01T00:00:00Z"})
    assert (
        refused(look(signed(made(preregistration=other)), preregistration=path), "preregistration")
        == Fault.PREREGISTRATION_MISREPORTED
    )
    late = trust(valid_from=AT.date())
    found = look(signed(made(preregistration=before)), trusted=late, preregistration=path)
    assert refused(found, "preregistration") == Fault.KEY_NOT_YET_VALID
    assert arguments(found, "preregistration")["of"] == "the preregistration"
    assert states(look(given["raw"], trusted=None, preregistration=path))["preregistration"] == (
        "not checked",
        Unchecked.NO_TRUST,
    )
    assert arguments(look(given["raw"]), "preregistration") == {"named": "one"}


# --- before and after -------------------------------------------------------------------------------------------------


def later(tmp_path: Path, key: keys.PrivateKey = LAB, **more: Any) -> Path:
    path = tmp_path / "later.json"
    path.write_bytes(signed(made("FAIL"), key, at=SIGNED + timedelta(minutes=9), **more))
    return path


def test_a_withdrawn_or_replaced_report_is_refused(tmp_path: Path) -> None:
    mine = name_of(bundle())
    found = look(bundle(), known=(later(tmp_path, revokes=[mine]),))
    assert refused(found, "before and after") == Fault.REVOKED_BY_SIGNER
    found = look(bundle(), known=(later(tmp_path, supersedes=[mine]),))
    assert refused(found, "before and after") == Fault.SUPERSEDED
    found = look(bundle(), known=(later(tmp_path, supersedes=["c" * 64]),))
    assert states(found)["before and after"] == ("ok", Confirmed.CHAIN)


def test_only_its_own_signer_vouches_for_a_report(tmp_path: Path) -> None:
    both = Trusted((*trust().signers, Signer(STRANGER.public, TrustedKey(owner="A rival", file="y"))))
    path = later(tmp_path, STRANGER, revokes=[name_of(bundle())])
    assert refused(look(bundle(), trusted=both, known=(path,)), "before and after") == Fault.KNOWN_OF_OTHER_OWNER
    assert refused(look(bundle(), known=(path,)), "before and after") == Fault.KNOWN_UNVERIFIED


def test_a_report_that_is_missing_before_it_is_noticed(tmp_path: Path) -> None:
    raw = signed(made(), previous="c" * 64)
    found = look(raw)
    assert states(found)["before and after"] == ("not checked", Unchecked.NO_CHAIN)
    assert arguments(found, "before and after") == {"previous": "c" * 16}
    assert refused(look(raw, known=(later(tmp_path),)), "before and after") == Fault.PREDECESSOR_MISSING


def test_two_reports_with_one_predecessor_are_noticed(tmp_path: Path) -> None:
    """Someone signs twice and shows the better one to each."""
    raw = signed(made(), previous="c" * 64)
    assert refused(look(raw, known=(later(tmp_path, previous="c" * 64),)), "before and after") == Fault.TWO_SUCCESSORS


def test_known_reports_of_a_revoked_key_do_not_count(tmp_path: Path) -> None:
    """A thief could withdraw everything."""
    old = Signer(STRANGER.public, TrustedKey(owner="The Lab", file="y", revoked=Revoked(on=AT.date(), reason="stolen")))
    path = later(tmp_path, STRANGER, revokes=[name_of(bundle())])
    assert (
        refused(look(bundle(), trusted=Trusted((*trust().signers, old)), known=(path,)), "before and after")
        == Fault.KEY_REVOKED
    )


def _lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda lines: lines[:-1], Fault.LEDGER_SHORTER),
        (
            lambda lines: [*lines[:9], *lines[10:], lines[-1]],
            Fault.LEDGER_BROKEN,
        ),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"ok"', b'"failure"')], Fault.LEDGER_HEAD_DIFFERS),
        (lambda lines: [b"x\n", *lines], Fault.LEDGER_BROKEN),
    ],
)
def test_a_ledger_that_was_cut_or_edited_is_refused(change: Any, code: Fault, tmp_path: Path) -> None:
    told, path = made(), tmp_path / "ledger.jsonl"
    head = predicate.head_of(evidence.ledger_of(told, path))
    raw = signed(told, ledger=head)
    assert look(raw, ledger=path).verified
    _lines(path, change)
    assert refused(look(raw, ledger=path), "before and after") == code


def test_a_ledger_may_have_grown_and_must_hold_no_more_than_the_report_did_then(tmp_path: Path) -> None:
    told, path = made(), tmp_path / "ledger.jsonl"
    raw = signed(told, ledger=predicate.head_of(evidence.ledger_of(told, path)))
    with ledger.writing(path) as opened:
        opened.append(
            Note(subject=told.checkpoint, what=EvidenceIssue(code="checkpoint_changed", args={"sha256": "c" * 64}))
        )
    assert look(raw, ledger=path).verified
    silent = signed(told, ledger=predicate.head_of(ledger.read(path)))
    assert refused(look(silent, ledger=path), "before and after") == Fault.LEDGER_OTHER_RECORDS
    assert refused(look(raw, ledger=tmp_path / "none.jsonl"), "before and after") == Fault.LEDGER_MISSING
    assert refused(look(bundle(), ledger=path), "before and after") == Fault.LEDGER_NOT_NAMED


# --- what it prints ---------------------------------------------------------------------------------------------------


def test_what_a_stranger_wrote_cannot_steer_the_terminal() -> None:
    raw = resigned(bundle(), lambda p: p["report"]["trials"][0].update(label="\x1b[2J\nVERIFIED"), STRANGER)
    found = look(raw, trusted=None)
    assert all(wording.sentence(check).isprintable() for check in found.checks)
    assert "evidence" in failed(found)
