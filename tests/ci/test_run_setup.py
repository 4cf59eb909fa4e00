"""`./run` sets .venv up once, notices when that is outdated or broken, and repairs it.

Python and pip are stand-ins that write down what they were asked, so what is held here is the script's decisions, not
that the pinned packages install: a fresh clone shows that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PYTHON = """#!/bin/sh
# Stands in for Python: `-m venv DIR` makes DIR with a copy of this file, pip is there where DIR/pip is.
home=$(cd "$(dirname "$0")" && pwd)
case "$*" in
    --version) echo "Python 3.11.0" ;;
    "-c import sys; sys.exit(sys.version_info < (3, 11))") [ ! -f "$home/old" ] ;;
    "-c "*) ;;
    "-m venv "*) echo "$*" >> "$LOG"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/pip" ;;
    "-m pip --version") [ -f "$home/../pip" ] ;;
    "-m pip install "*) echo "$*" >> "$LOG"; [ -z "${PIP_FAILS:-}" ] ;;
    *) echo "$*" >> "$LOG" ;;
esac
"""
VENV = "-m venv .venv"
PIP = "-m pip install --quiet --disable-pip-version-check --upgrade pip"
PACKAGE = (
    "-m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .[run,test]"
    " --editable ./organisms"
)  # fmt: skip
INSTALL = [PIP, PACKAGE]


@dataclass
class Clone:
    """A checkout with the script and what it reads."""

    path: Path
    python: Path

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path / "run"), *arguments],
            env={**os.environ, "PYTHON": str(self.python), "LOG": str(self.log), **env},
            cwd="/", capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip

    @property
    def log(self) -> Path:
        return self.python.parent / "log"

    @property
    def stamp(self) -> Path:
        return self.path / ".venv" / ".stamp"

    def asked(self, *arguments: str, **env: str) -> list[str]:
        """What a run that went well asked of Python."""
        self.log.write_text("")
        done = self.run(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()


@pytest.fixture
def clone(tmp_path, root) -> Clone:
    for folder in ("clone/organisms", "tools"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("run", "pyproject.toml", "organisms/pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path / "clone" / name)
    python = tmp_path / "tools" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return Clone(tmp_path / "clone", python)


def test_a_fresh_clone_is_set_up_once_and_then_left_alone(clone):
    assert clone.asked("setup") == [VENV, *INSTALL]
    assert clone.asked("setup") == []
    workers = min(4, os.cpu_count() + 1)
    assert clone.asked("test", "-k", "ledger") == [f"-m pytest -n {workers} --dist worksteal -k ledger"]
    assert clone.asked("--", "why", "out") == ["-m robustness_gate why out"]


@pytest.mark.parametrize("name", ["pyproject.toml", "organisms/pyproject.toml", "constraints.txt"])
def test_other_pins_are_installed_into_what_is_there(name, clone):
    clone.asked("setup")
    with (clone.path / name).open("a") as file:
        file.write("# another line\n")
    assert clone.asked("setup") == INSTALL
    assert clone.asked("setup") == []


def test_without_the_stamp_everything_is_installed_again(clone):
    clone.asked("setup")
    clone.stamp.unlink()
    assert clone.asked("setup") == INSTALL


def test_an_installation_that_failed_leaves_no_stamp_and_runs_nothing(clone):
    failed = clone.run("test", PIP_FAILS="yes")
    assert failed.returncode != 0
    assert not clone.stamp.exists()
    assert "pytest" not in clone.log.read_text()
    assert clone.asked("setup") == INSTALL


def test_an_update_that_failed_takes_the_stamp_of_the_last_one_away(clone):
    clone.asked("setup")
    before = (clone.path / "constraints.txt").read_text()
    (clone.path / "constraints.txt").write_text("# other pins\n")
    assert clone.run("setup", PIP_FAILS="yes").returncode != 0
    (clone.path / "constraints.txt").write_text(before)
    assert clone.asked("setup") == INSTALL, "half of the other pins may be in it"


@pytest.mark.parametrize("stamped", [True, False])
def test_without_its_python_it_is_made_anew(stamped, clone):
    clone.asked("setup")
    (clone.path / ".venv" / "bin" / "python").unlink()
    if not stamped:
        clone.stamp.unlink()
    assert clone.asked("setup") == [VENV, *INSTALL]


def test_without_its_pip_it_is_made_anew_when_something_is_to_be_installed(clone):
    clone.asked("setup")
    (clone.path / ".venv" / "pip").unlink()
    assert clone.asked("setup") == [], "nothing is to be installed, so nobody misses pip"
    clone.stamp.unlink()
    (clone.path / ".venv" / "rubbish").touch()
    assert clone.asked("setup") == [VENV, *INSTALL]
    assert not (clone.path / ".venv" / "rubbish").exists()


def test_a_checkout_that_was_moved_is_installed_again(clone):
    clone.asked("setup")
    moved = Clone(clone.path.rename(clone.path.parent / "a folder with spaces"), clone.python)
    assert moved.asked("setup") == INSTALL


def test_a_python_that_is_too_old_is_not_taken(clone):
    (clone.python.parent / "old").touch()
    tools = clone.python.parent / "bin"
    tools.mkdir()
    for name in ("dirname", "cat", "cksum", "rm", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    done = clone.run("setup", PATH=str(tools))
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in done.stderr
    assert not (clone.path / ".venv").exists()


def test_an_unknown_verb_sets_nothing_up(clone):
    done = clone.run("tset")
    assert done.returncode == 2
    assert "there is no 'tset'" in done.stderr
    assert not (clone.path / ".venv").exists()
