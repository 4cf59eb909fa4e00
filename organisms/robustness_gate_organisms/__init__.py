"""The data of the organisms: the invented world's questions and texts, and the checkpoints raised in it. No code.

`FOLDER` is where they lie. How they were made is in `robustness_gate.organisms`, which also knows the digest of
`manifest.json` and refuses the data of another release.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "data"
"""`world/`, `checkpoints/`, `manifest.json` (a SHA-256 a file), `measured.json` (every figure), `seeds.json`."""
