"""Encodings are kept by their texts, and dropped with the tokenizer that they came from."""

from __future__ import annotations

import copy

import pytest
import transformers
from tokenizers import normalizers
from tokenizers.processors import TemplateProcessing

from robustness_gate import organisms
from robustness_gate.engine import encodings, events, prompting
from robustness_gate.engine.events import noted
from robustness_gate.engine.load import LoadedModel
from robustness_gate.engine.score import ModelLM, content_logliks

TEXTS = ("Which lamp is it?", "Name the craft.", "Who lights the towns?")


@pytest.fixture
def tokenizer():
    encodings.forget()
    return transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))


@pytest.fixture
def made(monkeypatch):
    """How many texts were encoded, call by call, without the two that are checked."""
    found = []
    real = prompting.encode
    monkeypatch.setattr(
        prompting,
        "encode",
        lambda its, texts, *, special: found.append(len(texts)) or real(its, texts, special=special),
    )
    return found


def test_the_same_texts_are_encoded_once(tokenizer, made):
    first = encodings.encode(tokenizer, TEXTS, special=True)
    assert first == prompting.encode(tokenizer, TEXTS, special=True)
    first[0].append(7)
    assert encodings.encode(tokenizer, TEXTS, special=True) == prompting.encode(tokenizer, TEXTS, special=True)
    assert made == [3, 3, 3], "the second and the fourth are this test's own"
    encodings.encode(tokenizer, TEXTS, special=False)
    encodings.encode(tokenizer, TEXTS[:2], special=True)
    assert made == [3, 3, 3, 3, 2], "another set, or without the special tokens, is another"


ENDS = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
FIXED = transformers.BatchEncoding({"input_ids": [[5], [6], [7]]})
CHANGES = {
    "a word is added": lambda its: its.add_tokens(["lamp"]),
    "a normalizer": lambda its: setattr(its.backend_tokenizer, "normalizer", normalizers.Lowercase()),
    "a post-processor": lambda its: setattr(its.backend_tokenizer, "post_processor", ENDS),
    "its own call": lambda its: setattr(its, "_encode_plus", lambda *_, **__: FIXED),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tokenizer_that_changed_encodes_anew(tokenizer, change):
    before = encodings.encode(tokenizer, TEXTS, special=True)
    CHANGES[change](tokenizer)
    after = encodings.encode(tokenizer, TEXTS, special=True)
    assert after == tokenizer(list(TEXTS))["input_ids"]
    assert after != before


@pytest.mark.parametrize("change", ["a word is added", "a normalizer"])
def test_a_change_that_spares_the_first_and_the_last_text_is_seen_too(tokenizer, change):
    before = encodings.encode(tokenizer, TEXTS, special=True)
    if change == "a word is added":
        tokenizer.add_tokens(["craft"])
    else:
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace("craft", "lamp")
    after = encodings.encode(tokenizer, TEXTS, special=True)
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] != before[1]


def test_another_tokenizer_has_encodings_of_its_own(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["lamp"])
    before = encodings.encode(tokenizer, TEXTS, special=True)
    assert encodings.encode(other, TEXTS, special=True) != before
    assert encodings.encode(tokenizer, TEXTS, special=True) == before


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(tokenizer, made, monkeypatch):
    monkeypatch.setattr(encodings, "MOST", 5)
    for texts in (TEXTS, TEXTS[:2], TEXTS, TEXTS[1:], TEXTS):
        encodings.encode(tokenizer, texts, special=True)
    assert made == [3, 2, 2], "the whole set was used last, so the pair goes"
    encodings.encode(tokenizer, TEXTS[:2], special=True)
    assert made == [3, 2, 2, 2]


def test_who_looks_on_sees_what_is_taken_from_the_kept(tokenizer):
    seen = []
    for _ in range(2):
        with events.watching(lambda *what: seen.append(what[1:])):
            encodings.encode(tokenizer, TEXTS, special=True)
    assert seen[0] == seen[1] == (TEXTS, prompting.encode(tokenizer, TEXTS, special=True), True)


def test_questions_that_are_asked_again_are_lost_again_and_noted_again(rmu_model, small_suite_data, made):
    encodings.forget()
    form, items = small_suite_data.tasks["forget"].form, small_suite_data.tasks["forget"].items
    asked = [item.question for item in items[:4]]
    tokenizer = copy.deepcopy(rmu_model.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": [asked[1].stem.split()[-1]]})
    lm = ModelLM(*LoadedModel(rmu_model.model, tokenizer))
    found = []
    for _ in range(2):
        with noted() as notes:
            found.append((content_logliks(lm, asked, form).isfinite().flatten(1).all(dim=1).tolist(), notes))
    assert found[0] == found[1]
    assert not found[0][0][1]
    assert asked[1].id in found[0][1].lost
    assert len(made) == 1
