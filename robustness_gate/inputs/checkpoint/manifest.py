"""The manifest: every file that is read, by path, size and SHA-256. Its digest is the checkpoint's name."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.checkpoint.safety import refuse_beside
from robustness_gate.inputs.checkpoint.survey import survey
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.records.base import Digest, Record


class FileEntry(Record):
    """One file of a checkpoint."""

    path: str
    size: int = Field(ge=0)
    sha256: Digest


class Manifest(Record):
    """Every file of a checkpoint that is read, sorted by path. Its digest is the checkpoint's name."""

    version: int = 1
    files: tuple[FileEntry, ...] = Field(min_length=1)
    base: Digest | None = None
    """For an adapter: the digest of its base's manifest."""

    @model_serializer(mode="wrap")
    def _without_base(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `base` for an ordinary checkpoint, so that its digest did not change when adapters were added."""
        plain: dict[str, Any] = handler(self)
        if self.base is None:
            plain.pop("base", None)
        return plain


Watch = Callable[[int, int], None]
"""Called with the hashed and the total bytes, from several threads, one at a time."""


def manifest_of(place: CheckpointRef, watch: Watch | None = None) -> Manifest:
    """Check a checkpoint, and its base if it is an adapter, and name it by content.

    Args:
        place: its location.
        watch: called with the progress; the base of an adapter counts separately.

    Raises:
        CheckpointError: as in `inspect`, for either.
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
        links_into: only for a snapshot that `fetch` resolved: the blobs folder into which its links may lead. In such a
        directory only files that a fetch downloads are used, so that the digest does not depend on other programs'
        files in the cache; nothing else there is ever read, because loaders are set to safetensors and no remote code.
        base: the digest of the manifest of an adapter's base.
        watch: called with the progress.

    Raises:
        CheckpointError: it is missing, empty, unsafe (pickle, code, links), contains weights that are not read, or is
            not a causal language model.
    """
    found = survey(directory, links_into=links_into, adapter=base is not None)
    if links_into is None:
        refuse_beside(directory, found)
    paths = [directory / name for name in found.read]
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter lock while it hashes
        digests = list(pool.map(partial(sha256_file, watch=_counted(paths, watch)), paths))
    entries = [
        FileEntry(path=name, size=path.stat().st_size, sha256=digest)
        for name, path, digest in zip(found.read, paths, digests, strict=True)
    ]
    return Manifest(files=tuple(sorted(entries, key=lambda entry: entry.path)), base=base)


def _counted(paths: list[Path], watch: Watch | None) -> Callable[[int], None] | None:
    """A function that adds up the hashed blocks of all files and calls `watch` with the sum."""
    if watch is None:
        return None
    total, lock, done = sum(path.stat().st_size for path in paths), Lock(), 0

    def add(size: int) -> None:
        nonlocal done
        with lock:
            done += size
            watch(done, total)

    return add
