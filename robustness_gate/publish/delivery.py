"""A run's folder: the report and its evidence are written all or nothing, before anything is published."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robustness_gate import publish
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.checkpoint.manifest import Manifest
from robustness_gate.records.encode import encode
from robustness_gate.report.record import Report
from robustness_gate.system import writing


def write(made: Report, manifest: Manifest, ledger: Path, folder: Path) -> tuple[str, ...]:
    """Write report and evidence into the run's folder, all or nothing. Returns warnings about missing evidence.

    Raises:
        WriteError: it cannot be written. The earlier files are unchanged.
    """
    contents = {
        "report.json": made.canonical,
        **publish.files(made),
        "checkpoint.manifest.json": encode(manifest),
        ledgers.NAME: (ledger / ledgers.NAME).read_bytes(),
    }
    remedy = f"Every answer is in {ledger / ledgers.NAME}: make room, and give the same command again."
    lost = _keep_rows(made, ledger, folder, remedy)
    writing.together(folder, contents, remedy=remedy)
    return lost


def _keep_rows(made: Report, ledger: Path, folder: Path, remedy: str) -> tuple[str, ...]:
    """Copy the log-likelihoods that the report names into its folder. Returns a warning if the ledger lacks some."""
    digests = sorted(
        {measurement.rows for record in made.trials for measurement in record.measurements if measurement.rows}
    )
    lost = []
    for digest in digests:
        name = f"{digest}.safetensors"
        if (folder / "rows" / name).is_file():
            continue
        kept = ledger / "rows" / name
        raw = kept.read_bytes() if kept.is_file() else b""
        if hashlib.sha256(raw).hexdigest() == digest:
            writing.whole(folder / "rows" / name, raw, remedy=remedy)
        else:
            lost.append(digest)
    if not lost:
        return ()
    return (
        f"{len(lost)} of {len(digests)} files of log-likelihoods are gone from {ledger / 'rows'}, or do not match "
        f"their name, {lost[0][:12]} among them. The verdict rests on the ledger's answers and stands.",
    )
