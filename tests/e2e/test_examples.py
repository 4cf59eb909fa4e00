"""The signed reports that are shipped as examples are what they say, about the organisms that are shipped."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from robustness_gate.attestation import dsse, keys, verify
from robustness_gate.attestation.trust import trusting
from robustness_gate.errors import Exit
from robustness_gate.planning.checkpoints import find_checkpoint
from robustness_gate.publish import markdown
from robustness_gate.report import record

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
KEY = EXAMPLES / "examples.pub"
NEXT = {"pass": "fail", "fail": "inconclusive"}


def verified(name: str, organism: str, *known: str) -> verify.Verification:
    asked = verify.Asked(
        trusted=trusting([keys.public_key(KEY)]),
        checkpoint=find_checkpoint(f"organism:{organism}"),
        known=tuple(EXAMPLES / f"{each}.sigstore.json" for each in known),
    )
    return verify.verify((EXAMPLES / f"{name}.sigstore.json").read_bytes(), asked, datetime.now(UTC))


@pytest.mark.parametrize(
    ("name", "organism", "before", "code"),
    [
        ("pass", "oracle", (), Exit.PASS),
        ("fail", "rmu", ("pass",), Exit.FAIL),
        ("inconclusive", "oracle", ("fail",), Exit.INCONCLUSIVE),
    ],
)
def test_a_shipped_example_verifies(name: str, organism: str, before: tuple[str, ...], code: Exit) -> None:
    """When this fails because an attack has a new version: python reports/make_examples.py."""
    found = verified(name, organism, *before)
    assert [check for check in found.checks if check.state == "FAILED"] == []
    assert found.exit_code == code
    assert bool(found.not_tried) == (name == "inconclusive")


def test_a_shipped_example_is_about_its_own_organism_alone() -> None:
    found = verified("pass", "rmu")
    assert [check.title for check in found.checks if check.state == "FAILED"] == ["checkpoint"]
    assert found.exit_code == Exit.UNVERIFIED


def test_the_red_job_summary_is_that_of_the_red_report() -> None:
    payload = dsse.payload_of((EXAMPLES / "fail.sigstore.json").read_bytes())
    red = record.Report.model_validate_json(json.dumps(json.loads(payload)["predicate"]["report"]))
    assert (EXAMPLES / "job-summary-fail.md").read_text(encoding="utf-8") == markdown.render(red)
