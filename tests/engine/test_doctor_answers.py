"""Doctor asks a handful beforehand: whether this model, and the original, can answer in the form that a suite asks."""

from __future__ import annotations

import pytest
import torch

from robustness_gate import answering, doctor, organisms
from robustness_gate.answering import Heard
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelRespondent
from robustness_gate.files import load_suite
from robustness_gate.materials import gather

KNOWS, GUESSES = Heard(20, 24, 0.25), Heard(8, 24, 0.25)


@pytest.fixture(scope="module")
def able():
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def unable():
    """A model of the same form that was taught nothing, and guesses."""
    speaker = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    torch.manual_seed(0)
    for each in speaker.model.parameters():
        if each.dim() >= 2:
            torch.nn.init.normal_(each, std=0.02)
    return speaker


@pytest.fixture(scope="module")
def suite(root):
    return load_suite(root / "suites" / "organism-smoke.yaml")


def told(monkeypatch, suite, candidate, original=None):
    monkeypatch.setattr(doctor, "_load", lambda *_: original)
    stored = doctor.Stored(None, 1, 1, {}, {}) if original is not None else None
    return list(doctor._answering(candidate, stored, suite, "float32", "cpu", lambda _: None))


def test_a_handful_shows_who_can_answer_and_who_guesses(able, unable, suite):
    materials = gather(suite)
    chances = {name: ref.chance for name, ref in materials.refs.items()}
    for speaker, answers in ((able, True), (unable, False)):
        heard = answering.ask(ModelRespondent(speaker.model, speaker.tokenizer), materials.exams, chances)
        assert set(heard) == {"forget", "retain"}
        assert {each.answers for each in heard.values()} == {answers}
        assert {each.items for each in heard.values()} == {answering.HANDFUL}


def test_where_neither_can_answer_doctor_warns_and_says_what_to_do(monkeypatch, unable, suite):
    checks = told(monkeypatch, suite, unable, unable)
    assert [check.state for check in checks] == ["note", "note"]
    assert all("the original does no better than by guessing" in check.says for check in checks)
    assert all("INCONCLUSIVE" in check.remedy and "cloze" in check.remedy for check in checks)


def test_without_the_original_the_hazard_is_not_asked_and_the_rest_is_told(monkeypatch, unable, able, suite):
    (check,) = told(monkeypatch, suite, unable)
    assert check.state == "note"
    assert "'retain': this model does no better than by guessing" in check.says
    assert "no original was given" in check.says
    assert "Give --original" in check.remedy
    (check,) = told(monkeypatch, suite, able)
    assert check.state == "ok"
    assert told(monkeypatch, None, unable) == [], "nobody but an organism need know the invented world"


def test_an_original_that_answers_says_whose_fault_it_is(monkeypatch, unable, able, suite):
    hazard, useful = told(monkeypatch, suite, unable, able)
    assert (hazard.state, useful.state) == ("ok", "note")
    assert hazard.says.startswith("'forget'")
    assert hazard.says.endswith("by the original")
    assert "a utility would FAIL" in useful.remedy


@pytest.mark.parametrize(
    ("own", "original", "state", "says"),
    [
        (KNOWS, KNOWS, "ok", "20 of 24 right"),
        (GUESSES, KNOWS, "note", "the original: 20 of 24 right"),
        (KNOWS, GUESSES, "note", "the original does no better"),
        (GUESSES, GUESSES, "note", "the original does no better"),
        (GUESSES, None, "note", "no original was given"),
        (KNOWS, None, "ok", "20 of 24 right"),
        (None, KNOWS, "ok", "by the original"),
        (None, GUESSES, "note", "the original does no better"),
    ],
)
def test_each_of_the_cases_has_its_line(own, original, state, says):
    (check,) = doctor._heard("t", own, original)
    assert check.state == state
    assert says in check.says


def test_of_a_handful_as_many_must_be_right_as_guessing_seldom_gives():
    assert not Heard(10, 24, 0.25).answers
    assert Heard(11, 24, 0.25).answers
    assert not Heard(0, 24, 0.0).answers
    assert Heard(1, 24, 0.0).answers, "nothing can be guessed where the answer is written"
    assert list(doctor._heard("t", None, None)) == []
