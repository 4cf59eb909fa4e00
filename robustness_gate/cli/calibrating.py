"""The command `calibrate`: how much of what is taught and suppressed does each attack bring back on this original?"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    Base,
    Device,
    LoadTimeout,
    PolicyFile,
    SuiteFile,
    TextTimeout,
    TrialTimeout,
    app,
    limits_of,
    say,
    say_json,
)
from robustness_gate.errors import Exit

if TYPE_CHECKING:
    from robustness_gate.records.calibration import Calibration
    from robustness_gate.records.policy import Policy


@app.command(
    epilog="Example: robustness-gate calibrate models/original --policy gate/policy.yaml --suite gate/suite.yaml "
    "--out calibration.jsonl"
)
def calibrate(
    original: Annotated[str, typer.Argument(metavar="ORIGINAL", help="The model before unlearning.")],
    policy: PolicyFile,
    suite: SuiteFile,
    out: Annotated[Path, typer.Option("--out", help="File to append to, for `run --calibration`.")],
    base: Base = None,
    device: Device = "auto",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each attack; each must recover by itself.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Trials side by side; 0: one a core, at most 4.")] = 0,
    trial_timeout: TrialTimeout = None,
    load_timeout: LoadTimeout = None,
    text_timeout: TextTimeout = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as one JSON object.")] = False,
) -> None:
    """Teach the original an invented world, suppress it, and measure what each required attack brings back.

    The policy's `calibration` names the methods and thresholds. Every attempt is appended to --out; the same command
    continues a stopped calibration. Spiked models are deleted at the end. Exits with 4 if this calibration alone would
    block a PASS.
    """
    from robustness_gate.assurance import calibrate as calibration

    request = calibration.Request(
        original=original,
        policy=policy,
        suite=suite,
        out=out,
        base=base,
        device=device,
        seeds=seeds,
        workers=workers or min(4, os.cpu_count() or 1),
        limits=limits_of(trial_timeout, load_timeout, text_timeout),
    )
    show = (lambda _: None) if as_json else (lambda line: print(line, file=sys.stderr))  # noqa: T201 - progress
    made, resolved = calibration.run(request, datetime.now(UTC), show)
    blocked = calibration.shortcomings(made, resolved)
    if as_json:
        say_json(made)
    else:
        _show(made, resolved)
        for words in blocked:
            say(words)
        say(f"\n{out}: give it to `run` with --calibration")
    raise typer.Exit(int(Exit.INCONCLUSIVE if blocked else Exit.PASS))


def _show(made: Calibration, policy: Policy) -> None:
    """Print the table attack x method, and the fixed words for each cell."""
    from robustness_gate.assurance.calibrate import cells
    from robustness_gate.verdict.hypotheses import label_of
    from robustness_gate.verdict.wording import calibrated

    table = cells(made, policy)
    wide = max((len(name) for name in table), default=6)
    say(f"{'attack':{wide}}  " + "  ".join(f"{method:>26}" for method in made.methods))
    for name, row in table.items():
        say(f"{name:{wide}}  " + "  ".join(f"{row.get(method, 'no accepted spike'):>26}" for method in made.methods))
    say("each cell: suppressed > after the attack of the facts asked, lower bound of the gain; * recovers")
    for each in made.recoveries:
        say(calibrated(each.test, label_of(each.test.attack, each.test.config)))
