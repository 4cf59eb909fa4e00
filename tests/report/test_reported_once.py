"""One digest of a report and one list of its limitations, wherever told; and what no one signed is no one's."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import evidence as its
import pytest
from pydantic import BaseModel
from rich.console import Console
from typer.testing import CliRunner

from robustness_gate.attestation import claims, dsse, statement, verify
from robustness_gate.attestation import preregistration as preregistrations
from robustness_gate.attestation.trust import RevokedReport, Trusted, trusting
from robustness_gate.cli import verifying
from robustness_gate.cli.common import app
from robustness_gate.errors import Exit, FileError, Unverified
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.planning import plan
from robustness_gate.publish import delivery, html, junit, markdown, mlflow, terminal
from robustness_gate.records.base import Record
from robustness_gate.records.encode import decode, encode
from robustness_gate.records.evidence import SelfTests
from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build
from robustness_gate.report import limitations as report_limitations
from robustness_gate.report import reading as report_reading
from robustness_gate.report import record as report
from robustness_gate.report.advice import advise


@pytest.fixture(scope="module")
def made() -> report.Report:
    return its.made()


@pytest.fixture(scope="module")
def folder(made: report.Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves behind."""
    place = tmp_path_factory.mktemp("run")
    (ledger := tmp_path_factory.mktemp("ledger") / ledgers.NAME).write_bytes(b"")
    delivery.write(made, made.manifest, ledger.parent, place)
    return place


def predicate_of(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dsse.payload_of(raw))["predicate"]
    return found


# --- one digest -------------------------------------------------------------------------------------------------------


