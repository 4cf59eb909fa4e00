"""A checkpoint directory: where it lies, what it is called, and what is refused before anything reads it.

A checkpoint's name is the SHA-256 of its manifest: path, size and digest of every file that a loader may read. Only
safetensors weights and plain text are let in, because reading a pickle runs it and `auto_map` imports code. All this is
checked without torch, so `plan` can refuse a checkpoint in milliseconds.

It may be a directory, a commit of a Hugging Face repository (`hf://owner/name@commit`), or a PEFT adapter in either,
which is named together with the base that it stands on: the same adapter on another base is another model.
"""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from robustness_gate import hub, templates
from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.files import sha256_file
from robustness_gate.nouns import Digest, Noun

MAX_HEADER_BYTES = 100_000_000  # of a safetensors file: the format's own limit
MAX_JSON_BYTES = 200_000_000
MAX_DEPTH = 16
MAX_FILES = 10_000

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib", ".h5", ".msgpack"})
CODE = frozenset({".py", ".pyc", ".so", ".dll", ".dylib"})
CODE_FOLDER = "custom_generate"
"""transformers imports what lies in it."""
DISGUISED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""How a pickle begins (protocols 2 to 5), and a zip archive, as torch.save writes it."""
IGNORED = {
    ".git": "version control, never read by a loader",
    ".gitattributes": "version control, never read by a loader",
    ".gitignore": "version control, never read by a loader",
    ".cache": "download records of a hub client, never read by a loader",
    "README.md": "prose, never read by a loader",
}

FETCHED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.spm", "*.codes", "*.tokenizer")
"""What is taken from a Hugging Face repository: weights, configs, and whatever a tokenizer of transformers reads."""
HUB = re.compile(r"hf:(?://)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<commit>[0-9a-f]{40})", re.ASCII)

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MERGEABLE = ("LORA", "IA3", "LOHA", "LOKR")
"""Kinds of adapters that can be merged into their base and that the tests have seen merged."""
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")
"""Starting points of a LoRA that leave the base's own weights alone."""
SETTINGS = {
    "peft_type", "task_type", "peft_version", "inference_mode", "base_model_name_or_path", "revision", "target_modules",
    "exclude_modules", "target_parameters", "modules_to_save", "trainable_token_indices", "ensure_weight_tying",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "r", "alpha", "lora_alpha", "bias",
    "lora_bias", "lora_dropout", "rank_dropout", "module_dropout", "rank_dropout_scale", "use_rslora", "use_dora",
    "fan_in_fan_out", "feedforward_modules", "decompose_both", "decompose_factor", "use_effective_conv2d",
    "init_lora_weights", "init_ia3_weights", "init_weights", "megatron_core", "qalora_group_size",
}  # fmt: skip
"""Settings of an adapter under which merging it is the same as using it; one that is not here must not be set. (The
last two always are, and do nothing without others that are not here.)"""


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies on this machine, for this run alone: no path in it is ever written down."""

    path: Path
    base: Place | None = None
    """What an adapter stands on; None for an ordinary checkpoint."""
    links_into: Path | None = None
    """The blobs folder of the Hugging Face cache into which this snapshot's links may lead; None for a directory."""
    source: str | None = None
    """Where it came from, in words that mean the same on every machine: `hf://owner/name@commit`, `organism:NAME`."""


class FileEntry(Noun):
    """One file of a checkpoint."""

    path: str
    size: int = Field(ge=0)
    sha256: Digest


