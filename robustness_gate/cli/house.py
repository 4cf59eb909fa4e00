"""The other verbs: `init`, `attacks`, `schema`, `organisms`, `demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    app,
    organisms_app,
    say,
)
from robustness_gate.cli.evidence import does

if TYPE_CHECKING:
    pass


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
    for name, module in modules.items():
        say(f"{name:12} {module.FAMILY:12} {module.ACCESS:14} {does(module)}")


@app.command(epilog="Example: robustness-gate schema > report.v1.schema.json")
def schema() -> None:
    """Print the JSON Schema of report.json."""
    from robustness_gate.report import json_schema

    say(json.dumps(json_schema(), indent=1, sort_keys=True))


@organisms_app.command("list", epilog="Example: robustness-gate organisms list")
def organisms_list() -> None:
    """Name the shipped checkpoints and where they lie."""
    from robustness_gate import organisms

    for name in organisms.NAMES:
        say(f"organism:{name:12} {organisms.checkpoint(name)}")


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
    say(f"built in {out}")


@app.command(epilog="Example: robustness-gate demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the demo's runs; made anew.")] = Path("runs/demo"),
    policies: Annotated[Path, typer.Option(help="Where organism.yaml lies.")] = Path("policies"),
    suites: Annotated[Path, typer.Option(help="Where organism-smoke.yaml lies.")] = Path("suites"),
) -> None:
    """Take the shipped organisms through the gate."""
    from robustness_gate import demo as show

    raise typer.Exit(show.run(out, policies, suites))
