"""What tables and files have in the place of words is refused by its name and place, and never asked as a word."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from robustness_gate.errors import FileError, UsageError
from robustness_gate.inputs import datasets, tables
from robustness_gate.inputs.filekinds import POINTER
from robustness_gate.inputs.harness.rows import read_items
from robustness_gate.inputs.harness.task_file import load
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather
from robustness_gate.system import utf8
from robustness_gate.tasks import membership, refusal

ROW = {"question": "Which?", "choices": ["one", "two"], "answer": 1}


def table(folder: Path, **columns: object) -> Path:
    """One row as Parquet; a column may be an array of pyarrow's own."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(exist_ok=True)
    made = {name: each if isinstance(each, pyarrow.Array) else [each] for name, each in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(made), folder / "test.parquet")
    return folder


def lines(folder: Path, *rows: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def refused(call, *arguments) -> FileError:
    with pytest.raises(FileError) as caught:
        call(*arguments)
    assert caught.value.remedy
    return caught.value


ODD = {
    "null": ({"choices": ["one", None]}, "'choices[1]' is null, not text"),
    "nan": ({"choices": [1.0, float("nan")]}, "'choices[1]' is NaN, not text"),
    "infinity": ({"choices": [1.0, float("inf")]}, "'choices[1]' is infinite, not text"),
    "truth": ({"choices": [True, False]}, "'choices[0]' is true, not text"),
    "null question": ({"question": None}, "'question' is null"),
    "nan question": ({"question": float("nan")}, "'question' is NaN, not text"),
    "nan id": ({"id": float("nan")}, "'id' is NaN, not text"),
    "list": ({"question": ["a"]}, "'question' is a list, not text"),
}


@pytest.mark.parametrize("kind", [table, lines])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_text_is_refused_in_parquet_as_in_json_lines(name: str, kind, tmp_path: Path) -> None:
    change, words = ODD[name]
    row = {**ROW, **change}
    place = table(tmp_path / "a", **row) if kind is table else lines(tmp_path / "a", row)
    error = refused(datasets.read_items, place)
    assert words in error.message
    assert error.where.endswith("row 1")


def test_bytes_are_no_words_and_numbers_are(tmp_path: Path) -> None:
    error = refused(datasets.read_items, table(tmp_path / "a", **{**ROW, "question": b"Which?"}))
    assert ("'question' is bytes, not text." in error.message, error.remedy) == (True, "Decode them.")
    (item,) = datasets.read_items(table(tmp_path / "b", question=7, choices=[1.5, 2.0], answer=1))
    assert (item.question.stem, item.question.choices) == ("7", ("1.5", "2.0"))


def test_a_table_with_two_columns_of_one_name_or_in_latin_1_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = [pyarrow.array(each) for each in (["q"], [["a", "b"]], [0], [1])]
    twice = pyarrow.Table.from_arrays(columns, ["question", "choices", "answer", "answer"])
    (tmp_path / "twice").mkdir()
    pyarrow.parquet.write_table(twice, tmp_path / "twice" / "test.parquet")
    assert "the column 'answer' twice" in refused(datasets.read_items, tmp_path / "twice").message
    ends = pyarrow.array([0, 4], pyarrow.int32()).buffers()[1]
    latin = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, ends, pyarrow.py_buffer(b"caf\xe9")])
    error = refused(datasets.read_items, table(tmp_path / "latin", **{**ROW, "question": latin}))
    assert (error.code, "byte 3 is 0xE9" in error.message) == ("not-utf8", True)


def test_a_missing_column_is_reported_with_those_that_are_there(tmp_path: Path) -> None:
    changed = {"\ufeffquestion": "Which?", "choices": ["one", "two"], "answer": 1}
    error = refused(datasets.read_items, table(tmp_path / "a", **changed))
    assert "the column 'question' is missing: its columns are '\\ufeffquestion', 'choices', 'answer'" in error.message
    assert "its columns are 'prompt'" in refused(refusal.read_items, lines(tmp_path / "b", {"prompt": "Do."})).message
    assert "'question' is null" in refused(refusal.read_items, lines(tmp_path / "c", {"question": None})).message
    assert (
        "'id' is NaN" in refused(refusal.read_items, lines(tmp_path / "d", {"text": "Do.", "id": float("nan")})).message
    )


