"""How long the light verbs take, beside a bare interpreter on the same machine in the same run.

    python benchmarks/startup.py

Prints a Markdown table. The promise is `--help`, `plan` and `policy check` in under 0.3 s, and `verify` in under 0.5 s
where it has no model to hash; a ratio travels between machines, a second does not. Bytecode is cached, as it is for
everybody who installed the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

FILES = ["--policy", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"]
KEY = "tests/fixtures/verify/lab.pub"
VERBS = {
    "--help": ["--help"],
    "plan": ["plan", "organism:oracle", *FILES],
    "policy check": ["policy", "check", "policies/organism.yaml"],
    "verify": ["verify", "tests/fixtures/verify/accepted.sigstore.json", "--no-checkpoint", "--public", KEY],
}
ROUNDS = 9


def best(command: list[str], cache: str) -> float:
    """Least of several runs, in seconds: what the work costs when nothing else is in its way."""
    times = []
    given = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**given, "PYTHONPYCACHEPREFIX": cache})
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as cache:
        bare = best([sys.executable, "-c", "pass"], cache)
        print("| what | seconds | times a bare interpreter |")
        print("| --- | ---: | ---: |")
        print(f"| bare interpreter | {bare:.3f} | 1 |")
        for name, arguments in VERBS.items():
            took = best([sys.executable, "-m", "robustness_gate", *arguments], cache)
            print(f"| {name} | {took:.3f} | {took / bare:.0f} |")


if __name__ == "__main__":
    main()
