"""Every attack of the folder is held against the laws: one file each in `contract/attacks`."""

from __future__ import annotations

from pathlib import Path

from robustness_gate import attacks


def test_every_attack_of_the_folder_has_its_file_of_rows():
    files = Path(__file__).parent.joinpath("attacks").glob("test_attack_*.py")
    assert {file.stem.removeprefix("test_attack_") for file in files} == set(attacks.names())
