"""Task files of lm-evaluation-harness: what is read, what is refused and where, and what a template may not do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustness_gate import tasks
from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs.harness.rows import read_items
from robustness_gate.inputs.harness.task_file import load
from robustness_gate.inputs.prompts import answers, render
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Form, shipped_kind
from robustness_gate.tasks import lm_eval

TASK = {
    "task": "t",
    "doc_to_text": "{{stem.strip()}}\nAnswer:",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": "label",
}
ROWS = [{"stem": f" Is {n} even? ", "label": n % 2, "options": ["yes", "no"]} for n in range(10)]


def task_file(folder: Path, **changes) -> Path:
    """One key a line, in JSON's words, which are YAML's too; None takes a key out."""
    kept = {key: value for key, value in {**TASK, **changes}.items() if value is not None}
    path = folder / "task.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in kept.items()), encoding="utf-8")
    return path


def docs(folder: Path, rows=ROWS) -> Path:
    path = folder / "docs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def items(folder: Path, rows=ROWS, **changes):
    loaded = load(task_file(folder, **changes))
    return read_items(loaded, docs(folder, rows))


def test_a_row_becomes_a_question_in_the_tasks_words(tmp_path):
    found = items(tmp_path, description="Numbers.\n\n")
    assert [item.answer for item in found] == [n % 2 for n in range(10)]
    assert found[3].question.stem == "Numbers.\n\nIs 3 even?\nAnswer:"
    assert len({item.question.id for item in found}) == 10
    form = lm_eval.form(load(task_file(tmp_path, target_delimiter="\n")))
    assert render(found[3].question, form) == found[3].question.stem
    assert answers(found[3].question, form) == ["\nyes", "\nno"]


@pytest.mark.parametrize("choices", [["yes", "no"], "options", "{{options}}", "['{{options[0]}}', 'no']"])
@pytest.mark.parametrize("target", ["label", "{{label}}", "{{options[label]}}", 0])
def test_choices_and_target_in_all_their_spellings(tmp_path, choices, target):
    found = items(tmp_path, doc_to_choice=choices, doc_to_target=target)
    assert {item.question.choices for item in found} == {("yes", "no")}
    assert [item.answer for item in found] == [0 if target == 0 else n % 2 for n in range(10)]


def test_a_column_may_be_the_text_and_ids_are_kept(tmp_path):
    found = items(tmp_path, [{**row, "id": n} for n, row in enumerate(ROWS)], doc_to_text="stem")
    assert (found[0].question.id, found[0].question.stem) == ("0", " Is 0 even? ")


def test_what_lm_eval_alone_needs_is_ignored(tmp_path):
    ignored = {"dataset_path": "x", "metric_list": [{"metric": "acc"}], "metadata": {"version": 1}, "num_fewshot": 0}
    assert items(tmp_path, **ignored, tag=["a"], fewshot_split="dev", dataset_kwargs={}) == items(tmp_path)


@pytest.mark.parametrize(
    ("changes", "place", "fragment"),
    [
        ({"use_prompt": "x", "doc_to_text": None}, "4:1", "use_prompt: this key is not supported"),
        ({"task": ["a"], "aggregate_metric_list": []}, "1:1", "This file is a group"),
        ({"aggregate_metric_list": []}, "5:1", "This file is a group"),
        ({"doc_to_choice": [1, 2, "c", 4]}, "3:17", "doc_to_choice.0: expected text, found 1. Put each element of"),
        (
            {"doc_to_text": ["a"], "doc_to_choice": [1]},
            "2:1",
            "doc_to_text: expected text, found a list. Write one text",
        ),
        ({"doc_to_choice": ["a", None]}, "3:22", "doc_to_choice.1: expected text, found null. Write the text"),
        ({"process_docs": "f"}, "5:1", "Write the rows out"),
        ({"doc_to_decontamination_query": "stem"}, "5:1", "Take it out"),
        ({"doc_to_txt": "stem"}, "5:1", "Did you mean 'doc_to_text'"),
        ({"num_fewshot": 5}, "5:1", "num_fewshot"),
        ({"output_type": "generate_until"}, "5:1", "multiple_choice"),
        ({"doc_to_choice": None}, "1:1", "'doc_to_choice' is missing"),
        ({"doc_to_text": "{{stem"}, "2:1", "no template"),
    ],
)
def test_a_task_file_that_is_none_is_refused_with_its_place(tmp_path, changes, place, fragment):
    path = task_file(tmp_path, **changes)
    with pytest.raises(FileError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert fragment in str(caught.value)


def test_code_and_words_that_mean_something_else_to_lm_eval_are_refused(tmp_path):
    path = task_file(tmp_path)
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "metadata: !function utils.f\n", encoding="utf-8")
    with pytest.raises(FileError, match=r":5:11: the tag '!function' is not allowed"):
        load(path)
    path.write_text(text.replace('["yes", "no"]', "[yes, no]"), encoding="utf-8")
    with pytest.raises(FileError, match=r":3:1: doc_to_choice: .*\[True, False\].* quotes"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "line", "fragment"),
    [
        ({"doc_to_text": "{{''.__class__.__mro__}}"}, 2, "unsafe"),
        ({"doc_to_text": "{{options.append('x')}}"}, 2, "unsafe"),
        ({"doc_to_text": "{{nobody}}"}, 2, "'nobody' is undefined"),
        ({"doc_to_text": "{{1 // 0}}"}, 2, "the template fails"),
        ({"doc_to_text": "{{stem | regex_replace('(', '')}}"}, 2, "the template fails"),
        ({"doc_to_text": " "}, 2, "renders to nothing"),
        ({"doc_to_text": "label"}, 2, "no text"),
        ({"doc_to_text": "{{label}}"}, 2, "number"),
        ({"doc_to_choice": "{{stem}}"}, 3, "no list"),
        ({"doc_to_choice": "[1, 2]"}, 3, "no list of texts"),
        ({"doc_to_choice": ["a", "a "]}, 3, "two different choices"),
        ({"doc_to_choice": ["a", ""]}, 3, "none of them empty"),
        ({"doc_to_target": "maybe"}, 4, "'maybe'"),
        ({"doc_to_target": 2}, 4, "2"),
    ],
)
def test_a_row_that_makes_no_question_is_named_with_the_template(tmp_path, changes, line, fragment):
    with pytest.raises(FileError) as caught:
        items(tmp_path, **changes)
    assert str(caught.value).startswith(f"{tmp_path / 'task.yaml'}:{line}:1: ")
    assert f"{tmp_path / 'docs.jsonl'}:1" in str(caught.value)
    assert fragment in str(caught.value)


def test_rows_with_another_number_of_choices_are_refused(tmp_path):
    rows = [*ROWS, {"stem": "?", "label": 0, "options": ["a", "b", "c"]}]
    with pytest.raises(FileError, match=r"docs.jsonl:11 has another number of choices"):
        items(tmp_path, rows, doc_to_choice="options")


SUITE = """schema: robustness-gate/suite/v1
id: s
version: 1.0.0
description: s
hazard: t
tasks:
  t:
    kind: lm_eval
    yaml: task.yaml
    items: docs.jsonl
    count: 10