class Manifest(Noun):
    """Every file of a checkpoint that a loader may read, sorted by path. Its digest is the checkpoint's name."""

    version: int = 1
    files: tuple[FileEntry, ...] = Field(min_length=1)
    base: Digest | None = None
    """Of an adapter: the digest of its base's manifest."""

    @model_serializer(mode="wrap")
    def _without_base(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An ordinary checkpoint says nothing of a base, so its name is what it was before adapters were known."""
        plain: dict[str, Any] = handler(self)
        if self.base is None:
            plain.pop("base", None)
        return plain


Watch = Callable[[int, int], None]
"""Told how many bytes of how many are hashed, from several threads, one at a time."""


def manifest_of(place: Place, watch: Watch | None = None) -> Manifest:
    """Check a checkpoint, and its base if it is an adapter, and name it by content.

    Args:
        place: where it lies.
        watch: for progress: the base of an adapter counts for itself.

    Raises:
        CheckpointError: as `inspect` does, of either.
    """
    try:
        base = manifest_of(place.base, watch).digest if place.base is not None else None
        return inspect(place.path, links_into=place.links_into, base=base, watch=watch)
    except CheckpointError as error:
        if place.source is None or error.where != str(place.path):
            raise
        raise CheckpointError(error.message, remedy=error.remedy, where=place.source) from None


def inspect(
    directory: Path, *, links_into: Path | None = None, base: str | None = None, watch: Watch | None = None
) -> Manifest:
    """Check a checkpoint directory and name it by content.

    Args:
        directory: an ordinary checkpoint, or an adapter where `base` is given.
        links_into: only for a snapshot that `fetch` resolved: the blobs folder into which its links may lead. Of such a
            directory only what a fetch brings is looked at, so that its name does not depend on what else some other
            program left in the cache; nothing else there is ever read, because loaders are told to use safetensors and
            no remote code.
        base: the digest of the manifest of an adapter's base.
        watch: for progress.

    Raises:
        CheckpointError: it is missing, empty, unsafe (pickle, code, links), or not a causal language model.
    """
    paths = _files(directory, links_into)
    _refuse_names(directory, paths)
    _refuse_unsafe(directory, paths)
    (_check_model if base is None else _check_adapter)(directory, paths)
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter lock while it hashes
        digests = list(pool.map(partial(sha256_file, watch=_counted(paths, watch)), paths))
    entries = [
        FileEntry(path=path.relative_to(directory).as_posix(), size=path.stat().st_size, sha256=digest)
        for path, digest in zip(paths, digests, strict=True)
    ]
    return Manifest(files=tuple(sorted(entries, key=lambda entry: entry.path)), base=base)


def _counted(paths: list[Path], watch: Watch | None) -> Callable[[int], None] | None:
    """What adds up the blocks of all files, and tells the sum."""
    if watch is None:
        return None
    total, lock, done = sum(path.stat().st_size for path in paths), Lock(), 0

    def add(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            watch(done, total)

    return add


# --- from a Hugging Face repository -----------------------------------------------------------------------------------


def fetch(reference: str) -> Place:
    """Download one commit of a Hugging Face repository, or find it in the cache.

    Without network the snapshot is what the cache holds; the manifest names what was examined.

    Raises:
        UsageError: the reference does not name a commit in full.
        CheckpointError: the commit cannot be had.
        SetupError: huggingface_hub is not installed.
    """
    match = HUB.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"'{reference}' is not hf://OWNER/NAME@COMMIT with a commit of 40 hexadecimal digits.",
            remedy="Name the commit in full: a branch, a tag or a short hash can change under a verdict.",
        )
    repository, commit = match["name"], match["commit"]
    source = f"hf://{repository}@{commit}"
    path = hub.snapshot("model", repository, commit, FETCHED, where=source, refusal=CheckpointError)
    return Place(path, links_into=path.parent.parent / "blobs", source=source)


# --- adapters ---------------------------------------------------------------------------------------------------------


def is_adapter(place: Place) -> bool:
    """Whether the directory holds a PEFT adapter; it may hold a whole model beside it, which `manifest_of` refuses."""
    return (place.path / ADAPTER).is_file()


def named_base(place: Place) -> str:
    """The base that an adapter's own config names: a local directory, or a hub reference with its commit.

    Raises:
        CheckpointError: it names none, or one that may change: a hub name without a commit.
    """
    where = place.source or str(place.path)
    _files(place.path, place.links_into)  # nothing is read before links and pipes are refused
    config = _small_json(place.path, place.path / ADAPTER)
    told, commit = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(told, str) or not told:
        raise CheckpointError("the adapter names no base model", remedy="Name it with --base.", where=where)
    for reference in (told, f"hf://{told}@{commit}"):
        if HUB.fullmatch(reference):
            return reference
    if Path(told).is_dir():
        return told
    raise CheckpointError(
        f"the adapter's base '{told[:120]}' is neither a directory here nor pinned to a commit",
        remedy="Name it with --base: a directory, or hf://OWNER/NAME@COMMIT.",
        where=where,
    )


def _check_adapter(directory: Path, paths: list[Path]) -> None:
    """Only what merges into an ordinary model, from weights that the manifest names, without importing anything."""
    names = {path.name for path in paths if path.parent == directory}
    for file in (ADAPTER, ADAPTER_WEIGHTS):
        if file not in names:
            raise CheckpointError(
                f"there is no {file}, and a base was given",
                remedy="Save the adapter with peft's save_pretrained, as safetensors.",
                where=str(directory),
            )
    if other := sorted(n for n in names if n.endswith(".safetensors") and n != ADAPTER_WEIGHTS):
        raise CheckpointError(
            f"there are an adapter and the weights '{other[0]}': {ADAPTER} makes a loader read both, or fetch weights "
            "that the manifest does not name",
            remedy="Keep the adapter alone, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    config = _small_json(directory, directory / ADAPTER)
    kind, start = config.get("peft_type"), config.get("init_lora_weights")
    unknown = sorted(key for key, value in config.items() if value and key not in SETTINGS)
    merge = "Merge it into its base (peft's merge_and_unload) and save that."
    refusals: dict[str, bool] = {
        f"adapters of the kind {str(kind)[:40]!r} cannot be judged as merged": kind not in MERGEABLE,
        f"an adapter for {config.get('task_type')} is not for a causal language model": config.get("task_type")
        not in ("CAUSAL_LM", None),
        f"'{ADAPTER}' names code to import (auto_mapping)": bool(config.get("auto_mapping")),
        f"'{ADAPTER}' names code to import (megatron_config)": bool(config.get("megatron_config")),
        f"the adapter changes its base while it is loaded (init_lora_weights: {str(start)[:40]})": not (
            start is None or (isinstance(start, bool | str) and start in PLAIN_STARTS)
        ),
        f"the adapter sets '{(unknown or [''])[0][:40]}', and whether merging keeps it is not known": bool(unknown),
    }
    for says, applies in refusals.items():
        if applies:
            raise CheckpointError(says, remedy=merge, where=str(directory))


# --- what is let in ---------------------------------------------------------------------------------------------------


def _files(directory: Path, links_into: Path | None = None) -> list[Path]:
    if not directory.exists():
        raise CheckpointError(
            "no such checkpoint directory",
            remedy="Check the path; a model on the hub is hf://OWNER/NAME@COMMIT.",
            where=str(directory),
        )
    if not directory.is_dir():
        raise CheckpointError("a checkpoint is a directory, this is a file", where=str(directory))
    found: list[Path] = []
    allowed = _inside(directory) if links_into is None else _in_cache(links_into)
    for folder, names, files in os.walk(directory):
        at_top = Path(folder) == directory
        names[:] = sorted(name for name in names if not (at_top and name in IGNORED))
        if len(Path(folder).relative_to(directory).parts) > MAX_DEPTH or len(found) > MAX_FILES:
            raise CheckpointError(
                f"it has folders in folders more than {MAX_DEPTH} deep, or more than {MAX_FILES:,} files",
                remedy="Point to a directory made by save_pretrained.",
                where=str(directory),
            )
        if links_into is not None:
            files = [each for each in files if _is_fetched((Path(folder) / each).relative_to(directory))]
        for each in [*names, *files]:
            if (Path(folder) / each).is_symlink():
                _refuse_link(directory, Path(folder) / each, allowed)
        found += [Path(folder) / each for each in files if not (at_top and each in IGNORED)]
    for path in found:
        _refuse_odd(directory, path)
    if not found:
        raise CheckpointError("the directory is empty", remedy="Point to a saved model.", where=str(directory))
    return sorted(found)


def _is_fetched(path: Path) -> bool:
    return any(fnmatchcase(path.as_posix(), pattern) for pattern in FETCHED)


def _inside(directory: Path) -> Callable[[Path], bool]:
    """A link may point at a neighbour inside the checkpoint, nowhere else."""
    return lambda link: link.resolve().is_relative_to(directory.resolve())


def _in_cache(blobs: Path) -> Callable[[Path], bool]:
    """A snapshot's link must point straight at one blob of its own repository, nowhere else.

    That blob may be a link itself: huggingface_hub keeps one copy of a file for all repositories of a cache, under
    `blobs/` of the cache and named by its hash.
    """
    here = blobs.parent.resolve() / blobs.name  # not resolved itself: the folder must not be a link either
    shared = blobs.parent.parent.resolve() / "blobs"

    def allowed(link: Path) -> bool:
        first = link.parent / link.readlink()
        if first.parent.resolve() != here:
            return False
        target = first.resolve()
        return target.parent == here or (
            target.parent == shared / target.name[:2] and re.fullmatch(r"[0-9a-f]{64}", target.name) is not None
        )

    return allowed


def _refuse_link(directory: Path, link: Path, allowed: Callable[[Path], bool]) -> None:
    try:
        inside = link.resolve().is_file() and allowed(link)
    except (OSError, RuntimeError):  # a link that leads to itself
        inside = False
    if not inside:
        raise CheckpointError(
            f"'{link.relative_to(directory)}' is a link that leaves the checkpoint or leads nowhere",
            remedy="Copy the file itself into the directory.",
            where=str(directory),
        )


def _refuse_names(directory: Path, paths: list[Path]) -> None:
    """Names that mean one file here and another, or the same as their neighbour's, on the next machine."""
    seen: dict[str, Path] = {}
    for path in paths:
        name = path.relative_to(directory)
        if not name.as_posix().isprintable() or "\\" in name.as_posix():
            raise CheckpointError(
                f"the name {name.as_posix()!r} holds a backslash, or what cannot be printed",
                remedy="Rename the file.",
                where=str(directory),
            )
        for part in (name, *name.parents):
            other = seen.setdefault(unicodedata.normalize("NFKC", part.as_posix()).casefold(), part)
            if other != part:
                raise CheckpointError(
                    f"'{other.as_posix()}' and '{part.as_posix()}' are one name where case or accents do not count",
                    remedy="Rename one of them, or remove it.",
                    where=str(directory),
                )


def _refuse_odd(directory: Path, path: Path) -> None:
    """A pipe would keep its reader waiting for ever; a name that is not text cannot be written into a manifest."""
    if not path.is_file():
        raise CheckpointError(f"'{path.name}' is not a regular file", remedy="Remove it.", where=str(directory))
    try:
        path.name.encode()
        path.relative_to(directory).as_posix().encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the name {path.name!r} is not UTF-8", remedy="Rename the file.", where=str(directory)
        ) from None


