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
from robustness_gate.inputs.filekinds import CONSTANT, NOT_TEXT
from robustness_gate.inputs.precision import WHOLE

KEYS = {
    "layers": LAYERS,
    "width": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
"""Under which names configs have what every model has."""
INNER = ("intermediate_size", "n_inner", "ffn_dim")
OF_A_BLOCK = re.compile(r"\.(\d+)\.")
"""Weights of a block have its number in their names."""
EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in)\.weight$")
HEAD = re.compile(r"(^|\.)lm_head\.weight$")
TIED = frozenset({"gpt2", "gemma", "gemma2", "gemma3", "gemma3_text"})
"""Architectures whose head is the embedding unless the config says otherwise, and whose configs may leave it out."""
MOST = 1 << 40
"""No size and no number of weights is as large."""


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes."""

    parameters: int
    """Of the text part: a head that is tied to the embedding counts once, old releases' buffers do not."""
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
    inside: int
    """Parameters of all matrices of the blocks."""
    beside: int
    """Of parts besides the text, which are loaded and neither asked nor trained."""

    @property
    def loaded(self) -> int:
        """All parameters that are in memory."""
        return self.parameters + self.beside


def shape_of(place: CheckpointRef) -> Shape:
    """The sizes of a checkpoint, of its base where it is an adapter.

    Raises:
        CheckpointError: config.json does not name a size, or the weights are stored quantised, so that the headers do
            not show how many there are.
    """
    directory = (place.base or place).path
    tensors = [
        (name, _sizes(tensor["shape"], name, str(directory)))
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
    tied = config.get("tie_word_embeddings", config.get("model_type") in TIED) is True
    tensors = [(name, shape) for name, shape in tensors if not CONSTANT.search(name)]
    embedded = next((shape for name, shape in tensors if EMBEDDING.search(name) and not NOT_TEXT.search(name)), None)
    if tied and embedded is not None:
        tensors = [(name, shape) for name, shape in tensors if not HEAD.search(name)]
    beside = sum(prod(shape) for name, shape in tensors if NOT_TEXT.search(name)) if isinstance(inner, dict) else 0
    if beside:
        tensors = [(name, shape) for name, shape in tensors if not NOT_TEXT.search(name)]
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
        kind = config.get("model_type")
        lacks = f"config.json has no '{INNER[0]}', and other sizes of a '{kind}' are not known here"
        raise _unknown(where, lacks if matrices else "it has no weight matrices")
    head = _first(config, ("head_dim",)) or found["width"] // found["heads"]
    _refuse_contradictions(config, found, head, embedded, matrices, where)
    of_blocks = [(name, shape) for name, shape in matrices if OF_A_BLOCK.search(name)]
    return Shape(
        parameters=sum(prod(shape) for _, shape in tensors),
        **found,
        kv_heads=_first(config, ("num_key_value_heads",)) or found["heads"],
        head=head,
        inner=feed_forward,
        sides=sum(prod(shape[:-2]) * sum(shape[-2:]) for _, shape in of_blocks),
        largest=max(prod(shape) for _, shape in matrices),
        inside=sum(prod(shape) for _, shape in of_blocks),
        beside=beside,
    )


def _sizes(shape: Any, name: str, where: str) -> list[int]:
    """A tensor's sizes out of a header. Raises CheckpointError where they are none."""
    whole = isinstance(shape, list) and all(type(each) is int and 0 <= each < MOST for each in shape)
    if not whole or prod(shape) >= MOST:
        raise _unknown(where, f"the header's shape of '{name[:80]}' is none: {shape!r:.60}")
    return list(shape)


def _refuse_contradictions(
    config: dict[str, Any],
    found: dict[str, int],
    head: int,
    embedded: Sequence[int] | None,
    matrices: Sequence[tuple[str, Sequence[int]]],
    where: str,
) -> None:
    """Raises CheckpointError where the config names other sizes than the weights have: arithmetic over it is none."""
    if not head:
        raise _unknown(where, f"config.json divides a width of {found['width']:,} among {found['heads']:,} heads")
    width = _first(config, ("word_embed_proj_dim",)) or found["width"]
    if embedded is not None and list(embedded) != [found["vocabulary"], width]:
        stated = f"{found['vocabulary']:,} words of width {width:,}"
        stored = " x ".join(f"{each:,}" for each in embedded)
        raise _unknown(where, f"config.json says {stated}, and the embedding is {stored}")
    blocks = {int(number[1]) for number in (OF_A_BLOCK.search(name) for name, _ in matrices) if number}
    if blocks and max(blocks) + 1 < found["layers"]:
        raise _unknown(where, f"config.json says {found['layers']:,} blocks, and the files have {max(blocks) + 1:,}")


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> int | None:
    return next((config[key] for key in keys if type(config.get(key)) is int and 0 < config[key] < MOST), None)


def _unknown(where: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"the cost of this model cannot be predicted: {why}",
        remedy="Leave --cost out; `run` writes what each trial took.",
        where=where,
    )
