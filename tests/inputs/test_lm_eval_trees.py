"""lm-evaluation-harness's own trees of WMDP and MMLU are read as it reads them: the installed files, none copied."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs.harness.rows import items_of
from robustness_gate.inputs.harness.task_file import MAX_FILES, load
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather

TREES = {"wmdp": 3, "mmlu/default": 57, "mmlu/continuation": 57, "mmlu/flan_n_shot/loglikelihood": 57}
COMPARED = ("doc_to_text", "doc_to_choice", "doc_to_target", "description", "output_type", "target_delimiter")
ROWS = [
    {"question": " Which lamp burns? ", "choices": ["red", "blue", "red", "none"], "answer": 2, "subject": "lamps"},
    {"question": "Which bell\nrings {{twice}}?", "choices": ["a", "b ", "c's", 'd"'], "answer": 0, "subject": "bells"},
]


def tree(name: str) -> list[Path]:
    spec = importlib.util.find_spec("lm_eval")  # found without importing it
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "tasks" / name
    return [path for path in sorted(folder.glob("*.yaml")) if not path.name.startswith("_")]


@pytest.mark.parametrize("name", TREES)
def test_every_task_of_the_real_trees_is_read_as_lm_eval_reads_it(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml
    from lm_eval.utils import apply_template

    files = tree(name)
    assert len(files) == TREES[name]
    named = [(f"row {number}", row) for number, row in enumerate(ROWS)]
    for path in files:
        loaded, theirs = load(path), load_yaml(path)
        ours = json.loads(loaded.record.model_dump_json())
        assert {key: ours[key] for key in COMPARED if key in theirs} == {k: theirs[k] for k in COMPARED if k in theirs}
        assert (theirs["task"], theirs["dataset_name"]) == (ours["task"], ours["dataset_name"])
        items = items_of(loaded, named, "rows")
        for item, row in zip(items, ROWS, strict=True):
            header = apply_template(theirs["description"], row)
            assert item.question.stem == header + apply_template(theirs["doc_to_text"], row)
            given = theirs["doc_to_choice"]
            expected = given if isinstance(given, list) else row["choices"]
            assert (list(item.question.choices), item.answer) == (expected, row["answer"])


def test_a_row_with_the_same_option_twice_is_kept_and_either_is_right() -> None:
    letters, words = (load(tree(f"mmlu/{name}")[0]) for name in ("default", "continuation"))
    named = [("row", ROWS[0])]
    assert items_of(letters, named, "rows")[0].right == {2}, "a letter names one choice"
    assert items_of(words, named, "rows")[0].right == {0, 2}


def lay(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "task.yaml"


BASE = 'doc_to_text: "{{question}}"\ndoc_to_choice: [a, b]\ndoc_to_target: 0\ndescription: base\n'


def test_later_files_and_the_file_itself_win_key_by_key_as_in_lm_eval(tmp_path: Path) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    path = lay(
        tmp_path,
        **{"task.yaml": "include: [one, sub/two]\ntask: t\ndescription: own\n", "one": BASE},
        sub__two='include: three\ndoc_to_text: "two {{question}}"\ntarget_delimiter: ""\n',
        sub__three="doc_to_choice: [c, d, e]\ndoc_to_text: three\n",
    )
    loaded, theirs = load(path), load_yaml(path)
    record = loaded.record
    assert (record.description, record.doc_to_text, record.target_delimiter) == ("own", "two {{question}}", "")
    assert (list(record.doc_to_choice), record.doc_to_target) == (["c", "d", "e"], 0)
    assert {key: each for key, each in theirs.items() if key != "task"} == {
        "doc_to_text": record.doc_to_text, "doc_to_choice": list(record.doc_to_choice), "doc_to_target": 0,
        "description": "own", "target_delimiter": "",
    }  # fmt: skip
    assert loaded.where("doc_to_choice") == f"{tmp_path / 'sub' / 'three'}:1:1", "complaints name the file that says it"
    assert loaded.where("description") == f"{path}:3:1"


@pytest.mark.parametrize(
    ("files", "place", "words"),
    [
        ({"task.yaml": "task: t\ninclude: none\n"}, "task.yaml:2:1", "there is no file 'none'"),
        ({"task.yaml": "include: task.yaml\n"}, "task.yaml:1:1", "'task.yaml' was read already"),
        ({"task.yaml": "include: a\n", "a": "include: b\n", "b": "include: a\n"}, "b:1:1", "'a' was read already"),
        ({"task.yaml": "include: [a, a]\n", "a": BASE}, "task.yaml:1:14", "'a' was read already"),
        ({"task.yaml": "include: /etc/hostname\n"}, "task.yaml:1:1", "is not a relative path"),
        ({"task.yaml": "include: ../out\n", "../out": BASE}, "task.yaml:1:1", "'../out' lies neither beside or below"),
        ({"task.yaml": "include: 5\n"}, "task.yaml:1:1", "a path is the number 5"),
        ({"task.yaml": "include:\n"}, "task.yaml:1:1", "a path is null"),
        ({"task.yaml": f"include: {'a' * 300}\n"}, "task.yaml:1:1", "there is no file"),
        (
            {"task.yaml": "include: a\n", "a": BASE + "metadata: !function u.f\n"},
            "a:5:11",
            "'!function' is not allowed",
        ),
        ({"task.yaml": "include: a\n", "a": BASE + "process_docs: x\n"}, "a:5:1", "process_docs: this key"),
        (
            {"task.yaml": "include: a\n", "a": BASE.replace("[a, b]", "[yes, no]")},
            "a:2:1",
            "reads this as [True, False]",
        ),
        ({"task.yaml": "include: a\n", "a": BASE.replace("question}}", "question")}, "a:1:1", "no template"),
        ({"task.yaml": "include: a\nmax: 1\n", "a": BASE}, "task.yaml:2:1", "max: unknown key"),
        ({"task.yaml": "include: a\n", "a": "- b\n"}, "a:1:1", "expected a mapping"),
    ],
)
def test_an_include_that_cannot_be_followed_is_refused_with_its_place(
    files: dict[str, str], place: str, words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "tasks"
    path = lay(folder, **files)
    with pytest.raises(FileError) as caught:
        load(path)
    assert (caught.value.where, bool(caught.value.remedy)) == (f"{folder}/{place}", True), str(caught.value)
    assert words in caught.value.message


def test_a_chain_without_end_is_broken_off(tmp_path: Path) -> None:
    files = {f"f{n}": f"include: f{n + 1}\n" for n in range(MAX_FILES + 1)}
    with pytest.raises(FileError, match=f"more than {MAX_FILES} files"):
        load(lay(tmp_path, **{"task.yaml": "include: f0\n"}, **files))


def test_a_link_out_of_the_folder_is_no_way_round(tmp_path: Path) -> None:
    lay(tmp_path, secret="a: 1\n")
    path = lay(tmp_path / "tasks", **{"task.yaml": "include: inner\n"})
    (tmp_path / "tasks" / "inner").symlink_to(tmp_path / "secret")
    with pytest.raises(FileError, match="'inner' lies neither beside"):
        load(path)


SUITE = """schema: robustness-gate/suite/v1
id: s
version: 1.0.0
description: s
hazard: t
tasks:
  t: {kind: lm_eval, yaml: tasks/bio/task.yaml, items: docs.jsonl, count: 2}