attacks:
  - attack: none
"""


def gathered(folder: Path, text: str = SUITE, **changes):
    task_file(folder, **changes)
    docs(folder)
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return gather(load_suite(folder / "suite.yaml"))


def test_the_digest_covers_words_and_delimiter(tmp_path):
    found = {
        json.dumps(changes): gathered(tmp_path, **changes).task_refs("none")[0].sha256
        for changes in (
            {},
            {"metadata": {"version": 2}},
            {"target_delimiter": ""},
            {"description": "Hm. "},
            {"doc_to_choice": ["Yes", "No"]},
        )
    }
    assert len(set(found.values())) == 4
    assert found["{}"] == found['{"metadata": {"version": 2}}']


def test_roles_and_subset_work_on_the_rendered_questions(tmp_path):
    roles = SUITE.replace("    count: 10\n", "    count: 10\n    roles: {dev: 0.3, key: public}\n")
    suite_data = gathered(tmp_path, roles)
    assert (len(suite_data.dev), len(suite_data.tasks["t"].items)) == (3, 7)
    ids = [item.question.id for item in suite_data.tasks["t"].items[:2]]
    (tmp_path / "ids.txt").write_text("\n".join(ids), encoding="utf-8")
    few = gathered(tmp_path, SUITE.replace("    count: 10\n", "    count: 10\n    subset: ids.txt\n"))
    assert [item.question.id for item in few.tasks["t"].items] == ids


@pytest.mark.parametrize(
    ("old", "new", "line", "fragment"),
    [
        ("    yaml: task.yaml\n", "", 8, "needs 'yaml'"),
        ("task.yaml", "none.yaml", 9, "no file 'none.yaml'"),
        ("kind: lm_eval", "kind: multiple_choice", 9, "name a kind that has it: lm_eval"),
        ("    count: 10\n", "    count: 10\n    hide_question: true\n", 12, "'hide_question' does not go"),
        ("    count: 10\n", "    count: 10\n    topic: biology\n", 12, "name a kind that has it: multiple_choice"),
        ("    count: 10\n", "    count: 10\n    formats: [raw, chat]\n", 12, "multiple_choice, open_answer, refusal"),
    ],
)
def test_a_suite_that_does_not_fit_the_kind_is_refused_with_its_place(tmp_path, old, new, line, fragment):
    with pytest.raises(PlanError) as caught:
        gathered(tmp_path, SUITE.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'suite.yaml'}:{line}:")
    assert fragment in str(caught.value)


def test_a_question_that_stands_inside_a_prompt_is_a_leak(tmp_path):
    seen = {"id": "other", "question": "Is 4 even?", "choices": ["yes", "never"], "answer": 0}
    (tmp_path / "corpus.jsonl").write_text(json.dumps(seen), encoding="utf-8")
    with pytest.raises(PlanError, match=r"is also in 'corpora.forget'"):
        gathered(tmp_path, SUITE + "corpora:\n  forget: {items: corpus.jsonl}\n")


def test_every_kind_has_its_module():
    assert {name: tasks.load(name).JUDGED for name in tasks.names()} == {
        name: shipped_kind(name) for name in tasks.names()
    }
    assert not Form().verbatim
