"""How the page formats a value."""

from __future__ import annotations

import unicodedata

import pytest
from markupsafe import Markup

from robustness_gate.publish.spelling import NBSP, visible


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\u202eb", "a\u200bb", "a\x00", "\ue000", "a\u00adb", "\x7f"])
def test_what_an_auditor_would_not_see_is_shown_by_its_code(text: str) -> None:
    hidden = [each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Co")]
    assert visible(text) == "".join(f"⟨U+{ord(each):04X}⟩" if each in hidden else each for each in text)


def test_everything_else_stays_as_it_is() -> None:
    for value in ("plain", f"40.0{NBSP}%", "–", "東京 é", "two\nlines\tand a tab", 3.5, None, Markup("<b>\x1b</b>")):
        assert visible(value) is value or visible(value) == value
    assert visible("a\r\nb") == "a\nb"
