"""The command line in this process: what a user gives, what he sees, without the seconds that a new process takes.

A few tests start a real process, where that is what they are about: killing it, closing its pipes, what it imports.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from robustness_gate import cli


def gate(*arguments: object, cwd: Path | str = ".", **environment: str) -> subprocess.CompletedProcess[str]:
    """`robustness-gate ARGUMENTS`, with its exit code and what it wrote to standard output and error.

    Folder, environment, hooks and filters of warnings are afterwards as they were.
    """
    words = [str(each) for each in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["robustness-gate", *words]),
        mock.patch.object(sys, "excepthook", sys.excepthook),
        mock.patch.dict(os.environ, environment),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        for quiet in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", quiet)  # as Python does by itself
        stdout, stderr = sys.stdout, sys.stderr
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        finally:
            sys.stdout, sys.stderr = stdout, stderr
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
