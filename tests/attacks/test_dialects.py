"""An attack trains and chooses in every format in which it is judged, and under plain text nothing is different."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from robustness_gate.attacks import ablation, relearn
from robustness_gate.engine import direction, examples, prompting, score, selection, train
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.prompts import answers, render, rotated
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Question
from robustness_gate.running import trial

TEMPLATE = "{{ bos_token }}<user> {{ messages[0].content }}{% if add_generation_prompt %} <assistant>\n{% endif %}"


@pytest.fixture(scope="module")
def loaded(rmu_model):
    """The suppressed organism with a tokenizer that has a chat template."""
    tokenizer = copy.deepcopy(rmu_model.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return rmu_model._replace(tokenizer=tokenizer)


def asked_in(suite_data, *formats):
    """The same suite_data, the hazard asked in these formats."""
    task_data = suite_data.tasks["forget"]
    tasks = {f"forget{'.chat' * (each == 'chat')}": each for each in formats}
    asked = {
        n: dataclasses.replace(task_data, form=dataclasses.replace(task_data.form, chat=e == "chat"))
        for n, e in tasks.items()
    }
    hazard = next(iter(asked))
    return dataclasses.replace(suite_data, tasks={**asked, "retain": suite_data.tasks["retain"]}, hazard=hazard)


def target_of(suite_data, loaded, *formats):
    return trial.target_of(asked_in(suite_data, *formats), loaded, None)


def test_the_target_holds_a_form_for_every_format_of_the_hazard_and_of_no_other_task(small_suite_data):
    assert [form.chat for form in small_suite_data.forms] == [False]
    assert [form.chat for form in asked_in(small_suite_data, "raw", "chat").forms] == [False, True]
    assert [form.chat for form in asked_in(small_suite_data, "chat", "raw").forms] == [True, False]
    assert [form.chat for form in asked_in(small_suite_data, "chat").forms] == [True]
    chatty = {**small_suite_data.tasks, "retain.chat": asked_in(small_suite_data, "chat").tasks["forget.chat"]}
    assert [form.chat for form in dataclasses.replace(small_suite_data, tasks=chatty).forms] == [False]


def test_evidence_from_attacks_in_other_formats_goes_by_another_name(small_suite_data):
    raw, both = (asked_in(small_suite_data, *each).data_digests for each in (["raw"], ["raw", "chat"]))
    assert set(raw) == {"dev", "forget", "retain", "unrelated"}, "plain text alone keeps the names it had"
    assert {name: both[name] for name in raw} == raw
    assert len(both) == len(raw) + 1
    assert both != asked_in(small_suite_data, "chat").data_digests


# --- relearning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", range(4))
def test_plain_text_is_trained_on_as_it_is_written(small_suite_data, loaded, shift):
    item, form = small_suite_data.corpora["forget"].items[0], small_suite_data.tasks["forget"].form
    made = examples.answered(loaded.tokenizer, item, shift, form)
    question = rotated(item.question, shift)
    letter = form.letters[question.choices.index(item.question.choices[item.answer])]
    prompt = render(question, form)
    assert made.ids == loaded.tokenizer(f"{prompt} {letter}")["input_ids"]
    assert made.counts == [False] * len(loaded.tokenizer(prompt)["input_ids"]) + [True]


@pytest.mark.parametrize("shift", range(4))
def test_chat_is_trained_on_in_the_template_with_one_bos_and_the_bare_letter(small_suite_data, loaded, shift):
    tokenizer, form = loaded.tokenizer, dataclasses.replace(small_suite_data.tasks["forget"].form, chat=True)
    item = small_suite_data.corpora["forget"].items[0]
    made = examples.answered(tokenizer, item, shift, form)
    question = rotated(item.question, shift)
    letter = form.letters[question.choices.index(item.question.choices[item.answer])]
    assert tokenizer.decode(made.ids) == f"{tokenizer.bos_token}<user> {render(question, form)} <assistant>\n{letter}"
    assert made.ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode([i for i, counts in zip(made.ids, made.counts, strict=True) if counts]) == letter


@pytest.mark.parametrize("chat", [False, True])
def test_what_is_trained_is_what_is_scored(small_suite_data, loaded, chat):
    """The loss of the one training example is minus the log-likelihood that the examiner reads."""
    form = dataclasses.replace(small_suite_data.tasks["forget"].form, chat=chat)
    item = small_suite_data.corpora["forget"].items[1]
    loss = train.mean_loss(loaded.model, [examples.answered(loaded.tokenizer, item, 0, form)])
    read = score.ModelLM(*loaded).loglikelihoods([item.question], form)[0, item.answer]
    assert loss == pytest.approx(-float(read), abs=1e-4)


def seen_by_relearn(monkeypatch, target):
    """The texts and the recipe that one small relearning run trains with."""
    seen = {}

    def spy(model, parameters, examples, recipe, seed, way=None):
        seen["texts"], seen["steps"] = [target.tokenizer.decode(each.ids) for each in examples], recipe.steps
        return train.Course([0.0], 0)

    monkeypatch.setattr(train, "train", spy)
    config = relearn.Config(
        source="forget", method="full", budgets=(3,), learning_rates=(1e-3,), min_steps=5, rotations=2
    )
    assert [attacked.budget for attacked in relearn.attack(target, config, 1)] == [3]
    return seen


def test_relearning_shows_every_question_in_every_format_and_takes_none_of_their_steps_away(
    small_suite_data, loaded, monkeypatch
):
    raw, chat, both = (
        seen_by_relearn(monkeypatch, target_of(small_suite_data, loaded, *formats))
        for formats in (["raw"], ["chat"], ["raw", "chat"])
    )
    assert len(raw["texts"]) == len(chat["texts"]) == 6
    assert not any("<user>" in text for text in raw["texts"])
    assert all("<user>" in text and " <assistant>\n" in text for text in chat["texts"])
    assert sorted(both["texts"]) == sorted(raw["texts"] + chat["texts"])
    assert (raw["steps"], chat["steps"], both["steps"]) == (9, 9, 18)


class ByFormat:
    """Answers by what the format is: the key in one, wrongly in the other."""

    def __init__(self, items, *, knows_chat):
        self.right = {item.question.id: item.question.choices[item.answer] for item in items}
        self.knows_chat, self.forms = knows_chat, []

    def loglikelihoods(self, questions, form):
        self.forms.append(form)
        knows = form.chat == self.knows_chat
        return torch.tensor([[float((c == self.right[q.id]) == knows) for c in q.choices] for q in questions])


@pytest.mark.parametrize("knows_chat", [False, True])
def test_a_dev_reading_is_the_highest_over_the_formats(small_suite_data, loaded, knows_chat):
    target = target_of(small_suite_data, loaded, "raw", "chat")
    lm = ByFormat(target.dev, knows_chat=knows_chat)
    assert selection.accuracy(lm, target.hazards) == 1.0
    assert selection.accuracy(lm, target.hazards[1 - knows_chat :][:1]) == 0.0


# --- ablation ---------------------------------------------------------------------------------------------------------

SMALL = ablation.Config(directions=("retain", "unrelated"), single_layers=False, skip_tokens=12, questions=4)


@pytest.mark.parametrize(
    ("formats", "kinds"),
    [
        (["raw"], ["retain", "unrelated"]),
        (["chat"], ["retain.chat", "unrelated.chat"]),
        (["raw", "chat"], ["retain", "unrelated", "retain.chat", "unrelated.chat"]),
    ],
)
def test_ablation_takes_directions_from_every_format_and_tries_each_on_dev_in_every_format(
    small_suite_data, loaded, monkeypatch, formats, kinds
):
    target = target_of(small_suite_data, loaded, *formats)
    lm = ByFormat(target.dev, knows_chat="chat" in formats)
    shown = []
    whole = prompting.encode
    monkeypatch.setattr(
        prompting, "encode", lambda t, texts, *, special: shown.extend(texts) or whole(t, texts, special=special)
    )
    (attacked,) = list(ablation.attack(dataclasses.replace(target, lm=lm), SMALL, 1))
    assert [candidate.setting["direction"] for candidate in attacked.settings_tried] == kinds
    assert all(candidate.dev_accuracy == 1.0 for candidate in attacked.settings_tried)
    assert attacked.signals["kinds_left_out"] == 0
    screenings = len(kinds) + 1  # and the random direction
    assert [form.chat for form in lm.forms] == [each == "chat" for each in formats] * screenings
    assert {"<user>" in text for text in shown} == {each == "chat" for each in formats}


def test_directions_from_the_template_are_others_than_from_plain_text(small_suite_data, loaded):
    target = target_of(small_suite_data, loaded, "raw", "chat")
    raw, chat = direction.forms(target, ("forget", "retain", "unrelated"))
    with torch.no_grad():
        plain = ablation._directions(target, raw, SMALL)["retain"]
        templated = ablation._directions(target, chat, SMALL)["retain.chat"]
    assert plain.shape == templated.shape
    assert not torch.allclose(plain, templated, atol=1e-3)


@pytest.mark.parametrize(
    ("attack", "config"), [(relearn, relearn.Config(source="forget", budgets=(1,))), (ablation, SMALL)]
)
def test_without_a_template_neither_attack_is_applicable_in_chat(small_suite_data, rmu_model, attack, config):
    target = target_of(small_suite_data, rmu_model, "raw", "chat")
    with pytest.raises(NotApplicable, match="chat template"):
        list(attack.attack(target, config, 1))


# --- the one way from a question to what the model reads --------------------------------------------------------------


def test_prompt_of_is_the_renderer_and_the_template_around_it(small_suite_data, loaded):
    form = small_suite_data.tasks["forget"].form
    question = Question("q", "Which?", ("Aa", "Bb", "Cc", "Dd"))
    plain = prompting.prompt_of(loaded.tokenizer, question, form)
    assert plain == (render(question, form), answers(question, form), True)
    chat = prompting.prompt_of(loaded.tokenizer, question, dataclasses.replace(form, chat=True))
    bos = loaded.tokenizer.bos_token
    assert chat == (f"{bos}<user> {render(question, form)} <assistant>\n", ["A", "B", "C", "D"], False)
    rewritten = prompting.prompt_of(loaded.tokenizer, question, dataclasses.replace(form, rewrite=str.upper))
    assert rewritten.text == render(question, form).upper()


def test_the_suite_data_of_a_suite_in_both_formats_give_both_forms(tmp_path, suite_file):
    from robustness_gate.inputs.validation import load_suite

    text = suite_file.read_text(encoding="utf-8")
    changed = text.replace("count: 400,", "count: 400, formats: [raw, chat],")
    assert changed != text
    (tmp_path / "suite.yaml").write_text(changed, encoding="utf-8")
    suite_data = gather(load_suite(tmp_path / "suite.yaml"))
    assert [form.chat for form in suite_data.forms] == [False, True]
    assert {form.header for form in suite_data.forms} == {suite_data.tasks["forget"].form.header}
