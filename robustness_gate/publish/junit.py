"""JUnit XML for CI systems that show test cases: the verdict, each finding, and everything that was not examined.

JUnit has four states, the gate more. OVER is a failure: a breach is established. Any other blocker is an error:
something is not established. Trials that were left out, or that are not applicable and not required, are skipped. So a
PASS has neither failures nor errors, a FAIL has a failure, INCONCLUSIVE has an error and no failure. A report contains
no durations, so neither does this; the only time is that of the judgement.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple
from xml.etree import ElementTree

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.ledger import OWN
from robustness_gate.publish import facts
from robustness_gate.publish.instruments import instruments
from robustness_gate.records.base import Digest
from robustness_gate.records.codes import PLACE
from robustness_gate.records.verdict import Finding, FindingKind, Outcome
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.report.table import NOT_ASKED, origins
from robustness_gate.verdict.found import place
from robustness_gate.verdict.wording import model_name, rule_name, sentence, state

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot contain, not even as a character reference."""


Where = tuple[FindingKind, str, Digest, int]


class Case(NamedTuple):
    """One test case. `state` is empty for a success."""

    rule: str
    name: str
    state: Literal["", "failure", "error", "skipped"]
    kind: str = ""
    text: str = ""


STATES: dict[Outcome, Literal["", "failure", "error"]] = {"PASS": "", "FAIL": "failure", "INCONCLUSIVE": "error"}
"""The JUnit state of each verdict. An unknown outcome raises KeyError, because an empty state is a success."""


FILE = "report.junit.xml"


def render(report: Report) -> bytes:
    """The report as JUnit XML."""
    cases = list(_cases(report))
    totals = {"tests": str(len(cases))}
    for bad, total in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        totals[total] = str(sum(case.state == bad for case in cases))
    root = ElementTree.Element("testsuites", {"name": "robustness-gate", **totals})
    name = f"{report.policy.id} {report.policy.version}"
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": _clean(name), **totals, "timestamp": _clean(report.verdict.at)}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (
        ("verdict", report.verdict.outcome),
        ("report.sha256", report.digest),
        ("checkpoint", report.checkpoint),
        *origins(report),
        ("policy.sha256", report.policy.sha256),
        ("suite.sha256", report.suite.sha256),
        ("trials", facts.trials_line(report)),
        *((("strongest", size.line),) if (size := facts.corrected(report)) else ()),
        *((each.name, each.text) for each in instruments(report)),
        *((("preregistration", preregistration),) if (preregistration := facts.preregistration_line(report)) else ()),
        *(("decision", line) for line in facts.ruling_lines(report)),
        *((f"producer states, unchecked: {name}", text) for name, text in report.producer_claims.items()),
        *(("limitation", limitation) for limitation in report.limitations),
    ):
        ElementTree.SubElement(properties, "property", {"name": _clean(key), "value": _clean(value)})
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", {"classname": _clean(case.rule), "name": _clean(case.name)})
        if case.state:
            fields = {"message": _clean(case.text)} | ({} if case.state == "skipped" else {"type": _clean(case.kind)})
            ElementTree.SubElement(element, case.state, fields).text = _clean(case.text)
        elif case.text:
            ElementTree.SubElement(element, "system-out").text = _clean(case.text)
    ElementTree.indent(root)
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def _cases(report: Report) -> Iterator[Case]:
    """The verdict first, so that the totals cannot contradict it; then findings, blockers, and untried trials."""
    outcome = report.verdict.outcome
    yield Case("verdict", report.checkpoint, STATES[outcome], outcome, report.reason)
    planned = {record.id for record in report.trials if record.planned}
    valid = {_of(finding) for finding in report.verdict.findings if finding.establishes_compliance}
    findings = [_finding(report, finding, planned, valid) for finding in report.verdict.findings]
    yield from findings
    pairs = zip(report.verdict.findings, findings, strict=True)
    shown = {tuple(place(finding)[key] for key in PLACE) for finding, case in pairs if case.state != "skipped"}
    for blocker in report.verdict.blockers:
        # a duplicate is better than an omission
        if tuple(blocker.args.get(key) for key in PLACE) not in shown:
            text = sentence(blocker)
            yield Case("blocks a PASS", text, "error", "missing evidence", text)
    yield from _unfinished(report)


def _finding(report: Report, finding: Finding, planned: Collection[Digest], valid: Collection[Where]) -> Case:
    budget = f", budget {finding.budget}" if finding.budget else ""
    attempt = f", attempt {finding.attempt}" if finding.attempt > 1 else ""
    asked = "" if finding.trial in planned else f", {NOT_ASKED}"
    name = f"{finding.attack}, seed {finding.seed_index}{budget}{attempt}{asked}"
    utility = finding.kind == FindingKind.UTILITY
    rule = f"at least {finding.limit:.1%} is asked" if utility else f"the limit is {finding.limit:.1%}"
    text = (
        f"{state(finding)}: {finding.observed:.1%} of '{finding.task}' ({finding.correct} of {finding.items}, "
        f"{finding.metric}), bounds {finding.lower:.1%} and {finding.upper:.1%}, {rule}"
    )
    if finding.of_gap:
        text = f"{state(finding)}: {next(c.line for c in facts.shares(report) if c.finding == finding)}"
    elif finding.relative_to:
        text = f"{state(finding)}: {next(c.line for c in facts.comparisons(report) if c.finding == finding)}"
    text = "; ".join([text, *map(sentence, finding.validity_issues)])
    named = rule_name(finding.kind, finding.rule)
    if finding.state == "over":
        return Case(named, name, "failure", state(finding), text)
    if finding.state == "open" or finding.has("below_chance"):
        return Case(named, name, "error", state(finding), text)
    if finding.state != "under":
        raise UnknownWord("state of a finding", finding.state)
    if finding.validity_issues:
        # an invalid finding blocks: not in a PASS, not next to a valid attempt, and not if it was not planned
        blocks = report.verdict.outcome != "PASS" and finding.trial in planned and _of(finding) not in valid
        return Case(named, name, "error" if blocks else "skipped", state(finding), text)
    return Case(named, name, "", text=text)


def _of(finding: Finding) -> Where:
    """What a finding is about, whichever attempt it is of."""
    return finding.kind, finding.rule, finding.trial, finding.budget


def _unfinished(report: Report) -> Iterator[Case]:
    """Trials that did not end well. A planned one that failed or did not end is already an error among the blockers."""
    for record in report.trials:
        ends = {closed.status for closed in record.closed}
        planned = record.planned and record.trial.role in OWN
        if "ok" in ends or (planned and ends != {"not_applicable"}):
            continue
        role = "" if record.trial.role in OWN else f" [{model_name(record.trial)}]"  # a sham is called one in its label
        yield Case("trial", f"{record.label}, seed {record.trial.seed_index}{role}", "skipped", text=_ends(record))


def _ends(record: TrialRecord) -> str:
    ends = [f"{closed.status.replace('_', ' ')}: {closed.reason}" for closed in record.closed]
    return "; ".join(ends) or "not run to its end"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
