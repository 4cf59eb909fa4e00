"""Shared by all commands: the command tree, common options, and output functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from robustness_gate import __version__
from robustness_gate.cli import verbs
from robustness_gate.errors import UsageError
from robustness_gate.inputs import imported
from robustness_gate.inputs.shipped import BUNDLE, KEY, POLICY, SUITE
from robustness_gate.system.bounded import Limits
from robustness_gate.system.durations import seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from robustness_gate.attestation.trust import Trusted


class _Verbs(TyperGroup):
    """The commands, imported when they are asked for. No plug-in that a command uses decides its exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's own arguments
        """All verbs, in the order of the help, which shows a line of each."""
        self._have(verbs.ALL)
        return [*verbs.MODULES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a verb. Of an unknown one all are imported: the error names those that may be meant."""
        self._have(verbs.MODULES.get(cmd_name, verbs.ALL))
        return super().get_command(ctx, cmd_name)

    def _have(self, modules: Iterable[str]) -> None:
        """Have the commands of these modules, too."""
        if verbs.imported(modules):
            self.commands = {**vars(typer.main.get_command(app))["commands"]}

    def invoke(self, ctx: Any) -> Any:
        with imported.as_errors():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Attack an unlearned checkpoint and say whether the knowledge stays gone.\n\n"
    "Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify, "
    "130 interrupted.",
)
policy_app = typer.Typer(no_args_is_help=True, help="Look at policies, and preregister them before a run.")
suites_app = typer.Typer(no_args_is_help=True, help="Pin the data sets of suites, and look them up again.")
keys_app = typer.Typer(no_args_is_help=True, help="Make and look at signing keys.")
attack_app = typer.Typer(no_args_is_help=True, help="Write an attack of your own.")
organisms_app = typer.Typer(no_args_is_help=True, help="The shipped tiny models of known truth.")
checkpoint_app = typer.Typer(no_args_is_help=True, help="Make a checkpoint's directory fit to be examined.")
app.add_typer(policy_app, name="policy")
app.add_typer(suites_app, name="suites")
app.add_typer(keys_app, name="keys")
app.add_typer(attack_app, name="attack")
app.add_typer(organisms_app, name="organisms")
app.add_typer(checkpoint_app, name="checkpoint")

Checkpoint = Annotated[str, typer.Argument(help="A Hugging Face directory, hf://OWNER/NAME@COMMIT, or organism:NAME.")]
PolicyFile = Annotated[
    Path, typer.Option("--policy", parser=POLICY.find, metavar="FILE|NAME", help="What must hold (YAML).")
]
SuiteFile = Annotated[
    Path, typer.Option("--suite", parser=SUITE.find, metavar="FILE|NAME", help="What is tried (YAML).")
]
Original = Annotated[str | None, typer.Option("--original", help="The model before unlearning, for comparison.")]
Controls = Annotated[
    list[str] | None, typer.Option("--control", help="NAME=DIR of a model without the knowledge; repeatable.")
]
Base = Annotated[str | None, typer.Option("--base", help="The base of an adapter, if its config does not name it.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Ledgers = Annotated[
    Path | None,
    typer.Option(
        "--ledgers",
        help="Folder of all ledgers; by default $ROBUSTNESS_GATE_LEDGERS, or `ledgers` next to --out.",
    ),
]
Runner = Annotated[
    str, typer.Option("--executor", help="The executor of the trials: a shipped one, or a plug-in's DISTRIBUTION/NAME.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Run only this attack; repeatable. No PASS is then possible.")
]


def _time(text: str) -> float:
    """A duration in seconds. Raises BadParameter, which typer reports as a usage error."""
    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


TrialTimeout = Annotated[
    float | None,
    typer.Option(
        "--trial-timeout",
        parser=_time,
        metavar="TIME|none",
        help="How long a trial may take, without loading: 600, 10m, 2h. By default a day.",
    ),
]
LoadTimeout = Annotated[
    float | None,
    typer.Option(
        "--load-timeout",
        parser=_time,
        metavar="TIME|none",
        help="How long loading a checkpoint may take. By default 10m, and 1 s more for every 10 MB.",
    ),
]
TextTimeout = Annotated[
    float | None,
    typer.Option(
        "--text-timeout",
        parser=_time,
        metavar="TIME|none",
        help="How long the tokenizer or the chat template may take over a text. By default 60.",
    ),
]


def limits_of(trial: float | None = None, load: float | None = None, text: float | None = None) -> Limits:
    """The given limits, with defaults for the others."""
    usual = Limits()
    return Limits(
        trial=usual.trial if trial is None else trial,
        loading=load,
        text=usual.text if text is None else text,
    )


PolicyArgument = Annotated[
    Path, typer.Argument(parser=POLICY.find, metavar="POLICY", help="The policy file, or the name of a shipped one.")
]
HonourDecision = Annotated[
    bool, typer.Option("--honour-decision", help="Leave with 0 where a waiver or an accepted risk releases it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")]
Bundle = Annotated[
    Path,
    typer.Argument(
        parser=BUNDLE.find,
        metavar="BUNDLE",
        help="report.sigstore.json, the folder that holds it, or the name of a shipped example.",
    ),
]
TrustFile = Annotated[Path | None, typer.Option("--trust", help="The keys that you trust (YAML).")]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--public", parser=KEY.find, metavar="FILE", help="Instead of --trust: a public key (PEM); repeatable."
    ),
]
NoSignature = Annotated[
    bool,
    typer.Option("--no-signature", help="Do not check who signed: anyone can have written it, so the exit code is 5."),
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Attack an unlearned checkpoint and say whether the knowledge stays gone."""
    if version:
        say(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())


def pairs(given: list[str] | None, option: str, example: str) -> tuple[tuple[str, str], ...]:
    """The pairs of an option NAME=PLACE. Raises UsageError, with an example, for any other form."""
    found = []
    for each in given or ():
        name, equals, place = each.partition("=")
        if not (name and equals and place):
            raise UsageError(f"{option} '{each}' is not NAME=PLACE.", remedy=f"Write e.g. {option} {example}.")
        found.append((name, place))
    return tuple(found)


def say(text: str) -> None:
    """Print to standard output."""
    print(text)  # noqa: T201 - the one place where commands print


def say_json(value: Any, *, in_order: bool = False) -> None:
    """Print records, dataclasses or plain data as indented JSON; `in_order` sorts the keys."""
    from robustness_gate.records.encode import printed

    say(printed(value, in_order=in_order))


def console_for_output() -> Console:
    """A console on standard output; in a file or a pipe lines are 160 characters wide."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def print_grid(console: Console, grid: Table) -> None:
    """Print a table without the trailing spaces that rich adds."""
    with console.capture() as drawn:
        console.print(grid)
    say("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def trusted_by(trust: Path | None, public: Sequence[Path] | None, no_signature: bool) -> Trusted | None:
    """The trusted keys; None with --no-signature. Raises UsageError unless exactly one of the options is given."""
    from robustness_gate.attestation import keys
    from robustness_gate.attestation.trust import read_trust, trusting

    if sum((trust is not None, bool(public), no_signature)) != 1:
        raise UsageError("say whom you trust.", remedy="Give one of --trust FILE, --public KEY and --no-signature.")
    if trust is not None:
        return read_trust(trust)
    return trusting([keys.public_key(each) for each in public]) if public else None
