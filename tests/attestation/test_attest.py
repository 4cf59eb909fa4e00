"""Signing and opening: the sources' own vectors, two peers in both directions, and everything that must be refused."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils, x25519

from robustness_gate.attestation import dsse, keys, statement, storage, strict
from robustness_gate.errors import Exit, GateError, SigningError, Unverified

PREDICATE = "urn:robustness-gate:test:v1"
PAYLOAD = statement.statement({"thing": "ab" * 32}, PREDICATE, {"description": "naïve", "count": 3})
OPENSSL = shutil.which("openssl")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, FIPS 186-5


@pytest.fixture(scope="module", params=keys.KINDS)
def key(request: pytest.FixtureRequest) -> keys.PrivateKey:
    return keys.generate(request.param)


@pytest.fixture(scope="module")
def bundle(key: keys.PrivateKey) -> bytes:
    return dsse.sign(PAYLOAD, key)


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.KEY_VARIABLE, raising=False)
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)


def refusal(raw: bytes, keys: list[keys.PublicKey]) -> Unverified:
    with pytest.raises(Unverified) as caught:
        dsse.open_bundle(raw, keys)
    return caught.value


def decoded(raw: bytes) -> tuple[Any, bytes, bytes]:
    """A bundle by other, far more lenient code than ours: its JSON without the two base64 texts, and their bytes."""
    data = json.loads(raw)
    payload = base64.b64decode(data["dsseEnvelope"].pop("payload").replace("-", "+").replace("_", "/"))
    signature = data["dsseEnvelope"]["signatures"][0].pop("sig").replace("-", "+").replace("_", "/")
    return data, payload, base64.b64decode(signature)


# --- the vectors of the DSSE specification (protocol.md, "Test Vectors") ----------------------------------------------

VECTOR_TYPE, VECTOR_BODY = "http://example.com/HelloWorld", b"hello world"
VECTOR_SECRET = 97358161215184420915383655311931858321456579547487070936769975997791359926199
VECTOR_SIG = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def test_the_specifications_encoding() -> None:
    assert dsse.pae(VECTOR_TYPE, VECTOR_BODY) == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_in_the_encoding_are_of_bytes_not_characters() -> None:
    assert dsse.pae("é", "ü!".encode()) == b"DSSEv1 2 \xc3\xa9 3 \xc3\xbc!"
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "


def test_the_specifications_signature_is_accepted_and_is_what_its_key_makes_here() -> None:
    """The vector is r and s side by side, by RFC 6979; ours is the same pair in DER."""
    secret = ec.derive_private_key(VECTOR_SECRET, ec.SECP256R1())
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = keys.read_private(pem, "the vector")
    raw = base64.b64decode(VECTOR_SIG)
    expected = utils.encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    encoded = dsse.pae(VECTOR_TYPE, VECTOR_BODY)
    dsse._check(key.public, expected, encoded)
    assert dsse._sign(encoded, key) == expected
    with pytest.raises(Unverified):
        dsse._check(key.public, expected, encoded + b"!")


# --- there and back ---------------------------------------------------------------------------------------------------


def test_what_was_signed_comes_back_byte_for_byte(key: keys.PrivateKey, bundle: bytes) -> None:
    opened = dsse.open_bundle(bundle, [key.public])
    assert opened.payload == PAYLOAD
    assert opened.key == key.public
    assert opened.sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    read = statement.read_statement(opened.payload, PREDICATE, statement.Plain)
    assert read.subjects == {"thing": "ab" * 32}
    assert read.predicate == {"description": "naïve", "count": 3}


def test_the_same_payload_and_key_give_the_same_bundle(key: keys.PrivateKey, bundle: bytes) -> None:
    assert dsse.sign(PAYLOAD, key) == bundle


def test_the_bundle_has_the_shape_that_sigstore_clients_read(key: keys.PrivateKey, bundle: bytes) -> None:
    data = json.loads(bundle)
    assert data["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert data["verificationMaterial"] == {"publicKey": {"hint": key.public.id}, "tlogEntries": []}
    assert data["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    assert [one["keyid"] for one in data["dsseEnvelope"]["signatures"]] == [key.public.id]


def test_any_of_several_keys_opens_and_says_which_it_was(key: keys.PrivateKey, bundle: bytes) -> None:
    others = [keys.generate(kind).public for kind in keys.KINDS]
    assert dsse.open_bundle(bundle, [*others, key.public]).key.id == key.public.id


def test_other_keys_do_not_open(bundle: bytes) -> None:
    others = [keys.generate(kind).public for kind in keys.KINDS]
    error = refusal(bundle, others)
    assert error.exit_code == Exit.UNVERIFIED == 5
    assert "not among those given" in str(error)
    assert all(other.id in str(error) for other in others)
    assert "(none)" in str(refusal(bundle, []))


def test_a_hint_that_names_a_trusted_key_does_not_make_its_signature(bundle: bytes) -> None:
    trusted, data = keys.generate().public, json.loads(bundle)
    data["verificationMaterial"]["publicKey"]["hint"] = trusted.id
    assert "different keys" in str(refusal(json.dumps(data).encode(), [trusted]))
    data["dsseEnvelope"]["signatures"][0]["keyid"] = trusted.id
    assert "does not fit" in str(refusal(json.dumps(data).encode(), [trusted]))


def test_the_signature_is_checked_before_anything_looks_into_the_payload(key: keys.PrivateKey) -> None:
    bomb = b"[" * 100_000
    forged = json.loads(dsse.sign(PAYLOAD, key))
    forged["dsseEnvelope"]["payload"] = base64.b64encode(bomb).decode()
    assert "does not fit" in str(refusal(json.dumps(forged).encode(), [key.public]))
    opened = dsse.open_bundle(dsse.sign(bomb, key), [key.public])  # signed: not looked into even then
    assert opened.payload == bomb
    with pytest.raises(Unverified, match="not JSON"):
        statement.read_statement(opened.payload, PREDICATE, statement.Plain)


def test_a_bundle_beyond_the_size_is_refused_unread(key: keys.PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsse, "MAX_BUNDLE_BYTES", 1000)
    assert "more than 1,000 bytes" in str(refusal(b" " * 1001, [key.public]))
    with pytest.raises(SigningError, match="1,000 are accepted"):
        dsse.sign(b"x" * 1000, key)


# --- mutants ----------------------------------------------------------------------------------------------------------


def one_byte_mutants(raw: bytes) -> Iterator[bytes]:
    """Every bit flipped alone; every byte replaced by what JSON and base64 care about, left out, or put behind one."""
    for at in range(len(raw)):
        before, byte, after = raw[:at], raw[at], raw[at + 1 :]
        others = {byte ^ (1 << bit) for bit in range(8)} | set(b'+-/_=A0 \n"\\,:{}[]\x00\xff')
        for other in others - {byte}:
            yield before + bytes([other]) + after
        yield before + after
        for added in b' "=A\\\x00':
            yield before + bytes([byte, added]) + after


def test_no_mutant_of_one_byte_is_accepted_unless_it_is_the_same_bundle_in_other_clothes(
    key: keys.PrivateKey, bundle: bytes
) -> None:
    """Accepted are those alone that say the same: JSON's spaces and `\\/` for `/`, base64's other alphabet.

    The argument: all of a bundle that is not the payload or the signature is compared with a constant or the key's id,
    so another value is refused; base64 is canonical within its alphabet, so another text is another value or the other
    alphabet; and another payload or signature does not verify. Each acceptance is held against a lenient reader.
    """
    original = decoded(bundle)
    accepted, tried = [], 0
    for mutant in one_byte_mutants(bundle):
        tried += 1
        try:
            opened = dsse.open_bundle(mutant, [key.public])
        except Unverified:
            continue
        assert opened.payload == PAYLOAD
        assert decoded(mutant) == original
        accepted.append(mutant)
    assert tried > 20 * len(bundle)
    for mutant in accepted:
        same_text = json.loads(mutant) == json.loads(bundle)
        other_alphabet = mutant.translate(bytes.maketrans(b"-_", b"+/")) == bundle.translate(
            bytes.maketrans(b"-_", b"+/")
        )
        assert same_text or other_alphabet
        assert same_text is (len(mutant) == len(bundle) + 1)  # no byte can be replaced or left out of the text itself


def test_every_flipped_bit_of_payload_and_signature_is_refused(key: keys.PrivateKey, bundle: bytes) -> None:
    """The same one layer down: the mutant is well-formed base64, so that only the signature stands in its way."""
    data = json.loads(bundle)
    envelope = data["dsseEnvelope"]
    for holder, name in ((envelope, "payload"), (envelope["signatures"][0], "sig")):
        text = holder[name]
        raw = base64.b64decode(text)
        for at in range(len(raw)):
            for bit in range(8):
                changed = raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]
                holder[name] = base64.b64encode(changed).decode()
                assert "does not fit" in str(refusal(json.dumps(data).encode(), [key.public]))
        holder[name] = text
    assert dsse.open_bundle(json.dumps(data).encode(), [key.public]).payload == PAYLOAD


def test_a_truncated_bundle_is_refused_at_every_length(key: keys.PrivateKey, bundle: bytes) -> None:
    for length in range(len(bundle)):
        refusal(bundle[:length], [key.public])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in plain data that holds a value."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield from places(each, (*at, name))


def changed(raw: bytes, at: tuple[Any, ...], change: Callable[[Any], Any]) -> bytes:
    data = {"root": json.loads(raw)}
    holder: Any = data
    path = ("root", *at)
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = change(holder[path[-1]])
    return json.dumps(data["root"]).encode()


def test_every_value_replaced_by_one_of_another_kind_is_refused(key: keys.PrivateKey, bundle: bytes) -> None:
    for at in places(json.loads(bundle)):
        for other in (None, True, 0, 1.5, "", "x", "\ud800", [], ["x"], {}, {"x": 1}, [[]]):
            if at == ("verificationMaterial", "tlogEntries") and other == []:
                continue
            refusal(changed(bundle, at, lambda _, other=other: other), [key.public])


def test_an_unknown_field_is_refused_wherever_it_stands(key: keys.PrivateKey, bundle: bytes) -> None:
    objects = [at for at in places(json.loads(bundle)) if isinstance(_at(json.loads(bundle), at), dict)]
    assert len(objects) == 5
    for at in objects:
        for name in ("x", "", "messageSignature", "certificate", "timestampVerificationData"):
            error = refusal(changed(bundle, at, lambda old, name=name: {**old, name: {}}), [key.public])
            assert f"unknown field {json.dumps(name)}" in str(error)


def test_a_missing_field_is_refused_except_the_empty_log(key: keys.PrivateKey, bundle: bytes) -> None:
    for at in places(json.loads(bundle)):
        if not at or isinstance(at[-1], int):
            continue
        raw = changed(bundle, at[:-1], lambda old, name=at[-1]: {k: v for k, v in old.items() if k != name})
        if at[-1] == "tlogEntries":  # protobuf's JSON leaves empty lists out
            assert dsse.open_bundle(raw, [key.public]).payload == PAYLOAD
        else:
            refusal(raw, [key.public])


def test_a_key_that_stands_twice_is_refused_wherever_it_stands(key: keys.PrivateKey, bundle: bytes) -> None:
    text = bundle.decode()
    names = ["mediaType", "verificationMaterial", "publicKey", "hint", "tlogEntries", "dsseEnvelope", "payload"]
    for name in [*names, "payloadType", "signatures", "keyid", "sig"]:
        start = text.index(f'"{name}":')
        twice = f'{text[:start]}"{name}":null,{text[start:]}'
        assert json.loads(twice) == json.loads(text)  # a common reader sees nothing
        assert "stands twice" in str(refusal(twice.encode(), [key.public]))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        data = data[name]
    return data


ENVELOPE, SIGNATURES = ("dsseEnvelope",), ("dsseEnvelope", "signatures")


@pytest.mark.parametrize(
    ("at", "change", "says"),
    [
        (("mediaType",), lambda _: "application/vnd.dev.sigstore.bundle.v0.4+json", "v0.4"),
        (("mediaType",), lambda _: "application/vnd.dev.sigstore.bundle+json;version=0.1", "version=0.1"),
        ((*ENVELOPE, "payloadType"), lambda _: "application/json", "application/json"),
        ((*ENVELOPE, "payloadType"), lambda old: old.upper(), "IN-TOTO"),
        (SIGNATURES, lambda old: old * 2, "exactly one signature"),
        (SIGNATURES, lambda _: [], "exactly one signature"),
        (("verificationMaterial", "tlogEntries"), lambda _: [{"logIndex": "1"}], "log entries"),
        ((*ENVELOPE, "payload"), lambda old: old.rstrip("=") + "====", "base64"),
        ((*ENVELOPE, "payload"), lambda old: f"{old[:4]}\n{old[4:]}", "base64"),
        ((*SIGNATURES, 0, "sig"), lambda _: "+-==", "base64"),
        ((*SIGNATURES, 0, "sig"), lambda old: f"{old}A", "base64"),
    ],
)
def test_what_is_not_known_is_refused_with_its_name(
    key: keys.PrivateKey, bundle: bytes, at: tuple[Any, ...], change: Callable[[Any], Any], says: str
) -> None:
    error = refusal(changed(bundle, at, change), [key.public])
    assert says in str(error)
    assert error.remedy


@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 200_000, b'{"a":' * 200_000, b"{}" * 2,
     b'{"mediaType": NaN}', b'{"mediaType": ' + b"9" * 5000 + b"}", b'{"mediaType": "\\ud800"}', "{}".encode("utf-16")],
    ids=lambda raw: repr(raw[:12]),
)  # fmt: skip
def test_what_is_no_bundle_at_all_is_refused_in_words(raw: bytes) -> None:
    assert refusal(raw, []).remedy


def test_spare_bits_of_base64_are_refused() -> None:
    """`QQ==` and `QR==` are the same byte to a lenient reader: two texts for one value."""
    assert strict.canonical_base64("QQ==", "x") == b"A"
    for text in ("QR==", "QQ=", "QQ", "QQ==\n", " QQ==", "QQ==QQ==", "Q Q=="):
        with pytest.raises(Unverified, match="canonical base64"):
            strict.canonical_base64(text, "x")


def test_both_alphabets_are_read_as_dsse_demands_but_not_mixed() -> None:
    assert strict.canonical_base64("+/+/", "x") == strict.canonical_base64("-_-_", "x") == b"\xfb\xff\xbf"
    with pytest.raises(Unverified):
        strict.canonical_base64("+/-_", "x")


def test_a_mirrored_ecdsa_signature_verifies_too_so_a_bundles_digest_names_nothing() -> None:
    """(r, n - s) is as valid as (r, s), by ECDSA's mathematics. The payload is untouched, and its digest names it."""
    key = keys.generate("ecdsa")
    data = json.loads(dsse.sign(PAYLOAD, key))
    one = data["dsseEnvelope"]["signatures"][0]
    r, s = utils.decode_dss_signature(base64.b64decode(one["sig"]))
    one["sig"] = base64.b64encode(utils.encode_dss_signature(r, ORDER - s)).decode()
    mirrored = json.dumps(data).encode()
    assert dsse.open_bundle(mirrored, [key.public]).sha256 == hashlib.sha256(PAYLOAD).hexdigest()


