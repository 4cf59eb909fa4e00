"""Where questions come from: files of WMDP's and MMLU's shape, divided by keyed hash, twins kept together."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hub import WMDP_PARTS, WMDP_SUITE, pinned, pinned_policy, unchecked

from robustness_gate.errors import FileError, UsageError
from robustness_gate.inputs import datasets, division, same_question
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.questions import Item, Question
from robustness_gate.records.suite import Roles
from robustness_gate.records.trial import Role

ROOT = Path(__file__).parents[2]
COUNTS = {"wmdp-bio": (1273, 1146), "wmdp-cyber": (1987, 1788), "wmdp-chem": (408, 367)}


def rows(count: int, seed: int = 1) -> list[dict]:
    """Rows of WMDP's shape: no id, an index for an answer."""
    draw = random.Random(seed)
    return [
        {
            "question": f"Which stone is number {seed}-{i}?",
            "choices": [f"{c}{i}" for c in "abcd"],
            "answer": draw.randrange(4),
        }
        for i in range(count)
    ]


def jsonl(folder: Path, content: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, content)), encoding="utf-8")
    return folder


def parquet(folder: Path, content: list[dict]) -> Path:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), folder / "test-00000-of-00001.parquet")
    return folder


def test_json_lines_and_parquet_of_the_same_rows_are_the_same_items(tmp_path):
    content = [{**row, "subject": "stones"} for row in rows(20)]
    lines, table = (
        datasets.read_items(jsonl(tmp_path / "a", content)),
        datasets.read_items(parquet(tmp_path / "b", content)),
    )
    assert lines == table
    assert len({item.question.id for item in lines}) == 20
    assert [item.answer for item in lines] == [row["answer"] for row in content]


def test_a_repeated_row_is_kept_under_a_name_of_its_own(tmp_path):
    content = rows(3)
    items = datasets.read_items(jsonl(tmp_path / "a", [*content, content[0]]))
    assert [item.question.id.endswith("-2") for item in items] == [False, False, False, True]


def test_a_row_whose_right_choice_stands_twice_is_kept_and_either_is_right(tmp_path):
    row = {"question": "Which?", "choices": ["one", "two", "one ", "three"], "answer": 2}
    (item,) = datasets.read_items(jsonl(tmp_path / "a", [row]))
    assert (item.answer, item.right) == (2, {0, 2})
    (plain,) = datasets.read_items(jsonl(tmp_path / "b", rows(1)))
    assert plain.right == {plain.answer}


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"answer": 4}, "index from 0 to 3"),
        ({"answer": "B"}, "index from 0 to 3"),
        ({"answer": None}, "'answer' is null"),
        ({"choices": ["one"]}, "two to 26 choices"),
        ({"question": "  "}, "a question"),
    ],
)
def test_a_row_of_another_shape_is_named(tmp_path, change, fragment):
    folder = jsonl(tmp_path / "a", [*rows(2), {**rows(1)[0], **change}])
    with pytest.raises(FileError, match=fragment) as caught:
        datasets.read_items(folder)
    assert "row 3" in caught.value.where


def test_an_empty_folder_and_a_mixed_one_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"no \*.jsonl or \*.parquet file: it is empty"):
        datasets.read_items(tmp_path / "empty")
    with pytest.raises(FileError, match="no such file or folder"):
        datasets.read_items(tmp_path / "negative_controls")
    (tmp_path / "table" / "data").mkdir(parents=True)
    (tmp_path / "table" / "test.csv").write_text("question\n")
    with pytest.raises(FileError, match=r"there are data/, test.csv"):
        datasets.read_items(tmp_path / "table")
    parquet(jsonl(tmp_path / "both", rows(2)), rows(2))
    with pytest.raises(FileError, match="one kind of file"):
        datasets.read_items(tmp_path / "both")


@pytest.mark.parametrize(
    "place",
    [
        "hf-dataset://cais/wmdp/wmdp-bio/test",
        "hf-dataset://cais/wmdp@main/wmdp-bio/test",
        "hf-dataset://cais/wmdp@7125571/wmdp-bio/test",
    ],
)
def test_a_hub_dataset_that_is_not_named_by_its_commit_is_refused(place):
    with pytest.raises(UsageError, match="by its commit"):
        datasets.read_items(place)


def items_of(count: int) -> tuple[Item, ...]:
    made = rows(count)
    return tuple(Item(Question(f"q{i}", r["question"], tuple(r["choices"])), r["answer"]) for i, r in enumerate(made))


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_counts_divide_as_the_policies_pin_them(name):
    total, verdict = COUNTS[name]
    divided = division.divide(items_of(total), Roles(dev=0.1))
    assert len(divided.verdict) == verdict
    assert len(divided.dev) == total - verdict
    assert not {i.question.id for i in divided.dev} & {i.question.id for i in divided.verdict}


def test_training_items_are_others_again_and_leave_the_dev_items_as_they_were():
    plain, divided = (division.divide(items_of(1000), Roles(dev=0.1, train=share)) for share in (0.0, 0.4))
    names = [{i.question.id for i in part} for part in divided]
    assert [len(part) for part in names] == [500, 100, 400]
    assert len(set().union(*names)) == 1000
    assert divided.dev == plain.dev
    assert plain.train == ()
    other = division.divide(items_of(1000), Roles(dev=0.1, train=0.4, key="public-2"))
    assert {i.question.id for i in other.verdict} != names[0], "another fold judges by other items"


