"""From a policy file, and the file that it extends, to a Policy.

`extends` names one parent by a relative path and the SHA-256 of its bytes; a parent extends nothing, so no cycle is
possible. The two are merged as plain data before validation: maps by key, lists of records by the keys in NAMED_BY; for
everything else the child's value replaces the parent's. A child may omit what its parent contains, and may only be
tighter: `diff` decides, and a change without a known direction is refused. What its parent leaves `UNPINNED` a child
gives; what neither gives is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from robustness_gate.errors import FileError
from robustness_gate.inputs.unpinned import UNPINNED, fields, refuse
from robustness_gate.inputs.validation import Loaded, validate
from robustness_gate.inputs.yaml import Path_, Raw, Spot, read_yaml, where_in
from robustness_gate.policy_language import checks
from robustness_gate.policy_language.codes import first_of
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.policy import Policy

NAMED_BY: Mapping[str, tuple[str, ...]] = {
    "limits": ("id",),
    "required": ("attack", "where"),
    "utility": ("task",),
    "guardrails": ("id",),
    "waivers": ("id",),
    "accepted_risks": ("id",),
    "loosened": ("what", "since"),
}
"""Top-level lists of records, and the keys that identify a record in parent and child."""
COMMIT = re.compile("[0-9a-f]{40}")
"""The commit of a source."""
OWN = ("schema", "id", "version", "extends")
"""Keys that a child must have itself."""
ASK_FOR_IT = "Ask for the files that were used."


DIGESTS = ("sha256", "questions", "original", "template", "report_sha256", "config_sha256")
"""Keys of digests; under `data` and `plugins` every key is one."""


def load_policy(path: Path, *, unpinned: bool = False, given: Json = None) -> Loaded[Policy]:
    """Read a policy file.

    Args:
        path: the file.
        unpinned: put a made-up value in the place of each `UNPINNED`: for printing what belongs there, and for
            made-up results. No model may be judged by such a policy.
        given: with `unpinned`, data like the policy's with values for some of them.

    Returns:
        The policy, merged with its parent if it extends one. `sha256` and `text` are the file's own; `parent` has those
        of the parent. Each place is in the file that contains the value.

    Raises:
        FileError: with code and position, for anything that is not exactly a policy, contradicts itself, or is looser
            than its parent, and for values that are not pinned, in the policy or, after merging, in its parent.
            `refuse_untimely` checks dates, because nothing here reads a clock.
    """
    raw = read_yaml(path)

    def whole(its: Raw) -> Raw:
        return _filled(its, given) if unpinned else its

    extends = raw.data.get("extends")
    return _checked(whole(raw), None) if extends is None else _extended(raw, *_parent(raw, extends), whole)


def open_values(path: Path) -> tuple[Path_, ...]:
    """The places in a policy, merged with its parent, where a value is not pinned.

    Raises:
        FileError: a file cannot be read, or the policy names no such parent.
    """
    raw = read_yaml(path)
    extends = raw.data.get("extends")
    return tuple(fields(raw.data if extends is None else merged(_parent(raw, extends)[1], raw)[0]))


def _filled(raw: Raw, given: Json = None) -> Raw:
    """The data without `UNPINNED`: in its place what `given` has at the same place, else a made-up value."""
    return replace(raw, data=_with_values(raw.data, given, ()))


def _with_values(value: Json, given: Json, at: Path_) -> Any:
    if isinstance(value, dict):
        known = given if isinstance(given, dict) else {}
        return {key: _with_values(each, known.get(key), (*at, key)) for key, each in value.items()}
    if isinstance(value, list):
        listed = given if isinstance(given, list) and len(given) >= len(value) else [None] * len(value)
        return [_with_values(each, other, (*at, 0)) for each, other in zip(value, listed, strict=False)]
    if not isinstance(value, str) or (value != UNPINNED and f"@{UNPINNED}" not in value):
        return value
    if value != UNPINNED:  # a source without its commit: only the commit is open
        start, _, end = value.partition(f"@{UNPINNED}")
        commit = str(given)[len(start) + 1 : len(str(given)) - len(end)]
        fits = f"{start}@{commit}{end}" == given and COMMIT.fullmatch(commit)
        return given if fits else value.replace(UNPINNED, "0" * 40)
    if given is not None and UNPINNED not in str(given):
        return given
    if at[-1] == "items":
        return 1
    return digest_of(list(at)) if at[-1] in DIGESTS or at[0] in ("data", "plugins") else value


def _refuse_unpinned(raw: Raw) -> None:
    """Raises FileError for a policy with values that are not known yet: nothing can be judged by it."""
    refuse(
        raw,
        "`robustness-gate policy pin POLICY --suite SUITE --original ORIGINAL --control NAME=CHECKPOINT` prints what "
        "belongs there. Write it into a copy, or into a policy that extends this one.",
    )


def policy_of(raw: Raw, base: Raw | None) -> Loaded[Policy]:
    """A policy from its text in a report, and from the text of its parent.

    Raises:
        FileError: as `load_policy` does, and if `base` is missing or is not the file that the policy names.
    """
    extends = raw.data.get("extends")
    if extends is None and base is None:
        return _checked(raw, None)
    if base is None or not isinstance(extends, dict) or extends.get("sha256") != base.sha256:
        words = "and the policy that it extends do not belong together"
        raise FileError(words, remedy=ASK_FOR_IT, where=str(raw.path), code="extends-digest")
    return _extended(raw, _checked(_filled(base), None), base)


def _extended(
    raw: Raw, parent: Loaded[Policy], base: Raw, whole: Callable[[Raw], Raw] = lambda its: its
) -> Loaded[Policy]:
    """The child merged with its parent. Raises FileError if it is looser.

    Where the parent is not pinned the child gives the value, and that loosens nothing: it is compared with a parent
    that has it too.
    """
    for key in OWN:
        if key not in raw.data:
            words = f"the key '{key}' is missing: a policy that extends another has its own"
            raise FileError(words, remedy="Add it.", where=f"{raw.path}:1:1", code="missing-key")
    data, places = merged(base, raw)
    loaded = _checked(whole(Raw(raw.path, raw.sha256, raw.text, data, places)), parent)
    _refuse_loosening(loaded, validate(_filled(base, data), Policy))
    return loaded


def _checked(raw: Raw, parent: Loaded[Policy] | None) -> Loaded[Policy]:
    _refuse_unpinned(raw)
    checks.refuse_wrong_targets(raw)
    loaded = validate(raw, Policy, parent)
    first_of(loaded, checks.contradictions(loaded.record))
    return loaded


def _parent(child: Raw, extends: Json) -> tuple[Loaded[Policy], Raw]:
    """The parent, validated, and its plain data."""

    def refuse(code: str, message: str, remedy: str, *at: str) -> FileError:
        where = where_in(child.places, ("extends", *at)) or str(child.path)
        return FileError(message, remedy=remedy, where=where, code=code)

    shape = "Write `extends: {file: PARENT.yaml, sha256: ...}`."
    if not isinstance(extends, dict) or not all(isinstance(extends.get(key), str) for key in ("file", "sha256")):
        raise refuse("extends-form", "names no file and digest", shape)
    if strange := sorted(set(extends) - {"file", "sha256"}):
        raise refuse("unknown-key", f"extends.{strange[0]}: unknown key", shape, strange[0])
    name = Path(extends["file"])
    if not name.name or name.is_absolute() or "\x00" in extends["file"]:
        raise refuse(
            "extends-form", f"'{name}' is not a relative path", "Write the path from this file to the other.", "file"
        )
    try:
        found = read_yaml(child.path.parent / name)
    except FileError as error:
        if error.code != "unreadable":
            raise
        raise refuse("extends-missing", f"'{name}' {error.message}", "Paths start at this file.", "file") from None
    if found.sha256 != extends["sha256"]:
        raise refuse(
            "extends-digest",
            f"'{name}' has the digest {found.sha256}, not this one",
            "Read what changed in it, then write the new digest.",
            "sha256",
        )
    if found.data.get("extends") is not None:
        raise refuse("extends-depth", f"'{name}' extends another itself", "Extend that one; one level only.", "file")
    return _checked(_filled(found), None), found


def _refuse_loosening(child: Loaded[Policy], parent: Loaded[Policy]) -> None:
    from robustness_gate.policy_language.diff import compare

    looser = [change for change in compare(parent.record, child.record) if change.direction == "looser"]
    if looser:
        first = looser[0]
        raise FileError(
            f"is looser than what it extends: {first.words}",
            remedy="A child may only tighten: take this out, or change the parent."
            + (f" Also looser: {'; '.join(each.what for each in looser[1:])}." if looser[1:] else ""),
            where=child.where(*first.at),
            code="loosened",
        )


# --- merging ---------------------------------------------------------------------------------------------------------


class _Side(NamedTuple):
    """A value on one side of a merge, with its place there."""

    value: Json
    at: Path_
    places: Mapping[Path_, Spot]


def merged(parent: Raw, child: Raw) -> tuple[dict[str, Json], dict[Path_, Spot]]:
    """The child's data merged over the parent's, with the place of each value in its file."""
    places: dict[Path_, Spot] = {}
    data = _merge(_Side(parent.data, (), parent.places), _Side(child.data, (), child.places), (), places)
    return data, places


def _merge(base: _Side | None, over: _Side | None, at: Path_, places: dict[Path_, Spot]) -> Json:
    if base is None or over is None:
        side = over or base
        assert side is not None
        return _copied(side, at, places)
    if over.at in over.places:
        places[at] = over.places[over.at]
    if isinstance(base.value, dict) and isinstance(over.value, dict) and at[-1:] != ("where",):
        keys = [*base.value, *(key for key in over.value if key not in base.value)]
        return {key: _merge(_child(base, key), _child(over, key), (*at, key), places) for key in keys}
    if len(at) == 1 and at[0] in NAMED_BY and isinstance(base.value, list) and isinstance(over.value, list):
        pairs = _paired(base, over, NAMED_BY[str(at[0])])
        return [_merge(one, other, (*at, index), places) for index, (one, other) in enumerate(pairs)]
    return _copied(over, at, places)


def _copied(side: _Side, at: Path_, places: dict[Path_, Spot]) -> Json:
    """One side's value unchanged, with the place of each part."""
    if side.at in side.places:
        places[at] = side.places[side.at]
    inside = range(len(side.value)) if isinstance(side.value, list) else side.value
    if isinstance(side.value, (dict, list)):
        for key in inside:
            _copied(_Side(side.value[key], (*side.at, key), side.places), (*at, key), places)
    return side.value


