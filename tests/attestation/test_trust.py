"""A trust file says whom its reader believes; every mistake in it is told with file:line:column."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from robustness_gate.attestation import keys
from robustness_gate.attestation.trust import KeyFault, KeyFaultKind, Revoked, Signer, TrustedKey, read_trust, trusting
from robustness_gate.errors import FileError

OLD, NEW = keys.generate(), keys.generate("ed25519")
HEAD = "schema: robustness-gate/trust/v1\n"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "keys").mkdir(exist_ok=True)
    (tmp_path / "keys" / "lab.pub").write_text(OLD.public.pem)
    path = tmp_path / "trust.yaml"
    path.write_text(HEAD + text)
    return path


def pem_lines(key: keys.PrivateKey) -> str:
    return "".join(f"      {line}\n" for line in key.public.pem.splitlines())


GOOD = f"""keys:
  - owner: The Lab
    file: keys/lab.pub
    id: {OLD.public.id}
    valid_from: 2026-01-01
    valid_until: 2026-12-31
  - owner: The Lab
    pem: |
{pem_lines(NEW)}    revoked: {{on: 2026-11-01, reason: the laptop was stolen}}
revoked_reports:
  - {{sha256: {"c" * 64}, reason: wrong questions}}
"""


def test_keys_are_read_from_files_and_from_words_with_what_holds_for_each(tmp_path: Path) -> None:
    found = read_trust(written(tmp_path, GOOD))
    assert found.keys == (OLD.public, NEW.public)
    assert found.signer(OLD.public).entry.valid_until == date(2026, 12, 31)
    assert found.signer(NEW.public).entry.revoked == Revoked(on=date(2026, 11, 1), reason="the laptop was stolen")
    assert found.revoked_reports[0].reason == "wrong questions"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("keys: []\n", "2:1", "must not be empty"),
        ("keys:\n  - {owner: A}\n", "3:5", "a key is given by 'file' or by 'pem'"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, pem: x}\n", "3:5", "a key is given by 'file' or by 'pem'"),
        ("keys:\n  - {owner: A, file: keys/gone.pub}\n", "3:5", "cannot be read: No such file or directory"),
        ("keys:\n  - {owner: A, pem: x}\n", "3:5", "holds no public key in PEM"),
        (f"keys:\n  - {{owner: A, file: keys/lab.pub, id: {'c' * 64}}}\n", "3:5", "another key than the one named"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, id: abc}\n", "3:36", "does not have the form"),
        ("keys:\n  - {owner: A, file: keys/lab.pub}\n  - {owner: B, file: keys/lab.pub}\n", "4:5", "there twice"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, expires: 2026-01-01}\n", "3:36", "unknown key"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, valid_until: never}\n", "3:36", "expected a date"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, valid_from: 2026-02-02, valid_until: 2026-02-01}\n", "3:5",
         "trusted until before it is trusted"),
        ("keys:\n  - {owner: '', file: keys/lab.pub}\n", "3:6", "must not be empty"),
        ("keys:\n  - {owner: A, file: keys/lab.pub, revoked: {on: 2026-01-01}}\n", "3:36", "'reason' is missing"),
        ("keys:\n  - {owner: A, owner: B, file: keys/lab.pub}\n", "3:16", "owner"),
        ("keys:\n  - {owner: A, file: keys/lab.pub}\nrevoked_reports:\n  - {sha256: xyz, reason: x}\n", "5:6", "form"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_place(text: str, line: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(FileError) as caught:
        read_trust(path)
    assert says in str(caught.value)
    assert caught.value.where == f"{path}:{line}"


def test_a_private_key_and_another_version_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "keys:\n  - {owner: A, file: keys/lab.pub}\n")
    (tmp_path / "keys" / "lab.pub").write_bytes(keys.private_pem(OLD))
    with pytest.raises(FileError, match="is a private key, which only its signer should have"):
        read_trust(path)
    path.write_text(path.read_text().replace("trust/v1", "trust/v2"))
    with pytest.raises(FileError, match=r"trust/v1.*found"):
        read_trust(path)


def test_days_are_in_utc_whatever_the_clock_of_the_machine() -> None:
    signer = Signer(
        OLD.public, TrustedKey(owner="A", file="x", valid_from=date(2026, 1, 2), valid_until=date(2026, 1, 2))
    )
    inside = datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC)
    assert signer.fault(inside) is None
    assert signer.fault(inside.astimezone(timezone(timedelta(hours=13)))) is None
    day = date(2026, 1, 2)
    assert signer.fault(inside + timedelta(seconds=1)) == KeyFault(KeyFaultKind.NO_LONGER_VALID, day)
    assert signer.fault(inside - timedelta(days=1)) == KeyFault(KeyFaultKind.NOT_YET_VALID, day)


def test_keys_given_by_hand_are_trusted_without_end() -> None:
    signer = trusting([OLD.public]).signer(OLD.public)
    assert signer.entry.owner == "a key given with --public"
    assert signer.fault(datetime(2999, 1, 1, tzinfo=UTC)) is None
