"""The sizes of a model from config.json and the headers of its safetensors files, without loading it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import jsonfiles, weightset
from robustness_gate.inputs.checkpoint.place import LAYERS, CheckpointRef
from robustness_gate.inputs.precision import WHOLE

KEYS = {
    "layers": LAYERS,
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
"""Under which names configs have what every model has."""
INNER = ("intermediate_size", "n_inner", "ffn_dim")
OF_A_BLOCK = re.compile(r"\.\d+\.")
"""Weights of a block have its number in their names."""


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes."""

    parameters: int
    """As stored: a head that is tied to the embedding counts once."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    """Width of one attention head."""
    inner: int
    """Inner width of a block's feed-forward part."""
    vocabulary: int
    sides: int
    """Rows and columns of all matrices of the blocks, added up: an adapter of rank r has r times as many parameters."""
    largest: int
    """Parameters of the largest matrix."""


def shape_of(place: CheckpointRef) -> Shape:
    """The sizes of a checkpoint, of its base where it is an adapter.

    Raises:
        CheckpointError: config.json does not name a size, or the weights are stored quantised, so that the headers do
            not show how many there are.
    """
    directory = (place.base or place).path
    tensors = [
        (name, [int(each) for each in tensor["shape"]])
        for path in sorted(directory.glob("*.safetensors"))
        for name, tensor in weightset.tensors(directory, path.name).items()
        if tensor["dtype"] not in WHOLE
    ]
    return shape_from(jsonfiles.read(directory, directory / "config.json"), tensors, where=str(directory))


def shape_from(config: dict[str, Any], tensors: Sequence[tuple[str, Sequence[int]]], where: str = "") -> Shape:
    """The sizes of a model by its config and its weights.

    Args:
        config: the content of config.json; of several parts the text part counts.
        tensors: names and shapes of all weights, tied ones once.
        where: the checkpoint, for messages.

    Raises:
        CheckpointError: the config does not name a size, or the weights are stored quantised.
    """
    inner = config.get("text_config")
    config = {**config, **inner} if isinstance(inner, dict) else config
    if config.get("quantization_config"):
        raise _unknown(where, "its weights are stored quantised")
    sizes = {name: _first(config, keys) for name, keys in KEYS.items()}
    lacking = [KEYS[name][0] for name, size in sizes.items() if size is None]
    if lacking:
        raise _unknown(where, f"config.json has no '{lacking[0]}'")
    found: dict[str, int] = {name: size for name, size in sizes.items() if size is not None}
    matrices = [(name, shape) for name, shape in tensors if len(shape) > 1]
    feed_forward = _first(config, INNER)
    if feed_forward is None and config.get("model_type") == "gpt2":
        feed_forward = 4 * found["width"]  # what transformers takes for its `n_inner: null`
    if feed_forward is None or not matrices:
        raise _unknown(where, f"config.json has no '{INNER[0]}'" if matrices else "it has no weight matrices")
    return Shape(
        parameters=sum(prod(shape) for _, shape in tensors),
        **found,
        kv_heads=_first(config, ("num_key_value_heads",)) or found["heads"],
        head=_first(config, ("head_dim",)) or found["width"] // found["heads"],
        inner=feed_forward,
        sides=sum(prod(shape[:-2]) * sum(shape[-2:]) for name, shape in matrices if OF_A_BLOCK.search(name)),
        largest=max(prod(shape) for _, shape in matrices),
    )


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    return next((config[key] for key in keys if type(config.get(key)) is int and config[key] > 0), None)


def _unknown(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"the cost of this model cannot be predicted: {why}",
        remedy="Leave --cost out; `run` writes what each trial took.",
        where=where,
    )
