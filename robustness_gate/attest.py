"""Signing, and checking what was signed: an in-toto Statement in a DSSE envelope in a Sigstore bundle.

A signature shows that the holder of a key made these bytes. It does not show that they are true, nor when they were
made. What is signed here is a Statement v1 with a predicate of our own and its version (`urn:robustness-gate:...`);
the envelope signs its type and its bytes together; the bundle is a wrapping that other clients read.

Three habits carry the weight. The signature is checked over the payload's bytes as they came, before anything looks
into them: nobody but a trusted signer can feed the parser. Keys come from the verifier, never from the bundle; the
bundle's hint only chooses among them. What is not known (a field, a version, a second signature, a log entry that
nobody would check) is refused, where in-toto's parsing rules would have it ignored.

A bundle has no digest worth naming: whoever holds one can write it anew (spaces, the other base64 alphabet, the ECDSA
signature (r, n - s) for (r, s)), and it verifies still. What names a statement is the SHA-256 of its payload.

Sources: DSSE 1.0.0 (secure-systems-lab/dsse, protocol.md and envelope.md); in-toto attestation, Statement v1;
sigstore/protobuf-specs, sigstore_bundle.proto. Departures: base64 must be canonical, exactly one signature, the key
id must be given; all of them stricter than the sources.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

import rfc8785
from pydantic import Field, ValidationError

from robustness_gate.errors import SigningError, UnknownWord, Unverified
from robustness_gate.files import opened
from robustness_gate.nouns import Digest, Json, Noun, canonical
from robustness_gate.writing import nothing_empty

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
"""Refused before anything is parsed. GitHub's attestations have the same limit."""
MAX_KEY_BYTES = 64 * 1024

KEY_VARIABLE = "ROBUSTNESS_GATE_SIGNING_KEY"
"""The private key itself, as PEM, where no file is named: a CI secret need not touch the disk."""
PASSPHRASE_VARIABLE = "ROBUSTNESS_GATE_SIGNING_PASSPHRASE"

Kind = Literal["ecdsa", "ed25519"]
"""`ecdsa`: P-256 with SHA-256, which every client tried accepts. `ed25519`: some refuse it."""
KINDS: tuple[Kind, ...] = get_args(Kind)

PRIVATE_MARK = b"PRIVATE KEY-----"
PRIVATE_NAME, PUBLIC_NAME = "signing.key", "signing.pub"

SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that checks signatures."""

    kind: Kind
    id: str
    """SHA-256 of the SubjectPublicKeyInfo in DER, uncompressed point, as 64 hexadecimal digits."""
    pem: str
    key: EllipticCurvePublicKey | Ed25519PublicKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs. Its secret part is in no `repr`."""

    public: PublicKey
    key: EllipticCurvePrivateKey | Ed25519PrivateKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload whose signature was checked, and whose key it was."""

    payload: bytes
    key: PublicKey

    @property
    def sha256(self) -> str:
        """The name of what was signed; the same however the bundle around it is written."""
        return hashlib.sha256(self.payload).hexdigest()


# --- statements -------------------------------------------------------------------------------------------------------


class DigestSet(Noun):
    """in-toto's set of digests; here always the one."""

    sha256: Digest


class Subject(Noun):
    """What a statement is about: its name in the statement, and its digest, which is what counts."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    digest_: DigestSet = Field(alias="digest")


class Statement(Noun):
    """in-toto's Statement v1. Our own predicates stand in it as plain data; each has its own strict record."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str = Field(alias="predicateType")
    predicate: dict[str, Json]

    @property
    def subjects(self) -> dict[str, str]:
        """SHA-256 by name."""
        return {each.name: each.digest_.sha256 for each in self.subject}


def statement(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Json]) -> bytes:
    """The canonical bytes of a Statement, ready to be signed: the same arguments give the same bytes.

    Args:
        subjects: SHA-256, in lower-case hexadecimal, by name; at least one.
        predicate_type: a URI that ends in the predicate's version.
        predicate: plain data without NaN, infinities or whole numbers beyond 2^53.

    Raises:
        SigningError: the arguments make no such Statement.
    """
    written: Json = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    try:
        payload = canonical(written)
        Statement.model_validate_json(payload)
    except (rfc8785.CanonicalizationError, ValidationError, UnicodeEncodeError) as error:
        raise SigningError(
            f"this cannot be written as a Statement: {_first_words(error)}.", remedy="Sign something else."
        ) from None
    return payload


