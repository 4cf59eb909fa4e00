"""A verifier that shares no code with ours reads the same reports and reaches the same numbers."""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from pathlib import Path

import evidence
import independent_verifier as theirs
import pytest
from cryptography.exceptions import InvalidSignature
from evidence import AT, LAB, STRANGER, bundle, made, signed
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from robustness_gate.attestation import dsse, keys
from robustness_gate.report import build as report_build
from robustness_gate.verdict import pack


def test_it_imports_nothing_of_ours_and_is_short() -> None:
    text = Path(theirs.__file__).read_text(encoding="utf-8")
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}
    assert sum(bool(line.strip()) for line in text.splitlines()) < 140


def read(raw: bytes) -> tuple[str, list[tuple[str, str, str, int, int, float, float]], dict]:
    payload = theirs.signed_bytes(json.loads(raw), LAB.public.pem.encode())
    told = json.loads(payload)["predicate"]["report"]
    return *theirs.verdict(told), told


def agree(raw: bytes) -> str:
    outcome, rows, told = read(raw)
    ours = sorted(
        (f["kind"], f["rule"], f["trial"], f["attempt"], f["budget"], f["lower"], f["upper"])
        for f in told["verdict"]["findings"]
    )
    assert [each[:5] for each in rows] == [each[:5] for each in ours]
    for its, our in zip(rows, ours, strict=True):
        assert its[5:] == pytest.approx(our[5:], abs=1e-9), its
    return outcome


@pytest.mark.parametrize("outcome", evidence.OUTCOMES)
def test_the_same_bounds_and_the_same_verdict(outcome: str) -> None:
    assert agree(bundle(outcome)) == outcome


def test_two_dozen_random_reports() -> None:
    """Any share of right answers, missing ones, several attempts: every bound the same, and no verdict kinder."""
    chance = random.Random(11)
    its = evidence.planned(evidence.MANIFEST)
    policy, suite = evidence.files()
    seen = set()
    for _ in range(24):
        told = evidence.evidence(its, chance.choice([0.2, 0.25, 0.3, 0.34, 0.38, 0.42, 0.5]))
        measurements = []
        for measurement in told.measurements:
            if chance.random() < 0.3:
                right = [chance.random() < chance.choice([0.25, 0.28, 0.9]) for _ in range(measurement.items)]
                gone = [chance.random() < 0.01 for _ in right]
                bits = pack([r and not g for r, g in zip(right, gone, strict=True)])
                measurement = measurement.model_copy(
                    update={"missing": pack(gone), "correct": dict.fromkeys(measurement.correct, bits)}
                )
            if measurement.task != "retain" or chance.random() < 0.9:
                measurements.append(measurement)
        closed = tuple(end for end in told.closed if chance.random() < 0.97)
        again = type(told)(
            told.subject, told.planned, tuple(measurements), closed, comparators=told.comparators, model_type="llama"
        )
        made_up = report_build.make(policy, suite, evidence.MANIFEST, again, AT)
        its_outcome = agree(signed(made_up))
        ours = made_up.verdict.outcome
        seen.add(ours)
        assert its_outcome == ours or (its_outcome, ours) == ("PASS", "INCONCLUSIVE")
    assert {"FAIL", "INCONCLUSIVE"} <= seen


def test_a_missing_trial_is_inconclusive_for_both() -> None:
    assert agree(signed(made(only=["none"]))) == "INCONCLUSIVE"


def test_it_refuses_another_key_and_a_changed_byte(tmp_path: Path) -> None:
    with pytest.raises(InvalidSignature):
        theirs.signed_bytes(json.loads(bundle()), STRANGER.public.pem.encode())
    spoilt = json.loads(bundle())
    spoilt["dsseEnvelope"]["payload"] = "AAAA" + spoilt["dsseEnvelope"]["payload"][4:]
    with pytest.raises(InvalidSignature):
        theirs.signed_bytes(spoilt, LAB.public.pem.encode())
    other = keys.generate("ed25519")
    payload = theirs.signed_bytes(json.loads(signed(made(), other)), other.public.pem.encode())
    assert payload == dsse.payload_of(signed(made(), other))
    (tmp_path / "b.json").write_bytes(bundle("FAIL"))
    (tmp_path / "k.pub").write_text(LAB.public.pem)
    done = subprocess.run(
        [sys.executable, "-I", theirs.__file__, str(tmp_path / "b.json"), str(tmp_path / "k.pub")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(f"statement {evidence.name_of(bundle('FAIL'))}")
    assert done.stdout.splitlines()[1] == "it says FAIL; its 8 bounds say FAIL"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.05, 1e-4]))
def test_its_bounds_are_those_of_the_beta_distribution(counts: tuple[int, int], alpha: float) -> None:
    k, n = counts
    assert theirs.lower(k, n, alpha) == pytest.approx(beta.ppf(alpha, k, n - k + 1) if k else 0.0, abs=1e-9)
    assert theirs.upper(k, n, alpha) == pytest.approx(beta.ppf(1 - alpha, k + 1, n - k) if k < n else 1.0, abs=1e-9)
