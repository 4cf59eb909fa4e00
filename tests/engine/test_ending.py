"""End marks are the vendor's word: they cannot keep an answer from being heard."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.engine import ending, events, generate, latent, lms, prompting, shared
from robustness_gate.engine.events import noted
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.engine.score import ModelLM
from robustness_gate.errors import BrokenTrial
from robustness_gate.records.questions import Form, Question
from robustness_gate.tasks import open_answer, refusal

WORDING = "Question: {question}\nReply:"
FORM = open_answer.form(WORDING, 8, chat=False)


@pytest.fixture(scope="module")
def base():
    return load(organisms.checkpoint("base"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def items(small_suite_data):
    return small_suite_data.tasks["forget"].items[:12]


@pytest.fixture(scope="module")
def questions(items):
    return tuple(item.question for item in items)


@pytest.fixture
def own(base):
    """The same model under a generation config and a tokenizer of the test's own."""
    before = base.model.generation_config
    base.model.generation_config = copy.deepcopy(before)
    yield LoadedModel(base.model, copy.deepcopy(base.tokenizer))
    base.model.generation_config = before


def ends_at(loaded, marks):
    loaded.model.generation_config.eos_token_id = sorted({loaded.tokenizer.eos_token_id, *marks})


def right(loaded, items, form=FORM):
    rows = open_answer.ask(ModelLM(*loaded), open_answer.Config(tuple(i.question for i in items), form))
    marked = open_answer.read(rows, [item.right for item in items])
    return sum(marked.correct["exact_match"]), sum(marked.missing)


def first_tokens(tokenizer, questions, space=" "):
    words = [f"{space}{choice}" for question in questions for choice in question.choices]
    return {ids[0] for ids in tokenizer(words, add_special_tokens=False)["input_ids"]}


@pytest.mark.parametrize("which", ["first tokens", "every token", "every word of the vocabulary", "white space"])
def test_words_that_are_called_end_marks_end_nothing(own, items, questions, which):
    before = right(own, items)
    assert before[0] >= 11
    said = own.tokenizer([f" {c}" for q in questions for c in q.choices], add_special_tokens=False)["input_ids"]
    marks = {
        "first tokens": first_tokens(own.tokenizer, questions),
        "every token": {token for ids in said for token in ids},
        "every word of the vocabulary": set(range(3, len(own.tokenizer))),
        "white space": {token for token in range(3, len(own.tokenizer)) if not own.tokenizer.decode([token]).strip()},
    }[which]
    ends_at(own, marks)
    with noted() as notes:
        assert right(own, items) == before
    assert notes.words, "which were dropped is told"
    told = notes.counts()
    assert told["end_marks_dropped"] == len(notes.words)
    assert f"end_mark_dropped_{min(notes.words)}" in told
    assert len(told) <= events.NAMED + 2


def test_an_end_mark_does_not_come_first_and_what_stays_empty_is_missing(own, questions, monkeypatch):
    end, width = own.tokenizer.eos_token_id, len(own.tokenizer)
    word = own.tokenizer("The", add_special_tokens=False)["input_ids"][0]
    blank = own.tokenizer("\n", add_special_tokens=False)["input_ids"][0]

    def likes(*order):
        def logprobs(_self, encoded, _keep):
            found = torch.full((len(encoded), 1, width), -30.0)
            for place, token in enumerate(order):
                found[:, :, token] = -1.0 - place
            return found

        monkeypatch.setattr(shared, "applies", lambda *_, **__: False)  # every token by a whole pass
        monkeypatch.setattr(ModelLM, "_logprobs", logprobs)
        return ModelLM(*own).generate(questions[:2], FORM)

    (one, _) = likes(end, word)
    assert one == own.tokenizer.decode([word]).strip(), "it would end at once, and then says one word and ends"
    assert likes(end, blank) == [None, None], "nothing but white space was written"
    assert likes(blank, end) == [None, None]
    marked = open_answer.read(open_answer.ask(ModelLM(*own), open_answer.Config(questions[:2], FORM)), [{0}, {0}])
    assert marked.missing == [True, True], "missing, never wrong"
    declined = refusal.ask(ModelLM(*own), refusal.Config(questions[:2], refusal.form(None, 4, chat=False)))
    assert refusal.read(declined, [{0}, {0}]).missing == [True, True]


def test_an_answer_that_decoding_leaves_out_is_missing_and_not_wrong(own, items):
    choice = items[0].question.choices[items[0].answer]
    own.tokenizer.add_tokens([transformers.AddedToken(choice, special=True)])
    right_ones, missing = right(own, items)
    assert missing == sum(choice in item.question.choices for item in items) >= 1
    assert right_ones + missing >= 11


