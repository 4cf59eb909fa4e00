"""JSON from an untrusted checkpoint: no duplicate key, no request for code, no endless file, no traceback."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from robustness_gate.errors import CheckpointError
from robustness_gate.system import utf8

MAX_JSON_BYTES = 200_000_000


class Unsafe(Exception):
    """A forbidden content of a JSON text, with its message."""

    def __init__(self, words: str, remedy: str) -> None:
        super().__init__(words)
        self.remedy = remedy


def strict(text: str) -> Any:
    """Parse JSON without duplicate keys, which readers interpret differently, and without requests for code.

    Raises:
        Unsafe: it contains one of the two.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise Unsafe(f"has the key {twice[:40]!r} twice in one object", "Save the model anew.")
        for key in ("auto_map", "custom_pipelines"):
            if key in found and not isinstance(found[key], int):  # a vocabulary may contain the word with its id
                raise Unsafe(
                    f"asks for remote code ({key})",
                    "The gate never runs a checkpoint's code; use an architecture that transformers knows.",
                )
        for key, value in found.items():  # a repository's name, from which transformers imports code
            if key.endswith("_implementation") and "/" in json.dumps(value):
                raise Unsafe(
                    f"asks for remote code ({key}: {str(value)[:60]})",
                    "Take the key out: attention is then computed by torch, which needs no code of a repository.",
                )
        return found

    return json.loads(text, object_pairs_hook=checked)


def read(directory: Path, path: Path) -> dict[str, Any]:
    """The object in a file; an empty one for JSON that is not an object.

    Args:
        directory: the checkpoint, for errors.
        path: the file in it.

    Raises:
        CheckpointError: too large, not JSON, a duplicate key, or a request for code.
    """
    name = path.relative_to(directory).as_posix() if path.is_relative_to(directory) else path.name
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"'{name}' is larger than {MAX_JSON_BYTES:,} bytes", where=str(directory))
    raw = path.read_bytes()
    try:
        content = strict(raw.decode("utf-8"))
    except Unsafe as unsafe:
        raise CheckpointError(f"'{name}' {unsafe}", remedy=unsafe.remedy, where=str(directory)) from None
    except (ValueError, RecursionError) as error:
        if fault := utf8.fault(raw):
            raise CheckpointError(f"'{name}' {fault.words}", remedy=fault.remedy, where=str(directory)) from None
        at = (
            f" (line {error.lineno}, column {error.colno}: {error.msg})"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        raise CheckpointError(
            f"'{name}' is not valid JSON{at}", remedy="Mend it there, or save it anew.", where=str(directory)
        ) from None
    return content if isinstance(content, dict) else {}
