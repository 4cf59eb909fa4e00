"""Every numbered check: what makes it ok, what makes it fail and in which words, and what leaves it not checked."""

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
from evidence import AT, LAB, SIGNED, STRANGER, bundle, failed, look, made, name_of, resigned, signed, states

from robustness_gate import attest, issued, ledger, plan, report, seal, verify
from robustness_gate.checkpoint import Place, inspect
from robustness_gate.errors import Exit
from robustness_gate.files import load_suite
from robustness_gate.language import load_policy
from robustness_gate.nouns import Note
from robustness_gate.trust import Revoked, RevokedReport, Signer, Trusted, TrustedKey
from robustness_gate.verdict import pack, unpack

Predicate = dict[str, Any]
TITLES = [
    "signature", "form", "signer", "checkpoint", "time", "policy and suite", "nothing left out", "evidence", "verdict",
    "your policy", "your suite", "attachments", "seal", "before and after",
]  # fmt: skip


def reason(found: verify.Verification, title: str) -> str:
    """The words of a check that failed; of nothing else it is asked here."""
    state, words = states(found)[title]
    assert state == "FAILED", (title, state, words)
    assert found.exit_code == Exit.UNVERIFIED
    return words


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run's folder as its evaluator leaves it, and everything that an auditor can bring."""
    place: Path = tmp_path_factory.mktemp("audit")
    model = evidence.checkpoint(place / "model")
    policy, suite = evidence.files()
    data, its = evidence.materials(), evidence.planned(inspect(model))
    terms = seal.make(policy, suite, data.refs, data.data_digests, plan.of_candidate(its), AT - timedelta(days=1))
    (place / "seal.json").write_bytes(seal.seal(terms, LAB))
    read = seal.read_seal(place / "seal.json", [LAB.public])
    told = made("PASS", model, seal=report.SealedBefore(sha256=read.sha256, key=read.key.id, at=terms.sealed_at))
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
        ledger=issued.head_of(ledger),
        attachments=issued.attachments_in(run),
    )
    asked = {
        "checkpoint": Place(model),
        "policy": policy,
        "suite": suite,
        "max_age": timedelta(days=1),
        "attachments": run,
        "seal": place / "seal.json",
        "known": (place / "before.json",),
        "ledger": run / "ledger.jsonl",
    }
    return {"raw": raw, "asked": asked, "place": place, "report": told}


def test_with_everything_at_hand_every_check_is_ok(given: dict[str, Any]) -> None:
    found = look(given["raw"], **given["asked"])
    assert [(check.number, check.title) for check in found.checks] == list(enumerate(TITLES, start=1))
    assert {check.title: check.words for check in found.checks if check.state != "ok"} == {}
    assert found.verified
    assert found.exit_code == Exit.PASS
    assert found.sha256 == name_of(given["raw"])
    words = {check.title: check.words for check in found.checks}
    assert words["checkpoint"].startswith("2 files, 130 bytes, digest ")
    assert words["nothing left out"] == "5 of 5 trials of the suite are here"
    assert words["verdict"] == "PASS, computed again: 8 bounds, all as stated"
    own = "was run to its end and is the report's own, byte for byte; its 2 tasks and all data are those that lie here"
    assert words["your suite"].endswith(own)
    assert words["attachments"] == "3 files are as signed"
    assert "the one before it is here; the ledger's first" in words["before and after"]


