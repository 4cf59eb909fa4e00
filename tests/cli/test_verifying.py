"""`sign` and `verify` as their two people meet them: what is printed, what lies there afterwards, the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import evidence
import pytest

from robustness_gate import cli
from robustness_gate.attestation import claims, dsse, keys, predicate, statement
from robustness_gate.records.encode import encode

Words = str | Path
Gate = Callable[..., "Done"]


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    monkeypatch.delenv(keys.KEY_VARIABLE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    def run(*arguments: Words) -> Done:
        monkeypatch.setattr(sys, "argv", ["robustness-gate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)

    return run


@dataclass
class Desk:
    """An evaluator's run that has ended, his key, and an auditor's trust file and copy of the model."""

    run: Path
    key: Path
    trust: Path
    model: Path

    @property
    def plain(self) -> list[Words]:
        return ["verify", self.run, "--checkpoint", self.model, "--trust", self.trust]


def ended(place: Path, outcome: str, model: Path) -> Path:
    """The folder of a run with this outcome, an hour ago."""
    run = place / outcome.lower()
    run.mkdir()
    told = evidence.made(outcome, model, at=datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))
    (run / "report.json").write_bytes(encode(told.model_dump(mode="json", by_alias=True)))
    (run / "report.html").write_text("<p>")
    evidence.ledger_of(told, run / "ledger.jsonl")
    return run


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    model = evidence.checkpoint(tmp_path / "model")
    private, public = keys.save(keys.generate(), tmp_path / "keys")
    trust = tmp_path / "trust.yaml"
    trust.write_text(
        "schema: robustness-gate/trust/v1\nkeys:\n"
        f"  - {{owner: The Lab, file: keys/{public.name}, id: {keys.public_key(public).id}}}\n"
    )
    return Desk(ended(tmp_path, "PASS", model), private, trust, model)


def test_what_the_signer_states_about_itself_is_signed_and_reported_as_its_claim(
    gate: Gate, desk: Desk, tmp_path: Path
) -> None:
    said = tmp_path / "says.yaml"
    said.write_text('paid_by: the vendor\ndeviations: "one trial was run again\\x1b[2J"\n', encoding="utf-8")
    assert gate("sign", desk.run, "--key", desk.key, "--declarations", said).code == 0
    told = gate(*desk.plain)
    assert "the signer says, unchecked: paid_by: the vendor" in told.out
    assert "deviations: one trial was run again\N{REPLACEMENT CHARACTER}[2J" in told.out, (
        "nothing he says steers the reader's terminal"
    )
    assert json.loads(gate(*desk.plain, "--json").out)["declarations"]["paid_by"] == "the vendor"
    said.write_text("- no names\n", encoding="utf-8")
    refused = gate("sign", desk.run, "--key", desk.key, "--declarations", said, "--out", tmp_path / "other.json")
    assert refused.code == 2
    assert "says.yaml:1:1" in refused.err


def test_a_pass_is_signed_and_a_stranger_checks_it(gate: Gate, desk: Desk, policy_file: Path, suite_file: Path) -> None:
    made = gate("sign", desk.run, "--key", desk.key)
    assert made.code == 0, made.err
    bundle = desk.run / predicate.BUNDLE
    name = evidence.name_of(bundle.read_bytes())
    assert f"{bundle}: PASS, signed by " in made.out
    assert f"sha256 of the signed statement: {name}" in made.out
    extra: list[Words] = ["--policy", policy_file, "--require-suite", suite_file, "--max-age", "30d"]
    done = gate(*desk.plain, *extra, "--attachments", desk.run, "--ledger", desk.run / "ledger.jsonl")
    assert done.code == 0, done.out + done.err
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[:14]] == [str(number) for number in range(1, 15)]
    assert sum(" ok " in line for line in lines[:14]) == 13
    assert lines[12].split(maxsplit=1)[1].startswith("not checked  preregistration")
    assert "12  ok           attachments       2 files are as signed" in done.out
    assert "no file can show that the evaluator's machine computed these answers" in done.out
    assert "VERIFIED: PASS, signed by The Lab\nPASS means that each listed attack run left" in done.out
    assert done.err == ""


@pytest.mark.parametrize(("outcome", "code"), [("FAIL", 3), ("INCONCLUSIVE", 4)])
def test_what_is_no_pass_is_signed_alike_and_leaves_with_its_own_code(
    outcome: str, code: int, gate: Gate, desk: Desk, tmp_path: Path
) -> None:
    run = ended(tmp_path, outcome, desk.model)
    assert gate("sign", run, "--key", desk.key).code == 0
    done = gate("verify", run / predicate.BUNDLE, *desk.plain[2:])
    assert done.code == code
    assert f"VERIFIED: {outcome}, signed by The Lab" in done.out


def test_another_model_another_signer_and_an_old_report_leave_with_5(gate: Gate, desk: Desk, tmp_path: Path) -> None:
    gate("sign", desk.run, "--key", desk.key)
    other = evidence.checkpoint(tmp_path / "other", b"\0\0\0\1")
    done = gate("verify", desk.run, "--checkpoint", other, "--trust", desk.trust)
    assert done.code == 5
    assert "DOES NOT VERIFY: checkpoint" in done.out
    assert "VERIFIED" not in done.out.replace("DOES NOT VERIFY", "")
    _, stranger = keys.save(keys.generate(), tmp_path / "stranger")
    done = gate("verify", desk.run, "--no-checkpoint", "--public", stranger)
    assert done.code == 5
    assert "DOES NOT VERIFY: signature" in done.out
    done = gate(*desk.plain, "--max-age", "59m")
    assert done.code == 5
    assert "you ask for 59 minutes" in done.out
    assert gate(*desk.plain, "--max-age", "2h").code == 0


@pytest.mark.parametrize("raw", [b"{", b'{"schema": "robustness-gate/cost/v1", "verdict": "PASS"}'])
def test_what_the_trials_took_is_neither_signed_nor_verified(gate: Gate, desk: Desk, raw: bytes) -> None:
    (desk.run / "cost.json").write_bytes(raw)
    gate("sign", desk.run, "--key", desk.key)
    assert b"cost" not in (desk.run / predicate.BUNDLE).read_bytes()
    assert gate(*desk.plain).code == 0
    (desk.run / "cost.json").write_bytes(b"other")
    assert gate(*desk.plain).code == 0


def test_the_same_as_json(gate: Gate, desk: Desk) -> None:
    gate("sign", desk.run, "--key", desk.key)
    told = json.loads(gate(*desk.plain, "--json").out)
    assert (told["verified"], told["verdict"], told["signer"]) == (True, "PASS", "The Lab")
    assert told["statement"] == evidence.name_of((desk.run / predicate.BUNDLE).read_bytes())
    assert [check["number"] for check in told["checks"]] == list(range(1, 15))
    assert told["not_tried"] == []
    (desk.model / "vocab.txt").write_text("x")
    done = gate(*desk.plain, "--json")
    assert done.code == 5
    assert json.loads(done.out)["verified"] is False
    assert json.loads(done.out)["verdict"] is None


def test_without_a_signature_check_nothing_is_called_verified(gate: Gate, desk: Desk) -> None:
    gate("sign", desk.run, "--key", desk.key)
    done = gate("verify", desk.run, "--checkpoint", desk.model, "--no-signature")
    assert done.code == 5
    assert "who signed was not checked: anyone can have written this" in done.out
    assert "NOT VERIFIED: PASS adds up; the signer was not checked, and anyone can have written it" in done.out
    assert "VERIFIED: PASS, signed by" not in done.out
    done = gate("verify", desk.run, "--checkpoint", desk.model, "--no-signature", "--json")
    told = json.loads(done.out)
    assert (done.code, told["verified"], told["adds_up"], told["verdict"]) == (5, False, True, "PASS")


def test_a_later_report_names_withdraws_and_replaces(gate: Gate, desk: Desk, tmp_path: Path) -> None:
    gate("sign", desk.run, "--key", desk.key)
    first = desk.run / predicate.BUNDLE
    run = ended(tmp_path, "FAIL", desk.model)
    assert gate("sign", run, "--key", desk.key, "--previous", first, "--revokes", first).code == 0
    done = gate(*desk.plain, "--known", run / predicate.BUNDLE)
    assert done.code == 5
    assert "its signer withdrew it at " in done.out
    done = gate("verify", run, *desk.plain[2:], "--known", first)
    assert done.code == 3
    assert "none of 1 other reports withdraws or replaces it; the one before it, " in done.out


def test_claims_are_small_statements_that_dsse_clients_read(gate: Gate, desk: Desk, tmp_path: Path) -> None:
    done = gate("sign", desk.run, "--key", desk.key, "--claims", tmp_path / "claims")
    assert done.code == 0, done.err
    key = keys.public_key(desk.key.with_suffix(".pub"))
    found = sorted((tmp_path / "claims").iterdir())
    assert f"{len(found)} claims" in done.out
    for path in found:
        claim = statement.read_statement(
            dsse.open_bundle(path.read_bytes(), [key]).payload, claims.CLAIM_TYPE, statement.Plain
        )
        assert claim.predicate["passed"] is True
        assert claim.predicate["verdict"] == "PASS"
        assert path.stat().st_size < 4000


def test_a_report_that_does_not_follow_from_its_evidence_is_not_signed(gate: Gate, desk: Desk) -> None:
    path = desk.run / "report.json"
    told = json.loads(path.read_bytes())
    told["verdict"]["findings"][0]["upper"] = 0.1
    path.write_bytes(encode(told))
    done = gate("sign", desk.run, "--key", desk.key)
    assert done.code == 5
    assert (
        "this report would not verify (verdict): computed again from the signed answers it is PASS, but on" in done.err
    )
    assert not (desk.run / predicate.BUNDLE).exists()


def test_a_report_that_leaves_out_what_the_ledger_holds_is_not_signed(gate: Gate, desk: Desk) -> None:
    from robustness_gate.evidence import ledger
    from robustness_gate.records.evidence import EvidenceIssue, Note

    subject = json.loads((desk.run / "report.json").read_bytes())["checkpoint"]
    with ledger.writing(desk.run / "ledger.jsonl") as opened:
        changed = EvidenceIssue(code="checkpoint_changed", args={"sha256": "c" * 64})
        opened.append(Note(subject=subject, what=changed))
    done = gate("sign", desk.run, "--key", desk.key)
    assert done.code == 5
    assert "(before and after): the ledger holds other records than the report" in done.err


def test_nothing_is_overwritten_and_a_file_is_no_run(gate: Gate, desk: Desk) -> None:
    gate("sign", desk.run, "--key", desk.key)
    before = (desk.run / predicate.BUNDLE).read_bytes()
    done = gate("sign", desk.run, "--key", desk.key)
    assert done.code == 2
    assert "already there" in done.err
    assert (desk.run / predicate.BUNDLE).read_bytes() == before
    assert "Name the folder of the run" in gate("sign", desk.run / "report.json", "--key", desk.key).err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--trust", "{trust}"], "say what you are about to use"),
        (["--checkpoint", "{model}", "--no-checkpoint", "--trust", "{trust}"], "say what you are about to use"),
        (["--no-checkpoint"], "say whom you trust"),
        (["--no-checkpoint", "--trust", "{trust}", "--no-signature"], "say whom you trust"),
        (
            ["--no-checkpoint", "--trust", "{trust}", "--max-age", "a month"],
            "--max-age 'a month' is not a length of time",
        ),
        (["--no-checkpoint", "--trust", "{trust}", "--max-age", "0d"], "is not a length of time"),
        (["--no-checkpoint", "--trust", "nobody.yaml"], "nobody.yaml"),
        (["--no-checkpoint", "--trust", "{trust}", "--policy", "none.yaml"], "none.yaml"),
    ],
)
def test_what_does_not_fit_together_is_a_usage_error(arguments: list[str], says: str, gate: Gate, desk: Desk) -> None:
    gate("sign", desk.run, "--key", desk.key)
    done = gate("verify", desk.run, *(each.format(trust=desk.trust, model=desk.model) for each in arguments))
    assert done.code == 2
    assert says in done.err
    assert done.out == ""


def test_a_bundle_that_is_not_there_or_none_leaves_with_5(gate: Gate, desk: Desk) -> None:
    done = gate("verify", desk.run, "--no-checkpoint", "--trust", desk.trust)
    assert done.code == 5
    assert "report.sigstore.json: cannot be read" in done.err
    (desk.run / predicate.BUNDLE).write_text("{}")
    done = gate("verify", desk.run, "--no-checkpoint", "--trust", desk.trust)
    assert done.code == 5
    assert "DOES NOT VERIFY: signature" in done.out


def test_a_rewritten_ledger_has_a_good_chain_and_sign_says_so(gate: Gate, desk: Desk, tmp_path: Path) -> None:
    """What the words claim, shown: the keeper computes the chain anew and nothing in the file betrays it."""
    from robustness_gate.evidence import ledger

    signed = gate("sign", desk.run, "--key", desk.key)
    head = predicate.head_of(ledger.read(desk.run / "ledger.jsonl"))
    assert f"ledger: {head.lines} lines, head {head.sha256}. {ledger.CHAIN}" in signed.out
    assert "anyone who holds the whole file can compute the chain again" in ledger.CHAIN
    told = evidence.made("PASS", desk.model)
    fewer = told.model_copy(update={"self_tests": told.self_tests[1:]})
    forged = evidence.ledger_of(fewer, tmp_path / "ledger.jsonl")
    assert forged.head != head.sha256, "another history, whose chain reads as well as the first"
    done = gate(*desk.plain, "--ledger", tmp_path / "ledger.jsonl")
    assert done.code == 5
    assert "FAILED       before and after" in done.out, "the head that was signed shows it"
    for page in ("ci.md", "signing.md"):
        words = " ".join((Path(__file__).parents[2] / "docs" / page).read_text().split())
        assert "compute the chain again" in words
        assert "accidents and partial edits" in words or "an accident: a line lost" in words
    assert "compute the chain again" in " ".join(gate("sign", "--help").out.split())


def test_an_audit_of_what_no_one_is_known_to_have_signed_leaves_with_5(
    gate: Gate, desk: Desk, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers may agree: anyone can write down what a model answers, and a verdict of his own beside it."""
    from robustness_gate.assurance import audit

    again = {
        "at": "2026-11-29T12:00:00Z",
        "statement": "a" * 64,
        "report": "b" * 64,
        "sample_seed": 1,
        "drawn": 1,
        "of": 1,
    }
    agrees = audit.Audit(**again, found=(), failed=(), agrees=True)
    monkeypatch.setattr(audit, "run", lambda *_, **__: agrees)
    gate("sign", desk.run, "--key", desk.key)
    command: list[Words] = ["audit", desk.model, "--bundle", desk.run, "--suite", suite_file, "--sample", "1"]
    done = gate(*command, "--trust", desk.trust)
    assert done.code == 0, done.out + done.err
    done = gate(*command, "--no-signature")
    assert done.code == 5
    assert "AGREES with what was signed" in done.out
    assert "NOT VERIFIED: the signer was not checked" in done.out
