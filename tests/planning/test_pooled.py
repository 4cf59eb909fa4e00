"""Sources of other shapes: pooled, filtered, with other names for their columns; and a task divided as another is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robustness_gate import tasks
from robustness_gate.attestation.verify.plan import hold_asked
from robustness_gate.attestation.verify.records import Failed
from robustness_gate.errors import FileError, GateError, PlanError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.records.codes import Role


def tofu(n: int) -> dict[str, Any]:
    """A row as TOFU's perturbed sets have it."""
    return {
        "question": f"Where was author {n // 4} in year {n}?",
        "answer": f"in town {n}",
        "paraphrased_answer": f"town {n}",
        "perturbed_answer": [f"town {n}-{each}" for each in "abc"],
        "author": n // 4,
    }


def xstest(n: int) -> dict[str, Any]:
    return {"prompt": f"How do I stop process {n}?", "label": "safe" if n % 3 else "unsafe", "type": "homonyms"}


PARAPHRASED = {"choices": ["paraphrased_answer", "perturbed_answer"], "answer": "paraphrased_answer"}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return name


def suite(folder: Path, tasks_: dict[str, Any], hazard: str | list[str] = "facts", **more: Any) -> Path:
    made = {
        "schema": "robustness-gate/suite/v1", "id": "x", "version": "1.0.0", "description": "x", "hazard": hazard,
        "tasks": tasks_, "attacks": [{"attack": "none"}], **more,
    }  # fmt: skip
    (folder / "suite.yaml").write_text(json.dumps(made), encoding="utf-8")
    return folder / "suite.yaml"


def gathered(folder: Path, tasks_: dict[str, Any], hazard: str | list[str] = "facts", **more: Any) -> SuiteData:
    return gather(load_suite(suite(folder, tasks_, hazard, **more)))


def refused(*args: Any, **more: Any) -> GateError:
    with pytest.raises((PlanError, FileError)) as caught:
        gathered(*args, **more)
    assert caught.value.where
    assert caught.value.remedy
    assert caught.value.code
    return caught.value


@pytest.fixture
def facts(tmp_path) -> dict[str, Any]:
    """A task over two folders of TOFU's shape: 24 and 16 rows."""
    parts = [
        write(tmp_path, "one", [tofu(n) for n in range(24)]),
        write(tmp_path, "two", [tofu(n) for n in range(24, 40)]),
    ]
    return {"kind": "cloze", "items": parts, "count": 40, "columns": PARAPHRASED, "clusters": {"column": "author"}}


def test_sources_are_pooled_in_their_order_under_other_names(tmp_path, facts):
    items = gathered(tmp_path, {"facts": facts}).tasks["facts"].items
    assert [item.question.stem for item in items] == [tofu(n)["question"] for n in range(40)]
    assert items[30].question.choices == ("town 30", "town 30-a", "town 30-b", "town 30-c")
    assert {item.answer for item in items} == {0}
    assert [item.cluster for item in items] == [str(n // 4) for n in range(40)]


def test_another_order_or_another_part_is_another_benchmark(tmp_path, facts):
    whole = gathered(tmp_path, {"facts": facts}).refs["facts"].sha256
    turned = gathered(tmp_path, {"facts": {**facts, "items": facts["items"][::-1]}}).refs["facts"].sha256
    assert turned != whole
    error = refused(tmp_path, {"facts": {**facts, "items": facts["items"][:1]}})
    assert error.code == "wrong-count"
    twice = refused(tmp_path, {"facts": {**facts, "items": [*facts["items"], "one"], "count": 64}})
    assert twice.code == "repeated-questions", "a source that is named twice makes no new questions"


def test_a_filter_takes_the_rows_with_one_of_its_values(tmp_path):
    rows = [xstest(n) for n in range(30)]
    facts = {"items": write(tmp_path, "facts", [{"question": "Q?", "choices": ["a", "b"], "answer": 0}]), "count": 1}
    ask = {"kind": "refusal", "items": write(tmp_path, "xs", rows), "columns": {"question": "prompt"}}
    found = gathered(
        tmp_path,
        {
            "facts": facts,
            "safe": {**ask, "where": {"label": "safe"}, "count": 20},
            "both": {**ask, "where": {"label": ["safe", "unsafe"], "type": "homonyms"}, "count": 30},
        },
    ).tasks
    assert [item.question.stem for item in found["safe"].items] == [r["prompt"] for r in rows if r["label"] == "safe"]
    assert len(found["both"].items) == 30
    assert (
        "no column 'kind'"
        in refused(tmp_path, {"facts": facts, "x": {**ask, "where": {"kind": "safe"}, "count": 1}}).message
    )
    none = refused(tmp_path, {"facts": facts, "x": {**ask, "where": {"label": "Safe"}, "count": 1}})
    assert "holds no items" in none.message


def test_a_filter_does_not_take_true_for_one(tmp_path):
    rows = [
        {"question": f"Q{n}?", "choices": ["a", "b"], "answer": 0, "kept": value}
        for n, value in enumerate((1, True, "1"))
    ]
    facts = {"items": write(tmp_path, "rows", rows), "where": {"kept": 1}, "count": 1}
    (item,) = gathered(tmp_path, {"facts": facts}).tasks["facts"].items
    assert item.question.stem == "Q0?"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({**PARAPHRASED, "answer": "answer"}, "the answer's text is none of the choices"),
        ({**PARAPHRASED, "question": "prompt"}, "no column 'prompt'"),
        ({"choices": ["paraphrased_answer"], "answer": "paraphrased_answer"}, "two to 26 choices"),
        ({"choices": "perturbed_answer", "answer": "author"}, "an index from 0 to 2"),
    ],
)
def test_columns_that_make_no_question_are_refused_at_their_row(tmp_path, facts, columns, words):
    facts = {
        **facts,
        "columns": columns,
        "items": write(tmp_path, "late", [tofu(n) for n in range(20, 40)]),
        "count": 20,
    }
    error = refused(tmp_path, {"facts": facts})
    assert words in error.message
    assert "row 1" in error.where