def _refuse_unsafe(directory: Path, paths: list[Path]) -> None:
    for path in paths:
        name = path.relative_to(directory).as_posix()
        if path.suffix.lower() in PICKLES:
            raise CheckpointError(
                f"'{name}' may hold a pickle, and reading a pickle runs it",
                remedy="Save the model with safe_serialization=True and remove the file.",
                where=str(directory),
            )
        if path.suffix.lower() in CODE:
            raise CheckpointError(
                f"'{name}' is code", remedy="The gate never runs a checkpoint's code; remove it.", where=str(directory)
            )
        if CODE_FOLDER in path.relative_to(directory).parts[:-1]:
            raise CheckpointError(
                f"'{name}' lies in {CODE_FOLDER}/, from which code is imported",
                remedy="The gate never runs a checkpoint's code; remove the folder.",
                where=str(directory),
            )
        if path.name == ADAPTER and path.parent != directory:
            raise CheckpointError(
                f"'{name}' makes a loader fetch weights that the manifest does not name",
                remedy="Merge the adapter into the model (peft's merge_and_unload) and save that.",
                where=str(directory),
            )
        if path.suffix.lower() == ".json":
            _check_config(directory, path)
        if path.name.endswith(".index.json"):
            _check_index(directory, path)
        if path.suffix.lower() == ".jinja":
            _check_template(directory, path, _text(directory, path))
        if path.suffix.lower() == ".safetensors":
            _check_header(directory, path)
        else:
            _refuse_disguised(directory, path)


