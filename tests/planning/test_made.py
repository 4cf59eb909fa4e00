"""A kind that makes what cannot be asked is one sentence at its place in the suite, before anything runs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from robustness_gate import organisms, tasks
from robustness_gate.errors import BrokenTrial, PlanError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Form, Item, Question, Rows
from robustness_gate.running import trial
from robustness_gate.tasks import multiple_choice, open_answer

SUITE = """
schema: robustness-gate/suite/v1
id: foreign
version: 1.0.0
description: Letters and written answers.
hazard: forget
tasks:
  forget: {kind: multiple_choice, items: forget.jsonl, count: 40}
  written: {kind: open_answer, items: retain.jsonl, count: 30}
attacks:
  - attack: none
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source, count in (("forget", "forget.verdict", 40), ("retain", "retain.verdict", 30)):
        lines = organisms.world(source).read_text(encoding="utf-8").splitlines()[:count]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(PlanError) as found:
        gather(load_suite(folder / "suite.yaml"))
    assert found.value.where.startswith(f"{folder / 'suite.yaml'}:")
    assert found.value.code == "unknown-kind"
    return found.value.message


@pytest.mark.parametrize(
    ("module", "form", "says"),
    [
        (multiple_choice, Form(letters=tuple("ABCDE")), "its form has 5 letters, and its questions have 4 answers"),
        (multiple_choice, Form(letters=tuple("ABC")), "its form has 3 letters, and its questions have 4 answers"),
        (multiple_choice, Form(verbatim=True), "it is attacked as multiple_choice, and its form has no letters"),
        (multiple_choice, {"letters": "ABCD"}, "its `put` makes no Form"),
        (open_answer, Form(), "it is attacked as open_answer, and its form has letters"),
        (open_answer, Form(verbatim=True), "it generates answers, and its form allows 0 tokens of them"),
    ],
)
def test_a_form_that_does_not_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, form: Any, says: str
) -> None:
    monkeypatch.setattr(module, "put", lambda *_, **__: form)
    assert says in refused(folder)


def other(**change: Any) -> Any:
    def changed(items: tuple[Item, ...]) -> tuple[Item, ...]:
        first, second, *rest = items
        return (first, dataclasses.replace(second, **change), *rest)

    return changed


def one_choice(item: Item) -> Item:
    return Item(dataclasses.replace(item.question, choices=item.question.choices[:1]), 0)


Q = Question("x", "Which?", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: (), "its `questions` makes none"),
        (lambda items: [each.question for each in items], "something other than a tuple of Items"),
        (lambda items: iter(items), "something other than a tuple of Items"),
        (lambda items: (*items[:-1], items[0]), "is there twice"),
        (other(question=Q, answer=0), "its item 'x' has 3 answers, and the first one has 4"),
        (
            lambda items: tuple(map(one_choice, items)),
            "has 1 choices, and at least two are needed, also where the answer is written",
        ),
        (other(answer=4), "is none of its answers"),
        (other(answer="0"), "is none of its answers"),
    ],
)
def test_questions_that_are_none(folder: Path, monkeypatch: pytest.MonkeyPatch, change: Any, says: str) -> None:
    plain = multiple_choice.questions
    monkeypatch.setattr(multiple_choice, "questions", lambda given: change(plain(given)))
    assert says in refused(folder)


# --- what a kind of others says about its answers ---------------------------------------------------------------------


class Foreign:
    """A lettered kind whose numbers are its own."""

    JUDGED = multiple_choice.JUDGED

    def __init__(self, found: Any) -> None:
        self.summary = lambda *_: found


ROWS = Rows(torch.tensor([[[0.0, -1.0], [-1.0, 0.0]]]).repeat(10, 1, 1))
"""Ten questions, each answered with the letter A in both orders."""
KEY = [{0}] * 10


@pytest.mark.parametrize("found", [{}, {"own": 1}, {"commonest_letter_share": 0.1, "calibrated_accuracy": 0.9}])
def test_a_kind_of_others_loses_no_red_flag(monkeypatch: pytest.MonkeyPatch, found: dict[str, float]) -> None:
    kinds = {"acme-gate/riddle": Foreign(found), "multiple_choice": multiple_choice}
    monkeypatch.setattr(tasks, "load", lambda kind, **_: kinds[kind])
    told = trial.summary("acme-gate/riddle", ROWS, KEY)
    ours = multiple_choice.summary(ROWS, KEY)
    assert told["commonest_letter_share"] == ours["commonest_letter_share"] == 1.0
    assert told["calibrated_accuracy"] == ours["calibrated_accuracy"]
    assert told.keys() == ours.keys() | found.keys()


@pytest.mark.parametrize("found", [None, [1], {"own": math.nan}, {"own": "much"}, {1: 1.0}])
def test_numbers_that_are_none_end_the_attempt(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    monkeypatch.setattr(tasks, "load", lambda *_, **__: Foreign(found))
    with pytest.raises(BrokenTrial, match="no mapping of names to finite numbers"):
        trial.summary("acme-gate/riddle", ROWS, KEY)


def test_the_suite_as_it_is_has_both_kinds(folder: Path) -> None:
    found = gather(load_suite(folder / "suite.yaml"))
    assert json.dumps({name: each.kind for name, each in found.tasks.items()}) == (
        '{"forget": "multiple_choice", "written": "open_answer"}'
    )


def test_a_written_answer_takes_one_prompt_an_item(folder: Path) -> None:
    """`plan` adds these up: an answer in letters takes one for each order of the choices."""
    found = gather(load_suite(folder / "suite.yaml")).refs
    assert {name: ref.prompts for name, ref in found.items()} == {"forget": 40 * 4, "written": 30}