def _child(side: _Side, key: str | int) -> _Side | None:
    if isinstance(side.value, dict) and key not in side.value:
        return None
    return _Side(side.value[key], (*side.at, key), side.places)


def _paired(base: _Side, over: _Side, keys: Sequence[str]) -> list[tuple[_Side | None, _Side | None]]:
    """The parent's records in their order, each with the child's of the same name; then the child's own.

    A duplicate name in one file stays a duplicate, so that it is refused.
    """
    pairs: list[tuple[_Side | None, _Side | None]] = [(_child(base, index), None) for index in range(len(base.value))]
    names = [_name(record, keys) for record in base.value]
    for index, record in enumerate(over.value):
        name = _name(record, keys)
        at = names.index(name) if name is not None and name in names else None
        if at is not None and pairs[at][1] is None:
            pairs[at] = (pairs[at][0], _child(over, index))
        else:
            pairs.append((None, _child(over, index)))
    return pairs


def _name(record: Json, keys: Sequence[str]) -> str | None:
    """A record's name; None for a value that is no record. A missing `where` counts as an empty one."""
    if not isinstance(record, dict) or keys[0] not in record:
        return None
    return digest_of([record.get(key) or {} for key in keys])


__all__ = ["NAMED_BY", "OWN", "load_policy", "merged", "open_values", "policy_of"]
