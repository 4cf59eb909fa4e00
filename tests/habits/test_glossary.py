"""docs/glossary.md has every key that a user writes or reads, in alphabetical order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "glossary.md"
SCHEMAS = sorted([*ROOT.glob("policies/schema/*.json"), *ROOT.glob("reports/schema/*.json")])
SELF_EVIDENT = frozenset(
    {"at", "base", "description", "file", "files", "findings", "id", "name", "names", "part", "path", "reason"}
    | {"schema", "seed", "sha256", "size", "text", "trials", "version", "what", "why"}
)
"""Keys that mean what the English word means, or what their record is about."""


def keys_of(schema: Any) -> Iterator[str]:
    """Every key that a JSON Schema names, at any depth."""
    match schema:
        case dict():
            if isinstance(properties := schema.get("properties"), dict):
                yield from properties
            for inside in schema.values():
                yield from keys_of(inside)
        case list():
            for inside in schema:
                yield from keys_of(inside)


def terms(text: str) -> list[str]:
    """The first column of the table, without code marks."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", text, re.MULTILINE)
    return [row.replace("`", "") for row in rows if row not in ("term", "---")]


def missing(text: str, keys: set[str]) -> list[str]:
    """The keys that the page does not name, neither as a term nor in a term's line."""
    named = {*terms(text), *re.findall(r"`(\w+)`", text)}
    return sorted(keys - named - SELF_EVIDENT)


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_there_are_three_schemas():
    assert len(SCHEMAS) == 3


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_key_of_a_schema_is_in_the_glossary(page, path):
    assert missing(page, set(keys_of(json.loads(path.read_text(encoding="utf-8"))))) == []


def test_a_key_that_is_taken_out_is_missed(page):
    assert missing(page.replace("`sham_changed`", ""), {"sham_changed", "sham"}) == ["sham_changed"]


def test_every_self_evident_key_is_a_key():
    keys = {key for path in SCHEMAS for key in keys_of(json.loads(path.read_text(encoding="utf-8")))}
    assert sorted(SELF_EVIDENT - keys) == []


def test_the_terms_are_in_order_and_each_stands_once(page):
    found = [re.sub(r"[_-]", " ", term).casefold() for term in terms(page)]
    assert found == sorted(set(found))
