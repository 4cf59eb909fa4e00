"""Words of a question that a tokenizer takes for special tokens: the question is missing, and is told by name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.assurance import doctor
from robustness_gate.assurance.doctor import Code, asking
from robustness_gate.engine import events, pieces
from robustness_gate.engine.events import noted
from robustness_gate.engine.score import ModelLM
from robustness_gate.records.questions import Form, Item, Question

PLAIN = Question("plain", "Which lamp burns?", ("red", "blue"))
STRUCK = Question("struck", "Which <s> lamp burns?", ("red", "blue"))
SAID = Question("said", "Which lamp glows?", ("red", "bl</s>ue"))
LETTERS = Form(letters=("A", "B"))
WORDS = Form(verbatim=True, by_length=True)


@pytest.fixture(scope="module")
def lm() -> ModelLM:
    base = organisms.checkpoint("base")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    return ModelLM(model, transformers.AutoTokenizer.from_pretrained(base))


def asked(lm: ModelLM, form: Form, **more) -> tuple[list[bool], events.Notes]:
    with noted() as notes:
        found = lm.loglikelihoods([PLAIN, STRUCK, SAID], dataclasses.replace(form, **more))
    return found.isnan().any(dim=1).tolist(), notes


def test_a_question_with_a_special_token_has_no_answer_and_the_token_is_noted(lm: ModelLM) -> None:
    known = pieces.control_tokens(lm.tokenizer)
    assert {"<s>", "</s>"} <= known.keys()
    missing, notes = asked(lm, LETTERS)
    assert missing == [False, True, True], "the choices stand in the prompt too"
    assert notes.controls == {"struck": {known["<s>"]}, "said": {known["</s>"]}}
    assert notes.counts()["control_items"] == 2
    assert notes.special_tokens == tuple(sorted({known["<s>"], known["</s>"]}))


@pytest.mark.parametrize("more", [{}, {"rewrite": str.upper}])
def test_an_answer_whose_words_are_scored_may_not_be_a_special_token(lm: ModelLM, more: dict) -> None:
    missing, notes = asked(lm, WORDS, **more)
    assert missing == [False, not more, True]
    assert "said" in notes.controls


def test_an_unknown_word_is_no_special_token(lm: ModelLM) -> None:
    assert lm.tokenizer.unk_token not in pieces.control_tokens(lm.tokenizer)


SUITE = """schema: robustness-gate/suite/v1
id: s
version: 1.0.0
description: s
hazard: t
tasks:
  t: {kind: cloze, items: docs.jsonl, count: 3}
attacks:
  - attack: none
"""


def test_doctor_names_questions_whose_letters_were_lost() -> None:
    odd = Item(Question("odd", "Which caf\ufffd?", ("\ufeffred", "blue")), 0)
    told = list(asking.damaged("forget", [Item(PLAIN, 0), odd]))
    assert [check.code for check in told] == [Code.LOST_LETTERS, Code.BYTE_ORDER_MARKS]
    assert {check.args["questions"] for check in told} == {("odd",)}


def test_doctor_names_task_item_and_token(lm: ModelLM, tmp_path: Path) -> None:
    items = [Item(question, 0) for question in (PLAIN, STRUCK, SAID)]
    (check,) = asking.special_tokens(lm.tokenizer, "forget", items, WORDS)
    assert (check.state, check.code, check.args["count"]) == ("note", Code.SPECIAL_TOKENS, 2)
    assert check.args["questions"] == "'<s>' in 'struck', '</s>' in 'said'"
    assert not [*asking.special_tokens(lm.tokenizer, "forget", items[:1], WORDS)]
    rows = [{"id": q.id, "question": q.stem, "choices": q.choices, "answer": 0} for q in (PLAIN, STRUCK, SAID)]
    (tmp_path / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    model = shutil.copytree(organisms.checkpoint("base"), tmp_path / "model")
    told = doctor.examine(str(model), device="cpu", suite=tmp_path / "suite.yaml")
    assert [each.args for each in told if each.code == Code.SPECIAL_TOKENS] == [{**check.args, "task": "t"}]
