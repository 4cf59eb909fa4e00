"""Commands on signed reports: `sign`, `verify`. Neither runs anything, and neither needs torch."""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    AsJson,
    Base,
    Bundle,
    NoSignature,
    PublicKeys,
    TrustFile,
    app,
    say,
    say_json,
    trusted_by,
)
from robustness_gate.errors import GateError, Unverified, UsageError
from robustness_gate.inputs.shipped import POLICY, SUITE
from robustness_gate.system.sentences import printable

if TYPE_CHECKING:
    from robustness_gate.attestation.keys import PrivateKey
    from robustness_gate.attestation.verify import Asked, RequiredSuite, Verification
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.inputs.validation import Loaded
    from robustness_gate.records.suite import Suite
    from robustness_gate.report.record import Report

UNITS = {"d": "days", "h": "hours", "m": "minutes"}


SigningKey = Annotated[
    Path | None, typer.Option("--key", help="Private key (PEM); by default $ROBUSTNESS_GATE_SIGNING_KEY.")
]
BundleToWrite = Annotated[
    Path | None, typer.Option("--out", help="By default report.sigstore.json in RUN; never overwritten.")
]
Previous = Annotated[Path | None, typer.Option("--previous", help="The bundle that you issued before this one.")]
Supersedes = Annotated[
    list[Path] | None, typer.Option("--supersedes", help="A bundle that this one replaces; repeatable.")
]
Revokes = Annotated[list[Path] | None, typer.Option("--revokes", help="A bundle that you withdraw; repeatable.")]
Declarations = Annotated[
    Path | None,
    typer.Option("--declarations", help="Who ran it, who paid, what deviated (YAML: names, texts); not checked."),
]
Claims = Annotated[
    Path | None, typer.Option("--claims", help="Also write one small signed statement per limit, into this folder.")
]


@app.command(epilog="Example: robustness-gate sign runs/mine --key keys/signing.key")
def sign(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of a run that has ended.")],
    key: SigningKey = None,
    out: BundleToWrite = None,
    valid_for: Annotated[str, typer.Option("--valid-for", help="How long you stand by it, e.g. 90d or 12h.")] = "90d",
    previous: Previous = None,
    supersedes: Supersedes = None,
    revokes: Revokes = None,
    declarations: Declarations = None,
    claims: Claims = None,
) -> None:
    """Sign a report: PASS, FAIL and INCONCLUSIVE alike.

    The signed statement is about the checkpoint's manifest, contains the whole report, and names every other file in
    RUN by its digest. A report whose verdict does not follow from its own evidence is not signed.

    A ledger in RUN is named by its length and the digest of its last line. Its chain shows accidents and partial edits,
    but not a complete rewrite: anyone who holds the whole file can compute the chain again. A preregistration that was
    given away before the run, or an earlier copy in other hands, can show a rewrite.
    """
    from robustness_gate.attestation import keys, predicate
    from robustness_gate.cli.signing import ask_passphrase
    from robustness_gate.evidence import ledger
    from robustness_gate.inputs.validation import load_texts
    from robustness_gate.report import reading as report_reading

    made = report_reading.read(run)
    if run.is_file():
        raise UsageError(f"'{run}' is a file.", remedy="Name the folder of the run.")
    place = out or run / predicate.BUNDLE
    signer = keys.signing_key(key, ask=ask_passphrase())
    lines = run / ledger.NAME
    terms = predicate.Terms(
        at=datetime.now(UTC),
        valid_for=_duration(valid_for, "--valid-for"),
        previous=_name(previous) if previous else None,
        supersedes=[_name(each) for each in supersedes or ()],
        revokes=[_name(each) for each in revokes or ()],
        declarations=load_texts(declarations) if declarations else {},
    )
    head = predicate.head_of(ledger.read(lines)) if lines.is_file() else None
    written = predicate.issue(
        made,
        signer,
        terms,
        ledger=head,
        attachments=predicate.attachments_in(run, leave_out=("report.json",)),
    )
    sha256 = _would_verify(written, signer, lines if lines.is_file() else None, run)
    _create(place, written)
    say(f"{place}: {made.verdict.outcome}, signed by {signer.public.id}")
    say(f"sha256 of the signed statement: {sha256}")
    say(f"sha256 of report.json in it: {made.digest}")
    if head is not None:
        say(f"ledger: {head.lines} lines, head {head.sha256}. {ledger.CHAIN}")
    if claims is not None:
        say(f"{claims}: {_write_claims(made, sha256, signer, claims)} claims")


def _would_verify(written: bytes, signer: PrivateKey, ledger: Path | None, run: Path) -> str:
    """The digest of a bundle's statement. Raises Unverified for one that would not verify, before it is written."""
    from robustness_gate.attestation import verify
    from robustness_gate.attestation.trust import trusting
    from robustness_gate.attestation.verify.wording import sentence

    asked = verify.Asked(trusted=trusting([signer.public]), ledger=ledger)
    checked = verify.verify(written, asked, datetime.now(UTC))
    if not checked.verified:
        first = checked.failed[0]
        raise Unverified(
            f"this report would not verify ({first.title}): {sentence(first)}.",
            remedy="Nothing was signed: run the gate again, or ask who changed the report.",
            where=str(run),
            code=first.code,
        )
    return checked.sha256


def _write_claims(made: Report, sha256: str, signer: PrivateKey, folder: Path) -> int:
    """Write one small signed statement per limit; returns their number."""
    from robustness_gate.attestation import dsse
    from robustness_gate.attestation.claims import claims

    number = 0
    for name, payload in claims(made, sha256):
        _create(folder / f"{name}.sigstore.json", dsse.sign(payload, signer))
        number += 1
    return number


ModelToUse = Annotated[
    str | None,
    typer.Option("--checkpoint", help="The model that you are about to use: a directory, hf://..., or organism:NAME."),
]
NoModel = Annotated[bool, typer.Option("--no-checkpoint", help="Check only the report, for whatever model.")]
OwnPolicy = Annotated[
    Path | None,
    typer.Option(
        "--policy", parser=POLICY.find, metavar="FILE|NAME", help="Judge the evidence again under this policy."
    ),
]
SuiteToCover = Annotated[
    Path | None,
    typer.Option(
        "--require-suite",
        parser=SUITE.find,
        metavar="FILE|NAME",
        help="Every trial of this suite must have been run.",
    ),
]
Attachments = Annotated[Path | None, typer.Option("--attachments", help="Folder with the files that the report names.")]
Preregistration = Annotated[
    Path | None, typer.Option("--preregistration", help="The preregistration that the report names.")
]
KnownBundles = Annotated[
    list[Path] | None, typer.Option("--known", help="Another bundle of the same signer; repeatable.")
]


