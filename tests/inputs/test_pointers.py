"""A benchmark that was cloned without git-lfs is called one."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustness_gate.errors import FileError
from robustness_gate.inputs.filekinds import POINTER
from robustness_gate.inputs.tables import of_files


@pytest.mark.parametrize("name", ["test.parquet", "test.jsonl"])
def test_rows_that_are_a_pointer_are_called_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(POINTER + b"v1\noid sha256:ab\nsize 9\n")
    with pytest.raises(FileError, match=f"'{name}' is a Git LFS pointer, not the file") as caught:
        list(of_files([tmp_path / name], "here"))
    assert "git lfs pull" in caught.value.remedy
