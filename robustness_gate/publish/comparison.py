"""The comparison of two reports, for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustness_gate.publish.terminal import COLOURS
from robustness_gate.report.compare import Alone, Comparison, Line, Side, Unlike
from robustness_gate.report.table import NOT_ASKED

UNLIKE: dict[Unlike, str] = {
    "attack_version": "other attack version",
    "config": "other config",
    "data": "other data",
    "dtype": "other dtype",
    "questions": "other questions",
    "a_not_asked": f"A's {NOT_ASKED}",
    "b_not_asked": f"B's {NOT_ASKED}",
}
"""The text for each reason why two trials are not alike."""


def show(found: Comparison, console: Console) -> None:
    """Print the sentence, both sides, the table of accuracies, the trials of only one report, and the caveats."""
    console.print(Text(found.sentence, style="bold"), soft_wrap=True)
    console.print()
    for name, side in (("A", found.a), ("B", found.b)):
        _show_side(console, name, side)
    console.print()
    if found.lines:
        for line in _drawn(console, found.lines):
            console.print(line, soft_wrap=True)
    else:
        console.print("no attack was examined in both", style="yellow")
    for name, alone in (("A", found.only_a), ("B", found.only_b)):
        for each in alone:
            console.print(f"only in {name}: {_alone(each)}", style="yellow", markup=False, soft_wrap=True)
    for caveat in found.caveats:
        console.print(f"note: {caveat}", style="dim", markup=False, soft_wrap=True)


def _show_side(console: Console, name: str, side: Side) -> None:
    console.print(Text(f"{name}: {side.outcome}: {side.reason}", style=COLOURS[side.outcome]), soft_wrap=True)
    about = f"   checkpoint {side.checkpoint[:12]}, policy {side.policy}, suite {side.suite}, judged at {side.at}"
    console.print(Text(about, style="dim"), soft_wrap=True)


def _drawn(console: Console, lines: Sequence[Line]) -> list[Text]:
    """The table, without the spaces with which rich fills its last column."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("attack", "left"),
        ("budget", "right"),
        ("task", "left"),
        ("metric", "left"),
        ("A", "right"),
        ("B", "right"),
        ("B - A", "right"),
        ("95 % interval", "right"),
        ("beyond chance", "left"),
    ):
        grid.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for line in lines:
        seed = f", seed {line.seed_index}" if line.seed_index else ""
        paired = line.lower is not None and line.upper is not None
        word = ("more" if line.difference > 0 else "less") if line.beyond_chance else ""
        grid.add_row(
            Text(f"{line.attack}{seed}"),
            str(line.budget) if line.budget else "-",
            Text(line.task),
            line.metric,
            f"{100 * line.a:.1f}",
            f"{100 * line.b:.1f}",
            f"{100 * line.difference:+.1f}",
            f"{100 * (line.lower or 0):+.1f} to {100 * (line.upper or 0):+.1f}" if paired else "not paired",
            Text(
                ", ".join(filter(None, (word, *map(UNLIKE.__getitem__, line.unlike)))),
                style="bold" if line.beyond_chance else "",
            ),
        )
    with console.capture() as drawn:
        console.print(grid)
    return [Text.from_ansi(line.rstrip()) for line in drawn.get().splitlines()]


def _alone(each: Alone) -> str:
    seed = f", seed {each.seed_index}" if each.seed_index else ""
    budget = f" at {', '.join(map(str, each.budgets))}" if each.budgets != (0,) else ""
    return f"{each.attack}{seed}{budget} ({each.why} in the other)"