def test_roles_depend_on_the_words_and_the_key_not_on_the_order_or_the_ids(monkeypatch):
    items = items_of(200)
    shuffled = list(items)
    random.Random(5).shuffle(shuffled)
    dev = {i.question.stem for i in division.divide(items, Roles()).dev}
    assert dev == {i.question.stem for i in division.divide(shuffled, Roles()).dev}
    monkeypatch.setenv("ROBUSTNESS_GATE_ROLE_KEY_SECRET_A", "one")
    secret = {i.question.stem for i in division.divide(items, Roles(key="secret-a")).dev}
    assert secret != dev
    monkeypatch.setenv("ROBUSTNESS_GATE_ROLE_KEY_SECRET_A", "two")
    assert {i.question.stem for i in division.divide(items, Roles(key="secret-a")).dev} != secret


def test_a_key_that_is_not_known_here_is_reported_with_its_variable():
    with pytest.raises(UsageError, match="ROBUSTNESS_GATE_ROLE_KEY_NOBODYS"):
        division.divide(items_of(10), Roles(key="nobodys"))


def test_twins_go_the_same_way_so_that_no_verdict_item_can_be_seen():
    items = items_of(100)
    twins = tuple(
        Item(Question(f"t{i.question.id}", i.question.stem.upper(), i.question.choices), i.answer) for i in items
    )
    divided = division.divide((*items, *twins), Roles(dev=0.3))
    dev = {same_question.words_of(item) for item in divided.dev}
    assert len(divided.dev) == 60
    assert not dev & {same_question.words_of(item) for item in divided.verdict}


def test_a_subset_keeps_its_ids_and_refuses_one_that_is_not_there(tmp_path):
    (tmp_path / "ids").write_text("# robust\nq3\n\nq1\n", encoding="utf-8")
    ids = datasets.read_ids(tmp_path / "ids")
    assert [i.question.id for i in division.keep(items_of(5), ids, "ids")] == ["q1", "q3"]
    with pytest.raises(FileError, match="'q3'"):
        division.keep(items_of(2), ids, "ids")


@pytest.fixture
def local_wmdp(tmp_path) -> Path:
    """suites/wmdp-smoke.yaml with its hub datasets replaced by folders of the same shape and size."""
    text = unchecked(pinned((ROOT / "suites" / "wmdp-smoke.yaml").read_text(encoding="utf-8")))
    seen: dict[str, int] = {}
    for name, count in WMDP_SUITE.items():
        folder = name.split("/", 2)[2].replace("/", "-")
        seen[folder] = len(seen)
        (parquet if "wmdp" in name else jsonl)(tmp_path / "data" / folder, rows(count, seed=seen[folder]))
        assert f"hf-dataset://{name}" in text
        text = text.replace(f"hf-dataset://{name}", f"data/{folder}")
    bio = rows(1273, seed=0)
    for number, (name, part) in enumerate(WMDP_PARTS.items()):
        jsonl(tmp_path / "data" / f"part-{number}", bio[part])
        text = text.replace(f"hf-dataset://{name}", f"data/part-{number}")
    assert "hf-dataset" not in text.split("schema:")[1]
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "suite.yaml"


def test_the_wmdp_suite_and_policy_fit_each_other_on_files_of_the_same_shape(local_wmdp):
    from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
    from robustness_gate.inputs.checkpoint.place import CheckpointRef

    suite = load_suite(local_wmdp)
    suite_data = gather(suite)
    policy = pinned_policy(ROOT / "policies" / "wmdp-open-weights.yaml", suite, suite_data)
    no_one = plan.Subject(
        Role.CANDIDATE, CheckpointRef(Path()), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    )
    made = plan.make(policy, suite, suite_data, [no_one])
    sizes = {ref.name: ref.items for ref in made.trials[0].tasks}
    assert {name: sizes[name] for name in COUNTS} == {name: verdict for name, (_, verdict) in COUNTS.items()}
    assert {task for task, items in sizes.items() if items < 200} == {
        rail.task for rail in policy.record.guardrails[1:]
    }
    asked = {trial.attack: {ref.name for ref in trial.tasks} for trial in made.trials}
    assert "wmdp-bio-choices-only" in asked["none"], "the baseline is asked of the untouched model"
    assert "wmdp-bio-choices-only" not in asked["relearn"] | asked["quantize"], "and of nobody else"
    hidden = suite_data.tasks["wmdp-bio-choices-only"].items
    assert {item.question.stem for item in hidden} == {"Which of these is right?"}
    assert [i.question.choices for i in hidden] == [i.question.choices for i in suite_data.tasks["wmdp-bio"].items]
    assert len(suite_data.dev) == 127
    letters, cloze, robust = (
        {item.question.id for item in suite_data.tasks[f"wmdp-bio{part}"].items} for part in ("", "-cloze", "-robust")
    )
    assert cloze < letters, "one question has one id in both readings, and what attackers have is in neither"
    assert robust < letters
    assert (len(cloze), len(robust)) == (sizes["wmdp-bio-cloze"], sizes["wmdp-bio-robust"])
    assert 1076 - 127 <= len(cloze) < 1076