@pytest.mark.parametrize(("outcome", "code"), [("PASS", 0), ("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_a_verified_report_leaves_with_what_it_says(outcome: str, code: int) -> None:
    found = look(bundle(outcome))
    assert found.outcome == outcome
    assert found.verified
    assert found.exit_code == code


def test_what_nobody_asked_for_is_not_checked_and_says_what_was_there_to_check() -> None:
    found = look(bundle())
    told = {title: words for title, (state, words) in states(found).items() if state == "not checked"}
    assert told == {
        "checkpoint": f"no checkpoint was given; it is about {evidence.MANIFEST.digest}",
        "your policy": "no --policy was given",
        "your suite": "no --require-suite was given",
        "attachments": "no --attachments was given; it names 0 files",
        "seal": "no --seal was given; the report names none",
        "before and after": "no --known and no --ledger was given; it names none before it",
    }


def test_it_says_what_no_file_can_show() -> None:
    assert len(verify.UNCHECKABLE) == 3
    assert any("machine computed these answers" in words for words in verify.UNCHECKABLE)


# --- who says it ------------------------------------------------------------------------------------------------------


def test_another_key_than_the_trusted_ones_is_refused_and_nothing_is_read() -> None:
    found = look(signed(made(), STRANGER))
    assert f'signed with the key "{STRANGER.public.id}", which is not among those given' in reason(found, "signature")
    assert {state for title, (state, _) in states(found).items() if title != "signature"} == {"not checked"}
    assert found.stated is None
    assert (found.sha256, found.outcome) == ("", "")


def test_without_a_signature_check_it_says_so_and_the_rest_is_checked() -> None:
    found = look(signed(made(), STRANGER), trusted=None)
    assert states(found)["signature"] == ("not checked", "who signed: unchecked. Anybody can have written this")
    assert states(found)["signer"] == ("not checked", "no key was given by which to know one")
    assert states(found)["verdict"][0] == "ok"
    assert found.signer is None


def test_a_bundle_of_another_version_fails_at_its_form() -> None:
    statement = json.loads(attest.payload_of(bundle()))
    statement["predicateType"] = "urn:robustness-gate:report:v2"
    found = look(attest.sign(issued.canonical(statement), LAB))
    assert reason(found, "form").startswith(
        'it states "urn:robustness-gate:report:v2", and urn:robustness-gate:report:v1'
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.update(surprise=1), "surprise: Extra inputs are not permitted"),
        (lambda p: p.pop("valid_until"), "valid_until: Field required"),
        (lambda p: p["report"].update(schema="robustness-gate/report/v2"), "report.schema"),
        (lambda p: p["report"]["verdict"].update(at="yesterday"), "verdict.at is not a time in UTC"),
        (lambda p: p["report"]["verdict"].update(at="2026-11-21T12:00:00"), "verdict.at is not a time in UTC"),
        (lambda p: p["report"]["verdict"].update(at="2026-13-21T12:00:00Z"), "report: Value error, month"),
        (lambda p: p.update(issued_at="2026-11-31T12:00:00Z"), "issued_at: Value error, day"),
        (lambda p: p["report"].update(checkpoint="c" * 64), "signed for another checkpoint than its report speaks of"),
        (lambda p: p.update(attachments=[_attachment("b"), _attachment("a")]), "not sorted by path, each once"),
        (lambda p: p.update(attachments=[_attachment("a"), _attachment("a")]), "not sorted by path, each once"),
    ],
)
def test_what_a_trusted_signer_writes_must_still_be_a_report(change: Any, says: str) -> None:
    assert says in reason(look(resigned(bundle(), change)), "form")


def _attachment(path: str) -> dict[str, Any]:
    return {"path": path, "size": 1, "sha256": "a" * 64, "visibility": "public"}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../outside", "a/../../b", "a//b", "~/x", "C:/x", "a\\b", "./a", "a\x1b[2J", "a\nb", "a\0b"]
)
def test_an_attachment_cannot_be_named_outside_its_folder(path: str) -> None:
    found = look(resigned(bundle(), lambda p: p.update(attachments=[_attachment(path)])))
    words = reason(found, "form")
    assert "attachments.0.path" in words
    assert words.isprintable()


def trust(**said: Any) -> Trusted:
    return Trusted((Signer(LAB.public, TrustedKey(owner="The Lab", file="x", **said)),))


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            {"revoked": Revoked(on=AT.date(), reason="the laptop was stolen")},
            "the key was revoked on 2026-11-21: the laptop was stolen",
        ),
        (
            {"valid_from": AT.date() + timedelta(days=1)},
            "the key is trusted from 2026-11-22 on, and the report says it is of 2026-11-21",
        ),
        (
            {"valid_until": AT.date() - timedelta(days=1)},
            "the key is trusted until 2026-11-20, and the report says it is of 2026-11-21",
        ),
    ],
)
def test_a_key_is_trusted_for_its_days_and_never_after_it_was_revoked(said: Any, says: str) -> None:
    assert reason(look(bundle(), trusted=trust(**said)), "signer") == says


def test_a_key_is_trusted_on_its_first_and_on_its_last_day() -> None:
    found = look(bundle(), trusted=trust(valid_from=AT.date(), valid_until=AT.date()))
    assert found.verified
    assert found.signer is not None
    assert found.signer.said.owner == "The Lab"


def test_a_revoked_key_stays_revoked_whatever_time_is_written() -> None:
    early = signed(made(at=AT - timedelta(days=30)), at=AT - timedelta(days=29))
    assert "revoked" in reason(look(early, trusted=trust(revoked=Revoked(on=AT.date(), reason="stolen"))), "signer")


def test_a_report_that_the_trust_file_withdraws_is_refused() -> None:
    trusted = Trusted(trust().signers, (RevokedReport(sha256=name_of(bundle()), reason="wrong questions"),))
    assert reason(look(bundle(), trusted=trusted), "signer") == "your trust file withdraws this report: wrong questions"
    assert look(bundle("FAIL"), trusted=trusted).verified


