"""The same question under several ids is one observation: a task may hold few such, and no bound rests on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustness_gate import organisms
from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs import datasets, same_question
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather

FORGET = organisms.world("forget.verdict.jsonl").read_text(encoding="utf-8").splitlines()


def suite(folder: Path, rows: list[dict], kind: str = "multiple_choice") -> Path:
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    path = folder / "suite.yaml"
    path.write_text(
        "schema: robustness-gate/suite/v1\nid: x\nversion: 1.0.0\ndescription: x\nhazard: forget\ntasks:\n"
        f"  forget: {{kind: {kind}, items: asked.jsonl, count: {len(rows)}}}\nattacks:\n  - attack: none\n"
        "dtype: float32\n",
        encoding="utf-8",
    )
    return path


def same(row: dict) -> dict:
    return row


def louder(row: dict) -> dict:
    return {**row, "question": f"  {row['question'].upper()} ".replace(" ", "  ")}


def turned(row: dict) -> dict:
    return {**row, "choices": row["choices"][1:] + row["choices"][:1], "answer": (row["answer"] - 1) % 4}


def other_key(row: dict) -> dict:
    return {**row, "answer": (row["answer"] + 1) % 4}


def other_wrong_ones(row: dict) -> dict:
    return {**row, "choices": [each if n == row["answer"] else f"no{n}" for n, each in enumerate(row["choices"])]}


@pytest.mark.parametrize("kind", ["multiple_choice", "cloze", "open_answer"])
@pytest.mark.parametrize("change", [same, louder, turned, other_key, other_wrong_ones])
def test_four_questions_under_forty_ids_are_not_forty(tmp_path, kind, change):
    rows = [json.loads(line) for line in FORGET[:4]]
    copies = [{**(change(row) if n else row), "id": f"{row['id']}-{n}"} for n in range(10) for row in rows]
    with pytest.raises(PlanError) as caught:
        gather(load_suite(suite(tmp_path, copies, kind)))
    assert caught.value.code == "repeated-questions"
    assert "36 of the 40 items that 'forget' asks" in str(caught.value)
    assert f"'{rows[0]['id']}-1', which asks what '{rows[0]['id']}-0' asks" in str(caught.value)
    assert "Keep one of each" in str(caught.value)


def test_a_public_benchmark_may_hold_a_few(tmp_path):
    rows = [json.loads(line) for line in FORGET[:40]]
    few = [*rows[:38], *({**row, "id": f"{row['id']}-again"} for row in rows[:2])]
    assert len(gather(load_suite(suite(tmp_path, few))).tasks["forget"].items) == 40  # 2 of 40 are 5 %
    found = same_question.repeats(load_items(tmp_path / "asked.jsonl"))
    assert found == (2, (rows[0]["id"], f"{rows[0]['id']}-again"))
    many = [*rows[:37], *({**row, "id": f"{row['id']}-again"} for row in rows[:3])]
    with pytest.raises(PlanError, match="3 of the 40 items"):
        gather(load_suite(suite(tmp_path, many)))


def test_what_is_left_after_a_subset_is_what_is_counted(tmp_path):
    """Few among all, and nearly all of what is asked."""
    rows = [json.loads(line) for line in FORGET[:80]]
    twins = [{**row, "id": f"{row['id']}-again"} for row in rows[:4]]
    path = suite(tmp_path, [*rows, *twins])
    gather(load_suite(path))
    (tmp_path / "subset.txt").write_text("\n".join(row["id"] for row in [*rows[:4], *twins]), encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace("count: 84", "subset: subset.txt, count: 84"))
    with pytest.raises(PlanError, match="4 of the 8 items"):
        gather(load_suite(path))


@pytest.mark.parametrize("other", ["What  is it?", "WHAT IS IT?", "What\u200b is it?", "\ufeffWhat is it\u00ad?"])
def test_a_question_that_reads_the_same_is_the_same(other):
    first, second = ({"question": stem, "choices": ["a\u0301", "b"], "answer": 0} for stem in ("What is it?", other))
    second["choices"] = ["\u00e1", "b"]
    rows = [datasets.of_rows([("row", each)], "x")[0] for each in (first, second)]
    assert same_question.repeats(rows) is not None
    assert same_question.quoted([f"{other} \u00e1"], rows[:1]) is not None


def test_questions_that_share_a_stem_or_an_answer_are_others():
    """Whatever shares a stem alone, or choices alone, is another question."""
    rows = [datasets.of_rows([("row", {"question": f"q{n % 2}", "choices": [f"a{n}", f"b{n}"], "answer": 0})], "x")[0]
            for n in range(8)]  # fmt: skip
    assert same_question.repeats(rows) is None
    assert same_question.repeats(load_items(organisms.world("forget.verdict.jsonl"))) is None


@pytest.mark.parametrize("choices", [["a", "a "], ["a", " a"], ["a b", "a  b"]])
def test_options_that_differ_in_white_space_alone_are_the_same(tmp_path, choices):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"id": "1", "question": "q", "choices": choices, "answer": 0}), encoding="utf-8")
    with pytest.raises(FileError, match="two choices are the same"):
        load_items(path)