# --- statements -------------------------------------------------------------------------------------------------------


def test_a_statement_is_canonical_and_in_the_form_of_in_toto() -> None:
    assert (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"count":3,"description":"naïve"},'
        f'"predicateType":"{PREDICATE}","subject":[{{"digest":{{"sha256":"{"ab" * 32}"}},"name":"thing"}}]}}'
    ).encode() == PAYLOAD
    assert statement.statement({"b": "0" * 64, "a": "1" * 64}, PREDICATE, {}) == statement.statement(
        {"a": "1" * 64, "b": "0" * 64}, PREDICATE, {}
    )


@pytest.mark.parametrize(
    ("subjects", "predicate"),
    [
        ({}, {}),
        ({"x": "AB" * 32}, {}),
        ({"x": "ab"}, {}),
        ({"": "ab" * 32}, {}),
        ({"x": "ab" * 32}, {"n": float("nan")}),
        ({"x": "ab" * 32}, {"n": 2**60}),
        ({"x": "ab" * 32}, {"n": "\ud800"}),
        ({"x": "ab" * 32}, {"n": b"bytes"}),
    ],
)
def test_what_makes_no_statement_is_not_written(subjects: dict[str, str], predicate: dict[str, Any]) -> None:
    with pytest.raises(SigningError, match="cannot be written as a Statement") as caught:
        statement.statement(subjects, PREDICATE, predicate)
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"Statement/v1", b"Statement/v2", "_type"),
        (b"test:v1", b"test:v2", "urn:robustness-gate:test:v2"),
        (b'"predicateType":', b'"predicatetype":', "states null"),
        (b'"predicate":', b'"extra":1,"predicate":', "extra"),
        (b'"name":"thing"', b'"name":"thing","uri":"file:x"', "uri"),
        (b'{"sha256":', b'{"sha1":"00","sha256":', "sha1"),
        (b'{"sha256":"ab', b'{"sha256":"AB', "sha256"),
        (b'"count":3', b'"count":3,"count":4', "stands twice"),
        (b'"count":3', b'"count":NaN', "NaN"),
        (b'"count":3', b'"count":99999999999999999999', "no number that every reader"),
        (b'"count":3', b'"count":"\\udc00"', "half a character"),
        (b'"count":3', b'"count":' + b"[" * 600 + b"]" * 600, ""),
        (b'"subject":[', b'"subject":[{"digest":{"sha256":"' + b"0" * 64 + b'"},"name":"thing"},', "one name"),
        (b"}]}", b"}]}x", "not JSON"),
    ],
)
def test_a_signed_payload_that_is_no_such_statement_is_refused(old: bytes, new: bytes, says: str) -> None:
    assert PAYLOAD.count(old) == 1
    payload = PAYLOAD.replace(old, new)
    key = keys.generate()
    opened = dsse.open_bundle(dsse.sign(payload, key), [key.public])
    with pytest.raises(Unverified) as caught:
        statement.read_statement(opened.payload, PREDICATE, statement.Plain)
    assert says in str(caught.value)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_saved_key_is_its_owners_alone_and_signs_for_the_public_one(key: keys.PrivateKey, tmp_path: Path) -> None:
    private, public = keys.save(key, tmp_path / "new" / "keys")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    again = keys.signing_key(private)
    assert again == key
    assert keys.public_key(public) == key.public == keys.any_public_key(private) == keys.any_public_key(public)
    assert dsse.open_bundle(dsse.sign(PAYLOAD, again), [keys.public_key(public)]).payload == PAYLOAD


