"""A checkpoint directory: where it lies, what it is called, and what is refused before anything reads it.

A checkpoint's name is the SHA-256 of its manifest: path, size and digest of every file that is read, which is config,
tokenizer, template and one set of weights at the top (`filekinds`, `weightset`). Only safetensors and plain text are
let in, because reading a pickle runs it and `auto_map` imports code. All this is checked without torch, so `plan` can
refuse a checkpoint in milliseconds.

What lies beside is not read, and must not be what somebody else's loader takes. In a directory other weights are
refused, in any format and wherever they lie; of a commit on the hub they are never fetched, and `unread` names them.
Prose, pictures and logs are ignored and counted.

It may be a directory, a commit of a Hugging Face repository (`hf://owner/name@commit`), or a PEFT adapter in either,
which is named together with the base that it stands on: the same adapter on another base is another model.
"""

from __future__ import annotations

import glob
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from robustness_gate import filekinds, hub, jsonfiles, templates, utf8, weightset
from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.filekinds import ADAPTER, ADAPTER_WEIGHTS, INDEX, ONE_FILE
from robustness_gate.files import PULL, sha256_file
from robustness_gate.nouns import Digest, Noun, Unread

MAX_DEPTH = 16
MAX_FILES = 10_000
IGNORED = {
    ".git": "version control, never read by a loader",
    ".cache/huggingface": "download records of a hub client, never read by a loader",
}
"""Folders of a directory that are not looked into."""
SHOWN = 5
"""Names in a complaint; the rest is a number."""

HUB = re.compile(r"hf:(?://)?(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@(?P<commit>[0-9a-f]{40})", re.ASCII)

CACHED = re.compile(
    r"/(?P<kind>model|dataset)s--(?P<name>[^/]+)(/snapshots(/(?P<commit>[0-9a-f]{40}))?|/blobs|/refs)?$"
)
"""A repository in the cache of huggingface_hub, or a folder of it: a commit's snapshot is links into `blobs`."""

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
    listed: tuple[tuple[str, int], ...] | None = None
    """Every file of the commit with its size in bytes; None for a directory, and where the list could not be had."""


class FileEntry(Noun):
    """One file of a checkpoint."""

    path: str
    size: int = Field(ge=0)
    sha256: Digest


class Manifest(Noun):
    """Every file of a checkpoint that is read, sorted by path. Its digest is the checkpoint's name."""

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