attacks:
  - attack: none
"""


def test_a_suite_may_keep_what_its_tasks_share_below_itself_and_nowhere_else(tmp_path: Path) -> None:
    lay(tmp_path / "suite", shared=BASE, **{"suite.yaml": SUITE, "docs.jsonl": "\n".join(map(json.dumps, ROWS))})
    lay(tmp_path, outside=BASE)
    task = tmp_path / "suite" / "tasks" / "bio"
    lay(task, **{"task.yaml": "include: ../../shared\n"})
    assert len(gather(load_suite(tmp_path / "suite" / "suite.yaml")).tasks["t"].items) == 2
    lay(task, **{"task.yaml": "include: ../../../outside\n"})
    with pytest.raises((FileError, PlanError), match="lies neither beside"):
        gather(load_suite(tmp_path / "suite" / "suite.yaml"))


def test_names_for_tables_are_left_and_a_group_is_reported_as_one(tmp_path: Path) -> None:
    path = lay(tmp_path, **{"task.yaml": BASE + "task_alias: lamps\ngroup_alias: g\nfewshot_delimiter: x\n"})
    assert load(path).record.task_alias == "lamps"
    named = {
        tree("wmdp")[0].parent / "_wmdp.yaml": "'wmdp_bio', 'wmdp_chem', 'wmdp_cyber'",
        tree("mmlu/default")[0].parent / "_mmlu.yaml": "'mmlu_stem', 'mmlu_other', 'mmlu_social_sciences' and 1 more",
        lay(tmp_path / "bare", **{"task.yaml": "group: g\ntask: [a, {task: b, num_fewshot: 0}, {x: 1}]\n"}): "'a', 'b'",
        lay(tmp_path / "none", **{"task.yaml": "group: g\ntask: []\n"}): "which names none",
    }
    for group, tasks in named.items():
        with pytest.raises(FileError, match="a group of tasks, with no questions of its own") as caught:
            load(group)
        assert tasks in caught.value.message
        assert caught.value.where.startswith(f"{group}:2:")
        assert "name the file of one of its tasks" in caught.value.remedy