@pytest.mark.parametrize("name", [keys.PRIVATE_NAME, keys.PUBLIC_NAME])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_no_key_is_ever_overwritten(tmp_path: Path, name: str, kind: str) -> None:
    there = tmp_path / name
    there.write_text("precious") if kind == "file" else there.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SigningError, match="already there"):
        keys.save(keys.generate(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert kind == "link" or there.read_text() == "precious"
    with pytest.raises(SigningError, match="already there"):  # also when it appears after the look
        storage.create(there, b"new")


def test_a_folder_that_cannot_be_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SigningError, match="cannot be written"):
        keys.save(keys.generate(), tmp_path / "file" / "keys")


def test_an_encrypted_key_opens_with_its_passphrase_alone(
    key: keys.PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = keys.save(key, tmp_path, "schöne Öde")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in private.read_bytes()
    assert b"PRIVATE" not in public.read_bytes()
    assert keys.signing_key(private, ask=lambda: "schöne Öde") == key
    with pytest.raises(SigningError, match="passphrase does not open"):
        keys.signing_key(private, ask=lambda: "schöne Ode")
    for nothing in (None, lambda: ""):
        with pytest.raises(SigningError, match="there is no passphrase") as caught:
            keys.signing_key(private, ask=nothing)
        assert keys.PASSPHRASE_VARIABLE in caught.value.remedy
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "schöne Öde")
    assert keys.signing_key(private, ask=lambda: pytest.fail("was asked")) == key
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "wrong")
    with pytest.raises(SigningError, match="passphrase does not open"):
        keys.signing_key(private)


