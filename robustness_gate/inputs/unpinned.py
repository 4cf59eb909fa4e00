"""Fields that are not known yet: `UNPINNED` in the place of a commit, a digest or a count.

A shipped file may need values that only the hub can give. They are not invented: such a file is no policy and no suite,
every command refuses it with the names of all such fields, and the command that pins them writes the file anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.errors import FileError
from robustness_gate.inputs.yaml import Path_, Raw, where_in
from robustness_gate.records.encode import Json

UNPINNED = "UNPINNED"


def fields(data: Json, at: Path_ = ()) -> Iterator[Path_]:
    """The places of all values that are not pinned: the word itself, or it as a commit, `OWNER/NAME@UNPINNED`."""
    if isinstance(data, dict | list):
        inside = data.items() if isinstance(data, dict) else enumerate(data)
        for key, value in inside:
            yield from fields(value, (*at, key))
    elif isinstance(data, str) and (data == UNPINNED or f"@{UNPINNED}" in data):
        yield at


def refuse(raw: Raw, remedy: str) -> None:
    """Raises FileError, at the first of them, with the names of all fields that are not pinned."""
    found = list(fields(raw.data))
    if found:
        names = ", ".join(".".join(map(str, each)) for each in found)
        many = "one field is" if len(found) == 1 else f"{len(found)} fields are"
        where = where_in(raw.places, found[0]) or f"{raw.path}:1:1"
        raise FileError(f"{many} not pinned: {names}.", remedy=remedy, where=where, code="unpinned")
