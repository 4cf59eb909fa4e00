"""The other commands: `init`, `attack`, `attacks`, `self-test`, `schema`, `demo`."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from robustness_gate.errors import Exit, FileError, UsageError
from robustness_gate.inputs.shipped import POLICY, SUITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustness_gate.records.evidence import SelfTest
    from robustness_gate.records.policy import Policy


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

    The file is imported: run this only on your own code. Exits with 4 if a rule of the contract is broken.
    """
    from robustness_gate.assurance import try_attack

    settings = {name: _json_or_text(value) for name, value in pairs(given, "--set", "budgets=[5]")}
    progress = lambda line: print(line, file=sys.stderr)  # noqa: E731, T201
    tried = try_attack.attempt(try_attack.file_of(file), organism, settings, seed, progress)
    for law in tried.laws:
        say(f"{'BROKEN' if law.fault else 'ok':8}{law.title}{f': {law.fault}' if law.fault else ''}")
    wide = max((len(bite.organism) for bite in tried.bites), default=0)
    for bite in tried.bites:
        there = f"{bite.before / bite.items:.1%} > {bite.after / bite.items:.1%}"
        bound = f"gain at least {bite.gain:.1%} (95 %)"
        say(f"{bite.organism:{wide}} {there:>16} of {bite.items} questions, {bound}")
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
        say(f"{name:{wide}} {module.FAMILY:{wider}} {module.ACCESS:14} {needs:16} {does(module)}")
        for what in ("Cost", "Source"):
            say(f"{'':{wide}} {what.lower()}: {registry.docstring_part(module, what)}")


@app.command("self-test", epilog="Example: robustness-gate self-test --out self-test.json")
def self_test(
    out: Annotated[Path, typer.Option("--out", help="Where to write the records, for `run --self-test`.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Test this attack alone.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the attacks that take seconds each.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Every attack that has an organism; this is the default.")
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy",
            parser=POLICY.find,
            metavar="FILE|NAME",
            help="Exactly what this policy requires, a case for each requirement.",
        ),
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite",
            parser=SUITE.find,
            metavar="FILE|NAME",
            help="With --policy: whose settings it requires; else the attacks' defaults.",
        ),
    ] = None,
    if_needed: Annotated[
        bool,
        typer.Option(
            "--if-needed", help="Nothing, where --policy asks for no self-test or --out holds one that still counts."
        ),
    ] = False,
    model_type: Annotated[
        str | None,
        typer.Option("--model-type", help="On organisms of this architecture: llama (the default) or gpt_neox."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="On organisms of this checkpoint's architecture.")
    ] = None,
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
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import bench
    from robustness_gate.policy_language import load_policy
    from robustness_gate.records.encode import encode
    from robustness_gate.records.evidence import SelfTests
    from robustness_gate.system import writing
    from robustness_gate.verdict import faults
    from robustness_gate.verdict.hypotheses import label_of

    if sum((quick, every, bool(only), policy is not None)) > 1:
        raise UsageError("--quick, --all, --only and --policy do not go together.", remedy="Give one of them, or none.")
    for name in ("--if-needed",) * if_needed + ("--suite",) * (suite is not None):
        if policy is None:
            raise UsageError(f"{name} goes with --policy.", remedy="Name the policy that requires the attacks.")
    at = datetime.now(UTC)
    with writing.nothing_empty(out.parent), writing.as_write_error(out):  # now rather than after minutes
        writing.refuse_what_is_no_file(out)
        writing.try_out(out.parent)
    loaded = load_policy(policy) if policy is not None else None
    named = load_suite(suite) if suite is not None else None
    if if_needed and loaded is not None and not _asks(loaded.noun):
        print("nothing was tested: the policy asks for no self-test", file=sys.stderr)  # noqa: T201 - no output
        return
    kind = _architecture(model_type, checkpoint, base)
    if loaded is not None:
        tried = bench.required_by(loaded, named, self_test.data().pool(), kind)
    else:
        tried = bench.by_name(bench.QUICK if quick else tuple(only or ()), kind, quick=quick)
    if if_needed and loaded is not None and self_test.still_count(_known(out), loaded, named, at, kind):
        print(f"nothing was tested: {out} still counts", file=sys.stderr)  # noqa: T201 - no output
        return
    show = (lambda _: None) if as_json else (lambda line: print(line, file=sys.stderr))  # noqa: T201 - progress
    count = workers or min(4, os.cpu_count() or 1)
    limits = limits_of(trial_timeout)
    fresh = self_test.run(tried, at, model_type=kind, seeds=seeds, workers=count, limits=limits, watch=show)
    failing = self_test.still_failing(_known(out), fresh)
    tests = SelfTests(tests=(*fresh, *failing))
    writing.whole(out, encode(tests))
    if as_json:
        say_json(tests)
    else:
        _show_self_tests(fresh)
        for test in failing:
            stays = f"seed {test.seed} failed on {test.at} and was not tested again: it counts until it passes"
            say(f"{label_of(test.attack, test.config)}, {stays}")
        say(f"\n{out}: give it to `run` with --self-test")
    raise typer.Exit(int(Exit.INCONCLUSIVE if any(faults(test, tests.tests) for test in tests.tests) else Exit.PASS))