def read_statement(payload: bytes, predicate_type: str) -> Statement:
    """Read a payload that `open_bundle` gave back, as a Statement with exactly this predicate.

    Raises:
        Unverified: not such a Statement: duplicate or unknown keys, another version, another predicate.
    """
    found = _strict_json(payload, "the payload")
    told = found.get("predicateType")
    if told != predicate_type:
        raise Unverified(
            f"it states {_shown(told)}, and {predicate_type} was expected",
            remedy="Give the bundle that this verb checks, or use the release that wrote it.",
        )
    try:
        read = Statement.model_validate_json(canonical(found))
    except (ValidationError, rfc8785.CanonicalizationError, RecursionError) as error:
        raise Unverified(f"the payload is no Statement v1: {_first_words(error)}.", remedy=OTHER_RELEASE) from None
    if len(read.subjects) < len(read.subject):
        raise Unverified("two subjects have one name.", remedy=ASK_SIGNER)
    return read


# --- signing ----------------------------------------------------------------------------------------------------------

OTHER_RELEASE = "It may have been written by another release; do not rely on it."
ASK_SIGNER = "Do not rely on it; ask the signer for the original."


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed. Lengths are in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: PrivateKey) -> bytes:
    """Sign a Statement's bytes. Returns a Sigstore bundle v0.3 with a DSSE envelope, as JSON in one line.

    The same payload and key give the same bundle: Ed25519 by nature, ECDSA by RFC 6979 where OpenSSL knows it (3.2).

    Raises:
        SigningError: the bundle would be larger than `open_bundle` accepts.
    """
    raw = pae(PAYLOAD_TYPE, payload)
    signature = _sign(raw, key)
    _check(key.public, signature, raw)  # a faulty computation can give the key away: what does not verify never leaves
    bundle: Json = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": key.public.id, "sig": base64.b64encode(signature).decode()}],
        },
    }
    written = canonical(bundle)
    if len(written) > MAX_BUNDLE_BYTES:
        raise SigningError(
            f"the bundle would have {len(written):,} bytes, {MAX_BUNDLE_BYTES:,} are accepted.",
            remedy="Leave out what can be named by its digest.",
        )
    return written


def open_bundle(raw: bytes, keys: Sequence[PublicKey]) -> Opened:
    """Check a bundle's signature and give back what was signed, without having looked into it.

    Args:
        raw: the bundle's bytes.
        keys: those that the verifier trusts. The bundle's hint chooses among them and has no other effect.

    Raises:
        Unverified: not a bundle of the form that `sign` writes, not signed by one of `keys`, or changed since.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise Unverified(f"the bundle has more than {MAX_BUNDLE_BYTES:,} bytes.", remedy=ASK_SIGNER)
    parts = _taken_apart(raw)
    key = next((each for each in keys if each.id == parts.hint), None)
    if key is None:
        trusted = ", ".join(each.id for each in keys) or "none"
        raise Unverified(
            f"it is signed with the key {_shown(parts.hint)}, which is not among those given ({trusted})",
            remedy="Give the signer's public key, from the signer, if you trust it.",
        )
    _check(key, parts.signature, pae(PAYLOAD_TYPE, parts.payload))
    return Opened(parts.payload, key)


def payload_of(raw: bytes) -> bytes:
    """What a bundle says, whoever wrote it: no signature is checked. Raises Unverified where it is no bundle."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise Unverified(f"the bundle has more than {MAX_BUNDLE_BYTES:,} bytes.", remedy=ASK_SIGNER)
    return _taken_apart(raw).payload


class _Parts(NamedTuple):
    hint: Json
    payload: bytes
    signature: bytes