def test_texts_of_other_columns_are_counted(tmp_path, facts):
    texts = write(tmp_path, "texts", [{"body": f"Text {n}."} for n in range(6)])
    corpus = {"texts": [texts], "columns": {"text": "body"}, "count": 6}
    assert gathered(tmp_path, {"facts": facts}, corpora={"c": corpus}).corpora["c"].texts[5] == "Text 5."
    assert refused(tmp_path, {"facts": facts}, corpora={"c": {**corpus, "count": 7}}).code == "wrong-count"
    assert refused(tmp_path, {"facts": facts}, corpora={"c": {"count": 7}}).code == "wrong-count"


def test_membership_reads_the_same_column_of_both_its_sources(tmp_path, facts):
    pair = {
        "kind": "membership", "columns": {"text": "body"}, "count": 3,
        "items": write(tmp_path, "in", [{"body": f"In {n}."} for n in range(3)]),
        "held_out": write(tmp_path, "out", [{"body": f"Out {n}."} for n in range(3)]),
    }  # fmt: skip
    items = gathered(tmp_path, {"facts": facts, "texts": pair}).tasks["texts"].items
    assert items[0].question.choices == ("In 0.", "Out 0.")


# --- wrong choices from other rows -----------------------------------------------------------------------------------


def qa(n: int, answer: str | None = None) -> dict[str, Any]:
    """A row of a benchmark that scores written answers: it has no wrong choices."""
    return {"question": f"Who was in town {n}?", "answer": answer or f"Person {n}"}


def test_wrong_choices_are_the_next_rows_answers_that_differ(tmp_path):
    rows = [qa(0), qa(1, "person  0"), qa(2), qa(3, "Person 2"), qa(4), qa(5)]
    ask = {
        "kind": "cloze",
        "items": write(tmp_path, "qa", rows),
        "count": 6,
        "columns": {"answer": "answer", "borrow": 2},
    }
    items = gathered(tmp_path, {"facts": ask}).tasks["facts"].items
    assert items[0].question.choices == ("Person 0", "Person 2", "Person 4"), (
        "the same answer in other spacing is right"
    )
    assert items[3].question.choices == ("Person 2", "Person 4", "Person 5")
    assert items[5].question.choices == ("Person 5", "Person 0", "Person 2"), (
        "the last row takes those of the first ones"
    )
    assert {item.answer for item in items} == {0}
    assert (
        "there are 3 answers that differ"
        in refused(tmp_path, {"facts": {**ask, "columns": {"answer": "answer", "borrow": 4}}}).message
    )
    both = {"answer": "answer", "choices": "answer", "borrow": 2}
    assert "not both" in refused(tmp_path, {"facts": {**ask, "columns": both}}).message
    short = write(tmp_path, "empty", [*rows, {"question": "Q?", "answer": 3}])
    assert "'answer' is the number 3" in refused(tmp_path, {"facts": {**ask, "items": short, "count": 7}}).message


# --- a task that is divided as another one ----------------------------------------------------------------------------


@pytest.fixture
def readings(tmp_path) -> dict[str, Any]:
    """Letters over 60 questions, with items for attackers; and a cloze of some of them, with other wrong choices."""
    rows = [{"question": f"Q{n}?", "choices": [f"r{n}", "x", "y"], "answer": 0} for n in range(60)]
    fewer = [{**row, "choices": [row["choices"][0], "v", "w"]} for n, row in enumerate(rows) if n > 20]
    return {
        "facts": {"items": write(tmp_path, "all", rows), "count": 60, "roles": {"dev": 0.1, "train": 0.2}},
        "cloze": {"kind": "cloze", "items": write(tmp_path, "fewer", fewer), "count": 39, "roles_of": "facts"},
    }


