"""Signed reports that lie in the repository: `verify` answers today as it did when they were made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import make_fixtures
import pytest

from robustness_gate.attestation import verify
from robustness_gate.attestation.trust import trusting

ANSWERS: dict[str, Any] = json.loads((make_fixtures.PLACE / "answers.json").read_text(encoding="utf-8"))
MUST = {
    "accepted": (0, None),
    "policy-rejected": (3, None),
    "tampered-subject": (5, "checkpoint"),
    "untrusted-signer": (5, "signature"),
    "stale": (5, "time"),
    "too-old": (5, "time"),
    "unsupported-version": (5, "form"),
    "edited": (5, "policy and suite"),
}


@pytest.mark.parametrize("name", make_fixtures.CASES)
def test_it_answers_as_it_did(name: str) -> None:
    """When this fails on purpose: python tests/make_fixtures.py, read the difference, and say so."""
    found = make_fixtures.answer(name)
    assert found == ANSWERS[name]
    code, failing = MUST[name]
    assert found["exit"] == code
    assert [each.split(" ", 1)[1].split(":")[0] for each in found["checks"] if ": FAILED: " in each][:1] == (
        [failing] if failing else []
    )


def test_there_is_one_for_every_way_in_which_it_can_end() -> None:
    assert set(ANSWERS) == set(MUST) == set(make_fixtures.CASES)
    assert sum(path.stat().st_size for path in make_fixtures.PLACE.rglob("*") if path.is_file()) < 120_000


def test_the_script_still_makes_what_verifies() -> None:
    raw = make_fixtures.bundles()["accepted"]
    trusted = trusting([make_fixtures.key_of(1001).public])
    assert verify.verify(raw, verify.Asked(trusted=trusted), datetime(2027, 1, 1, tzinfo=UTC)).exit_code == 0
