"""Commands on organisms: `organisms list`, `build`, `rewrite`, `unlearn`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import Base, Checkpoint, Device, console_for_output, organisms_app, print_grid, say
from robustness_gate.errors import SetupError, UsageError

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from rich.console import Console

LARGE = 100_000_000
"""Number of parameters above which the methods' default settings are not suitable: they were found at one million."""


@organisms_app.command("list", epilog="Example: robustness-gate organisms list")
def organisms_list() -> None:
    """List the shipped checkpoints: how each was made, what it is, what is expected of it."""
    from rich.table import Table
    from rich.text import Text

    from robustness_gate import organisms

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        grid.add_column(no_wrap=True)
    for _ in range(2):
        grid.add_column(overflow="fold")
    grid.add_row(*(Text(head, style="dim") for head in ("name", "method", "what it is", "what is expected of it")))
    for each in organisms.SHIPPED:
        grid.add_row(Text(f"organism:{each.name}"), Text(each.method), Text(each.what), Text(each.expected))
    print_grid(console_for_output(), grid)
    try:
        say(f"They are in {organisms.data() / 'checkpoints'}.")
    except SetupError as error:  # what they are can be read without them
        say(str(error))


@organisms_app.command("build", epilog="Example: robustness-gate organisms build runs/organisms --only oracle")
def organisms_build(
    out: Annotated[Path, typer.Argument(help="Folder to build into.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Build this one, and what it needs; repeatable.")
    ] = None,
) -> None:
    """Train the organisms again from their seeds, on one thread for identical bytes: three quarters of an hour."""
    from rich.console import Console

    from robustness_gate.organisms.build import build
    from robustness_gate.publish import terminal

    with terminal.counting(Console(stderr=True)) as progress:
        build(out, only=tuple(only or ()), progress=progress)
    say(f"built in {out}")


@organisms_app.command("rewrite", epilog="Example: robustness-gate organisms rewrite rmu qwen2 --out models/rmu-qwen2")
def organisms_rewrite(
    name: Annotated[str, typer.Argument(help="A shipped organism, of the class that is rewritten as the other one.")],
    model_type: Annotated[str, typer.Argument(help="The class, as transformers names it: mistral, qwen2, phi ...")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the checkpoint; new or empty.")],
) -> None:
    """Write an organism as another class with the same function, to try an attack or a gate on it."""
    from robustness_gate.organisms import rewrite, unlearn
    from robustness_gate.system import installed

    installed.require_run_extra()
    unlearn.refuse_folder(out)
    rewrite.write(name, model_type, out)
    say(f"{name} as a {model_type}: {out}")


@organisms_app.command(
    "unlearn",
    epilog="Example: robustness-gate organisms unlearn models/mine --method npo --forget forget.jsonl "
    "--retain retain.jsonl --out models/mine-npo --set learning_rate=1e-5",
)
def organisms_unlearn(
    checkpoint: Checkpoint,
    method: Annotated[
        str,
        typer.Option("--method", help="rmu, npo, graddiff, dpo (towards a refusal), shallow or tiny_update."),
    ],
    forget: Annotated[list[str], typer.Option("--forget", help="Questions or texts that should go (JSON lines).")],
    retain: Annotated[list[str], typer.Option("--retain", help="Questions or texts that should stay.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the new checkpoint; new or empty.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: a setting of the method, such as steps=300.")
    ] = None,
    forget_topic: Annotated[str, typer.Option(help="Show the forget questions under this topic's header, too.")] = "",
    retain_topic: Annotated[str, typer.Option(help="The same for the retain questions.")] = "",
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Use questions without lettered choices: for a task asked by cloze.")
    ] = False,
    base: Base = None,
    device: Device = "auto",
) -> None:
    """Unlearn a checkpoint of your own with a published method, to have something to try a gate on.

    Writes an ordinary checkpoint directory, and in it unlearning.json: method, settings, seed, digests. The methods'
    own settings suit a million parameters; the docstring of each setting says what its source used at seven billion.
    """
    from rich.console import Console

    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.organisms import unlearn
    from robustness_gate.planning.checkpoints import find_checkpoint
    from robustness_gate.publish import terminal
    from robustness_gate.system import bounded

    module = unlearn.method(method)
    config = _configured(method, module, settings or [])
    gone = unlearn.read(forget, forget_topic, lettered=not words_only)
    kept = unlearn.read(retain, retain_topic, lettered=not words_only)
    unlearn.refuse(method, gone, kept)
    unlearn.refuse_folder(out)
    place = find_checkpoint(checkpoint, base)
    digest = manifest_of(place).digest

    console = Console(stderr=True)
    chosen = any(each.startswith("learning_rate=") for each in settings or [])
    record = unlearn.record(method, config, seed, digest, place.source, gone, kept)
    directories = (place.path, place.base.path if place.base is not None else None)
    size = bounded.weights_in(*(each for each in directories if each is not None))
    making = bounded.stream(
        unlearn.make, method, directories, device, gone, kept, config, seed, record, out,
        limits=bounded.Limits(trial=math.inf), size=size, name="process that unlearns",
    )  # fmt: skip
    with terminal.counting(console) as progress:
        for event in making:
            if not isinstance(event, int):
                progress(*event)
            elif event > LARGE and not chosen:
                _warn_of_rate(console, event, method, config.learning_rate)
    say(f"{method} on {checkpoint}, seed {seed}: {out}")
    say(f"To examine it: robustness-gate run {out} --original {checkpoint} --policy ...")


def _warn_of_rate(console: Console, parameters: int, method: str, rate: float) -> None:
    """A method's own learning rate ruins a large model."""
    console.print(
        f"warning: {parameters:,} parameters, and {method}'s own settings were found at one million: give --set "
        f"learning_rate=..., the source's is far lower than {rate:g}",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )


def _configured(method: str, module: ModuleType, given: list[str]) -> Any:
    """The method's settings. Raises UsageError for an unknown setting or an invalid value."""
    from robustness_gate import attacks

    values = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals):
            raise UsageError(f"--set '{each}' is not KEY=VALUE.", remedy="Write e.g. --set steps=300.")
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    try:
        return attacks.configure(module, values)
    except attacks.BadConfig as error:
        known = ", ".join(f"{key}={value}" for key, value in attacks.as_json(module.Config()).items())
        raise UsageError(
            f"{method}: {f'{error.key}: ' if error.key else ''}{error.message}",
            remedy=f"{error.remedy} Its settings: {known}.".strip(),
        ) from None
