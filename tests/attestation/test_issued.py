"""What a signer states besides the report, and the small statements that policy engines read."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import evidence
import pytest
from evidence import AT, LAB, SIGNED, bundle, made, signed

from robustness_gate.attestation import claims, dsse, predicate, statement
from robustness_gate.errors import SigningError, Unverified, UsageError
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.records.encode import encode

ONE = predicate.Attachment(path="a", size=1, sha256="a" * 64, visibility="public")


def read_back(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dsse.payload_of(raw))
    return found


def test_the_subject_is_the_checkpoints_manifest_as_a_file(tmp_path: Path) -> None:
    manifest = inspect(evidence.checkpoint(tmp_path))
    file = encode(manifest.model_dump(mode="json"))
    stated = read_back(signed(made("PASS", tmp_path)))
    assert stated["subject"] == [
        {"name": "checkpoint.manifest.json", "digest": {"sha256": hashlib.sha256(file).hexdigest()}}
    ]
    assert stated["predicateType"] == "urn:robustness-gate:report:v1"


@pytest.mark.parametrize("outcome", evidence.OUTCOMES)
def test_every_outcome_is_signed_and_read_back_the_same(outcome: str) -> None:
    told = made(outcome)
    opened = dsse.open_bundle(signed(told, previous="c" * 64, revokes=["d" * 64]), [LAB.public])
    found = predicate.read_issued(opened.payload)
    assert found.report == told
    assert (found.previous, found.revokes, found.supersedes) == ("c" * 64, ("d" * 64,), ())
    assert (found.issued_at, found.valid_until) == ("2026-11-21T12:01:00Z", "2027-02-19T12:01:00Z")


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"at": datetime(2026, 11, 21, 13)}, "has no time zone"),  # noqa: DTZ001 - that is what is tried
        ({"valid_for": timedelta(0)}, "valid for no time"),
        ({"at": AT - timedelta(seconds=1)}, "was judged after the time of issue"),
        ({"valid_for": timedelta(days=3_000_000)}, "its time lies beyond the calendar"),
        ({"previous": "abc"}, "cannot be issued: previous"),
        ({"attachments": [ONE, ONE]}, "attachments: Value error, are not sorted by path, each once"),
    ],
)
def test_terms_that_make_no_sense_are_not_signed(terms: dict[str, Any], says: str) -> None:
    with pytest.raises(SigningError, match=says):
        signed(made(), **terms)


def test_times_are_written_in_utc() -> None:
    at = SIGNED.astimezone(timezone(timedelta(hours=9)))
    assert read_back(signed(made(), at=at))["predicate"]["issued_at"] == "2026-11-21T12:01:00Z"


def test_another_predicate_is_not_a_report() -> None:
    payload = statement.statement({predicate.MANIFEST: "a" * 64}, claims.CLAIM_TYPE, {"metric": "x"})
    with pytest.raises(Unverified, match="urn:robustness-gate:claim:v1"):
        predicate.read_issued(payload)


def test_the_folder_of_a_run_is_named_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("report.html", "ledger.jsonl", "rows/a.npy", ".partial", "report.json", predicate.BUNDLE):
        (tmp_path / name).write_text(name)
    found = predicate.attachments_in(tmp_path, leave_out=("report.json",))
    assert [(each.path, each.visibility) for each in found] == [
        ("ledger.jsonl", "restricted"), ("report.html", "public"), ("rows/a.npy", "restricted"),
    ]  # fmt: skip
    assert found[1].sha256 == hashlib.sha256(b"report.html").hexdigest()
    (tmp_path / "x").symlink_to("report.html")
    with pytest.raises(UsageError, match="'x' is not a regular file"):
        predicate.attachments_in(tmp_path)


@pytest.mark.parametrize("outcome", evidence.OUTCOMES)
def test_claims_say_what_the_findings_say_and_no_more(outcome: str) -> None:
    told = made(outcome)
    name = evidence.name_of(bundle(outcome))
    found = [
        statement.read_statement(payload, claims.CLAIM_TYPE, statement.Plain)
        for _, payload in claims.claims(told, name)
    ]
    assert all(each.subjects == {predicate.MANIFEST: told.checkpoint} for each in found)
    said = [each.predicate for each in found]
    assert {(each["kind"], each["requirement"], each["attack"]) for each in said} == {
        (finding.kind, finding.rule, finding.attack) for finding in told.verdict.findings
    }
    for each in said:
        claimed = (each["kind"], each["requirement"], each["attack"])
        mine = [f for f in told.verdict.findings if (f.kind, f.rule, f.attack) == claimed]
        assert each["passed"] <= all(f.state == "under" for f in mine)
        assert each["passed"] >= all(f.establishes_compliance for f in mine)
        if each["comparator"] == "<=":
            assert each["value"] == max(f.upper for f in mine)
            assert each["passed"] <= (each["value"] <= each["threshold"])
        else:
            assert each["value"] == min(f.lower for f in mine)
        assert (each["verdict"], each["statement"]) == (outcome, {"sha256": name})
        assert each["report"] == {"sha256": told.digest}
        assert each["sampleSize"] in (300, 400)
    assert all(each["passed"] for each in said) == (outcome == "PASS")
