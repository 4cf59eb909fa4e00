"""Files of keys and signatures: created once and never overwritten, read up to a limit."""

from __future__ import annotations

import os
from pathlib import Path

from robustness_gate.errors import SigningError, Unverified
from robustness_gate.inputs.digest import opened


def create(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet, also not as a link. Raises SigningError if it does, else OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    except FileExistsError:
        raise already_there(path) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # an incomplete key or signature would block a second attempt
        raise


def already_there(path: Path) -> SigningError:
    """The error for a file that would be overwritten."""
    return SigningError("is already there.", remedy="Nothing is overwritten: name another place.", where=str(path))


def read_bounded(path: Path, limit: int, kind: type[SigningError] | type[Unverified]) -> bytes:
    """A file of at most `limit` bytes. Raises `kind` where there is none, or a larger one."""
    try:
        with opened(path) as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise kind(
            f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path), code="unreadable"
        ) from None
    if len(raw) > limit:
        raise kind(
            f"is larger than {limit:,} bytes.", remedy="Check the path.", where=str(path), code="bundle-too-large"
        )
    return raw