def digests_told(made: report.Report, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The report's digest wherever one is told, or can be taken."""
    raw = its.signed(made)
    found = its.look(raw)
    name = its.name_of(raw)
    verifying._show(found)
    spoken = capsys.readouterr().out
    page, xml = (folder / "report.html").read_text(), ElementTree.parse(folder / "report.junit.xml")
    claim = next(payload for _, payload in claims.claims(made, name))

    def only(pattern: str, text: str) -> str:
        (digest,) = re.findall(pattern, text)
        return str(digest)

    return {
        "sha256sum report.json": hashlib.sha256((folder / "report.json").read_bytes()).hexdigest(),
        "the report read again": report_reading.read(folder).digest,
        "in the attestation": hashlib.sha256(encode(predicate_of(raw)["report"])).hexdigest(),
        "a claim": statement.read_statement(claim, claims.CLAIM_TYPE, statement.Plain).predicate["report"]["sha256"],
        "MLflow": mlflow._tags(made)["gate.report_sha256"],
        "the page": only(r"report\.json, whose SHA-256 is <code>([0-9a-f]{64})", page),
        "the summary": only(r"\| report\.json \| `([0-9a-f]{64})`", (folder / "report.md").read_text()),
        "junit": {p.get("name"): p.get("value", "") for p in xml.iter("property")}["report.sha256"],
        "verify": only(r"sha256 of report\.json in it: ([0-9a-f]{64})", spoken),
        "verify --json": str(verifying._plain(found)["report"]),
    }  # fmt: skip


def test_everything_that_states_a_reports_digest_states_the_same(
    made: report.Report, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = digests_told(made, folder, capsys)
    assert set(told.values()) == {made.digest}, told
    name = its.name_of(its.signed(made))
    assert name != made.digest, "the signed statement has a name of its own, under a word of its own"
    claim = statement.read_statement(next(p for _, p in claims.claims(made, name)), claims.CLAIM_TYPE, statement.Plain)
    assert claim.predicate["statement"] == {"sha256": name}


def test_the_manifests_file_bears_the_checkpoints_name(made: report.Report, folder: Path) -> None:
    file = (folder / "checkpoint.manifest.json").read_bytes()
    assert hashlib.sha256(file).hexdigest() == made.checkpoint == made.manifest.digest


def test_policy_suite_and_checkpoint_have_one_digest_each_too(made: report.Report, folder: Path) -> None:
    """That of the file's bytes, as `sha256sum` has it, wherever one is told."""
    policy, suite = its.files()
    tags, page = mlflow._tags(made), (folder / "report.html").read_text()
    told = {p.get("name"): p.get("value") for p in ElementTree.parse(folder / "report.junit.xml").iter("property")}
    its_plan = its.planned(made.manifest)
    preregistered = preregistrations.make(
        policy, suite, its.suite_data().refs, its.suite_data().data_digests, plan.of_candidate(its_plan), its.AT
    )
    ledger = its.ledger_of(made, folder / "other.jsonl").latest_plan(None)
    for file, name, others in (
        (policy.path, "policy", (made.policy.sha256, preregistered.policy.sha256, ledger.policy)),
        (suite.path, "suite", (made.suite.sha256, preregistered.suite.sha256, ledger.suite)),
    ):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert {*others, tags[f"gate.{name}_sha256"], told[f"{name}.sha256"]} == {digest}
        assert digest in page
        assert digest[:16] in (folder / "report.md").read_text()
    assert {made.checkpoint, tags["gate.checkpoint_sha256"], told["checkpoint"], ledger.subject} == {
        made.manifest.digest
    }


def nouns_of(kind: type[BaseModel]) -> set[type[BaseModel]]:
    return {kind, *(below for each in kind.__subclasses__() for below in nouns_of(each))}


def test_no_record_is_written_under_other_names_than_those_by_which_it_is_read() -> None:
    aliased = [kind for kind in nouns_of(Record) if any(f.alias for f in kind.model_fields.values())]
    assert {"Report", "SelfTests", "Subject"} <= {kind.__name__ for kind in aliased}
    test = SelfTests(tests=(its.work()[0],))
    assert decode(SelfTests, encode(test)) == test
    assert test.digest == hashlib.sha256(encode(test)).hexdigest()


@pytest.mark.parametrize("which", ["statement", "report"])
def test_a_report_is_withdrawn_by_either_of_its_digests(made: report.Report, which: str) -> None:
    raw = its.signed(made)
    digest = {"statement": its.name_of(raw), "report": made.digest}[which]
    trusted = Trusted(trusting([its.LAB.public]).signers, (RevokedReport(sha256=digest, reason="the wrong model"),))
    assert its.failed(its.look(raw, trusted=trusted)) == ["signer"]


# --- one list of limitations ------------------------------------------------------------------------------------------


def at_the_edge(told: dict[str, Any], edge: str) -> None:
    for record in told["trials"]:
        for mark in record["measurements"]:
            if record["trial"]["attack"] == "relearn" and record["trial"]["role"] == "candidate":
                mark["selected"]["grid_edge"] = edge


@pytest.fixture(scope="module")
def both() -> tuple[report.Report, verify.Verification]:
    """A PASS of a loose policy, with rates at their grid's edge, and without a preregistration; and as its reader
    verifies it."""
    policy, suite = its.files()
    loose = policy.record.model_copy(update={"dtype": None, "tokenizer": None, "original": None, "expires": None})
    told = report.evidence_in(its.made())
    trained = {trial.id for trial in told.planned if trial.attack == "relearn" and trial.role == Role.CANDIDATE}
    measurements = tuple(
        measurement.model_copy(update={"selected": {**measurement.selected, "grid_edge": "highest"}})
        if measurement.trial in trained
        else measurement
        for measurement in told.measurements
    )
    evidence = dataclasses.replace(told, measurements=measurements)
    mine = dataclasses.replace(policy, record=loose)
    found = its.look(its.signed(report_build.make(policy, suite, its.MANIFEST, evidence, its.AT)), policy=mine)
    return report_build.make(mine, suite, its.MANIFEST, evidence, its.AT), found


SAID = (
    "grid's highest for relearn",
    "not pin the precision",
    "pins no tokenizer",
    "not pin the original",
    "No preregistration is named",
)


def test_every_output_states_every_limitation(
    both: tuple[report.Report, verify.Verification], capsys: pytest.CaptureFixture[str]
) -> None:
    weak, found = both
    assert found.verified
    assert weak.verdict.outcome == "PASS"
    assert len(weak.limitations) > 6
    for words in SAID:
        assert any(words in each for each in weak.limitations), words
    shown = io.StringIO()
    terminal.show(weak, Console(file=shown, width=400))
    verifying._show(found)
    outputs = {
        "terminal": shown.getvalue(),
        "markdown": markdown.render(weak),
        "html": html.render(weak).replace("&#39;", "'"),
        "junit": junit.render(weak).decode(),
        "why": "\n".join(advise(weak).caveats),
        "verify": capsys.readouterr().out,
        "verify --json": json.dumps(verifying._plain(found), ensure_ascii=False),
    }
    for name, text in outputs.items():
        for words in weak.limitations:
            assert words in text, (name, words)


def test_verify_makes_the_limitations_anew_and_a_signer_cannot_leave_one_out(made: report.Report) -> None:
    assert report_limitations.NO_PREREGISTRATION in made.limitations
    assert its.look(its.signed(made)).limitations == made.limitations
    for index, words in enumerate(made.limitations):
        lie = its.resigned(its.bundle(), lambda told, at=index: told["report"]["limitations"].pop(at))
        assert its.failed(its.look(lie)) == ["verdict"], words


def test_under_the_readers_own_policy_the_limitations_are_those_of_his(made: report.Report) -> None:
    policy = its.files()[0]
    mine = policy.record.model_copy(update={"dtype": None, "expires": None})
    found = its.look(its.bundle(), policy=dataclasses.replace(policy, record=mine))
    assert "The policy has no last day, so its limits never come up for review." in found.limitations
    assert any("not pin the precision" in each for each in found.limitations)


def test_an_edge_left_out_of_a_signed_report_does_not_verify() -> None:
    lie = its.resigned(its.bundle(), lambda told: at_the_edge(told["report"], "highest"))
    assert its.failed(its.look(lie)) == ["verdict"]


# --- whoever signed it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", its.OUTCOMES)
def test_what_adds_up_is_not_verified_until_its_signer_is_known(
    outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = its.look(its.bundle(outcome), trusted=None)
    assert (found.adds_up, found.verified, found.exit_code) == (True, False, Exit.UNVERIFIED)
    verifying._show(found)
    spoken = capsys.readouterr().out
    assert f"NOT VERIFIED: {outcome} adds up; the signer was not checked" in spoken
    assert not re.search(r"^VERIFIED", spoken, re.MULTILINE)
    plain = verifying._plain(found)
    assert (plain["verified"], plain["adds_up"], plain["verdict"]) == (False, True, outcome)


def test_a_report_that_does_not_add_up_gives_no_verdict_to_a_machine() -> None:
    lie = its.resigned(its.bundle("FAIL"), lambda told: told["report"]["verdict"].update(outcome="PASS"))
    plain = verifying._plain(its.look(lie))
    assert (plain["verified"], plain["adds_up"], plain["verdict"]) == (False, False, None)


# --- a report that someone handed over -------------------------------------------------------------------------------


def edited(folder: Path, made: report.Report, change: Callable[[dict[str, Any]], object]) -> Path:
    plain = json.loads(encode(made))
    change(plain)
    (folder / "report.json").write_text(json.dumps(plain), encoding="utf-8")
    return folder


def says_pass(plain: dict[str, Any]) -> None:
    plain["verdict"] = json.loads(encode(its.made()))["verdict"]


def test_a_reason_that_was_written_over_is_explained_to_no_one(tmp_path: Path) -> None:
    place = edited(tmp_path, its.made("FAIL"), lambda plain: plain.update(reason="All is well."))
    with pytest.raises(Unverified, match="both are FAIL"):
        report_reading.refuse_forged(report_reading.read(place))


@pytest.mark.parametrize("command", [["why"], ["compare", "SAME"]])
def test_a_verdict_that_was_written_over_is_explained_to_no_one(tmp_path: Path, command: list[str]) -> None:
    place = edited(tmp_path, its.made("FAIL"), says_pass)
    arguments = [command[0], str(place), *(str(place) for each in command[1:])]
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, Unverified)
    assert "it says PASS, and its answers give FAIL" in found.exception.message
    assert found.exception.exit_code == Exit.UNVERIFIED


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda p: p.update(reason="fine\n  VERIFIED: PASS"), "reason"),
        (lambda p: p["limitations"].insert(0, "none\x1b[2J"), "limitations.0"),
        (lambda p: p["trials"][0].update(label="none\rPASS"), "trials.0.label"),
        (lambda p: p["policy"].update(text="a: \x1b[31mb"), "policy.text"),
        (lambda p: p.update(model_type="llama\x9b"), "model_type"),
    ],
)
def test_what_would_steer_a_terminal_is_no_report(tmp_path: Path, change: Any, where: str) -> None:
    with pytest.raises(FileError, match="control characters") as caught:
        report_reading.read(edited(tmp_path, its.made(), change))
    assert caught.value.message.startswith(where)
    edited(tmp_path, its.made(), lambda plain: plain["policy"].update(text="a: b\n\tc"))
    assert report_reading.read(tmp_path).policy.text == "a: b\n\tc", "the words of a file have lines"
