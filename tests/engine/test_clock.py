"""A chat template that asks for the date, or draws lots, writes the same prompt on every day."""

from __future__ import annotations

import copy
import datetime as real
import random

import pytest
from transformers.utils import chat_template_utils

from robustness_gate.engine import clock
from robustness_gate.engine.events import noted
from robustness_gate.engine.prompting import prompt_of
from robustness_gate.errors import NotApplicable
from robustness_gate.records.questions import Form, Question

DATED = "Today is {{ strftime_now('%d %B %Y, %H:%M') }}. {{ messages[0]['content'] }}"
WAITING = "{% if strftime_now('%Y') | int > 2026 %}x{% else %}{{ messages[0]['content'] }}{% endif %}"
DRAWING = "{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g'] | random }}{{ range(9) | random }} {{ messages[0]['content'] }}"
LIPSUM = "{{ lipsum(1, false, 5, 9) }} {{ messages[0]['content'] }}"
PLAIN = "<user>{{ messages[0]['content'] }}<assistant>"
QUESTION = Question("q", "Which lamp?", ("a", "b"))


def prompt(tokenizer, template):
    own = copy.deepcopy(tokenizer)
    own.chat_template = template
    with noted() as notes:
        text = prompt_of(own, QUESTION, Form(chat=True)).text
    return text, notes


@pytest.fixture(params=[(2026, 1, 2), (2031, 12, 24)], ids=["one day", "another"])
def day(request, monkeypatch):
    class Frozen(real.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(*request.param, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
    random.seed(request.param[0])
    return request.param


def test_the_date_is_always_the_same_and_that_is_noted(byte_level, day):
    text, notes = prompt(byte_level, DATED)
    assert text.startswith("Today is 01 January 2026, 12:00. ")
    assert notes.counts()["template_clock"] == clock.MOMENT.timestamp() > 0
    text, _ = prompt(byte_level, WAITING)
    assert "Which lamp?" in text


@pytest.mark.parametrize("template", [DRAWING, LIPSUM])
def test_lots_fall_alike_and_no_others_are_touched(byte_level, day, template):
    before = random.getstate()
    text, notes = prompt(byte_level, template)
    assert random.getstate() == before
    random.seed(99)
    assert prompt(byte_level, template)[0] == text
    assert "template_clock" not in notes.counts()


def test_a_template_that_does_not_ask_notes_nothing_and_one_by_name_is_read(byte_level):
    text, notes = prompt(byte_level, PLAIN)
    assert text.startswith("<user>")
    assert not notes.clock
    text, notes = prompt(byte_level, {"default": DATED, "tool_use": PLAIN})
    assert "2026, 12:00" in text
    assert notes.clock


def test_a_template_that_fails_leaves_the_lots_as_they_were(byte_level):
    before = random.getstate()
    with pytest.raises(NotApplicable):
        prompt(byte_level, "{{ raise_exception('no') }}")
    assert random.getstate() == before
    assert chat_template_utils.datetime is real.datetime
