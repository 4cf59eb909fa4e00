"""The machine of a run, for its report."""

from __future__ import annotations

import os
import shutil
import subprocess


def described() -> dict[str, str]:
    """The GPUs with their driver, and the container's image digest from $ROBUSTNESS_GATE_IMAGE, if it is set."""
    found = {}
    if image := os.environ.get("ROBUSTNESS_GATE_IMAGE"):
        found["image"] = image
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            output = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            found["gpu"] = f"nvidia-smi does not answer: {type(error).__name__}"
        else:
            found["gpu"] = "; ".join(line.strip() for line in output.splitlines() if line.strip())
    return found