@dataclass(frozen=True)
class Survey:
    """The files of a checkpoint, divided by what they are to a loader; paths relative to it, sorted."""

    read: tuple[str, ...]
    weights: tuple[str, ...] = ()
    """Other weights, or what may be some."""
    code: tuple[str, ...] = ()
    nothing: tuple[str, ...] = ()
    """Prose, pictures, logs."""


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
        CheckpointError: it is missing, empty, unsafe (pickle, code, links), holds other weights than those that are
            read, or is not a causal language model.
    """
    found = survey(directory, links_into=links_into, adapter=base is not None)
    if links_into is None:
        _refuse_beside(directory, found)
    paths = [directory / name for name in found.read]
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter lock while it hashes
        digests = list(pool.map(partial(sha256_file, watch=_counted(paths, watch)), paths))
    entries = [
        FileEntry(path=name, size=path.stat().st_size, sha256=digest)
        for name, path, digest in zip(found.read, paths, digests, strict=True)
    ]
    return Manifest(files=tuple(sorted(entries, key=lambda entry: entry.path)), base=base)


def survey(
    directory: Path, *, links_into: Path | None = None, adapter: bool = False, keep: str | None = None
) -> Survey:
    """Divide a checkpoint's files by what they are, and check those that are read.

    Args:
        directory: as `inspect` takes it; of a snapshot only what may be read is looked at.
        links_into: as `inspect` takes it.
        adapter: whether it is an adapter.
        keep: where there are two sets of weights, the one that is meant: `model.safetensors` or its index.

    Raises:
        CheckpointError: as `inspect` does, but not for what lies beside the files that are read.
    """
    paths = _files(directory, links_into)
    _refuse_names(directory, paths)
    names = [path.relative_to(directory).as_posix() for path in paths]
    top = [name for name in names if "/" not in name]
    read = sorted(name for name in names if filekinds.is_read(name))
    characters = 0
    for name in read:
        _refuse_unsafe(directory, name)
        for text in _templates(directory, name):
            characters += len(text)
            _check_template(directory, directory / name, text, characters)
    if "tokenizer_config.json" in top:
        _refuse_named_files(directory, whole="tokenizer.json" in top)
    _refuse_pointers(directory, [name for name in top if name == INDEX or name.endswith(".safetensors")])
    weights = _check_adapter(directory, top) if adapter else _check_model(directory, top, keep)
    headers = [weightset.header(directory, directory / name) for name in weights if name.endswith(".safetensors")]
    if not adapter:
        _refuse_more_layers(directory, sum(map(len, headers)))
    kinds: dict[str, list[str]] = {"weights": [], "code": [], "nothing": []}
    for name in sorted({*names} - {*read, *weights}):
        kinds[filekinds.by_content(directory / name, name)].append(name)
    return Survey(tuple(sorted({*read, *weights})), *(tuple(kinds[each]) for each in ("weights", "code", "nothing")))


class Beside(NamedTuple):
    """What lies beside the files of a checkpoint that are read, by path."""

    weights: tuple[str, ...]
    nothing: tuple[str, ...]
    listed: bool
    """Whether that is all: of a commit on the hub, whether its file list could be had."""


def beside(place: Place) -> Beside:
    """What lies beside the files that are read, and is not examined; a base has its own.

    A directory holds no other weights, because `inspect` refuses them. Of a commit on the hub the file list tells,
    and where that could not be had, what the cache happens to hold.

    Raises:
        CheckpointError: as `inspect` does.
    """
    found = survey(place.path, links_into=place.links_into, adapter=place.base is not None)
    if place.links_into is None:
        return Beside((), found.nothing, listed=True)
    return divided(place, found)


def divided(place: Place, found: Survey) -> Beside:
    """Of a commit on the hub, what its file list has beside the files that are read, by names alone."""
    listed = place.listed if place.listed is not None else _held(place.path)
    kinds = {_printable(name): filekinds.by_name(name, size) for name, size in listed if name not in found.read}
    weights = sorted(name for name, kind in kinds.items() if kind == "weights")
    return Beside(tuple(weights), tuple(sorted(kinds.keys() - {*weights})), listed=place.listed is not None)


def _printable(name: str) -> str:
    """A name out of a stranger's file list, which must not steer whatever shows it."""
    return name if name.isprintable() else ascii(name)


def unread(place: Place) -> Unread:
    """The same for the record, of an adapter's base too: its names begin with `base/`. Raises what `beside` does."""
    own = beside(place)
    found = Unread(listed=own.listed, weights=own.weights, ignored=len(own.nothing), wrapper=_wrapper(place))
    if place.base is None:
        return found
    base = unread(place.base)
    return Unread(
        listed=own.listed and base.listed,
        weights=(*own.weights, *(f"base/{name}" for name in base.weights)),
        ignored=found.ignored + base.ignored,
        wrapper=base.wrapper,
    )


def _wrapper(place: Place) -> str:
    """The architecture whose text part alone is examined; empty for one that has no other."""
    config = jsonfiles.read(place.path, place.path / "config.json") if place.base is None else {}
    return next((name for name in config.get("architectures") or () if name in filekinds.WRAPPERS), "")


def _held(snapshot: Path) -> Sequence[tuple[str, int]]:
    found = [Path(folder) / name for folder, _, names in os.walk(snapshot) for name in names]
    return [(path.relative_to(snapshot).as_posix(), path.stat().st_size) for path in found if path.is_file()]


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


def fetch(reference: str, keep: str | None = None) -> Place:
    """Download one commit of a Hugging Face repository, or find it in the cache.

    Only what is read is downloaded, by name from the commit's file list; the weights come last, of several sets one.
    Without network the snapshot is what the cache holds; the manifest names what was examined.

    Args:
        reference: `hf://OWNER/NAME@COMMIT`.
        keep: where there are two sets of weights, the one that is meant: `model.safetensors` or its index.

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

    def get(patterns: Sequence[str]) -> Path:
        return hub.snapshot("model", repository, commit, patterns, where=source, refusal=CheckpointError)

    listed = hub.listing("model", repository, commit)
    if listed is None:
        path = get(FETCHED)
    else:
        small = [name for name in listed if filekinds.is_read(name) or name == INDEX]
        path = get([glob.escape(name) for name in small])
        if weights := [name for name in _wanted(path, set(listed), keep) if name in listed]:
            path = get([glob.escape(name) for name in (*small, *weights)])
    told = None if listed is None else tuple(sorted(listed.items()))
    return Place(path, links_into=path.parent.parent / "blobs", source=source, listed=told)


FETCHED = (
    "*.json", "*.jinja", *sorted(filekinds.TOKENIZER_TEXTS), *(f"*{e}" for e in sorted(filekinds.TOKENIZER_ENDINGS)),
    "*.model", ONE_FILE, ADAPTER_WEIGHTS, "model-*-of-*.safetensors",
)  # fmt: skip
"""What is asked for where the commit's file list cannot be had, which then comes out of the cache."""


