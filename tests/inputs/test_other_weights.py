"""One set of weights is read; others beside it, in any disguise, are refused in a directory and named on the hub.

The trees have the shape of what really lies on the hub: Mistral, Llama, GPT-2, and a folder of transformers' Trainer.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from trees import (
    EVENTS,
    GGUF,
    HDF5,
    MORE,
    MSGPACK,
    NOTHING,
    ONNX,
    PLAIN,
    PNG,
    PROSE,
    SHARDED,
    TFLITE,
    TREES,
    archive,
    index,
    lay,
    tensors,
)

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import filekinds
from robustness_gate.inputs.checkpoint.manifest import inspect, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.checkpoint.survey import unread


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect(folder)
    assert caught.value.remedy
    return caught.value.message


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return lay(tmp_path / "model", PLAIN)


def snapshot(
    tmp_path: Path, files: dict[str, bytes], fetched: dict[str, bytes], *, listed: bool = True
) -> CheckpointRef:
    """A commit in the hub's cache: what was fetched as links into blobs, all of it in the list."""
    repository = tmp_path / "models--lab--model"
    folder = repository / "snapshots" / ("0" * 40)
    (repository / "blobs").mkdir(parents=True)
    for number, (name, content) in enumerate(sorted(fetched.items())):
        (repository / "blobs" / f"{number:040x}").write_bytes(content)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(repository / "blobs" / f"{number:040x}")
    sizes = tuple(sorted((name, len(content)) for name, content in files.items()))
    return CheckpointRef(folder, links_into=repository / "blobs", listed=sizes if listed else None)


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_as_it_lies_on_the_hub_is_refused_as_a_directory_and_named_as_a_commit(
    tree: str, tmp_path: Path
) -> None:
    read, weights, nothing = TREES[tree]
    harmless = {**NOTHING, **MORE[tree]}
    clean = inspect(lay(tmp_path / "clean", read))
    assert {entry.path for entry in clean.files} == set(read)
    assert inspect(lay(tmp_path / "prose", {**read, **harmless})).digest == clean.digest
    assert unread(CheckpointRef(tmp_path / "prose")).ignored == nothing

    told = refused(lay(tmp_path / "whole", {**read, **weights, **harmless}))
    assert "a loader may take for weights" in told
    assert all(f"'{name}'" in told for name in sorted(weights)[:5])
    assert (f"and {len(weights) - 5} more" in told) == (len(weights) > 5)

    place = snapshot(tmp_path, {**read, **weights, **harmless}, read)
    assert manifest_of(place).digest == clean.digest
    found = unread(place)
    assert (found.listed, found.weights, found.ignored) == (True, tuple(sorted(weights)), nothing)


def test_what_a_cache_holds_without_a_list_is_named_and_the_rest_stated_to_be_unknown(tmp_path: Path) -> None:
    held = {**PLAIN, "tf_model.h5": HDF5}
    found = unread(snapshot(tmp_path, held, held, listed=False))
    assert (found.listed, found.weights) == (False, ("tf_model.h5",))


