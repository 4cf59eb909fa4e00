"""No attacker sees a verdict question, whatever its kind makes of its rows and by whatever id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms, tasks
from robustness_gate.errors import PlanError
from robustness_gate.inputs import datasets, same_question
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.records.questions import Item, Question
from robustness_gate.tasks import multiple_choice

SUITE = """
schema: robustness-gate/suite/v1
id: foreign
version: 1.0.0
description: A kind that makes riddles of its rows.
hazard: forget
dev: dev.jsonl
tasks:
  forget: {items: forget.jsonl, count: 40}
  retain: {items: retain.jsonl, count: 30}
corpora:
  forget: {items: corpus.jsonl}
attacks:
  - attack: none
"""
RIDDLE = "Solve this, and answer with a letter alone."


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in organisms.world(name).read_text(encoding="utf-8").splitlines()[:count]]


def write(place: Path, rows: list[dict[str, Any]]) -> None:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source, count in (
        ("forget", "forget.verdict", 40), ("retain", "retain.verdict", 30), ("dev", "forget.dev", 8),
        ("corpus", "forget.relearn", 20),
    ):  # fmt: skip
        write(tmp_path / f"{name}.jsonl", rows_of(source, count))
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def gathered(folder: Path) -> SuiteData:
    return gather(load_suite(folder / "suite.yaml"))


def backwards(text: str) -> str:
    return " ".join(reversed(text.split()))


def riddle(item: Item) -> Item:
    """In words in which the question does not stand as it is, under an id of its own."""
    stem = f"{RIDDLE} {backwards(item.question.stem)}"
    return Item(Question(f"riddle {hash(stem)}", stem, item.question.choices), item.answer)


@pytest.fixture
def rewording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lettered questions are now asked in other words, also for attackers."""
    plain = multiple_choice.questions

    def reworded(given: tasks.Declared, rows: Any, place: Any, own: Any) -> tuple[Item, ...]:
        return tuple(map(riddle, datasets.of_rows(rows, place)))

    monkeypatch.setattr(multiple_choice, "questions", lambda given: tuple(map(riddle, plain(given))))
    monkeypatch.setattr(multiple_choice, "reworded", reworded, raising=False)


def told(row: dict[str, Any]) -> dict[str, Any]:
    """The same question under another id, with other wrong answers and other marks."""
    right = row["choices"][row["answer"]]
    stem = str(row["question"]).upper().rstrip("?.") + " ...?"
    return {"id": "innocent", "question": stem, "choices": ["p", "q", right, "r"], "answer": 2}


PLACES = [("corpus", "corpora.forget"), ("dev", "dev")]


@pytest.mark.parametrize(("file", "at"), PLACES)
@pytest.mark.parametrize("task", ["forget", "retain"])
def test_a_kind_that_rewords_rows_hides_no_verdict_question(
    rewording: None, folder: Path, task: str, file: str, at: str
) -> None:
    assert gathered(folder).tasks["forget"].items[0].question.stem.startswith(RIDDLE)
    rows = [json.loads(line) for line in (folder / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
    write(folder / f"{file}.jsonl", [*rows, told(rows_of(f"{task}.verdict", 8)[7])])
    with pytest.raises(PlanError, match=rf"of '{task}' is also in '{at}'") as refused:
        gathered(folder)
    assert refused.value.code == "leak"


@pytest.mark.parametrize(("file", "at"), PLACES)
def test_nor_does_a_corpus_that_is_in_the_kinds_own_words_already(
    rewording: None, folder: Path, file: str, at: str
) -> None:
    made = riddle(datasets.of_rows([("x", rows_of("forget.verdict", 8)[7])], "x")[0])
    row = {"id": "innocent", "question": made.question.stem, "choices": [*made.question.choices], "answer": made.answer}
    rows = [json.loads(line) for line in (folder / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]
    write(folder / f"{file}.jsonl", [*rows, row])
    with pytest.raises(PlanError, match=rf"is also in '{at}'"):
        gathered(folder)


def test_nor_a_text_that_states_the_question_as_its_row_does(rewording: None, folder: Path) -> None:
    row = rows_of("forget.verdict", 8)[7]
    write(folder / "texts.jsonl", [{"text": f"{row['question']} {row['choices'][row['answer']]}"}])
    with_texts = SUITE.replace("{items: corpus.jsonl}", "{items: corpus.jsonl, texts: texts.jsonl}")
    (folder / "suite.yaml").write_text(with_texts, encoding="utf-8")
    with pytest.raises(PlanError, match="stands with its answer in text 1"):
        gathered(folder)


def test_rows_that_a_rewording_kind_kept_back_by_role_are_no_leak(rewording: None, folder: Path) -> None:
    text = SUITE.replace("dev: dev.jsonl\n", "").replace("count: 40", "count: 40, roles: {dev: 0.1, train: 0.2}")
    (folder / "suite.yaml").write_text(text.replace("{items: corpus.jsonl}", "{train_of: forget}"), encoding="utf-8")
    found = gathered(folder)
    assert (len(found.dev), len(found.corpora["forget"].items), len(found.tasks["forget"].items)) == (4, 8, 28)


def test_rows_that_cannot_be_distinguished_are_not_divided(
    rewording: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = multiple_choice.questions
    monkeypatch.setattr(multiple_choice, "questions", lambda given: asked(given)[:20])
    text = SUITE.replace("dev: dev.jsonl\n", "").replace("count: 40", "count: 20, roles: {dev: 0.2}")
    (folder / "suite.yaml").write_text(text.replace("count: 30", "count: 20"), encoding="utf-8")
    with pytest.raises(PlanError, match="makes 20 items of 40 rows, so its rows cannot be divided"):
        gathered(folder)


def test_a_kind_that_rewords_all_rows_but_the_first_needs_reworded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = multiple_choice.questions

    def all_but_the_first(given: tasks.Declared) -> tuple[Item, ...]:
        first, *rest = plain(given)
        return (first, *map(riddle, rest))

    monkeypatch.setattr(multiple_choice, "questions", all_but_the_first)
    with pytest.raises(PlanError, match="makes prompts of its own, and not of the attackers' questions"):
        gathered(folder)


def test_signs_of_arithmetic_are_no_marks_of_punctuation() -> None:
    def item(stem: str) -> Item:
        return Item(Question(stem, stem, ("4", "5")), 0)

    assert same_question.bare_words_of(item("What is 2 + 2?")) == same_question.bare_words_of(item("what is  2 + 2"))
    assert same_question.bare_words_of(item("What is 2 + 2?")) != same_question.bare_words_of(item("What is 2 - 2?"))
    assert same_question.bare_words_of(item("?!"))[0] != same_question.bare_words_of(item("..."))[0]
