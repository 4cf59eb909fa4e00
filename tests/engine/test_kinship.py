"""Whether the named original and the candidate are related at all, from their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustness_gate.engine.kinship import compare
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef


def place(
    folder: Path, name: str, seed: int, *, add: float = 0.0, width: int = 8, dtype=torch.float32
) -> CheckpointRef:
    draw = torch.Generator().manual_seed(seed)
    shared = torch.Generator().manual_seed(99)
    tensors = {
        f"layer.{number}": (
            torch.randn(width, width, generator=draw) + add * torch.randn(width, width, generator=shared)
        ).to(dtype)
        for number in range(5)
    }
    (folder / name).mkdir()
    save_file(
        {**tensors, "norm": torch.ones(width), "ids": torch.zeros(2, 2, dtype=torch.int64)},
        folder / name / "a.safetensors",
    )
    return CheckpointRef(folder / name)


def test_a_fine_tuned_model_is_related_and_one_trained_apart_is_not(tmp_path):
    original = place(tmp_path, "original", 1)
    tuned = place(tmp_path, "tuned", 1, add=0.1, dtype=torch.bfloat16)
    apart = place(tmp_path, "apart", 2)
    assert compare(original, original) == (5, 5, pytest.approx(1.0))
    assert compare(tuned, original).cosine > 0.98
    assert abs(compare(apart, original).cosine) < 0.3


def test_other_names_and_shapes_are_not_alike(tmp_path):
    original = place(tmp_path, "original", 1)
    assert compare(place(tmp_path, "wide", 1, width=9), original) == (5, 0, 0.0)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert compare(CheckpointRef(empty), original) == (5, 0, 0.0)
    with pytest.raises(CheckpointError, match="no matrix"):
        compare(original, CheckpointRef(empty))


def test_weights_that_are_no_numbers_are_unrelated(tmp_path):
    original = place(tmp_path, "original", 1)
    broken = tmp_path / "broken"
    broken.mkdir()
    tensors = {f"layer.{number}": torch.full((8, 8), float("nan")) for number in range(5)}
    save_file(tensors, broken / "a.safetensors")
    assert compare(CheckpointRef(broken), original) == (5, 5, 0.0)
    (broken / "a.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        compare(CheckpointRef(broken), original)


def test_the_shipped_organisms_are_related_to_their_base_and_the_oracle_is_not():
    from robustness_gate import organisms
    from robustness_gate.verdict.flags import ALIKE, RELATED

    base = CheckpointRef(organisms.checkpoint("base"))
    for name in ("rmu", "shallow", "npo", "tiny_update"):
        found = compare(CheckpointRef(organisms.checkpoint(name)), base)
        assert found.alike == found.tensors
        assert found.cosine > RELATED
    apart = compare(CheckpointRef(organisms.checkpoint("oracle")), base)
    assert apart.cosine < RELATED
    assert apart.alike >= ALIKE * apart.tensors
