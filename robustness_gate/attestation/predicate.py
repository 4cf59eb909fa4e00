"""The signed form of a report: its subject, its validity, and its predecessor.

The statement's one subject is the checkpoint's manifest, `checkpoint.manifest.json`, by its SHA-256: a file that any
tool can hash, and that names every file of the checkpoint. The predicate is the whole report with every answer bit, so
every bound and the verdict can be recomputed from the bundle and need not be trusted. PASS, FAIL and INCONCLUSIVE are
signed in the same way, and each names its predecessor, so that a gap is detected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from robustness_gate.attestation.dsse import sign
from robustness_gate.attestation.keys import PrivateKey
from robustness_gate.attestation.statement import Statement, read_statement, statement
from robustness_gate.attestation.strict import ASK_SIGNER
from robustness_gate.errors import SigningError, Unverified, UsageError
from robustness_gate.evidence.ledger import Ledger
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.records.base import Digest, Name, Record
from robustness_gate.report.record import Report

PREDICATE_TYPE = "urn:robustness-gate:report:v1"
MANIFEST = "checkpoint.manifest.json"
BUNDLE = "report.sigstore.json"
VALID = timedelta(days=90)
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"

RESTRICTED = ("ledger.jsonl", "rows/")
"""Files named by digest alone: every attempt with its selected settings, and the log-likelihoods of every item."""


class Attachment(Record):
    """A file that belongs to the report, by its digest."""

    path: str = Field(min_length=1, max_length=300)
    """Relative, with forward slashes."""
    size: int = Field(ge=0)
    sha256: Digest
    visibility: Literal["public", "restricted"]
    """`restricted` is for readers who may see single answers; it never contains a question's text."""

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        if value.startswith(("/", "~")) or "\\" in value or ":" in value or "\x00" in value:
            raise ValueError("is not a plain relative path")
        if any(part in ("", ".", "..") for part in value.split("/")):
            raise ValueError("leaves its folder")
        if not value.isprintable():
            raise ValueError("holds what cannot be printed")
        return value


class Head(Record):
    """The end of the ledger when this was signed: a later truncation can be detected."""

    lines: int = Field(ge=1)
    sha256: Digest
    """Digest of the last line."""


class Issued(Record):
    """The predicate `urn:robustness-gate:report:v1`."""

    issued_at: str = Field(pattern=TIME)
    """The time that the signer states. RFC 3339, UTC."""
    valid_until: str = Field(pattern=TIME)
    """After this time the statement is no longer valid."""
    previous: Digest | None = None
    """The signed statement that the signer issued before this one."""
    supersedes: tuple[Digest, ...] = ()
    """Statements that this one replaces."""
    revokes: tuple[Digest, ...] = ()
    """Statements that the signer withdraws."""
    declarations: dict[Name, Annotated[str, Field(max_length=2000)]] = Field(default_factory=dict)
    """The signer's own statements about the run: funding, independence, deviations from the protocol. Recorded without
    a check."""
    ledger: Head | None = None
    attachments: tuple[Attachment, ...] = ()
    """Sorted by path."""
    report: Report

    @field_validator("issued_at", "valid_until")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value

    @field_validator("attachments")
    @classmethod
    def _are_sorted(cls, value: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
        names = [each.path for each in value]
        if names != sorted(set(names)):
            raise ValueError("are not sorted by path, each once")
        return value

    @field_validator("report")
    @classmethod
    def _was_judged_at_a_time(cls, value: Report) -> Report:
        if re.fullmatch(TIME, value.verdict.at) is None:
            raise ValueError("verdict.at is not a time in UTC, to the second")
        datetime.fromisoformat(value.verdict.at)
        return value


@dataclass(frozen=True)
class Terms:
    """What a signer states in addition to the report."""

    at: datetime
    valid_for: timedelta = VALID
    previous: str | None = None
    supersedes: Sequence[str] = ()
    revokes: Sequence[str] = ()
    declarations: Mapping[str, str] = field(default_factory=dict)


def issue(
    made: Report,
    key: PrivateKey,
    terms: Terms,
    *,
    ledger: Head | None = None,
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """Sign a report. Returns the bundle.

    Raises:
        SigningError: it cannot be written as a statement, is too large, or the times are inconsistent.
    """
    if terms.at.tzinfo is None:
        raise SigningError("the time of issue has no time zone.", remedy="Write e.g. 2026-11-21T14:00:00Z.")
    if terms.valid_for <= timedelta(0):
        raise SigningError("a report that is valid for no time cannot be signed.", remedy="Give --valid-for 90d.")
    try:
        predicate = Issued(
            issued_at=written(terms.at),
            valid_until=written(terms.at + terms.valid_for),
            previous=terms.previous,
            supersedes=tuple(terms.supersedes),
            revokes=tuple(terms.revokes),
            declarations=dict(terms.declarations),
            ledger=ledger,
            attachments=tuple(sorted(attachments, key=lambda each: each.path)),
            report=made,
        )
    except (ValidationError, OverflowError) as error:
        raise SigningError(f"this cannot be issued: {_first(error)}.", remedy="Sign something else.") from None
    if made.verdict.at > predicate.issued_at:  # both are in UTC and of one form
        raise SigningError("the report was judged after the time of issue.", remedy="Correct the clock.")
    return sign(statement({MANIFEST: made.checkpoint}, PREDICATE_TYPE, predicate), key)


def read_issued(payload: bytes) -> Issued:
    """The report in the payload of a bundle.

    Raises:
        Unverified: another predicate or version, unknown or missing fields, or a subject that differs from the
            report's.
    """
    stated = read_statement(payload, PREDICATE_TYPE, Statement[Issued])
    found = stated.predicate
    if stated.subjects != {MANIFEST: found.report.checkpoint}:
        raise Unverified(
            "it is signed for another checkpoint than its report speaks of.", remedy=ASK_SIGNER, code="other-subject"
        )
    return found


def _first(error: ValidationError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "its time lies beyond the calendar"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the predicate'}: {first['msg']}"


def head_of(ledger: Ledger) -> Head:
    """The end of a ledger."""
    return Head(lines=ledger.path.read_bytes().count(b"\n"), sha256=ledger.head)


def attachments_in(folder: Path, *, leave_out: Sequence[str] = ()) -> list[Attachment]:
    """Every regular file in a run's folder, by its digest.

    Raises:
        UsageError: a link, or something that is not a file: its content could change after it was signed.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            raise UsageError(
                f"'{name}' is not a regular file.", remedy="Remove it, or sign another folder.", where=str(folder)
            )
        if name in leave_out or name == BUNDLE or path.name.startswith("."):
            continue
        kept_back = name.startswith(RESTRICTED)
        found.append(
            Attachment(
                path=name,
                size=path.stat().st_size,
                sha256=sha256_file(path),
                visibility="restricted" if kept_back else "public",
            )
        )
    return found


def written(at: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