# --- about which model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: evidence.checkpoint(d, b"\0\0\0\1"), "'model.safetensors' is not the file that was examined"),
        (lambda d: (d / "vocab.txt").write_text("x"), "'vocab.txt' is here and was not examined"),
        (lambda d: (d / "tokenizer.json").unlink(), "'tokenizer.json' is missing here"),
        (
            lambda d: (d / "tokenizer.json").rename(d / "Tokenizer.json"),
            "'Tokenizer.json' is here and was not examined",
        ),
        (lambda d: (d / "x.bin").write_bytes(b""), "a loader may take for weights: 'x.bin'"),
        (shutil.rmtree, "no such checkpoint directory"),
    ],
)
def test_another_model_is_refused_with_what_differs(change: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    model = evidence.checkpoint(tmp_path / "model")
    (model / "tokenizer.json").write_text("{}")
    raw = signed(made("PASS", model))
    assert look(raw, checkpoint=Place(model)).verified
    change(model)
    assert says in reason(look(raw, checkpoint=Place(model)), "checkpoint")


def test_of_many_differences_the_first_are_told(tmp_path: Path) -> None:
    model = evidence.checkpoint(tmp_path / "model")
    raw = signed(made("PASS", model))
    for number in range(9):
        (model / f"{number}.json").write_text("{}")
    words = reason(look(raw, checkpoint=Place(model)), "checkpoint")
    assert words.startswith("this is another model than the examined one: '0.json' is here")
    assert words.endswith("'4.json' is here and was not examined; and 4 more")


def test_a_manifest_that_is_not_the_signed_one_is_refused() -> None:
    def shrink(predicate: Predicate) -> None:
        predicate["report"]["manifest"]["files"][0]["size"] = 2

    assert reason(look(resigned(bundle(), shrink)), "checkpoint").startswith(
        "the manifest in the report is not the one"
    )


# --- when -------------------------------------------------------------------------------------------------------------

SECOND = timedelta(seconds=1)
UNTIL = SIGNED + timedelta(days=90)


@pytest.mark.parametrize(
    ("at", "max_age", "says"),
    [
        (SIGNED, None, ""),
        (SIGNED - verify.SKEW, None, ""),
        (SIGNED - verify.SKEW - SECOND, None,
         "it says it was signed at 2026-11-21T12:01:00Z, which has not come yet: it is 2026-11-21T11:55:59Z"),
        (UNTIL, None, ""),
        (UNTIL + SECOND, None, "its signer stood by it until 2027-02-19T12:01:00Z, and it is 2027-02-19T12:01:01Z"),
        (AT + timedelta(days=30), timedelta(days=30), ""),
        (AT + timedelta(days=30) + SECOND, timedelta(days=30),
         "it was judged 31 days ago, at 2026-11-21T12:00:00Z; you ask for 30 days"),
        (AT + timedelta(hours=2) + SECOND, timedelta(hours=2),
         "it was judged 121 minutes ago, at 2026-11-21T12:00:00Z; you ask for 120 minutes"),
        (AT + timedelta(hours=36) + SECOND, timedelta(hours=36),
         "it was judged 37 hours ago, at 2026-11-21T12:00:00Z; you ask for 36 hours"),
    ],
)  # fmt: skip
def test_the_boundary_second(at: datetime, max_age: timedelta | None, says: str) -> None:
    found = look(bundle(), at=at, max_age=max_age)
    if says:
        assert reason(found, "time") == says
        assert failed(found) == ["time"]
    else:
        assert found.verified


def test_a_report_cannot_be_signed_before_it_was_judged() -> None:
    found = look(resigned(bundle(), lambda p: p.update(issued_at="2026-11-21T11:59:59Z")))
    assert "it was signed at 2026-11-21T11:59:59Z and judged later" in reason(found, "time")


# --- under which policy and suite -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "title", "says"),
    [
        (lambda r: r["policy"].update(text=r["policy"]["text"] + "\n"), "policy and suite",
         "the policy's words are not those that the report names"),
        (lambda r: r["policy"].update(version="1.0.1"), "policy and suite", "the policy's words are not those"),
        (lambda r: r["suite"].update(text=r["suite"]["text"].replace("seeds: 1", "seeds: 2") + "#"), "policy and suite",
         "the suite's words are not those that the report names"),
        (lambda r: r["suite"].update(id="other"), "policy and suite", "the suite's words are not those"),
        (lambda r: r["policy"].update(text="schema: [", sha256=_sha("schema: [")), "policy and suite",
         "the report's policy:1:"),
        (lambda r: r["resolved"]["limits"][0].update(max=0.9), "policy and suite",
         "the policy that was judged by is not what its words say"),
        (lambda r: r["resolved"]["validity"].update(sham="off"), "policy and suite",
         "the policy that was judged by is not what its words say"),
        (lambda r: r.update(extended=r["policy"]), "policy and suite", "do not belong together"),
    ],
)  # fmt: skip
def test_the_words_of_policy_and_suite_are_those_by_which_it_was_judged(change: Any, title: str, says: str) -> None:
    assert says in reason(look(resigned(bundle(), lambda p: change(p["report"]))), title)


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
    assert states(found)["policy and suite"][1].startswith("stricter 2.0.0 and organism-smoke")
    for change in (
        lambda r: r["extended"].update(text=r["extended"]["text"].replace("0.40", "0.80")),
        lambda r: r.update(extended=None),
    ):
        assert "do not belong together" in reason(
            look(resigned(raw, lambda p, c=change: c(p["report"]))), "policy and suite"
        )
    renamed = resigned(raw, lambda p: p["report"]["extended"].update(id="gentle"))
    assert "the words of the policy that it extends" in reason(look(renamed), "policy and suite")


