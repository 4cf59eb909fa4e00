"""A model that was never unlearned, with another tokenizer: the whole trip, to the verdict and the signed report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tampered
from evidence import look, signed, states
from test_gate import POLICY, SUITE, set_up

from robustness_gate import gate, organisms
from robustness_gate.assurance import doctor
from robustness_gate.evidence import ledger
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.policy_language import load_policy
from robustness_gate.publish import markdown
from robustness_gate.records.trial import Role
from robustness_gate.report import record
from robustness_gate.running.executors import local
from robustness_gate.running.tokenizer_check import digests
from robustness_gate.verdict import judge
from robustness_gate.verdict.hypotheses import OTHERWISE_ASKED

UNRECORDED = POLICY.replace(", record_only: [still_rising, tokenizer_unverified]", "")


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Only the untouched model is asked: what a tokenizer hides, it hides there."""
    set_up(tmp_path)
    write(tmp_path, UNRECORDED)
    untouched, _, _ = SUITE.partition("  - attack: relearn")
    (tmp_path / "suite.yaml").write_text(untouched.replace("count: 100", "count: 40"), encoding="utf-8")
    lines = (tmp_path / "forget.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (tmp_path / "forget.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def write(bench: Path, policy: str, *edits: tuple[str, str]) -> None:
    policy = policy.replace("  - {attack: relearn, where: {source: forget}, budgets: [2, 4]}\n", "")
    policy = policy.replace("items: 100", "items: 40").replace("max: 0.5", "max: 0.6")
    for old, new in edits:
        assert old in policy
        policy = policy.replace(old, new)
    (bench / "policy.yaml").write_text(policy, encoding="utf-8")


def run(bench: Path, checkpoint: str | Path, **more: Any) -> gate.Outcome:
    fields = {"checkpoint": str(checkpoint), "policy": bench / "policy.yaml", "suite": bench / "suite.yaml"}
    return gate.run(gate.Request(**(fields | {"out": bench / "runs" / "one", "tracking_uri": "", "workers": 1} | more)))


def flags(outcome: gate.Outcome) -> dict[str, bool]:
    """Of the tokenizer alone: with so few questions letters may seem to collapse."""
    return {each.flag: each.blocks for each in outcome.report.verdict.flags if each.flag.startswith("t")}


@pytest.mark.parametrize("build", [pytest.param(tampered.shouting, marks=pytest.mark.slow), tampered.permuted])
def test_the_base_behind_a_tampered_tokenizer_fails_beside_the_original(bench: Path, build: Any) -> None:
    write(bench, UNRECORDED, ("utility:", "statistics: {max_missing: 1.0}\nutility:"))
    made = run(bench, build(bench / "model"), original="organism:base")
    verdict = made.report.verdict
    assert verdict.outcome == "FAIL"
    assert [f.attack for f in verdict.findings if f.state == "over"] == [
        "no attack, " + OTHERWISE_ASKED[Role.THROUGH_ORIGINAL]
    ]
    assert flags(made) == {"tokenizer_differs": True}
    now = gate.datetime.now(gate.UTC)
    again = look(signed(made.report, at=now), now)
    assert states(again)["verdict"][0] == "ok"
    assert "through the original's tokenizer" in markdown.render(made.report)
    told = ledger.read(made.ledger)
    assert len(told.tokenizers) == 1
    judged = judge(made.report.resolved, record.evidence_in(made.report), now)
    assert judged.outcome == "FAIL"


def test_the_oracle_with_the_originals_tokenizer_passes_and_is_compared_once(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(bench, "organism:oracle", original="organism:base")
    assert (made.report.verdict.outcome, flags(made)) == ("PASS", {}), made.report.verdict.blockers
    (check,) = made.report.tokenizers
    assert (check.otherwise, check.templated, check.parts) == (0, 0, ())
    assert check.texts > 400
    assert "the original's makes the same token ids of all" in markdown.render(made.report)
    monkeypatch.setattr(local, "hire", lambda _: pytest.fail("it was compared before"))
    again = run(bench, "organism:oracle", original="organism:base", out=bench / "runs" / "two")
    assert again.report.tokenizers == made.report.tokenizers


def test_with_neither_original_nor_pin_nothing_passes_and_a_pin_is_enough(bench: Path) -> None:
    bare = run(bench, "organism:oracle")
    assert (bare.report.verdict.outcome, flags(bare)) == ("INCONCLUSIVE", {"tokenizer_unverified": True})
    assert "--original" in bare.report.reason
    sha256, template = digests(CheckpointRef(organisms.checkpoint("base")))
    pin = ("limits:", f"tokenizer: {{sha256: {sha256}, template: {template}}}\nlimits:")
    write(bench, UNRECORDED, pin)
    assert load_policy(bench / "policy.yaml").record.tokenizer is not None
    pinned = run(bench, "organism:oracle", out=bench / "runs" / "two")
    assert (pinned.report.verdict.outcome, flags(pinned)) == ("PASS", {})
    other = run(bench, tampered.permuted(bench / "model", "oracle"), out=bench / "runs" / "three")
    assert (other.report.verdict.outcome, flags(other)) == ("INCONCLUSIVE", {"tokenizer_differs": True})


def test_a_tokenizer_that_cannot_be_compared_is_no_success(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local._Worker, "compare", lambda *_: "the worker died")
    made = run(bench, "organism:oracle", original="organism:base")
    assert (made.report.verdict.outcome, flags(made)) == ("INCONCLUSIVE", {"tokenizer_unverified": True})
    assert made.warnings == ("the candidate's tokenizer was compared with nothing: the worker died",)


def test_doctor_names_what_the_original_does_not_have(bench: Path) -> None:
    model = tampered.shouting(bench / "model")
    found = {c.name: c for c in doctor.examine(str(model), suite=bench / "suite.yaml", original="organism:base")}
    assert "26 normalizers that the original does not have (Replace)" in found["tokenizer's parts"].args["parts"]
    assert found["tokenizer's parts"].state == found["tokenizer's ids"].state == "note"
    assert found["tokenizer's ids"].code == doctor.Code.OTHER_IDS
    sha256, _ = digests(CheckpointRef(model))
    assert found["tokenizer digest"].args["sha256"] == sha256
