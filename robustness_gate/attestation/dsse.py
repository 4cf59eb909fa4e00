"""Signing and checking signatures: an in-toto Statement in a DSSE envelope in a Sigstore bundle.

A signature shows that the holder of a key made these bytes. It does not show that they are true, nor when they were
made. The signed payload is a Statement v1 with a versioned predicate of our own (`urn:robustness-gate:...`); the
envelope signs its type and its bytes together; the bundle is a format that other clients read.

Three rules matter most. The signature is checked over the payload's original bytes before they are parsed, so the
parser gets input from trusted signers alone. Keys come from the verifier, never from the bundle; the bundle's hint only
selects among them. Unknown content (a field, a version, a second signature, a log entry that is not checked) is
refused, while in-toto's parsing rules ignore it.

A bundle's own digest identifies nothing: its holder can rewrite it (spaces, the other base64 alphabet, the ECDSA
signature (r, n - s) for (r, s)), and it still verifies. A statement is identified by the SHA-256 of its payload.

Sources: DSSE 1.0.0 (secure-systems-lab/dsse, protocol.md and envelope.md); in-toto attestation, Statement v1;
sigstore/protobuf-specs, sigstore_bundle.proto. Departures: base64 must be canonical, exactly one signature, the key
id must be given; all of them stricter than the sources.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from robustness_gate.attestation.keys import PrivateKey, PublicKey
from robustness_gate.attestation.storage import read_bounded
from robustness_gate.attestation.strict import (
    ASK_SIGNER,
    OTHER_RELEASE,
    canonical_base64,
    exactly,
    mapping,
    shown,
    strict_json,
)
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.records.encode import Json, encode

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BUNDLE_BYTES = 128 * 1024 * 1024
"""Refused before anything is parsed. The report of ten thousand trials of four hundred questions has 95 MiB here."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload whose signature was checked, with the signer's key."""

    payload: bytes
    key: PublicKey

    @property
    def sha256(self) -> str:
        """The statement's name: independent of how the bundle around it is written."""
        return hashlib.sha256(self.payload).hexdigest()


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed. Lengths are in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: PrivateKey) -> bytes:
    """Sign a Statement's bytes. Returns a Sigstore bundle v0.3 with a DSSE envelope, as JSON in one line.

    The same payload and key give the same bundle: Ed25519 is deterministic, ECDSA is by RFC 6979 (OpenSSL 3.2 or
    later).

    Raises:
        SigningError: the bundle would be larger than `open_bundle` accepts.
    """
    raw = pae(PAYLOAD_TYPE, payload)
    signature = _sign(raw, key)
    _check(key.public, signature, raw)  # a faulty signature can reveal the key: it is never written
    bundle: Json = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key.public.id, "sig": base64.b64encode(signature).decode()}],
        },
    }
    written = encode(bundle)
    if len(written) > MAX_BUNDLE_BYTES:
        raise SigningError(
            f"the bundle would have {len(written):,} bytes, {MAX_BUNDLE_BYTES:,} are accepted.",
            remedy="Leave out what can be named by its digest.",
        )
    return written


def open_bundle(raw: bytes, keys: Sequence[PublicKey]) -> Opened:
    """Check a bundle's signature and return the signed payload without parsing it.

    Args:
        raw: the bundle's bytes.
        keys: the keys that the verifier trusts. The bundle's hint selects among them and has no other effect.

    Raises:
        Unverified: not a bundle of the form that `sign` writes, not signed by one of `keys`, or changed since.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise Unverified(
            f"the bundle has more than {MAX_BUNDLE_BYTES:,} bytes.", remedy=ASK_SIGNER, code="bundle-too-large"
        )
    parts = _taken_apart(raw)
    key = next((each for each in keys if each.id == parts.hint), None)
    if key is None:
        trusted = ", ".join(each.id for each in keys) or "none"
        raise Unverified(
            f"it is signed with the key {shown(parts.hint)}, which is not among those given ({trusted})",
            remedy="Give the signer's public key, from the signer, if you trust it.",
            code="key-unknown",
        )
    _check(key, parts.signature, pae(PAYLOAD_TYPE, parts.payload))
    return Opened(parts.payload, key)


def payload_of(raw: bytes) -> bytes:
    """A bundle's content without any check of its signature. Raises Unverified where it is not a bundle."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise Unverified(
            f"the bundle has more than {MAX_BUNDLE_BYTES:,} bytes.", remedy=ASK_SIGNER, code="bundle-too-large"
        )
    return _taken_apart(raw).payload


class _Parts(NamedTuple):
    hint: Json
    payload: bytes
    signature: bytes


def _taken_apart(raw: bytes) -> _Parts:
    """The parts of a bundle of exactly the form that `sign` writes. Raises Unverified for any other."""
    bundle = strict_json(raw, "the bundle")
    media_type = bundle.get("mediaType")
    if media_type != BUNDLE_TYPE:
        raise Unverified(
            f"it is {shown(media_type)}, not a bundle of the form {BUNDLE_TYPE}.",
            remedy=OTHER_RELEASE,
            code="other-form",
        )
    exactly(bundle, "the bundle", "mediaType", "verificationMaterial", "dsseEnvelope")
    material = mapping(bundle["verificationMaterial"], "verificationMaterial")
    exactly(material, "verificationMaterial", "publicKey", maybe=("tlogEntries",))
    if material.get("tlogEntries", []) != []:
        raise Unverified(
            "it names log entries, which this release does not check.",
            remedy="Give the bundle as it was signed.",
            code="wrong-shape",
        )
    named = mapping(material["publicKey"], "publicKey")
    exactly(named, "publicKey", "hint")
    envelope = mapping(bundle["dsseEnvelope"], "dsseEnvelope")
    exactly(envelope, "dsseEnvelope", "payload", "payloadType", "signatures")
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise Unverified(
            f"its payload is {shown(envelope['payloadType'])}, not {PAYLOAD_TYPE}.",
            remedy=ASK_SIGNER,
            code="other-form",
        )
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Unverified(
            "it does not hold exactly one signature.", remedy="One bundle for each signer.", code="wrong-shape"
        )
    one = mapping(signatures[0], "signature")
    exactly(one, "signature", "keyid", "sig")
    if one["keyid"] != named["hint"]:
        raise Unverified("envelope and bundle name different keys.", remedy=ASK_SIGNER, code="wrong-shape")
    return _Parts(named["hint"], canonical_base64(envelope["payload"], "payload"), canonical_base64(one["sig"], "sig"))


def read_bundle(path: Path) -> bytes:
    """A bundle's bytes. Raises Unverified where there is no such file, or it cannot be a bundle."""
    return read_bounded(path, MAX_BUNDLE_BYTES, Unverified)


def _sign(raw: bytes, key: PrivateKey) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    if not isinstance(key.key, ec.EllipticCurvePrivateKey):
        return key.key.sign(raw)
    try:
        return key.key.sign(raw, ec.ECDSA(SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm:  # before OpenSSL 3.2: valid, with different bytes each time
        return key.key.sign(raw, ec.ECDSA(SHA256()))


def _check(key: PublicKey, signature: bytes, raw: bytes) -> None:
    """Raises Unverified unless the signature is on `raw`. The key determines the algorithm, never the file."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key.key, ec.EllipticCurvePublicKey):
            key.key.verify(signature, raw, ec.ECDSA(SHA256()))
        else:
            key.key.verify(signature, raw)
    except InvalidSignature:
        raise Unverified(
            f"the signature of the key {key.id} does not fit: the file was changed, or that key did not sign it.",
            remedy=ASK_SIGNER,
            code="signature-wrong",
        ) from None
