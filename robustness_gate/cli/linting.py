"""The command `policy lint`: what a policy's limits let through, before a candidate is run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import AsJson, PolicyArgument, pairs, policy_app, say, say_json
from robustness_gate.cli.policies import planned_without, unprovable_requirements
from robustness_gate.errors import Exit, UsageError
from robustness_gate.inputs.shipped import SUITE

if TYPE_CHECKING:
    from robustness_gate.policy_language.lint import Lint
    from robustness_gate.policy_language.lint.measured import Measured, Reported
    from robustness_gate.records.policy import Limit, Policy


@policy_app.command("lint", epilog="Example: robustness-gate policy lint gate/policy.yaml --strict")
def policy_lint(
    policy: PolicyArgument,
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite",
            parser=SUITE.find,
            metavar="FILE|NAME",
            help="Take the number of choices from its questions; else four.",
        ),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option("--original", metavar="REPORT", help="A report of a run of the original: measure gaps from it."),
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", metavar="NAME=REPORT", help="The same of a control of the policy; repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 2 if there is a warning.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print how often a model without the knowledge meets the limits, and the error rates.

    A limit on the share of a gap needs --original and --control, which exist before a candidate: without their answers
    only the gap is printed that its share needs.
    """
    import dataclasses

    from robustness_gate.policy_language import load_policy
    from robustness_gate.policy_language.lint import lint

    loaded = load_policy(policy)
    chances = None
    if suite is not None:
        made = planned_without(loaded, suite)
        chances = {task.name: task.chance for task in made.trials[0].tasks}
    found = lint(
        loaded.record,
        chances,
        _measuring(loaded.record, original, pairs(control, "--control", "filtered=runs/filtered")),
    )
    found = dataclasses.replace(found, warnings=(*found.warnings, *unprovable_requirements(loaded, suite)))
    if as_json:
        say_json(found)
    else:
        _show(loaded.record, found)
    if strict and found.warnings:
        raise typer.Exit(int(Exit.USAGE))


def _measuring(
    policy: Policy, original: Path | None, controls: tuple[tuple[str, str], ...]
) -> Callable[[Policy, Limit], Measured] | None:
    """How the gaps of the policy's share limits are measured; None without reports.

    Raises:
        UsageError: a report is lacking, or is of use to no limit.
    """
    rules = [limit.recovered for limit in policy.limits if limit.recovered is not None]
    needed = {rule.control for rule in rules if rule.control is not None}
    given = dict(controls)
    if original is None and not given:
        return None
    if not rules:
        raise UsageError(
            "no limit of the policy is on the share of a gap, so no answers of other models are of use.",
            remedy="Leave --original and --control out.",
        )
    if len(given) < len(controls):
        raise UsageError("--control names a control twice.", remedy="Give one report of each.")
    if strangers := sorted(given.keys() - needed):
        known = ", ".join(sorted(needed)) or "none"
        raise UsageError(
            f"no limit on a share is beside a control '{strangers[0]}'.", remedy=f"The policy's are: {known}."
        )
    if original is None or (lacking := sorted(needed - given.keys())):
        option = "--original REPORT" if original is None else f"--control {lacking[0]}=REPORT"
        raise UsageError(
            "a gap is measured between two models, and the report of one is lacking.", remedy=f"Add {option}."
        )
    from robustness_gate.policy_language.lint.measured import measured

    at = datetime.now(UTC)
    first, reports = _reported(original), {name: _reported(Path(place)) for name, place in given.items()}
    return lambda spelled, limit: measured(
        spelled, limit, first, reports[limit.control] if limit.control else first, at
    )


def _reported(place: Path) -> Reported:
    """One model's report, judged again so that its verdict follows from its answers."""
    from robustness_gate.policy_language.lint.measured import Reported
    from robustness_gate.report import reading
    from robustness_gate.report.record import evidence_in

    made = reading.read(place)
    reading.refuse_forged(made)
    return Reported(str(reading.file_of(place)), evidence_in(made))


def _show(policy: Policy, found: Lint) -> None:
    """Print the table and the totals, a paragraph for each limit on a share, then warnings and hints."""
    from robustness_gate.policy_language.lint import words

    if found.rows:
        _show_rows(found)
    if found.joint is not None and found.joint_above is not None:
        say(f"within every limit above, at chance: at least {found.joint.at_least:.1%}, "
             f"{found.joint.if_independent:.1%} if trials were independent; two points above: "
             f"{found.joint_above.at_least:.1%}, {found.joint_above.if_independent:.1%}")  # fmt: skip
    for row in found.shares:
        say(words.paragraph(row, policy.statistics.min_design_power))
    say(
        f"{found.hypotheses} hypotheses; a model exactly at every limit gets a false FAIL at most "
        f"{found.false_fail:.1%} of the time"
    )
    for note in words.notes(found.shares):
        say(f"note: {note}")
    for warning in found.warnings:
        say(f"warning: {warning}")
    for hint in found.hints:
        say(f"hint: {hint}")


def _show_rows(found: Lint) -> None:
    head = (
        "limit",
        "n",
        "n/deff",
        "max",
        "hypotheses",
        "at chance",
        "+2 points",
        "false FAIL",
        "n for 80 %",
        "n for 90 %",
    )
    rows = [
        (
            row.limit,
            f"{row.items:,}",
            f"{row.effective:,.0f}",
            f"{row.max:.3g}",
            f"{row.hypotheses}",
            f"{'~' if row.paired else ''}{row.at_chance:.1%}",
            f"{'~' if row.paired else ''}{row.above_chance:.1%}",
            f"{row.false_fail:.2%}",
            f"{row.needed_80:,}" if row.needed_80 else "-",
            f"{row.needed_90:,}" if row.needed_90 else "-",
        )
        for row in found.rows
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells).rstrip())
