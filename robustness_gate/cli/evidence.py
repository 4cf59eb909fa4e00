"""Commands on evidence and reports: `judge`, `why`, `compare`. None of them runs anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    HonourDecision,
    PolicyFile,
    app,
    console_for_output,
    print_grid,
    say,
    say_json,
)
from robustness_gate.errors import Exit, UsageError

if TYPE_CHECKING:
    from datetime import datetime
    from types import ModuleType

    from rich.console import Console

    from robustness_gate.records.evidence import LeftOut
    from robustness_gate.records.trial import Trial
    from robustness_gate.report.advice import Advice
    from robustness_gate.verdict import Decision


DigestOf = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", help="The checkpoint's digest or the beginning of it; by default that of the last run."
    ),
]
CalibrationBesides = Annotated[
    Path | None, typer.Option("--calibration", help="The file of `calibrate`, besides what the ledger holds.")
]


@app.command(epilog="Example: robustness-gate judge runs/mine/ledger.jsonl --policy gate/policy.yaml --explain")
def judge(
    ledger: Annotated[Path, typer.Argument(help="A ledger.jsonl, or a folder that holds one.")],
    policy: PolicyFile,
    checkpoint: DigestOf = None,
    calibration: CalibrationBesides = None,
    at: Annotated[datetime | None, typer.Option("--at", help="The moment of judgement, UTC; by default now.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the steps from the numbers to the verdict.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict and decision as one JSON object.")] = False,
    honour_decision: HonourDecision = False,
) -> None:
    """Judge existing evidence again, under any policy; nothing is run.

    The evidence is the plan of the last run on the checkpoint, and every other trial on it in the ledger.
    """
    from dataclasses import replace

    from robustness_gate.evidence import ledger as ledgers
    from robustness_gate.policy_language import load_policy
    from robustness_gate.report.limitations import limitations
    from robustness_gate.verdict import decide, wording
    from robustness_gate.verdict import judge as judge_
    from robustness_gate.verdict.counts import counts
    from robustness_gate.verdict.explain import explain as explained

    if at is not None and honour_decision:  # else an earlier date would make an expired waiver valid
        raise UsageError("--honour-decision is about now.", remedy="Leave --at out, or --honour-decision.")
    loaded = load_policy(policy)
    found = ledgers.read(ledger / ledgers.NAME if ledger.is_dir() else ledger)
    plan = found.latest_plan(checkpoint)
    planned = found.planned(plan)
    evidence = found.evidence(plan.subject, planned)
    if calibration is not None:
        more = (*evidence.calibrations, *ledgers.calibrations_in(calibration))
        evidence = replace(evidence, calibrations=tuple({each.digest: each for each in more}.values()))
    moment = (at or datetime.now(UTC)).replace(tzinfo=UTC)
    verdict = judge_(loaded.record, evidence, moment)
    decision = decide(loaded.record, verdict, plan.subject, moment)
    weak = limitations(loaded.record, evidence, verdict.flags, preregistered=False)  # no ledger names one
    left = f"; {len(plan.left_out)} left out by the last run" if plan.left_out else ""
    if as_json:
        say_json({"checkpoint": plan.subject, "verdict": verdict.plain, "reason": wording.reason(verdict),
                  "decision": decision.plain, "limitations": list(weak)})  # fmt: skip
    else:
        for line in explained(loaded.record, verdict) if explain else ():
            say(line)
        for limitation in weak:
            say(f"limitation: {limitation}")
        say(f"{verdict.outcome}: {wording.reason(verdict)}")
        if loaded.record.waivers or loaded.record.accepted_risks:
            _say_decision(decision)
        say(f"checkpoint {plan.subject[:12]}: {wording.trials_line(counts(evidence))}{left}")
    codes = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}
    released = honour_decision and decision.releases
    raise typer.Exit(int(Exit.PASS if released else codes[verdict.outcome]))


def _say_decision(decision: Decision) -> None:
    say(f"decision {decision.outcome}: {decision.reason}")
    for line in (*decision.applied, *(f"inert: {each}" for each in decision.inert)):
        say(f"  {line}")


@app.command(epilog="Example: robustness-gate why runs/mine")
def why(
    report: Annotated[Path, typer.Argument(help="A report.json, or the --out folder of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the verdict and the next step.")] = False,
) -> None:
    """Explain a verdict and say what to do next.

    The reason, the strongest attack with its numbers, the cheapest next step, and what was not tried.
    """
    from robustness_gate import attacks as registry
    from robustness_gate.planning import prospects
    from robustness_gate.report import advice
    from robustness_gate.report import reading as report_reading

    made = report_reading.read(report)
    report_reading.refuse_forged(made)
    planned: list[Trial | LeftOut] = [*(each.trial for each in made.trials), *made.left_out]
    advised = advice.advise(
        made,
        out=str(report if report.is_dir() else report.parent),
        attacks={name: does(registry.load(name)) for name in registry.names()},
        untestable=prospects.untestable(made.resolved, planned, made.model_type),
    )
    if as_json:
        say_json(advised)
    else:
        _show_advice(console_for_output(), advised, quiet=quiet)


@app.command(epilog="Example: robustness-gate compare runs/before runs/after")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A report.json, or the --out folder of a run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as one JSON object.")] = False,
) -> None:
    """Compare two reports: verdicts, accuracies, differences on the same questions.

    Differences are B minus A, item by item, with 95 % bounds. There is no verdict: the exit code is always 0.
    """
    from robustness_gate.report import compare as comparing
    from robustness_gate.report import reading as report_reading

    one, other = report_reading.read(a), report_reading.read(b)
    report_reading.refuse_forged(one)
    report_reading.refuse_forged(other)
    found = comparing.compare(one, other)
    if as_json:
        say_json(found)
    else:
        from robustness_gate.publish import comparison

        comparison.show(found, console_for_output())


def does(module: ModuleType) -> str:
    """The first line of an attack's docstring, which describes it; empty under `python -OO`, which keeps none."""
    return (module.__doc__ or "").strip().partition("\n")[0]


