"""`checkpoint copy` writes what is read and nothing else, and never into what is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trees import GGUF, PLAIN, SHARDED, TREES, lay, tensors

from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.inputs import copying
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.filekinds import INDEX


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_becomes_the_directory_of_what_is_read(tree: str, tmp_path: Path) -> None:
    read, weights, _ = TREES[tree]
    source = lay(tmp_path / "source", {**read, **weights, "README.md": b"prose", "modeling.py": b"print()"})
    done = copying.copy(str(source), tmp_path / "clean")
    assert {p.relative_to(tmp_path / "clean").as_posix() for p in (tmp_path / "clean").rglob("*") if p.is_file()} == {
        *read
    }
    assert inspect(tmp_path / "clean") == done.manifest == inspect(lay(tmp_path / "plain", read))
    assert (done.weights, done.code, done.nothing) == (tuple(sorted(weights)), ("modeling.py",), ("README.md",))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean", "plain", "source"], "nothing else is left"


def test_of_two_sets_the_one_that_is_named_is_copied(tmp_path: Path) -> None:
    source = lay(tmp_path / "source", {**SHARDED, "model.safetensors": tensors("a", "b", value=1.0)})
    with pytest.raises(CheckpointError, match="two sets of weights"):
        copying.copy(str(source), tmp_path / "none")
    copying.copy(str(source), tmp_path / "one", "model.safetensors")
    assert {p.name for p in (tmp_path / "one").iterdir()} == {*PLAIN}
    done = copying.copy(str(source), tmp_path / "shards", INDEX)
    assert {p.name for p in (tmp_path / "shards").iterdir()} == {*SHARDED}
    assert done.weights == ("model.safetensors",)
    with pytest.raises(UsageError, match="no set of weights"):
        copying.copy(str(source), tmp_path / "other", "consolidated.safetensors")


def test_links_become_files(tmp_path: Path) -> None:
    source = lay(tmp_path / "source", PLAIN)
    (source / "model.safetensors").rename(source / "weights.safetensors")
    (source / "model.safetensors").symlink_to("weights.safetensors")
    copying.copy(str(source), tmp_path / "clean")
    assert not any(path.is_symlink() for path in (tmp_path / "clean").iterdir())
    assert (tmp_path / "clean" / "model.safetensors").read_bytes() == PLAIN["model.safetensors"]


def test_an_adapter_is_copied_without_its_base(tmp_path: Path) -> None:
    read = {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 2}).encode(),
        "adapter_model.safetensors": tensors("x"),
    }
    source = lay(tmp_path / "source", {**read, "optimizer.pt": b"x"})
    assert copying.copy(str(source), tmp_path / "clean").manifest.base is None
    assert {p.name for p in (tmp_path / "clean").iterdir()} == {*read}


@pytest.mark.parametrize("there", ["file", "full", "link", "inside"])
def test_what_is_there_is_never_written_into(there: str, tmp_path: Path) -> None:
    source, place = lay(tmp_path / "source", PLAIN), tmp_path / "there"
    if there == "file":
        place.write_text("x")
    elif there == "full":
        lay(place, {"x": b""})
    elif there == "link":
        (tmp_path / "empty").mkdir()
        place.symlink_to(tmp_path / "empty")
    else:
        place = source / "clean"
    with pytest.raises(UsageError):
        copying.copy(str(source), place)
    assert inspect(source).files
    assert not list((tmp_path / "empty").iterdir()) if there == "link" else True
    (tmp_path / "new").mkdir()
    copying.copy(str(source), tmp_path / "new")


def test_what_is_read_and_unsafe_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source = lay(tmp_path / "source", {**PLAIN, "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": "e--t.E"}}'})
    with pytest.raises(CheckpointError, match="remote code"):
        copying.copy(str(source), tmp_path / "clean")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_file_that_changes_while_it_is_copied_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = lay(tmp_path / "source", PLAIN)

    def changed(place: Path, to: Path) -> None:
        to.write_bytes(place.read_bytes() + b" " * place.name.endswith(".json"))

    monkeypatch.setattr("shutil.copyfile", changed)
    with pytest.raises(CheckpointError, match=r"'.*json' changed while it was copied"):
        copying.copy(str(source), tmp_path / "clean")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_the_verb_says_what_it_left_out(tmp_path: Path) -> None:
    source = lay(tmp_path / "source", {**PLAIN, "q4.gguf": GGUF, "README.md": b"prose"})
    call = [sys.executable, "-m", "robustness_gate", "checkpoint", "copy", str(source), str(tmp_path / "clean")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert f"digest {inspect(tmp_path / 'clean').digest}" in done.stdout
    assert done.stdout.endswith("left out, weights: q4.gguf\nleft out, not read by any loader: README.md\n")
    again = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"error: {tmp_path / 'clean'} is there and not empty")