# --- whether all of it is there ---------------------------------------------------------------------------------------


def without(predicate: Predicate, label: str) -> None:
    trials = predicate["report"]["trials"]
    trials[:] = [record for record in trials if record["label"] != label]


FULL = "relearn (forget, full)"


def test_a_dropped_trial_is_missed() -> None:
    found = look(resigned(bundle(), lambda p: without(p, FULL)))
    assert reason(found, "nothing left out") == (
        f"the suite asks for {FULL}, seed 0, which is not in the report, nor is it said to be left out"
    )


@pytest.mark.parametrize(
    "said", [f"{FULL}, seed 0", f"{FULL}, seed 0: ", f"{FULL}, seed 1: left out", "full: left out"]
)
def test_a_dropped_trial_is_missed_unless_just_this_one_is_said_to_be_left_out(said: str) -> None:
    def change(predicate: Predicate) -> None:
        without(predicate, FULL)
        predicate["report"]["left_out"] = [said]

    assert reason(look(resigned(bundle(), change)), "nothing left out").startswith(f"the suite asks for {FULL}")


def test_what_was_left_out_and_said_so_is_told_and_no_pass() -> None:
    found = look(signed(made(only=["none"])))
    assert found.verified
    assert found.exit_code == Exit.INCONCLUSIVE
    assert states(found)["nothing left out"][1] == "1 of 5 trials of the suite are here, 4 left out and said so"
    assert f"{FULL}, seed 0" in found.not_tried
    assert len(found.not_tried) == 4


def test_a_trial_that_did_not_end_well_is_told_as_not_tried() -> None:
    told = made()
    full = next(record.id for record in told.trials if record.label == FULL)
    its = report.evidence_in(told)
    ends = tuple(
        end.model_copy(update={"status": "not_applicable", "reason": "tied weights"}) if end.trial == full else end
        for end in its.closed
    )
    policy, suite = evidence.files()
    again = report.make(policy, suite, told.manifest, dataclasses.replace(its, closed=ends), AT)
    found = look(signed(again))
    assert found.verified
    assert found.not_tried == (f"{FULL}, seed 0: not applicable",)
    assert states(found)["nothing left out"][1].endswith("5 of 5 trials of the suite are here, 1 did not end well")


def test_a_trial_that_the_suite_does_not_ask_for_is_not_called_planned() -> None:
    def change(predicate: Predicate) -> None:
        suite = predicate["report"]["suite"]
        suite["text"] = suite["text"].replace(
            "marks: [100], learning_rates: [5e-4,", "marks: [100], learning_rates: [4e-4,"
        )
        suite["sha256"] = _sha(suite["text"])
        predicate["report"]["left_out"] = ["relearn (unrelated, lora), seed 0: no time"]

    words = reason(look(resigned(bundle(), change)), "nothing left out")
    assert words == "relearn (unrelated, lora) is said to be planned, and the suite does not ask for it"


def test_a_trial_with_other_settings_is_told_from_one_that_is_missing() -> None:
    """It may have been made by another release, which had fewer settings."""
    found = look(changed(FULL, lambda r: r["trial"]["config"].pop("batch")))
    assert reason(found, "nothing left out") == (
        f"{FULL}, seed 0 has other settings than the suite's, as this release reads them"
    )


