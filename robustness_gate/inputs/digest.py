"""Open regular files alone, and hash them with SHA-256."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from robustness_gate.errors import FileError

BLOCK = 16 * 1024 * 1024


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading. Raises OSError, also for a named pipe, which may never deliver data."""
    a_place = os.path.lexists(os.path.realpath(path))  # a shell's `<(...)` is not a named pipe
    if a_place and stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a pipe and no file", str(path))
    return path.open("rb")


def sha256_file(path: Path, watch: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, read in blocks; `watch` is called with the size of each."""
    with path.open("rb") as file:
        if watch is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
            watch(len(block))
        return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> FileError:
    """The error for a file that cannot be read."""
    return FileError(
        f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path), code="unreadable"
    )
