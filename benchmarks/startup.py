"""How long the light verbs take, beside a bare interpreter on the same machine in the same run.

    python benchmarks/startup.py [--write]

CPU seconds of a process, which other work on the machine changes less than its seconds; every command in turn, and the
least and the median of nine. The goal is that each takes under 0.25 s more than a bare interpreter; `verify` has no
model to hash here. Bytecode is cached, as it is for everybody who installed the package. `--write` writes startup.md
beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

FILES = ["--policy", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"]
KEY = "tests/fixtures/verify/lab.pub"
OURS = ["-m", "robustness_gate"]
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "--help": [*OURS, "--help"],
    "plan": [*OURS, "plan", "organism:oracle", *FILES],
    "policy check": [*OURS, "policy", "check", "policies/organism.yaml"],
    "verify": [*OURS, "verify", "tests/fixtures/verify/accepted.sigstore.json", "--no-checkpoint", "--public", KEY],
}
GOAL = 0.25
ROUNDS = 9


def seconds(arguments: list[str], environment: Mapping[str, str]) -> float:
    """CPU seconds of this interpreter with these arguments, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured() -> dict[str, list[float]]:
    """The seconds of every command, all in turn; a first round, which writes the bytecode, is left out."""
    with tempfile.TemporaryDirectory() as cache:
        given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**given, "PYTHONPYCACHEPREFIX": cache}
        rounds = [[seconds(each, environment) for each in COMMANDS.values()] for _ in range(ROUNDS + 1)]
    return {name: [each[at] for each in rounds[1:]] for at, name in enumerate(COMMANDS)}


def page(found: Mapping[str, list[float]]) -> str:
    """The table."""
    bare = found["bare interpreter"]
    text = (
        "# How long the light verbs take\n\n"
        f"`python benchmarks/startup.py --write`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores under a load of {os.getloadavg()[1]:.0f}. CPU seconds, in turn, "
        f"of {ROUNDS} runs; *over it*: the median less that of a bare interpreter, of which the goal is {GOAL}.\n\n"
        "| what | least | median | over it |\n| --- | ---: | ---: | ---: |\n"
    )
    for name, times in found.items():
        text += f"| {name} | {min(times):.3f} | {median(times):.3f} | {median(times) - median(bare):.3f} |\n"
    return text


def main() -> None:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table to startup.md beside this file")
    chosen = parser.parse_args()
    text = page(measured())
    print(text)
    if chosen.write:
        path = Path(__file__).with_suffix(".md")
        behind = path.read_text(encoding="utf-8").partition("\n## ")[2] if path.exists() else ""
        path.write_text(text + ("\n## " + behind if behind else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
