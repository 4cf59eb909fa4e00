"""Commands for signing: `keys generate | show`, `policy preregister`."""

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
from robustness_gate.cli.policies import placeholder
from robustness_gate.errors import Exit, FileError, PlanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from robustness_gate.attestation.preregistration import Terms
    from robustness_gate.inputs.validation import Loaded


@policy_app.command(
    "preregister",
    epilog="Example: robustness-gate policy preregister --policy gate/policy.yaml --suite gate/suite.yaml --key "
    "signing.key --out preregistration.sigstore.json",
)
def policy_preregister(
    policy: PolicyFile,
    suite: SuiteFile,
    key: Annotated[
        Path | None, typer.Option("--key", help="Private key (PEM); by default $ROBUSTNESS_GATE_SIGNING_KEY.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write the preregistration; never overwritten.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="When it is preregistered (RFC 3339); by default now.")] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Do not preregister: compare the files with this preregistration."),
    ] = None,
    public: Annotated[
        list[Path] | None, typer.Option("--public", help="With --check: a public key that you trust; repeatable.")
    ] = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="With --check: do not read the questions, compare only the two files.")
    ] = False,
) -> None:
    """Sign policy and suite before a run; or check that these are the preregistered files.

    The preregistration names policy, suite, questions, data and attacks by digest. Its time is only the signer's claim:
    give a copy to someone else before the run. With --check, exits with 5 if the preregistration does not verify or
    anything differs from it.
    """
    from robustness_gate.attestation import dsse, keys, storage
    from robustness_gate.attestation import preregistration as preregistrations
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.policy_language import load_policy

    if check is not None:
        if not public or key is not None or out is not None or at is not None:
            raise UsageError("--check goes with --public, and with none of --key, --out and --at.")
        _check_preregistration(check, public, policy, suite, files_only=files_only)
        return
    if out is None or public or files_only:
        raise UsageError(
            "to preregister, --out is needed; --public and --files-only go with --check.", remedy="Give --out FILE."
        )
    when = _time(at)
    signer = keys.signing_key(key, ask=ask_passphrase())
    terms = _terms(load_policy(policy), load_suite(suite), when)
    written = preregistrations.sign_preregistration(terms, signer)
    try:
        storage.create(out, written)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}.") from None
    opened = dsse.open_bundle(written, [signer.public])
    say(f"{out}: {terms.policy.id} {terms.policy.version} and {terms.suite.id} {terms.suite.version}, preregistered")
    say(f"preregistered at {terms.preregistered_at}, as its signer says; key {signer.public.id}")
    say(f"sha256 of the preregistered statement: {opened.sha256}")


def _check_preregistration(path: Path, public: Sequence[Path], policy: Path, suite: Path, *, files_only: bool) -> None:
    from robustness_gate.attestation import keys
    from robustness_gate.attestation import preregistration as preregistrations
    from robustness_gate.errors import Unverified
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.policy_language import load_policy

    asked, tried = load_policy(policy), load_suite(suite)
    found = preregistrations.read_preregistration(path, [keys.public_key(each) for each in public])
    preregistered = found.terms
    say(f"preregistration: signed by {found.key.id}, sha256 {found.sha256}")
    say(f"preregistered at {preregistered.preregistered_at}, as its signer says, with {preregistered.made_by}")
    wrong = preregistrations.file_differences(preregistered, asked, tried)
    if not wrong and not files_only:
        try:
            wrong = preregistrations.differences(preregistered, _terms(asked, tried, _time(None)))
        except (PlanError, FileError) as error:  # the plan was valid when it was preregistered
            raise Unverified(
                "the files are the preregistered ones, and what they lead to is not as preregistered, or not here: "
                f"{error}",
                remedy="--files-only compares the two files alone.",
            ) from None
    for each in wrong:
        say(f"DIFFERS: {preregistrations.described(each)}")
    if wrong:
        raise typer.Exit(int(Exit.UNVERIFIED))
    say(
        f"ok: policy {preregistered.policy.id} {preregistered.policy.version} and suite {preregistered.suite.id} "
        f"{preregistered.suite.version}"
    )
    if files_only:
        say("not checked: questions, data and attacks")
    else:
        say(
            f"ok: {len(preregistered.tasks)} tasks, {len(preregistered.data)} sets of data, "
            f"{len(preregistered.attacks)} attacks"
        )


