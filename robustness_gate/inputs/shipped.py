"""What comes with the package to be read: policies, suites, their cases, and signed example reports.

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
"""What `policies/`, `suites/` and `reports/` lie in."""
BARE = re.compile(r"[A-Za-z0-9_-]+")


class Kind(NamedTuple):
    """One kind of shipped file: how a message calls it, in which folder it lies, and how its names end."""

    called: str
    folder: str
    ending: str

    def names(self) -> list[str]:
        """The bare names that there are, sorted."""
        files = (path.name.removesuffix(self.ending) for path in (ROOT / self.folder).glob(f"*{self.ending}"))
        return sorted(name for name in files if BARE.fullmatch(name))

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

    def find(self, given: str) -> Path:
        """The file that an argument means.

        Args:
            given: a path, or a bare name: letters, digits, hyphens and underscores alone.

        Raises:
            UsageError: a bare name that is no file here and not shipped, or that is both.
        """
        if not BARE.fullmatch(given):
            return Path(given)
        here = Path(given).exists()
        if here and given not in self.names():
            return Path(given)
        if here:
            raise UsageError(
                f"'{given}' is a shipped {self.called}, and there is a '{given}' in this folder.",
                remedy=f"Write ./{given} for what lies here; for the shipped one give the command in another folder.",
            )
        return self.named(given)


POLICY = Kind("policy", "policies", ".yaml")
SUITE = Kind("suite", "suites", ".yaml")
CASES = Kind("file of cases", "policies", ".cases.yaml")
BUNDLE = Kind("example report", "reports/examples", ".sigstore.json")
KEY = Kind("example key", "reports/examples", ".pub")
