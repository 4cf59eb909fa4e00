"""The files of a checkpoint by kind, and the files that are not read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustness_gate.inputs import filekinds, jsonfiles, weightset
from robustness_gate.inputs.checkpoint.adapter import check_adapter
from robustness_gate.inputs.checkpoint.model import check_model, refuse_more_layers
from robustness_gate.inputs.checkpoint.place import CheckpointRef, Survey
from robustness_gate.inputs.checkpoint.safety import (
    check_template,
    files_of,
    refuse_named_files,
    refuse_names,
    refuse_pointers,
    refuse_unsafe,
    templates_in,
)
from robustness_gate.inputs.filekinds import INDEX
from robustness_gate.records.evidence import Unread


def survey(
    directory: Path, *, links_into: Path | None = None, adapter: bool = False, keep: str | None = None
) -> Survey:
    """Divide a checkpoint's files by kind, and check those that are read.

    Args:
        directory: as in `inspect`; in a snapshot only files that may be read are used.
        links_into: as in `inspect`.
        adapter: whether it is an adapter.
        keep: which of two sets of weights to use: `model.safetensors` or its index.

    Raises:
        CheckpointError: as in `inspect`, but not for files that are not read.
    """
    paths = files_of(directory, links_into)
    refuse_names(directory, paths)
    names = [path.relative_to(directory).as_posix() for path in paths]
    top = [name for name in names if "/" not in name]
    read = sorted(name for name in names if filekinds.is_read(name))
    characters = 0
    for name in read:
        refuse_unsafe(directory, name)
        for text in templates_in(directory, name):
            characters += len(text)
            check_template(directory, directory / name, text, characters)
    if "tokenizer_config.json" in top:
        refuse_named_files(directory, whole="tokenizer.json" in top)
    refuse_pointers(directory, [name for name in top if name == INDEX or name.endswith(".safetensors")])
    weights = check_adapter(directory, top) if adapter else check_model(directory, top, keep)
    headers = [weightset.header(directory, directory / name) for name in weights if name.endswith(".safetensors")]
    if not adapter:
        refuse_more_layers(directory, sum(map(len, headers)))
    kinds: dict[str, list[str]] = {"weights": [], "code": [], "nothing": []}
    for name in sorted({*names} - {*read, *weights}):
        kinds[filekinds.by_content(directory / name, name)].append(name)
    return Survey(tuple(sorted({*read, *weights})), *(tuple(kinds[each]) for each in ("weights", "code", "nothing")))


class Beside(NamedTuple):
    """Files of a checkpoint that are not read, by path."""

    weights: tuple[str, ...]
    nothing: tuple[str, ...]
    listed: bool
    """Whether the list is complete: for a commit on the hub, whether its file list was available."""


def beside(place: CheckpointRef) -> Beside:
    """Files that are not read and not examined; a base has its own.

    A directory holds no other weights, because `inspect` refuses them. For a commit on the hub they come from its file
    list, or, if that is not available, from the cache.

    Raises:
        CheckpointError: as `inspect` does.
    """
    found = survey(place.path, links_into=place.links_into, adapter=place.base is not None)
    if place.links_into is None:
        return Beside((), found.nothing, listed=True)
    return divided(place, found)


def divided(place: CheckpointRef, found: Survey) -> Beside:
    """For a commit on the hub, the other files in its file list, by names alone."""
    listed = place.listed if place.listed is not None else _held(place.path)
    kinds = {_printable(name): filekinds.by_name(name, size) for name, size in listed if name not in found.read}
    weights = sorted(name for name, kind in kinds.items() if kind == "weights")
    return Beside(tuple(weights), tuple(sorted(kinds.keys() - {*weights})), listed=place.listed is not None)


def _printable(name: str) -> str:
    """A printable form of a name from an untrusted file list."""
    return name if name.isprintable() else ascii(name)


def unread(place: CheckpointRef) -> Unread:
    """The same for the record, with an adapter's base: its names begin with `base/`. Raises as `beside` does."""
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


def _wrapper(place: CheckpointRef) -> str:
    """The architecture of which the text part alone is examined; empty for a text model."""
    config = jsonfiles.read(place.path, place.path / "config.json") if place.base is None else {}
    return next((name for name in config.get("architectures") or () if name in filekinds.WRAPPERS), "")


def _held(snapshot: Path) -> Sequence[tuple[str, int]]:
    found = [Path(folder) / name for folder, _, names in os.walk(snapshot) for name in names]
    return [(path.relative_to(snapshot).as_posix(), path.stat().st_size) for path in found if path.is_file()]
