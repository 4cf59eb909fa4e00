"""Write files completely or not at all, with one sentence for a failure.

The content is written to a temporary file in the same folder and renamed once every byte is on the disk. After a full
disk, a folder or a pipe at the file's path, or a kill, the old file is still complete, and no partial file remains.
Only the ledger is not written so, since it grows line by line: see `ledger`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from robustness_gate.errors import WriteError

ROOM = "Make room or name another place, then give the same command again."
NO_FAULT_OF_OURS = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ENOLCK", "ESTALE")
    if hasattr(errno, name)
)
"""Errors of the system that can occur at any write: no space, a broken, read-only or missing disk."""


def whole(path: Path, content: bytes, *, remedy: str = ROOM) -> None:
    """Write one file, making its folder. Raises WriteError; an old file then still exists."""
    together(path.parent, {path.name: content}, remedy=remedy)


def together(folder: Path, contents: Mapping[str, bytes], *, remedy: str = ROOM) -> None:
    """Write files that belong together: none is renamed before all are on the disk.

    Args:
        folder: created if it is missing.
        contents: content by file name.
        remedy: the error's remedy.

    Raises:
        WriteError: no space, no permission, or the path of a file is not a file.
    """
    partials: dict[Path, Path] = {}
    try:
        with as_write_error(folder, remedy):
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in contents.items():
                refuse_what_is_no_file(folder / name)
                partial = folder / f".{name}.{os.getpid()}.partial"
                partials[partial] = folder / name
                _on_the_disk(partial, content)
            for partial, path in partials.items():
                partial.replace(path)
        _sync(folder)
    finally:
        for partial in partials:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


@contextlib.contextmanager
def as_write_error(what: Path, remedy: str = ROOM) -> Iterator[None]:
    """Inside the block a failed write raises WriteError with one sentence in place of any OSError."""
    try:
        yield
    except OSError as error:
        raise unwritten(what, error, remedy) from None


def unwritten(what: Path, error: OSError, remedy: str = ROOM) -> WriteError:
    """Why something was not written."""
    return WriteError(f"cannot be written: {error.strerror or error}.", remedy=remedy, where=str(what))


@contextlib.contextmanager
def nothing_empty(*folders: Path) -> Iterator[None]:
    """Remove the folders that this block makes if they are empty after it."""
    made = [each for folder in folders for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        for each in sorted(set(made), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # not empty, or never made
                each.rmdir()


def try_out(folder: Path) -> None:
    """Test that a folder can be made and written, before a long run. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")


def refuse_what_is_no_file(path: Path) -> None:
    """Raises OSError where a file's path is a folder, a pipe or a device: opening one may block for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "a folder lies in the file's place", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "what lies in the file's place is no file", str(path))


def _on_the_disk(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # left by a killed process with the same number
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Sync the folder, so that the names are on the disk; an error of a file system without that is ignored."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
