"""`python -m robustness_gate`."""

import sys
from pathlib import Path

if not sys.flags.safe_path and Path(sys.path[0] or ".").resolve() != Path(__file__).resolve().parent.parent:
    del sys.path[0]  # the working directory: whose files lie there must not decide what is imported

from robustness_gate.cli import script

if __name__ == "__main__":  # workers are spawned, and a spawned process imports the main module again
    script()
