"""Checks of the signature, the statement's form, the signer and the times."""

from __future__ import annotations

from datetime import datetime, timedelta

from robustness_gate.attestation import dsse, predicate
from robustness_gate.attestation.trust import Signer
from robustness_gate.attestation.verify.codes import Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import Context, Failed, Found, NotChecked

SKEW = timedelta(minutes=5)
"""How far a signer's clock may be ahead of the verifier's."""


def signature(its: Context) -> Found:
    """1. The signature is on the payload's bytes, by a key that the auditor trusts. The payload is not parsed yet."""
    if its.asked.trusted is None:
        its.payload = dsse.payload_of(its.raw)
        raise NotChecked(Unchecked.SIGNATURE)
    its.opened = dsse.open_bundle(its.raw, its.asked.trusted.keys)
    its.payload = its.opened.payload
    its.signer = its.asked.trusted.signer(its.opened.key)
    return Found(Confirmed.SIGNED, owner=its.signer.entry.owner, kind=its.opened.key.kind, key=its.opened.key.id[:16])


def form(its: Context) -> Found:
    """2. The payload is a statement of a known version, with a report about its subject."""
    if its.payload is None:
        raise NotChecked(Unchecked.NO_PAYLOAD)
    its.stated = predicate.read_issued(its.payload)
    return Found(Confirmed.FORM, type=predicate.PREDICATE_TYPE, statement=its.sha256[:16])


def signer(its: Context) -> Found:
    """3. The key was in use when the report was signed; neither the key nor the report is revoked."""
    stated = its.issued
    if its.signer is None or its.asked.trusted is None:
        raise NotChecked(Unchecked.NO_KEY)
    hold_key(its.signer, stated.issued_at)
    for each in its.asked.trusted.revoked_reports:
        if each.sha256 in (its.sha256, its.made.digest):
            raise Failed(Fault.REPORT_REVOKED, reason=each.reason)
    return Found(Confirmed.TRUSTED, at=stated.issued_at)


def hold_key(signer: Signer, at: str, of: str = "") -> None:
    """Raises Failed where a key is not trusted for a statement of this time; `of` names the key's role."""
    fault = signer.fault(datetime.fromisoformat(at))
    if fault is not None:
        raise Failed(Fault(fault.kind.value), day=str(fault.day), signed=at, reason=fault.reason, of=of)


def time(its: Context) -> Found:
    """5. It was judged, then signed, not in the future; it is still valid and not too old."""
    made, stated = its.made, its.issued
    judged, signed, until = (
        datetime.fromisoformat(each) for each in (made.verdict.at, stated.issued_at, stated.valid_until)
    )
    now = predicate.written(its.at)
    if signed > its.at + SKEW:
        raise Failed(Fault.SIGNED_IN_FUTURE, signed=stated.issued_at, now=now)
    if judged > signed:
        raise Failed(Fault.SIGNED_BEFORE_JUDGED, signed=stated.issued_at, judged=made.verdict.at)
    if its.at > until:
        raise Failed(Fault.NO_LONGER_VALID, until=stated.valid_until, now=now)
    age = its.at - judged
    if its.asked.max_age is not None and age > its.asked.max_age:
        raise Failed(Fault.TOO_OLD, age=_minutes(age), judged=made.verdict.at, limit=_minutes(its.asked.max_age))
    return Found(Confirmed.IN_TIME, judged=made.verdict.at, signed=stated.issued_at, until=stated.valid_until)


def _minutes(time: timedelta) -> int:
    """Rounded up, so that an age over the limit is never shown as equal to it."""
    return -(time // -timedelta(minutes=1))
