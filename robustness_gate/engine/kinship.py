"""Whether two checkpoints are related: their weights compared, tensor by tensor, from the files alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef


class Kinship(NamedTuple):
    """How alike the matrices of two checkpoints are."""

    tensors: int
    """Matrices of the original."""
    alike: int
    """How many of them the other has under the same name with the same shape."""
    cosine: float
    """Median over these of the cosine between the two, each as one vector; 0 if there is none."""


def compare(candidate: CheckpointRef, original: CheckpointRef) -> Kinship:
    """Compare two ordinary checkpoints. Two models trained apart have cosines near 0, a fine-tuned one near 1.

    One pair of matrices is in memory at a time. Names are those of the files.

    Raises:
        CheckpointError: a file cannot be read, or the original has no matrix.
    """
    theirs, found, tensors = dict(_places(candidate.path)), list[float](), 0
    for name, path in _places(original.path):
        one = _tensor(path, name)
        if one.ndim < 2 or not one.is_floating_point():
            continue
        tensors += 1
        other = _tensor(theirs[name], name) if name in theirs else None
        if other is not None and other.shape == one.shape and other.is_floating_point():
            found.append(_cosine(one, other))
    if not tensors:
        raise CheckpointError("its files hold no matrix to compare with", where=str(original.path))
    return Kinship(tensors, len(found), statistics.median(found) if found else 0.0)


def _places(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every tensor's name with its file."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot be read: {error}", where=str(path)) from None
        yield from ((name, path) for name in names)


def _tensor(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        found: torch.Tensor = file.get_tensor(name)
    return found


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """The cosine of two tensors as vectors; 0 where one has no length or is not finite."""
    a, b = one.flatten().double(), other.flatten().double()
    length = float(a.norm() * b.norm())
    value = float(a @ b) / length if length > 0 else 0.0
    return max(-1.0, min(1.0, value)) if value == value else 0.0
