"""Refusals of a checkpoint say where in it, and what to do: caches, encodings, adapters, files in folders."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.manifest import inspect

COMMIT = "1" * 40


def refused(directory: Path, **more: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        inspect(directory, **more)
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(organisms.checkpoint("base"), tmp_path / "model"))


def cached(cache: Path, name: str) -> Path:
    """A repository as huggingface_hub keeps it; its snapshot."""
    repo = cache / name
    snapshot = repo / "snapshots" / COMMIT
    for folder in (repo / "blobs", snapshot):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(organisms.checkpoint("base").iterdir())):
        blob = repo / "blobs" / f"{number:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_a_snapshot_and_every_folder_around_it_is_reported_as_the_hubs_cache(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", "models--o--m--x")
    assert refused(snapshot).remedy == f"Give hf://o/m--x@{COMMIT}: it is found there, offline too."
    for folder in (snapshot.parent, snapshot.parent.parent, snapshot.parent.parent / "blobs"):
        told = refused(folder)
        assert "a folder of the hub's cache" in told.message, folder
        assert told.remedy.startswith("Give hf://o/m--x@COMMIT")


def test_a_repository_without_an_owner_is_to_be_copied_and_a_dataset_is_no_model(tmp_path: Path) -> None:
    assert "cp -rL" in refused(cached(tmp_path, "models--gpt2")).remedy
    assert "a dataset in the hub's cache" in refused(cached(tmp_path, "datasets--o--d")).message


def test_a_file_in_a_folder_is_called_by_its_whole_name(model: Path) -> None:
    (model / ".cache").mkdir()
    os.mkfifo(model / ".cache" / "x")
    assert "'.cache/x' is not a regular file" in refused(model).message
    (model / ".cache" / "x").unlink()
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "x.jinja").write_bytes(b"caf\xe9")
    assert "'additional_chat_templates/x.jinja' is not UTF-8 (byte 3 is 0xE9" in refused(model).message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("\ufeff{}".encode(), "'config.json' begins with a byte order mark (BOM)"),
        ("{}".encode("utf-16"), "'config.json' is UTF-16"),
        (b'{"a": "caf\xe9"}', "'config.json' is not UTF-8 (byte 10 is 0xE9"),
        (b'{"a": 1,}', "'config.json' is not valid JSON (line 1, column 9"),
        (b"[]", "config.json says nothing"),
        (b"{}", "config.json says nothing"),
    ],
)
def test_a_config_that_cannot_be_read_is_reported_with_the_reason(model: Path, raw: bytes, words: str) -> None:
    (model / "config.json").write_bytes(raw)
    assert words in refused(model).message


ADAPTER = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2}


@pytest.mark.parametrize(
    ("changes", "words", "remedy"),
    [
        ({"task_type": "SEQ_CLS"}, "an adapter for the task 'SEQ_CLS'", "write CAUSAL_LM"),
        ({"task_type": ""}, "an adapter for the task ''", "take task_type out"),
        ({"peft_type": None}, "does not say what kind of adapter it is (peft_type)", "Write its kind there"),
        ({"peft_type": "VERA"}, "adapters of the kind 'VERA'", "Merge it"),
    ],
)
def test_an_adapter_that_does_not_say_what_it_is_for(changes: dict, words: str, remedy: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({**ADAPTER, **changes}))
    shutil.copy(organisms.checkpoint("base") / "model.safetensors", tmp_path / "adapter_model.safetensors")
    told = refused(tmp_path, base="0" * 64)
    assert words in told.message
    assert remedy in told.remedy


def test_an_adapter_without_a_task_type_is_let_in(tmp_path: Path) -> None:
    shutil.copy(organisms.checkpoint("base") / "model.safetensors", tmp_path / "adapter_model.safetensors")
    for config in ({**ADAPTER, "task_type": None}, {"peft_type": "LORA", "r": 2}):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        assert inspect(tmp_path, base="0" * 64).files