def _show_advice(console: Console, advised: Advice, *, quiet: bool) -> None:
    """Print the reason, the strongest attack, the next steps and the caveats; if quiet, the reason and one step."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from robustness_gate.publish.terminal import COLOURS

    console.print(Text(f"{advised.outcome}: {advised.why}", style=f"bold {COLOURS[advised.outcome]}"))
    if not quiet:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for title, value in _about(advised):
            grid.add_row(title, Text(value))
        console.print()
        print_grid(console, grid)
    for number, step in enumerate(advised.steps[: 1 if quiet else None]):
        console.print(Text("\nnext" if number == 0 else "\nthen", style="bold"))
        console.print(Padding(Text(step.because), (0, 0, 0, 2)))
        console.print(Padding(Text(step.do, style="bold" if number == 0 else ""), (0, 0, 0, 2)))
        if step.command:  # the terminal wraps it, so that it can be copied whole
            console.print(Text(f"  $ {step.command}", style="cyan"), soft_wrap=True)
    if advised.caveats and not quiet:
        console.print(Text("\nbear in mind", style="bold"))
        for caveat in advised.caveats:
            console.print(Padding(Text(caveat, style="dim"), (0, 0, 0, 2)))


def _about(advised: Advice) -> list[tuple[str, str]]:
    """Rows about the strongest attack, about the cheapest breach, and about the largest share of a gap that is back."""
    top, cheapest = advised.strongest, advised.cheapest_breach
    back = [("largest share", advised.largest_share)] if advised.largest_share else []
    if top is None:
        return back or [("strongest attack", "nothing was examined")]
    seed = f", seed {top.seed_index}" if top.seed_index else ""
    rows = [("strongest attack", f"{top.name}{seed}")]
    rows += [
        (title, value) for title, value in (("", top.does), ("settings", top.settings), ("cost", top.cost)) if value
    ]
    rows.append(("asked", f"'{top.task}', limit {top.limit:.0%}"))
    for metric in sorted(top.after, key=lambda each: each != top.metric):
        change = f"{_share(top.before.get(metric))} -> {_share(top.after[metric])}"
        if metric == top.metric:
            rows.append((metric, f"{change}, bounds {top.lower:.1%} to {top.upper:.1%} (decides)"))
        else:
            rows.append((metric, f"{change} (does not decide)"))
    if cheapest is not None:
        effort = f" ({cheapest.cost})" if cheapest.cost else ""
        rows.append(("cheapest breach", f"{cheapest.name}: {_share(cheapest.after[cheapest.metric])}{effort}"))
    return rows + back


def _share(value: float | None) -> str:
    return "not examined" if value is None else f"{value:.1%}"
