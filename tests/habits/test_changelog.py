"""The changelog and its fragments have the form that they promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")
FORM = re.compile(rf"[a-z0-9]+(-[a-z0-9]+)*\.({'|'.join(KINDS)})\.md")


def fault_of(path: Path) -> str | None:
    """What is wrong with a fragment, or None."""
    text = path.read_text(encoding="utf-8")
    if not FORM.fullmatch(path.name):
        return f"{path.name}: call it WHAT.KIND.md; KIND is one of {', '.join(KINDS)}"
    if not text.strip() or re.search(r"^\s*(#|[-*] )", text, re.MULTILINE) or "\n\n" in text.strip():
        return f"{path.name}: write one to three sentences, without headings or lists"
    return None


def test_every_fragment_has_its_form():
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    assert [fault for path in fragments if (fault := fault_of(path))] == []


@pytest.mark.parametrize(
    ("name", "text", "sound"),
    [
        ("two-workers.fixed.md", "Two workers give the numbers of one.\n", True),
        ("two-workers.md", "Two workers give the numbers of one.\n", False),
        ("two-workers.mended.md", "Two workers give the numbers of one.\n", False),
        ("two-workers.fixed.md", "- Two workers give the numbers of one.\n", False),
        ("two-workers.fixed.md", "\n", False),
    ],
)
def test_another_form_is_noticed(tmp_path, name, text, sound):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert (fault_of(tmp_path / name) is None) == sound


def test_each_version_is_grouped_and_no_group_stands_twice():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions
    for version in versions:
        groups = re.findall(r"^### (.*)$", version, re.MULTILINE)
        assert len(set(groups)) == len(groups) > 0
        assert {group.lower() for group in groups} <= set(KINDS)
        assert "\n- " not in version.split("### ")[0], "a line outside every group"
