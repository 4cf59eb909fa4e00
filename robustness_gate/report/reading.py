"""A report is read from its file and refused where it is damaged, forged, or from another version."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from robustness_gate.errors import FileError, Unverified
from robustness_gate.evidence.answers import in_metrics
from robustness_gate.inputs.digest import opened
from robustness_gate.records.encode import NotPlain, decode, parse
from robustness_gate.records.questions import TaskRef
from robustness_gate.report.record import SCHEMA, Report, TrialRecord, evidence_in
from robustness_gate.verdict import judge
from robustness_gate.verdict.wording import reason

MAX_REPORT_BYTES = 100_000_000


ON_ONE_LINE = (
    "verdict",
    "decision",
    "reason",
    "limitations",
    "notes",
    "left_out",
    "model_type",
    "calibrations",
    "devices",
    "label",
    "id",
    "checkpoint",
)
"""Fields of a report that may not contain a line end: an output prints each as one line."""


def _control_characters(content: Any, at: tuple[str, ...] = ()) -> str:
    """The path of a string with terminal control characters, or with a forbidden line end; empty if there is none."""
    match content:
        case str():
            strict = bool(at) and (at[0] in ON_ONE_LINE or at[-1] in ON_ONE_LINE)
            plain = content if strict else re.sub(r"[\n\r\t]", " ", content)
            return ".".join(at) if any(unicodedata.category(each) == "Cc" for each in plain) else ""
        case dict():
            inside = [(str(name), each) for name, each in content.items()]
        case list():
            inside = [(str(number), each) for number, each in enumerate(content)]
        case _:
            return ""
    return next((found for name, each in inside if (found := _control_characters(each, (*at, name)))), "")


def refuse_forged(made: Report) -> None:
    """Check that a report's verdict follows from its own answers, before the verdict is shown.

    Raises:
        Unverified: judged again under the report's own policy, the verdict is different.
    """
    again = judge(made.resolved, evidence_in(made), datetime.fromisoformat(made.verdict.at))
    if again != made.verdict or reason(again) != made.reason:
        difference = f"it says {made.verdict.outcome}, and its answers give {again.outcome}"
        if made.verdict.outcome == again.outcome:
            difference = f"both are {again.outcome}, of other bounds, reasons or counts"
        raise Unverified(
            f"the verdict in this report does not follow from the answers in it: {difference}",
            remedy="It was edited, or written by another release: judge the run's ledger.jsonl anew.",
        )


def file_of(place: Path) -> Path:
    """`report.json` itself, or the one in a run's folder."""
    return place / "report.json" if place.is_dir() else place


def read(place: Path) -> Report:
    """A report from `report.json`, or from the folder that holds it.

    Raises:
        FileError: it is not there, not JSON, not a report, or one of another schema version.
    """
    path = file_of(place)
    try:
        with opened(path) as file:
            raw = file.read(MAX_REPORT_BYTES + 1)
    except OSError as error:
        remedy = "Give report.json or the --out folder of a run that has ended."
        raise FileError(f"cannot be read: {error.strerror or error}.", remedy=remedy, where=str(path)) from None
    if len(raw) > MAX_REPORT_BYTES:
        raise FileError(f"is larger than {MAX_REPORT_BYTES:,} bytes, no report is", where=str(path))
    try:
        content = parse(raw)
    except NotPlain as error:
        fault = "is not JSON." if error.what == "syntax" else f"is not JSON that every reader reads alike ({error})."
        raise FileError(fault, remedy="Give the report.json of a run.", where=str(path)) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        found = f"its schema is '{str(schema)[:80]}'" if isinstance(schema, str) else "it names no schema"
        remedy = "Give the report.json of a run; one of another version needs the gate that wrote it."
        raise FileError(f"is not a {SCHEMA}: {found}.", remedy=remedy, where=str(path))
    if field := _control_characters(content):
        raise FileError(
            f"{field} holds control characters, which no report of this gate does.",
            remedy="It was damaged, or forged to control your terminal: ask its author for a new copy.",
            where=str(path),
        )
    try:
        made = decode(Report, raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"]) or "the report"
        raise FileError(
            f"is not a whole report: {at}: {first['msg'][:1].lower()}{first['msg'][1:]}.",
            remedy="It was edited, cut short, or written by an earlier version of the gate.",
            where=str(path),
        ) from None
    if other := next(_other_answers(made), None):
        record, task = other
        raise FileError(
            f"'{record.label}': its answers to '{task.name}' are not one bit per item in each metric of the kind "
            f"'{task.kind}' ({', '.join(task.judged.metrics)}).",
            remedy="It was edited or damaged: ask its author for a new copy, or judge the run's ledger.jsonl anew.",
            where=str(path),
        )
    return made


def _other_answers(made: Report) -> Iterator[tuple[TrialRecord, TaskRef]]:
    """Trials with answers that are not in the metrics of their task's kind, with that task."""
    for record in made.trials:
        tasks = {task.name: task for task in record.trial.tasks}
        for measurement in record.measurements:
            task = tasks.get(measurement.task)
            if task is not None and not in_metrics(measurement, task.judged.metrics):
                yield record, task
