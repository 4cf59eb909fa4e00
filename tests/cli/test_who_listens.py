"""A verb's exit code is its own, whoever reads what it prints: a pipe that was closed, or no stream at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GATE = [sys.executable, "-m", "robustness_gate"]
TALKS = """
import sys
import typer
from robustness_gate import cli
from robustness_gate.cli.common import console_for_output, say

app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
def verdict(code: int) -> None:
    for _ in range(3000):  # more than a pipe holds
        say("x" * 60)
        console_for_output().print("y" * 60)
        print("z" * 60, file=sys.stderr)
        typer.echo("w" * 60)
    raise typer.Exit(code)

cli.app = app
cli.main()
"""


def left_with(command: list[str], out: int | None, err: int | None) -> int:
    """The exit code under these two handles; None: started without one."""

    def close() -> None:
        for handle, given in ((1, out), (2, err)):
            if given is None:
                os.close(handle)

    return subprocess.run(command, stdout=out, stderr=err, preexec_fn=close, check=False, timeout=60).returncode


@pytest.fixture
def closed():
    """The end of a pipe that no one reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("code", [0, 3, 4])
def test_a_pipe_that_was_closed_changes_no_exit_code(closed, code):
    assert left_with([sys.executable, "-c", TALKS, str(code)], closed, closed) == code


@pytest.mark.parametrize("code", [0, 3])
def test_without_standard_output_the_code_is_the_verbs_own(code):
    assert left_with([sys.executable, "-c", TALKS, str(code)], None, None) == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["policy", "check", str(ROOT / "policies" / "custom.yaml")], 0),
        (["policy", "check", str(ROOT / "pyproject.toml")], 2),
    ],
)
def test_so_it_is_with_real_verbs(closed, arguments, code):
    assert left_with(GATE + arguments, None, None) == code
    assert left_with(GATE + arguments, closed, closed) == code


def test_what_is_read_is_whole_and_in_order():
    done = subprocess.run([sys.executable, "-c", TALKS, "4"], capture_output=True, check=False, text=True)
    assert done.returncode == 4
    assert done.stdout.splitlines() == [letter * 60 for letter in "xyw"] * 3000
    assert done.stderr.splitlines() == ["z" * 60] * 3000
