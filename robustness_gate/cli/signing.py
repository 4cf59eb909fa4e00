"""Verbs of signing: `keys generate | show`, `policy seal`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustness_gate.cli.common import (
    PolicyFile,
    SuiteFile,
    keys_app,
    policy_app,
    say,
)
from robustness_gate.cli.policies import nobody
from robustness_gate.errors import Exit, FileError, PlanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from robustness_gate.files import Loaded
    from robustness_gate.seal import Terms


@policy_app.command(
    "seal",
    epilog="Example: robustness-gate policy seal --policy gate/policy.yaml --suite gate/suite.yaml --key signing.key "
    "--out seal.sigstore.json",
)
def policy_seal(
    policy: PolicyFile,
    suite: SuiteFile,
    key: Annotated[
        Path | None, typer.Option("--key", help="Private key (PEM); by default $ROBUSTNESS_GATE_SIGNING_KEY.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the seal; never overwritten.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="When it is sealed (RFC 3339); by default now.")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", help="Do not seal: hold the files against this seal.")
    ] = None,
    public: Annotated[
        list[Path] | None, typer.Option("--public", help="With --check: a public key that you trust; repeatable.")
    ] = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="With --check: do not read the questions, compare the two files alone.")
    ] = False,
) -> None:
    """Sign, before a run, what models will be held to; or check that these are the sealed files.

    The seal names policy, suite, questions, data and attacks by digest. Its time is the signer's own word: give a copy
    away before the run. With --check, leaves with 5 if the seal does not verify or anything is not as sealed.
    """
    from robustness_gate import attest
    from robustness_gate import seal as seals
    from robustness_gate.files import load_suite
    from robustness_gate.language import load_policy

    if check is not None:
        if not public or key is not None or out is not None or at is not None:
            raise UsageError("--check goes with --public, and with none of --key, --out and --at.")
        _check_seal(check, public, policy, suite, files_only=files_only)
        return
    if out is None or public or files_only:
        raise UsageError(
            "to seal, --out is needed; --public and --files-only go with --check.", remedy="Give --out FILE."
        )
    when = _time(at)
    signer = attest.signing_key(key, ask=ask_passphrase())
    terms = _terms(load_policy(policy), load_suite(suite), when)
    written = seals.seal(terms, signer)
    try:
        attest.create(out, written)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}.") from None
    opened = attest.open_bundle(written, [signer.public])
    say(f"{out}: {terms.policy.id} {terms.policy.version} and {terms.suite.id} {terms.suite.version}, sealed")
    say(f"sealed at {terms.sealed_at}, as its signer says; key {signer.public.id}")
    say(f"sha256 of the sealed statement: {opened.sha256}")


def _check_seal(path: Path, public: Sequence[Path], policy: Path, suite: Path, *, files_only: bool) -> None:
    from robustness_gate import attest
    from robustness_gate import seal as seals
    from robustness_gate.errors import Unverified
    from robustness_gate.files import load_suite
    from robustness_gate.language import load_policy

    asked, tried = load_policy(policy), load_suite(suite)
    found = seals.read_seal(path, [attest.public_key(each) for each in public])
    sealed = found.terms
    say(f"seal: signed by {found.key.id}, sha256 {found.sha256}")
    say(f"sealed at {sealed.sealed_at}, as its signer says, with {sealed.made_by}")
    wrong = seals.file_differences(sealed, asked, tried)
    if not wrong and not files_only:
        try:
            wrong = seals.differences(sealed, _terms(asked, tried, _time(None)))
        except (PlanError, FileError) as error:  # it was a whole plan when it was sealed, or there would be no seal
            raise Unverified(
                f"the files are the sealed ones, and what they lead to is not as sealed, or not here: {error}",
                remedy="--files-only compares the two files alone.",
            ) from None
    for each in wrong:
        say(f"DIFFERS: {each}")
    if wrong:
        raise typer.Exit(int(Exit.UNVERIFIED))
    say(f"ok: policy {sealed.policy.id} {sealed.policy.version} and suite {sealed.suite.id} {sealed.suite.version}")
    if files_only:
        say("not checked: questions, data and attacks")
    else:
        say(f"ok: {len(sealed.tasks)} tasks, {len(sealed.data)} sets of data, {len(sealed.attacks)} attacks")


def _terms(policy: Loaded[Any], suite: Loaded[Any], at: datetime) -> Terms:
    """What these files lead to here; that they fit each other is checked on the way."""
    from robustness_gate import plan as plans
    from robustness_gate import seal as seals
    from robustness_gate.materials import gather

    materials = gather(suite)
    trials = plans.make(policy, suite, materials, [nobody()]).trials
    return seals.make(policy, suite, materials.refs, materials.data_digests, trials, at)


def _time(given: str | None) -> datetime:
    """A time as the user wrote it, with its zone and not in the future; now where there is none."""
    from datetime import datetime

    now = datetime.now(UTC)
    if given is None:
        return now
    remedy = "Write e.g. 2026-11-21T14:00:00Z."
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise UsageError(f"--at '{given}' is not a time.", remedy=remedy) from None
    if found.tzinfo is None:
        raise UsageError(f"--at '{given}' has no time zone.", remedy=remedy)
    if found > now:
        raise UsageError(f"--at '{given}' has not come yet.", remedy="A seal is on what already lies there.")
    return found


@keys_app.command("generate", epilog="Example: robustness-gate keys generate --out keys --encrypted")
def keys_generate(
    out: Annotated[Path, typer.Option("--out", help="Folder for signing.key and signing.pub.")],
    kind: Annotated[str, typer.Option("--type", help="ecdsa (P-256) or ed25519, which fewer clients read.")] = "ecdsa",
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Ask for a passphrase, or take $ROBUSTNESS_GATE_SIGNING_PASSPHRASE.")
    ] = False,
) -> None:
    """Make a key to sign reports and seals with.

    signing.key can be read by its owner alone; signing.pub is for everyone. Nothing is ever overwritten.
    """
    from robustness_gate import attest
    from robustness_gate.files import nearest

    chosen = next((each for each in attest.KINDS if each == kind), None)
    if chosen is None:
        raise UsageError(f"--type '{kind}' is not a kind of key.", remedy=nearest(kind, attest.KINDS))
    passphrase = _new_passphrase() if encrypted else ""
    key = attest.generate(chosen)
    private, public = attest.save(key, out, passphrase)
    say(f"wrote {private}{', encrypted' if passphrase else ', not encrypted'}: keep it to yourself")
    say(f"wrote {public}: give it to whoever checks your reports")
    say(f"key id: {key.public.id}")


@keys_app.command("show", epilog="Example: robustness-gate keys show keys/signing.pub")
def keys_show(file: Annotated[Path, typer.Argument(help="A public or private key (PEM).")]) -> None:
    """Print a key's type, its id and its public part.

    The id is the SHA-256 of the public key's DER (SubjectPublicKeyInfo): `openssl pkey -pubin -in signing.pub
    -outform DER | sha256sum` gives the same.
    """
    from robustness_gate import attest

    key = attest.any_public_key(file, ask=ask_passphrase())
    say(f"type: {key.kind}")
    say(f"key id: {key.id}")
    say(key.pem.rstrip())


def ask_passphrase() -> Callable[[], str] | None:
    """How to ask for a passphrase; None where nobody is there to answer."""
    import getpass

    return (lambda: getpass.getpass("Passphrase of the key: ")) if sys.stdin.isatty() else None


def _new_passphrase() -> str:
    import getpass
    import os

    from robustness_gate.attest import PASSPHRASE_VARIABLE

    if found := os.environ.get(PASSPHRASE_VARIABLE):
        return found
    if not sys.stdin.isatty():
        raise UsageError("--encrypted needs a passphrase.", remedy=f"Set ${PASSPHRASE_VARIABLE}.")
    first = getpass.getpass("Passphrase for the new key: ")
    if not first or first != getpass.getpass("Once more: "):
        raise UsageError("the two passphrases differ, or are empty.", remedy="Try again.")
    return first
