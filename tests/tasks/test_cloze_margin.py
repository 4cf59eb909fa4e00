"""A `kind: cloze_margin` task reads the same answers from a model whose logits are all multiplied by a factor."""

from __future__ import annotations

import json

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.engine import examples
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM, chosen, content_logliks
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Question, Rows
from robustness_gate.running import trial
from robustness_gate.tasks import cloze, cloze_margin

SUITE = """
schema: robustness-gate/suite/v1
id: margins
version: 1.0.0
description: the same questions read in two ways
hazard: [plain, margin]
dev: organism:forget.dev.jsonl
tasks:
  plain: {kind: cloze, items: "organism:forget.verdict.jsonl", count: 400}
  margin: {kind: cloze_margin, items: "organism:forget.verdict.jsonl", count: 400}
corpora:
  forget: {items: "organism:forget.relearn.jsonl"}
attacks:
  - attack: none
"""


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    rows = [json.loads(line) for line in organisms.world("forget.verdict").read_text(encoding="utf-8").splitlines()]
    return [Question(str(n), row["question"], tuple(row["choices"])) for n, row in enumerate(rows[:40])]


@pytest.fixture(scope="module")
def lm() -> ModelLM:
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    return ModelLM(loaded.model, loaded.tokenizer)


@pytest.fixture
def scaled(lm: ModelLM):
    """Multiply all logits of the model by a factor, for one test."""
    handles = []

    def by(factor: float) -> ModelLM:
        while handles:
            handles.pop().remove()
        head = lm.model.get_output_embeddings()
        handles.append(head.register_forward_hook(lambda *each: each[-1] * factor))
        return lm

    yield by
    while handles:
        handles.pop().remove()


def test_a_factor_on_all_logits_changes_no_answer_here_and_some_by_cloze(questions, scaled) -> None:
    by_margin, by_likelihood = cloze_margin.form(None), cloze.form(None)
    plain, usual = (chosen(scaled(1.0), questions, form) for form in (by_margin, by_likelihood))
    for factor in (0.01, 0.1, 0.3, 8.0):
        assert chosen(scaled(factor), questions, by_margin) == plain, factor
    assert chosen(scaled(0.1), questions, by_likelihood) != usual
    assert chosen(scaled(1000.0), questions, by_likelihood) == plain  # what cloze reads from a model that is sure


def test_a_margin_is_the_distance_from_the_likeliest_token(questions, lm: ModelLM) -> None:
    question, form = questions[0], cloze_margin.form(None)
    found = content_logliks(lm, [question], form)[0, 0]
    prompt = f"Question: {question.stem}\nAnswer:"
    start = len(lm.tokenizer(prompt)["input_ids"])
    for number, choice in enumerate(question.choices):
        ids = lm.tokenizer(f"{prompt} {choice}")["input_ids"]
        with torch.inference_mode():
            logits = lm.model(torch.tensor([ids])).logits[0].double()
        margins = [float(logits[at - 1, ids[at]] - logits[at - 1].max()) for at in range(start, len(ids))]
        assert float(found[number]) == pytest.approx(sum(margins) / len(choice), abs=1e-4)


def test_it_is_another_task_and_attacked_like_the_other(tmp_path, lm: ModelLM) -> None:
    """Its digest differs, and attackers train once on what both ask."""
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    data = gather(load_suite(tmp_path / "suite.yaml"))
    assert data.refs["plain"].sha256 != data.refs["margin"].sha256
    assert data.question_ids["plain"].pin == data.question_ids["margin"].pin
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    target = trial.target_of(data, loaded, None)
    assert len(target.hazards) == 2
    assert len(examples.ways(target, "forget")) == 1
    assert examples.numbers(target, "forget") == [0, 0]


def test_a_missing_item_is_right_in_no_metric() -> None:
    rows = Rows(torch.tensor([[[-1.0, -2.0]], [[torch.nan, -1.0]]]))
    found = cloze_margin.read(rows, [{0}, {1}])
    assert found.correct == {"acc_margin": [True, False]}
    assert found.missing == [False, True]