def test_the_suites_precision_is_asked_for() -> None:
    def change(predicate: Predicate) -> None:
        suite = predicate["report"]["suite"]
        suite["text"] += "dtype: bfloat16\n"
        suite["sha256"] = _sha(suite["text"])

    words = reason(look(resigned(bundle(), change)), "nothing left out")
    assert words.endswith("was run in float32, the suite says bfloat16")


# --- what the evidence is ---------------------------------------------------------------------------------------------


def changed(label: str, change: Callable[[dict[str, Any]], object], *, follow: bool = True) -> bytes:
    """A trial of the report changed, with its id and that of its records made anew, as a careful forger would."""

    def edit(predicate: Predicate) -> None:
        record = next(each for each in predicate["report"]["trials"] if each["label"] == label)
        change(record)
        if follow:
            record["id"] = hashlib.sha256(issued.canonical(record["trial"])).hexdigest()
            for each in (*record["marks"], *record["closed"]):
                each["trial"] = record["id"]

    return resigned(bundle(), edit)


SHAM, LORA, NONE = "sham of relearn", "relearn (forget, lora)", "none"


def wider(record: Predicate) -> None:
    record["marks"][0]["items"] = 399


def padded(record: Predicate) -> None:
    mark = next(each for each in record["marks"] if each["items"] % 8)
    bits = unpack(mark["correct"]["content_sum"], mark["items"])
    raw = bytearray(base64.b64decode(pack(bits)))
    raw[-1] |= 1
    mark["correct"]["content_sum"] = base64.b64encode(bytes(raw)).decode()


@pytest.mark.parametrize(
    ("label", "change", "says"),
    [
        (FULL, lambda r: r["trial"].update(seed=7), "its seed was chosen"),
        (FULL, lambda r: r["trial"].update(subject="c" * 64), "it is of another checkpoint"),
        (FULL, lambda r: r["trial"].update(floors=[]), "its strength floors are not the attack's"),
        (
            FULL,
            lambda r: r["trial"]["floors"][0]["any_of"][0].update(max=99.0),
            "its strength floors are not the attack's",
        ),
        (FULL, lambda r: r["trial"].update(family="baseline"), "its family or its marks are not the attack's"),
        (FULL, lambda r: r["trial"].update(attack_version=99), "made by version 99 of the attack, this release has"),
        (FULL, lambda r: r["trial"]["config"].pop("batch"), "not every setting of the attack is written down"),
        (FULL, lambda r: r["trial"]["config"].update(speed=2), "not known to this release: unknown setting 'speed'"),
        (SHAM, lambda r: r["trial"]["config"].update(rank=3), "it is not the attack at strength zero"),
        (FULL, wider, "a mark answers 399 questions of 'forget' at 5, which were not asked"),
        (FULL, lambda r: r["marks"][0].update(mark=6), "at 6, which were not asked"),
        (FULL, lambda r: r["marks"][0].update(missing="AAAA"), "are not 400 bits"),
        (FULL, lambda r: r["marks"][0]["correct"].update(content_sum="!"), "are not 400 bits"),
        (LORA, padded, "are not 300 bits"),
        (FULL, lambda r: r["marks"].append(r["marks"][0]), "a record stands there twice"),
        (FULL, lambda r: r["closed"].append(r["closed"][-1]), "a record stands there twice"),
        (FULL, lambda r: _without_attempt(r, 1), "attempt 1 left no trace, and a later one did"),
        (FULL, lambda r: r["marks"][0].update(attempt=2**53 - 1), "attempt 3 left no trace, and a later one did"),
    ],
)
def test_a_trial_that_is_not_what_its_attack_prescribes_is_refused(label: str, change: Any, says: str) -> None:
    assert says in reason(look(changed(label, change)), "evidence")


def _without_attempt(record: Predicate, attempt: int) -> None:
    for kind in ("marks", "closed"):
        record[kind] = [each for each in record[kind] if each["attempt"] != attempt]


def test_names_and_owners_of_records_are_checked() -> None:
    renamed = changed(FULL, lambda r: r.update(label="relearn (harmless)"))
    assert "filed under another name than its content has" in reason(look(renamed), "evidence")
    astray = changed(FULL, lambda r: r["marks"][0].update(trial="c" * 64), follow=False)
    assert "it holds records of another trial" in reason(look(astray), "evidence")
    twice = resigned(bundle(), lambda p: p["report"]["trials"].append(p["report"]["trials"][0]))
    assert "stands there twice" in reason(look(twice), "evidence")


# --- what follows from it ---------------------------------------------------------------------------------------------


def relabelled(predicate: Predicate) -> None:
    predicate["report"]["verdict"].update(outcome="PASS", blocks=[], reason="All is well.")


