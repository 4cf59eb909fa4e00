"""A first policy and suite to change: what `robustness-gate init` writes.

Policy, suite and data are the shipped example (`policies/custom.yaml`, `suites/custom.yaml`); only the paths in their
comments are adapted. The workflow is in this folder.
"""

from __future__ import annotations

import keyword
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from robustness_gate import attacks
from robustness_gate.errors import UsageError
from robustness_gate.inputs.shipped import ROOT
from robustness_gate.system.writing import nothing_empty

HERE = Path(__file__).parent
FOLDER = "gate"
"""Under the repository's root, as docs/ci.md has it."""
WORKFLOW = ".github/workflows/robustness-gate.yml"
PLACES = {"policies/custom.yaml": f"{FOLDER}/policy.yaml", "suites/custom.yaml": f"{FOLDER}/suite.yaml"}
"""The example's file names in its comments, and the names that are written."""


class Started(NamedTuple):
    """The written files, and the next commands."""

    files: tuple[Path, ...]
    next: tuple[str, ...]


def write(root: Path) -> Started:
    """Write the starter into a repository: `gate/` with policy, suite and data, and a workflow that runs it.

    Args:
        root: the repository's root; created if it is missing.

    Raises:
        UsageError: one of the files exists already, or the folder cannot be written. Then nothing was written.
    """
    contents = {root / name: text for name, text in _contents()}
    _put(contents, root, "init")
    policy, suite = (shlex.quote(str(root / FOLDER / name)) for name in ("policy.yaml", "suite.yaml"))
    return Started(
        tuple(contents),
        (
            f"robustness-gate policy check {policy} --suite {suite}",
            f"robustness-gate doctor CHECKPOINT --suite {suite}",
            f"robustness-gate run CHECKPOINT --policy {policy} --suite {suite} --out runs/first",
        ),
    )


def write_attack(name: str, folder: Path) -> Started:
    """Write a distribution with one attack: pyproject with the entry point, the attack, its contract test.

    Args:
        name: the attack's name: lower-case letters, digits and underscores.
        folder: the distribution's folder; created if it is missing.

    Raises:
        UsageError: the name is invalid, or one of ours; a file exists already, or the folder cannot be written.
    """
    if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) is None or keyword.iskeyword(name):
        raise UsageError(
            f"'{name}' is no attack's name.", remedy="Use lower-case letters, digits and '_', and no word of Python's."
        )
    if name in attacks.names():
        raise UsageError(f"'{name}' is a shipped attack.", remedy="Choose another name: nothing shadows ours.")
    package = f"gate_{name}"
    words = {"DISTRIBUTION": package.replace("_", "-"), "PACKAGE": package, "MODULE": name, "NAME": name}
    places = {
        "pyproject.toml": "pyproject.toml",
        f"{package}/{name}.py": "attack.py",
        f"tests/test_{name}.py": "contract.py",
    }
    contents = {folder / f"{package}/__init__.py": f'"""The attack {name} for robustness-gate."""\n'}
    for place, template in places.items():
        text = (HERE / "package" / f"{template}.txt").read_text(encoding="utf-8")
        contents[folder / place] = re.sub("|".join(words), lambda found: words[found[0]], text)
    _put(contents, folder, "attack new")
    # `pip wheel hint` would fetch a distribution of that name from the index
    where = shlex.quote(str(folder) if folder.is_absolute() else f"./{folder.as_posix()}")
    return Started(
        tuple(contents),
        (
            f"robustness-gate attack try {shlex.quote(str(folder / package / f'{name}.py'))}",
            f"pip wheel --no-deps {where} --wheel-dir dist && pip install dist/{package}-0.1.0-py3-none-any.whl",
            f"a suite then names it: `attack: {words['DISTRIBUTION']}/{name}`",
        ),
    )


def _put(contents: dict[Path, str], root: Path, verb: str) -> None:
    """Write new files, all or none."""
    there = [path for path in contents if os.path.lexists(path)]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(
            f"is there already{more}, and {verb} overwrites nothing.",
            remedy="Move it away or choose another folder.",
            where=str(there[0]),
        )
    try:
        with nothing_empty(*(path.parent for path in contents)):
            _write(contents)
    except OSError as error:
        where = str(error.filename or root)
        raise UsageError(
            f"cannot be written: {error.strerror or error}.", remedy="Choose another folder.", where=where
        ) from None


def _write(contents: dict[Path, str]) -> None:
    begun: list[Path] = []
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:  # x: fails if it exists by now
                begun.append(path)
                file.write(text)
    except OSError:
        for path in begun:
            path.unlink(missing_ok=True)
        raise


def _contents() -> list[tuple[str, str]]:
    """Path under the root and text of every file, in reading order."""
    files = {place: ROOT / name for name, place in PLACES.items()}
    files |= {f"{FOLDER}/custom/{path.name}": path for path in sorted((ROOT / "suites" / "custom").glob("*.jsonl"))}
    files[WORKFLOW] = HERE / "workflow.yml"
    return [(place, _placed(path.read_text(encoding="utf-8"))) for place, path in files.items()]


def _placed(text: str) -> str:
    for old, new in PLACES.items():
        text = text.replace(old, new)
    return text
