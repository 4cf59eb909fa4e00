"""Commands on suites: `suites pin | check-pins`. Both ask the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustness_gate.cli.common import AsJson, say, say_json, suites_app
from robustness_gate.errors import Exit
from robustness_gate.inputs.shipped import SUITE


@suites_app.command("pin", epilog="Example: robustness-gate suites pin wmdp-standard --out gate/suite.yaml")
def suites_pin(
    suite: Annotated[
        Path, typer.Argument(parser=SUITE.find, metavar="SUITE", help="The suite, or the name of a shipped one.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Write the pinned suite here; else it is printed.")] = None,
) -> None:
    """Fill in what a suite does not know yet: commits, counts and days that say UNPINNED.

    A commit is that of the dataset's branch main now, and its data are read to count them. Look at the data before you
    judge a model by them. Exit codes: 0 written, 2 the suite is wrong, or the hub does not give something.
    """
    from datetime import UTC, datetime

    from robustness_gate.planning.pins import pinned
    from robustness_gate.system.writing import whole

    text = pinned(suite, datetime.now(UTC).date())
    if out is None:
        print(text, end="")  # noqa: T201 - the YAML ends its own last line
    else:
        whole(out, text.encode())
        say(f"{out}: pinned")


@suites_app.command("check-pins", epilog="Example: robustness-gate suites check-pins")
def suites_check_pins(
    suites: Annotated[
        list[Path] | None,
        typer.Argument(parser=SUITE.find, metavar="[SUITE]...", help="Suites; else every shipped one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the hub for every commit of a dataset that suites name.

    A field that is not pinned yet is listed and is no mistake. Exit codes: 0 the hub has every commit, 2 it does not
    give one of them (it may also be out of reach), or a suite is wrong.
    """
    from robustness_gate.planning.pins import commits, with_their_commits

    read, lacking = with_their_commits(suites or [SUITE.named(name) for name in SUITE.names()])
    found = list(commits(read))
    if as_json:
        say_json({"commits": found, "unpinned": lacking})
    else:
        for each in found:
            day = f"last checked {each.checked}" if each.checked not in ("", "never") else "never checked before"
            state = "ok      " if not each.fault else "NOT THERE"
            say(f"{state} {each.dataset}@{each.commit} ({day}; {', '.join(each.suites)})")
            if each.fault:
                say(f"    {each.fault}")
        for path, names in lacking.items():
            say(f"unpinned {path}: {', '.join(names)}")
    if any(each.fault for each in found):
        raise typer.Exit(int(Exit.USAGE))
