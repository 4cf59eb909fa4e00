"""Doctor asks a handful beforehand: whether this model, and the original, can answer in the form that a suite asks."""

from __future__ import annotations

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.assurance import answering
from robustness_gate.assurance.answering import Answered
from robustness_gate.assurance.doctor import Code, asking, loading, wording
from robustness_gate.assurance.doctor.files import Stored
from robustness_gate.engine import frugal
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather

KNOWS, GUESSES = Answered(20, 24, 0.25), Answered(8, 24, 0.25)


@pytest.fixture(scope="module")
def able():
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def unable():
    """A model of the same form that was taught nothing, and guesses."""
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    torch.manual_seed(0)
    for each in loaded.model.parameters():
        if each.dim() >= 2:
            torch.nn.init.normal_(each, std=0.02)
    return loaded


@pytest.fixture(scope="module")
def suite(root):
    return load_suite(root / "suites" / "organism-smoke.yaml")


def told(monkeypatch, suite, candidate, original=None):
    monkeypatch.setattr(loading, "load_checkpoint", lambda *_: original)
    stored = Stored(None, 1, 1, {}, {}) if original is not None else None
    return list(asking.answering_of(candidate, loading.Original(stored, "float32", "cpu"), suite, lambda _: None))


def test_a_handful_shows_who_can_answer_and_who_guesses(able, unable, suite):
    suite_data = gather(suite)
    chances = {name: ref.chance for name, ref in suite_data.refs.items()}
    for loaded, answers in ((able, True), (unable, False)):
        answered = answering.ask(ModelLM(loaded.model, loaded.tokenizer), suite_data.tasks, chances)
        assert set(answered) == {"forget", "retain"}
        assert {each.answers for each in answered.values()} == {answers}
        assert {each.items for each in answered.values()} == {answering.HANDFUL}


def test_the_original_is_loaded_once_as_it_was_and_again_where_something_changed_it(monkeypatch, able):
    loads = []
    monkeypatch.setattr(loading, "load_checkpoint", lambda *_: loads.append(1) or able)
    original = loading.Original(Stored(None, 1, 1, {}, {}), "float32", "cpu")
    for _ in range(3):
        with original.opened() as found:
            assert found is able
    assert len(loads) == 1
    weight = able.model.get_input_embeddings().weight
    with torch.no_grad():
        weight[0, 0] += 1
    with original.opened():
        assert len(loads) == 2
    with torch.no_grad():
        weight[0, 0] -= 1
    monkeypatch.setattr(frugal, "free", lambda _: 0)
    original.make_room()
    with original.opened():
        assert len(loads) == 3, "it was dropped for an attack that may train"
    with pytest.raises(NotApplicable, match="none was given"), loading.Original(None, "float32", "cpu").opened():
        pass


def test_where_neither_can_answer_doctor_warns_and_says_what_to_do(monkeypatch, unable, suite):
    checks = told(monkeypatch, suite, unable, unable)
    assert [check.state for check in checks] == ["note", "note"]
    assert [check.code for check in checks] == [Code.ORIGINAL_GUESSES] * 2
    assert all("cloze" in wording.remedy(check) for check in checks)


def test_without_the_original_the_hazard_is_not_asked_and_the_rest_is_reported(monkeypatch, unable, able, suite):
    (check,) = told(monkeypatch, suite, unable)
    assert check.state == "note"
    assert (check.code, check.args["task"]) == (Code.GUESSES_NO_ORIGINAL, "retain")
    assert "Give --original" in wording.remedy(check)
    (check,) = told(monkeypatch, suite, able)
    assert check.state == "ok"
    assert told(monkeypatch, None, unable) == [], "nobody but an organism need know the invented world"


def test_an_original_that_answers_says_whose_fault_it_is(monkeypatch, unable, able, suite):
    hazard, useful = told(monkeypatch, suite, unable, able)
    assert (hazard.state, useful.state) == ("ok", "note")
    assert (hazard.code, hazard.args["task"]) == (Code.ORIGINAL_ANSWERS, "forget")
    assert useful.code == Code.CANDIDATE_GUESSES


@pytest.mark.parametrize(
    ("own", "original", "state", "code"),
    [
        (KNOWS, KNOWS, "ok", Code.ANSWERS),
        (GUESSES, KNOWS, "note", Code.CANDIDATE_GUESSES),
        (KNOWS, GUESSES, "note", Code.ORIGINAL_GUESSES),
        (GUESSES, GUESSES, "note", Code.ORIGINAL_GUESSES),
        (GUESSES, None, "note", Code.GUESSES_NO_ORIGINAL),
        (KNOWS, None, "ok", Code.ANSWERS),
        (None, KNOWS, "ok", Code.ORIGINAL_ANSWERS),
        (None, GUESSES, "note", Code.ORIGINAL_GUESSES),
    ],
)
def test_each_of_the_cases_has_its_line(own, original, state, code):
    (check,) = asking.answered("t", own, original)
    assert (check.state, check.code) == (state, code)
    assert "'t': " in wording.sentence(check)


def test_of_a_handful_as_many_must_be_right_as_guessing_seldom_gives():
    assert not Answered(10, 24, 0.25).answers
    assert Answered(11, 24, 0.25).answers
    assert not Answered(0, 24, 0.0).answers
    assert Answered(1, 24, 0.0).answers, "nothing can be guessed where the answer is written"
    assert list(asking.answered("t", None, None)) == []