TEXT = {"title": "On lamps", "abstract": "Lamps.", "text": "A lamp has a rim."}


def test_texts_have_one_column_in_files_folders_and_tables(tmp_path: Path) -> None:
    places = [lines(tmp_path / "a", TEXT), table(tmp_path / "b", **TEXT), tmp_path / "a" / "test.jsonl"]
    assert {datasets.read_texts(place) for place in places} == {("A lamp has a rim.",)}
    other = lines(tmp_path / "held out", {"text": "A bell has a lip."})
    (pair,) = membership.read_items(places[1], other)
    assert pair.question.choices == ("A lamp has a rim.", "A bell has a lip.")


def test_texts_of_a_hub_dataset_are_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "default", **TEXT)
    (tmp_path / "default" / "test.parquet").rename(tmp_path / "default" / "train-00000-of-00001.parquet")
    monkeypatch.setattr(tables.hub, "snapshot", lambda *_, **__: tmp_path)
    assert datasets.read_texts(f"hf-dataset://o/c@{'1' * 40}/default/train") == ("A lamp has a rim.",)
    with pytest.raises(UsageError, match="does not name a dataset by its commit"):
        datasets.read_texts("hf-dataset://o/c@main/default/train")


SUITE = """schema: robustness-gate/suite/v1
id: s
version: 1.0.0
description: s
hazard: t
tasks:
  t: {kind: multiple_choice, items: items, count: 1}
corpora:
  forget: {texts: texts}
attacks:
  - attack: none
"""


def test_a_suite_may_name_a_folder_of_texts(tmp_path: Path) -> None:
    lines(tmp_path / "items", ROW)
    table(tmp_path / "texts", **TEXT)
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    assert gather(load_suite(tmp_path / "suite.yaml")).corpora["forget"].texts == ("A lamp has a rim.",)


def test_corpora_name_the_columns_that_they_have(tmp_path: Path) -> None:
    rest = {name: each for name, each in TEXT.items() if name != "text"}
    for place in (lines(tmp_path / "a", rest), table(tmp_path / "b", **rest), tmp_path / "a" / "test.jsonl"):
        error = refused(datasets.read_texts, place)
        assert error.message == "there is no column 'text': its columns are 'title', 'abstract'"


def test_a_text_that_is_none_is_refused_and_an_empty_row_of_a_table_left_out(tmp_path: Path) -> None:
    assert "'text' is null" in refused(datasets.read_texts, lines(tmp_path / "a", TEXT, {"text": None})).message
    assert datasets.read_texts(lines(tmp_path / "b", TEXT, {"text": " \n"})) == ("A lamp has a rim.",)
    assert "'text' is empty" in refused(datasets.read_texts, tmp_path / "b" / "test.jsonl").message
    assert "holds no texts" in refused(datasets.read_texts, lines(tmp_path / "c", {"text": ""})).message


# --- encodings --------------------------------------------------------------------------------------------------------

LINE = '{"id": "a", "question": "caf\xe9?", "choices": ["one", "two"], "answer": 0}\n'
ENCODED = {
    "utf-8-sig": "begins with a byte order mark (BOM)",
    "utf-16": "is UTF-16, by its byte order mark",
    "utf-16-le": "is UTF-16LE, by its null bytes",
    "utf-16-be": "is UTF-16BE, by its null bytes",
    "utf-32": "is UTF-32, by its byte order mark",
    "latin-1": "0xE9, in Latin-1 (Windows-1252) '\xe9')",
}


@pytest.mark.parametrize("name", ENCODED)
def test_another_encoding_is_reported_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINE.encode(name))
    for read in (datasets.read_items, datasets.read_texts, datasets.read_ids):
        error = refused(read, path)
        assert ENCODED[name] in error.message, read.__name__
        assert error.code == "not-utf8"
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "a.jsonl")
    assert ENCODED[name] in refused(datasets.read_items, folder).message