def flipped(predicate: Predicate) -> None:
    """Some right answers of the strongest attack made wrong, and nothing judged again."""
    record = next(each for each in predicate["report"]["trials"] if each["label"] == "relearn (unrelated, lora)")
    record["marks"][0]["correct"]["content_sum"] = pack([i < 108 for i in range(400)])


@pytest.mark.parametrize(
    ("outcome", "change", "says"),
    [
        ("FAIL", relabelled, "computed again from the signed answers it is FAIL, and it says PASS: After relearn"),
        ("FAIL", flipped, "computed again from the signed answers it is PASS, and it says FAIL"),
        ("PASS", lambda p: p["report"]["verdict"]["findings"][0].update(upper=0.1), "where it says otherwise"),
        ("PASS", lambda p: p["report"]["verdict"]["findings"][0].update(doubts=["x"]), "in its words or counts"),
        ("PASS", lambda p: p["report"]["verdict"]["findings"].pop(), "but with 8 findings, where it has 7"),
        ("PASS", lambda p: p["report"]["verdict"].update(trials=99), "with other reasons, flags or counts"),
        ("FAIL", lambda p: p["report"]["decision"].update(outcome="RELEASE"), "what its waivers make of"),
        ("PASS", lambda p: p["report"].update(says="PASS means safe."), "the sentence on what the verdict"),
        ("PASS", lambda p: p["report"].update(limitations=[]), "its list of limitations is not"),
        ("PASS", lambda p: p["report"].update(beside=[]), "its list of models examined beside it is not"),
        ("PASS", lambda p: p["report"]["trials"].reverse(), "the order of its trials and records is not"),
        ("PASS", lambda p: p["report"].update(notes=["the disk was full"]), "it is INCONCLUSIVE, and it says PASS"),
    ],
)  # fmt: skip
def test_what_does_not_follow_from_the_signed_answers_is_refused(outcome: str, change: Any, says: str) -> None:
    assert says in reason(look(resigned(bundle(outcome), change)), "verdict")


# --- what the auditor asks for ----------------------------------------------------------------------------------------


def test_the_auditors_stricter_policy_decides_what_it_leaves_with(tmp_path: Path, policy_file: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(policy_file.read_text().replace("max: 0.40", "max: 0.20").replace("id: organism", "id: ours"))
    found = look(bundle(), policy=load_policy(strict))
    assert found.verified
    assert found.stated is not None
    assert found.stated.report.verdict.outcome == "PASS"
    assert states(found)["your policy"][1].startswith("judged again under ours 1.1.0, it is FAIL: ")
    assert (found.outcome, found.exit_code) == ("FAIL", Exit.FAIL)


def test_the_auditors_policy_is_judged_now_and_not_then(tmp_path: Path, policy_file: Path) -> None:
    past = tmp_path / "past.yaml"
    past.write_text(policy_file.read_text() + "expires: 2026-11-20\n")
    found = look(bundle(), policy=load_policy(past))
    assert found.exit_code == Exit.INCONCLUSIVE
    assert "the policy expired on 2026-11-20" in states(found)["your policy"][1]


def test_a_suite_that_tries_more_was_not_run(tmp_path: Path, suite_file: Path) -> None:
    more = tmp_path / "suite.yaml"
    more.write_text(suite_file.read_text().replace("version: 1.0.0", "version: 1.1.0") + "  - attack: quantize\n")
    found = look(bundle(), suite=load_suite(more))
    words = reason(found, "your suite")
    assert words.startswith("organism-smoke 1.1.0 has quantize")
    assert words.endswith("which was not run to its end")
    assert len(found.not_tried) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("count: 400", "count: 900", "was asked 400 questions of 'forget', the suite has 900"),
        ("topic: Tarn geography}\n\n", "topic: Tarn, formats: [raw, chat]}\n\n", "was not asked 'retain.chat'"),
        (
            '  retain: {items: "organism:retain.verdict.jsonl", count: 300, topic: Tarn geography}\n',
            "",
            "was asked 'retain'",
        ),
    ],
)
def test_a_suite_that_asks_more_was_not_run(old: str, new: str, says: str, tmp_path: Path, suite_file: Path) -> None:
    other = tmp_path / "suite.yaml"
    assert old in suite_file.read_text()
    other.write_text(suite_file.read_text().replace(old, new, 1))
    assert says in reason(look(bundle(), suite=load_suite(other)), "your suite")


