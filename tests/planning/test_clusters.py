"""Ids and clusters that a suite gives to a task's questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from robustness_gate.errors import FileError, GateError, PlanError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import SuiteData, gather

QUESTIONS = [
    {"nr": n, "paper": f"p{n // 3}", "question": f"Which stone is {n}?", "choices": [f"a{n}", f"b{n}"], "answer": n % 2}
    for n in range(12)
]
BARE = [{"id": str(each["nr"]), **{k: each[k] for k in ("question", "choices", "answer")}} for each in QUESTIONS]


def suite(folder: Path, rows: list[dict], **keys: object) -> Path:
    (folder / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = {"items": "asked.jsonl", "count": len(rows), **keys}
    made = {
        "schema": "robustness-gate/suite/v1", "id": "x", "version": "1.0.0", "description": "x", "hazard": "stones",
        "tasks": {"stones": task}, "attacks": [{"attack": "none"}],
    }  # fmt: skip
    (folder / "suite.yaml").write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    return folder / "suite.yaml"


def gathered(folder: Path, rows: list[dict], **keys: object) -> SuiteData:
    return gather(load_suite(suite(folder, rows, **keys)))


def refused(folder: Path, rows: list[dict], **keys: object) -> GateError:
    with pytest.raises((PlanError, FileError)) as caught:
        gathered(folder, rows, **keys)
    assert caught.value.where, "an error without a place"
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("kind", ["multiple_choice", "cloze", "open_answer", "refusal"])
def test_ids_and_clusters_come_from_columns(tmp_path, kind):
    found = gather_beside(tmp_path, kind, id="nr", clusters={"column": "paper"})
    assert [item.question.id for item in found] == [str(n) for n in range(12)]
    assert [item.cluster for item in found] == [f"p{n // 3}" for n in range(12)]


def gather_beside(folder: Path, kind: str, **keys: object):
    """The items of a task of any kind beside a hazard that any kind can stand beside."""
    path = suite(folder, QUESTIONS, kind=kind, **keys)
    made = yaml.safe_load(path.read_text())
    (folder / "hazard.jsonl").write_text(json.dumps({**BARE[0], "id": "h", "question": "Else?"}), encoding="utf-8")
    made["tasks"]["hazard"] = {"items": "hazard.jsonl", "count": 1}
    made["hazard"] = "hazard"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return gather(load_suite(path)).tasks["stones"].items


@pytest.mark.parametrize("lines", ["csv", "jsonl"])
def test_clusters_come_from_a_map_that_may_name_more(tmp_path, lines):
    of = {**{str(n): f"p{n // 3}" for n in range(12)}, "another": "p9"}
    text = "id,cluster\n" + "".join(f'{id_},"{each}"\n' for id_, each in of.items())
    if lines == "jsonl":
        text = "\n".join(json.dumps({"id": id_, "cluster": each}) for id_, each in of.items())
    (tmp_path / f"map.{lines}").write_text(text, encoding="utf-8")
    found = gathered(tmp_path, BARE, clusters={"map": f"map.{lines}"}).tasks["stones"].items
    assert [item.cluster for item in found] == [f"p{n // 3}" for n in range(12)]


def test_without_them_ids_and_digests_are_what_they_were(tmp_path):
    plain = gathered(tmp_path, BARE)
    assert {item.cluster for item in plain.tasks["stones"].items} == {""}
    # computed by the release before ids and clusters could be given
    assert plain.refs["stones"].sha256 == "53de6da8b29f382c67cb0c401cdc263bb320832bfc8d8f96ec8cf658d2752f77"
    same = gathered(tmp_path, QUESTIONS, id="nr", clusters={"column": "paper"})
    assert same.refs["stones"].sha256 != plain.refs["stones"].sha256, "a cluster is part of what is pinned"
    other = [{**row, "paper": f"q{row['nr'] // 4}"} for row in QUESTIONS]
    also = gathered(tmp_path, other, id="nr", clusters={"column": "paper"})
    assert also.refs["stones"].sha256 not in {same.refs["stones"].sha256, plain.refs["stones"].sha256}


def test_two_readings_of_one_question_have_one_id(tmp_path):
    path = suite(tmp_path, QUESTIONS, id="nr", clusters={"column": "paper"})
    made = yaml.safe_load(path.read_text())
    made["tasks"]["cloze"] = {**made["tasks"]["stones"], "kind": "cloze"}
    path.write_text(json.dumps(made), encoding="utf-8")
    found = gather(load_suite(path)).tasks
    assert [each.question.id for each in found["stones"].items] == [each.question.id for each in found["cloze"].items]
    assert [each.cluster for each in found["stones"].items] == [each.cluster for each in found["cloze"].items]


WRONG_ROWS = {
    "no such column": ({"clusters": {"column": "article"}}, {}, "there is no column 'article'"),
    "one empty": ({"clusters": {"column": "paper"}}, {"paper": " "}, "'paper' is empty"),
    "one null": ({"clusters": {"column": "paper"}}, {"paper": None}, "'paper' is null"),
    "a share": ({"clusters": {"column": "paper"}}, {"paper": 0.5}, "'paper' is the number 0.5"),
    "no such id": ({"id": "key", "clusters": {"column": "nr"}}, {}, "there is no column 'key'"),
    "an id twice": ({"id": "nr", "clusters": {"column": "paper"}}, {"nr": 3}, "'3' was used before"),
}


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_a_row_without_its_label_is_refused_with_its_place(tmp_path, case):
    keys, change, words = WRONG_ROWS[case]
    rows = [{**row, **(change if row["nr"] == 7 else {})} for row in QUESTIONS]
    if "id" not in keys:
        rows = [
            {"id" if name == "nr" else name: str(row[name]) if name == "nr" else row[name] for name in row}
            for row in rows
        ]
    error = refused(tmp_path, rows, **keys)
    assert words in error.message
    assert "asked.jsonl:" in error.where


def test_ids_of_a_folder_stand_once_too(tmp_path):
    """There a repeated row is otherwise allowed, and gets an id of its own."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("\n".join(map(json.dumps, [*QUESTIONS, QUESTIONS[3]])), encoding="utf-8")
    error = refused(tmp_path, QUESTIONS, items="rows", count=13, id="nr")
    assert error.code == "bad-ids"
    assert "'3' stands twice" in error.message
    assert "row 4" in error.message
    assert "row 13" in error.message
    assert error.where.startswith(str(tmp_path / "suite.yaml"))


