"""Files shipped with the package: policies, suites, their cases, and signed example reports.

In the repository these files lie at its root, in a wheel in `shipped/`. On the command line a bare name, without a
slash or a dot, means one of them, from any folder: `--policy organism` is the shipped `policies/organism.yaml`, and
`--policy organism.yaml` or `--policy ./organism` a file of the user's. A bare name that could mean either is refused.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import NamedTuple

from robustness_gate.errors import UsageError

HERE = Path(__file__).parents[1]
ROOT = HERE / "shipped" if (HERE / "shipped").is_dir() else HERE.parent
"""The folder of `policies/`, `suites/` and `reports/`."""
BARE = re.compile(r"(?:panels/)?[A-Za-z0-9_-]+")


class Kind(NamedTuple):
    """One kind of shipped file: its name in a message, its folder, and the ending of its names."""

    called: str
    folder: str
    ending: str

    def names(self) -> list[str]:
        """All bare names, sorted."""
        folder = ROOT / self.folder
        files = [path for where in ("", "panels/") for path in folder.glob(f"{where}*{self.ending}")]
        names = (path.relative_to(folder).as_posix().removesuffix(self.ending) for path in files)
        return sorted(name for name in names if BARE.fullmatch(name))

    def named(self, name: str) -> Path:
        """The shipped file of this name. Raises UsageError where there is none, with the nearest name."""
        if name not in (names := self.names()):
            close = difflib.get_close_matches(name, names, 1)
            nearest = f"Did you mean '{close[0]}'? " if close else ""
            raise UsageError(
                f"there is neither a file '{name}' here nor a shipped {self.called} of that name.",
                remedy=f"{nearest}Shipped: {', '.join(names)}.",
            )
        return ROOT / self.folder / f"{name}{self.ending}"

    def find(self, wanted: str) -> Path:
        """The file for a command-line argument.

        Args:
            wanted: a path, or a bare name: letters, digits, hyphens and underscores alone, also after `panels/`.

        Raises:
            UsageError: a bare name that is neither a file here nor shipped, or that is both.
        """
        if not BARE.fullmatch(wanted):
            return Path(wanted)
        here = Path(wanted).exists()
        if here and wanted not in self.names():
            return Path(wanted)
        if here:
            raise UsageError(
                f"'{wanted}' is a shipped {self.called}, and there is a '{wanted}' in this folder.",
                remedy=f"Write ./{wanted} for what lies here; for the shipped one give the command in another folder.",
            )
        return self.named(wanted)


POLICY = Kind("policy", "policies", ".yaml")
SUITE = Kind("suite", "suites", ".yaml")
CASES = Kind("file of cases", "policies", ".cases.yaml")
BUNDLE = Kind("example report", "reports/examples", ".sigstore.json")
KEY = Kind("example key", "reports/examples", ".pub")