def stems(items: Any) -> set[str]:
    return {item.question.stem for item in items}


def test_a_second_reading_judges_what_the_first_one_judges(tmp_path, readings):
    data = gathered(tmp_path, readings, ["facts", "cloze"], corpora={"forget": {"train_of": "facts"}})
    letters, cloze = (stems(data.tasks[name].items) for name in ("facts", "cloze"))
    assert (len(letters), len(cloze)) == (42, len(cloze))
    assert cloze == {each for each in letters if int(each[1:-1]) > 20}, "all of them, and no other"
    of = {each.name: stems(each.dev) for each in data.hazards}
    assert of["cloze"] == {each for each in of["facts"] if int(each[1:-1]) > 20}


def test_roles_of_its_own_would_have_shown_a_verdict_question_to_attackers(tmp_path, readings):
    """This is what `roles_of` is for: the same shares of a part are other questions."""
    readings["cloze"] |= {"roles": readings["facts"]["roles"]}
    del readings["cloze"]["roles_of"]
    assert refused(tmp_path, readings, ["facts", "cloze"], corpora={"forget": {"train_of": "facts"}}).code == "leak"


def test_questions_are_also_the_same_by_their_id_or_cluster(tmp_path, readings):
    """In other words no text can tell it: then the id does, or the paper that both are about."""
    rows = [{"question": f"Q{n}?", "choices": [f"r{n}", "x"], "answer": 0, "nr": n, "paper": n // 2} for n in range(60)]
    other = [{**row, "question": f"Reworded {row['nr']}?", "choices": [f"R {row['nr']}", "z"]} for row in rows]
    facts = {**readings["facts"], "items": write(tmp_path, "all", rows)}
    for keys in ({"id": "nr"}, {"clusters": {"column": "paper"}}):
        both = {
            "facts": {**facts, **keys},
            "other": {"items": write(tmp_path, "other", other), "count": 60, "roles_of": "facts", **keys},
        }
        data = gathered(tmp_path, both)
        judged = {each.removeprefix("Q") for each in stems(data.tasks["facts"].items)}
        assert {each.removeprefix("Reworded ") for each in stems(data.tasks["other"].items)} == judged
        assert len(judged) == 42


def test_a_question_that_the_other_task_does_not_have_may_be_one_that_attackers_have(tmp_path, readings):
    """Such as the same one in other words: nothing would show that it was trained on."""
    rows = [{"question": f"Q{n}?" if n else "Reworded?", "choices": [f"r{n}", "v", "w"], "answer": 0} for n in range(9)]
    readings["cloze"] |= {"items": write(tmp_path, "reworded", rows), "count": 9}
    error = refused(tmp_path, readings, ["facts", "cloze"])
    assert error.code == "roles"
    assert "1 of its 9 items are none of that task's" in error.message


def test_only_a_task_with_roles_can_be_followed(tmp_path, readings):
    readings["cloze"]["roles_of"] = "fact"
    error = refused(tmp_path, readings)
    assert (error.code, "'facts'" in error.remedy) == ("roles", True)
    readings["cloze"]["roles_of"] = "cloze"
    assert refused(tmp_path, readings).code == "roles"
    readings["cloze"] |= {"roles_of": "facts", "roles": {"dev": 0.1}}
    assert "not by both" in refused(tmp_path, readings).message


# --- refusals after attacks ------------------------------------------------------------------------------------------


def test_refusals_are_asked_after_attacks_where_the_suite_says_so(tmp_path, facts):
    ask = {"kind": "refusal", "items": write(tmp_path, "xs", [xstest(n) for n in range(9)]), "count": 9}
    ask["columns"] = {"question": "prompt"}
    data = gathered(tmp_path, {"facts": facts, "once": ask, "again": {**ask, "after_attacks": True}})
    assert {task.name for task in data.task_refs("none")} == {"facts", "once", "again"}
    assert {task.name for task in data.task_refs("relearn")} == {"facts", "again"}
    record = load_suite(tmp_path / "suite.yaml").record
    judged = tasks.load("refusal").JUDGED
    assert record.tasks["once"].only_untouched(judged)
    assert not record.tasks["again"].only_untouched(judged)
    for attack, lacking in (("none", "once"), ("relearn", "again")):
        named = [SimpleNamespace(name=each.name, items=each.items) for each in data.task_refs(attack)]
        trial = SimpleNamespace(dtype="float32", role=Role.CANDIDATE, attack=attack, aims={"facts"}, tasks=named)
        hold_asked(record, trial, "it")
        trial.tasks = [each for each in named if each.name != lacking]
        with pytest.raises(Failed) as caught:  # a share after attacks that was taken out is noticed
            hold_asked(record, trial, "it")
        assert caught.value.arguments["task"] == lacking
    wrong = refused(tmp_path, {"facts": {**facts, "after_attacks": True}})
    assert (wrong.code, "refusal" in wrong.remedy) == ("wrong-key-for-kind", True)
