"""Few-shot: what is shown is balanced, apart from what is asked, and really read."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
import torch

from robustness_gate.attacks import few_shot
from robustness_gate.engine import lms, selection
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.prompts import render, solved
from robustness_gate.records.attack import Corpus
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.running import trial

POOL = [Item(Question(f"q{i}", f"Which {i}?", tuple(f"{c}{i}" for c in "wxyz")), 0) for i in range(30)]


@pytest.fixture
def target(small_suite_data, rmu_model):
    few = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:4])
    return trial.target_of(few, rmu_model, None)


@pytest.mark.parametrize("count", [1, 4, 7, 16, 30])
def test_letters_are_balanced_and_the_right_words_stay_right(count):
    shots = few_shot._examples(POOL, count, random.Random(3))
    letters = Counter(shot.answer for shot in shots)
    assert len({shot.question.id for shot in shots}) == count
    assert max(letters.values()) - min(letters[each] for each in range(4)) <= 1
    before = {item.question.id: item for item in POOL}
    for shot in shots:
        there = before[shot.question.id]
        assert shot.question.choices[shot.answer] == there.question.choices[there.answer]
        assert sorted(shot.question.choices) == sorted(there.question.choices)


def test_a_larger_budget_begins_with_the_smaller_one_and_another_seed_with_others():
    def shots(count, seed):
        return few_shot._examples(POOL, count, random.Random(seed))

    assert shots(12, 1)[:5] == shots(5, 1)
    assert shots(12, 1) != shots(12, 2)


def test_nothing_that_is_asked_on_dev_is_shown(target):
    """By id and by words, also where the pool holds it under another id with its choices turned."""
    asked = target.dev[0]
    disguised = few_shot._turned(asked, (asked.answer + 1) % 4)
    disguised = Item(dataclasses.replace(disguised.question, id="another"), disguised.answer)
    kept = few_shot._apart([[asked, disguised, *POOL]], target.dev)
    assert kept == list(range(2, len(POOL) + 2))
    few = (*target.dev, *POOL[:2])
    short = dataclasses.replace(
        target,
        corpora={"forget": Corpus(items=few)},
        hazards=(dataclasses.replace(target.hazards[0], questions={"forget": few}),),
    )
    with pytest.raises(NotApplicable, match="too few"):
        next(few_shot.attack(short, few_shot.Config(budgets=(4,)), 1))


def test_the_prompt_is_the_header_then_the_examples_then_the_question():
    shown = few_shot.Shown(tuple(POOL[:2]))
    question, form = shown(POOL[5].question, Form(header="Head.\n\n"))
    assert render(question, form) == (
        "Head.\n\n"
        "Which 0?\nA. w0\nB. x0\nC. y0\nD. z0\nAnswer: A\n\n"
        "Which 1?\nA. w1\nB. x1\nC. y1\nD. z1\nAnswer: A\n\n"
        "Which 5?\nA. w5\nB. x5\nC. y5\nD. z5\nAnswer:"
    )


def test_an_example_with_more_choices_than_the_question_gets_letters_of_its_own():
    two = Question("two", "Which?", ("yes", "no"))
    question, form = few_shot.Shown(tuple(POOL[:1]))(two, Form(letters=("A", "B")))
    assert "D. z0\nAnswer: A\n\nWhich?\nA. yes\nB. no\nAnswer:" in render(question, form)


def test_no_examples_leave_every_answer_the_same_bits(target, small_suite_data):
    task_data = small_suite_data.tasks["retain"]
    questions = [item.question for item in task_data.items]
    (sham,) = few_shot.attack(target, few_shot.SHAM, 1)
    assert torch.equal(
        sham.model.loglikelihoods(questions, task_data.form), target.lm.loglikelihoods(questions, task_data.form)
    )
    assert sham.signals["loglik_change"] == 0.0


def test_examples_that_the_context_cuts_off_are_counted(target, monkeypatch):
    shots = few_shot._examples(target.corpora["forget"].items, 8, random.Random(1))
    shown = few_shot.Shown(shots)
    assert few_shot._read_share(target, shown) == 1.0
    _, form = shown(target.dev[0].question, target.forms[0])
    length = len(target.tokenizer("".join(solved(shot, form) for shot in shots))["input_ids"])
    monkeypatch.setattr(target.model.config, "max_position_embeddings", 40 + length // 2)
    assert 0.0 < few_shot._read_share(target, shown) < 0.9


def test_the_open_book_shows_each_dev_question_its_own_answer_and_is_never_handed_over(target):
    item = target.dev[3]
    opened = few_shot.OpenBook({(each.question.id, each.question.stem): each for each in target.dev})
    text = render(*opened(item.question, target.forms[0]))
    assert text.startswith(f"{item.question.stem} {item.question.choices[item.answer]}.\n\n{target.forms[0].header}")
    (attacked,) = few_shot.attack(target, few_shot.Config(budgets=(2,), draws=1), 1)
    assert isinstance(attacked.model.edit, few_shot.Shown)
    expected = selection.accuracy(lms.Edited(target.lm, opened), target.hazards)
    assert attacked.signals["open_book_dev"] == expected


def test_edited_answers_come_back_in_their_places_when_forms_differ(target, small_suite_data):
    """Questions that are asked in different forms are asked in groups."""
    task_data = small_suite_data.tasks["retain"]
    questions = [item.question for item in task_data.items[:6]]
    bare = dataclasses.replace(task_data.form, header="")
    odd = {question.id for question in questions[::2]}
    mixed = lms.Edited(target.lm, lambda q, f: (q, bare if q.id in odd else f)).loglikelihoods(
        questions, task_data.form
    )
    with_header, without = (target.lm.loglikelihoods(questions, form) for form in (task_data.form, bare))
    assert torch.allclose(mixed[::2], without[::2], atol=1e-4)
    assert torch.allclose(mixed[1::2], with_header[1::2], atol=1e-4)
    assert not torch.allclose(with_header, without, atol=1e-3)
