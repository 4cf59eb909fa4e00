"""The trust file: which signatures an auditor accepts, on what, and until when.

A key is trusted only because the verifier's own file names it; nothing in a bundle can add to it. The time in a
statement is stated by its signer, so it decides only which of the signer's own keys was in use. A *revoked* key (a
stolen one, for example) is therefore refused for every time: its holder can write any time. A key that is only out of
use has a `valid_until`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from robustness_gate.attestation.keys import PublicKey, public_key, read_public
from robustness_gate.errors import FileError, SigningError
from robustness_gate.inputs.validation import Loaded, load_record
from robustness_gate.records.base import Digest, Record


class Revoked(Record):
    """Why something is no longer trusted."""

    on: date
    reason: str = Field(min_length=1)


class TrustedKey(Record):
    """One key of one owner. An owner may have several, old and new."""

    owner: str = Field(min_length=1, max_length=200)
    file: str | None = None
    """The public key in PEM; the path starts at the trust file."""
    pem: str | None = None
    """Or the PEM itself."""
    id: Digest | None = None
    """The id that `robustness-gate keys show` prints; it is compared with the key."""
    valid_from: date | None = None
    """The first day, UTC, of accepted statements."""
    valid_until: date | None = None
    """The last day."""
    revoked: Revoked | None = None


class RevokedReport(Record):
    """A report that the verifier's file withdraws."""

    sha256: Digest
    """Digest of the signed statement, or of the report in it (its report.json), as `verify` prints them."""
    reason: str = Field(min_length=1)


class Trust(Record):
    """The content of a trust file."""

    schema_: Literal["robustness-gate/trust/v1"] = Field(alias="schema")
    keys: tuple[TrustedKey, ...] = Field(min_length=1)
    revoked_reports: tuple[RevokedReport, ...] = ()


class KeyFaultKind(StrEnum):
    """Why a key is not trusted for a statement of a certain time."""

    REVOKED = "key-revoked"
    NOT_YET_VALID = "key-not-yet-valid"
    NO_LONGER_VALID = "key-no-longer-valid"


class KeyFault(NamedTuple):
    """A kind with the day on which the key was revoked, or from or until which it is trusted."""

    kind: KeyFaultKind
    day: date
    reason: str = ""
    """The reason of a revocation."""


@dataclass(frozen=True)
class Signer:
    """A key with the trust file's entry about it."""

    key: PublicKey
    entry: TrustedKey

    def fault(self, signed: datetime) -> KeyFault | None:
        """Why a statement dated at this time is not trusted; None where it is."""
        if self.entry.revoked is not None:
            return KeyFault(KeyFaultKind.REVOKED, self.entry.revoked.on, self.entry.revoked.reason)
        day = signed.astimezone(UTC).date()
        if self.entry.valid_from is not None and day < self.entry.valid_from:
            return KeyFault(KeyFaultKind.NOT_YET_VALID, self.entry.valid_from)
        if self.entry.valid_until is not None and day > self.entry.valid_until:
            return KeyFault(KeyFaultKind.NO_LONGER_VALID, self.entry.valid_until)
        return None


@dataclass(frozen=True)
class Trusted:
    """All trusted keys and withdrawn reports."""

    signers: tuple[Signer, ...]
    revoked_reports: tuple[RevokedReport, ...] = ()

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Their keys."""
        return tuple(signer.key for signer in self.signers)

    def signer(self, key: PublicKey) -> Signer:
        """The entry of a key of `keys`."""
        return next(signer for signer in self.signers if signer.key.id == key.id)


def read_trust(path: Path) -> Trusted:
    """Read a trust file and the keys that it names.

    Raises:
        FileError: with file:line:column; also for a key that cannot be read, or whose id differs from the stated one.
    """
    loaded = load_record(path, Trust)
    signers: list[Signer] = []
    for index, entry in enumerate(loaded.record.keys):
        if entry.valid_from and entry.valid_until and entry.valid_from > entry.valid_until:
            raise _wrong(loaded, index, "a key that is trusted until before it is trusted", "Exchange the two dates.")
        signers.append(_signer(loaded, index, entry))
        if signers[-1].key.id in [each.key.id for each in signers[:-1]]:
            raise _wrong(loaded, index, "this key stands there twice", "Say once what holds for it.")
    return Trusted(tuple(signers), loaded.record.revoked_reports)


def trusting(keys: Sequence[PublicKey]) -> Trusted:
    """Trust in these keys alone, without limits of time."""
    return Trusted(tuple(Signer(key, TrustedKey(owner="a key given with --public")) for key in keys))


def _signer(loaded: Loaded[Trust], index: int, entry: TrustedKey) -> Signer:
    if (entry.file is None) == (entry.pem is None):
        raise _wrong(loaded, index, "a key is given by 'file' or by 'pem'", "Give one of the two.")
    try:
        if entry.file is not None:
            key = public_key(loaded.path.parent / entry.file)
        else:
            key = read_public((entry.pem or "").encode(), loaded.where("keys", index, "pem"))
    except SigningError as error:
        raise _wrong(loaded, index, error.message, error.remedy) from None
    if entry.id not in (None, key.id):
        raise _wrong(loaded, index, f"this is another key than the one named: {key.id}", "Ask its owner.")
    return Signer(key, entry)


def _wrong(loaded: Loaded[Trust], index: int, words: str, remedy: str) -> FileError:
    return FileError(words, remedy=remedy, where=loaded.where("keys", index), code="trust")
