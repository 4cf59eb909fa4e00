"""A report as it is signed: what it is about, until when it counts, and what it comes after.

The statement's one subject is the checkpoint's manifest, `checkpoint.manifest.json`, by its SHA-256: a file that any
tool can hash, and that names every file of the checkpoint. The predicate is the whole report, bits and all, so whoever
holds the bundle can compute every bound and the verdict again and need believe none of them. PASS, FAIL and
INCONCLUSIVE are signed alike, and each names the one before, so that a gap is seen.

The report is also projected to small statements, one a limit and attack, for policy engines that know nothing of us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from robustness_gate.attest import (
    ASK_SIGNER,
    OTHER_RELEASE,
    PrivateKey,
    read_statement,
    sign,
    statement,
)
from robustness_gate.errors import SigningError, Unverified, UsageError
from robustness_gate.files import digest_of, sha256_file
from robustness_gate.ledger import Ledger
from robustness_gate.nouns import Digest, Finding, Json, Name, Noun, canonical
from robustness_gate.report import Report
from robustness_gate.verdict.court import BELOW_CHANCE

PREDICATE_TYPE = "urn:robustness-gate:report:v1"
CLAIM_TYPE = "urn:robustness-gate:claim:v1"
MANIFEST = "checkpoint.manifest.json"
BUNDLE = "report.sigstore.json"
VALID = timedelta(days=90)
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"

RESTRICTED = ("ledger.jsonl", "rows/")
"""What is named by digest and kept back: every attempt with what it chose, and the log-likelihoods of every item."""


class Attachment(Noun):
    """A file that belongs to the report, by its digest."""

    path: str = Field(min_length=1, max_length=300)
    """Relative, with forward slashes."""
    size: int = Field(ge=0)
    sha256: Digest
    visibility: Literal["public", "restricted"]
    """`restricted` is for whoever may see single answers; it never holds a question's words."""

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


class Head(Noun):
    """How far the ledger went when this was signed: cutting it shorter afterwards can be seen."""

    lines: int = Field(ge=1)
    sha256: Digest
    """Of the last line."""


class Issued(Noun):
    """The predicate `urn:robustness-gate:report:v1`."""

    issued_at: str = Field(pattern=TIME)
    """The signer's own word. RFC 3339, UTC."""
    valid_until: str = Field(pattern=TIME)
    """After this the signer does not stand by it any more."""
    previous: Digest | None = None
    """The signed statement that the signer issued before this one."""
    supersedes: tuple[Digest, ...] = ()
    """Statements in whose place this one stands."""
    revokes: tuple[Digest, ...] = ()
    """Statements that the signer withdraws."""
    says: dict[Name, Annotated[str, Field(max_length=2000)]] = Field(default_factory=dict)
    """What the signer says of himself and of the run: who paid, how independent he is, what deviated from the protocol.
    Recorded as said."""
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
    """What a signer says besides the report."""

    at: datetime
    valid_for: timedelta = VALID
    previous: str | None = None
    supersedes: Sequence[str] = ()
    revokes: Sequence[str] = ()
    says: Mapping[str, str] = field(default_factory=dict)


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
        SigningError: it cannot be written as a statement, is too large, or the times make no sense.
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
            says=dict(terms.says),
            ledger=ledger,
            attachments=tuple(sorted(attachments, key=lambda each: each.path)),
            report=made,
        )
    except (ValidationError, OverflowError) as error:
        raise SigningError(f"this cannot be issued: {_first(error)}.", remedy="Sign something else.") from None
    if made.verdict.at > predicate.issued_at:  # both are in UTC and of one form
        raise SigningError("the report was judged after the time of issue.", remedy="Correct the clock.")
    return sign(statement({MANIFEST: made.checkpoint}, PREDICATE_TYPE, predicate.plain), key)


def read_issued(payload: bytes) -> Issued:
    """The report in the payload of a bundle.

    Raises:
        Unverified: another predicate or version, unknown or missing fields, or a subject that the report is not about.
    """
    stated = read_statement(payload, PREDICATE_TYPE)
    try:
        found = Issued.model_validate_json(canonical(stated.predicate))
    except ValidationError as error:
        raise Unverified(f"it holds no report of this version: {_first(error)}.", remedy=OTHER_RELEASE) from None
    if stated.subjects != {MANIFEST: found.report.checkpoint}:
        raise Unverified("it is signed for another checkpoint than its report speaks of.", remedy=ASK_SIGNER)
    return found


def _first(error: ValidationError | OverflowError) -> str:
    if isinstance(error, OverflowError):
        return "its time lies beyond the calendar"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the predicate'}: {first['msg']}"


def head_of(ledger: Ledger) -> Head:
    """Where a ledger ends."""
    return Head(lines=ledger.path.read_bytes().count(b"\n"), sha256=ledger.head)


def attachments_in(folder: Path, *, leave_out: Sequence[str] = ()) -> list[Attachment]:
    """Every regular file in a run's folder, by its digest.

    Raises:
        UsageError: a link, or something that is no file: what it names could change after it was signed.
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


# --- for policy engines -----------------------------------------------------------------------------------------------


def claims(made: Report, statement_sha256: str) -> Iterator[tuple[str, bytes]]:
    """(name, payload) of one small statement a limit, attack and task: what a generic policy engine can read.

    `passed` is whether nothing under it is over or open and every seed and mark has a finding that acquits, never a
    point estimate under a threshold; and no set of claims says more than the verdict, which stands in each.
    """
    harness = digest_of(dict(made.environment))
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in made.verdict.findings:
        groups.setdefault((finding.rule, finding.attack, finding.task), []).append(finding)
    for number, ((rule, attack, task), found) in enumerate(sorted(groups.items())):
        ceiling = not rule.startswith("utility:")
        worst = max(found, key=lambda f: f.upper) if ceiling else min(found, key=lambda f: f.lower)
        predicate: Mapping[str, Json] = {
            "metric": f"{task}/{worst.reading}/{'upper' if ceiling else 'lower'}_bound",
            "requirement": rule,
            "attack": attack,
            "comparator": "<=" if ceiling else ">=",
            "threshold": worst.limit,
            "value": worst.upper if ceiling else worst.lower,
            "passed": _acquitted(found),
            "sampleSize": worst.items,
            "harnessDigest": {"sha256": harness},
            "policyDigest": {"sha256": made.policy.sha256},
            "verdict": made.verdict.outcome,
            "statement": {"sha256": statement_sha256},
            "report": {"sha256": made.digest},
        }
        yield f"claim-{number + 1:03d}", statement({MANIFEST: made.checkpoint}, CLAIM_TYPE, predicate)


def _acquitted(found: Sequence[Finding]) -> bool:
    """As the court has it: an attempt that failed stands beside the one that ended well, and does not spoil it."""
    cells = {(f.seed_index, f.mark): False for f in found}
    for f in found:
        if f.state != "under" or BELOW_CHANCE in f.doubts:
            return False
        cells[f.seed_index, f.mark] |= f.acquits
    return all(cells.values())
