"""What a suite may name by mistake in the place of JSON lines, and numbers in them: told as what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from robustness_gate.errors import FileError
from robustness_gate.inputs import datasets

ROW = {"id": "1", "question": "How many?", "choices": ["1", "2.5", "3", "4"], "answer": 0}


def parquet(folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    folder.mkdir()
    rows = [{"question": ROW["question"], "choices": ROW["choices"], "answer": 0, "text": "One."}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "one.parquet")
    return folder / "one.parquet"


@pytest.mark.parametrize(
    "read", [datasets.read_items, datasets.read_texts, lambda place: list(datasets.read_rows(place))]
)
def test_a_parquet_file_goes_by_its_folder(tmp_path, read):
    path = parquet(tmp_path / "folder")
    with pytest.raises(FileError, match="is a Parquet file, not JSON lines") as caught:
        read(path)
    assert caught.value.remedy.startswith("Name the folder in which it lies")
    assert len(read(path.parent)) == 1


@pytest.mark.parametrize("read", [datasets.read_items, datasets.read_texts])
def test_a_pipe_or_a_device_is_called_so(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(FileError, match="is a pipe or a device") as caught:
            read(place)
        assert caught.value.remedy.startswith("Write the rows into a file")
    with pytest.raises(FileError, match="there is no such file or folder"):
        read(tmp_path / "nothing")


def test_a_subset_is_not_waited_for_at_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="it is a pipe and no file"):
        datasets.read_ids(tmp_path / "pipe")


def test_numbers_are_written_out_of_a_folder_and_refused_in_a_file_of_ones_own(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({**ROW, "choices": [1, 2.5, 3, 4]}), encoding="utf-8")
    assert datasets.read_items(tmp_path)[0].question.choices == ("1", "2.5", "3", "4")
    with pytest.raises(FileError, match="one is the number 1") as caught:
        datasets.read_items(path)
    assert caught.value.remedy == 'Write numbers in quotes, as they are to be asked: "2.50".'
    path.write_text(json.dumps({**ROW, "choices": ["1", True, "3", "4"]}), encoding="utf-8")
    with pytest.raises(FileError, match="one is true") as caught:
        datasets.read_items(path)
    assert "in quotes" not in caught.value.remedy
    for value, name in ((float("nan"), "NaN"), (None, "null")):
        path.write_text(json.dumps({**ROW, "choices": ["1", value, "3", "4"]}), encoding="utf-8")
        with pytest.raises(FileError, match=rf"one is missing \({name}\)") as caught:
            datasets.read_items(path)
        assert caught.value.remedy.startswith("Write the words themselves")
    path.write_text(json.dumps({**ROW, "choices": ["1", float("inf"), "3", "4"]}), encoding="utf-8")
    with pytest.raises(FileError, match="one is infinite") as caught:
        datasets.read_items(path)
    assert "in quotes" not in caught.value.remedy
