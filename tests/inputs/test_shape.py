"""A model's sizes from its config and the headers of its files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.shape import shape_from, shape_of

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11,
    "intermediate_size": 16,
}  # fmt: skip
TENSORS: list[tuple[str, list[int]]] = [
    ("model.embed_tokens.weight", [11, 8]),
    *((f"model.layers.{n}.{name}.weight", [16, 8]) for n in (0, 1) for name in ("mlp.up_proj", "mlp.gate_proj")),
    ("model.norm.weight", [8]),
]
PLAIN = 88 + 4 * 128 + 8


def changed(**more: Any) -> dict[str, Any]:
    return {**CONFIG, **more}


def test_matrices_of_blocks_and_all_others_are_counted() -> None:
    found = shape_from(CONFIG, TENSORS)
    assert (found.parameters, found.inside, found.beside, found.loaded) == (PLAIN, 512, 0, PLAIN)
    assert (found.sides, found.largest, found.head) == (4 * 24, 128, 4)


def test_a_tied_head_counts_once_also_where_it_is_stored() -> None:
    both = [*TENSORS, ("lm_head.weight", [11, 8])]
    assert shape_from(CONFIG, both).parameters == PLAIN + 88
    assert shape_from(changed(tie_word_embeddings=True), both).parameters == PLAIN
    assert shape_from(changed(model_type="gemma3_text"), both).parameters == PLAIN


def test_old_releases_masks_are_no_weights() -> None:
    masks = [("transformer.h.0.attn.bias", [1, 1, 64, 64]), ("transformer.h.0.attn.masked_bias", [])]
    assert shape_from(CONFIG, [*TENSORS, *masks]) == shape_from(CONFIG, TENSORS)


def test_what_is_beside_the_text_is_loaded_and_not_trained() -> None:
    vision = [("model.vision_tower.layers.0.fc1.weight", [100, 8])]
    text = {key: value for key, value in CONFIG.items() if key != "model_type"}
    found = shape_from({"model_type": "gemma3", "text_config": text}, [*TENSORS, *vision])
    assert (found.parameters, found.beside, found.loaded) == (PLAIN, 800, PLAIN + 800)
    assert (found.sides, found.largest) == (4 * 24, 128)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed(hidden_size=16), "11 words of width 16, and the embedding is 11 x 8"),
        (changed(vocab_size=10**9), "1,000,000,000 words of width 8"),
        (changed(num_attention_heads=100), "divides a width of 8 among 100 heads"),
        (changed(num_hidden_layers=3), "3 blocks, and the files have 2"),
        (changed(intermediate_size=10**400), "no 'intermediate_size', and other sizes of a 'llama' are not known"),
        (changed(hidden_size=10**15), "no 'hidden_size'"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_not_priced(config: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        shape_from(config, TENSORS)


@pytest.mark.parametrize("shape", ["xy", [-5, 8], [10**200, 10**200], [2.5], None, [1 << 30, 1 << 30]])
def test_a_shape_that_is_none_is_refused(tmp_path: Path, shape: Any) -> None:
    header = json.dumps({"a.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"cannot be predicted: the header's shape of 'a\.weight' is none"):
        shape_of(CheckpointRef(tmp_path))