def _check_model(directory: Path, paths: list[Path]) -> None:
    names = {path.name for path in paths if path.parent == directory}
    if ADAPTER in names:
        raise CheckpointError(
            f"'{ADAPTER}' makes a loader fetch weights that the manifest does not name",
            remedy="Name what it stands on with --base, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    if "config.json" not in names:
        raise CheckpointError(
            "there is no config.json", remedy="Point to a directory made by save_pretrained.", where=str(directory)
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise CheckpointError(
            "there are no safetensors weights", remedy="Save the model as safetensors.", where=str(directory)
        )
    config = _json(directory, directory / "config.json")
    if "transformers_weights" in config:
        raise CheckpointError(
            "config.json chooses its own weights file (transformers_weights)",
            remedy="Name the weights model.safetensors and remove the key.",
            where=str(directory),
        )
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise CheckpointError("'architectures' in config.json is not a list", where=str(directory))
    if architectures and not any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in architectures):
        raise CheckpointError(f"{architectures[0]} is not a causal language model", where=str(directory))


def _small_json(directory: Path, path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"'{path.name}' is larger than {MAX_JSON_BYTES:,} bytes", where=str(directory))
    return _json(directory, path)


def _refuse_disguised(directory: Path, path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(DISGUISED):
        raise CheckpointError(
            f"'{path.relative_to(directory).as_posix()}' begins like a pickle or an archive of them",
            remedy="Nothing of that kind is read; remove it.",
            where=str(directory),
        )


def _check_config(directory: Path, path: Path) -> None:
    for text in templates.texts_in(_small_json(directory, path)):
        _check_template(directory, path, text)


def _check_template(directory: Path, path: Path, text: str) -> None:
    if fault := templates.fault(text):
        raise CheckpointError(
            f"the chat template in '{path.relative_to(directory).as_posix()}' {fault}",
            remedy="Remove it (the gate then asks in plain text), or ask whoever wrote it.",
            where=str(directory),
        )


def _text(directory: Path, path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(templates.MAX_CHARACTERS + 1)
    except ValueError:
        raise CheckpointError(f"'{path.name}' is not text in UTF-8", where=str(directory)) from None


def _check_index(directory: Path, path: Path) -> None:
    """A sharded model's index names its shards, and transformers joins them to the directory as they are."""
    shards = _json(directory, path).get("weight_map")
    for shard in shards.values() if isinstance(shards, dict) else [None]:
        text = shard if isinstance(shard, str) else ""
        here = Path(text).name == text and (directory / text).is_file()
        if not here or not text.endswith(".safetensors"):  # README.md, say, is not in the manifest
            raise CheckpointError(
                f"'{path.name}' names the shard {str(shard)[:80]!r}, which is not a safetensors file of this directory",
                remedy="Save the model anew with save_pretrained.",
                where=str(directory),
            )


def _json(directory: Path, path: Path) -> dict[str, Any]:
    try:
        content = _strict(path.read_bytes().decode("utf-8"))
    except _Unsafe as unsafe:
        raise CheckpointError(f"'{path.name}' {unsafe}", remedy=unsafe.remedy, where=str(directory)) from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"'{path.name}' is not valid JSON", where=str(directory)) from None
    return content if isinstance(content, dict) else {}


class _Unsafe(Exception):
    """What stands in a JSON file and must not, in words."""

    def __init__(self, words: str, remedy: str) -> None:
        super().__init__(words)
        self.remedy = remedy


def _strict(text: str) -> Any:
    """JSON in which no key stands twice, because another reader would take the other, and nothing asks for code."""

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise _Unsafe(f"has the key {twice[:40]!r} twice in one object", "Save the model anew.")
        for key in ("auto_map", "custom_pipelines"):
            if key in found and not isinstance(found[key], int):  # a vocabulary may have the word, with its number
                raise _Unsafe(
                    f"asks for remote code ({key})",
                    "The gate never runs a checkpoint's code; use an architecture that transformers knows.",
                )
        return found

    return json.loads(text, object_pairs_hook=checked)


def _check_header(directory: Path, path: Path) -> None:
    """The first eight bytes give the header's length; a pickle under another name does not survive this."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"'{path.name}' is not a safetensors file", where=str(directory))
        try:
            header = _strict(file.read(length).decode("utf-8"))
        except _Unsafe as unsafe:
            raise CheckpointError(f"'{path.name}' {unsafe}", remedy=unsafe.remedy, where=str(directory)) from None
        except (ValueError, RecursionError):
            raise CheckpointError(f"'{path.name}' is not a safetensors file", where=str(directory)) from None
    if not isinstance(header, dict):
        raise CheckpointError(f"'{path.name}' is not a safetensors file", where=str(directory))
    if max(_ends(header), default=0) != size - 8 - length:
        raise CheckpointError(
            f"'{path.name}' is cut short, or holds bytes that belong to no tensor",
            remedy="Save the model anew with save_pretrained.",
            where=str(directory),
        )


def _ends(header: dict[str, Any]) -> Iterator[int]:
    """Where each tensor's bytes end, counted from the end of the header; nothing for what says so in no known way."""
    for name, tensor in header.items():
        told = tensor.get("data_offsets") if name != "__metadata__" and isinstance(tensor, dict) else None
        if isinstance(told, list) and len(told) == 2 and isinstance(told[1], int):
            yield told[1]