def test_a_key_comes_from_the_environment_where_no_file_is_named(
    key: keys.PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SigningError, match="no key to sign with") as caught:
        keys.signing_key(None)
    assert keys.KEY_VARIABLE in caught.value.remedy
    monkeypatch.setenv(keys.KEY_VARIABLE, keys.private_pem(key).decode())
    assert keys.signing_key(None) == key
    monkeypatch.setenv(keys.KEY_VARIABLE, keys.private_pem(key, "open").decode())
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "open")
    assert keys.signing_key(None) == key
    other = keys.generate()
    private, _ = keys.save(other, tmp_path)
    assert keys.signing_key(private) == other  # a named file goes before


def test_the_secret_is_in_no_repr(key: keys.PrivateKey) -> None:
    assert repr(key) == f"PrivateKey(public={key.public!r})"
    assert key.public.id in repr(key.public)


def test_the_key_id_is_of_the_key_and_not_of_its_spelling() -> None:
    """A compressed point is the same key: its id must be the same, or a trust file could hold it twice."""
    key = keys.generate("ecdsa")
    point = key.public.key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    start = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    pem = b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(start + point) + b"-----END PUBLIC KEY-----\n"
    assert keys.read_public(pem, "x") == key.public


def pem_of(secret: Any) -> bytes:
    return secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem_of(secret: Any) -> bytes:
    return secret.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_other_kinds_of_keys_are_refused_by_name() -> None:
    rsa_key = rsa.generate_private_key(65537, 1024)  # weak on purpose: it is refused whatever its size
    p384, exchange = ec.generate_private_key(ec.SECP384R1()), x25519.X25519PrivateKey.generate()
    for secret, says in ((rsa_key, "RSA"), (p384, "secp384r1"), (exchange, "X25519")):
        for read, pem in ((keys.read_private, pem_of(secret)), (keys.read_public, public_pem_of(secret))):
            with pytest.raises(SigningError, match=says) as caught:
                read(pem, "here")
            assert caught.value.where == "here"
            assert "P-256 or Ed25519" in caught.value.remedy


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: b"", "holds no"),
        (lambda _: b"\x00\xff", "holds no"),
        (lambda key: public_pem_of(key) * 2, "2 blocks"),
        (pem_of, "only its signer"),
        (lambda key: public_pem_of(key).replace(b"MF", b"MG"), "is not a public key"),
        (lambda key: public_pem_of(key).replace(b"PUBLIC KEY", b"CERTIFICATE"), "is not a public key"),
        (lambda key: public_pem_of(key) + pem_of(key), "only its signer"),
    ],
)
def test_what_is_no_single_public_key_is_refused(make: Callable[[Any], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pub"
    path.write_bytes(make(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(SigningError, match=says) as caught:
        keys.public_key(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: b"", "holds no"),
        (public_pem_of, "holds no"),
        (lambda key: pem_of(key) * 2, "2 blocks"),
        (lambda key: pem_of(key)[:120], "is not a private key"),
        (lambda key: pem_of(key).replace(b"MI", b"MJ"), "is not a private key"),
        (lambda _: b"x" * (keys.MAX_KEY_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_single_private_key_is_refused(make: Callable[[Any], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(make(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(SigningError, match=says) as caught:
        keys.signing_key(path)
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there_is_reported_with_the_code_of_its_kind(tmp_path: Path) -> None:
    for read, code in (
        (keys.public_key, Exit.USAGE),
        (keys.signing_key, Exit.USAGE),
        (dsse.read_bundle, Exit.UNVERIFIED),
    ):
        with pytest.raises(GateError, match="cannot be read") as caught:
            read(tmp_path / "nothing")
        assert caught.value.exit_code == code


# --- peers: securesystemslib (in-toto's own DSSE) and openssl, in both directions -------------------------------------


def test_securesystemslib_accepts_ours_and_refuses_it_changed(key: keys.PrivateKey, bundle: bytes) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    peer = SSlibKey.from_crypto(key.public.key, keyid=key.public.id)
    read = Envelope.from_dict(json.loads(bundle)["dsseEnvelope"])
    assert set(read.verify([peer], 1)) == {key.public.id}
    assert read.pae() == dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD)
    envelope = json.loads(bundle)["dsseEnvelope"]
    envelope["payload"] = base64.b64encode(PAYLOAD.replace(b"3", b"4")).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(envelope).verify([peer], 1)


def test_ours_accepts_securesystemslibs_and_refuses_it_changed(key: keys.PrivateKey) -> None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    peer = SSlibKey.from_crypto(key.public.key, keyid=key.public.id)
    envelope = Envelope(PAYLOAD, dsse.PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key.key, peer))
    bundle = {
        "mediaType": dsse.BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.id}},
        "dsseEnvelope": envelope.to_dict(),
    }
    assert dsse.open_bundle(json.dumps(bundle).encode(), [key.public]).payload == PAYLOAD
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(PAYLOAD + b" ").decode()
    assert "does not fit" in str(refusal(json.dumps(bundle).encode(), [key.public]))


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    assert OPENSSL is not None
    return subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, check=False, timeout=30)


@pytest.mark.skipif(OPENSSL is None, reason="there is no openssl here")
def test_openssl_accepts_ours_and_refuses_it_changed(key: keys.PrivateKey, bundle: bytes, tmp_path: Path) -> None:
    _, public = keys.save(key, tmp_path)
    signature, signed = tmp_path / "sig", tmp_path / "signed"
    signature.write_bytes(decoded(bundle)[2])
    if key.public.kind == "ecdsa":
        check = ["dgst", "-sha256", "-verify", public, "-signature", signature, signed]
    else:
        check = ["pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", signed, "-sigfile", signature]
    signed.write_bytes(dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD))
    assert openssl(*check).returncode == 0
    signed.write_bytes(dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD + b" "))
    assert openssl(*check).returncode != 0
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER").stdout
    assert hashlib.sha256(der).hexdigest() == key.public.id


@pytest.mark.skipif(OPENSSL is None, reason="there is no openssl here")
@pytest.mark.parametrize("form", ["pkcs8", "traditional", "encrypted", "scrypt", "ed25519"])
def test_ours_accepts_openssls_keys_and_signatures(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, signed, signature = tmp_path / "key.pem", tmp_path / "signed", tmp_path / "sig"
    p256 = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private]
    make = {
        "pkcs8": p256,
        "traditional": ["ecparam", "-name", "prime256v1", "-genkey", "-out", private],
        "encrypted": [*p256, "-aes256", "-pass", "pass:open"],
        "ed25519": ["genpkey", "-algorithm", "ED25519", "-out", private],
    }
    assert openssl(*make.get(form, p256)).returncode == 0
    if form == "scrypt":  # what the manual recommends for a passphrase that must hold out
        harder = ["pkcs8", "-topk8", "-scrypt", "-in", private, "-passout", "pass:open", "-out", tmp_path / "harder"]
        assert openssl(*harder).returncode == 0
        private = tmp_path / "harder"
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "open")
    key = keys.signing_key(private)
    assert key.public.kind == ("ed25519" if form == "ed25519" else "ecdsa")
    signed.write_bytes(dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD))
    unlock = ["-passin", "pass:open"] if form in ("encrypted", "scrypt") else []
    if form == "ed25519":
        done = openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", signed, "-out", signature)
    else:
        done = openssl("dgst", "-sha256", "-sign", private, *unlock, "-out", signature, signed)
    assert done.returncode == 0, done.stderr
    data = json.loads(dsse.sign(PAYLOAD, key))
    data["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature.read_bytes()).decode()
    assert dsse.open_bundle(json.dumps(data).encode(), [key.public]).payload == PAYLOAD
    data["dsseEnvelope"]["payload"] = base64.b64encode(PAYLOAD + b" ").decode()
    assert "does not fit" in str(refusal(json.dumps(data).encode(), [key.public]))


def test_a_signature_with_another_hash_is_refused() -> None:
    """The algorithm is the key's: nothing in a file can choose a weaker one."""
    key = keys.generate("ecdsa")
    data = json.loads(dsse.sign(PAYLOAD, key))
    other = key.key.sign(dsse.pae(dsse.PAYLOAD_TYPE, PAYLOAD), ec.ECDSA(hashes.SHA1()))
    data["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(other).decode()
    assert "does not fit" in str(refusal(json.dumps(data).encode(), [key.public]))


def test_without_deterministic_ecdsa_a_signature_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older OpenSSL does not know RFC 6979; that must cost the repeated bytes and nothing else."""
    from cryptography.exceptions import UnsupportedAlgorithm

    plain = ec.ECDSA

    def older(algorithm: hashes.HashAlgorithm, deterministic_signing: bool = False) -> ec.ECDSA:
        if deterministic_signing:
            raise UnsupportedAlgorithm("not in this OpenSSL")
        return plain(algorithm)

    key = keys.generate("ecdsa")
    monkeypatch.setattr(ec, "ECDSA", older)
    first, second = dsse.sign(PAYLOAD, key), dsse.sign(PAYLOAD, key)
    assert first != second
    assert dsse.open_bundle(first, [key.public]) == dsse.open_bundle(second, [key.public])


def test_the_environments_names_are_what_the_manual_says(root: Path) -> None:
    text = (root / "docs" / "signing.md").read_text(encoding="utf-8")
    assert keys.KEY_VARIABLE in text
    assert keys.PASSPHRASE_VARIABLE in text
