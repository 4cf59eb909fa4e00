"""The kind of each file of a checkpoint for a loader: read, code, other weights, or nothing.

*Read* depends on name and folder: the files that transformers and its tokenizers open at the top of a directory. These
files make the manifest. For all others the question is whether some loader may load them as weights, and the ending
alone never decides: a GGUF file may be called `notes.md`. So files that are known to be harmless are accepted (text,
pictures, sound, logs, each by its content), and all others count as weights, in a known format or not. For files on the
hub that are not downloaded only names are available: an ending that is not known to be harmless counts as weights.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Literal

Kind = Literal["read", "weights", "code", "nothing"]

POINTER = b"version https://git-lfs.github.com/spec/"
"""The beginning of a Git LFS pointer, which git leaves where git-lfs is not installed."""
PULL = "Run `git lfs install` and then `git lfs pull` in the clone."

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

WRAPPERS = {
    "Gemma3ForConditionalGeneration": "Gemma3ForConditionalGeneration",
    "Gemma4ForConditionalGeneration": "Gemma4ForConditionalGeneration",
    "Llama4ForConditionalGeneration": "Llama4ForCausalLM",
    "Qwen3_5ForConditionalGeneration": "Qwen3_5ForCausalLM",
}
"""Multimodal architectures that transformers' AutoModelForCausalLM builds, and the resulting class."""

NOT_TEXT = re.compile(
    r"(^|\.)(vision_model|vision_tower|visual|multi_modal_projector|audio_tower|embed_(vision|audio))\."
)
"""Names of a multimodal model's tensors that its text part does not use."""
CONSTANT = re.compile(r"\.(attn|attention|self_attn|self_attention)\.(bias|masked_bias|causal_mask)$")
"""Buffers that old releases saved with a model: the causal mask. Ignored where they hold such a mask."""

TEMPLATES = "additional_chat_templates"
TOKENIZER_TEXTS = frozenset({"vocab.txt", "merges.txt", "dict.txt"})
TOKENIZER_ENDINGS = frozenset({".spm", ".codes", ".tokenizer", ".tiktoken"})
LOGS = frozenset(
    {"trainer_state.json", "all_results.json", "train_results.json", "eval_results.json", "predict_results.json",
     "test_results.json", "latest_checkpointed_iteration.json"}
)  # fmt: skip
"""Files that transformers' Trainer writes and no loader opens. Other JSON at the top is in the manifest."""

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".h5", ".msgpack"})
WEIGHTS = PICKLES | {
    ".safetensors", ".gguf", ".ggml", ".llamafile", ".hdf5", ".keras", ".onnx", ".onnx_data", ".ort", ".tflite",
    ".task", ".litertlm", ".ot", ".pb", ".pbtxt", ".mlmodel", ".mlpackage", ".engine", ".plan", ".trt", ".pte", ".ptl",
    ".nemo", ".pdparams", ".pdiparams", ".pdmodel", ".params", ".caffemodel", ".weights", ".index", ".data", ".ocdbt",
    ".zarr", ".distcp", ".dduf", ".rknn", ".hef", ".t7", ".tar", ".gz", ".tgz", ".xz", ".zst", ".zip", ".7z",
}  # fmt: skip
"""Endings of weights in any known format, and of archives, which may contain weights."""
WEIGHT_NAMES = re.compile(r"(\.index\.json|\.data-\d+-of-\d+|\.onnx\.data|^consolidated[^/]*)$")
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})
CODE_FOLDER = "custom_generate"
"""transformers imports code from it."""

HARMLESS = frozenset(
    {".md", ".txt", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".ico", ".bmp", ".tif", ".tiff",
     ".mp3", ".mp4", ".wav", ".ogg", ".flac", ".webm", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".cfg", ".ini",
     ".csv", ".tsv", ".html", ".css", ".js", ".ts", ".ipynb", ".log", ".jinja", ".sh", ".xml", ".bib", ".lock",
     ".gitattributes", ".gitignore", ".gitmodules", ".license", ".py", ".parquet", ".arrow"}
)  # fmt: skip
HARMLESS_NAMES = frozenset(
    {"license", "licence", "notice", "copying", "readme", "citation", "authors", "changelog", "contributing",
     "dockerfile", "makefile", "use_policy", ".gitattributes", ".gitignore", ".gitmodules", ".ds_store", "latest"}
)  # fmt: skip
TOKENIZER_NAMES = re.compile(r"^(tokenizer\.model(\.v\d+)?|spiece\.model|sentencepiece\S*\.model|spm\S*\.model)$")
"""Vocabularies of SentencePiece: read at the top; not weights, although Mistral and Llama ship them in other folders
too."""
LARGE = 50_000_000
"""Size in bytes from which an ending for text or pictures is not trusted where the content is not available."""

