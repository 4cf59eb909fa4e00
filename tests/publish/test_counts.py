"""One count of trials wherever it is told, one line for what is missing, a mark on what this plan did not ask for."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import evidence
import pytest
from rich.console import Console
from typer.testing import CliRunner

from robustness_gate.cli.common import app
from robustness_gate.publish import html, junit, markdown, mlflow, terminal
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Closed, Trial
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.report import table as report_table
from robustness_gate.report.advice import advise
from robustness_gate.report.compare import compare
from robustness_gate.report.record import Report
from robustness_gate.report.table import NOT_ASKED
from robustness_gate.verdict import judge
from robustness_gate.verdict.counts import counts
from robustness_gate.verdict.wording import sentence, trials_line

LORA = "relearn (forget, lora)"


def seen(made: Report) -> dict[str, str]:
    """Each projection as text, in one line."""
    console = Console(file=io.StringIO(), width=200)
    terminal.show(made, console)
    told = {
        "terminal": console.file.getvalue(),  # type: ignore[attr-defined]
        "markdown": markdown.render(made),
        "html": html.render(made),
        "junit": junit.render(made).decode(),
    }
    return {name: " ".join(text.split()) for name, text in told.items()}


def again(made: Report, told: Evidence) -> Report:
    policy, suite = evidence.files()
    return report_build.make(policy, suite, made.manifest, told, evidence.AT)


def of_an_earlier_run(trial: Trial, correct: float) -> tuple[Trial, Evidence]:
    """A trial of another suite, whose questions have the same name, with its records beside those of an honest PASS."""
    tasks = tuple(task.model_copy(update={"sha256": "7" * 64}) for task in trial.tasks)
    other = trial.model_copy(update={"tasks": tasks})
    known = report.evidence_in(evidence.made())
    measurements = (*known.measurements, *evidence.told(other, correct, turn=7))
    closed = (*known.closed, Closed(trial=other.id, attempt=1, status="ok"))
    return other, dataclasses.replace(known, extra=(*known.extra, other), measurements=measurements, closed=closed)


def test_one_run_has_one_count_wherever_it_is_reported(tmp_path: Path) -> None:
    made = evidence.made()
    line = (
        "6 trials on this checkpoint are on record (5 of the suite, 1 sham), all of them asked for by this plan; "
        "1 more on other models"
    )
    assert trials_line(counts(report.evidence_in(made))) == line
    for name, text in seen(made).items():
        assert line in text, name
        assert set(re.findall(r"(\d+) trials on this checkpoint", text)) == {"6"}, name
    assert made.verdict.trials == counts(report.evidence_in(made)).ever == report_table.headline(made)["trials"] == 6
    numbers = {k: v for k, v in mlflow._metrics(made).items() if k.startswith("trials/")}
    assert numbers == {
        "trials/planned": 6, "trials/closed": 6, "trials/ever": 6, "trials/unasked": 0, "trials/left_out": 0,
    }  # fmt: skip
    assert "Trials ended well" in seen(made)["html"]
    assert "6 of 6" in seen(made)["html"]
    book = evidence.ledger_of(made, tmp_path / "ledger.jsonl")
    policy = str(evidence.ROOT / "policies" / "organism.yaml")
    done = CliRunner().invoke(app, ["judge", str(book.path), "--policy", policy, "--at", "2026-11-21T12:00:00"])
    assert done.output.strip().endswith(line)
    found = evidence.look(evidence.bundle())
    assert evidence.arguments(found, "nothing left out")["here"] == 5
    assert {**evidence.arguments(found, "evidence"), "answers": 0} == {"own": 6, "others": 1, "answers": 0}


def test_what_was_left_out_is_counted_with_the_rest_and_reported_once_in_the_terminal(tmp_path: Path) -> None:
    made = evidence.made(only=["none"])
    assert [each.role for each in made.left_out] == ["sham", *["candidate"] * 4]
    told = seen(made)
    for text in told.values():
        assert "1 trial on this checkpoint is on record (1 of the suite), asked for by this plan" in text
    assert told["terminal"].count("sham of relearn, seed 0: left out by --only") == 1
    assert "1 of 6" in told["html"]
    assert mlflow._metrics(made)["trials/left_out"] == 5
    assert sum(block.code == "left_out" for block in made.verdict.blockers) == 5
    assert not [block for block in made.verdict.blockers if block.code == "hypothesis_not_run"], (
        "the cause is told, not its echo"
    )
    book = evidence.ledger_of(made, tmp_path / "ledger.jsonl")
    policy = str(evidence.ROOT / "policies" / "organism.yaml")
    done = CliRunner().invoke(app, ["judge", str(book.path), "--policy", policy, "--at", "2026-11-21T12:00:00"])
    assert (done.exit_code, done.output.strip().endswith("; 5 left out by the last run")) == (4, True)


def test_a_row_that_this_plan_did_not_ask_for_is_marked_in_every_table() -> None:
    lora = next(each.trial for each in evidence.made().trials if each.label == LORA)
    _, told = of_an_earlier_run(lora, 0.9)
    made = again(evidence.made(), told)
    rows = [row for row in report_table.table(made) if row.attack == LORA]
    assert sorted(row.asked for row in rows) == [False, False, True, True]
    for row in rows:
        assert row.asked or row.before == {}, "what came before was asked other questions of that name"
        assert row.asked == (not row.suffix)
    for name, text in seen(made).items():
        assert text.count(f"{LORA}, {NOT_ASKED}") + text.count(f", {NOT_ASKED}") >= 2, name
        assert "7 trials on this checkpoint are on record (5 of the suite, 1 sham), 1 of them not asked for" in text
    assert f", {NOT_ASKED}" in mlflow._title(next(record for record in made.trials if not record.planned))


def test_it_is_marked_beside_another_report_too() -> None:
    made = evidence.made()
    unplanned = made.model_copy(update={"trials": tuple(
        each.model_copy(update={"planned": False}) if each.label == LORA else each for each in made.trials
    )})  # fmt: skip
    found = compare(made, unplanned)
    lines = found.lines
    assert not any("other settings" in caveat for caveat in found.caveats)
    assert {line.attack for line in lines if "b_not_asked" in line.unlike} == {LORA}
    assert not any("a_not_asked" in line.unlike for line in lines)


def test_what_came_before_is_what_this_plan_asked_though_an_earlier_run_asked_too() -> None:
    none = next(e.trial for e in evidence.made().trials if (e.label, e.trial.role) == ("none", "candidate"))
    tasks = none.tasks
    other = none.model_copy(update={"dtype": "bfloat16"})
    assert other.tasks == tasks
    known = report.evidence_in(evidence.made())
    told = dataclasses.replace(
        known,
        extra=(other,),
        measurements=(*known.measurements, *evidence.told(other, 0.3)),
        closed=(*known.closed, Closed(trial=other.id, attempt=1, status="ok")),
    )
    made = again(evidence.made(), told)
    own = next(row for row in report_table.table(evidence.made()) if row.attack == LORA)
    assert next(row for row in report_table.table(made) if row.attack == LORA).before == own.before


def test_a_second_attempt_is_distinguished_from_the_first() -> None:
    made = evidence.made()
    attempts = [row.suffix for row in report_table.table(made) if row.attack == "relearn (unrelated, lora)"]
    attempts += [row.suffix for row in report_table.table(made) if row.attack == "relearn (forget, full)"]
    assert ", attempt 2" in attempts
    assert "attempt 2" in seen(made)["terminal"]
    assert "attempt 2" in seen(made)["markdown"]


@pytest.mark.parametrize("budget", [5, 50])
def test_a_missing_budget_is_reported_in_one_line(budget: int) -> None:
    made = evidence.made()
    lora = next(record for record in made.trials if record.label == LORA)
    known = report.evidence_in(made)
    rest = tuple(m for m in known.measurements if not (m.trial == lora.id and m.budget == budget))
    found = judge(evidence.files()[0].record, dataclasses.replace(known, measurements=rest), evidence.AT)
    words = f"{LORA}, seed 0: attempt 1 is recorded as ended well, but its answers to 'forget' at budget {budget} and 1"
    assert found.outcome == "INCONCLUSIVE"
    assert [(block.code, sentence(block)) for block in found.blockers] == [
        ("incomplete", f"{words} more are not on record in the metrics of its kind")
    ]
    lost = again(made, dataclasses.replace(known, measurements=rest))
    step, *_ = advise(lost).steps
    assert "the ledger was edited or damaged since" in step.do
    assert step.because == f"{words[0].upper()}{words[1:]} more are not on record in the metrics of its kind."


def test_a_trial_that_failed_is_reported_in_one_line() -> None:
    made = evidence.made()
    lora = next(record for record in made.trials if record.label == LORA)
    known = report.evidence_in(made)
    measurements = tuple(m for m in known.measurements if m.trial != lora.id)
    ends = tuple(
        end.model_copy(update={"status": "failure", "reason": "it broke"}) if end.trial == lora.id else end
        for end in known.closed
    )
    found = judge(
        evidence.files()[0].record, dataclasses.replace(known, measurements=measurements, closed=ends), evidence.AT
    )
    assert [sentence(block) for block in found.blockers] == [f"{LORA}, seed 0: failed, it broke"]