def _taken_apart(raw: bytes) -> _Parts:
    """The parts of a bundle of exactly the form that `sign` writes. Raises Unverified for any other."""
    bundle = _strict_json(raw, "the bundle")
    told = bundle.get("mediaType")
    if told != BUNDLE_TYPE:
        raise Unverified(f"it is {_shown(told)}, not a bundle of the form {BUNDLE_TYPE}.", remedy=OTHER_RELEASE)
    _exactly(bundle, "the bundle", "mediaType", "verificationMaterial", "dsseEnvelope")
    material = _mapping(bundle["verificationMaterial"], "verificationMaterial")
    _exactly(material, "verificationMaterial", "publicKey", maybe=("tlogEntries",))
    if material.get("tlogEntries", []) != []:
        raise Unverified(
            "it names log entries, which this release does not check.", remedy="Give the bundle as it was signed."
        )
    named = _mapping(material["publicKey"], "publicKey")
    _exactly(named, "publicKey", "hint")
    envelope = _mapping(bundle["dsseEnvelope"], "dsseEnvelope")
    _exactly(envelope, "dsseEnvelope", "payload", "payloadType", "signatures")
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise Unverified(f"its payload is {_shown(envelope['payloadType'])}, not {PAYLOAD_TYPE}.", remedy=ASK_SIGNER)
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise Unverified("it does not hold exactly one signature.", remedy="One bundle a signer.")
    one = _mapping(signatures[0], "signature")
    _exactly(one, "signature", "keyid", "sig")
    if one["keyid"] != named["hint"]:
        raise Unverified("envelope and bundle name different keys.", remedy=ASK_SIGNER)
    return _Parts(named["hint"], _bytes(envelope["payload"], "payload"), _bytes(one["sig"], "sig"))


def read_bundle(path: Path) -> bytes:
    """A bundle's bytes. Raises Unverified where there is no such file, or none that could be a bundle."""
    return _read(path, MAX_BUNDLE_BYTES, Unverified)


def _sign(raw: bytes, key: PrivateKey) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    if not isinstance(key.key, ec.EllipticCurvePrivateKey):
        return key.key.sign(raw)
    try:
        return key.key.sign(raw, ec.ECDSA(SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm:  # an OpenSSL before 3.2: as good a signature, of other bytes each time
        return key.key.sign(raw, ec.ECDSA(SHA256()))


def _check(key: PublicKey, signature: bytes, raw: bytes) -> None:
    """Raises Unverified unless the signature is on `raw`. The algorithm is the key's, never the file's to choose."""
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
        ) from None


# --- reading what a stranger wrote ------------------------------------------------------------------------------------


def _strict_json(raw: bytes, what: str) -> dict[str, Json]:
    """A JSON object in which no key stands twice: two readers would otherwise see two different things."""

    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Unverified(f"a key stands twice in {what}.", remedy=ASK_SIGNER)
        return found

    def refuse(word: str) -> Json:
        raise Unverified(f"{word} stands in {what}, which is not JSON.", remedy=ASK_SIGNER)

    try:
        text = raw.decode("utf-8")
        found = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
        halved = "\\u" in text and SURROGATE.search(json.dumps(found, ensure_ascii=False))
    except (ValueError, RecursionError):
        raise Unverified(f"{what} is not JSON in UTF-8.", remedy="Give the file that was signed, whole.") from None
    if not isinstance(found, dict):
        raise Unverified(f"{what} is not a JSON object.", remedy="Give the file that was signed, whole.")
    if halved:
        raise Unverified(f"{what} holds half a character.", remedy=ASK_SIGNER)
    return found


def _exactly(found: Mapping[str, Json], what: str, *keys: str, maybe: Sequence[str] = ()) -> None:
    for key in keys:
        if key not in found:
            raise Unverified(f"'{key}' is missing in {what}.", remedy=OTHER_RELEASE)
    for key in found:
        if key not in keys and key not in maybe:
            raise Unverified(f"{what} has the unknown field {_shown(key)}.", remedy=OTHER_RELEASE)


def _mapping(found: Json, what: str) -> dict[str, Json]:
    if not isinstance(found, dict):
        raise Unverified(f"{what} is not a JSON object.", remedy=OTHER_RELEASE)
    return found


def _bytes(text: Json, what: str) -> bytes:
    """Base64 in either alphabet, as DSSE demands, but not in both at once, and with no spare bits or characters."""
    if isinstance(text, str):
        for alphabet in (b"+/", b"-_"):
            try:
                raw = base64.b64decode(text, altchars=alphabet, validate=True)
            except (binascii.Error, ValueError):
                continue
            if base64.b64encode(raw, altchars=alphabet).decode() == text:
                return raw
    raise Unverified(f"'{what}' is not canonical base64.", remedy=ASK_SIGNER)


def _shown(value: Json) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def _first_words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)