def _terms(policy: Loaded[Any], suite: Loaded[Any], at: datetime) -> Terms:
    """The terms of these files; this also checks that they fit together."""
    from robustness_gate.attestation import preregistration as preregistrations
    from robustness_gate.planning import plan as plans
    from robustness_gate.planning.suite_data import gather

    suite_data = gather(suite)
    trials = plans.make(policy, suite, suite_data, [placeholder()]).trials
    return preregistrations.make(policy, suite, suite_data.refs, suite_data.data_digests, trials, at)


def _time(given: str | None) -> datetime:
    """The given time, with its zone and not in the future; now if none is given."""
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
        raise UsageError(f"--at '{given}' is in the future.", remedy="A preregistration cannot be dated in the future.")
    return found


@keys_app.command("generate", epilog="Example: robustness-gate keys generate --out keys --encrypted")
def keys_generate(
    out: Annotated[Path, typer.Option("--out", help="Folder for signing.key and signing.pub.")],
    kind: Annotated[str, typer.Option("--type", help="ecdsa (P-256) or ed25519, which fewer clients read.")] = "ecdsa",
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Ask for a passphrase, or take $ROBUSTNESS_GATE_SIGNING_PASSPHRASE.")
    ] = False,
) -> None:
    """Make a key for signing reports and preregistrations.

    Only its owner can read signing.key; signing.pub is for everyone. Nothing is ever overwritten.
    """
    from robustness_gate.attestation import keys
    from robustness_gate.system.sentences import nearest

    chosen = next((each for each in keys.KINDS if each == kind), None)
    if chosen is None:
        raise UsageError(f"--type '{kind}' is not a kind of key.", remedy=nearest(kind, keys.KINDS))
    passphrase = _new_passphrase() if encrypted else ""
    key = keys.generate(chosen)
    private, public = keys.save(key, out, passphrase)
    say(f"wrote {private}{', encrypted' if passphrase else ', not encrypted'}: keep it to yourself")
    say(f"wrote {public}: give it to those who check your reports")
    say(f"key id: {key.public.id}")


@keys_app.command("show", epilog="Example: robustness-gate keys show keys/signing.pub")
def keys_show(file: Annotated[Path, typer.Argument(help="A public or private key (PEM).")]) -> None:
    """Print a key's type, its id and its public part.

    The id is the SHA-256 of the public key's DER (SubjectPublicKeyInfo): `openssl pkey -pubin -in signing.pub
    -outform DER | sha256sum` gives the same.
    """
    from robustness_gate.attestation import keys

    key = keys.any_public_key(file, ask=ask_passphrase())
    say(f"type: {key.kind}")
    say(f"key id: {key.id}")
    say(key.pem.rstrip())


def ask_passphrase() -> Callable[[], str] | None:
    """A function that asks for a passphrase; None without a terminal."""
    import getpass

    return (lambda: getpass.getpass("Passphrase of the key: ")) if sys.stdin.isatty() else None


def _new_passphrase() -> str:
    import getpass
    import os

    from robustness_gate.attestation.keys import PASSPHRASE_VARIABLE

    if found := os.environ.get(PASSPHRASE_VARIABLE):
        return found
    if not sys.stdin.isatty():
        raise UsageError("--encrypted needs a passphrase.", remedy=f"Set ${PASSPHRASE_VARIABLE}.")
    first = getpass.getpass("Passphrase for the new key: ")
    if not first or first != getpass.getpass("Once more: "):
        raise UsageError("the two passphrases differ, or are empty.", remedy="Try again.")
    return first
