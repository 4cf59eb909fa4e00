"""Each output has a column for each metric that a task's kind has, none for others, and a line that says what it is."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import evidence
import pytest
from rich.console import Console

from robustness_gate.errors import FileError, LedgerError
from robustness_gate.evidence import ledger
from robustness_gate.evidence.answers import pack
from robustness_gate.publish import html, junit, markdown, terminal
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.questions import TaskRef, shipped_kind
from robustness_gate.records.trial import Trial
from robustness_gate.report import build as report_build
from robustness_gate.report import reading as report_reading
from robustness_gate.report import record as report
from robustness_gate.report import table as report_table
from robustness_gate.report.compare import compare
from robustness_gate.verdict import metrics


def asked_as(its: Evidence, kind: str) -> Evidence:
    """The same answers, to a hazard task of another kind, which has one metric."""
    judged = shipped_kind(kind)
    assert judged is not None

    def ref(task: TaskRef) -> TaskRef:
        return task.model_copy(update={"kind": kind, "judged": judged}) if task.name == "forget" else task

    ids: dict[str, str] = {}

    def trial(old: Trial) -> Trial:
        new = old.model_copy(update={"tasks": tuple(map(ref, old.tasks))})
        ids[old.id] = new.id
        return new

    planned, comparators = tuple(map(trial, its.planned)), tuple(map(trial, its.comparators))
    measurements = tuple(
        m.model_copy(
            update={"trial": ids[m.trial]}
            | ({"correct": {judged.deciding: m.correct["acc_permuted"]}} if m.task == "forget" else {})
        )
        for m in its.measurements
    )
    closed = tuple(c.model_copy(update={"trial": ids[c.trial]}) for c in its.closed)
    return dataclasses.replace(its, planned=planned, comparators=comparators, measurements=measurements, closed=closed)


@cache
def made(kind: str) -> report.Report:
    policy, suite = evidence.files()
    limits = tuple(limit.model_copy(update={"metric": None}) for limit in policy.record.limits)
    policy = dataclasses.replace(policy, record=policy.record.model_copy(update={"limits": limits}))
    its = evidence.evidence(evidence.planned(evidence.MANIFEST), evidence.WORST["FAIL"])
    if kind != "multiple_choice":
        its = asked_as(its, kind)
    return report_build.make(policy, suite, evidence.MANIFEST, its, evidence.AT)


def on_a_terminal(told: report.Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    terminal.show(told, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


OUTPUTS: dict[str, Callable[[report.Report], str]] = {
    "html": html.render,
    "markdown": markdown.render,
    "terminal": on_a_terminal,
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("kind", "decides"), [("cloze", "acc_norm"), ("open_answer", "exact_match"), ("lm_eval", "acc")]
)
def test_a_kind_with_one_metric_has_its_own_line_and_no_column_of_another_kind(
    output: str, kind: str, decides: str
) -> None:
    told = made(kind)
    page = OUTPUTS[output](told)
    assert f"{decides} ({kind}, decides): " in page
    assert "acc: before → after" not in page
    assert "does not decide" not in page
    hazards = [line for line in page.splitlines() if f"({kind}" in line]
    assert hazards
    assert not any("letter orders" in line for line in hazards), "only multiple_choice is asked in letter orders"
    assert all(row.metric == decides and set(row.after) == {decides} for row in report_table.table(told))
    assert report_table.further_metrics(report_table.table(told)) == []


@pytest.mark.parametrize("output", OUTPUTS)
def test_letters_have_both_metrics_and_each_is_described(output: str) -> None:
    told = made("multiple_choice")
    page = OUTPUTS[output](told)
    assert "acc_permuted (multiple_choice, decides): " in page
    assert "acc (multiple_choice): " in page
    assert report_table.further_metrics(report_table.table(told)) == ["acc"]
    assert "acc: before → after" in page or output == "terminal"
    head = next(line for line in on_a_terminal(told).splitlines() if line.startswith("attack "))
    assert head.split()[-4:] == ["interval", "acc", "limit", "finding"]


def test_a_line_of_the_table_has_the_same_cells_in_every_row() -> None:
    """Markdown drops what has no column: a finding must not move under another heading."""
    for kind in ("multiple_choice", "cloze"):
        table = [line for line in markdown.render(made(kind)).splitlines() if line.startswith("| ")]
        start = next(i for i, line in enumerate(table) if line.startswith("| attack | seed"))
        rows = table[start : start + 2 + len(report_table.table(made(kind)))]
        assert len({line.count("|") for line in rows}) == 1, rows


def test_the_junit_message_names_the_metric_that_decides() -> None:
    assert b"acc_norm)" in junit.render(made("cloze"))


def test_reports_without_a_metric_in_common_say_so() -> None:
    found = compare(made("multiple_choice"), made("cloze"))
    assert not [line for line in found.lines if line.task == "forget"]
    assert "'forget' is scored as acc_permuted, acc in A and as acc_norm in B: it is not compared." in found.caveats
    same = compare(made("cloze"), made("cloze"))
    assert {(line.metric, line.decides) for line in same.lines if line.task == "forget"} == {("acc_norm", True)}


def test_a_metric_line_names_each_metric_once() -> None:
    lines = report_table.metric_lines(made("cloze"))
    assert lines == [
        metrics.line("acc_norm", "cloze", decides=True),
        metrics.line("acc_permuted", "multiple_choice", decides=True),
        metrics.line("acc", "multiple_choice", decides=False),
    ]


# --- what is not in the metrics of its kind is refused where it is read ----------------------------------------------

WRONG: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "one lost": lambda bits: {"acc_permuted": bits["acc_permuted"]},
    "one more": lambda bits: {**bits, "acc_norm": bits["acc"]},
    "too short": lambda bits: {**bits, "acc": "gA=="},
    "no bits": lambda bits: {**bits, "acc": "?"},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_report_is_refused_where_it_is_read(wrong: str, tmp_path: Path) -> None:
    told: dict[str, Any] = made("multiple_choice").plain
    place = tmp_path / "report.json"
    place.write_bytes(encode(told))
    assert report_reading.read(place) == made("multiple_choice")
    mark = told["trials"][0]["measurements"][0]
    mark["correct"] = WRONG[wrong](mark["correct"])
    place.write_bytes(encode(told))
    with pytest.raises(FileError, match="are not one bit per item in each metric of the kind 'multiple_choice'"):
        report_reading.read(place)


def test_a_ledger_with_answers_to_another_number_of_items_is_refused_with_the_line(tmp_path: Path) -> None:
    its = evidence.evidence(evidence.planned(evidence.MANIFEST), 0.27)
    trial, place = its.planned[0], tmp_path / "ledger.jsonl"
    mark = next(m for m in its.measurements if m.trial == trial.id)
    more = mark.items + 1
    bits = {metric: pack([False] * more) for metric in mark.correct}
    other = mark.model_copy(update={"items": more, "correct": bits, "missing": pack([False] * more)})
    with ledger.writing(place) as opened:
        opened.append(trial)
        opened.append(other)
    with pytest.raises(LedgerError, match=f"answers to {more} items of .* has {mark.items}") as refused:
        ledger.read(place)
    assert f"{place}:3" in str(refused.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_ledger_is_refused_where_it_is_read(wrong: str, tmp_path: Path) -> None:
    its = evidence.evidence(evidence.planned(evidence.MANIFEST), 0.27)
    trial, place = its.planned[0], tmp_path / "ledger.jsonl"
    mark = next(m for m in its.measurements if m.trial == trial.id)
    with ledger.writing(place) as opened:
        opened.append(trial)
        opened.append(mark)
    assert ledger.read(place).measurements == [mark]
    with ledger.writing(place) as opened:
        opened.append(mark.model_copy(update={"correct": WRONG[wrong](mark.correct), "attempt": 2}))
    with pytest.raises(LedgerError, match="not one bit per item in each metric of the kind") as refused:
        ledger.read(place)
    assert str(refused.value).startswith(f"{place}:4") or f"{place}:4" in str(refused.value)
    assert len(json.loads(place.read_text(encoding="utf-8").splitlines()[2])["record"]["correct"]) == 2
