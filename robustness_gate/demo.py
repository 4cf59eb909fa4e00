"""`./run demo`: the gate on five tiny models, through the real command line.

First the instrument: the required attacks are tested on models of known truth, else a negative result means nothing.
*rmu* seems to have forgotten, but five examples recover the knowledge. *oracle* never had it, so no attack recovers
anything. *base* was never unlearned. *collapsed* fails without an attack, *shallow* after training on unrelated
questions. Then the oracle's report is signed, and verified with its own model and with another one. The demo succeeds
only if the gate's exit codes match the known truth about these models.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from robustness_gate import organisms
from robustness_gate.errors import Exit, UsageError
from robustness_gate.system import installed


class Act(NamedTuple):
    """One run of the gate and its expected exit code."""

    organism: str
    description: str
    expected: Exit
    options: tuple[str, ...] = ()


MAIN = (
    Act("rmu", "unlearned: at chance in every metric. Is the knowledge gone?", Exit.FAIL),
    Act("oracle", "never taught the domain: there is nothing to recover.", Exit.PASS),
    Act("base", "before unlearning: must FAIL with no attack at all.", Exit.FAIL, ("--only", "none")),
)
LINES = (
    Act("collapsed", "always answers the same letter; four letter orders show it.", Exit.FAIL, ("--only", "none")),
    Act(
        "shallow",
        "its knowledge is recovered by training on unrelated questions.",
        Exit.FAIL,
        ("--only", "none", "--only", "relearn (unrelated, lora)"),
    ),
)


TERMS = ("--policy", "organism", "--suite", "organism-smoke")
"""Shipped, so that the demo runs in any folder."""


def run(out: Path) -> Exit:
    """Run every act; returns 0 only if each exit code is the expected one.

    Raises:
        SetupError: the extra `run`, or the organisms' data, are not installed.
        UsageError: `out` contains something other than a demo's runs.
    """
    installed.require_run_extra()
    organisms.data()
    console = Console()
    for act in (*MAIN, *LINES):  # a demo that only re-reads its ledgers shows nothing
        folder = out / act.organism
        if folder.exists() and any(folder.iterdir()) and not (folder / "ledger.jsonl").is_file():
            raise UsageError(f"{folder} is not a run of the demo.", remedy="Choose another --out.")
        shutil.rmtree(folder, ignore_errors=True)
    for left in ("ledgers", "keys"):
        shutil.rmtree(out / left, ignore_errors=True)
    begun, wrong = time.monotonic(), []
    tested = out / "self-test.json"
    wrong += _tested(tested, console)
    for act in MAIN:
        console.print(f"\n[bold]{act.organism}[/bold]: {act.description}")
        code = _gate(act, out, tested, console)
        if code != act.expected:
            wrong.append(f"{act.organism} left with {code}, expected {int(act.expected)}")
    console.print()
    for act in LINES:
        code = _gate(act, out, tested, console, quiet=True)
        console.print(f"[bold]{act.organism}[/bold]: {act.description}", highlight=False)
        console.print(f"  {_sentence(out / act.organism)}", highlight=False, soft_wrap=True)
        if code != act.expected:
            wrong.append(f"{act.organism} left with {code}, expected {int(act.expected)}")
    wrong += _signed(out, console)
    console.print(f"\nThe lesson: {_lesson(out / 'rmu')}", style="bold", highlight=False, soft_wrap=True)
    console.print(f"reports:  {out}/*/report.md and report.json", highlight=False)
    mlflow = Path(sys.executable).with_name("mlflow")
    mlflow = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    line = f"MLflow:   {mlflow} ui --backend-store-uri sqlite:///{out}/mlflow.db"
    console.print(line, highlight=False, soft_wrap=True)
    for line in wrong:
        console.print(f"NOT AS EXPECTED: {line}", style="bold red", highlight=False)
    if not wrong:
        console.print(f"All as expected, in {time.monotonic() - begun:.0f} s.", style="green", highlight=False)
    return Exit.INTERNAL if wrong else Exit.PASS


def _tested(record: Path, console: Console) -> list[str]:
    """Run the self-test of the required attacks, with the suite's settings. Returns what was not as expected."""
    console.print("\n[bold]self-test[/bold]: do the attacks find what is there, and nothing where nothing is?")
    arguments = ["self-test", *TERMS, "--out", str(record)]
    console.print(f"$ robustness-gate {' '.join(arguments)}", style="dim", highlight=False, soft_wrap=True)
    command = [sys.executable, "-m", "robustness_gate", *arguments]
    code = subprocess.run(command, check=False).returncode
    return [] if code == Exit.PASS else [f"self-test left with {code}, expected {int(Exit.PASS)}"]


