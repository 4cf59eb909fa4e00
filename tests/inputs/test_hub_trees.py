"""Repositories of the shape of Mistral's, Llama's, GPT-2's and of a Trainer's folder, through the real hub client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub import serving
from trees import MORE, NOTHING, PLAIN, SHARDED, TREES, index, lay, tensors

from robustness_gate.inputs.checkpoint.manifest import inspect

COMMIT = "0123456789abcdef" * 2 + "01234567"
LOOK = """
import json, sys
from robustness_gate.inputs.checkpoint.fetch import fetch
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.errors import GateError
for reference in sys.argv[1:]:
    try:
        place = fetch(reference)
        print(json.dumps([manifest_of(place).digest, unread(place).model_dump(mode="json")]))
    except GateError as error:
        print(json.dumps(str(error)))
"""


def look(home: Path, endpoint: str, *names: str, offline: bool = False) -> list[Any]:
    """What a machine with this cache makes of repositories: digest and what lies beside, or the complaint."""
    references = [f"hf://lab/{name}@{COMMIT}" for name in names]
    return [json.loads(line) for line in machine(home, endpoint, LOOK, *references, offline=offline).splitlines()]


def machine(home: Path, endpoint: str, *code: str, offline: bool = False) -> str:
    """What a program says on a machine with this cache and this hub."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1,localhost"}
    env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    done = subprocess.run(
        [sys.executable, "-c", *code], env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_of_a_repository_only_what_is_read_is_fetched_and_the_other_weights_are_named(tmp_path: Path) -> None:
    repositories = {
        f"models/lab/{name}": {COMMIT: {**read, **weights, **NOTHING, **MORE[name], "modeling.py": b"print()"}}
        for name, (read, weights, _) in TREES.items()
    }
    wanted = [
        [
            inspect(lay(tmp_path / name, read)).digest,
            {"listed": True, "weights": sorted(weights), "ignored": nothing + 1, "wrapper": ""},
        ]
        for name, (read, weights, nothing) in TREES.items()
    ]
    home = tmp_path / "home"
    with serving(repositories) as hub:
        assert look(home, hub.endpoint, *TREES) == wanted
        fetched = [line.split("/", 3) for line in hub.asked if "/resolve/" in line]
        for name, (read, _, _) in TREES.items():
            asked = {each[3].split("/", 2)[2] for each in fetched if each[2] == name}
            assert asked == set(read), name
    no_one = "http://127.0.0.1:9"
    assert look(home, no_one, *TREES, offline=True) == wanted, "the client keeps the list of a commit"
    for folder in (home / "hub").glob("models--*/trees"):
        shutil.rmtree(folder)
    for (digest, unread), (was, _) in zip(look(home, no_one, *TREES, offline=True), wanted, strict=True):
        assert (digest, unread["listed"], unread["weights"]) == (was, False, [])


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
WRONG: dict[str, tuple[dict[str, bytes], str]] = {
    "two-sets": ({**SHARDED, "model.safetensors": tensors("a", "b", value=1.0)}, "there are two sets of weights"),
    "twice": ({**SHARDED, FIRST: tensors("a", "b")}, f"'{FIRST}' holds the tensor 'b'"),
    "leads-out": (
        {**SHARDED, "model.safetensors.index.json": index(a="../x.safetensors", b="deep/x.safetensors")},
        "which is not a safetensors file of this directory",
    ),
    "no-list": (
        {**SHARDED, "model.safetensors.index.json": b'{"weight_map": 5}'}, "not a safetensors file of this directory",
    ),
    "pickles": ({name: content for name, content in {**PLAIN, "pytorch_model.bin": b"x"}.items()
                 if name != "model.safetensors"}, "there are no safetensors weights"),
    "an-adapter-too": ({**PLAIN, "adapter_config.json": b"{}", "adapter_model.safetensors": tensors("x")}, "--base"),
}  # fmt: skip


def test_what_is_refused_of_a_directory_is_refused_of_a_commit(tmp_path: Path) -> None:
    with serving({f"models/lab/{name}": {COMMIT: files} for name, (files, _) in WRONG.items()}) as hub:
        told = look(tmp_path / "home", hub.endpoint, *WRONG)
    for complaint, (name, (_, says)) in zip(told, WRONG.items(), strict=True):
        assert says in complaint, name


COPY = """
import sys
from robustness_gate.inputs import copying
for keep in ("model.safetensors", "model.safetensors.index.json"):
    done = copying.copy(sys.argv[1], __import__("pathlib").Path(sys.argv[2]) / keep, keep)
    print(*done.weights, *done.nothing)
"""


def test_of_two_sets_on_the_hub_either_can_be_copied(tmp_path: Path) -> None:
    files = {**SHARDED, "model.safetensors": tensors("a", "b", value=1.0), "README.md": b"prose"}
    with serving({"models/lab/m": {COMMIT: files}}) as hub:
        done = machine(tmp_path / "home", hub.endpoint, COPY, f"hf://lab/m@{COMMIT}", str(tmp_path))
    shards, one = {FIRST, SECOND, "model.safetensors.index.json"}, {"model.safetensors"}
    told = [set(line.split()) for line in done.splitlines()]
    assert told == [{*shards, "README.md"}, {*one, "README.md"}]
    assert inspect(tmp_path / "model.safetensors") == inspect(lay(tmp_path / "one", PLAIN | {k: files[k] for k in one}))
    assert inspect(tmp_path / "model.safetensors.index.json") == inspect(lay(tmp_path / "shards", SHARDED))


@pytest.mark.parametrize("name", ["model-x\\y.bin", "model\x1b[2J.bin"])
def test_a_name_in_a_file_list_does_not_steer_a_terminal(name: str, tmp_path: Path) -> None:
    with serving({"models/lab/m": {COMMIT: {**PLAIN, name: b"x"}}}) as hub:
        ((_, unread),) = look(tmp_path / "home", hub.endpoint, "m")
    assert all(each.isprintable() for each in unread["weights"])
    assert len(unread["weights"]) == 1