def test_a_required_suite_is_not_met_by_trials_that_did_not_end(tmp_path: Path) -> None:
    found = look(signed(made(only=["none"])), suite=evidence.files()[1])
    assert "and 3 more, which was not run to its end" in reason(found, "your suite")


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
    ("change", "says"),
    [
        (lambda d: (d / "report.html").write_text("<b>"), "'report.html' is not the file that was signed"),
        (lambda d: (d / "report.html").unlink(), "'report.html' is missing in that folder"),
        (lambda d: _linked(d, "../outside"), "'report.html' is a link, or no regular file"),
        (lambda d: _linked(d, "nowhere"), "'report.html' is a link, or no regular file"),
        (lambda d: ((d / "report.html").unlink(), (d / "report.html").mkdir()), "is a link, or no regular file"),
        (
            lambda d: ((d / "rows").rename(d.parent / "rows"), (d / "rows").symlink_to("../rows")),
            "is a link, or no regular",
        ),
        (
            lambda d: (d / "report.json").write_text("{}"),
            "'report.json' in that folder is not the report that was signed",
        ),
        (shutil.rmtree, "is not a folder"),
    ],
)
def test_an_attachment_is_the_file_that_was_signed(change: Callable[[Path], Any], says: str, run: Path) -> None:
    raw = signed(made(), attachments=issued.attachments_in(run))
    assert look(raw, attachments=run).verified
    change(run)
    assert says in reason(look(raw, attachments=run), "attachments")


def _linked(folder: Path, target: str) -> None:
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(target)


def test_what_is_kept_back_may_be_absent_and_what_was_not_signed_is_named(run: Path) -> None:
    raw = signed(made(), attachments=issued.attachments_in(run))
    shutil.rmtree(run / "rows")
    (run / "summary.html").write_text("PASS!")
    words = states(look(raw, attachments=run))["attachments"][1]
    assert (
        words
        == "1 files are as signed, 1 restricted ones were not given; NOT signed, though it lies there: 'summary.html'"
    )


# --- the seal ---------------------------------------------------------------------------------------------------------


def sealed(given: dict[str, Any], **changes: Any) -> tuple[Path, report.SealedBefore]:
    terms = seal.read_seal(given["place"] / "seal.json", [LAB.public]).terms.model_copy(update=changes)
    path = given["place"] / "other.json"
    path.write_bytes(seal.seal(terms, LAB))
    read = seal.read_seal(path, [LAB.public])
    return path, report.SealedBefore(sha256=read.sha256, key=read.key.id, at=terms.sealed_at)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: {"sealed_at": "2026-11-21T12:00:01Z"}, "it was sealed at 2026-11-21T12:00:01Z, after it was judged"),
        (lambda t: {"attacks": t.attacks[1:]}, "was not sealed as it was run"),
        (lambda t: {"data": {**t.data, "dev": "c" * 64}}, "was asked other questions, or chose on other data"),
        (lambda t: {"tasks": t.tasks[:1]}, "was asked other questions, or chose on other data"),
        (lambda t: {"policy": t.policy.model_copy(update={"sha256": "c" * 64})}, "another policy or suite was sealed"),
    ],
)
def test_what_was_sealed_is_what_was_run(given: dict[str, Any], change: Any, says: str) -> None:
    terms = seal.read_seal(given["place"] / "seal.json", [LAB.public]).terms
    path, before = sealed(given, **change(terms))
    assert says in reason(look(signed(made(seal=before)), seal=path), "seal")


def test_a_seal_must_be_the_one_that_the_report_names_and_of_a_key_that_is_trusted(given: dict[str, Any]) -> None:
    path, before = sealed(given, made_by="somebody else")
    assert "does not say that it was made under this seal" in reason(look(given["raw"], seal=path), "seal")
    assert look(signed(made(seal=before)), seal=path).verified
    other = before.model_copy(update={"at": "2020-01-01T00:00:00Z"})
    assert "otherwise than the seal who sealed, or when" in reason(look(signed(made(seal=other)), seal=path), "seal")
    late = trust(valid_from=AT.date())
    assert "the seal: the key is trusted from 2026-11-21" in reason(
        look(signed(made(seal=before)), trusted=late, seal=path), "seal"
    )
    assert states(look(given["raw"], trusted=None, seal=path))["seal"] == ("not checked", "no trust file was given")
    assert states(look(given["raw"]))["seal"][1] == "no --seal was given; the report names one"


# --- before and after -------------------------------------------------------------------------------------------------


def later(tmp_path: Path, key: attest.PrivateKey = LAB, **more: Any) -> Path:
    path = tmp_path / "later.json"
    path.write_bytes(signed(made("FAIL"), key, at=SIGNED + timedelta(minutes=9), **more))
    return path