@pytest.mark.parametrize(
    ("text", "said"),
    [("a", True), ("7", True), ("\u0416", True), ("\u221e", True), ("", False), (" \n", False), ("...", False),
     ("+$^", False), ("\u2026", False), ("\ufffd", False), ("\u200b", False)],
)  # fmt: skip
def test_something_was_stated_where_a_reader_would_see_it(text, said):
    assert ending.begun(text) == said


def test_a_tokenizer_that_ends_every_prompt_is_refused(own, questions):
    from tokenizers.processors import TemplateProcessing

    own.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert own.tokenizer("Name?")["input_ids"][-1] == own.tokenizer.eos_token_id
    with pytest.raises(BrokenTrial, match="append EOS"):
        ModelLM(*own).generate(questions, FORM)


def test_a_generation_config_changes_nothing_else(own, questions):
    plain = ModelLM(*own).generate(questions, FORM)
    thought = generate.continued(*own, [FORM.wording], special=True, tokens=6)
    usual = own.tokenizer([f" {text}" for text in plain if text], add_special_tokens=False)["input_ids"]
    words = sorted({token for ids in usual for token in ids})
    config = own.model.generation_config
    config.update(
        do_sample=True, temperature=3.0, top_k=2, repetition_penalty=5.0, no_repeat_ngram_size=1, max_new_tokens=1,
        suppress_tokens=words[1:], begin_suppress_tokens=words[1:], bad_words_ids=[[word] for word in words],
        forced_bos_token_id=words[0], forced_eos_token_id=words[0], stop_strings=["a", " "], max_length=1,
        sequence_bias=[[[words[0]], -100.0]], exponential_decay_length_penalty=(1, 9.0), min_length=50, num_beams=4,
    )  # fmt: skip
    assert ModelLM(*own).generate(questions, FORM) == plain
    assert generate.continued(*own, [FORM.wording], special=True, tokens=6) == thought


def test_a_soft_prompt_and_an_edited_question_write_under_the_same_rule(own, questions):
    prepended = latent.Prepended(*own, places=2)
    edited = lms.Edited(ModelLM(*own), lambda q, f: (q, dataclasses.replace(f, prefix="Now:")))
    before = [each.generate(questions, FORM) for each in (prepended, edited)]
    ends_at(own, first_tokens(own.tokenizer, questions) | first_tokens(own.tokenizer, questions, ""))
    assert [each.generate(questions, FORM) for each in (prepended, edited)] == before


def test_thinking_does_not_end_before_it_began_nor_at_a_word_of_the_question(own, questions, monkeypatch):
    own.tokenizer.chat_template = "{{ messages[0]['content'] }}"
    form = dataclasses.replace(FORM, chat=True)
    seen = []
    monkeypatch.setattr(generate, "continued", lambda *_, stops, **__: seen.append(stops) or ["so"] * len(questions))
    ends_at(own, first_tokens(own.tokenizer, questions))
    lms.Thinking(ModelLM(*own), *own, tokens=4).generate(questions, form)
    assert seen == [{own.tokenizer.eos_token_id}]


def test_what_is_continued_begins_with_no_end_mark(own):
    prompt = "The attic was sunny on"
    (plain,) = generate.continued(*own, [prompt], special=True, tokens=3)
    first = own.tokenizer(plain, add_special_tokens=False)["input_ids"][0]
    (other,) = generate.continued(*own, [prompt], special=True, tokens=3, stops={first})
    assert any(each.isalnum() for each in other)
    assert not other.startswith(plain)


def test_honest_end_marks_stay(own, questions):
    turn = own.tokenizer.add_tokens([transformers.AddedToken("<|im_end|>", special=False)])
    assert turn == 1
    mark = own.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends_at(own, [mark])
    rows = own.model.get_input_embeddings().weight.shape[0]
    found = prompting.end_marks(*own, questions, FORM)
    assert found.dropped == frozenset()
    assert found.kept == {own.tokenizer.eos_token_id} | ({mark} if mark < rows else set())
    punctuation = own.tokenizer("#", add_special_tokens=False)["input_ids"][-1]
    ends_at(own, [punctuation, -1, 10**9])
    assert prompting.end_marks(*own, questions, FORM).kept == {own.tokenizer.eos_token_id, punctuation}


def test_an_answer_in_other_letters_is_looked_for_too(own):
    asked = [Question("q", "Which?", ("U.S.", "Orlen #1"))]
    marks = {own.tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in (".", "#")}
    ends_at(own, marks)
    assert prompting.end_marks(*own, asked, Form(verbatim=True, wording="{question}")).dropped == marks
    assert ending.names_of(own.tokenizer, marks)
