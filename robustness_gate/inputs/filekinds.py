"""What each file of a checkpoint is to a loader: read, code, other weights, or nothing.

*Read* goes by name and place: what transformers and its tokenizers open at the top of a directory. These files make
the manifest. Of all others the question is whether some loader may take them for weights, and the answer never rests on
the ending alone: a GGUF file called `notes.md` is one. So what is known to be harmless is let through (text, pictures,
sound, logs, each by its content), and whatever is left counts as weights, known format or not. Of a repository on the
hub that is not downloaded names are all there is: an ending that is not known to be harmless counts.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Literal

Kind = Literal["read", "weights", "code", "nothing"]

POINTER = b"version https://git-lfs.github.com/spec/"
"""How what git leaves of a file begins where git-lfs is not installed."""
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
"""Architectures for text and more that transformers' AutoModelForCausalLM builds, and the class that it then is."""

TEMPLATES = "additional_chat_templates"
TOKENIZER_TEXTS = frozenset({"vocab.txt", "merges.txt", "dict.txt"})
TOKENIZER_ENDINGS = frozenset({".spm", ".codes", ".tokenizer", ".tiktoken"})
LOGS = frozenset(
    {"trainer_state.json", "all_results.json", "train_results.json", "eval_results.json", "predict_results.json",
     "test_results.json", "latest_checkpointed_iteration.json"}
)  # fmt: skip
"""What transformers' Trainer writes beside a model and no loader opens. Other JSON at the top is in the manifest."""

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".h5", ".msgpack"})
WEIGHTS = PICKLES | {
    ".safetensors", ".gguf", ".ggml", ".llamafile", ".hdf5", ".keras", ".onnx", ".onnx_data", ".ort", ".tflite",
    ".task", ".litertlm", ".ot", ".pb", ".pbtxt", ".mlmodel", ".mlpackage", ".engine", ".plan", ".trt", ".pte", ".ptl",
    ".nemo", ".pdparams", ".pdiparams", ".pdmodel", ".params", ".caffemodel", ".weights", ".index", ".data", ".ocdbt",
    ".zarr", ".distcp", ".dduf", ".rknn", ".hef", ".t7", ".tar", ".gz", ".tgz", ".xz", ".zst", ".zip", ".7z",
}  # fmt: skip
"""Endings of weights in any format that is read somewhere, and of archives, which may hold some."""
WEIGHT_NAMES = re.compile(r"(\.index\.json|\.data-\d+-of-\d+|\.onnx\.data|^consolidated[^/]*)$")
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})
CODE_FOLDER = "custom_generate"
"""transformers imports what lies in it."""

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
"""Vocabularies of SentencePiece: read at the top, and no weights where Mistral and Llama ship them besides."""
LARGE = 50_000_000
"""Bytes from which on an ending that means text or a picture is not believed where the content cannot be seen."""

MAGIC = (
    b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04",  # pickles, and torch.save's archives of them
    b"GGUF", b"FUGG", b"lmgg", b"ggml", b"fmgg", b"tjgg", b"algg", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY",
)  # fmt: skip
"""How weights begin. TFLite and safetensors have their mark further in (`begins_like_weights`)."""
MEDIA = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"RIFF", b"%PDF-", b"\x00\x00\x01\x00",
    b"II*\x00", b"MM\x00*", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\x00\x00\x00\x01Bud1", b"PAR1", b"ARROW1",
)  # fmt: skip
CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Bytes that no text holds; a tab, ends of lines and pages, and the escape of coloured logs are text."""
BLOCK = 1 << 20


def is_read(name: str) -> bool:
    """Whether a loader opens a file of this name and place, weights aside: config, tokenizer, template.

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
    """What a file is that nothing reads, as far as its name and its size in bytes tell.

    Of an ending that is not known it says weights: on the hub a name is all there is.
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
    """What a file is that nothing reads: by its ending where that means code or weights, else by all of its bytes.

    Args:
        path: a regular file; the whole of it is read unless its start already tells.
        name: relative to the checkpoint, with forward slashes.
    """
    told = by_name(name)
    if told == "code" or PurePosixPath(name).suffix.lower() in WEIGHTS or WEIGHT_NAMES.search(path.name.lower()):
        return told
    with path.open("rb") as file:
        start = file.read(BLOCK)
        if begins_like_weights(start, path.stat().st_size):
            return "weights"
        if start.startswith(POINTER) or TOKENIZER_NAMES.match(path.name):  # a pointer stands for what is elsewhere
            return told
        if start.startswith(MEDIA) or start[4:8] == b"ftyp" or b"brain.Event:" in start[:64]:
            return "weights" if zipfile.is_zipfile(path) else "nothing"  # torch.load finds an archive from its end
        while start:
            if CONTROLS.search(start):
                return "weights"
            start = file.read(BLOCK)
    return "nothing"


def begins_like_weights(start: bytes, size: int) -> bool:
    """Whether a file that begins so, and has so many bytes, is in one of the formats in which weights are kept."""
    header = int.from_bytes(start[:8], "little")
    safetensors = len(start) > 8 and start[8:9] == b"{" and 2 <= header <= size - 8
    return start.startswith(MAGIC) or start[4:8] == b"TFL3" or safetensors


def is_pointer(path: Path) -> bool:
    """Whether it is what git leaves of a file where git-lfs is not installed."""
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER
