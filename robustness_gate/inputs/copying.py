"""`checkpoint copy`: a clean directory of a checkpoint with exactly the files that are read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.inputs.checkpoint.fetch import fetch
from robustness_gate.inputs.checkpoint.manifest import Manifest, inspect
from robustness_gate.inputs.checkpoint.place import HUB, CheckpointRef, is_adapter
from robustness_gate.inputs.checkpoint.survey import divided, survey
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.inputs.filekinds import INDEX, ONE_FILE
from robustness_gate.system.writing import nothing_empty

STANDS_ON = "0" * 64
"""A placeholder for a base's digest; the files of an adapter do not depend on it."""


@dataclass(frozen=True)
class Copied:
    """The copied files and the others; paths relative to the source."""

    manifest: Manifest
    weights: tuple[str, ...]
    code: tuple[str, ...]
    nothing: tuple[str, ...]


def copy(source: str, destination: Path, keep: str | None = None) -> Copied:
    """Write the files of a checkpoint that are read into a new directory.

    They are first written to a temporary folder next to it and compared with the source by SHA-256, so an interrupted
    copy leaves nothing at the destination.

    Args:
        source: a directory, or `hf://OWNER/NAME@COMMIT`; an adapter is copied without its base.
        destination: a directory that does not exist yet, or is empty, and is outside the source.
        keep: which of two sets of weights to use: `model.safetensors` or its index.

    Raises:
        UsageError: the destination is not empty, is inside the source, or cannot be written; or `keep` is neither set.
        CheckpointError: a file is refused, or changed while it was copied.
    """
    if keep not in (None, ONE_FILE, INDEX):
        raise UsageError(f"--weights '{keep}' is no set of weights.", remedy=f"Name {ONE_FILE} or {INDEX}.")
    place = fetch(source, keep) if HUB.fullmatch(source) else CheckpointRef(Path(source))
    _refuse(place.path, destination)
    adapter = is_adapter(place)
    found = survey(place.path, links_into=place.links_into, adapter=adapter, keep=keep)
    left = found if place.links_into is None else divided(place, found)
    try:
        with nothing_empty(destination.parent), _beside(destination) as folder:
            made = Path(folder) / "copy"
            for name in found.read:
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place.path / name, made / name)  # follows links: the copy contains none
            manifest = inspect(made, base=STANDS_ON if adapter else None)
            _compare(place.path, manifest)
            if destination.exists():
                destination.rmdir()
            made.rename(destination)
    except OSError as error:
        raise UsageError(
            f"{destination} cannot be written: {error.strerror or error}.", remedy="Name another place, with room."
        ) from None
    code = found.code if place.links_into is None else ()
    whole = manifest.model_copy(update={"base": None})
    return Copied(whole, left.weights, code, left.nothing)


@contextlib.contextmanager
def _beside(destination: Path) -> Iterator[str]:
    """A temporary folder for the block, on the destination's disk."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
        yield folder


def _refuse(source: Path, destination: Path) -> None:
    if destination.is_symlink() or (destination.exists() and (not destination.is_dir() or any(destination.iterdir()))):
        raise UsageError(f"{destination} is there and not empty.", remedy="Name a directory that is not there yet.")
    if destination.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{destination} lies inside the checkpoint.", remedy="Name a directory beside it.")


def _compare(source: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        if sha256_file(source / entry.path) != entry.sha256:
            raise CheckpointError(
                f"'{entry.path}' changed while it was copied", remedy="Copy again.", where=str(source)
            )
