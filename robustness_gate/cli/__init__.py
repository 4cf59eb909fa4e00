"""The verbs: arguments in, exit code out, and one clear line for every mistake of the user's.

Exit codes: 0 PASS, 1 internal error, 2 usage or invalid file, 3 FAIL, 4 INCONCLUSIVE, 5 does not verify,
130 interrupted. What a verb needs is imported inside it, so that `--help`, `plan` and `policy check` start at once and
without torch.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from robustness_gate.cli import auditing, checkpoints, evidence, house, policies, signing, verifying
from robustness_gate.cli.common import app
from robustness_gate.errors import GateError

__all__ = ["app", "auditing", "checkpoints", "evidence", "house", "main", "policies", "signing", "verifying"]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        app()  # leaves by itself: 2 for a usage error, 130 when interrupted, else the verb's own code
    except GateError as error:
        kind = f"error[{error.code}]" if error.code else "error"
        print(f"{kind}: {error}", file=sys.stderr)  # noqa: T201 - the one place where a user's mistake is told
        sys.exit(int(error.exit_code))
    raise AssertionError("typer returned without an exit code")