def _gate(act: Act, out: Path, tested: Path, console: Console, *, quiet: bool = False) -> int:
    """The exit code of one run of the real command line, which prints its output at once."""
    arguments = ["run", f"organism:{act.organism}", *TERMS]
    # a model is no positive control of itself
    original = [] if act.organism == "base" else ["--original", "organism:base"]
    arguments += [*original, "--self-test", str(tested), "--out", str(out / act.organism), *act.options]
    if quiet:
        arguments.append("--quiet")
    else:
        shown = " ".join(f"'{word}'" if " " in word else word for word in arguments)
        console.print(f"$ robustness-gate {shown}", style="dim", highlight=False, soft_wrap=True)
    command = [sys.executable, "-m", "robustness_gate", *arguments]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL if quiet else None).returncode


def _signed(out: Path, console: Console) -> list[str]:
    """Sign the oracle's report and verify it with its own model and another. Returns what was not as expected."""
    description = "the oracle's report, checked against the oracle and against another model."
    console.print(f"\n[bold]signed[/bold]: {description}", soft_wrap=True)
    report, keys = out / "oracle", out / "keys"
    trusted = ("--public", str(keys / "signing.pub"))
    wrong = []
    for expected, *arguments in (
        (Exit.PASS, "keys", "generate", "--out", str(keys)),
        (Exit.PASS, "sign", str(report), "--key", str(keys / "signing.key")),
        (Exit.PASS, "verify", str(report), "--checkpoint", "organism:oracle", *trusted),
        (Exit.UNVERIFIED, "verify", str(report), "--checkpoint", "organism:rmu", *trusted),
    ):
        console.print(f"$ robustness-gate {' '.join(arguments)}", style="dim", highlight=False, soft_wrap=True)
        command = [sys.executable, "-m", "robustness_gate", *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        for line in (each for each in done.stdout.splitlines() if "FAILED" in each or "VERIF" in each):
            console.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
        if done.returncode != expected:
            wrong.append(f"{arguments[0]} left with {done.returncode}, expected {int(expected)}: {done.stderr.strip()}")
    return wrong


def _sentence(folder: Path) -> str:
    """The verdict of a run, from its folder."""
    try:
        made = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return f"{made['verdict']['outcome']}: {made['reason']}"
    except (OSError, ValueError, KeyError):
        return "no report was written"


def _lesson(folder: Path) -> str:
    """The result for *rmu*, with the numbers of its report."""
    try:
        made = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        findings, trials = made["verdict"]["findings"], {each["id"]: each["trial"] for each in made["trials"]}
    except (OSError, ValueError, KeyError):
        return "rmu left no report."
    hazard = [f for f in findings if f["rule"] == "forgotten"]
    before = [f["correct"] / f["items"] for f in hazard if f["attack"] == "none"]
    after = [
        f["correct"] / f["items"]
        for f in hazard
        if trials[f["trial"]]["attack"] == "relearn"
        and trials[f["trial"]]["config"]["source"] == "forget"
        and f["budget"] == 5
    ]
    if not before or not after:
        return "rmu was not examined."
    return f"rmu answers {before[0]:.0%} and seems to have forgotten; after five examples it answers {max(after):.0%}."