def _wanted(snapshot: Path, listed: set[str], keep: str | None) -> Sequence[str]:
    """The weights that go with the small files of a snapshot. What is wrong with them `inspect` tells."""
    if ADAPTER in listed:
        return (ADAPTER_WEIGHTS,)
    if ONE_FILE in listed and keep != INDEX:
        return (ONE_FILE,)
    if INDEX not in listed:
        return ()
    shards = jsonfiles.read(snapshot, snapshot / INDEX).get("weight_map")
    found = shards.values() if isinstance(shards, dict) else ()
    return sorted(
        {each for each in found if isinstance(each, str) and "/" not in each and each.endswith(".safetensors")}
    )


# --- adapters ---------------------------------------------------------------------------------------------------------


def model_type(place: Place) -> str:
    """What config.json says, of the base where the checkpoint is an adapter; empty where it says nothing."""
    try:
        config = json.loads(((place.base or place).path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


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
    config = jsonfiles.read(place.path, place.path / ADAPTER)
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


def _check_adapter(directory: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Only what merges into an ordinary model, from weights that the manifest names, without importing anything."""
    for file in (ADAPTER, ADAPTER_WEIGHTS):
        if file not in names:
            raise CheckpointError(
                f"there is no {file}, and a base was given",
                remedy="Save the adapter with peft's save_pretrained, as safetensors.",
                where=str(directory),
            )
    if other := [name for name in (ONE_FILE, INDEX) if name in names]:
        raise CheckpointError(
            f"there are an adapter and the weights '{other[0]}': {ADAPTER} makes a loader read both, or fetch weights "
            "that the manifest does not name",
            remedy="Keep the adapter alone, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    config = jsonfiles.read(directory, directory / ADAPTER)
    kind, start, task = config.get("peft_type"), config.get("init_lora_weights"), config.get("task_type")
    unknown = sorted(key for key, value in config.items() if value and key not in SETTINGS)
    merge = "Merge it into its base (peft's merge_and_unload) and save that."
    said = (
        f"If it is one, write CAUSAL_LM into '{ADAPTER}' (or take task_type out); one for another task is not judged."
    )
    refusals: dict[str, tuple[bool, str]] = {
        f"'{ADAPTER}' does not say what kind of adapter it is (peft_type)": (
            kind is None,
            "Write its kind there (LORA, say), or save it anew with peft's save_pretrained.",
        ),
        f"adapters of the kind {str(kind)[:40]!r} cannot be judged as merged": (kind not in MERGEABLE, merge),
        f"an adapter for the task {str(task)[:40]!r} is not for a causal language model": (
            task not in ("CAUSAL_LM", None),
            said,
        ),
        f"'{ADAPTER}' names code to import (auto_mapping)": (bool(config.get("auto_mapping")), merge),
        f"'{ADAPTER}' names code to import (megatron_config)": (bool(config.get("megatron_config")), merge),
        f"the adapter changes its base while it is loaded (init_lora_weights: {str(start)[:40]})": (
            not (start is None or (isinstance(start, bool | str) and start in PLAIN_STARTS)),
            merge,
        ),
        f"the adapter sets '{(unknown or [''])[0][:40]}', and whether merging keeps it is not known": (
            bool(unknown),
            merge,
        ),
    }
    for says, (applies, remedy) in refusals.items():
        if applies:
            raise CheckpointError(says, remedy=remedy, where=str(directory))
    return (ADAPTER_WEIGHTS,)


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
        here = Path(folder).relative_to(directory)
        names[:] = sorted(name for name in names if (here / name).as_posix() not in IGNORED)
        if len(here.parts) > MAX_DEPTH or len(found) > MAX_FILES:
            raise CheckpointError(
                f"it has folders in folders more than {MAX_DEPTH} deep, or more than {MAX_FILES:,} files",
                remedy="Point to a directory made by save_pretrained.",
                where=str(directory),
            )
        if links_into is not None:
            files = [each for each in files if _may_be_read((here / each).as_posix())]
        for each in [*names, *files]:
            if (Path(folder) / each).is_symlink():
                _refuse_link(directory, Path(folder) / each, allowed, resolved=links_into is not None)
        found += [Path(folder) / each for each in files]
    for path in found:
        _refuse_odd(directory, path)
    if not found:
        raise CheckpointError("the directory is empty", remedy="Point to a saved model.", where=str(directory))
    return sorted(found)


def _may_be_read(name: str) -> bool:
    """Of a snapshot in the hub's cache, where any program may have left anything."""
    return filekinds.is_read(name) or name == INDEX or ("/" not in name and name.endswith(".safetensors"))


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


def _refuse_link(directory: Path, link: Path, allowed: Callable[[Path], bool], *, resolved: bool) -> None:
    try:
        inside = link.resolve().is_file() and allowed(link)
    except (OSError, RuntimeError):  # a link that leads to itself
        inside = False
    if not inside and not resolved:
        _refuse_cache(directory)
    if not inside:
        raise CheckpointError(
            f"'{link.relative_to(directory)}' is a link that leaves the checkpoint or leads nowhere",
            remedy="Copy the file itself into the directory.",
            where=str(directory),
        )


def _refuse_cache(directory: Path) -> None:
    """A folder of the hub's cache is told as one, with the reference by which its commit is examined."""
    found = CACHED.search(directory.resolve().as_posix())
    if found is None:
        return
    if found["kind"] == "dataset":
        raise CheckpointError(
            "this is a dataset in the hub's cache, and no model", remedy="A suite names it.", where=str(directory)
        )
    what = "a snapshot in the hub's cache, whose files are links" if found["commit"] else "a folder of the hub's cache"
    owner, dashes, name = found["name"].partition("--")
    commit = found["commit"] or "COMMIT (a folder's name under snapshots/)"
    remedy = f"Give hf://{owner}/{name}@{commit}: it is found there, offline too."
    if not dashes:  # a name of old, without an owner: no reference of ours
        remedy = "Copy what its links lead to into a directory of its own: cp -rL SNAPSHOT DST."
    raise CheckpointError(f"this is {what}", remedy=remedy, where=str(directory))


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
    name = path.relative_to(directory).as_posix()
    if not path.is_file():
        raise CheckpointError(f"'{name}' is not a regular file", remedy="Remove it.", where=str(directory))
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the name {name!r} is not UTF-8", remedy="Rename the file.", where=str(directory)
        ) from None


def _refuse_unsafe(directory: Path, name: str) -> None:
    """One file that is read, weights aside."""
    path = directory / name
    _refuse_pointers(directory, [name])
    with path.open("rb") as file:
        if filekinds.begins_like_weights(file.read(64), path.stat().st_size):
            raise CheckpointError(
                f"'{name}' begins like a pickle or an archive of them, or like weights of another format",
                remedy="Nothing of that kind is read under this name; remove it.",
                where=str(directory),
            )


def _templates(directory: Path, name: str) -> Iterator[str]:
    """The chat templates in a file that is read; a JSON file is checked on the way."""
    path = directory / name
    if path.suffix.lower() == ".json":
        yield from templates.texts_in(jsonfiles.read(directory, path))
    if path.suffix.lower() == ".jinja":
        yield _text(directory, path)


def _refuse_named_files(directory: Path, *, whole: bool) -> None:
    """Files that tokenizer_config.json names: transformers opens them wherever they lie, where there is no other.

    Beside a tokenizer.json they have no effect, and are often a path on the machine of whoever saved it; a file of that
    name here is refused all the same.
    """
    for key, value in jsonfiles.read(directory, directory / "tokenizer_config.json").items():
        names = key in ("vocab", "merges") or (key.endswith("_file") and key != "special_tokens_map_file")
        if names and isinstance(value, str) and value and not (whole and not _exists(directory, value)):
            raise CheckpointError(
                f"tokenizer_config.json names a file of its own ({key}: {value[:80]!r}), and the manifest does not",
                remedy="Save the tokenizer anew (save_pretrained), or remove the key.",
                where=str(directory),
            )


def _exists(directory: Path, name: str) -> bool:
    try:
        return Path(name).exists() or (directory / name).exists()
    except (OSError, ValueError):  # too long, or a null in it: no file has that name
        return False


def _refuse_pointers(directory: Path, names: Sequence[str]) -> None:
    for name in names:
        if filekinds.is_pointer(directory / name):
            raise CheckpointError(
                f"'{name}' is a Git LFS pointer, not the file",
                remedy=PULL,
                where=str(directory),
            )


def _refuse_beside(directory: Path, found: Survey) -> None:
    """What lies in a directory beside the files that are read: somebody's loader would read or run it."""
    for name in found.code:
        inside = filekinds.CODE_FOLDER in Path(name).parts[:-1]
        raise CheckpointError(
            f"'{name}' lies in {filekinds.CODE_FOLDER}/, from which code is imported"
            if inside
            else f"'{name}' is code",
            remedy=f"The gate never runs a checkpoint's code; remove it, or {COPY}.",
            where=str(directory),
        )
    for name in found.nothing:
        if Path(name).name == ADAPTER:
            raise CheckpointError(
                f"'{name}' makes a loader fetch weights that the manifest does not name",
                remedy="Merge the adapter into the model (peft's merge_and_unload) and save that.",
                where=str(directory),
            )
    if found.weights:
        names = ", ".join(f"'{name}'" for name in found.weights[:SHOWN])
        more = f" and {len(found.weights) - SHOWN} more" if len(found.weights) > SHOWN else ""
        raise CheckpointError(
            f"beside what is read lie other weights, or files that a loader may take for weights: {names}{more}",
            remedy=f"Remove them, or {COPY}.",
            where=str(directory),
        )


COPY = "write a clean directory of what is read: robustness-gate checkpoint copy SRC DST"


def _check_model(directory: Path, names: Sequence[str], keep: str | None) -> tuple[str, ...]:
    """The weight set of an ordinary model."""
    if ADAPTER in names:
        raise CheckpointError(
            f"'{ADAPTER}' makes a loader fetch weights that the manifest does not name",
            remedy="Name what it stands on with --base, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    if "config.json" not in names:
        _refuse_cache(directory)
        raise CheckpointError(
            "there is no config.json", remedy="Point to a directory made by save_pretrained.", where=str(directory)
        )
    config = jsonfiles.read(directory, directory / "config.json")
    if not config:
        raise CheckpointError(
            "config.json says nothing: it is empty, or no JSON object",
            remedy="Save the model anew with save_pretrained.",
            where=str(directory),
        )
    if "transformers_weights" in config:
        raise CheckpointError(
            "config.json chooses its own weights file (transformers_weights)",
            remedy="Name the weights model.safetensors and remove the key.",
            where=str(directory),
        )
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise CheckpointError("'architectures' in config.json is not a list", where=str(directory))
    if architectures and not any(
        str(name).endswith(("ForCausalLM", "LMHeadModel")) or name in filekinds.WRAPPERS for name in architectures
    ):
        raise CheckpointError(
            f"{architectures[0]} is not a causal language model",
            remedy="Of a model for text and pictures or sound, save the text part as a model of its own (its "
            "...ForCausalLM class, with the head) and examine that.",
            where=str(directory),
        )
    return weightset.files_of(directory, names, keep)


LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def _refuse_more_layers(directory: Path, tensors: int) -> None:
    """A model of a hundred thousand layers is built before its weights are missed: that takes minutes and gigabytes."""
    config = jsonfiles.read(directory, directory / "config.json")
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in LAYERS:
            asked = part.get(key)
            if isinstance(asked, int) and asked > tensors:
                raise CheckpointError(
                    f"config.json asks for {asked:,} layers ({key}), and the files hold {tensors:,} tensors",
                    remedy="Save the model anew with save_pretrained.",
                    where=str(directory),
                )


def _check_template(directory: Path, path: Path, text: str, characters: int) -> None:
    """One template, which is parsed here, and so many characters of them with those before."""
    much = characters > templates.MAX_CHARACTERS >= len(text)
    many = f"makes them more than {templates.MAX_CHARACTERS:,} characters together"
    if fault := many if much else templates.fault(text):
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
        with path.open("rb") as file:
            fault = utf8.fault(file.read(templates.MAX_CHARACTERS)) or utf8.Fault("is not UTF-8", "Save it as UTF-8.")
        raise CheckpointError(
            f"'{path.relative_to(directory).as_posix()}' {fault.words}", remedy=fault.remedy, where=str(directory)
        ) from None