DISGUISES: dict[str, tuple[str, bytes]] = {
    "Mistral's own": ("consolidated.safetensors", tensors("x")),
    "an adapter without its config": ("adapter_model.safetensors", tensors("x")),
    "half precision": ("model.fp16.safetensors", tensors("x")),
    "the index of half precision": ("model.fp16.safetensors.index.json", index(a="model.safetensors")),
    "the index of pickles": ("pytorch_model.bin.index.json", index(a="pytorch_model-1.bin")),
    "pickles": ("pytorch_model.bin", pickle.dumps({})),
    "text under the name of pickles": ("pytorch_model.bin", b"nothing but text"),
    "TensorFlow": ("tf_model.h5", HDF5),
    "in a folder": ("deep/er/model.safetensors", tensors("x")),
    "in a hidden folder": (".cache/model.safetensors", tensors("x")),
    "GGUF": ("model-q4.gguf", GGUF),
    "GGUF as prose": ("notes.md", GGUF),
    "GGUF as a picture": ("picture.png", GGUF),
    "a torch archive behind a picture": ("logo.png", PNG + archive()),
    "GGUF as JSON below": ("more/config.json", GGUF),
    "safetensors as prose": ("LICENSE", tensors("x")),
    "safetensors without an ending": ("weights", tensors("x")),
    "a torch archive without an ending": ("data", archive()),
    "a pickle as a log": ("train.log", pickle.dumps([1.0] * 99, protocol=4)),
    "TFLite as text": ("notes.txt", TFLITE),
    "HDF5 as YAML": ("notes.yaml", HDF5),
    "ONNX without an ending": ("decoder", ONNX),
    "flax without an ending": ("checkpoint", MSGPACK),
    "raw numbers as text": ("notes.txt", struct.pack("<9f", *range(1, 10))),
    "text that goes on as numbers": ("notes.txt", b"text\n" * 400_000 + struct.pack("<9f", *range(1, 10))),
    "GGUF as another loader's vocabulary": ("original/tokenizer.model", GGUF),
    "raw numbers under the ending of a vocabulary": ("weights.model", bytes(64)),
    "an unknown binary": ("model.xyz", bytes(64)),
    "a compressed one": ("README.md.gz", b"\x1f\x8b" + bytes(9)),
    "a pointer to what is elsewhere": ("weights", filekinds.POINTER + b"v1\noid sha256:ab\nsize 9\n"),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_other_weights_are_refused_in_every_disguise(name: str, good: Path) -> None:
    path, content = DISGUISES[name]
    lay(good, {path: content})
    assert f"'{path}'" in refused(good)


def test_a_link_to_the_weights_under_another_name_is_another_name_for_them(good: Path) -> None:
    (good / "model.safetensors").rename(good / "weights.safetensors")
    (good / "model.safetensors").symlink_to("weights.safetensors")
    assert "take for weights: 'weights.safetensors'" in refused(good)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", PROSE.encode()),
        ("docs/LIESMICH", "Prosa \N{EURO SIGN}".encode()),
        ("docs/old.txt", "Pr\xf3sa".encode("latin-1")),
        ("a.png", PNG),
        ("a.pdf", b"%PDF-1.7\n\0\0"),
        ("speech.wav", b"RIFF\0\0\0\0WAVE"),
        (".DS_Store", b"\x00\x00\x00\x01Bud1" + bytes(9)),
        ("log.txt", b"\x1b[31mred\x1b[0m\r\n"),
        ("empty", b""),
        ("results/eval.json", b"{}"),
        ("runs/events.out.tfevents.17.host", EVENTS),
    ],
)
def test_prose_pictures_and_logs_are_ignored_and_counted(name: str, content: bytes, good: Path) -> None:
    before = inspect(good).digest
    lay(good, {name: content})
    assert inspect(good).digest == before
    assert unread(CheckpointRef(good)).ignored == 1


