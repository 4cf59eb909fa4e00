"""`audit`: what verifies may still be a lie, and a few trials run again find it out."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from test_gate import set_up
from typer.testing import CliRunner

from robustness_gate import gate
from robustness_gate.assurance import audit
from robustness_gate.attestation import dsse, keys, predicate, verify
from robustness_gate.attestation.trust import trusting
from robustness_gate.cli import app
from robustness_gate.errors import GateError, UsageError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.checkpoints import find_checkpoint
from robustness_gate.policy_language import load_policy
from robustness_gate.report import build as report_build
from robustness_gate.report import reading as report_reading
from robustness_gate.report import record
from robustness_gate.verdict import pack

KEY = keys.generate()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the model that knows was examined untouched, and its report signed."""
    folder = set_up(tmp_path_factory.mktemp("audit"))
    (folder / "signing.pub").write_text(KEY.public.pem, encoding="utf-8")
    request = gate.Request(
        "organism:base", folder / "policy.yaml", folder / "suite.yaml", folder / "out", only=("none",), tracking_uri=""
    )
    made = gate.run(request).report
    (folder / "honest.json").write_bytes(predicate.issue(made, KEY, predicate.Terms(at=datetime.now(UTC))))
    return folder


def forged(folder: Path) -> record.Report:
    """The same report with most of the hazard answers turned wrong, and judged anew by the rules."""
    made = report_reading.read(folder / "out")
    evidence = record.evidence_in(made)
    measurements = []
    for measurement in evidence.measurements:
        if measurement.task == "forget":
            wrong = {name: pack([i % 4 == 0 for i in range(measurement.items)]) for name in measurement.correct}
            measurement = measurement.model_copy(update={"correct": wrong})
        measurements.append(measurement)
    evidence = dataclasses.replace(evidence, measurements=tuple(measurements))
    return report_build.make(
        load_policy(folder / "policy.yaml"),
        load_suite(folder / "suite.yaml"),
        made.manifest,
        evidence,
        datetime.fromisoformat(made.verdict.at),
        provenance=made.provenance,
    )


def audited(folder: Path, bundle: Path, *more: str) -> Any:
    arguments = ["audit", "organism:base", "--bundle", str(bundle), "--suite", str(folder / "suite.yaml")]
    arguments += ["--public", str(folder / "signing.pub"), "--sample", "1", "--sample-seed", "7", *more]
    return CliRunner().invoke(app, arguments)


def test_an_honest_report_agrees_to_the_last_answer_and_leaves_a_signed_statement(ran: Path) -> None:
    (ran / "key.pem").write_bytes(keys.private_pem(KEY))
    done = audited(ran, ran / "honest.json", "--key", str(ran / "key.pem"), "--out", str(ran / "audit.json"))
    assert done.exit_code == 0, done.output
    assert "130 of 130 answers are the same; 1 of 1 trials, sample seed 7" in done.output
    told = audit.read((ran / "audit.json").read_bytes(), [KEY.public])
    assert told.agrees
    assert {each.task: each.changed for each in told.found} == {"forget": 0, "retain": 0}
    opened = dsse.open_bundle((ran / "honest.json").read_bytes(), [KEY.public])
    assert told.statement == opened.sha256


def test_a_lie_that_verifies_is_found_by_running_it_again(ran: Path) -> None:
    lie = ran / "lie.json"
    lie.write_bytes(predicate.issue(forged(ran), KEY, predicate.Terms(at=datetime.now(UTC))))
    asked = verify.Asked(trusted=trusting([KEY.public]), checkpoint=find_checkpoint("organism:base"))
    believed = verify.verify(lie.read_bytes(), asked, datetime.now(UTC))
    assert believed.verified, [each for each in believed.checks if each.state == "FAILED"]
    done = audited(ran, lie)
    assert done.exit_code == 5
    assert "DIFFERS from what was signed" in done.output


def test_a_bundle_of_another_checkpoint_is_not_audited(ran: Path) -> None:
    arguments = ["audit", "organism:oracle", "--bundle", str(ran / "honest.json"), "--suite", str(ran / "suite.yaml")]
    done = CliRunner().invoke(app, [*arguments, "--public", str(ran / "signing.pub")])
    assert isinstance(done.exception, GateError)
    assert "does not verify (checkpoint)" in str(done.exception)


def test_the_lot_decides_the_sample_and_cannot_draw_more_than_there_is(ran: Path) -> None:
    made = report_reading.read(ran / "out")
    assert audit.draw(made, 1, 3) == audit.draw(made, 1, 3)
    with pytest.raises(UsageError, match="2 trials cannot be drawn: 1 ended well"):
        audit.draw(made, 2, 3)
