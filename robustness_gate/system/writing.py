"""Files are written whole or not at all, and what cannot be written is told in one sentence.

What is to be written lies beside its place until every byte is on the disk; only then does it take its name. A full
disk, a folder or a pipe in the file's place, a kill: what was there before is still there, complete, and nothing half
new beside it. The ledger alone is not written so, since it grows line by line: see `ledger`.
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
"""What the system may say to any program at any write: no room, a broken, read-only or vanished disk."""


def whole(path: Path, content: bytes, *, remedy: str = ROOM) -> None:
    """Write one file, making its folder. Raises WriteError; what was there before is then still there."""
    together(path.parent, {path.name: content}, remedy=remedy)


def together(folder: Path, contents: Mapping[str, bytes], *, remedy: str = ROOM) -> None:
    """Write files that belong together: none takes its name before all are on the disk.

    Args:
        folder: made if it is not there.
        contents: by the file's name in it.
        remedy: what to do where it cannot be done.

    Raises:
        WriteError: no room, no right, or something that is no file in a file's place.
    """
    partials: dict[Path, Path] = {}
    try:
        with told(folder, remedy):
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
def told(what: Path, remedy: str = ROOM) -> Iterator[None]:
    """Inside the block a write that fails is told of in one sentence. Raises WriteError in place of any OSError."""
    try:
        yield
    except OSError as error:
        raise unwritten(what, error, remedy) from None


def unwritten(what: Path, error: OSError, remedy: str = ROOM) -> WriteError:
    """Why something was not written."""
    return WriteError(f"cannot be written: {error.strerror or error}.", remedy=remedy, where=str(what))


@contextlib.contextmanager
def nothing_empty(*folders: Path) -> Iterator[None]:
    """Folders that this block makes are gone after it where it put nothing into them."""
    made = [each for folder in folders for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        for each in sorted(set(made), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # not empty, so it is of use; or never made
                each.rmdir()


def try_out(folder: Path) -> None:
    """Make a folder and put a file into it, now rather than after hours. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")


def refuse_what_is_no_file(path: Path) -> None:
    """Raises OSError where a folder, a pipe or a device lies in the place of a file: opening one may wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "a folder lies in the file's place", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "what lies in the file's place is no file", str(path))


def _on_the_disk(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # of a process with the same number that was killed
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """The names too are on the disk; a file system that cannot do this has written them all the same."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
