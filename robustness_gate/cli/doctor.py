"""Commands on a checkpoint's files: `doctor` and `checkpoint copy`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    Base,
    Checkpoint,
    Device,
    LoadTimeout,
    Original,
    TextTimeout,
    app,
    checkpoint_app,
    console_for_output,
    limits_of,
    print_grid,
    say,
    say_json,
)
from robustness_gate.errors import Exit, UsageError
from robustness_gate.inputs.shipped import POLICY, SUITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from robustness_gate.assurance.doctor import Check

SuiteToTry = Annotated[
    Path | None,
    typer.Option(
        "--suite", parser=SUITE.find, metavar="FILE|NAME", help="Try this suite's attacks, not all there are."
    ),
]
PolicyToMeet = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        parser=POLICY.find,
        metavar="FILE|NAME",
        help="With --suite: also say whether a PASS is possible under this policy.",
    ),
]


@app.command(epilog="Example: robustness-gate doctor models/mine --suite gate/suite.yaml")
def doctor(
    checkpoint: Checkpoint,
    device: Device = "auto",
    suite: SuiteToTry = None,
    policy: PolicyToMeet = None,
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
    from robustness_gate.assurance import doctor as practice
    from robustness_gate.assurance.doctor import wording

    if policy is not None and suite is None:
        raise UsageError("--policy goes with --suite.", remedy="Name the suite whose settings the policy requires.")
    with _looking(quiet=quiet) as step:
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


@contextlib.contextmanager
def _looking(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows what is looked at, on a terminal only."""
    from rich.console import Console

    errors = Console(stderr=True)
    if quiet or not errors.is_terminal:
        yield lambda _: None
        return
    with errors.status("looking", spinner="dots") as status:
        yield status.update


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
