"""Strict reading of untrusted JSON: input that two readers could interpret differently is refused."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence

from robustness_gate.errors import UnknownWord, Unverified
from robustness_gate.records.encode import Json, NotPlain, parse

OTHER_RELEASE = "It may have been written by another release; do not rely on it."
ASK_SIGNER = "Do not rely on it; ask the signer for the original."


def strict_json(raw: bytes, what: str) -> dict[str, Json]:
    """A JSON object without duplicate keys, which two readers could interpret differently."""
    try:
        found = parse(raw)
    except NotPlain as error:
        raise _not_plain(error, what) from None
    if not isinstance(found, dict):
        raise Unverified(
            f"{what} is not a JSON object.", remedy="Give the file that was signed, whole.", code="wrong-shape"
        )
    return found


def _not_plain(error: NotPlain, what: str) -> Unverified:
    match error.what:
        case "syntax":
            words, remedy = f"{what} is not JSON in UTF-8.", "Give the file that was signed, whole."
        case "duplicate key":
            words, remedy = f"a key stands twice in {what}.", ASK_SIGNER
        case "number":
            words = f"{error.word} stands in {what}, which is no number that every reader of JSON reads alike."
            remedy = ASK_SIGNER
        case "half a character":
            words, remedy = f"{what} holds half a character.", ASK_SIGNER
        case _:
            raise UnknownWord("fault of JSON", error.what)
    return Unverified(words, remedy=remedy, code="not-json")


def exactly(found: Mapping[str, Json], what: str, *keys: str, maybe: Sequence[str] = ()) -> None:
    """Raises Unverified unless an object has these keys, and no other but `maybe`."""
    for key in keys:
        if key not in found:
            raise Unverified(f"'{key}' is missing in {what}.", remedy=OTHER_RELEASE, code="wrong-shape")
    for key in found:
        if key not in keys and key not in maybe:
            raise Unverified(f"{what} has the unknown field {shown(key)}.", remedy=OTHER_RELEASE, code="wrong-shape")


def mapping(found: Json, what: str) -> dict[str, Json]:
    """An object. Raises Unverified for any other value."""
    if not isinstance(found, dict):
        raise Unverified(f"{what} is not a JSON object.", remedy=OTHER_RELEASE, code="wrong-shape")
    return found


def canonical_base64(text: Json, what: str) -> bytes:
    """Base64 in either alphabet, as DSSE demands, but not in both at once, and with no spare bits or characters."""
    if isinstance(text, str):
        for alphabet in (b"+/", b"-_"):
            try:
                raw = base64.b64decode(text, altchars=alphabet, validate=True)
            except (binascii.Error, ValueError):
                continue
            if base64.b64encode(raw, altchars=alphabet).decode() == text:
                return raw
    raise Unverified(f"'{what}' is not canonical base64.", remedy=ASK_SIGNER, code="not-canonical")


def shown(value: Json) -> str:
    """A value for a message: in JSON, cut at 90 characters."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:87]}..."