def _architecture(model_type: str | None, checkpoint: str | None, base: str | None) -> str:
    """The architecture of the test models: the named one, else the checkpoint's, else `llama`."""
    if checkpoint is None:
        if base is not None:
            raise UsageError("--base goes with --checkpoint.", remedy="Name the adapter that stands on it.")
        return model_type or "llama"
    if model_type is not None:
        raise UsageError("--model-type and --checkpoint do not go together.", remedy="Give one of them, or none.")
    from robustness_gate import gate
    from robustness_gate.inputs.checkpoint.place import model_type as named_in

    found = named_in(gate.find_checkpoint(checkpoint, base))
    if not found:
        raise UsageError(
            f"the architecture of '{checkpoint}' is not known.", remedy="Its config.json must name a 'model_type'."
        )
    return found


def _asks(policy: Policy) -> bool:
    return policy.validity.self_test != "off" and any(each.attack != "none" for each in policy.required)


def _known(out: Path) -> Sequence[SelfTest]:
    """The records of an earlier self-test, if there are any."""
    from robustness_gate.inputs.validation import load_noun
    from robustness_gate.records.evidence import SelfTests

    try:
        return load_noun(out, SelfTests).noun.tests
    except FileError:  # no file, or an older format
        return ()


def _show_self_tests(tests: Sequence[SelfTest]) -> None:
    """Print one line per test, with its faults below."""
    from robustness_gate.planning.bench import BENCHES
    from robustness_gate.verdict import wording
    from robustness_gate.verdict.hypotheses import label_of
    from robustness_gate.verdict.selftests import GAIN

    bench = BENCHES[tests[0].model_type]
    names = [label_of(test.attack, test.config) + (f" at {test.budget}" if test.budget > 0 else "") for test in tests]
    wide, where = max(map(len, names)), max(len(test.organism) for test in tests)
    several = any(test.seed for test in tests)
    controls = "   ".join(f"{each.organism:>15} {'leak':>7}" for each in tests[0].negative_controls)
    head = f"{'attack':{wide}} {'seed ' if several else ''}{'organism':{where}}"
    say(f"{head} {'before > after':>15} {'gain':>7}  {'asked':15}   {controls}   sham   finding")
    for name, test in zip(names, tests, strict=True):
        there = f"{test.before / test.items:.1%} > {test.after / test.items:.1%}"
        leaks = "   ".join(
            f"{f'{each.before / test.items:.1%} > {each.after / test.items:.1%}':>15} {each.leak:>7.1%}"
            for each in test.negative_controls
        )
        sham = "same" if test.sham_changed == 0 else f"{test.sham_changed} changed"
        found = "FAILED" if test.faults else "works"
        asked = f"{GAIN:.0%}, {test.share:.0%} of gap" if test.share else f"{GAIN:.0%}"
        figures = f"{there:>15} {test.gain:>7.1%}  {asked:15}   {leaks}"
        seed = f"{test.seed:<5}" if several else ""
        say(f"{name:{wide}} {seed}{test.organism:{where}} {figures}   {sham:6} {found}")
        if test.extended:
            changed = (f"{key} {test.config[key]} for {value}" for key, value in sorted(test.extended.items()))
            say(f"{'':{wide}} to suit so small a model: {'; '.join(changed)}")
        for fault in test.faults:
            say(f"{'':{wide}} {wording.sentence(fault)}")
    say("gain and leak: one-sided 95 % lower bounds of after - before, on the same questions, in the deciding metric")
    say("asked: at least this gain, and after - before at least this share of the gap between original and candidate")
    for attack, why in sorted(bench.untested.items()):
        say(f"not tested: {attack}, {why}")


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