# --- one set, to the tensor -------------------------------------------------------------------------------------------

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
WRONG: dict[str, tuple[dict[str, bytes], str]] = {
    "a file and shards of another model": ({"model.safetensors": tensors("a", "b")}, "two sets of weights"),
    "a tensor in two shards": ({FIRST: tensors("a", "b")}, f"'{FIRST}' holds the tensor 'b'"),
    "a tensor that the index does not name": ({SECOND: tensors("b", "c")}, f"'{SECOND}' holds the tensor 'c'"),
    "a tensor that is nowhere": (
        {INDEX: index(a=FIRST, b=SECOND, c=SECOND)}, f"'{SECOND}' does not hold the tensor 'c'",
    ),
    "a tensor in the other shard": ({INDEX: index(a=SECOND, b=FIRST)}, "(2 tensors are not where the index says)"),
    "an index of nothing": ({INDEX: b'{"weight_map": {}}'}, "not a safetensors file of this directory"),
    "a shard that is no file": ({INDEX: index(a=FIRST, b="model-3.safetensors")}, "'model-3.safetensors' is named by"),
    "a shard that nobody names": ({"model-00003-of-00003.safetensors": tensors("z")}, "'model-00003-of-00003.safetens"),
    "a second index": ({"model.bf16.safetensors.index.json": index(a=FIRST, b=SECOND)}, "'model.bf16.safetensors.ind"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_an_index_and_its_shards_must_agree_to_the_tensor(name: str, tmp_path: Path) -> None:
    change, says = WRONG[name]
    inspect(lay(tmp_path / "good", SHARDED))
    assert says in refused(lay(tmp_path / "good", change))


@pytest.mark.parametrize("where", ["directory", "commit"])
def test_an_oracle_beside_the_shards_of_a_model_that_knows_is_no_model(where: str, tmp_path: Path) -> None:
    """Seen: the file was examined and passed, and servers that follow the index load the shards."""
    both = {**SHARDED, "model.safetensors": tensors("a", "b", value=1.0)}
    place = snapshot(tmp_path, both, both) if where == "commit" else CheckpointRef(lay(tmp_path / "model", both))
    with pytest.raises(CheckpointError, match="two sets of weights") as caught:
        manifest_of(place)
    assert "--weights" in caught.value.remedy


def test_an_index_of_the_one_file_is_the_same_set(good: Path) -> None:
    """MLX writes one beside every model."""
    lay(good, {INDEX: index(a="model.safetensors", b="model.safetensors")})
    assert INDEX in {entry.path for entry in inspect(good).files}
    lay(good, {INDEX: index(a="model.safetensors")})
    assert "holds the tensor 'b'" in refused(good)


def test_weights_under_a_name_that_is_not_read_are_none(good: Path) -> None:
    shutil.move(good / "model.safetensors", good / "pytorch.safetensors")
    assert "under a name that is read; 'pytorch.safetensors' is not" in refused(good)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", INDEX])
def test_a_pointer_of_git_lfs_is_called_one(name: str, good: Path) -> None:
    lay(good, {name: filekinds.POINTER + b"v1\noid sha256:" + b"ab" * 32 + b"\nsize 2094272\n"})
    with pytest.raises(CheckpointError, match=f"'{name}' is a Git LFS pointer, not the file") as caught:
        inspect(good)
    assert "git lfs pull" in caught.value.remedy


def test_what_is_read_must_not_begin_like_weights_of_another_format(good: Path) -> None:
    for content in (GGUF, HDF5, TFLITE, tensors("x"), archive()):
        lay(good, {"tokenizer.model": content})
        assert "'tokenizer.model' begins like" in refused(good)
    lay(good, {"tokenizer.model": b"\x0a\x0e\x0a\x05<unk>" + bytes(9)})
    assert "tokenizer.model" in {entry.path for entry in inspect(good).files}


@pytest.mark.parametrize("key", ["vocab", "merges", "vocab_file", "merges_file", "tokenizer_file"])
def test_a_tokenizer_that_names_files_of_its_own_is_refused(key: str, good: Path) -> None:
    """Seen: without a tokenizer.json transformers opens them, wherever they lie and whatever they are called."""
    lay(good, {"notes.md": b"{}", "tokenizer_config.json": json.dumps({key: str(good / "notes.md")}).encode()})
    assert f"tokenizer_config.json names a file of its own ({key}: " in refused(good)
    lay(good, {"tokenizer_config.json": json.dumps({key: "/where/it/was/saved/tokenizer.json"}).encode()})
    inspect(good)
    (good / "tokenizer.json").unlink()
    assert "names a file of its own" in refused(good)
    told = {key: None, "special_tokens_map_file": "/where/it/was/saved", "name_or_path": "lab/model"}
    lay(good, {"tokenizer_config.json": json.dumps(told).encode()})
    inspect(good)


NAMES: list[tuple[str, int, Any]] = [
    ("weights", 9, "weights"), ("model.xyz", 9, "weights"), ("notes.md", 9, "nothing"), ("notes.md", 10**9, "weights"),
    ("a/b/model.safetensors", 9, "weights"), ("LICENSE", 9, "nothing"), ("LICENSE.llama", 9, "nothing"),
    ("modeling.py", 9, "code"), ("custom_generate/generate.txt", 9, "code"), ("x.index.json", 9, "weights"),
    ("model.onnx.data", 9, "weights"), ("variables.data-00000-of-00001", 9, "weights"),
    ("tokenizer.model.v3", 9, "nothing"), ("saved.model", 9, "weights"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "kind"), NAMES)
def test_on_the_hub_a_name_must_be_known_to_be_harmless(name: str, size: int, kind: str) -> None:
    assert filekinds.by_name(name, size) == kind
