"""Commands on a checkpoint: `run`, `plan`, `doctor`, `checkpoint copy`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    Base,
    Checkpoint,
    Controls,
    Device,
    Ledgers,
    LoadTimeout,
    Only,
    Original,
    PolicyFile,
    Runner,
    SuiteFile,
    TextTimeout,
    TrialTimeout,
    app,
    checkpoint_app,
    console_for_output,
    limits_of,
    pairs,
    print_grid,
    say,
    say_json,
)
from robustness_gate.errors import Exit, UsageError
from robustness_gate.inputs.shipped import POLICY, SUITE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from robustness_gate.assurance.doctor import Check
    from robustness_gate.planning.plan import Prepared
    from robustness_gate.records.policy import Policy
    from robustness_gate.report.record import Report


@app.command(
    epilog="Example: robustness-gate run models/mine --policy gate/policy.yaml --suite gate/suite.yaml --out runs/1"
)
def run(
    checkpoint: Checkpoint,
    policy: PolicyFile,
    suite: SuiteFile,
    out: Annotated[Path, typer.Option("--out", help="Folder for the report, its evidence and a copy of the ledger.")],
    original: Original = None,
    control: Controls = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", help="NAME=REPORT of an earlier release that the policy names; repeatable."),
    ] = None,
    statement: Annotated[
        Path | None, typer.Option("--statement", help="The producer's claims (YAML), recorded unchecked.")
    ] = None,
    only: Only = None,
    base: Base = None,
    ledgers: Ledgers = None,
    self_test: Annotated[
        Path | None, typer.Option("--self-test", help="The output of `self-test`: that the attacks work.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="The file of `calibrate`: what the attacks bring back there.")
    ] = None,
    preregistration: Annotated[
        Path | None, typer.Option("--preregistration", help="The preregistration of this run.")
    ] = None,
    preregistration_key: Annotated[
        Path | None, typer.Option("--preregistration-key", help="Public key of its signer.")
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="Parallel trials; 0: one per core for a small model on the CPU, else one.")
    ] = 0,
    executor: Runner = "local",
    trial_timeout: TrialTimeout = None,
    load_timeout: LoadTimeout = None,
    text_timeout: TextTimeout = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", help="Also publish by this plug-in: DISTRIBUTION/NAME; repeatable.")
    ] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow; by default $MLFLOW_TRACKING_URI or a SQLite file next to --out.")
    ] = None,
    no_mlflow: Annotated[bool, typer.Option("--no-mlflow", help="Do not log to MLflow.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the verdict.")] = False,
    honour_decision: Annotated[
        bool, typer.Option("--honour-decision", help="Leave with 0 where a waiver or an accepted risk releases it.")
    ] = False,
) -> None:
    """Attack a checkpoint, judge it, and write the report and its evidence to --out.

    A stopped run continues if the same command is given again. All earlier evidence on this checkpoint counts: its
    ledger is found in --ledgers by its digest, and --out gets a copy. A trial that exceeds a time limit is recorded as
    a failure, which is never a success; the same command tries it again.
    """
    from rich.console import Console

    from robustness_gate import gate
    from robustness_gate.publish import terminal
    from robustness_gate.system import redaction

    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)  # a log has no edge to wrap at
    request = gate.Request(
        checkpoint=checkpoint,
        policy=policy,
        suite=suite,
        out=out,
        original=original,
        controls=pairs(control, "--control", "oracle=models/oracle"),
        anchors=tuple((name, Path(place)) for name, place in pairs(anchor, "--anchor", "best=runs/1/report.json")),
        statement=statement,
        only=tuple(only or ()),
        base=base,
        ledgers=ledgers,
        self_test=self_test,
        calibration=calibration,
        preregistration=preregistration,
        preregistration_key=preregistration_key,
        device=device,
        workers=workers,
        limits=limits_of(trial_timeout, load_timeout, text_timeout),
        outputs=tuple(output or ()),
        tracking_uri="" if no_mlflow else tracking_uri,
    )
    with terminal.watching(console, quiet=quiet or as_json) as watch:
        outcome = gate.run(request, watch, executor)
    for warning in outcome.warnings:
        console.print(f"warning: {redaction.message(warning)}", style="yellow", highlight=False, soft_wrap=True)
    _show_outcome(outcome.report, out, as_json=as_json, quiet=quiet)
    if honour_decision and outcome.report.decision.releases:
        raise typer.Exit(int(Exit.PASS))
    raise typer.Exit(int(outcome.exit_code))


def _show_outcome(report: Report, out: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the verdict: as JSON, as one sentence, or with the tables."""
    from rich.console import Console

    from robustness_gate.publish import terminal
    from robustness_gate.report import table

    console = Console(width=None if sys.stdout.isatty() else 160)
    if as_json:
        console.print_json(data={**table.headline(report), "report": str(out / "report.json")})
    elif quiet:
        console.print(table.sentence(report), highlight=False, soft_wrap=True)
    else:
        terminal.show(report, console)
        console.print(f"report: {out / 'report.md'}", style="dim", highlight=False, soft_wrap=True)


