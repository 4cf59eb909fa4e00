"""Diagnosis of bytes that should be UTF-8: their actual encoding, and the remedy."""

from __future__ import annotations

import re
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
WIDE = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Byte order marks, the longer ones first: UTF-32's begins like UTF-16's."""

PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"PK\x03\x04": ("zip", "unzip"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -d"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "7z x"),
}
"""First bytes of compressed files: the format, and the command that unpacks it."""
BZIP2_BLOCK = b"1AY&SY"
"""It follows bzip2's first bytes and its level, which alone could begin a text."""
PACKED_ENDINGS = frozenset({".gz", ".zst", ".zip", ".xz", ".bz2", ".lz4", ".7z"})
UNPACK = "and name the file that comes out: compressed files are not read."

SOME = 400
"""Number of bytes that show UTF-16 without a byte order mark."""

SURROGATE = re.compile(r"[\ud800-\udfff]")
"""A lone surrogate: JSON and YAML can write one, UTF-8 cannot."""


class Fault(NamedTuple):
    """Why bytes are not plain UTF-8, as the end of a sentence, and the remedy."""

    words: str
    remedy: str


def fault(raw: bytes, *, first: bool = True) -> Fault | None:
    """The fault of bytes that are not UTF-8 without a byte order mark; None where they are.

    Compression is named by its first bytes, an encoding where the bytes show it. Single-byte encodings cannot be
    detected, so the message shows the character of the byte in Latin-1, the most common of them.

    Args:
        raw: the bytes of a file, or of one line of it.
        first: whether they begin the file, where a byte order mark may be.
    """
    if first and (wide := next((name for mark, name in WIDE.items() if raw.startswith(mark)), "")):
        return Fault(f"is {wide}, by its byte order mark", f"Save it as UTF-8: iconv -f {wide} -t UTF-8.")
    if first and (found := packed(raw)):
        return found
    if name := _utf_16(raw[:SOME]):
        return Fault(f"is {name}, by its null bytes", f"Save it as UTF-8: iconv -f {name} -t UTF-8.")
    if first and raw.startswith(BOM):
        return Fault("begins with a byte order mark (BOM)", "Save it as UTF-8 without BOM: tail -c +4 takes it off.")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        letter = bytes([byte]).decode("cp1252", "replace")
        means = f", in Latin-1 (Windows-1252) '{letter}'" if letter.isprintable() and letter != "\ufffd" else ""
        return Fault(
            f"is not UTF-8 (byte {error.start} is 0x{byte:02X}{means})",
            "Save it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8, if that is what it is.",
        )
    return None


def packed(raw: bytes) -> Fault | None:
    """The fault of bytes that begin like a compressed file; None for other bytes."""
    name, tool = next((each for start, each in PACKED.items() if raw.startswith(start)), ("", ""))
    if not name or (name == "bzip2" and raw[4:10] != BZIP2_BLOCK):
        return None
    return Fault(f"is compressed ({name})", f"Unpack it ({tool}) {UNPACK}")


def _utf_16(raw: bytes) -> str:
    """UTF-16 of a text with ASCII characters: their every second byte is null; in UTF-8 none is."""
    for name, nulls in (("UTF-16LE", raw[1::2]), ("UTF-16BE", raw[::2])):
        if len(raw) > 1 and nulls.count(0) > len(nulls) / 2 and raw.count(0) == nulls.count(0):
            return name
    return ""
