"""A file on this machine: opened only if it is one, and named by the SHA-256 of its bytes."""

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
    """A file, to be read. Raises OSError, also for a pipe on the disk: nobody may ever write into it."""
    a_place = os.path.lexists(os.path.realpath(path))  # a shell's `<(...)` has none
    if a_place and stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a pipe and no file", str(path))
    return path.open("rb")


def sha256_file(path: Path, watch: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, read in blocks; `watch` is told the bytes of each."""
    with path.open("rb") as file:
        if watch is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
            watch(len(block))
        return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> FileError:
    """Why a file cannot be read, to be raised."""
    return FileError(
        f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path), code="unreadable"
    )
