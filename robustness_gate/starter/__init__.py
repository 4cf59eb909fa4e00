"""A first policy and suite to change: what `robustness-gate init` writes.

The files beside this one are the repository's own example (`policies/custom.yaml`, `suites/custom.yaml` and its data),
byte for byte, so that an installation without the repository has them too; a test keeps the two equal. Only the paths
in their comments are made to fit the place.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from robustness_gate.errors import UsageError
from robustness_gate.writing import nothing_empty

HERE = Path(__file__).parent
FOLDER = "gate"
"""Under the repository's root, as docs/ci.md has it."""
WORKFLOW = ".github/workflows/robustness-gate.yml"
PLACES = {"suites/custom.yaml": f"{FOLDER}/suite.yaml", "policies/custom.yaml": f"{FOLDER}/policy.yaml"}
"""What the comments of the example call its files, and what they are called where they are written."""


class Started(NamedTuple):
    """What was written, and what to do with it."""

    files: tuple[Path, ...]
    next: tuple[str, ...]


def write(root: Path) -> Started:
    """Write the starter into a repository: `gate/` with policy, suite and data, and a workflow that runs it.

    Args:
        root: the repository's root; made if it is not there.

    Raises:
        UsageError: one of the files is there already, or the place cannot be written. Then nothing was written.
    """
    contents = {root / name: text for name, text in _contents()}
    there = [path for path in contents if path.exists() or path.is_symlink()]
    if there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(
            f"is there already{more}, and init overwrites nothing.",
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
    policy, suite = (shlex.quote(str(root / FOLDER / name)) for name in ("policy.yaml", "suite.yaml"))
    return Started(
        tuple(contents),
        (
            f"robustness-gate policy check {policy} --suite {suite}",
            f"robustness-gate doctor CHECKPOINT --suite {suite}",
            f"robustness-gate run CHECKPOINT --policy {policy} --suite {suite} --out runs/first",
        ),
    )


def _write(contents: dict[Path, str]) -> None:
    begun: list[Path] = []
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:  # x: also when it appeared just now
                begun.append(path)
                file.write(text)
    except OSError:
        for path in begun:
            path.unlink(missing_ok=True)
        raise


def _contents() -> list[tuple[str, str]]:
    """Path under the root and text of every file, in the order in which a person reads them."""
    data = sorted(path.name for path in (HERE / "custom").glob("*.jsonl"))
    names = {f"{FOLDER}/{name}": name for name in ("policy.yaml", "suite.yaml", *(f"custom/{each}" for each in data))}
    names[WORKFLOW] = "workflow.yml"
    return [(place, _placed((HERE / name).read_text(encoding="utf-8"))) for place, name in names.items()]


def _placed(text: str) -> str:
    for old, new in PLACES.items():
        text = text.replace(old, new)
    return text