def test_a_map_that_lacks_an_item_or_says_two_things_is_refused(tmp_path):
    (tmp_path / "map.csv").write_text("id,cluster\n" + "".join(f"{n},p\n" for n in range(11)), encoding="utf-8")
    error = refused(tmp_path, BARE, clusters={"map": "map.csv"})
    assert (error.code, "'11'" in error.message) == ("bad-clusters", True)
    for text, words in (
        ("id,cluster\n1,a\n1,b\n", "'1' stands twice"),
        ("id,cluster\n1,\n", "empty"),
        ("id,cluster\n1\n", "another number of fields"),
        ("id,paper\n1,a\n", "no column 'cluster'"),
        ("id,cluster\n", "holds no clusters"),
        (b"id,cluster\n1,\xff\n", "UTF-8"),
    ):
        raw = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "map.csv").write_bytes(raw)
        error = refused(tmp_path, BARE, clusters={"map": "map.csv"})
        assert words in str(error)
        assert "map.csv" in error.where
    assert refused(tmp_path, BARE, clusters={"map": "none.csv"}).code == "missing-file"
    assert refused(tmp_path, BARE, clusters={"map": "."}).code == "missing-file"


def test_clusters_are_blocks_of_rows(tmp_path):
    found = gathered(tmp_path, BARE, clusters={"every": 4}).tasks["stones"].items
    assert [item.cluster for item in found] == [f"block-{n // 4}" for n in range(12)]
    error = refused(tmp_path, BARE, clusters={"every": 5})
    assert (error.code, "12 items are no multiple of 5" in error.message) == ("bad-clusters", True)


@pytest.mark.parametrize("keys", [{}, {"column": "paper", "map": "map.csv"}, {"column": "paper", "every": 4}])
def test_clusters_come_from_one_place(tmp_path, keys):
    with pytest.raises(FileError, match="one of the three"):
        load_suite(suite(tmp_path, QUESTIONS, clusters=keys))


def test_a_cluster_is_on_one_side_of_the_division(tmp_path):
    """Attackers who train on a person's other questions could otherwise bring back what is judged."""
    rows = [
        {**row, "question": f"{row['question']} {turn}", "nr": 100 * turn + row["nr"]}
        for turn in range(5)
        for row in QUESTIONS
    ]
    roles = {"dev": 0.25, "train": 0.25}
    data = gathered(tmp_path, rows, id="nr", clusters={"column": "paper"}, roles=roles)
    judged = {item.cluster for item in data.tasks["stones"].items}
    dev = {item.cluster for item in data.dev}
    assert (len(data.dev), len(data.tasks["stones"].items)) == (15, 30)
    assert len(judged) == 2
    assert not judged & dev


def test_the_same_question_in_two_clusters_keeps_them_together(tmp_path):
    rows = [{**row, "paper": f"p{row['nr']}"} for row in QUESTIONS]
    for n in (0, 2, 4):  # p0 with p1, p2 with p3, p4 with p5
        rows[n + 1] = {**rows[n], "nr": n + 1, "paper": f"p{n + 1}"}
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    from robustness_gate.inputs import division
    from robustness_gate.records.questions import Item, Question
    from robustness_gate.records.suite import Roles

    items = [Item(Question(str(r["nr"]), r["question"], tuple(r["choices"])), r["answer"], r["paper"]) for r in rows]
    for key in ("public", "public-2", "public-3"):
        verdict, dev, train = division.divide(items, Roles(dev=0.25, train=0.25, key=key))
        sides = [{item.question.stem for item in side} for side in (verdict, dev, train)]
        assert sum(map(len, sides)) == len({item.question.stem for item in items})
        assert dev
