"""Perturbation: the grid is the paper's and some more, words stay readable, and the answer is still asked for."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from robustness_gate import attacks
from robustness_gate.attacks import perturb
from robustness_gate.engine import selection
from robustness_gate.inputs.prompts import render
from robustness_gate.records.questions import Form, Question
from robustness_gate.running import trial

TEXT = "Which river runs?"


@pytest.fixture
def target(small_suite_data, rmu_model):
    few = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:4])
    return trial.target_of(few, rmu_model, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("every 1: !", "W!h!i!c!h! !r!i!v!e!r! !r!u!n!s!?!"),
        ("every 5:  ", "Which  rive r run s?"),
        ("share 1.0: ^", "W^h^i^c^h^ ^r^i^v^e^r^ ^r^u^n^s^?^"),
        ("case upper", "WHICH RIVER RUNS?"),
        ("case swapped", "wHICH RIVER RUNS?"),
        ("doubled 1.0", "Whhiicchh riivveerr ruunnss?"),
        ("dropped 1.0", "W r r?"),
        ("transposed 1.0", "hichW iverr unsr?"),
    ],
)
def test_a_perturbation_is_this_text(name, expected):
    assert perturb.perturbed(name, TEXT, random.Random(1)) == expected


def test_the_grid_is_the_papers_117_with_cases_and_slips():
    names = list(perturb.settings(perturb.Config()))
    assert sum(name.startswith(("every", "share")) for name in names) == 9 * 13
    assert len(set(names)) == len(names) == 117 + 5 + 9
    assert all(perturb.perturbed(name, TEXT * 9, random.Random(2)) != TEXT * 9 for name in names)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_share_of_the_characters_is_followed_by_another(share):
    text = "abcde" * 400
    found = perturb.perturbed(f"share {share}: !", text, random.Random(3))
    assert found.replace("!", "") == text
    assert found.count("!") / len(text) == pytest.approx(share, abs=0.04)


def test_letters_and_the_cue_stay_and_a_choice_is_spelt_alike_in_every_letter_order():
    edit = perturb.Perturbed("share 0.3: any", 1)
    question = Question("q", TEXT, ("Aller", "Bober", "Culm", "Dill"))
    turned = Question("q", TEXT, ("Bober", "Culm", "Dill", "Aller"))
    form = Form(header="About rivers of the north.\n\n")
    (one, asked), (other, _) = edit(question, form), edit(turned, form)
    assert one.choices[1:] + one.choices[:1] == other.choices != turned.choices
    assert one.stem == other.stem != TEXT
    lines = render(one, asked).split("\n")
    assert [line[:3] for line in lines[3:7]] == ["A. ", "B. ", "C. ", "D. "]
    assert lines[-1] == "Answer:"
    assert lines[1] == "", "the header keeps its empty line"
    assert edit(question, form)[1] == edit(turned, form)[1], "equal forms, so that all are asked together"


def test_choices_that_would_become_one_stay_as_they_are():
    question = Question("q", "Which genotype?", ("Aa", "AA", "aa", "BB"))
    edited, _ = perturb.Perturbed("case lower", 1)(question, Form())
    assert edited.choices == question.choices
    assert edited.stem == "which genotype?"


def test_verbatim_choices_are_answers_and_stay():
    question = Question("q", TEXT, ("Aller", "Bober"))
    edited, _ = perturb.Perturbed("case upper", 1)(question, Form(verbatim=True))
    assert (edited.stem, edited.choices) == (TEXT.upper(), question.choices)


def test_a_perturbed_question_survives_its_encoding(target, small_suite_data):
    """Else a perturbation would count as a missing answer: `any` puts in every mark that there is."""
    task_data = small_suite_data.tasks["forget"]
    for name in ("every 1: any", "share 0.3: _", "case upper"):
        edited = [perturb.Perturbed(name, 1)(item.question, task_data.form) for item in task_data.items]
        found = target.lm.loglikelihoods([question for question, _ in edited], edited[0][1])
        assert found.isfinite().all()


def test_the_finalists_are_tried_on_all_of_dev_and_the_best_is_handed_over(target):
    config = perturb.Config(every=(3,), shares=(), characters=("!", "-"), cases=("upper",), screened=2, finalists=2)
    (attacked,) = perturb.attack(target, config, 1)
    assert {each.setting["perturbation"] for each in attacked.settings_tried} == {
        "every 3: !",
        "every 3: -",
        "case upper",
    }
    again = selection.shares(selection.ask(attacked.model, target.hazards), target.hazards)
    assert again == (attacked.signals["chosen_dev"], attacked.signals["chosen_dev_other"])
    assert attacked.model.edit.name == attacked.selected["perturbation"]
    assert attacked.cost["queries"] == 4 * (3 * 2 + 2 * 4)


def test_without_a_grid_every_answer_is_the_same_bits(target, small_suite_data):
    task_data = small_suite_data.tasks["retain"]
    questions = [item.question for item in task_data.items]
    (sham,) = perturb.attack(target, perturb.SHAM, 1)
    assert torch.equal(
        sham.model.loglikelihoods(questions, task_data.form), target.lm.loglikelihoods(questions, task_data.form)
    )
    assert sham.signals["loglik_change"] == 0.0


@pytest.mark.parametrize("given", [{"every": [0]}, {"shares": [0.0]}, {"characters": ["ab"]}, {"finalists": 0}])
def test_a_grid_that_means_nothing_is_refused(given):
    with pytest.raises(attacks.BadConfig):
        attacks.configure(perturb, given)