@app.command(epilog="Example: robustness-gate plan models/mine --policy gate/policy.yaml --suite gate/suite.yaml")
def plan(
    checkpoint: Checkpoint,
    policy: PolicyFile,
    suite: SuiteFile,
    original: Original = None,
    control: Controls = None,
    only: Only = None,
    base: Base = None,
    executor: Runner = "local",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="The file of `calibrate`: what is blind on this model, first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every trial in full.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show one prompt of each task and of what each attack is made on.")
    ] = False,
) -> None:
    """List every trial that a run would make, without running any."""
    from robustness_gate import gate

    prepared = gate.prepare(
        policy,
        suite,
        checkpoint,
        original,
        pairs(control, "--control", "oracle=models/oracle"),
        tuple(only or ()),
        base,
        executor,
    )
    if as_json:
        say_json([{"id": trial.id, **trial.plain} for trial in prepared.plan.trials])
        return
    for line in _calibrated(prepared.policy.record, calibration):
        say(line)
    _show_plan(prepared)
    if verbose:
        _show_prompts(prepared)


def _show_plan(prepared: Prepared) -> None:
    """Print one line per trial, what is left out or foreseen, the questions, and the totals."""
    from robustness_gate.inputs.checkpoint.place import model_type
    from robustness_gate.planning import prospects
    from robustness_gate.records.trial import OWN_ROLES, Role
    from robustness_gate.verdict import declared_hypotheses, label
    from robustness_gate.verdict.wording import left_out, model_name

    trials = prepared.plan.trials
    for trial in trials:
        role = "" if trial.role == Role.CANDIDATE else f"  [{model_name(trial)}]"
        at = "" if trial.budgets == (0,) else f"  budgets {', '.join(map(str, trial.budgets))}"
        say(f"{trial.id[:12]}  {label(trial)}, seed {trial.seed_index}{at}{role}")
    for line in map(left_out, prepared.plan.left_out):
        say(f"{'':12}  {line}")
    for line in prepared.plan.foreseen:
        say(f"note: {line}")
    kind = model_type(prepared.plan.candidate.place)
    if not prospects.obstacles(prepared.policy, prepared.suite, kind):
        say(f"self-test: {prospects.way(prepared.policy, prepared.suite, kind)}")
    for task in trials[0].tasks:
        say(f"{task.name}: {task.items} items, sha256 {task.sha256}")
    record = prepared.policy.record
    declared = declared_hypotheses(record)
    prompts = sum(len(trial.budgets) * task.prompts for trial in trials for task in trial.tasks)
    examined = sum(len(trial.budgets) for trial in trials)
    mine = sum(trial.role in OWN_ROLES for trial in trials)
    others = f" and {len(trials) - mine} on other models" if len(trials) > mine else ""
    say(f"{mine} trial{'s' if mine != 1 else ''}{others}, {examined} budgets, {prompts:,} verdict prompts")
    alpha = record.statistics.alpha_fail / declared
    say(f"{declared} declared hypotheses: each establishes a breach at alpha {alpha:.2g}")
    for line in _cost_of_calibration(prepared):
        say(line)


def _show_prompts(prepared: Prepared) -> None:
    """Print one prompt of each task, and of the data of each attack."""
    from robustness_gate import attacks
    from robustness_gate.planning import specimens
    from robustness_gate.records.trial import Role
    from robustness_gate.verdict import label

    shown = [*specimens.of_tasks(prepared.suite_data)]
    own = [trial for trial in prepared.plan.trials if trial.role == Role.CANDIDATE]
    for attack, config in {label(trial): (trial.attack, trial.config) for trial in own}.values():
        made = attacks.configure(attacks.load(attack), config)
        shown += specimens.of_attack(attack, made, prepared.suite_data)
    for each in shown:
        say(f"\n{each.of}: {each.description}")
        say("\n".join(f"    {line}" for line in each.text.split("\n")))


def _calibrated(policy: Policy, path: Path | None) -> Iterator[str]:
    """What the newest calibration in a file lacks under the policy: no PASS is possible with it."""
    from robustness_gate.evidence.ledger import calibrations_in
    from robustness_gate.verdict.calibrations import of_its_own
    from robustness_gate.verdict.wording import sentence

    if path is None:
        return
    newest = max(calibrations_in(path), key=lambda each: (each.at, each.digest))
    for blocker in of_its_own(newest, policy):
        yield f"no PASS is possible with {path}: {sentence(blocker)}"