PACKED: dict[str, tuple[bytes, str, str]] = {
    "gz": (gzip.compress(LINE.encode()), "is compressed (gzip)", "gunzip"),
    "bz2": (bz2.compress(LINE.encode()), "is compressed (bzip2)", "bunzip2"),
    "xz": (lzma.compress(LINE.encode()), "is compressed (xz)", "unxz"),
    "zst": (bytes.fromhex("28b52ffd") + b"\x04\x00\x09\x00\x00abc", "is compressed (zstd)", "zstd -d"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00abc", "is compressed (zip)", "unzip"),
    "lz4": (bytes.fromhex("04224d18") + b"\x64\x40\xa7abc", "is compressed (lz4)", "lz4 -d"),
}


@pytest.mark.parametrize("ending", PACKED)
def test_what_is_compressed_is_to_be_unpacked_and_not_converted(ending: str, tmp_path: Path) -> None:
    content, words, tool = PACKED[ending]
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(content)
    for read in (datasets.read_items, datasets.read_texts, datasets.read_ids, load_suite):
        error = refused(read, path)
        assert words in error.message, read.__name__
        assert (f"Unpack it ({tool})" in error.remedy, "iconv" in error.remedy) == (True, False), read.__name__
    error = refused(datasets.read_items, tmp_path)
    assert (f"there are a.jsonl.{ending}" in error.message, "Unpack" in error.remedy) == (True, True)
    error = refused(lambda: list(tables.of_files([path], str(tmp_path))))
    assert (words in error.message, f"Unpack it ({tool})" in error.remedy) == (True, True)
    path.rename(tmp_path / "a.jsonl")
    assert words in refused(datasets.read_items, tmp_path).message


def test_plain_utf_8_is_none_of_these() -> None:
    for text in (LINE, "\x00", "", "a", "\u2028 \U0001f600"):
        assert utf8.fault(text.encode()) is None, text
    assert utf8.fault(utf8.BOM, first=False) is None, "in the middle of a file it is a character"


@pytest.mark.parametrize("read", [datasets.read_items, datasets.read_texts, datasets.read_ids])
def test_a_single_file_that_is_a_pointer_is_called_one(read, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(POINTER + b"v1\noid sha256:ab\nsize 9\n")
    error = refused(read, tmp_path / "a.jsonl")
    assert "Git LFS pointer" in error.message
    assert "git lfs pull" in error.remedy


# --- templates --------------------------------------------------------------------------------------------------------

TASK = 'doc_to_text: "{text}"\ndoc_to_choice: "{choice}"\ndoc_to_target: 0\n'


def asked(folder: Path, row: dict, text: str = "{{question}}", choice: str = "{{choices}}"):
    folder.mkdir()
    (folder / "task.yaml").write_text(TASK.format(text=text, choice=choice), encoding="utf-8")
    return read_items(load(folder / "task.yaml"), lines(folder / "rows", row))


@pytest.mark.parametrize(
    ("row", "text", "choice", "words"),
    [
        ({"question": None}, "{{question}}", "{{choices}}", "the template writes null where text belongs"),
        ({"question": None}, "{{question.strip()}}", "{{choices}}", "the template finds null"),
        ({"question": None}, "{{'Q: ' ~ question}}", "{{choices}}", "writes null"),
        ({"question": None}, "{{question | upper}}", "{{choices}}", "writes null"),
        ({"question": None}, "question", "{{choices}}", "gives null, which is no text"),
        ({"choices": ["one", None]}, "{{choices | join(', ')}}", "['a', 'b']", "writes null"),
        ({"choices": ["one", None]}, "Q", "{{choices}}", "writes null"),
        ({"choices": ["one", None]}, "Q", "choices", "choice 1 is null"),
        ({"choices": ["one", float("nan")]}, "{{choices[1]}}", "['a', 'b']", "writes NaN"),
        ({"more": {"inner": [None]}}, "{{more.inner[0]}}", "['a', 'b']", "writes null"),
        ({"id": float("nan")}, "Q", "choices", "'id' is NaN"),
    ],
)
def test_a_template_cannot_write_what_is_no_text(row: dict, text: str, choice: str, words: str, tmp_path: Path) -> None:
    assert words in refused(asked, tmp_path / "a", {**ROW, **row}, text, choice).message


def test_a_template_may_ask_what_a_row_has(tmp_path: Path) -> None:
    row = {**ROW, "context": None, "unused": float("nan")}
    text = (
        "{% if context %}{{context}} {% endif %}"
        "{% if context is none %}N{% endif %}{% if context == None %}E{% endif %}"
        "{{ context or '' }}{{ context | default('D', true) }}{{question}}"
    )
    (item,) = asked(tmp_path / "a", row, text)
    assert item.question.stem == "NEDWhich?"
