"""The other verbs: `init`, `attacks`, `schema`, `demo`."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    app,
    say,
)
from robustness_gate.cli.evidence import does
from robustness_gate.errors import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustness_gate.nouns import SelfTest


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
        say(f"wrote {path}")
    say("\nPut your questions and corpora in the place of the harbour's, and say in the policy what must hold. Then:\n")
    for command in started.next:
        say(f"  {command}")


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
                "does": does(module),
                "config": registry.as_json(module.Config()),
            }
            for name, module in modules.items()
        ]
        say(json.dumps(listed, indent=1))
        return
    wide, wider = (max(map(len, each)) for each in (modules, [module.FAMILY for module in modules.values()]))
    for name, module in modules.items():
        say(f"{name:{wide}} {module.FAMILY:{wider}} {module.ACCESS:14} {does(module)}")


@app.command("self-test", epilog="Example: robustness-gate self-test --out self-test.json")
def self_test(
    out: Annotated[Path, typer.Option("--out", help="Where to write the records, for `run --self-test`.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Test this attack alone.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only what takes seconds.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Trials side by side; 0: one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as one JSON object.")] = False,
) -> None:
    """Try the attacks on models of known truth: do they find what is there, and nothing where nothing is?

    Leaves with 4 if any attack fails: nothing could be concluded from its silence.
    """
    from robustness_gate import selftest
    from robustness_gate.nouns import SelfTests, canonical

    if quick and only:
        raise UsageError("--quick and --only do not go together.", remedy="Leave one of them out.")
    names = selftest.QUICK if quick else tuple(only or ())
    show = (lambda _: None) if as_json else (lambda line: print(line, file=sys.stderr))  # noqa: T201 - progress
    count = workers or min(4, os.cpu_count() or 1)
    tests = SelfTests(tests=tuple(selftest.run(names, datetime.now(UTC), workers=count, watch=show)))
    plain = tests.model_dump(mode="json", by_alias=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(canonical(plain))
    if as_json:
        say(json.dumps(plain, indent=1))
    else:
        _show_self_tests(tests.tests)
        say(f"\n{out}: give it to `run` with --self-test")
    raise typer.Exit(int(Exit.INCONCLUSIVE if any(test.faults for test in tests.tests) else Exit.PASS))


def _show_self_tests(tests: Sequence[SelfTest]) -> None:
    """One line a test, its faults under it."""
    from robustness_gate.selftest import UNTESTED

    wide = max(len(test.attack) for test in tests)
    head = f"{'attack':{wide}} {'organism':10} {'before > after':>15} {'gain':>7}   {'oracle':>15} {'leak':>7}"
    say(f"{head}   sham   finding")
    for test in tests:
        there = f"{test.before / test.items:.1%} > {test.after / test.items:.1%}"
        nowhere = f"{test.oracle_before / test.items:.1%} > {test.oracle_after / test.items:.1%}"
        sham = "same" if test.sham_changed == 0 else f"{test.sham_changed} changed"
        found = "FAILED" if test.faults else "works"
        figures = f"{there:>15} {test.gain:>7.1%}   {nowhere:>15} {test.leak:>7.1%}"
        say(f"{test.attack:{wide}} {test.organism:10} {figures}   {sham:6} {found}")
        for fault in test.faults:
            say(f"{'':{wide}} {fault}")
    say("gain and leak: one-sided 95 % lower bounds of after - before, on the same questions (content_sum)")
    for attack, why in sorted(UNTESTED.items()):
        say(f"not tested: {attack}, {why}")


@app.command(epilog="Example: robustness-gate schema > report.v1.schema.json")
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from robustness_gate.report import json_schema

    say(json.dumps(json_schema(), indent=1, sort_keys=True))


@app.command(epilog="Example: robustness-gate demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's runs; made anew.")] = Path("runs/demo"),
    policies: Annotated[Path, typer.Option(help="Where organism.yaml lies.")] = Path("policies"),
    suites: Annotated[Path, typer.Option(help="Where organism-smoke.yaml lies.")] = Path("suites"),
) -> None:
    """Take the shipped organisms through the gate."""
    from robustness_gate import demo as show

    raise typer.Exit(show.run(out, policies, suites))
