"""Make, store and read keys: ECDSA on P-256 or Ed25519, in PEM, and nothing else.

A key's id is the SHA-256 of its SubjectPublicKeyInfo in DER, as `openssl` prints it (docs/signing.md).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from robustness_gate.attestation.storage import already_there, create, read_bounded
from robustness_gate.errors import SigningError, UnknownWord
from robustness_gate.system.writing import nothing_empty

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_KEY_BYTES = 64 * 1024

KEY_VARIABLE = "ROBUSTNESS_GATE_SIGNING_KEY"
"""The private key itself, as PEM, where no file is named: a CI secret need not touch the disk."""
PASSPHRASE_VARIABLE = "ROBUSTNESS_GATE_SIGNING_PASSPHRASE"

Kind = Literal["ecdsa", "ed25519"]
"""`ecdsa`: P-256 with SHA-256, which every client tried accepts. `ed25519`: some refuse it."""
KINDS: tuple[Kind, ...] = get_args(Kind)

PRIVATE_MARK = b"PRIVATE KEY-----"
PRIVATE_NAME, PUBLIC_NAME = "signing.key", "signing.pub"


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
            raise already_there(path)
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


def signing_key(path: Path | None, *, ask: Callable[[], str] | None = None) -> PrivateKey:
    """The key to sign with: from a PEM file, or from $ROBUSTNESS_GATE_SIGNING_KEY where no file is named.

    Args:
        path: PKCS#8 (or OpenSSL's older forms), plain or encrypted.
        ask: called for the passphrase of an encrypted key where $ROBUSTNESS_GATE_SIGNING_PASSPHRASE is not set.

    Raises:
        SigningError: no key, a key of a kind that is not accepted, or a wrong or missing passphrase.
    """
    if path is not None:
        return read_private(read_bounded(path, MAX_KEY_BYTES, SigningError), str(path), ask=ask)
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
        except TypeError:  # raised by cryptography for an encrypted key
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
        SigningError: no such file, or not a public key of an accepted kind.
    """
    return read_public(read_bounded(path, MAX_KEY_BYTES, SigningError), str(path))


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
    pem = read_bounded(path, MAX_KEY_BYTES, SigningError)
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
    """Readers of PEM take the first block and ignore the others, so a file with several blocks is ambiguous."""
    if (count := len(re.findall(begin, pem))) != 1:
        found = "holds no" if count == 0 else f"holds {count} blocks, not one"
        raise SigningError(f"{found} {what} in PEM.", remedy="One file a key.", where=where)


def _other_kind(key: Any, where: str) -> SigningError:
    curve = getattr(getattr(key, "curve", None), "name", "")
    kind = f"elliptic curve {curve}" if curve else type(key).__name__.strip("_")
    return SigningError(
        f"this kind of key is not accepted ({kind}).", remedy=f"ECDSA on P-256 or Ed25519. {MAKE_ONE}", where=where
    )