MAGIC = (
    b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04",  # pickles, and torch.save's archives of them
    b"GGUF", b"FUGG", b"lmgg", b"ggml", b"fmgg", b"tjgg", b"algg", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY",
)  # fmt: skip
"""First bytes of weights. TFLite and safetensors have their signature at another position (`begins_like_weights`)."""
MEDIA = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"RIFF", b"%PDF-", b"\x00\x00\x01\x00",
    b"II*\x00", b"MM\x00*", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\x00\x00\x00\x01Bud1", b"PAR1", b"ARROW1",
)  # fmt: skip
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Bytes that do not occur in text; tabs, ends of lines and pages, and the escape of coloured logs do."""
BLOCK = 1 << 20


def is_read(name: str) -> bool:
    """Whether a loader opens a file of this name and folder (apart from weights): config, tokenizer, template.

    Args:
        name: relative to the checkpoint, with forward slashes.
    """
    path = PurePosixPath(name)
    ending = path.suffix.lower()
    if len(path.parts) == 2:
        return path.parts[0] == TEMPLATES and ending == ".jinja"
    if len(path.parts) != 1:
        return False
    if ending == ".json":
        return path.name not in LOGS and WEIGHT_NAMES.search(path.name) is None
    vocabulary = ending in TOKENIZER_ENDINGS or (ending == ".model" and TOKENIZER_NAMES.match(path.name) is not None)
    return vocabulary or ending == ".jinja" or path.name in TOKENIZER_TEXTS


def by_name(name: str, size: int = 0) -> Kind:
    """The kind of a file that is not read, by its name and size alone.

    An unknown ending counts as weights: on the hub only the name is available.
    """
    path = PurePosixPath(name)
    ending = path.suffix.lower()
    if ending in CODE or CODE_FOLDER in path.parts[:-1]:
        return "code"
    if ending in WEIGHTS or WEIGHT_NAMES.search(path.name.lower()):
        return "weights"
    named = {path.name.lower(), path.name.lower().partition(".")[0]} & HARMLESS_NAMES
    harmless = ending in HARMLESS or named or ".tfevents." in path.name or TOKENIZER_NAMES.match(path.name)
    return "nothing" if harmless and size < LARGE else "weights"


def by_content(path: Path, name: str) -> Kind:
    """The kind of a file that is not read: by an ending for code or weights, else by its whole content.

    Args:
        path: a regular file; it is read completely unless its start decides.
        name: relative to the checkpoint, with forward slashes.
    """
    kind = by_name(name)
    if kind == "code" or PurePosixPath(name).suffix.lower() in WEIGHTS or WEIGHT_NAMES.search(path.name.lower()):
        return kind
    with path.open("rb") as file:
        start = file.read(BLOCK)
        if begins_like_weights(start, path.stat().st_size):
            return "weights"
        if start.startswith(POINTER) or TOKENIZER_NAMES.match(path.name):  # a pointer refers to another file
            return kind
        if start.startswith(MEDIA) or start[4:8] == b"ftyp" or b"brain.Event:" in start[:64]:
            return "weights" if zipfile.is_zipfile(path) else "nothing"  # torch.load finds an archive from its end
        while start:
            if CONTROLS.search(start):
                return "weights"
            start = file.read(BLOCK)
    return "nothing"


def begins_like_weights(start: bytes, size: int) -> bool:
    """Whether a file with this beginning and size is in a format of weights."""
    header = int.from_bytes(start[:8], "little")
    safetensors = len(start) > 8 and start[8:9] == b"{" and 2 <= header <= size - 8
    return start.startswith(MAGIC) or start[4:8] == b"TFL3" or safetensors


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER
