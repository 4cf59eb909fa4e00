"""The command `audit`: runs a sample of a report's trials again."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    AsJson,
    Base,
    Checkpoint,
    Device,
    LoadTimeout,
    NoSignature,
    Original,
    PublicKeys,
    SuiteFile,
    TextTimeout,
    TrialTimeout,
    TrustFile,
    app,
    console_for_output,
    limits_of,
    print_grid,
    say,
    say_json,
    trusted_by,
)
from robustness_gate.errors import Exit, Unverified, UsageError

if TYPE_CHECKING:
    from robustness_gate.assurance.audit import Audit
    from robustness_gate.attestation.verify import Asked, Verification
    from robustness_gate.report.record import Report


SampleSeed = Annotated[
    int | None,
    typer.Option("--sample-seed", min=0, help="Seed of the sample; by default from the system's random source."),
]
CounterStatement = Annotated[
    Path | None, typer.Option("--out", help="Where the signed counter-statement goes; needs a key.")
]


@app.command(
    epilog="Example: robustness-gate audit models/theirs --bundle report.sigstore.json --suite suites/theirs.yaml "
    "--trust trust.yaml --sample 3 --key keys/ours.key --out audit.sigstore.json"
)
def audit(
    checkpoint: Checkpoint,
    bundle: Annotated[Path, typer.Option("--bundle", help="The signed report, or the folder that holds it.")],
    suite: SuiteFile,
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many trials to run again.")] = 3,
    sample_seed: SampleSeed = None,
    trust: TrustFile = None,
    public: PublicKeys = None,
    no_signature: NoSignature = False,
    original: Original = None,
    base: Base = None,
    key: Annotated[Path | None, typer.Option("--key", help="Sign what was found with this private key (PEM).")] = None,
    out: CounterStatement = None,
    device: Device = "auto",
    trial_timeout: TrialTimeout = None,
    load_timeout: LoadTimeout = None,
    text_timeout: TextTimeout = None,
    as_json: AsJson = False,
) -> None:
    """Run a random sample of a report's trials again, and compare them with what was signed.

    Exits with 0 if all of them agree; with 5 if one does not, if the report does not verify, or if the signer was not
    checked (--no-signature).
    """
    from robustness_gate.assurance import audit as audits
    from robustness_gate.attestation import keys, storage
    from robustness_gate.attestation import verify as checks
    from robustness_gate.cli.signing import ask_passphrase
    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning.checkpoints import find_checkpoint
    from robustness_gate.planning.suite_data import gather
    from robustness_gate.system import writing

    if out is not None:
        _try_out(out)
    signer = keys.signing_key(key, ask=ask_passphrase()) if key is not None or out is not None else None
    place = find_checkpoint(checkpoint, base)
    found, made = _verified(bundle, checks.Asked(trusted=trusted_by(trust, public, no_signature), checkpoint=place))
    read = load_suite(suite)
    reference = find_checkpoint(original) if original is not None else None
    places = {made.checkpoint: place} | ({manifest_of(reference).digest: reference} if reference else {})
    number = secrets.randbits(53) if sample_seed is None else sample_seed
    drawn = audits.draw(made, sample, number)
    result = audits.run(
        made, found.sha256, drawn, number, read, gather(read), places, datetime.now(UTC), device=device,
        limits=limits_of(trial_timeout, load_timeout, text_timeout),
        watch=(lambda _: None) if as_json else say,
    )  # fmt: skip
    if signer is not None and out is not None:
        with writing.as_write_error(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            storage.create(out, audits.signed(result, made.checkpoint, signer))
    if as_json:
        say_json(result)
    else:
        _show(result, verified=found.verified)
    raise typer.Exit(int(Exit.PASS if result.agrees and found.verified else Exit.UNVERIFIED))


def _try_out(out: Path) -> None:
    """Raises UsageError or WriteError now, rather than after hours, where the statement could not be written."""
    from robustness_gate.system import writing

    if out.exists():
        raise UsageError(f"{out} is already there.", remedy="Nothing is overwritten: name another place.")
    with writing.nothing_empty(out.parent), writing.as_write_error(out):
        writing.try_out(out.parent)


def _verified(bundle: Path, asked: Asked) -> tuple[Verification, Report]:
    """The signed report, once everything in it adds up. Raises Unverified."""
    from robustness_gate.attestation import dsse, predicate
    from robustness_gate.attestation import verify as checks
    from robustness_gate.attestation.verify.wording import sentence

    raw = dsse.read_bundle(bundle / predicate.BUNDLE if bundle.is_dir() else bundle)
    found = checks.verify(raw, asked, datetime.now(UTC))
    if not found.adds_up or found.stated is None:
        first = found.failed[0]
        raise Unverified(
            f"the report does not verify ({first.title}): {sentence(first)}.",
            remedy="Run `verify` on it.",
            code=first.code,
        )
    return found, found.stated.report


def _show(result: Audit, *, verified: bool) -> None:
    """Print a line for each number, and what they add up to."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(7):
        grid.add_column(no_wrap=True)
    grid.add_row("attack", "budget", "task", "signed", "again", "may lie in", "")
    for each in result.found:
        grid.add_row(
            each.label,
            str(each.budget or "-"),
            each.task,
            f"{each.signed / each.items:.1%}",
            f"{each.again / each.items:.1%}",
            f"{each.lower:.1%} to {each.upper:.1%}",
            "agrees" if each.agrees else "DIFFERS",
        )
    print_grid(console_for_output(), grid)
    for failure in result.failed:
        say(f"DIFFERS: {failure}")
    same = sum(each.items - each.changed for each in result.found)
    asked = sum(each.items for each in result.found)
    sample = f"{result.drawn} of {result.of} trials, sample seed {result.sample_seed}"
    say(f"{same:,} of {asked:,} answers are the same; {sample}")
    say("AGREES with what was signed" if result.agrees else "DIFFERS from what was signed")
    if not verified:
        say("NOT VERIFIED: the signer was not checked, so the report may come from anyone")