# --- keys -------------------------------------------------------------------------------------------------------------


def generate(kind: Kind = "ecdsa") -> PrivateKey:
    """A new key from the operating system's random source."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    match kind:
        case "ed25519":
            return _private(ed25519.Ed25519PrivateKey.generate())
        case "ecdsa":
            return _private(ec.generate_private_key(ec.SECP256R1()))
        case _:
            raise UnknownWord("kind of key", kind)


def private_pem(key: PrivateKey, passphrase: str = "") -> bytes:
    """PKCS#8 in PEM; encrypted where a passphrase is given (PBES2: PBKDF2 with SHA-256, AES-256)."""
    from cryptography.hazmat.primitives import serialization as forms

    lock = (
        forms.BestAvailableEncryption(passphrase.encode("utf-8", "surrogateescape"))
        if passphrase
        else forms.NoEncryption()
    )
    return key.key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, lock)


def save(key: PrivateKey, folder: Path, passphrase: str = "") -> tuple[Path, Path]:
    """Write `signing.key`, readable by its owner alone, and `signing.pub`. Returns both paths.

    Raises:
        SigningError: one of them is already there (a key is never overwritten), or the folder cannot be written.
    """
    private, public = folder / PRIVATE_NAME, folder / PUBLIC_NAME
    for path in (private, public):
        if path.is_symlink() or path.exists():
            raise _there(path)
    try:
        with nothing_empty(folder):
            folder.mkdir(parents=True, exist_ok=True)
            create(private, private_pem(key, passphrase), mode=0o600)
            try:
                create(public, key.public.pem.encode())
            except OSError:
                private.unlink()
                raise
    except OSError as error:
        raise SigningError(
            f"cannot be written: {error.strerror or error}.", remedy="Name another folder.", where=str(folder)
        ) from None
    return private, public