def _cost_of_calibration(prepared: Prepared) -> Iterator[str]:
    """How many attempts and trials a calibration under the policy's terms takes."""
    from robustness_gate.organisms import spikes
    from robustness_gate.planning.bench import asked

    terms = prepared.policy.record.calibration
    if terms is None:
        return
    attacks = sum(1 for _ in asked(prepared.policy, prepared.suite))
    tries = max(
        len(spikes.TEACHINGS[size]) + sum(len(spikes.grid(method, size)) for method in terms.methods)
        for size in spikes.TEACHINGS
    )
    many = len(terms.methods)
    yield (
        f"a calibration: at most {tries} attempts to make {many} spikes (each a short training and a reading), then "
        f"{attacks} attacks on each and on the blank, with a sham on each: {attacks * (2 * many + 1)} trials"
    )


@app.command(epilog="Example: robustness-gate doctor models/mine --suite gate/suite.yaml")
def doctor(
    checkpoint: Checkpoint,
    device: Device = "auto",
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite", parser=SUITE.find, metavar="FILE|NAME", help="Try this suite's attacks, not all there are."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            parser=POLICY.find,
            metavar="FILE|NAME",
            help="With --suite: also say whether a PASS is possible under this policy.",
        ),
    ] = None,
    original: Original = None,
    base: Base = None,
    no_load: Annotated[bool, typer.Option("--no-load", help="Look at the files alone; load no weights.")] = False,
    load_timeout: LoadTimeout = None,
    text_timeout: TextTimeout = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only what is not ok.")] = False,
) -> None:
    """Find out whether a checkpoint can be examined here, and how.

    Looks at the installation, the device and the files, loads the model, and tries every attack at strength zero.
    Leaves with 0 if the gate can run, with 2 if something prevents it; each problem comes with its remedy.
    """
    from rich.console import Console

    from robustness_gate.assurance import doctor as practice
    from robustness_gate.assurance.doctor import wording

    if policy is not None and suite is None:
        raise UsageError("--policy goes with --suite.", remedy="Name the suite whose settings the policy requires.")
    errors = Console(stderr=True)
    status = errors.status("looking", spinner="dots") if errors.is_terminal and not quiet else None
    if status is not None:
        status.start()
    try:
        step = status.update if status is not None else lambda _: None
        checks = practice.examine(
            checkpoint,
            device=device,
            suite=suite,
            policy=policy,
            original=original,
            base=base,
            weights=not no_load,
            limits=limits_of(load=load_timeout, text=text_timeout),
            step=step,
        )
    finally:
        if status is not None:
            status.stop()
    able = practice.can_run(checks)
    if as_json:
        plain = [{**vars(each), "sentence": wording.sentence(each), "remedy": wording.remedy(each)} for each in checks]
        say_json({"can_run": able, "checks": plain})
    else:
        _show_checks(console_for_output(), [check for check in checks if not (quiet and check.state == "ok")])
        if not quiet:
            good = "Nothing in the files prevents a run." if no_load else "The gate can run on it."
            say(good if able else "The gate cannot run on it: fix what is marked PROBLEM.")
    raise typer.Exit(int(Exit.PASS if able else Exit.USAGE))


@checkpoint_app.command("copy", epilog="Example: robustness-gate checkpoint copy models/mine models/mine-clean")
def checkpoint_copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A directory, or hf://OWNER/NAME@COMMIT.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="The new directory; new or empty.")],
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Where there are two sets: model.safetensors, or model.safetensors.index.json."),
    ] = None,
) -> None:
    """Copy exactly what is read of a checkpoint, so that its directory holds one model and nothing else.

    Config, tokenizer, template and one set of weights, as files of their own (no links), each compared by its digest.
    SRC is not changed. Files that are not copied are listed.
    """
    from robustness_gate.inputs import copying

    done = copying.copy(source, destination, weights)
    say(f"{len(done.manifest.files)} files, {sum(entry.size for entry in done.manifest.files):,} bytes: {destination}")
    say(f"digest {done.manifest.digest}")
    for what, names in (("weights", done.weights), ("code", done.code), ("not read by any loader", done.nothing)):
        for name in names:
            say(f"left out, {what}: {name}")


def _show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print one line per check, by part, with its remedy below."""
    from rich.table import Table
    from rich.text import Text

    from robustness_gate.assurance.doctor import wording

    styles = {"ok": "green", "note": "yellow", "PROBLEM": "bold red"}
    width = max((len(check.name) for check in checks), default=0)
    for part in dict.fromkeys(check.part for check in checks):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, min_width=len("PROBLEM"))
        grid.add_column(no_wrap=True, min_width=width)
        grid.add_column(overflow="fold")
        for check in (each for each in checks if each.part == part):
            sentence = Text(wording.sentence(check))
            if remedy := wording.remedy(check):
                sentence.append(f"\n{remedy}", style="dim")
            grid.add_row(Text(check.state, style=styles[check.state]), check.name, sentence)
        console.print(Text(f"{part}", style="bold"))
        print_grid(console, grid)
        console.print()
