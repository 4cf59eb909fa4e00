"""An auditor sees in every projection what an adapter was merged on, and where the checkpoints came from."""

from __future__ import annotations

import html as text_of
import io
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console
from test_html import passing

from robustness_gate.publish import html, junit, markdown, terminal
from robustness_gate.publish import mlflow as tracker
from robustness_gate.records.trial import Role
from robustness_gate.report.record import Origin, Report

BASE = "ab" * 32
COMMIT = "0123456789abcdef" * 2 + "01234567"
LORA, MERGED_ON, NEVER = f"hf://lab/lora@{COMMIT}", f"hf://lab/base@{COMMIT}", "organism:oracle"
PROVENANCE = (
    Origin(role=Role.CANDIDATE, source=LORA),
    Origin(role=Role.CANDIDATE, base=True, source=MERGED_ON),
    Origin(role=Role.CONTROL, control="never", source=NEVER),
)
TOLD = {
    "adapter merged on base": BASE,
    "candidate from": LORA,
    "candidate's base from": MERGED_ON,
    "control never from": NEVER,
}


@pytest.fixture
def plain() -> Report:
    return passing()


@pytest.fixture
def merged(plain) -> Report:
    manifest = plain.manifest.model_copy(update={"base": BASE})
    return plain.model_copy(update={"manifest": manifest, "provenance": PROVENANCE})


def shown(report: Report) -> str:
    file = io.StringIO()
    terminal.show(report, Console(file=file, width=60))
    return file.getvalue()


def test_the_page_and_the_summary_name_the_base_and_every_source(plain, merged):
    page, summary = text_of.unescape(html.render(merged)), markdown.render(merged)
    for what, value in TOLD.items():
        assert f'<th scope="row">{what.capitalize()}</th><td><code>{value}</code>' in page
        assert f"| {what} | `{value}` |\n" in summary
    assert "merged on base" not in html.render(plain) + markdown.render(plain)


def test_a_source_is_text_in_the_page_and_stays_in_its_cell_of_the_summary(plain):
    hostile = plain.model_copy(update={"provenance": (Origin(role=Role.CANDIDATE, source="<script>|\n| PASS |"),)})
    assert "<script>" not in html.render(hostile)
    assert "| candidate from | `<script>\\| \\| PASS \\|` |\n" in markdown.render(hostile)


def test_a_terminal_names_them_in_whole_lines_and_what_is_shipped_not_again(plain, merged):
    lines = shown(merged).splitlines()
    for what, value in TOLD.items():
        assert (f"{what}: {value}" in lines) == (not value.startswith("organism:"))
    assert "from:" not in shown(plain)


def test_junit_holds_them_as_properties(merged):
    found = ElementTree.fromstring(junit.render(merged)).findall("testsuite/properties/property")
    assert TOLD.items() <= {each.get("name"): each.get("value") for each in found}.items()


def test_mlflow_holds_them_as_tags_whose_names_every_store_takes(plain, merged):
    """The tags alone: a store takes ten seconds to make, and tests/e2e/test_gate.py fills one."""
    more = {key: value for key, value in tracker._tags(merged).items() if key not in tracker._tags(plain)}
    assert more == {
        "gate.base_sha256": BASE,
        "gate.from.candidate": LORA,
        "gate.from.candidate.base": MERGED_ON,
        "gate.from.control.never": NEVER,
    }
    assert all(re.fullmatch(r"[\w.-]+", key) for key in more)
