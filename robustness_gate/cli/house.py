"""The other commands: `init`, `attack`, `attacks`, `self-test`, `schema`, `demo`."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from robustness_gate.cli.common import (
    Base,
    TrialTimeout,
    app,
    attack_app,
    limits_of,
    pairs,
    say,
    say_json,
)
from robustness_gate.cli.evidence import does
from robustness_gate.errors import Exit
from robustness_gate.inputs.shipped import POLICY, SUITE


@app.command(epilog="Example: robustness-gate init .")
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="The root of your repository.")] = Path(),
) -> None:
    """Write a first policy, suite and workflow as templates.

    They go to DIR/gate and DIR/.github/workflows. Nothing is ever overwritten.
    """
    from robustness_gate import starter

    started = starter.write(folder)
    for path in started.files:
        say(f"wrote {path}")
    say("\nReplace the harbour's questions and corpora with yours, and set your limits in the policy. Then:\n")
    for command in started.next:
        say(f"  {command}")


@attack_app.command("new", epilog="Example: robustness-gate attack new hint --to hint")
def attack_new(
    name: Annotated[str, typer.Argument(help="Of the attack: lower-case letters, digits and '_'.")],
    to: Annotated[Path | None, typer.Option("--to", help="The distribution's folder; by default ./NAME.")] = None,
) -> None:
    """Write a distribution with a working attack as a template, its entry point and its contract test.

    Nothing is ever overwritten.
    """
    from robustness_gate import starter

    started = starter.write_attack(name, to or Path(name))
    for path in started.files:
        say(f"wrote {path}")
    say("\nThen:\n")
    for command in started.next:
        say(f"  {command}")


@attack_app.command("try", epilog="Example: robustness-gate attack try my_attack.py --organism rmu --set steps=20")
def attack_try(
    file: Annotated[Path, typer.Argument(help="The attack: one Python file, or an installed DISTRIBUTION/NAME.")],
    organism: Annotated[
        str, typer.Option("--organism", help="Where it should recover knowledge; `organisms list` names them.")
    ] = "rmu",
    given: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of a setting, the value in JSON; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the attack.")] = 1,
) -> None:
    """Check a new attack against the contract of every attack, and measure what it recovers.

    The file is imported: run this only on your own code. Exits with 4 if a rule of the contract is broken, and with 0
    otherwise, also where a self-test would fail: the last line says what a self-test asks and whether it is reached.
    """
    from robustness_gate.assurance import try_attack

    settings = {name: _json_or_text(value) for name, value in pairs(given, "--set", "budgets=[5]")}
    progress = lambda line: print(line, file=sys.stderr)  # noqa: E731, T201
    tried = try_attack.attempt(file, organism, settings, seed, progress)
    for law in tried.laws:
        say(f"{'BROKEN' if law.fault else 'ok':8}{law.title}{f': {law.fault}' if law.fault else ''}")
    wide = max((len(effect.organism) for effect in tried.effects), default=0)
    for effect in tried.effects:
        there = f"{effect.before / effect.items:.1%} > {effect.after / effect.items:.1%}"
        bound = f"gain at least {effect.gain:.1%} (95 %)"
        say(f"{effect.organism:{wide}} {there:>16} of {effect.items} questions, {bound}")
    if tried.self_test:
        say(tried.self_test)
    raise typer.Exit(int(Exit.PASS if tried.sound else Exit.INCONCLUSIVE))


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@app.command(epilog="Example: robustness-gate attacks relearn")
def attacks(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print all about one of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them with the defaults of their settings.")] = False,
) -> None:
    """List the attacks: name, family, access, needs, description, cost and source; or print one in full."""
    from robustness_gate import attacks as registry

    if name is not None and not as_json:
        module = registry.load(name)
        say((module.__doc__ or "").strip())
        say(f"\nfamily {module.FAMILY}, access {module.ACCESS}, version {module.VERSION}; settings and their defaults:")
        for key, value in registry.as_json(module.Config()).items():
            say(f"  {key}: {json.dumps(value)}")
        return
    modules = {each: registry.load(each) for each in ([name] if name else registry.names())}
    if as_json:
        listed = [
            {
                "name": name,
                "family": module.FAMILY,
                "access": module.ACCESS,
                "version": module.VERSION,
                "needs": sorted(getattr(module, "NEEDS", ())),
                "does": does(module),
                "cost": registry.docstring_part(module, "Cost"),
                "source": registry.docstring_part(module, "Source"),
                "config": registry.as_json(module.Config()),
            }
            for name, module in modules.items()
        ]
        say_json(listed)
        return
    wide, wider = (max(map(len, each)) for each in (modules, [module.FAMILY for module in modules.values()]))
    for name, module in modules.items():
        needs = ", ".join(sorted(getattr(module, "NEEDS", ()))) or "-"
        say(f"{name:{wide}} {module.FAMILY:{wider}} {module.ACCESS:14} {needs:16} {does(module)}".rstrip())
        for what in ("Cost", "Source"):
            if text := registry.docstring_part(module, what):
                say(f"{'':{wide}} {what.lower()}: {text}")


OnlyThese = Annotated[
    list[str] | None, typer.Option("--only", help="Test only this attack, in every kind; repeatable.")
]
Every = Annotated[
    bool,
    typer.Option("--all", help="Every shipped attack with an organism, in its default kinds; this is the default."),
]
RequiringPolicy = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        parser=POLICY.find,
        metavar="FILE|NAME",
        help="Exactly what this policy requires, a case for each requirement.",
    ),
]
SettingSuite = Annotated[
    Path | None,
    typer.Option(
        "--suite",
        parser=SUITE.find,
        metavar="FILE|NAME",
        help="With --policy: whose settings it requires; else the attacks' defaults.",
    ),
]
IfNeeded = Annotated[
    bool,
    typer.Option(
        "--if-needed", help="Nothing, where --policy asks for no self-test or --out holds one that still counts."
    ),
]
ModelType = Annotated[
    str | None,
    typer.Option("--model-type", help="On organisms of this architecture, as transformers names it; by default llama."),
]
SameArchitecture = Annotated[
    str | None, typer.Option("--checkpoint", help="On organisms of this checkpoint's architecture.")
]


@app.command("self-test", epilog="Example: robustness-gate self-test --out self-test.json")
def self_test(
    out: Annotated[Path, typer.Option("--out", help="Where to write the records, for `run --self-test`.")],
    only: OnlyThese = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the attacks that take seconds each.")] = False,
    every: Every = False,
    policy: RequiringPolicy = None,
    suite: SettingSuite = None,
    if_needed: IfNeeded = False,
    model_type: ModelType = None,
    checkpoint: SameArchitecture = None,
    base: Base = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each attack; each must pass by itself.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Trials side by side; 0: one a core.")] = 0,
    trial_timeout: TrialTimeout = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as one JSON object.")] = False,
) -> None:
    """Test the attacks on models of known truth: do they recover knowledge that is there, and none where there is none?

    Exits with 4 if an attack fails: its negative results would mean nothing. A seed that failed before and is not
    tested again stays in --out.
    """
    from robustness_gate.assurance import self_test
    from robustness_gate.cli import self_testing
    from robustness_gate.inputs import imported
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.policy_language import load_policy
    from robustness_gate.records.encode import encode
    from robustness_gate.records.evidence import SelfTests
    from robustness_gate.system import writing
    from robustness_gate.verdict import faults

    self_testing.refuse_clashes(
        quick=quick, every=every, only=bool(only), policy=policy is not None, suite=suite is not None,
        if_needed=if_needed,
    )  # fmt: skip
    at = datetime.now(UTC)
    self_testing.try_out(out)
    loaded = load_policy(policy) if policy is not None else None
    named = load_suite(suite) if suite is not None else None
    if if_needed and loaded is not None and not self_testing.asks(loaded.record):
        print("nothing was tested: the policy asks for no self-test", file=sys.stderr)  # noqa: T201 - no output
        return
    kind = self_testing.architecture(model_type, checkpoint, base)
    tried = self_testing.cases(loaded, named, only or (), kind, quick=quick)
    known = self_testing.known
    if if_needed and loaded is not None and self_test.still_count(known(out), loaded, named, at, kind):
        print(f"nothing was tested: {out} still counts", file=sys.stderr)  # noqa: T201 - no output
        return
    show = (lambda _: None) if as_json else (lambda line: print(line, file=sys.stderr))  # noqa: T201 - progress
    count, limits = workers or min(4, os.cpu_count() or 1), limits_of(trial_timeout)
    with imported.as_errors():  # before anything is written
        fresh = self_test.run(tried, at, model_type=kind, seeds=seeds, workers=count, limits=limits, watch=show)
    failing = self_test.still_failing(known(out), fresh)
    tests = SelfTests(tests=(*fresh, *failing))
    writing.whole(out, encode(tests))
    if as_json:
        say_json(tests)
    else:
        self_testing.show(fresh, failing, out)
    raise typer.Exit(int(Exit.INCONCLUSIVE if any(faults(test, tests.tests) for test in tests.tests) else Exit.PASS))


@app.command(epilog="Example: robustness-gate schema > report.v1.schema.json")
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from robustness_gate.report.record import json_schema

    say_json(json_schema(), in_order=True)


@app.command(epilog="Example: robustness-gate demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's runs; made anew.")] = Path("runs/demo"),
) -> None:
    """Take the shipped organisms through the gate."""
    from robustness_gate import demo as show

    raise typer.Exit(show.run(out))
