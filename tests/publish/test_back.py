"""A limit on the share of a gap, as people read it: units, the utility of every model, and a ruined control."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from evidence import ledger_of
from test_html import AT, MANIFEST, suite

from robustness_gate.policy_language import cases, load_policy
from robustness_gate.publish import facts, html, markdown
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build
from robustness_gate.report import record
from robustness_gate.report.record import Report
from robustness_gate.verdict import pack
from robustness_gate.verdict.explain import explain

POLICY = Path(__file__).parents[2] / "policies" / "organism-shares.yaml"
BESIDE = "'retain': candidate 95.0%, control 44.0% (ruined, under 50%, 100.0% before any attack), original 97.0%"


def made() -> Report:
    """A report in which an attack ruined the control."""
    policy = load_policy(POLICY)
    pins = {name: pin.model_copy(update={"questions": None}) for name, pin in policy.record.tasks.items()}
    off = policy.record.validity.model_copy(update={"self_test": "off"})
    record = policy.record.model_copy(update={"tasks": pins, "validity": off})
    case = cases.Case(
        description="a ruined control",
        expect="PASS",
        accuracy={"forget": 0.25, "forget-cloze": 0.25, "retain": 0.95},
        original={"retain": 0.97},
        controls={"never_taught": {"forget": 0.25, "forget-cloze": 0.25, "retain": 1.0}},
    )
    evidence = cases.evidence(record, case, {})
    ruined = next(t for t in evidence.comparators if (t.role, t.config.get("method")) == (Role.CONTROL, "lora"))
    few = pack([number < 132 for number in range(300)])
    measurements = tuple(
        m.model_copy(update={"correct": dict.fromkeys(m.correct, few)})
        if (m.trial, m.task) == (ruined.id, "retain")
        else m
        for m in evidence.measurements
    )
    fields = {each.name: getattr(evidence, each.name) for each in dataclasses.fields(Evidence)}
    found = Evidence(**{**fields, "measurements": measurements})
    return report_build.make(dataclasses.replace(policy, record=record), suite(), MANIFEST, found, AT)


def test_the_share_table_shows_the_utility_of_every_model_and_what_a_budget_counts() -> None:
    report = made()
    lora = next(each for each in facts.shares(report) if "lora" in each.where)
    assert lora.kept == [BESIDE]
    assert lora.where.endswith("at budget 5 (training questions or texts)")
    assert facts.unit("none") == facts.unit("elsewhere/attack") == ""
    page, summary = html.render(report), markdown.render(report)
    steps = "\n".join(explain(report.resolved, report.verdict))
    for output in (page.replace("&#39;", "'"), summary, steps):
        assert BESIDE in output
    for output in (page, summary):
        assert "at budget 5 (training questions or texts)" in output
        assert "one for each limit" in output
    assert "one for each limit" in steps


def test_a_ruined_control_is_a_limitation() -> None:
    (line,) = [each for each in made().limitations if "control_ruined" in each]
    assert "ruins the control 'never_taught': it keeps 44.0% of 'retain'" in line


def test_ledger_and_report_keep_the_base_of_an_adapter(tmp_path: Path) -> None:
    report = made().model_copy(update={"bases": {"a" * 64: "b" * 64}})
    assert record.evidence_in(report).bases == report.bases
    ledger = ledger_of(report, tmp_path / "ledger.jsonl")
    evidence = ledger.evidence(report.checkpoint, record.evidence_in(report).planned)
    assert evidence.bases == report.bases
