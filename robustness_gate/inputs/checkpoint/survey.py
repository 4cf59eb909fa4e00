"""The files of a checkpoint by what they are to a loader, and what lies beside those that are read."""

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
    """Divide a checkpoint's files by what they are, and check those that are read.

    Args:
        directory: as `inspect` takes it; of a snapshot only what may be read is looked at.
        links_into: as `inspect` takes it.
        adapter: whether it is an adapter.
        keep: where there are two sets of weights, the one that is meant: `model.safetensors` or its index.

    Raises:
        CheckpointError: as `inspect` does, but not for what lies beside the files that are read.
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
    """What lies beside the files of a checkpoint that are read, by path."""

    weights: tuple[str, ...]
    nothing: tuple[str, ...]
    listed: bool
    """Whether that is all: of a commit on the hub, whether its file list could be had."""


def beside(place: CheckpointRef) -> Beside:
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


def divided(place: CheckpointRef, found: Survey) -> Beside:
    """Of a commit on the hub, what its file list has beside the files that are read, by names alone."""
    listed = place.listed if place.listed is not None else _held(place.path)
    kinds = {_printable(name): filekinds.by_name(name, size) for name, size in listed if name not in found.read}
    weights = sorted(name for name, kind in kinds.items() if kind == "weights")
    return Beside(tuple(weights), tuple(sorted(kinds.keys() - {*weights})), listed=place.listed is not None)


def _printable(name: str) -> str:
    """A name out of a stranger's file list, which must not steer whatever shows it."""
    return name if name.isprintable() else ascii(name)


def unread(place: CheckpointRef) -> Unread:
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


def _wrapper(place: CheckpointRef) -> str:
    """The architecture whose text part alone is examined; empty for one that has no other."""
    config = jsonfiles.read(place.path, place.path / "config.json") if place.base is None else {}
    return next((name for name in config.get("architectures") or () if name in filekinds.WRAPPERS), "")


def _held(snapshot: Path) -> Sequence[tuple[str, int]]:
    found = [Path(folder) / name for folder, _, names in os.walk(snapshot) for name in names]
    return [(path.relative_to(snapshot).as_posix(), path.stat().st_size) for path in found if path.is_file()]
