"""Where a report goes at the end of a run: its folder, the outputs of plug-ins, and a tracker.

The report and its evidence are written all or nothing, before a plug-in is imported or anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from robustness_gate import publish
from robustness_gate.errors import PlanError
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
        "report.json": encode(made),
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


def write_outputs(made: Report, folder: Path, outputs: Sequence[str]) -> None:
    """Write the files of the requested plug-ins; they are imported here, after the report is written.

    Raises:
        PlanError: a plug-in cannot be imported, or returned nothing that can be written.
    """
    for name in outputs:
        module = publish.load(name)
        if not hasattr(module, "render"):
            continue
        try:
            made_of_it = publish.as_bytes(module.render(made))
            file = f"{name.partition('/')[0]}.{module.FILE}"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - third-party code may fail in any way
            raise PlanError(
                f"the publisher '{name}' failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}.",
                remedy="The report is written and complete. Fix the plug-in, or leave its --output out.",
                code="broken-plugin",
            ) from None
        if publish.PLAIN.fullmatch(file) is None or not isinstance(made_of_it, bytes):
            raise PlanError(f"the publisher '{name}' made no file, or one of no plain name.", code="broken-plugin")
        writing.whole(folder / file, made_of_it)


def send(made: Report, sending: publish.Sending, outputs: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Send the report with our publishers and the requested plug-ins. Returns the first destination, and warnings."""
    places, warnings = [], []
    asked = [*publish.ours("SENDS"), *(each for each in map(publish.load, outputs) if hasattr(each, "send"))]
    for module in asked:
        try:
            places.append(module.send(made, sending))
        except publish.NotSent as error:
            warnings.append(error.message)
    return next((place for place in places if place), None), tuple(warnings)
