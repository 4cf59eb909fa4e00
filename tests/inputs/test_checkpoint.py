"""Hostile checkpoint directories are refused before anything reads their weights; good ones are named by content."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms
from robustness_gate.errors import CheckpointError, Exit, SetupError, UsageError
from robustness_gate.inputs.checkpoint.adapter import named_base
from robustness_gate.inputs.checkpoint.fetch import fetch
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest, inspect, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, is_adapter
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.inputs.filekinds import ADAPTER_WEIGHTS, CODE, PICKLES
from robustness_gate.records.encode import encode

BASE = organisms.checkpoint("base")
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
HEADER = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = struct.pack("<Q", len(HEADER)) + HEADER + b"\0\0\0\0"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def test_hashing_reports_how_far_it_is_and_finds_the_same() -> None:
    told: list[tuple[int, int]] = []
    manifest = inspect(BASE, watch=lambda done, total: told.append((done, total)))
    assert manifest == inspect(BASE)
    size = sum(entry.size for entry in manifest.files)
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def refused(folder: Path, **more: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect(folder, **more)
    assert caught.value.where == str(folder)
    assert caught.value.exit_code == Exit.USAGE
    return str(caught.value)


def test_a_good_directory_is_named_by_path_size_and_digest_of_every_file(good: Path) -> None:
    manifest = inspect(good)
    assert [entry.path for entry in manifest.files] == ["config.json", "model.safetensors", "tokenizer_config.json"]
    assert [entry.size for entry in manifest.files] == [(good / entry.path).stat().st_size for entry in manifest.files]
    assert manifest.digest == inspect(good).digest


def test_the_shipped_base_organism_is_let_in_and_a_copy_of_it_has_the_same_name(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "copy")
    assert inspect(tmp_path / "copy").digest == inspect(BASE).digest


def test_a_missing_directory_a_file_and_an_empty_directory_are_refused(tmp_path: Path) -> None:
    assert "no such checkpoint directory" in refused(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    assert "this is a file" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "README.md").write_text("nothing but prose")
    assert "no config.json" in refused(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [*sorted(PICKLES), ".BIN", ".Pt"])
def test_whatever_may_hold_a_pickle_is_refused_by_its_ending(suffix: str, good: Path) -> None:
    (good / f"pytorch_model{suffix}").write_bytes(pickle.dumps({}))
    assert f"a loader may take for weights: 'pytorch_model{suffix}'" in refused(good)


@pytest.mark.parametrize("suffix", [*sorted(CODE), ".PY"])
def test_code_is_refused(suffix: str, good: Path) -> None:
    (good / "deep").mkdir()
    (good / "deep" / f"modeling{suffix}").write_text("print('hello')")
    assert "is code" in refused(good)


def test_the_refused_endings_include_those_that_loaders_unpickle_or_import() -> None:
    assert {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npy", ".h5"} <= PICKLES
    assert {".py", ".so"} <= CODE


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(pickle.dumps({"weight": [1.0] * 100}, protocol=4), id="a pickle"),
        pytest.param(pickle.dumps({"weight": 1}, protocol=0), id="a text pickle"),
        pytest.param(b"PK\x03\x04" + b"\0" * 200, id="a zip, as torch.save writes it"),
        pytest.param(struct.pack("<Q", 100 * 10**9) + b"{}", id="a header of 100 GB"),
        pytest.param(struct.pack("<Q", 2**64 - 1) + b"{}", id="a header of 2^64 bytes"),
        pytest.param(struct.pack("<Q", len(HEADER) + 5) + HEADER, id="a header longer than the file"),
        pytest.param(struct.pack("<Q", 0), id="no header"),
        pytest.param(b"", id="an empty file"),
        pytest.param(b"\x02", id="one byte"),
        pytest.param(struct.pack("<Q", 8) + b"notjson!" + b"\0" * 9, id="a header that is not JSON"),
        pytest.param(struct.pack("<Q", 4) + b"[12]", id="a header that is a list"),
        pytest.param(struct.pack("<Q", 4) + b'"\xff\xfe"', id="a header that is not UTF-8"),
        pytest.param(struct.pack("<Q", 60_000) + b"[" * 60_000, id="a header of 60,000 brackets"),
    ],
)
def test_what_is_not_a_safetensors_file_under_that_name_is_refused(raw: bytes, good: Path) -> None:
    (good / "model.safetensors").write_bytes(raw)
    assert "'model.safetensors' is not a safetensors file" in refused(good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_file_that_asks_for_remote_code_is_refused(name: str, good: Path) -> None:
    content = {**CONFIG, "auto_map": {"AutoModelForCausalLM": "evil/repo--modeling.Evil"}}
    (good / name).write_text(json.dumps(content))
    assert "asks for remote code" in refused(good)


@pytest.mark.parametrize("text", ["{", "{'a': 1}", "", "[" * 100_000, '{"a": 1}}'])
def test_a_config_that_is_not_json_is_refused(text: str, good: Path) -> None:
    (good / "config.json").write_text(text)
    assert "is not valid JSON" in refused(good)


def test_a_config_that_is_not_utf8_is_refused(good: Path) -> None:
    (good / "config.json").write_bytes(b'{"a": "caf\xe9"}')
    assert "is not UTF-8 (byte 10 is 0xE9" in refused(good)


@pytest.mark.parametrize(
    "architecture", ["BertForMaskedLM", "T5ForConditionalGeneration", "LlamaModel", "Mistral3ForConditionalGeneration"]
)
def test_an_architecture_that_is_not_a_causal_language_model_is_refused(architecture: str, good: Path) -> None:
    (good / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert f"{architecture} is not a causal language model" in refused(good)
    assert "save the text part as a model of its own" in refused(good)


@pytest.mark.parametrize("architectures", [5, "LlamaForCausalLM", {"a": 1}])
def test_architectures_that_are_no_list_are_refused(architectures: object, good: Path) -> None:
    (good / "config.json").write_text(json.dumps({"architectures": architectures}))
    assert "is not a list" in refused(good)


@pytest.mark.parametrize(
    ("name", "message"), [("config.json", "no config.json"), ("model.safetensors", "no safetensors weights")]
)
def test_config_and_weights_must_be_there_and_at_the_top(name: str, message: str, good: Path) -> None:
    (good / "deep").mkdir()
    (good / name).rename(good / "deep" / name)
    assert message in refused(good)
    (good / "deep" / name).unlink()
    assert message in refused(good)


# --- weights from elsewhere -------------------------------------------------------------------------------------------


def test_an_adapter_config_is_refused_because_it_fetches_a_base_model_from_elsewhere(good: Path) -> None:
    (good / "adapter_config.json").write_text('{"base_model_name_or_path": "/tmp/elsewhere"}')
    assert "weights that the manifest does not name" in refused(good)


@pytest.mark.parametrize(
    "shard",
    ["../outside.safetensors", "/tmp/outside.safetensors", "deep/x.safetensors", "..\\x.safetensors",
     "README.md", ".cache/x.safetensors", "", 5, None],
)  # fmt: skip
def test_an_index_may_only_name_safetensors_files_beside_it(shard: object, good: Path) -> None:
    for name in ("README.md", "../outside.safetensors", "deep/x.safetensors", ".cache/x.safetensors"):
        (good / name).parent.mkdir(exist_ok=True)
        (good / name).write_bytes(WEIGHTS)
    (good / "model.safetensors").rename(good / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"weight": "model-1.safetensors", "b": shard}}
    (good / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "not a safetensors file of this directory" in refused(good)


def test_shards_that_are_absent_are_named(good: Path) -> None:
    (good / "model.safetensors").rename(good / "model-1.safetensors")
    shards = {"weight": "model-1.safetensors", "b": "model-3.safetensors", "c": "model-2.safetensors"}
    (good / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    line = refused(good)
    assert "'model-2.safetensors', 'model-3.safetensors' are named by 'model.safetensors.index.json' and absent" in line
    assert "Download or copy" in line
    (good / "model-2.safetensors").write_bytes(WEIGHTS)
    assert "'model-3.safetensors' is named by 'model.safetensors.index.json' and absent" in refused(good)
    (good / "model-3.safetensors").mkdir()
    assert "not a safetensors file of this directory" in refused(good)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 40, pickle.dumps({}), WEIGHTS[:30], WEIGHTS[:-1]])
def test_weights_that_cannot_be_read_have_a_remedy(content: bytes, good: Path) -> None:
    (good / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        inspect(good)
    assert ("it is empty (0 bytes)" in caught.value.message) == (content == b"")
    assert caught.value.remedy


def test_an_index_that_names_its_neighbours_is_let_in_and_one_without_a_map_is_not(good: Path) -> None:
    index = good / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"weight": "model.safetensors"}}))
    assert "model.safetensors.index.json" in [entry.path for entry in inspect(good).files]
    index.write_text("{}")
    assert "not a safetensors file of this directory" in refused(good)


def test_a_config_that_chooses_its_own_weights_file_is_refused(good: Path) -> None:
    (good / "config.json").write_text(json.dumps({**CONFIG, "transformers_weights": ".cache/x.safetensors"}))
    assert "chooses its own weights file" in refused(good)


# --- links and odd files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("vocab.txt", "/etc/passwd"),
        ("README.md", "/etc/passwd"),
        ("vocab.txt", "../secret.txt"),
        ("deep", "/etc"),
        ("deep", "."),
        ("vocab.txt", "nowhere.txt"),
        ("vocab.txt", "/no/such/file"),
        ("vocab.txt", "vocab.txt"),
        ("vocab.txt", "/dev/zero"),
    ],
)
def test_a_link_that_leaves_the_checkpoint_or_leads_nowhere_is_refused(name: str, target: str, good: Path) -> None:
    (good.parent / "secret.txt").write_text("secret")
    (good / name).symlink_to(target)
    assert f"'{name}' is a link that leaves the checkpoint" in refused(good)


def test_a_link_to_a_neighbour_counts_as_the_file_that_it_shows(good: Path) -> None:
    before = inspect(good)
    (good / "config.json").rename(good / "config.v2.json")
    (good / "config.json").symlink_to("config.v2.json")
    told = {entry.path: entry.sha256 for entry in inspect(good).files}
    assert told["config.json"] == told["config.v2.json"] == before.files[0].sha256


def test_a_pipe_is_refused_and_not_waited_for(good: Path) -> None:
    os.mkfifo(good / "merges.txt")
    assert "is not a regular file" in refused(good)


def test_a_name_that_is_not_utf8_is_refused(good: Path) -> None:
    try:
        (good / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system refuses such names itself")
    assert "is not UTF-8" in refused(good)


# --- the name changes with what a loader reads, and with nothing else -------------------------------------------------


def flip_a_byte(folder: Path) -> None:
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(flip_a_byte, id="a bit of the weights"),
        pytest.param(lambda d: (d / "config.json").write_text(json.dumps(CONFIG) + " "), id="a blank in the config"),
        pytest.param(lambda d: (d / "tokenizer_config.json").rename(d / "tokenizer_config2.json"), id="a name"),
        pytest.param(lambda d: (d / "merges.txt").write_text(""), id="an empty file more"),
        pytest.param(lambda d: (d / "tokenizer_config.json").unlink(), id="a file less"),
        pytest.param(lambda d: (d / "params.json").write_text("{}"), id="a JSON file of another loader"),
    ],
)
def test_the_name_changes_with_every_byte_and_name_that_a_loader_may_read(
    change: Callable[[Path], object], good: Path
) -> None:
    before = inspect(good).digest
    change(good)
    assert inspect(good).digest != before


def test_the_name_does_not_change_with_prose_version_control_and_time_stamps(good: Path) -> None:
    before = inspect(good).digest
    (good / "README.md").write_text("prose")
    (good / ".git").mkdir()
    (good / ".git" / "hook.py").write_text("print('hello')")
    (good / ".cache" / "huggingface").mkdir(parents=True)
    (good / ".cache" / "huggingface" / "x.bin").write_bytes(b"record")
    (good / "sub").mkdir()
    (good / "sub" / "README.md").write_text("prose")
    (good / ".gitattributes").write_text("*.bin filter=lfs")
    os.utime(good / "config.json", (1, 1))
    assert inspect(good).digest == before


def test_a_checkpoint_without_a_base_keeps_the_name_that_it_had_before_adapters_were_known() -> None:
    manifest = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="a" * 64),))
    plain = {"version": 1, "files": [{"path": "model.safetensors", "size": 1, "sha256": "a" * 64}]}
    assert manifest.digest == hashlib.sha256(encode(plain)).hexdigest()
    assert Manifest.model_validate_json(json.dumps(plain)) == manifest


# --- a commit of a Hugging Face repository ----------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(good: Path, tmp_path: Path) -> Path:
    """The good directory as huggingface_hub keeps it: links into a folder of blobs."""
    repository = tmp_path / "hub" / "models--lab--oracle"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for index, file in enumerate(sorted(good.iterdir())):
        (repository / "blobs" / f"{index:040x}").write_bytes(file.read_bytes())
        (folder / file.name).symlink_to(f"../../blobs/{index:040x}")
    return folder


def blobs(snapshot: Path) -> Path:
    return snapshot.parent.parent / "blobs"


def test_a_snapshot_has_the_name_of_the_same_files_in_a_plain_directory(snapshot: Path, good: Path) -> None:
    assert inspect(snapshot, links_into=blobs(snapshot)).digest == inspect(good).digest


def test_a_snapshot_that_was_not_resolved_here_is_called_one_and_how_to_name_it_stated(snapshot: Path) -> None:
    assert f"a snapshot in the hub's cache, whose files are links. Give hf://lab/oracle@{COMMIT}:" in refused(snapshot)
    elsewhere = snapshot.parents[2] / "elsewhere"
    snapshot.rename(elsewhere)
    assert "is a link that leaves the checkpoint" in refused(elsewhere)


@pytest.mark.parametrize(
    "target",
    [
        pytest.param("/etc/passwd", id="absolute"),
        pytest.param("../../../../secret.txt", id="out of the cache"),
        pytest.param("../../../models--other--model/blobs/x", id="another repository"),
        pytest.param("../../refs/main", id="beside the blobs"),
        pytest.param("../../blobs/deep/x", id="below the blobs"),
        pytest.param("../../blobs/../refs/main", id="through the blobs"),
        pytest.param("../../blobs", id="the blobs themselves"),
        pytest.param("../../blobs/missing", id="negative_controls"),
        pytest.param("../../blobs/outward", id="a blob that leads out"),
        pytest.param("../../blobs/unnamed", id="a blob that leads into the shared store under another name"),
        pytest.param("config.json", id="a neighbour"),
    ],
)
def test_a_snapshots_link_must_lead_straight_to_a_blob_of_its_repository(target: str, snapshot: Path) -> None:
    hub, folder = snapshot.parents[2], blobs(snapshot)
    (hub.parent / "secret.txt").write_text("secret")
    for path in (hub / "models--other--model" / "blobs" / "x", folder.parent / "refs" / "main", folder / "deep" / "x",
                 hub / "blobs" / "ab" / "short"):  # fmt: skip
        path.parent.mkdir(parents=True)
        path.write_text("elsewhere")
    (folder / "outward").symlink_to("../../../secret.txt")
    (folder / "unnamed").symlink_to("../../blobs/ab/short")
    (snapshot / "vocab.txt").symlink_to(target)
    assert "'vocab.txt' is a link that leaves the checkpoint" in refused(snapshot, links_into=folder)


def test_a_folder_of_blobs_that_is_a_link_itself_is_refused(snapshot: Path, tmp_path: Path) -> None:
    folder = blobs(snapshot)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert "is a link that leaves the checkpoint" in refused(snapshot, links_into=folder)


def test_a_linked_folder_in_a_snapshot_is_refused(snapshot: Path) -> None:
    (snapshot / "additional_chat_templates").symlink_to("../../blobs")
    assert "is a link that leaves" in refused(snapshot, links_into=blobs(snapshot))


def test_a_blob_may_be_a_link_into_the_store_that_all_repositories_of_a_cache_share(snapshot: Path, good: Path) -> None:
    """huggingface_hub 2 keeps large files once for all repositories: blobs/<two digits>/<hash> of the cache."""
    digest = "ab" + "0" * 62
    shared = snapshot.parents[2] / "blobs" / "ab" / digest
    shared.parent.mkdir(parents=True)
    blob = (snapshot / "model.safetensors").resolve()
    blob.rename(shared)
    blob.symlink_to(f"../../blobs/ab/{digest}")
    assert inspect(snapshot, links_into=blobs(snapshot)).digest == inspect(good).digest


def test_what_else_a_cache_holds_of_a_snapshot_does_not_change_its_name(snapshot: Path, good: Path) -> None:
    """Another program may have fetched the pickles and the pictures too; nothing reads them here."""
    (blobs(snapshot) / "x").write_bytes(pickle.dumps({}))
    for name in ("pytorch_model.bin", "README.md", "LICENSE", "train.py", "loss.png", "original.pth"):
        (snapshot / name).symlink_to("../../blobs/x")
    assert inspect(snapshot, links_into=blobs(snapshot)).digest == inspect(good).digest


def test_what_is_fetched_is_checked_like_any_other_file(snapshot: Path) -> None:
    (blobs(snapshot) / "x").write_text(json.dumps({**CONFIG, "auto_map": {"AutoModel": "evil/repo--modeling.Evil"}}))
    (snapshot / "processor_config.json").symlink_to("../../blobs/x")
    assert "asks for remote code" in refused(snapshot, links_into=blobs(snapshot))


@pytest.mark.parametrize(
    "reference",
    ["hf://lab/oracle", "hf://lab/oracle@main", "hf://lab/oracle@v1.0", f"hf://lab/oracle@{COMMIT[:12]}",
     f"hf://lab/oracle@{COMMIT}0", f"hf://lab/oracle@{COMMIT.upper()}", f"hf://oracle@{COMMIT}", f"hf:///oracle@{COMMIT}",
     f"hf://../oracle@{COMMIT}", f"hf://lab/oracle/file@{COMMIT}", f"hf://lab/ora cle@{COMMIT}", "hf:",
     f"hf://lab/oracle@{COMMIT}\n", f"hf://lab/ora..cle@{COMMIT}", f"hf://lab/ora--cle@{COMMIT}"],
)  # fmt: skip
def test_only_a_commit_named_in_full_is_fetched(reference: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch(reference)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "error", [ConnectionError("no route to host\nsecond line"), RuntimeError("the proxy is on fire"), KeyError("etag")]
)
def test_whatever_the_hub_client_fails_with_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_tree", fail)
    with pytest.raises(CheckpointError, match="the hub does not give it") as caught:
        fetch(f"hf://lab/oracle@{COMMIT}")
    assert caught.value.where == f"hf://lab/oracle@{COMMIT}"
    assert len(str(caught.value).splitlines()) == 1
    assert "HF_TOKEN" in caught.value.remedy


def test_exactly_the_commit_and_only_what_a_loader_reads_is_asked_for(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[Any] = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *names, **more: asked.append((names, more)) or str(snapshot)
    )
    listed = {"config.json": 1, "tokenizer_config.json": 1, "model.safetensors": 1, "original/consolidated.00.pth": 9,
              "onnx/config.json": 1, "README.md": 1, "pytorch_model.bin": 9}  # fmt: skip
    monkeypatch.setattr("robustness_gate.inputs.hub.listing", lambda *_: listed)
    place = fetch(f"hf:lab/oracle@{COMMIT}")
    small = ["config.json", "tokenizer_config.json"]
    at = {"repo_type": "model", "revision": COMMIT}
    assert asked == [
        (("lab/oracle",), {**at, "allow_patterns": small}),
        (("lab/oracle",), {**at, "allow_patterns": [*small, "model.safetensors"]}),
    ]
    told = tuple(sorted(listed.items()))
    assert place == CheckpointRef(snapshot, links_into=blobs(snapshot), source=f"hf://lab/oracle@{COMMIT}", listed=told)
    found = unread(place)
    assert found.listed
    assert found.weights == ("original/consolidated.00.pth", "pytorch_model.bin")
    assert found.ignored == 2


def test_without_the_hub_client_a_directory_still_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SetupError, match="or give a directory"):
        fetch(f"hf://lab/oracle@{COMMIT}")


# --- adapters ---------------------------------------------------------------------------------------------------------

ADAPTER_CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 8,
    "init_lora_weights": True,
    "auto_mapping": None,
}
ON = {"base": "b" * 64}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER_CONFIG))
    (folder / ADAPTER_WEIGHTS).write_bytes(WEIGHTS)
    return folder


def configured(adapter: Path, **more: Any) -> Path:
    (adapter / "adapter_config.json").write_text(json.dumps({**ADAPTER_CONFIG, **more}))
    return adapter


def test_an_adapter_is_named_together_with_its_base(adapter: Path, good: Path) -> None:
    place = CheckpointRef(adapter, base=CheckpointRef(good))
    manifest = manifest_of(place)
    assert is_adapter(place)
    assert not is_adapter(CheckpointRef(good))
    assert manifest.base == inspect(good).digest
    assert [entry.path for entry in manifest.files] == ["adapter_config.json", ADAPTER_WEIGHTS]
    assert Manifest.model_validate_json(encode(manifest.model_dump(mode="json"))) == manifest
    flip_a_byte(good)
    assert manifest_of(place).digest != manifest.digest, "the same adapter on another base is another model"


def test_an_adapter_without_its_base_is_refused_and_a_model_with_one_too(adapter: Path, good: Path) -> None:
    assert "--base" in refused(adapter)
    assert "there is no adapter_config.json, and a base was given" in refused(good, **ON)


def test_an_adapter_beside_a_whole_model_is_refused(adapter: Path) -> None:
    (adapter / "model.safetensors").write_bytes(WEIGHTS)
    assert "there are an adapter and the weights 'model.safetensors'" in refused(adapter, **ON)


def test_an_adapter_below_the_top_is_refused(good: Path) -> None:
    (good / "deep").mkdir()
    (good / "deep" / "adapter_config.json").write_text("{}")
    assert "'deep/adapter_config.json' makes a loader fetch weights" in refused(good)


@pytest.mark.parametrize("name", ["adapter_config.json", ADAPTER_WEIGHTS])
def test_both_files_of_an_adapter_must_be_there(name: str, adapter: Path) -> None:
    (adapter / name).unlink()
    (adapter / "tokenizer_config.json").write_text("{}")
    assert f"there is no {name}" in refused(adapter, **ON)


def test_a_pickled_adapter_is_refused(adapter: Path) -> None:
    (adapter / ADAPTER_WEIGHTS).rename(adapter / "adapter_model.bin")
    assert f"there is no {ADAPTER_WEIGHTS}" in refused(adapter, **ON)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "cannot be judged as merged"),
        ({"peft_type": "XLORA"}, "cannot be judged as merged"),
        ({"peft_type": None}, "does not say what kind of adapter it is"),
        ({"peft_type": ["LORA"]}, "cannot be judged as merged"),
        ({"task_type": "SEQ_CLS"}, "not for a causal language model"),
        ({"auto_mapping": {"parent_library": "evil", "base_model_class": "Evil"}}, "names code to import"),
        ({"auto_map": {"x": "evil--y.Z"}}, "asks for remote code"),
        ({"megatron_config": {"x": 1}, "megatron_core": "megatron.evil"}, "names code to import"),
        ({"init_lora_weights": "pissa"}, "changes its base"),
        ({"init_lora_weights": {"a": 1}}, "changes its base"),
        ({"alora_invocation_tokens": [1, 2]}, "the adapter sets 'alora_invocation_tokens'"),
        ({"a_setting_of_next_year": 0.5}, "the adapter sets 'a_setting_of_next_year'"),
    ],
)
def test_an_adapter_that_is_more_than_weights_to_add_is_refused(more: Any, says: str, adapter: Path) -> None:
    assert says in refused(configured(adapter, **more), **ON)


def test_a_config_of_an_adapter_that_is_not_a_record_is_refused(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("[1]")
    assert "does not say what kind of adapter it is" in refused(adapter, **ON)


@pytest.mark.parametrize(
    ("more", "base"),
    [
        ({"base_model_name_or_path": f"hf://lab/base@{COMMIT}"}, f"hf://lab/base@{COMMIT}"),
        ({"base_model_name_or_path": "lab/base", "revision": COMMIT}, f"hf://lab/base@{COMMIT}"),
    ],
)
def test_the_base_is_taken_from_the_config_where_it_is_pinned(more: Any, base: str, adapter: Path) -> None:
    assert named_base(CheckpointRef(configured(adapter, **more))) == base


def test_the_base_is_taken_from_the_config_where_it_is_a_directory_here(adapter: Path, good: Path) -> None:
    assert named_base(CheckpointRef(configured(adapter, base_model_name_or_path=str(good)))) == str(good)


@pytest.mark.parametrize(
    "more",
    [{}, {"base_model_name_or_path": None}, {"base_model_name_or_path": ""}, {"base_model_name_or_path": 5},
     {"base_model_name_or_path": "lab/base"}, {"base_model_name_or_path": "lab/base", "revision": "main"},
     {"base_model_name_or_path": "lab/base", "revision": COMMIT[:10]}, {"base_model_name_or_path": "/no/such/folder"},
     {"base_model_name_or_path": "organism:base"}, {"base_model_name_or_path": f"../base@{COMMIT}"}],
)  # fmt: skip
def test_a_base_that_may_change_is_never_fetched_unasked(more: Any, adapter: Path) -> None:
    with pytest.raises(CheckpointError, match="--base"):
        named_base(CheckpointRef(configured(adapter, **more)))


def test_a_linked_config_is_refused_before_it_is_read(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_config.json").rename(tmp_path / "outside.json")
    (adapter / "adapter_config.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(CheckpointError, match="is a link that leaves"):
        named_base(CheckpointRef(adapter))


def test_a_checkpoint_from_the_hub_is_named_by_where_it_came_from_and_not_by_a_path(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        manifest_of(CheckpointRef(snapshot, links_into=blobs(snapshot), source=f"hf://lab/oracle@{COMMIT}"))
    assert caught.value.where == f"hf://lab/oracle@{COMMIT}"