@app.command(
    epilog="Example: robustness-gate verify report.sigstore.json --checkpoint models/theirs --trust trust.yaml "
    "--policy our-policy.yaml --max-age 30d"
)
def verify(
    bundle: Bundle,
    checkpoint: ModelToUse = None,
    no_checkpoint: NoModel = False,
    base: Base = None,
    trust: TrustFile = None,
    public: PublicKeys = None,
    no_signature: NoSignature = False,
    policy: OwnPolicy = None,
    require_suite: SuiteToCover = None,
    max_age: Annotated[str | None, typer.Option("--max-age", help="How old the verdict may be, e.g. 30d.")] = None,
    attachments: Attachments = None,
    preregistration: Preregistration = None,
    known: KnownBundles = None,
    ledger: Annotated[Path | None, typer.Option("--ledger", help="The checkpoint's ledger, if you may see it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a signed report is about this model, from a trusted signer, and follows from its evidence.

    Every bound and the verdict are computed again from the signed answers. Exit codes: 5 if any check fails, and always
    with --no-signature, because without a known signer nothing is verified; otherwise that of the verdict (under
    --policy, if given): 0 PASS, 3 FAIL, 4 INCONCLUSIVE. 2 is a wrong command or an invalid file of yours.
    """
    from robustness_gate.attestation import dsse, predicate
    from robustness_gate.attestation import verify as checks
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.policy_language import load_policy

    if (checkpoint is None) != no_checkpoint:
        raise UsageError(
            "say what you are about to use.", remedy="Give --checkpoint DIR, or --no-checkpoint and not both."
        )
    trusted = trusted_by(trust, public, no_signature)
    place = bundle / predicate.BUNDLE if bundle.is_dir() else bundle
    asked = checks.Asked(
        trusted=trusted,
        checkpoint=_place(checkpoint, base) if checkpoint else None,
        policy=load_policy(policy) if policy else None,
        suite=required(load_suite(require_suite)) if require_suite else None,
        max_age=_duration(max_age, "--max-age") if max_age else None,
        attachments=attachments,
        preregistration=preregistration,
        known=tuple(known or ()),
        ledger=ledger,
    )
    found = _watched(dsse.read_bundle(place), asked)
    if as_json:
        say_json(_plain(found))
    else:
        _show(found)
    raise typer.Exit(int(found.exit_code))


def _watched(raw: bytes, asked: Asked) -> Verification:
    """Verify a bundle, with the progress of hashing the checkpoint on a terminal."""
    from robustness_gate.attestation import verify as checks

    if asked.checkpoint is None or not sys.stderr.isatty():
        return checks.verify(raw, asked, datetime.now(UTC))
    from rich.console import Console

    from robustness_gate.publish import terminal

    with terminal.hashing(Console(stderr=True)) as watch:
        return checks.verify(raw, dataclasses.replace(asked, watch=watch), datetime.now(UTC))


def _plain(found: Verification) -> dict[str, object]:
    from robustness_gate.attestation.verify import wording

    return {
        "verified": found.verified,
        "adds_up": found.adds_up,
        "verdict": (found.outcome or None) if found.adds_up else None,
        "statement": found.sha256 or None,
        "report": found.stated.report.digest if found.stated else None,
        "signer": found.signer.entry.owner if found.signer else None,
        "key": found.signer.key.id if found.signer else None,
        "checkpoint": found.stated.report.checkpoint if found.stated else None,
        "checks": [
            {**check._asdict(), "sentence": wording.sentence(check), "remedy": wording.remedy(check)}
            for check in found.checks
        ],
        "not_tried": [each._asdict() for each in found.not_tried],
        "limitations": [printable(each) for each in found.limitations],
        "declarations": found.stated.declarations if found.stated else {},
        "uncheckable": list(wording.UNCHECKABLE),
    }


def _show(found: Verification) -> None:
    from robustness_gate.attestation.verify import wording

    colours = {"ok": "green", "FAILED": "red", "not checked": "yellow"}
    wide = max(len(check.title) for check in found.checks)
    for check in found.checks:  # one line per check, of any length, so that it can be searched
        state = f"{check.state:<11}"
        if sys.stdout.isatty():
            state = typer.style(state, fg=colours[check.state], bold=check.state == "FAILED")
        say(f"{check.number:>2}  {state}  {check.title:<{wide}}  {wording.sentence(check)}")
        if remedy := wording.remedy(check):
            say(f"    {'':<11}  {'':<{wide}}  {remedy}")
    for each in found.not_tried:
        say(f"not tried: {wording.not_tried(each)}")
    for words in found.limitations:
        say(f"limitation: {printable(words)}")
    for name, words in found.stated.declarations.items() if found.stated else ():
        say(f"the signer says, unchecked: {name}: {printable(words)}")
    if found.stated is not None:
        say(f"sha256 of the signed statement: {found.sha256}")
        say(f"sha256 of report.json in it: {found.stated.report.digest}")
    if found.adds_up:
        for words in wording.UNCHECKABLE:
            say(f"no file can show {words}")
    if not found.adds_up:
        say(f"DOES NOT VERIFY: {', '.join(check.title for check in found.failed)}")
    elif found.stated is not None:
        under = found.outcome if found.outcome == found.stated.report.verdict.outcome else f"{found.outcome} for you"
        if found.signer is None:
            say(f"NOT VERIFIED: {under} adds up; the signer was not checked, and anyone can have written it")
        else:
            say(f"VERIFIED: {under}, signed by {found.signer.entry.owner}")
        say(found.stated.report.meaning)


def required(suite: Loaded[Suite]) -> RequiredSuite:
    """A suite that must have been run, with the contents of its files, or the reason why they cannot be read."""
    from robustness_gate.attestation.verify import RequiredSuite, SuiteFiles
    from robustness_gate.planning.suite_data import gather  # slow to import, and only needed here

    try:
        suite_data = gather(suite)
    except GateError as error:
        return RequiredSuite(suite, None, error.message)
    return RequiredSuite(suite, SuiteFiles(suite_data.refs, suite_data.data_digests))


def _place(checkpoint: str, base: str | None) -> CheckpointRef:
    from robustness_gate.planning.checkpoints import (
        find_checkpoint,  # takes a third of a second, and only needed for a checkpoint
    )

    return find_checkpoint(checkpoint, base)


def _name(bundle: Path) -> str:
    """SHA-256 of a bundle's statement."""
    import hashlib

    from robustness_gate.attestation import dsse

    return hashlib.sha256(dsse.payload_of(dsse.read_bundle(bundle))).hexdigest()


def _create(path: Path, content: bytes) -> None:
    from robustness_gate.attestation import storage
    from robustness_gate.system import writing

    try:
        with writing.nothing_empty(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.create(path, content)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}.", remedy="Name another place."
        ) from None


def _duration(given: str, option: str) -> timedelta:
    match = re.fullmatch(r"([1-9]\d{0,4})([dhm])", given)
    if match is None:
        raise UsageError(f"{option} '{given}' is not a length of time.", remedy="Write e.g. 30d, 12h or 45m.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})
