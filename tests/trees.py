"""Directories of the shape of what really lies on the hub, with files of a few bytes in place of gigabytes."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
PROSE = "Prose about the model, licence and all.\n"


def tensors(*names: str, value: float = 0.0) -> bytes:
    """A safetensors file with tensors of one number."""
    told = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)
    }  # fmt: skip
    header = json.dumps(told).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", value) * len(names)


def index(**where: str) -> bytes:
    return json.dumps({"metadata": {"total_size": 4}, "weight_map": where}).encode()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("archive/data.pkl", b"x")
    return file.getvalue()


PNG, GGUF = b"\x89PNG\r\n\x1a\n" + bytes(40), b"GGUF\x03\0\0\0" + bytes(60)
HDF5, TFLITE, ONNX = (
    b"\x89HDF\r\n\x1a\n" + bytes(40),
    b"\x1c\0\0\0TFL3" + bytes(40),
    b"\x08\x07\x12\x07pytorch" + bytes(9),
)
MSGPACK, EVENTS = b"\x81\xa5model\x81" + bytes(40), bytes(12) + b"\x1a\x0dbrain.Event:2" + bytes(9)
SMALL: dict[str, bytes] = {
    "config.json": json.dumps(CONFIG).encode(),
    "generation_config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
}
PLAIN = {**SMALL, "model.safetensors": tensors("a", "b")}
SHARDED = {
    **SMALL,
    "model.safetensors.index.json": index(a="model-00001-of-00002.safetensors", b="model-00002-of-00002.safetensors"),
    "model-00001-of-00002.safetensors": tensors("a"),
    "model-00002-of-00002.safetensors": tensors("b"),
}
NOTHING = {"README.md": PROSE.encode(), ".gitattributes": b"*.bin filter=lfs\n", "LICENSE": b"Apache \xe9 2.0\n"}

TREES: dict[str, tuple[dict[str, bytes], dict[str, bytes], int]] = {
    "mistral": (
        {**SHARDED, "params.json": b"{}", "tekken.json": b"{}", "chat_template.jinja": b"{{ messages }}"},
        {"consolidated.safetensors": tensors("x")},
        3,
    ),
    "llama": (
        {**SHARDED, "special_tokens_map.json": b"{}"},
        {"original/consolidated.00.pth": archive(), "original/consolidated.01.pth": archive()},
        6,
    ),
    "gpt-2": (
        {**PLAIN, "vocab.json": b"{}", "merges.txt": b"#version"},
        {"onnx/decoder_model.onnx": ONNX, "onnx/decoder_model.onnx_data": bytes(64), "pytorch_model.bin": archive(),
         "64.tflite": TFLITE, "64-fp16.tflite": TFLITE, "rust_model.ot": archive(), "tf_model.h5": HDF5,
         "flax_model.msgpack": MSGPACK},
        5,
    ),
    "trainer": (
        {**PLAIN, "special_tokens_map.json": b"{}"},
        {"checkpoint-500/model.safetensors": tensors("a"), "checkpoint-500/optimizer.pt": archive(),
         "checkpoint-500/rng_state.pth": archive(), "checkpoint-500/scheduler.pt": archive(),
         "optimizer.pt": archive(), "training_args.bin": archive(), "rng_state.pth": archive()},
        9,
    ),
}  # fmt: skip
"""By name: what is read, what are other weights, how many files are nothing (NOTHING among them)."""
MORE: dict[str, dict[str, bytes]] = {
    "mistral": {},
    "llama": {"original/params.json": b"{}", "original/tokenizer.model": b"\x0a\x0e\x0a\x05<unk>" + bytes(9),
              "USE_POLICY.md": PROSE.encode()},
    "gpt-2": {"onnx/config.json": b"{}", "picture.png": PNG},
    "trainer": {"trainer_state.json": b"{}", "all_results.json": b"{}", "runs/a/events.out.tfevents.1.x.0": EVENTS,
                "checkpoint-500/config.json": b"{}", "checkpoint-500/trainer_state.json": b"{}",
                "runs/deep/er/config.json": b"{}"},
}  # fmt: skip


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
