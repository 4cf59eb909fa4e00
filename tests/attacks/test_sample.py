"""Sampling: the votes are the odds, the vote's accuracy has an ordinary chance level, and any-of-k has its curve."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hazards import hazard

from robustness_gate.attacks import sample
from robustness_gate.engine import lms, selection
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.running import trial

ITEMS = [Item(Question(f"q{i}", "Which?", tuple(f"{c}{i}" for c in "wxyz")), i % 4) for i in range(400)]
QUESTIONS = [item.question for item in ITEMS]
RIGHT = {item.question.id: item.question.choices[item.answer] for item in ITEMS}


class Leaning:
    """Gives the right answer some odds over the others, 1 being none, and 60 % of all probability to letters."""

    def __init__(self, odds):
        self.odds, self.asked = odds, 0

    def loglikelihoods(self, questions, form):  # noqa: ARG002 - the protocol has it
        self.asked += 1
        rows = [[self.odds if each == RIGHT[q.id] else 1.0 for each in q.choices] for q in questions]
        return torch.tensor(rows).log().log_softmax(-1) + math.log(0.6)


def shares(odds, draws, temperature=1.0, seed=1):
    sampled = lms.Sampled(Leaning(odds), draws, temperature, seed)
    return selection.shares(selection.ask(sampled, [hazard(ITEMS)]), [hazard(ITEMS)])


@pytest.mark.parametrize("draws", [1, 2, 16])
def test_votes_without_knowledge_are_right_one_time_in_four_however_many_there_are(draws):
    """400 items: four standard errors are 8.7 points. Any-of-16 would be 99 %."""
    found = shares(1.0, draws)
    assert found.other == pytest.approx(0.25, abs=0.087)
    assert found.deciding == pytest.approx(0.25, abs=0.087)


def test_one_answer_is_right_as_often_as_its_odds_and_more_answers_more_often():
    one, many = shares(3.0, 1), shares(3.0, 64)
    assert one.other == pytest.approx(0.5, abs=0.1), "3 of 3 + 1 + 1 + 1"
    assert many.other > 0.95
    assert shares(3.0, 4).deciding > shares(3.0, 4).other, "letter orders add evidence"


def test_the_temperature_flattens_the_odds():
    assert shares(3.0, 1, temperature=2.0).other == pytest.approx(3**0.5 / (3**0.5 + 3), abs=0.1)
    assert shares(3.0, 1, temperature=0.1).other == 1.0


def test_the_estimate_is_krichevsky_and_trofimovs_and_letters_keep_their_probability():
    found = lms.Sampled(Leaning(3.0), 8, 1.0, 1).loglikelihoods(QUESTIONS[:20], Form()).double()
    votes = (found.softmax(dim=1) * (8 + 2) - 0.5).round()
    assert torch.equal(votes.sum(dim=1), torch.full((20,), 8.0, dtype=torch.double))
    expected = ((votes + 0.5) / 10).log() + math.log(0.6)
    assert torch.allclose(found, expected, atol=1e-3)


def test_a_question_is_answered_alike_whatever_is_asked_beside_it_and_otherwise_with_another_seed():
    def answers(questions, seed):
        return lms.Sampled(Leaning(1.5), 4, 1.0, seed).loglikelihoods(questions, Form())

    assert torch.equal(answers(QUESTIONS, 1)[5:9], answers(QUESTIONS[5:9], 1))
    assert not torch.equal(answers(QUESTIONS, 1), answers(QUESTIONS, 2))


def test_an_answer_that_is_not_finite_stays_missing():
    class Lost(Leaning):
        def loglikelihoods(self, questions, form):
            found = super().loglikelihoods(questions, form)
            found[1] = torch.nan
            return found

    found = lms.Sampled(Lost(2.0), 4, 1.0, 1).loglikelihoods(QUESTIONS[:3], Form())
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("draws", "options", "right", "expected"), [(0, 4, 1, 0.0), (1, 4, 1, 0.25), (10, 4, 1, 0.943686)]
)
def test_the_chance_curve_is_its_formula(draws, options, right, expected):
    assert sample.chance(draws, options, right) == pytest.approx(expected, abs=1e-6)
    rng = random.Random(1)
    lucky = sum(any(rng.randrange(options) < right for _ in range(draws)) for _ in range(4000)) / 4000
    assert lucky == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("draws", [1, 3, 16])
def test_any_of_k_is_chance_without_knowledge_and_more_with_it(draws):
    def expected(odds):
        logliks = Leaning(odds).loglikelihoods(QUESTIONS, Form())
        return sample.any_of(draws, logliks, ITEMS, 1.0)

    assert expected(1.0) == pytest.approx(sample.chance(draws, 4))
    assert expected(3.0) == pytest.approx(1 - 0.5**draws)


def test_any_of_k_of_a_model_that_says_one_letter_stays_at_a_quarter():
    one_letter = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).expand(400, 4)
    assert sample.any_of(64, one_letter, ITEMS, 1.0) == pytest.approx(0.25)


def test_the_model_is_asked_once_for_all_measurements_and_temperatures(small_suite_data, rmu_model):
    import dataclasses

    target = trial.target_of(small_suite_data, rmu_model, None)
    leaning = Leaning(1.0)
    leaning.loglikelihoods = lambda questions, form, ask=target.lm.loglikelihoods: (
        setattr(leaning, "asked", leaning.asked + 1),
        ask(questions, form),
    )[1]
    target = dataclasses.replace(target, lm=leaning)
    task_data = small_suite_data.tasks["retain"]
    for attacked in sample.attack(target, sample.Config(budgets=(1, 4)), 1):
        selection.ask(attacked.model, [hazard(task_data.items, task_data.form)])
        assert attacked.signals["any_of_k_chance"] == pytest.approx(sample.chance(attacked.budget, 4))
        assert attacked.signals["any_of_k_excess"] == attacked.signals["any_of_k"] - attacked.signals["any_of_k_chance"]
    assert leaning.asked == 2, "the dev items and the task"


def test_no_draws_leave_every_answer_the_same_bits(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    task_data = small_suite_data.tasks["retain"]
    questions = [item.question for item in task_data.items]
    (sham,) = sample.attack(target, sample.SHAM, 1)
    assert torch.equal(
        sham.model.loglikelihoods(questions, task_data.form), target.lm.loglikelihoods(questions, task_data.form)
    )
    assert sham.signals["loglik_change"] == 0.0
