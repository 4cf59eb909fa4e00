"""Informed perturbation: the direction is real, splits fall where it is met, and nothing is split without a reason."""

from __future__ import annotations

import dataclasses
import random

import pytest
import torch

from robustness_gate import attacks
from robustness_gate.attacks import perturb_informed
from robustness_gate.engine import anatomy
from robustness_gate.errors import NotApplicable
from robustness_gate.records.questions import Form, Question
from robustness_gate.running import trial

SMALL = perturb_informed.Config(depths=(0.0,), thresholds=(0.5,), questions=8, rounds=6)


@pytest.fixture
def target(small_suite_data, rmu_model):
    def none():
        raise NotApplicable("no original")

    return trial.target_of(small_suite_data, rmu_model, none)


@pytest.fixture
def splitter(target):
    block = anatomy.dissect(target.model).blocks[0].module
    (direction,) = perturb_informed._directions(target, [0], SMALL).values()
    return perturb_informed.Splitter(target, block, direction, 0.5, 6, 1)


def test_a_token_is_split_inside_and_a_single_character_gets_a_mark():
    text, on = perturb_informed.split_at("alloy Kronag?", 5, 12, random.Random(1))
    assert text.replace(" ", "") == "alloyKronag?"
    assert text.startswith("alloy K")
    assert text[:on].endswith(" ")
    assert perturb_informed.split_at("so?", 2, 3, random.Random(1))[0] in {"so~?", "so^?"}
    assert perturb_informed.split_at("so?", 2, 3, random.Random(1))[1] == 4, "behind the character, not before it again"


def test_streams_are_those_of_the_text_alone_whatever_it_is_padded_with(target):
    block = anatomy.dissect(target.model).blocks[1].module
    texts = ["Which reagent wakes the alloy Kronag?", "Neidarn", "In which bath is it quenched?"]
    together = list(perturb_informed._streams(target.model, target.tokenizer, {"x": block}, texts))
    for text, (places, stream) in zip(texts, together, strict=True):
        ids = target.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode(), anatomy.recorded({"x": block}) as kept:
            target.model(input_ids=ids)
        assert torch.allclose(stream[0], kept["x"][0, 1:], atol=1e-4), "all but the beginning-of-text mark"
        assert "".join(text[start:end] for start, end in places) == text


def test_the_direction_is_the_difference_of_the_means_over_tokens(target):
    block = anatomy.dissect(target.model).blocks[2].module
    found = perturb_informed._directions(target, [2], SMALL)[2]
    means = []
    for source in ("forget", "retain"):
        streams = []
        for item in target.corpora[source].items[:8]:
            ids = target.tokenizer(item.question.stem, return_tensors="pt")["input_ids"]
            with torch.inference_mode(), anatomy.recorded({"x": block}) as kept:
                target.model(input_ids=ids)
            streams.append(kept["x"][0, 1:])
        means.append(torch.cat(streams).mean(dim=0))
    assert torch.allclose(found, means[0] - means[1], atol=1e-3 * float(found.norm()))


def test_only_what_points_along_the_direction_is_split_and_only_as_often_as_allowed(target, splitter):
    stems = [item.question.stem for item in target.dev]
    splitter.learn(stems)
    known = dict(splitter.known)
    assert any(known[stem] != stem for stem in stems)
    for stem in stems:
        assert sum(each in " ~^" for each in known[stem]) - sum(each in " ~^" for each in stem) <= 6
        assert not splitter._next_over([(stem, 0)])[0] or known[stem] != stem
    never = perturb_informed.Splitter(target, splitter.module, splitter.direction, 0.999, 6, 1)
    never.learn(stems)
    assert never.known == {stem: stem for stem in stems}
    against = perturb_informed.Splitter(target, splitter.module, torch.zeros_like(splitter.direction), 0.1, 6, 1)
    against.learn(stems)
    assert against.known == {stem: stem for stem in stems}, "a zero direction, as in the released code, does nothing"


def test_a_text_comes_out_alike_whatever_is_split_beside_it(target, splitter):
    stems = [item.question.stem for item in target.dev]
    splitter.learn(stems)
    alone = perturb_informed.Splitter(target, splitter.module, splitter.direction, 0.5, 6, 1)
    for stem in stems[::3]:
        alone.learn([stem])
        assert alone.known[stem] == splitter.known[stem]


def test_verbatim_choices_are_answers_and_stay(target, splitter):
    asked = Question("q", target.dev[0].question.stem, ("Neidarn", "Vavreith"))
    splitter.learn([asked.stem])
    edited, _ = splitter.edit(asked, Form(verbatim=True))
    assert edited.choices == asked.choices
    assert edited.stem == splitter.known[asked.stem] != asked.stem


def test_what_is_handed_over_is_asked_in_split_words(target, small_suite_data):
    (attacked,) = perturb_informed.attack(target, SMALL, 1)
    task_data = small_suite_data.tasks["forget"]
    questions = [item.question for item in task_data.items[:4]]
    found = attacked.model.loglikelihoods(questions, task_data.form)
    words = attacked.model.words
    plain = target.lm.loglikelihoods(
        [words.edit(question, task_data.form)[0] for question in questions], task_data.form
    )
    assert torch.equal(found, plain)
    assert attacked.signals["splits"] > 0
    assert attacked.signals["cosine_before"] > 0.5


def test_without_rounds_every_answer_is_the_same_bits(target, small_suite_data):
    task_data = small_suite_data.tasks["retain"]
    questions = [item.question for item in task_data.items]
    (sham,) = perturb_informed.attack(target, perturb_informed.SHAM, 1)
    assert torch.equal(
        sham.model.loglikelihoods(questions, task_data.form), target.lm.loglikelihoods(questions, task_data.form)
    )
    assert sham.signals["splits"] == sham.signals["loglik_change"] == 0.0


def test_the_originals_direction_needs_the_original_and_offsets_a_fast_tokenizer(target):
    with pytest.raises(NotApplicable, match="no original"):
        next(perturb_informed.attack(target, dataclasses.replace(SMALL, direction="original"), 1))

    class Slow:
        is_fast = False

    with pytest.raises(NotApplicable, match="where in the text"):
        next(perturb_informed.attack(dataclasses.replace(target, tokenizer=Slow()), SMALL, 1))


@pytest.mark.parametrize(
    "given", [{"depths": [1.5]}, {"thresholds": [0.5, 0.3]}, {"thresholds": [1.0]}, {"rounds": -1}]
)
def test_settings_that_mean_nothing_are_refused(given):
    with pytest.raises(attacks.BadConfig):
        attacks.configure(perturb_informed, given)
