"""Each decision record has its number, a status, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
LINK = r"\[(\d{4})\]\((\d{4})-[\w-]+\.md\)"
HEAD = re.compile(
    rf"# (\d{{4}})\. .+\n\nStatus: (accepted|rejected|(?:accepted, narrowed|superseded) by {LINK}(?:, {LINK})*)\n\n"
)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem[:4])
def test_a_record_has_its_number_and_a_status(path):
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    assert head, f"{path.name}: begin as docs/decisions/README.md says"
    assert head[1] == path.name[:4]
    for target in re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text):
        assert (FOLDER / target).is_file(), target


def test_no_number_stands_for_two_and_none_but_the_ninth_is_missing():
    numbers = [int(path.name[:4]) for path in RECORDS]
    assert numbers == [each for each in range(1, len(numbers) + 2) if each != 9]
