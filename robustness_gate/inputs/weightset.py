"""One set of weights: a safetensors file, or an index with its shards, in which every tensor occurs once.

Two loaders must not be able to load different tensors from the same files. So an index and its shards must agree on
every tensor: none is in two shards or missing from the index, and each is in the shard of the index.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import jsonfiles
from robustness_gate.inputs.filekinds import INDEX, ONE_FILE

MAX_HEADER_BYTES = 100_000_000
"""Maximum header of a safetensors file: the format's own limit."""
ANEW = "Save the model anew with save_pretrained."
SHOWN = 3
"""Maximum number of absent shards in an error message."""


def files_of(directory: Path, names: Iterable[str], keep: str | None = None) -> tuple[str, ...]:
    """The files of the one weight set at the top of a directory, its index first.

    Args:
        directory: the checkpoint.
        names: the files at its top.
        keep: which of two sets to use: `model.safetensors` or its index.

    Raises:
        CheckpointError: there is none, there are two, or index and shards disagree.
    """
    names = set(names)
    found = {ONE_FILE, INDEX} & names if keep is None else {keep} & names
    if found == {ONE_FILE, INDEX}:
        named = set(map(str, _named(directory)))
        if named == {ONE_FILE}:  # an index of one file is redundant (MLX writes it)
            found = {INDEX}
        elif named and all(Path(each).name == each and each.endswith(".safetensors") for each in named):
            raise CheckpointError(
                f"there are two sets of weights: '{ONE_FILE}', and the shards that '{INDEX}' names. Some loaders take "
                "the one, some the other",
                remedy=f"Keep one: robustness-gate checkpoint copy SRC DST --weights {ONE_FILE} (or {INDEX}).",
                where=str(directory),
            )
    if INDEX in found:
        return (INDEX, *shards(directory))
    if ONE_FILE in found:
        return (ONE_FILE,)
    others = sorted(name for name in names if name.endswith(".safetensors"))
    beside = f" under a name that is read; '{others[0]}' is not" if others else ""
    raise CheckpointError(
        f"there are no safetensors weights{beside}",
        remedy=f"Save the model as safetensors: '{ONE_FILE}', or shards with '{INDEX}'.",
        where=str(directory),
    )


def _named(directory: Path) -> list[Any]:
    """The index's shard names, not yet checked."""
    weight_map = jsonfiles.read(directory, directory / INDEX).get("weight_map")
    return list(weight_map.values()) if isinstance(weight_map, dict) else []


def shards(directory: Path) -> tuple[str, ...]:
    """The shards that the index names, sorted; each is a safetensors file of this directory that agrees with it.

    Raises:
        CheckpointError: a shard is absent or another kind of file, or a tensor is in another shard, duplicated, or not
            in the index.
    """
    weight_map = jsonfiles.read(directory, directory / INDEX).get("weight_map")
    _refuse_absent(directory)
    for shard in _named(directory) or [None]:
        text = shard if isinstance(shard, str) else ""
        here = Path(text).name == text and (directory / text).is_file()
        if not here or not text.endswith(".safetensors"):  # README.md, for example, is not in the manifest
            raise CheckpointError(
                f"'{INDEX}' names the shard {str(shard)[:80]!r}, which is not a safetensors file of this directory",
                remedy=ANEW,
                where=str(directory),
            )
    assert isinstance(weight_map, dict)
    for shard in sorted(set(weight_map.values())):
        held, meant = set(tensors(directory, shard)), {name for name, its in weight_map.items() if its == shard}
        if astray := sorted(held ^ meant):
            where = "holds" if astray[0] in held else "does not hold"
            place = weight_map.get(astray[0], "no shard")
            raise CheckpointError(
                f"'{shard}' {where} the tensor '{astray[0][:120]}', and '{INDEX}' puts it into '{place}'"
                + (f" ({len(astray)} tensors are not where the index says)" if len(astray) > 1 else ""),
                remedy=f"{ANEW[:-1]}: some loaders follow the index, others read whole shards.",
                where=str(directory),
            )
    return tuple(sorted(set(weight_map.values())))


def _refuse_absent(directory: Path) -> None:
    """Refuse shards that could lie in this directory and do not."""
    named = {each for each in _named(directory) if isinstance(each, str) and each.endswith(".safetensors")}
    plain = {each for each in named if Path(each).name == each and "\\" not in each and len(each) < 200}
    absent = sorted(each for each in plain if not (directory / each).exists())
    if not absent:
        return
    names = ", ".join(f"'{each}'" for each in absent[:SHOWN])
    more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
    raise CheckpointError(
        f"{names}{more} {'is' if len(absent) == 1 else 'are'} named by '{INDEX}' and absent "
        f"({len(absent)} of {len(named)} shards)",
        remedy="Download or copy what is missing into the directory.",
        where=str(directory),
    )


def tensors(directory: Path, name: str) -> dict[str, dict[str, Any]]:
    """The entry of each tensor in a safetensors header: dtype, shape, offsets into the data after the header.

    Raises:
        CheckpointError: it is not a safetensors file, or it is truncated or too long.
    """
    return {key: each for key, each in header(directory, directory / name).items() if key != "__metadata__"}


def header(directory: Path, path: Path) -> dict[str, Any]:
    """The header of a safetensors file. The first eight bytes give its length; a pickle fails here.

    Raises:
        CheckpointError: as `tensors`.
    """
    size = path.stat().st_size
    if not size:
        raise CheckpointError(
            f"'{path.name}' is not a safetensors file: it is empty (0 bytes)",
            remedy="Download or copy it again, or save the model anew.",
            where=str(directory),
        )
    other = CheckpointError(
        f"'{path.name}' is not a safetensors file, or its header is cut short",
        remedy="Download or copy it again; weights in another format must be saved as safetensors (save_pretrained).",
        where=str(directory),
    )
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise other
        try:
            found = jsonfiles.strict(file.read(length).decode("utf-8"))
        except jsonfiles.Unsafe as unsafe:
            raise CheckpointError(f"'{path.name}' {unsafe}", remedy=unsafe.remedy, where=str(directory)) from None
        except (ValueError, RecursionError):
            raise other from None
    if not isinstance(found, dict):
        raise other
    if max(_ends(found), default=0) != size - 8 - length:
        raise CheckpointError(
            f"'{path.name}' is cut short, or holds bytes that belong to no tensor", remedy=ANEW, where=str(directory)
        )
    return found


def _ends(found: dict[str, Any]) -> Iterator[int]:
    """The end of each tensor's bytes, counted from the end of the header; nothing for an invalid entry."""
    for name, tensor in found.items():
        offsets = tensor.get("data_offsets") if name != "__metadata__" and isinstance(tensor, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int):
            yield offsets[1]