def create(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet, also not as a link. Raises SigningError if it does, else OSError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    except FileExistsError:
        raise _there(path) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # half a key or half a signature would be in the way of the whole one
        raise


def signing_key(path: Path | None, *, ask: Callable[[], str] | None = None) -> PrivateKey:
    """The key to sign with: from a PEM file, or from $ROBUSTNESS_GATE_SIGNING_KEY where no file is named.

    Args:
        path: PKCS#8 (or OpenSSL's older forms), plain or encrypted.
        ask: called for the passphrase of an encrypted key where $ROBUSTNESS_GATE_SIGNING_PASSPHRASE is not set.

    Raises:
        SigningError: no key, not a key of a kind that is accepted, or a wrong or missing passphrase.
    """
    if path is not None:
        return read_private(_read(path, MAX_KEY_BYTES, SigningError), str(path), ask=ask)
    pem = os.environ.get(KEY_VARIABLE, "")
    if not pem.strip():
        raise SigningError(
            "no key to sign with.", remedy=f"Give --key FILE, or put the key's PEM into ${KEY_VARIABLE}."
        )
    return read_private(pem.encode("utf-8", "surrogateescape"), f"${KEY_VARIABLE}", ask=ask)


def read_private(pem: bytes, where: str, *, ask: Callable[[], str] | None = None) -> PrivateKey:
    """A private key from PEM; see `signing_key`. Raises SigningError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    _one_block(pem, rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", "private key", where)
    try:
        try:
            return _private(load_pem_private_key(pem, password=None), where)
        except TypeError:  # cryptography's way to say that it is encrypted
            passphrase = _passphrase(where, ask)
        try:
            return _private(load_pem_private_key(pem, password=passphrase.encode("utf-8", "surrogateescape")), where)
        except ValueError:
            raise SigningError(
                "the passphrase does not open this key, or the file is damaged.",
                remedy=f"Correct ${PASSPHRASE_VARIABLE}, or unset it to be asked.",
                where=where,
            ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError("is not a private key in PEM.", remedy=MAKE_ONE, where=where) from None


def public_key(path: Path) -> PublicKey:
    """A public key from a PEM file that holds this one key and nothing else.

    Raises:
        SigningError: no such file, or not a public key of a kind that is accepted.
    """
    return read_public(_read(path, MAX_KEY_BYTES, SigningError), str(path))


def read_public(pem: bytes, where: str) -> PublicKey:
    """A public key from PEM; see `public_key`. Raises SigningError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if PRIVATE_MARK in pem:
        raise SigningError(
            "is a private key, which only its signer should have.",
            remedy="Give the public one; `robustness-gate keys show` prints it.",
            where=where,
        )
    _one_block(pem, rb"-----BEGIN [A-Z0-9 ]+-----", "public key", where)
    try:
        return _public(load_pem_public_key(pem), where)
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(
            "is not a public key in PEM.", remedy="It begins with -----BEGIN PUBLIC KEY-----.", where=where
        ) from None


def any_public_key(path: Path, *, ask: Callable[[], str] | None = None) -> PublicKey:
    """The public part of a private or public key file; see `signing_key` and `public_key`. Raises SigningError."""
    pem = _read(path, MAX_KEY_BYTES, SigningError)
    if PRIVATE_MARK in pem:
        return read_private(pem, str(path), ask=ask).public
    return read_public(pem, str(path))


MAKE_ONE = "Make one with `robustness-gate keys generate`."


def _private(key: Any, where: str = "") -> PrivateKey:
    if not hasattr(key, "public_key"):
        raise _other_kind(key, where)
    return PrivateKey(_public(key.public_key(), where), key)


def _public(key: Any, where: str = "") -> PublicKey:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    kind: Kind
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        kind = "ecdsa"
    elif isinstance(key, ed25519.Ed25519PublicKey):
        kind = "ed25519"
    else:
        raise _other_kind(key, where)
    info = forms.PublicFormat.SubjectPublicKeyInfo
    identity = hashlib.sha256(key.public_bytes(forms.Encoding.DER, info)).hexdigest()
    return PublicKey(kind, identity, key.public_bytes(forms.Encoding.PEM, info).decode(), key)


def _passphrase(where: str, ask: Callable[[], str] | None) -> str:
    found = os.environ.get(PASSPHRASE_VARIABLE) or (ask() if ask is not None else "")
    if not found:
        raise SigningError(
            "the key is encrypted, and there is no passphrase.", remedy=f"Set ${PASSPHRASE_VARIABLE}.", where=where
        )
    return found


def _one_block(pem: bytes, begin: bytes, what: str, where: str) -> None:
    """A reader takes the first block and says nothing of the others; which key was meant must not be a guess."""
    if (count := len(re.findall(begin, pem))) != 1:
        found = "holds no" if count == 0 else f"holds {count} blocks, not one"
        raise SigningError(f"{found} {what} in PEM.", remedy="One file a key.", where=where)


def _other_kind(key: Any, where: str) -> SigningError:
    curve = getattr(getattr(key, "curve", None), "name", "")
    kind = f"elliptic curve {curve}" if curve else type(key).__name__.strip("_")
    return SigningError(
        f"this kind of key is not accepted ({kind}).", remedy=f"ECDSA on P-256 or Ed25519. {MAKE_ONE}", where=where
    )


def _there(path: Path) -> SigningError:
    return SigningError("is already there.", remedy="Nothing is overwritten: name another place.", where=str(path))


def _read(path: Path, limit: int, kind: type[SigningError] | type[Unverified]) -> bytes:
    try:
        with opened(path) as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise kind(f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path)) from None
    if len(raw) > limit:
        raise kind(f"is larger than {limit:,} bytes.", remedy="Check the path.", where=str(path))
    return raw
