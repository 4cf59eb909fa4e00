"""Words of a question that a tokenizer takes for special tokens: the question is missing, and is told by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from robustness_gate import doctor, organisms
from robustness_gate.engine import pieces, score
from robustness_gate.engine.score import ModelRespondent, noted
from robustness_gate.nouns import Form, Item, Question
from robustness_gate.report import CONTROL

PLAIN = Question("plain", "Which lamp burns?", ("red", "blue"))
STRUCK = Question("struck", "Which <s> lamp burns?", ("red", "blue"))
SAID = Question("said", "Which lamp glows?", ("red", "bl</s>ue"))
LETTERS = Form(letters=("A", "B"))
WORDS = Form(verbatim=True, by_length=True)


@pytest.fixture(scope="module")
def respondent() -> ModelRespondent:
    base = organisms.checkpoint("base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    return ModelRespondent(model, transformers.AutoTokenizer.from_pretrained(base))


def asked(respondent: ModelRespondent, form: Form, **more) -> tuple[list[bool], score.Notes]:
    with noted() as notes:
        found = respondent.choose([PLAIN, STRUCK, SAID], dataclasses.replace(form, **more))
    return found.isnan().any(dim=1).tolist(), notes


def test_a_question_with_a_special_token_has_no_answer_and_the_token_is_noted(respondent: ModelRespondent) -> None:
    known = pieces.control_tokens(respondent.tokenizer)
    assert {"<s>", "</s>"} <= known.keys()
    missing, notes = asked(respondent, LETTERS)
    assert missing == [False, True, True], "the choices stand in the prompt too"
    assert notes.controls == {"struck": {known["<s>"]}, "said": {known["</s>"]}}
    assert notes.counts()["control_items"] == 2
    assert notes.counts()[f"{CONTROL}{known['<s>']}"] == 1


@pytest.mark.parametrize("more", [{}, {"rewrite": str.upper}])
def test_an_answer_whose_words_are_scored_may_not_be_a_special_token(respondent: ModelRespondent, more: dict) -> None:
    missing, notes = asked(respondent, WORDS, **more)
    assert missing == [False, not more, True]
    assert "said" in notes.controls


def test_an_unknown_word_is_no_special_token(respondent: ModelRespondent) -> None:
    assert respondent.tokenizer.unk_token not in pieces.control_tokens(respondent.tokenizer)


SUITE = """schema: robustness-gate/suite/v1
id: s
version: 1.0.0
says: s
hazard: t
tasks:
  t: {kind: cloze, items: docs.jsonl, count: 3}
attacks:
  - attack: none
"""


def test_doctor_names_questions_whose_letters_were_lost() -> None:
    odd = Item(Question("odd", "Which caf\ufffd?", ("\ufeffred", "blue")), 0)
    told = [(check.name, check.says) for check in doctor._damaged("forget", [Item(PLAIN, 0), odd])]
    assert told == [
        ("questions", "1 of 2 in 'forget' hold the sign for a letter that was lost (U+FFFD): 'odd'"),
        ("questions", "1 of 2 in 'forget' hold a byte order mark: 'odd'"),
    ]


def test_doctor_names_task_item_and_token(respondent: ModelRespondent, tmp_path: Path) -> None:
    items = [Item(question, 0) for question in (PLAIN, STRUCK, SAID)]
    (check,) = doctor._controls(respondent.tokenizer, "forget", items, WORDS)
    assert (check.state, "2 of 3 in 'forget' hold special tokens" in check.says) == ("note", True)
    assert "'<s>' in 'struck', '</s>' in 'said'" in check.says
    assert not [*doctor._controls(respondent.tokenizer, "forget", items[:1], WORDS)]
    rows = [{"id": q.id, "question": q.stem, "choices": q.choices, "answer": 0} for q in (PLAIN, STRUCK, SAID)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    model = shutil.copytree(organisms.checkpoint("base"), tmp_path / "model")
    told = doctor.examine(str(model), device="cpu", suite=tmp_path / "suite.yaml")
    assert [each.says for each in told if "special tokens of the tokenizer" in each.says] == [
        check.says.replace("'forget'", "'t'")
    ]
