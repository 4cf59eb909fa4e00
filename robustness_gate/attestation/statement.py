"""in-toto's Statement v1, the signed payload. Each of our predicates is a strict record of its own.

Source: in-toto attestation, Statement v1. Departures: one digest, SHA-256; unknown fields are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field, ValidationError

from robustness_gate.attestation.strict import ASK_SIGNER, OTHER_RELEASE, shown, strict_json
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.records.base import Digest, Record
from robustness_gate.records.encode import Json, decode, encode, plain

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
P = TypeVar("P")


class DigestSet(Record):
    """in-toto's set of digests; here always one."""

    sha256: Digest


class Subject(Record):
    """A statement's subject: a name, and the digest that identifies it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    digest_: DigestSet = Field(alias="digest")


class Statement(Record, Generic[P]):
    """in-toto's Statement v1. Its predicate is one of ours, a strict record, or plain data."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: P

    @property
    def subjects(self) -> dict[str, str]:
        """SHA-256 by name."""
        return {each.name: each.digest_.sha256 for each in self.subject}


Plain = Statement[dict[str, Json]]
"""A Statement whose predicate is read as plain data: a claim, or another producer's."""


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Record | Mapping[str, Json]) -> bytes:
    """The canonical bytes of a Statement, ready to be signed: the same arguments give the same bytes.

    Args:
        subjects: SHA-256, in lower-case hexadecimal, by name; at least one.
        predicate_type: a URI that ends in the predicate's version.
        predicate: a record, or plain data without NaN, infinities or whole numbers beyond 2^53.

    Raises:
        SigningError: the arguments do not make such a Statement.
    """
    try:
        named = [Subject(name=name, digest=DigestSet(sha256=digest)) for name, digest in sorted(subjects.items())]
        if not named:
            raise ValueError("it is about nothing")
        return encode(
            {
                "_type": STATEMENT_TYPE,
                "subject": [each.plain for each in named],
                "predicateType": predicate_type,
                "predicate": plain(predicate) if isinstance(predicate, Record) else dict(predicate),
            }
        )
    except ValueError as error:  # pydantic's, and the serialiser's
        raise SigningError(
            f"this cannot be written as a Statement: {_first_fault(error)}.", remedy="Sign something else."
        ) from None


def read_statement(payload: bytes, predicate_type: str, form: type[Statement[P]]) -> Statement[P]:
    """Read a payload returned by `open_bundle` as a Statement with exactly this predicate.

    Args:
        payload: the bytes that were signed.
        predicate_type: the only one that is accepted.
        form: `Statement[Kind]` for the predicate's own record, or `Plain`.

    Raises:
        Unverified: not such a Statement: duplicate or unknown keys, another version, another predicate.
    """
    stated = strict_json(payload, "the payload").get("predicateType")
    if stated != predicate_type:
        raise Unverified(
            f"it states {shown(stated)}, and {predicate_type} was expected",
            remedy="Give the bundle that this verb checks, or use the release that wrote it.",
            code="other-form",
        )
    try:
        read = decode(form, payload)
    except ValidationError as error:
        words = f"the payload is not what {predicate_type} is: {_first_fault(error)}."
        if form is not Plain and error.errors(include_url=False)[0]["loc"][:1] == ("predicate",):
            raise Unverified(words, remedy=OTHER_RELEASE, code="not-a-report") from None
        raise Unverified(words, remedy=OTHER_RELEASE, code="wrong-shape") from None
    if len(read.subjects) < len(read.subject):
        raise Unverified("two subjects have one name.", remedy=ASK_SIGNER, code="wrong-shape")
    return read


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)
