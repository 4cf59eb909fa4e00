"""Commands that take a checkpoint through the gate: `run` and `plan`."""

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
    HonourDecision,
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
    limits_of,
    pairs,
    say,
    say_json,
)
from robustness_gate.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from robustness_gate.planning.plan import Prepared
    from robustness_gate.records.policy import Policy
    from robustness_gate.report.record import Report


Anchors = Annotated[
    list[str] | None,
    typer.Option("--anchor", help="NAME=REPORT of an earlier release that the policy names; repeatable."),
]
Statement = Annotated[
    Path | None, typer.Option("--statement", help="The producer's claims (YAML), recorded unchecked.")
]
SelfTestFile = Annotated[
    Path | None, typer.Option("--self-test", help="The output of `self-test`: that the attacks work.")
]
CalibrationFile = Annotated[
    Path | None, typer.Option("--calibration", help="The file of `calibrate`: what the attacks bring back there.")
]
Preregistration = Annotated[Path | None, typer.Option("--preregistration", help="The preregistration of this run.")]
SignerOfIt = Annotated[Path | None, typer.Option("--preregistration-key", help="Public key of its signer.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Parallel trials; 0: one per core for a small model on the CPU, else one.")
]
Outputs = Annotated[
    list[str] | None, typer.Option("--output", help="Also publish by this plug-in: DISTRIBUTION/NAME; repeatable.")
]
Tracker = Annotated[
    str | None, typer.Option(help="MLflow; by default $MLFLOW_TRACKING_URI or a SQLite file next to --out.")
]


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
    anchor: Anchors = None,
    statement: Statement = None,
    only: Only = None,
    base: Base = None,
    ledgers: Ledgers = None,
    self_test: SelfTestFile = None,
    calibration: CalibrationFile = None,
    preregistration: Preregistration = None,
    preregistration_key: SignerOfIt = None,
    device: Device = "auto",
    workers: Workers = 0,
    executor: Runner = "local",
    trial_timeout: TrialTimeout = None,
    load_timeout: LoadTimeout = None,
    text_timeout: TextTimeout = None,
    output: Outputs = None,
    tracking_uri: Tracker = None,
    no_mlflow: Annotated[bool, typer.Option("--no-mlflow", help="Do not log to MLflow.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the verdict.")] = False,
    honour_decision: HonourDecision = False,
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
        checkpoint, policy, suite, out, original, pairs(control, "--control", "oracle=models/oracle"),
        only=tuple(only or ()), statement=statement, self_test=self_test, calibration=calibration,
        anchors=tuple((name, Path(place)) for name, place in pairs(anchor, "--anchor", "best=runs/1/report.json")),
        preregistration=preregistration, preregistration_key=preregistration_key, ledgers=ledgers, base=base,
        device=device, workers=workers, limits=limits_of(trial_timeout, load_timeout, text_timeout),
        outputs=tuple(output or ()), tracking_uri="" if no_mlflow else tracking_uri,
    )  # fmt: skip
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
    cost: Annotated[bool, typer.Option("--cost", help="Predict tokens, memory and time of each trial.")] = False,
    cost_from: Annotated[
        Path | None, typer.Option("--cost-from", metavar="FILE", help="Predict from cost.json of a run of this suite.")
    ] = None,
    device_figures: Annotated[
        str | None, typer.Option(metavar="NAME", help="Predict for a100, h100, h200 or cpu-core: time, what fits.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every trial in full.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show one prompt of each task and of what each attack is made on.")
    ] = False,
) -> None:
    """List every trial that a run would make, without running any.

    With --cost, --cost-from or --device-figures: what each will take, and what will not fit. docs/cost.md says how the
    numbers come about.
    """
    from robustness_gate.planning.prepare import prepare

    prepared = prepare(
        policy,
        suite,
        checkpoint,
        original,
        pairs(control, "--control", "oracle=models/oracle"),
        tuple(only or ()),
        base,
        executor,
    )
    if cost or cost_from is not None or device_figures is not None:
        from robustness_gate.cli import costs

        costs.show(prepared, cost_from, device_figures, as_json=as_json)
        return
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
    if path is None:
        return
    from robustness_gate.evidence.ledger import calibrations_in
    from robustness_gate.verdict.calibrations import of_its_own
    from robustness_gate.verdict.wording import sentence

    newest = max(calibrations_in(path), key=lambda each: (each.at, each.digest))
    for blocker in of_its_own(newest, policy):
        yield f"no PASS is possible with {path}: {sentence(blocker)}"


def _cost_of_calibration(prepared: Prepared) -> Iterator[str]:
    """How many attempts and trials a calibration under the policy's terms takes."""
    terms = prepared.policy.record.calibration
    if terms is None:
        return
    from robustness_gate.organisms import spikes
    from robustness_gate.planning.bench import asked

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
