"""Lies in an honest report, signed anew with a key that its reader trusts: none is believed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import evidence as its
import independent_verifier
import pytest

from robustness_gate.attestation import predicate
from robustness_gate.errors import Exit
from robustness_gate.records.encode import encode
from robustness_gate.report import build as report_build
from robustness_gate.report import limitations as report_limitations
from robustness_gate.report import record
from robustness_gate.verdict import judge, pack

Told = dict[str, Any]


@cache
def guessing(theirs: float = 0.25, useful: float = 0.25) -> record.Report:
    """A report of a model, and an original, that answer so much of the useful task."""
    evidence = record.evidence_in(its.made())
    shares = {
        t.id: useful if t.role in ("candidate", "sham") else theirs for t in (*evidence.planned, *evidence.comparators)
    }

    def asked(mark: Any) -> Any:
        if mark.task != "retain":
            return mark
        right = round(shares[mark.trial] * mark.items)
        bits = pack([i < right for i in range(mark.items)])
        return mark.model_copy(update={"correct": dict.fromkeys(mark.correct, bits)})

    marks = tuple(asked(measurement) for measurement in evidence.measurements)
    return report_build.make(*its.files(), its.MANIFEST, dataclasses.replace(evidence, measurements=marks), its.AT)


def found_in(lie: bytes) -> list[str]:
    found = its.look(lie)
    assert found.exit_code == Exit.UNVERIFIED
    assert not found.verified
    return its.failed(found)


# --- what no one can answer -------------------------------------------------------------------------------------------


def unanswered(told: Told) -> Told:
    finding: Told = next(f for f in told["verdict"]["findings"] if f["kind"] == "utility")
    return finding


def useful_after_all(told: Told) -> None:
    unanswered(told).update(state="under", validity_issues=[])
    told["verdict"].update(outcome="PASS", blockers=[])
    told.update(reason="All is well.")


def a_reason_dropped(told: Told) -> None:
    told["verdict"]["blockers"] = [b for b in told["verdict"]["blockers"] if b["code"] != "unanswered"]


def ruined_by_unlearning(told: Told) -> None:
    unanswered(told).update(state="over", validity_issues=[])
    told["verdict"].update(outcome="FAIL")


def the_original_left_out(told: Told) -> None:
    told["trials"] = [r for r in told["trials"] if r["trial"]["role"] != "original"]
    told["comparators"] = []


@pytest.mark.parametrize("lie", [useful_after_all, a_reason_dropped, ruined_by_unlearning, the_original_left_out])
def test_of_a_form_that_no_one_can_answer(lie: Callable[[Told], None]) -> None:
    honest = guessing()
    assert honest.verdict.blockers[0].code == "unanswered"
    raw = its.signed(honest)
    assert its.look(raw).exit_code == Exit.INCONCLUSIVE
    assert found_in(its.resigned(raw, lambda told: lie(told["report"]))) == ["verdict"]


def test_a_ruined_model_is_no_model_that_cannot_answer() -> None:
    """The same answers beside an original that answers: FAIL, and a signer who calls it inability is refused."""
    honest = guessing(theirs=0.95)
    assert (honest.verdict.outcome, its.look(its.signed(honest)).exit_code) == ("FAIL", Exit.FAIL)

    args = {"by": "original", "task": "retain", "accuracy": 0.25, "chance": 0.25}
    issue = {"code": "unanswerable", "args": args}

    def excused(told: Told) -> None:
        unanswered(told).update(state="open", validity_issues=[issue])
        told["verdict"].update(outcome="INCONCLUSIVE")

    assert found_in(its.resigned(its.signed(honest), lambda told: excused(told["report"]))) == ["verdict"]


@pytest.mark.parametrize(("theirs", "useful"), [(0.25, 0.25), (0.95, 0.25), (0.25, 0.05), (0.05, 0.25), (0.4, 0.25)])
def test_a_stranger_who_shares_no_line_with_us_says_the_same(theirs: float, useful: float) -> None:
    honest = guessing(theirs, useful)
    assert independent_verifier.verdict(honest.plain)[0] == honest.verdict.outcome


# --- limitations, digests, and whoever signed -------------------------------------------------------------------------


@pytest.mark.parametrize("which", [report_limitations.NO_PREREGISTRATION, "does not pin"])
def test_of_a_limitation_that_is_left_out(which: str) -> None:
    def silent(told: Told) -> None:
        said = [words for words in told["limitations"] if which not in words]
        assert len(said) < len(told["limitations"])
        told["limitations"] = said

    assert found_in(its.resigned(its.bundle(), lambda told: silent(told["report"]))) == ["verdict"]


def test_of_a_preregistration_that_no_one_made() -> None:
    """With a preregistration named the limitation is gone: whether it is one, only --preregistration shows, and the
    check says so."""
    preregistration = {"sha256": "7" * 64, "key": "8" * 64, "at": "2026-11-20T09:00:00Z"}
    named = its.resigned(its.bundle(), lambda told: told["report"].update(preregistration=preregistration))
    assert found_in(named) == ["verdict"], "it says that there is none, among its limitations"


def test_of_a_report_beside_the_bundle_under_other_names(tmp_path: Path) -> None:
    """The same values under the names of our fields: another file, with another digest, is not the report."""
    told = its.made()
    (tmp_path / "report.json").write_bytes(encode(told))
    assert its.look(its.bundle(), attachments=tmp_path).verified
    assert hashlib.sha256((tmp_path / "report.json").read_bytes()).hexdigest() == told.digest
    other = {("schema_" if key == "schema" else key): value for key, value in told.plain.items()}
    (tmp_path / "report.json").write_bytes(encode(other))
    assert its.failed(its.look(its.bundle(), attachments=tmp_path)) == ["attachments"]


def test_of_a_pass_that_anyone_wrote() -> None:
    """A report that adds up, signed by a stranger: 5 with his key untrusted, 5 where no one asks who he is."""
    forged = its.signed(its.made(), its.STRANGER)
    assert its.look(forged).exit_code == Exit.UNVERIFIED
    found = its.look(forged, trusted=None)
    assert (found.outcome, found.adds_up, found.exit_code) == ("PASS", True, Exit.UNVERIFIED)


def test_of_a_kind_a_flag_and_a_role_that_no_one_knows() -> None:
    def each(name: str, told: Told) -> None:
        trial = told["trials"][0]["trial"]
        match name:
            case "kind":
                trial["tasks"][0]["kind"] = "essay"
            case "role":
                trial["role"] = "stranger"
            case "control":  # only a control has a name
                trial["control"] = "clean"
            case "kind of a finding":
                told["verdict"]["findings"][0]["kind"] = "hunch"
            case "flag":
                told["verdict"]["flags"] = [{"flag": "brand_new", "code": "x", "args": {}, "blocks": False}]
            case "code":
                told["verdict"]["blockers"] = [{"code": "brand_new", "args": {}}]
            case "status":
                told["trials"][0]["closed"][0]["status"] = "fine"
            case "issue":
                told["verdict"]["findings"][0]["validity_issues"] = [{"code": "brand_new", "args": {}}]
            case _:
                raise AssertionError(name)

    for name in ("kind", "role", "flag", "code", "status", "issue"):
        lie = its.resigned(its.bundle(), lambda told, name=name: each(name, told["report"]))
        assert found_in(lie)[0] == "form", name


def test_the_honest_reports_verify() -> None:
    """The clean cases from which each of these starts."""
    assert its.look(its.bundle()).exit_code == Exit.PASS
    again = predicate.read_issued(encode(json.loads(its.dsse.payload_of(its.bundle())))).report
    assert judge(its.files()[0].record, record.evidence_in(again), its.AT) == again.verdict
