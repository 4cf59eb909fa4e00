"""The verbs: arguments in, exit code out, and one clear line for every mistake of the user's.

Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify,
130 interrupted. What a verb needs is imported inside it, so that `--help`, `plan` and `policy check` start at once and
without torch.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from robustness_gate import __version__
from robustness_gate.errors import Exit, GateError, SetupError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from types import ModuleType

    from rich.console import Console
    from rich.table import Table

    from robustness_gate.advice import Advice, Tried
    from robustness_gate.doctor import Check
    from robustness_gate.files import Loaded
    from robustness_gate.plan import Subject
    from robustness_gate.seal import Terms

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Attack an unlearned checkpoint and say whether the knowledge stays gone.\n\n"
    "Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify, "
    "130 interrupted.",
)
policy_app = typer.Typer(no_args_is_help=True, help="Look at policies, and seal them before a run.")
keys_app = typer.Typer(no_args_is_help=True, help="Make and look at signing keys.")
organisms_app = typer.Typer(no_args_is_help=True, help="The shipped tiny models of known truth.")
app.add_typer(policy_app, name="policy")
app.add_typer(keys_app, name="keys")
app.add_typer(organisms_app, name="organisms")

Checkpoint = Annotated[str, typer.Argument(help="A Hugging Face directory, hf://OWNER/NAME@COMMIT, or organism:NAME.")]
PolicyFile = Annotated[Path, typer.Option("--policy", help="What must hold (YAML).")]
SuiteFile = Annotated[Path, typer.Option("--suite", help="What is tried (YAML).")]
Original = Annotated[str | None, typer.Option("--original", help="The model before unlearning, for comparison.")]
Controls = Annotated[list[str] | None, typer.Option("--control", help="NAME=DIR of a model that never knew.")]
Base = Annotated[str | None, typer.Option("--base", help="What an adapter stands on, if its config does not say.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Ledgers = Annotated[
    Path | None,
    typer.Option("--ledgers", help="Where ledgers lie; else $ROBUSTNESS_GATE_LEDGERS or beside --out."),
]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this attack alone; a PASS is then impossible.")]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        app()  # leaves by itself: 2 for a usage error, 130 when interrupted, else the verb's own code
    except GateError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one place where a user's mistake is told
        sys.exit(int(error.exit_code))
    raise AssertionError("typer returned without an exit code")


@app.command(
    epilog="Example: robustness-gate run models/mine --policy gate/policy.yaml --suite gate/suite.yaml --out runs/1"
)
def run(
    checkpoint: Checkpoint,
    policy: PolicyFile,
    suite: SuiteFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the ledger and the report.")],
    original: Original = None,
    control: Controls = None,
    anchor: Annotated[
        list[str] | None, typer.Option("--anchor", help="NAME=REPORT of the earlier release that the policy names.")
    ] = None,
    statement: Annotated[
        Path | None, typer.Option("--statement", help="What the producer states (YAML), recorded as said.")
    ] = None,
    only: Only = None,
    base: Base = None,
    ledgers: Ledgers = None,
    device: Device = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Trials side by side; 0: one a core for a small model on the CPU, else one.")
    ] = 0,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow; by default $MLFLOW_TRACKING_URI or a SQLite file beside --out.")
    ] = None,
    no_mlflow: Annotated[bool, typer.Option("--no-mlflow", help="Do not log to MLflow.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the verdict alone.")] = False,
    honour_decision: Annotated[
        bool, typer.Option("--honour-decision", help="Leave with 0 where a waiver or an accepted risk releases it.")
    ] = False,
) -> None:
    """Attack a checkpoint, judge it, leave the evidence in --out.

    A run that was stopped goes on where it stopped when the same command is given again. What was ever found on this
    checkpoint counts: its ledger is found by its digest, whatever --out is.
    """
    from rich.console import Console

    from robustness_gate import gate, report
    from robustness_gate.publish import terminal

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)  # a log has no edge to wrap at
    out_console = Console(width=None if sys.stdout.isatty() else 160)
    request = gate.Request(
        checkpoint=checkpoint,
        policy=policy,
        suite=suite,
        out=out,
        original=original,
        controls=_pairs(control, "--control", "oracle=models/oracle"),
        anchors=tuple((name, Path(place)) for name, place in _pairs(anchor, "--anchor", "best=runs/1/report.json")),
        statement=statement,
        only=tuple(only or ()),
        base=base,
        ledgers=ledgers,
        device=device,
        workers=workers,
        tracking_uri="" if no_mlflow else tracking_uri,
    )
    with terminal.watching(console, quiet=quiet or as_json) as watch:
        outcome = gate.run(request, watch)
    for warning in outcome.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    if as_json:
        out_console.print_json(data={**report.headline(outcome.report), "report": str(out / "report.json")})
    elif quiet:
        out_console.print(report.sentence(outcome.report), highlight=False, soft_wrap=True)
    else:
        terminal.show(outcome.report, out_console)
        out_console.print(f"report: {out / 'report.md'}", style="dim", highlight=False, soft_wrap=True)
    if honour_decision and outcome.report.decision.releases:
        raise typer.Exit(int(Exit.PASS))
    raise typer.Exit(int(outcome.exit_code))


@app.command(epilog="Example: robustness-gate plan models/mine --policy gate/policy.yaml --suite gate/suite.yaml")
def plan(
    checkpoint: Checkpoint,
    policy: PolicyFile,
    suite: SuiteFile,
    original: Original = None,
    control: Controls = None,
    only: Only = None,
    base: Base = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every trial in full.")] = False,
) -> None:
    """List every trial that a run would make, without running any."""
    from robustness_gate import gate
    from robustness_gate.verdict import declared_cells, label

    prepared = gate.prepare(
        policy,
        suite,
        checkpoint,
        original,
        _pairs(control, "--control", "oracle=models/oracle"),
        tuple(only or ()),
        base,
    )
    trials = prepared.plan.trials
    if as_json:
        _say(json.dumps([{"id": trial.id, **trial.model_dump(mode="json")} for trial in trials], indent=1))
        return
    for trial in trials:
        role = "" if trial.role == "candidate" else f"  [{trial.role}]"
        at = "" if trial.marks == (0,) else f"  marks {', '.join(map(str, trial.marks))}"
        _say(f"{trial.id[:12]}  {label(trial)}, seed {trial.seed_index}{at}{role}")
    for line in prepared.plan.left_out:
        _say(f"{'':12}  {line}")
    for line in prepared.plan.foreseen:
        _say(f"note: {line}")
    for task in trials[0].tasks:
        _say(f"{task.name}: {task.items} items, sha256 {task.sha256}")
    noun = prepared.policy.noun
    cells = declared_cells(noun)
    prompts = sum(task.items * task.options * len(trial.marks) for trial in trials for task in trial.tasks)
    examined = sum(len(trial.marks) for trial in trials)
    _say(f"{len(trials)} trials, {examined} marks, {prompts:,} verdict prompts")
    _say(f"{cells} declared cells: each convicts at alpha {noun.statistics.alpha_fail / cells:.2g}")


@app.command(epilog="Example: robustness-gate doctor models/mine --suite gate/suite.yaml")
def doctor(
    checkpoint: Checkpoint,
    device: Device = "auto",
    suite: Annotated[Path | None, typer.Option("--suite", help="Try this suite's attacks, not all there are.")] = None,
    original: Original = None,
    base: Base = None,
    no_load: Annotated[bool, typer.Option("--no-load", help="Look at the files alone; load no weights.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what is not ok.")] = False,
) -> None:
    """Find out whether a checkpoint can be examined here, and how.

    Looks at the installation, the device and the files, loads the model, and tries every attack at strength zero.
    Leaves with 0 if the gate can run, with 2 if something prevents it; each problem comes with its remedy.
    """
    import dataclasses

    from rich.console import Console

    from robustness_gate import doctor as practice

    errors = Console(stderr=True)
    status = errors.status("looking", spinner="dots") if errors.is_terminal and not quiet else None
    if status is not None:
        status.start()
    try:
        step = status.update if status is not None else lambda _: None
        checks = practice.examine(
            checkpoint, device=device, suite=suite, original=original, base=base, weights=not no_load, step=step
        )
    finally:
        if status is not None:
            status.stop()
    able = practice.can_run(checks)
    if as_json:
        _say(json.dumps({"can_run": able, "checks": [dataclasses.asdict(check) for check in checks]}, indent=1))
    else:
        _show_checks(_console(), [check for check in checks if not (quiet and check.state == "ok")])
        if not quiet:
            good = "Nothing in the files prevents a run." if no_load else "The gate can run on it."
            _say(good if able else "The gate cannot run on it: mend what is marked PROBLEM.")
    raise typer.Exit(int(Exit.PASS if able else Exit.USAGE))


@app.command(epilog="Example: robustness-gate judge runs/mine/ledger.jsonl --policy gate/policy.yaml --explain")
def judge(
    ledger: Annotated[Path, typer.Argument(help="A ledger.jsonl, or a folder that holds one.")],
    policy: PolicyFile,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="Its digest or the beginning of it; by default the last one run.")
    ] = None,
    at: Annotated[datetime | None, typer.Option("--at", help="The moment of judgement, UTC; by default now.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the road from numbers to verdict.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict and decision as one JSON object.")] = False,
    honour_decision: Annotated[
        bool, typer.Option("--honour-decision", help="Leave with 0 where a waiver or an accepted risk releases it.")
    ] = False,
) -> None:
    """Judge old evidence anew, under any policy; nothing is run.

    Evidence is what the last run on the checkpoint planned, and every other trial that the ledger knows of it.
    """
    from robustness_gate import ledger as ledgers
    from robustness_gate.files import load_policy
    from robustness_gate.verdict import decide
    from robustness_gate.verdict import judge as judge_
    from robustness_gate.verdict.explain import explain as explained

    loaded = load_policy(policy)
    found = ledgers.read(ledger / ledgers.NAME if ledger.is_dir() else ledger)
    plan = found.latest_plan(checkpoint)
    planned = [found.trials[id_] for id_ in plan.trials if id_ in found.trials]
    evidence = found.evidence(plan.subject, planned)
    moment = (at or datetime.now(UTC)).replace(tzinfo=UTC)
    verdict = judge_(loaded.noun, evidence, moment)
    decision = decide(loaded.noun, verdict, plan.subject, moment)
    if as_json:
        _say(json.dumps({"checkpoint": plan.subject, "verdict": verdict.model_dump(mode="json"),
                         "decision": decision.model_dump(mode="json")}, indent=1))  # fmt: skip
    else:
        for line in explained(loaded.noun, verdict) if explain else ():
            _say(line)
        _say(f"{verdict.outcome}: {verdict.reason}")
        if loaded.noun.waivers or loaded.noun.accepted_risks:
            _say(f"decision {decision.outcome}: {decision.reason}")
            for line in (*decision.applied, *(f"inert: {each}" for each in decision.inert)):
                _say(f"  {line}")
        left = f", {len(plan.left_out)} left out" if plan.left_out else ""
        _say(f"checkpoint {plan.subject[:12]}: {verdict.trials} trials ever made on it, {len(planned)} planned{left}")
    codes = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}
    released = honour_decision and decision.releases
    raise typer.Exit(int(Exit.PASS if released else codes[verdict.outcome]))


@app.command(epilog="Example: robustness-gate why runs/mine")
def why(
    report: Annotated[Path, typer.Argument(help="A report.json, or the --out folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the verdict and the next step alone.")] = False,
) -> None:
    """Explain a verdict and say what to do next.

    The reason, the strongest attack in words and numbers, the cheapest next step, and what was not tried.
    """
    import dataclasses

    from robustness_gate import advice
    from robustness_gate import attacks as registry
    from robustness_gate import report as reports

    told = advice.advise(
        reports.read(report),
        out=str(report if report.is_dir() else report.parent),
        attacks={name: _does(registry.load(name)) for name in registry.names()},
    )
    if as_json:
        _say(json.dumps(dataclasses.asdict(told), indent=1))
    else:
        _show_advice(_console(), told, quiet=quiet)


@app.command(epilog="Example: robustness-gate init .")
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The root of your repository.")] = Path(),
) -> None:
    """Write a first policy, suite and workflow, to be changed.

    They go to DIR/gate and DIR/.github/workflows. Nothing is ever overwritten.
    """
    from robustness_gate import starter

    started = starter.write(folder)
    for path in started.files:
        _say(f"wrote {path}")
    _say(
        "\nPut your questions and corpora in the place of the harbour's, and say in the policy what must hold. Then:\n"
    )
    for command in started.next:
        _say(f"  {command}")


@app.command(epilog="Example: robustness-gate attacks --json")
def attacks(
    as_json: Annotated[bool, typer.Option("--json", help="Print them with the defaults of their settings.")] = False,
) -> None:
    """List the attacks: name, family, access, what they do."""
    from robustness_gate import attacks as registry

    modules = {name: registry.load(name) for name in registry.names()}
    if as_json:
        listed = [
            {
                "name": name,
                "family": module.FAMILY,
                "access": module.ACCESS,
                "version": module.VERSION,
                "does": _does(module),
                "config": registry.as_json(module.Config()),
            }
            for name, module in modules.items()
        ]
        _say(json.dumps(listed, indent=1))
        return
    for name, module in modules.items():
        _say(f"{name:18} {module.FAMILY:12} {module.ACCESS:14} {_does(module)}")


@policy_app.command("check", epilog="Example: robustness-gate policy check gate/policy.yaml --suite gate/suite.yaml")
def policy_check(
    policy: Annotated[Path, typer.Argument(help="The policy file.")],
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Also check that this suite runs what is required.")
    ] = None,
) -> None:
    """Read a policy (and a suite) and say what is wrong, with file:line:column."""
    from robustness_gate import plan as plans
    from robustness_gate.files import load_policy, load_suite
    from robustness_gate.verdict import declared_cells

    loaded = load_policy(policy)
    if suite is not None:
        read = load_suite(suite)
        try:
            materials = plans.gather(read)
        except SetupError as error:  # Parquet and the hub need the extra `run`, which a runner for checks has not
            _say(f"{suite}: read, but its questions and its fit to the policy were NOT checked: {error}")
        else:
            plans.make(loaded, read, materials, [_nobody()])
    cells = declared_cells(loaded.noun)
    _say(f"{policy}: ok, {len(loaded.noun.limits)} limits, {len(loaded.noun.required)} requirements, {cells} cells")


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
    from robustness_gate.files import load_policy, load_suite

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
    signer = attest.signing_key(key, ask=_ask_passphrase())
    terms = _terms(load_policy(policy), load_suite(suite), when)
    written = seals.seal(terms, signer)
    try:
        attest.create(out, written)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error.strerror or error}.") from None
    opened = attest.open_bundle(written, [signer.public])
    _say(f"{out}: {terms.policy.id} {terms.policy.version} and {terms.suite.id} {terms.suite.version}, sealed")
    _say(f"sealed at {terms.sealed_at}, as its signer says; key {signer.public.id}")
    _say(f"sha256 of the sealed statement: {opened.sha256}")


def _check_seal(path: Path, public: Sequence[Path], policy: Path, suite: Path, *, files_only: bool) -> None:
    from robustness_gate import attest
    from robustness_gate import seal as seals
    from robustness_gate.errors import FileError, PlanError, Unverified
    from robustness_gate.files import load_policy, load_suite

    asked, tried = load_policy(policy), load_suite(suite)
    found = seals.read_seal(path, [attest.public_key(each) for each in public])
    sealed = found.terms
    _say(f"seal: signed by {found.key.id}, sha256 {found.sha256}")
    _say(f"sealed at {sealed.sealed_at}, as its signer says, with {sealed.made_by}")
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
        _say(f"DIFFERS: {each}")
    if wrong:
        raise typer.Exit(int(Exit.UNVERIFIED))
    _say(f"ok: policy {sealed.policy.id} {sealed.policy.version} and suite {sealed.suite.id} {sealed.suite.version}")
    if files_only:
        _say("not checked: questions, data and attacks")
    else:
        _say(f"ok: {len(sealed.tasks)} tasks, {len(sealed.data)} sets of data, {len(sealed.attacks)} attacks")


def _terms(policy: Loaded[Any], suite: Loaded[Any], at: datetime) -> Terms:
    """What these files lead to here; that they fit each other is checked on the way."""
    from robustness_gate import plan as plans
    from robustness_gate import seal as seals

    materials = plans.gather(suite)
    trials = plans.make(policy, suite, materials, [_nobody()]).trials
    return seals.make(policy, suite, materials.refs, materials.data_digests, trials, at)


def _nobody() -> Subject:
    """A plan needs a subject, and where none is examined any will do."""
    from robustness_gate.checkpoint import FileEntry, Manifest, Place
    from robustness_gate.plan import Subject

    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    return Subject("candidate", Place(Path()), manifest)


def _time(given: str | None) -> datetime:
    """A time as the user wrote it, with its zone and not in the future; now where there is none."""
    from datetime import UTC, datetime

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
    _say(f"wrote {private}{', encrypted' if passphrase else ', not encrypted'}: keep it to yourself")
    _say(f"wrote {public}: give it to whoever checks your reports")
    _say(f"key id: {key.public.id}")


@keys_app.command("show", epilog="Example: robustness-gate keys show keys/signing.pub")
def keys_show(file: Annotated[Path, typer.Argument(help="A public or private key (PEM).")]) -> None:
    """Print a key's type, its id and its public part.

    The id is the SHA-256 of the public key's DER (SubjectPublicKeyInfo): `openssl pkey -pubin -in signing.pub
    -outform DER | sha256sum` gives the same.
    """
    from robustness_gate import attest

    key = attest.any_public_key(file, ask=_ask_passphrase())
    _say(f"type: {key.kind}")
    _say(f"key id: {key.id}")
    _say(key.pem.rstrip())


def _ask_passphrase() -> Callable[[], str] | None:
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


@app.command(epilog="Example: robustness-gate schema > report.v1.schema.json")
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from robustness_gate.report import json_schema

    _say(json.dumps(json_schema(), indent=1, sort_keys=True))


@organisms_app.command("list", epilog="Example: robustness-gate organisms list")
def organisms_list() -> None:
    """Name the shipped checkpoints and where they lie."""
    from robustness_gate import organisms

    for name in organisms.NAMES:
        _say(f"organism:{name:12} {organisms.checkpoint(name)}")


@organisms_app.command("build", epilog="Example: robustness-gate organisms build runs/organisms --only oracle")
def organisms_build(
    out: Annotated[Path, typer.Argument(help="Folder to build into.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Build these (and what they need).")] = None,
) -> None:
    """Train the organisms anew from their seeds, on one thread so that bytes repeat: about 16 minutes."""
    from rich.console import Console

    from robustness_gate.organisms.build import build
    from robustness_gate.publish import terminal

    with terminal.counting(Console(stderr=True)) as progress:
        build(out, only=tuple(only or ()), progress=progress)
    _say(f"built in {out}")


@app.command(epilog="Example: robustness-gate demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's runs; made anew.")] = Path("runs/demo"),
    policies: Annotated[Path, typer.Option(help="Where organism.yaml lies.")] = Path("policies"),
    suites: Annotated[Path, typer.Option(help="Where organism-smoke.yaml lies.")] = Path("suites"),
) -> None:
    """Take the shipped organisms through the gate."""
    from robustness_gate import demo as show

    raise typer.Exit(show.run(out, policies, suites))


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Attack an unlearned checkpoint and say whether the knowledge stays gone."""
    if version:
        _say(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        _say(context.get_help())


def _pairs(given: list[str] | None, option: str, example: str) -> tuple[tuple[str, str], ...]:
    found = []
    for each in given or ():
        name, equals, place = each.partition("=")
        if not (name and equals and place):
            raise UsageError(f"{option} '{each}' is not NAME=PLACE.", remedy=f"Write e.g. {option} {example}.")
        found.append((name, place))
    return tuple(found)


def _say(text: str) -> None:
    print(text)  # noqa: T201 - what a verb prints goes to standard output


def _does(module: ModuleType) -> str:
    """What an attack does, in the first line of its file."""
    return (module.__doc__ or "").strip().splitlines()[0]


def _console() -> Console:
    """Standard output; a file or pipe has no edge to wrap at."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def _show_checks(console: Console, checks: Sequence[Check]) -> None:
    """One line a check, by part, the remedy under it."""
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "note": "yellow", "PROBLEM": "bold red"}
    width = max((len(check.name) for check in checks), default=0)
    for part in dict.fromkeys(check.part for check in checks):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, min_width=len("PROBLEM"))
        grid.add_column(no_wrap=True, min_width=width)
        grid.add_column(overflow="fold")
        for check in (each for each in checks if each.part == part):
            says = Text(check.says)
            if check.remedy:
                says.append(f"\n{check.remedy}", style="dim")
            grid.add_row(Text(check.state, style=styles[check.state]), check.name, says)
        console.print(Text(f"{part}", style="bold"))
        _print_grid(console, grid)
        console.print()


def _print_grid(console: Console, grid: Table) -> None:
    """A table without the spaces with which rich fills its last column."""
    with console.capture() as drawn:
        console.print(grid)
    _say("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def _show_advice(console: Console, told: Advice, *, quiet: bool) -> None:
    """Why, the strongest attack, the next steps, and what to bear in mind; or the first and the third line alone."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from robustness_gate.publish.terminal import COLOURS

    console.print(Text(f"{told.outcome}: {told.why}", style=f"bold {COLOURS[told.outcome]}"))
    if not quiet:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for title, value in _about(told.strongest, told.cheapest_breach):
            grid.add_row(title, Text(value))
        console.print()
        _print_grid(console, grid)
    for number, step in enumerate(told.steps[: 1 if quiet else None]):
        console.print(Text("\nnext" if number == 0 else "\nthen", style="bold"))
        console.print(Padding(Text(step.because), (0, 0, 0, 2)))
        console.print(Padding(Text(step.do, style="bold" if number == 0 else ""), (0, 0, 0, 2)))
        if step.command:  # left to the terminal to wrap, so that it can be copied whole
            console.print(Text(f"  $ {step.command}", style="cyan"), soft_wrap=True)
    if told.caveats and not quiet:
        console.print(Text("\nbear in mind", style="bold"))
        for caveat in told.caveats:
            console.print(Padding(Text(caveat, style="dim"), (0, 0, 0, 2)))


def _about(top: Tried | None, cheapest: Tried | None) -> list[tuple[str, str]]:
    """The strongest attack in words, and the cheapest that is enough."""
    if top is None:
        return [("strongest attack", "nothing was examined")]
    seed = f", seed {top.seed_index}" if top.seed_index else ""
    rows = [("strongest attack", f"{top.name}{seed}")]
    rows += [
        (title, value) for title, value in (("", top.does), ("settings", top.settings), ("spent", top.spent)) if value
    ]
    rows.append(("asked", f"'{top.task}', limit {top.limit:.0%}"))
    for reading in sorted(top.after, key=lambda each: each != top.reading):
        change = f"{_share(top.before.get(reading))} -> {_share(top.after[reading])}"
        if reading == top.reading:
            rows.append((reading, f"{change}, bounds {top.lower:.1%} to {top.upper:.1%} (decides)"))
        else:
            rows.append((reading, change + (" (one letter order, as in papers)" if reading == "single_order" else "")))
    if cheapest is not None:
        effort = f" ({cheapest.spent})" if cheapest.spent else ""
        rows.append(("cheapest breach", f"{cheapest.name}: {_share(cheapest.after[cheapest.reading])}{effort}"))
    return rows


def _share(value: float | None) -> str:
    return "not examined" if value is None else f"{value:.1%}"