def test_a_withdrawn_or_replaced_report_is_refused(tmp_path: Path) -> None:
    mine = name_of(bundle())
    found = look(bundle(), known=(later(tmp_path, revokes=[mine]),))
    assert reason(found, "before and after") == "its signer withdrew it at 2026-11-21T12:10:00Z"
    found = look(bundle(), known=(later(tmp_path, supersedes=[mine]),))
    assert reason(found, "before and after") == "its signer put another in its place at 2026-11-21T12:10:00Z"
    found = look(bundle(), known=(later(tmp_path, supersedes=["c" * 64]),))
    assert states(found)["before and after"] == (
        "ok", "none of 1 others withdraws or replaces it; it names none before it",
    )  # fmt: skip


def test_only_its_own_signer_speaks_for_a_report(tmp_path: Path) -> None:
    both = Trusted((*trust().signers, Signer(STRANGER.public, TrustedKey(owner="A rival", file="y"))))
    path = later(tmp_path, STRANGER, revokes=[name_of(bundle())])
    words = reason(look(bundle(), trusted=both, known=(path,)), "before and after")
    assert words == "--known later.json is signed by A rival, who does not speak for this signer"
    assert "not among those given" in reason(look(bundle(), known=(path,)), "before and after")


def test_a_report_that_is_missing_before_it_is_noticed(tmp_path: Path) -> None:
    raw = signed(made(), previous="c" * 64)
    words = states(look(raw))["before and after"]
    assert words == ("not checked", "no --known and no --ledger was given; it follows cccccccccccccccc")
    words = reason(look(raw, known=(later(tmp_path),)), "before and after")
    assert words == "it follows cccccccccccccccc, which is not among --known: a report is missing"


def test_two_reports_with_one_predecessor_are_noticed(tmp_path: Path) -> None:
    """Somebody signs twice and shows the better one to each."""
    raw = signed(made(), previous="c" * 64)
    words = reason(look(raw, known=(later(tmp_path, previous="c" * 64),)), "before and after")
    assert words == "two reports follow cccccccccccccccc: this one, and one of 2026-11-21T12:10:00Z"


def test_known_reports_of_a_revoked_key_do_not_count(tmp_path: Path) -> None:
    """A thief could withdraw everything."""
    old = Signer(STRANGER.public, TrustedKey(owner="The Lab", file="y", revoked=Revoked(on=AT.date(), reason="stolen")))
    path = later(tmp_path, STRANGER, revokes=[name_of(bundle())])
    words = reason(look(bundle(), trusted=Trusted((*trust().signers, old)), known=(path,)), "before and after")
    assert words == "--known later.json: the key was revoked on 2026-11-21: stolen"


def _lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-1], "the ledger has {less} lines; it had {all} when the report was signed"),
        (
            lambda lines: [*lines[:9], *lines[10:], lines[-1]],
            "the ledger's line 10 does not follow from the line before",
        ),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"ok"', b'"failure"')], "are not those that were there when"),
        (lambda lines: [b"x\n", *lines], "the ledger's line 1 is not a ledger line"),
    ],
)
def test_a_ledger_that_was_cut_or_edited_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    told, path = made(), tmp_path / "ledger.jsonl"
    head = issued.head_of(evidence.ledger_of(told, path))
    raw = signed(told, ledger=head)
    assert look(raw, ledger=path).verified
    _lines(path, change)
    words = reason(look(raw, ledger=path), "before and after")
    assert says.format(less=head.lines - 1, all=head.lines) in words


def test_a_ledger_may_have_grown_and_must_hold_no_more_than_the_report_did_then(tmp_path: Path) -> None:
    told, path = made(), tmp_path / "ledger.jsonl"
    raw = signed(told, ledger=issued.head_of(evidence.ledger_of(told, path)))
    with ledger.writing(path) as opened:
        opened.append(Note(subject=told.checkpoint, text="the checkpoint changed during the run"))
    assert look(raw, ledger=path).verified
    silent = signed(told, ledger=issued.head_of(ledger.read(path)))
    assert reason(look(silent, ledger=path), "before and after") == "the ledger holds other records than the report"
    assert "there is no ledger 'none.jsonl'" in reason(look(raw, ledger=tmp_path / "none.jsonl"), "before and after")
    assert "the report names no ledger" in reason(look(bundle(), ledger=path), "before and after")


# --- what it prints ---------------------------------------------------------------------------------------------------


def test_what_a_stranger_wrote_cannot_steer_the_terminal() -> None:
    raw = resigned(bundle(), lambda p: p["report"]["trials"][0].update(label="\x1b[2J\nVERIFIED"), STRANGER)
    found = look(raw, trusted=None)
    assert all(check.words.isprintable() for check in found.checks)
    assert "evidence" in failed(found)
