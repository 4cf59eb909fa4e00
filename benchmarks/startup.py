"""How long the light verbs take over a bare interpreter, on the same machine in the same run.

    python benchmarks/startup.py [--before TREE] [--rounds 9] [--write]

Prints a Markdown page; `--write` puts it into startup.md and keeps what stands there under its headings. `--before`
names another checkout, whose verbs are measured in turn with ours. The rows `import ...` are floors: what these
libraries take without any code of ours. Bytecode is cached, as it is for everybody who installed the package. The goal
is less than 0.25 s over the bare interpreter for each verb.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[1]
FILES = ["--policy", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"]
KEY = "tests/fixtures/verify/lab.pub"
FLOORS = {
    "bare interpreter": "pass",
    "import typer": "import typer.main",
    "import typer, pydantic": "import typer.main; from pydantic import BaseModel, Field, TypeAdapter, model_validator",
    "the same, yaml, cryptography": "import typer.main, yaml; from pydantic import BaseModel, Field, TypeAdapter, "
    "model_validator; import cryptography.hazmat.primitives.serialization",
}
VERBS = {
    "--help": ["--help"],
    "plan": ["plan", "organism:oracle", *FILES],
    "policy check": ["policy", "check", "policies/organism.yaml"],
    "verify": ["verify", "tests/fixtures/verify/accepted.sigstore.json", "--no-checkpoint", "--public", KEY],
}


class Took(NamedTuple):
    """One process, in seconds."""

    wall: float
    cpu: float


def took(command: list[str], tree: Path, cache: str) -> Took:
    """Run a command of a checkout."""
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    given |= {"PYTHONPYCACHEPREFIX": cache, "PYTHONPATH": os.pathsep.join(map(str, (tree, tree / "organisms")))}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=tree, env=given)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measured(trees: list[Path], rounds: int) -> dict[tuple[str, Path], Took]:
    """Medians of several rounds, everything in turn in each; the first round fills the caches and does not count."""
    every: dict[tuple[str, Path], list[Took]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(rounds + 1):
            for name, code in FLOORS.items():
                one = took([sys.executable, "-c", code], trees[0], cache)
                every.setdefault((name, trees[0]), []).extend([one] if number else [])
            for name, arguments in VERBS.items():
                for tree in trees:
                    one = took([sys.executable, "-m", "robustness_gate", *arguments], tree, cache)
                    every.setdefault((name, tree), []).extend([one] if number else [])
    return {
        key: Took(statistics.median(one.wall for one in each), statistics.median(one.cpu for one in each))
        for key, each in every.items()
    }


def page(trees: list[Path], rounds: int) -> str:
    """Measure, as Markdown."""
    found, here = measured(trees, rounds), trees[0]
    bare = found["bare interpreter", here]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("typer", "pydantic", "PyYAML", "cryptography"))
    beside = "| what | CPU | over bare | wall | over bare |" + " CPU before | over bare |" * (len(trees) > 1)
    lines = [
        "# Start-up\n",
        f"`python benchmarks/startup.py --write`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{libraries}, {platform.machine()} ({os.cpu_count()} cores under a load of {os.getloadavg()[1]:.0f}). "
        f"Seconds, medians of {rounds} rounds, everything in turn. The goal is 0.25 s over the bare interpreter.\n",
        beside,
        "| --- |" + " ---: |" * (beside.count("|") - 2),
    ]
    for name in (*FLOORS, *VERBS):
        one = found[name, here]
        row = f"| {name} | {one.cpu:.3f} | {one.cpu - bare.cpu:.3f} | {one.wall:.3f} | {one.wall - bare.wall:.3f} |"
        for other in trees[1:]:
            then = found.get((name, other))
            row += f" {then.cpu:.3f} | {then.cpu - bare.cpu:.3f} |" if then else " | |"
        lines.append(row)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="write startup.md beside this file")
    chosen = parser.parse_args()
    text = page([HERE, *([chosen.before.resolve()] if chosen.before else [])], chosen.rounds)
    print(text)
    if chosen.write:
        target = Path(__file__).with_suffix(".md")
        rest = target.read_text(encoding="utf-8").partition("\n## ") if target.exists() else ("", "", "")
        target.write_text(text + "".join(rest[1:]), encoding="utf-8")


if __name__ == "__main__":
    main()
