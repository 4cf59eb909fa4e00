"""What was ever found on a checkpoint counts, whatever the output folder, the suite or the policy of the next run.

The whole trip through `gate.run` and the command line, but for the model: an executor stands in that answers as it is
told, so that a run takes no time and finds what the test wants found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders
import pytest
from builders import HEALTHY
from test_gate import POLICY, SUITE, bench  # noqa: F401 - a fixture
from typer.testing import CliRunner

from robustness_gate import gate
from robustness_gate.cli import app
from robustness_gate.errors import LedgerError
from robustness_gate.evidence import ledger
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.records.evidence import Planned
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Closed, Measurement, ModelRef, Role, Trial
from robustness_gate.report import record as report
from robustness_gate.report import table as report_table
from robustness_gate.running.executors import Event, local
from robustness_gate.verdict.wording import sentence

Answers = Callable[[Trial, str, int], int]
"""How many of a task's items are right, by trial, task and mark."""


def clean(_: Trial, task: str, __: int) -> int:
    return {"forget": 25, "retain": 29}[task]


def knowing(count: int, attack: str = "relearn") -> Answers:
    return lambda trial, task, budget: (
        count if (trial.attack, task) == (attack, "forget") else clean(trial, task, budget)
    )


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], list[str]]:
    """Answers as told; returns the list into which the ids of the trials go that were run."""

    def use(answers: Answers) -> list[str]:
        ran: list[str] = []

        def execute(_: Any, todo: Any, __: int, enough: Callable[[], bool], ___: Any = None) -> Iterator[Event]:
            for trial, attempt in todo:
                ran.append(trial.id)
                yield Event(trial, None)
                for number in trial.budgets:
                    for task in trial.tasks:
                        yield Event(trial, measurement_of(trial, attempt, number, task, answers))
                        if enough():
                            return
                yield Event(trial, Closed(trial=trial.id, attempt=attempt, status="ok"))

        monkeypatch.setattr(local, "execute", execute)
        return ran

    return use


def measurement_of(trial: Trial, attempt: int, number: int, task: TaskRef, answers: Answers) -> Measurement:
    count, items = answers(trial, task.name, number), task.items
    right = [i * count // items < (i + 1) * count // items for i in range(items)]
    signals = HEALTHY | {"weight_change": 1.0, "steps": 24.0, "trained_parameters": 9.0}
    return builders.measurement_of(trial, number, task, right, attempt=attempt, signals=signals)


def request(bench: Path, out: str = "one", **more: Any) -> gate.Request:  # noqa: F811
    fields = {"checkpoint": "organism:oracle", "policy": bench / "policy.yaml", "suite": bench / "suite.yaml"}
    return gate.Request(**(fields | {"out": bench / "runs" / out, "tracking_uri": ""} | more))


def small_policy(bench: Path, *edits: tuple[str, str]) -> None:  # noqa: F811
    """Answers here do not move when an attack does nothing, so that flag is recorded only."""
    text = POLICY.replace("record_only: [still_rising,", "record_only: [identical_answers,")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    (bench / "policy.yaml").write_text(text, encoding="utf-8")


def other_suite(bench: Path) -> None:  # noqa: F811
    (bench / "suite.yaml").write_text(SUITE.replace("[4e-3]", "[2e-3]"), encoding="utf-8")


def judged(bench: Path, folder: Path, made: report.Report) -> dict[str, Any]:  # noqa: F811
    at = made.verdict.at.removesuffix("Z")
    files = [str(folder), "--policy", str(bench / "policy.yaml"), "--at", at, "--json"]
    done = CliRunner().invoke(app, ["judge", *files])
    assert done.exit_code in (0, 3, 4), done.output
    return json.loads(done.output)


def test_a_fresh_folder_finds_the_evidence_runs_nothing_and_says_the_same(bench, stand_in):  # noqa: F811
    small_policy(bench)
    ran = stand_in(clean)
    one = gate.run(request(bench, "one"))
    assert one.report.verdict.outcome == "PASS", one.report.verdict.blockers
    assert len(ran) == 2
    two = gate.run(request(bench, "two"))
    assert len(ran) == 2, "a closed trial was run again"
    assert two.report.model_copy(update={"verdict": one.report.verdict}) == one.report
    assert two.report.verdict.model_copy(update={"at": one.report.verdict.at}) == one.report.verdict
    assert two.ledger == one.ledger
    assert (two.folder / "ledger.jsonl").read_bytes() == two.ledger.read_bytes()


@pytest.mark.parametrize(
    ("how", "count", "outcome"),
    [
        ("suite", 48, "INCONCLUSIVE"),
        ("policy", 48, "INCONCLUSIVE"),
        ("only", 90, "FAIL"),
        ("both", 90, "FAIL"),
        pytest.param("suite", 90, "FAIL", marks=pytest.mark.slow),
        pytest.param("policy", 90, "FAIL", marks=pytest.mark.slow),
        pytest.param("only", 48, "INCONCLUSIVE", marks=pytest.mark.slow),
        pytest.param("both", 48, "INCONCLUSIVE", marks=pytest.mark.slow),
    ],
)
def test_retrying_until_green_does_not_work(bench, stand_in, count, outcome, how):  # noqa: F811
    small_policy(bench)
    stand_in(knowing(count))
    first = gate.run(request(bench, "one"))
    assert first.report.verdict.outcome == outcome
    bad = next(r.id for r in first.report.trials if r.trial.attack == "relearn")
    if how in ("suite", "both"):
        other_suite(bench)
    if how in ("policy", "both"):
        small_policy(bench, ("  - {attack: relearn, where: {source: forget}, budgets: [2, 4]}\n", ""))
    ran = stand_in(clean)
    again = gate.run(request(bench, "two", only=("none",) if how == "only" else ()))
    assert bad not in ran
    assert again.report.verdict.outcome == outcome
    assert bad in {finding.trial for finding in again.report.verdict.findings}
    assert again.report.verdict.trials == 2 + (how in ("suite", "both"))
    assert {record.id for record in again.report.trials} >= {bad}
    assert again.report.verdict.trials == len([r for r in again.report.trials if r.measurements])


@pytest.mark.parametrize(("count", "code"), [(25, 0), (48, 4), (90, 3)])
def test_judge_on_the_ledger_says_exactly_what_the_run_stated(bench, stand_in, count, code):  # noqa: F811
    small_policy(bench)
    stand_in(knowing(count))
    outcome = gate.run(request(bench))
    assert int(outcome.exit_code) == code
    for folder in (outcome.folder, outcome.ledger):
        told = judged(bench, folder, outcome.report)
        assert told["verdict"] == outcome.report.verdict.model_dump(mode="json")
        assert told["decision"] == outcome.report.decision.model_dump(mode="json")
    other_suite(bench)
    stand_in(clean)
    second = gate.run(request(bench, "two"))
    assert judged(bench, second.folder, second.report)["verdict"] == second.report.verdict.model_dump(mode="json")


def test_a_ledger_that_lacks_a_trial_that_it_planned_is_not_judged(bench, stand_in):  # noqa: F811
    small_policy(bench)
    stand_in(clean)
    outcome = gate.run(request(bench))
    with ledger.writing(outcome.ledger) as found:
        plan = found.latest_plan()
        found.append(plan.model_copy(update={"trials": (*plan.trials, "f" * 64)}))
        assert isinstance(found.latest_plan(), Planned)
        with pytest.raises(LedgerError, match="lacks 1 of the 3 trials"):
            found.planned(found.latest_plan())
    files = [str(outcome.ledger), "--policy", str(bench / "policy.yaml")]
    done = CliRunner().invoke(app, ["judge", *files])
    assert isinstance(done.exception, LedgerError)


def test_betting_stops_after_the_first_proven_breach_and_lists_what_was_not_run(bench, stand_in):  # noqa: F811
    small_policy(bench, ("utility:", "statistics: {fail_fast: betting}\nutility:"))
    ran = stand_in(knowing(95, "none"))
    outcome = gate.run(request(bench, workers=1))
    assert outcome.report.verdict.outcome == "FAIL"
    assert len(ran) == 1
    told = report_table.not_tried(outcome.report)
    assert outcome.report.left_out == ()
    assert any("relearn" in line and "a breach was proved before" in line for line in told)
    again = gate.run(request(bench, "two"))
    assert len(ran) == 1, "a proven breach needs no further run"
    assert report_table.not_tried(again.report) == told


def test_what_only_leaves_out_blocks_a_pass_though_no_one_requires_it(bench, stand_in):  # noqa: F811
    small_policy(bench)
    suite = (bench / "suite.yaml").read_text(encoding="utf-8")
    (bench / "suite.yaml").write_text(suite + "  - attack: quantize\n", encoding="utf-8")
    ran = stand_in(clean)
    outcome = gate.run(request(bench, only=("none", "relearn")))
    assert len(ran) == 2
    words = "quantize (channel), seed 0: left out by --only"
    assert [sentence(block) for block in outcome.report.verdict.blockers] == [words]
    assert ledger.read(outcome.ledger).latest_plan().left_out == outcome.report.left_out != ()
    again = judged(bench, outcome.folder, outcome.report)
    assert again["verdict"] == outcome.report.verdict.model_dump(mode="json")
    whole = gate.run(request(bench, "two"))
    assert len(ran) == 3, "and what was found then is not run again"
    assert whole.report.left_out == ()


def test_betting_runs_to_the_end_where_nothing_is_proved(bench, stand_in):  # noqa: F811
    small_policy(bench, ("utility:", "statistics: {fail_fast: betting}\nutility:"))
    ran = stand_in(knowing(50))
    outcome = gate.run(request(bench))
    assert len(ran) == 2
    assert outcome.report.verdict.outcome == "INCONCLUSIVE"
    assert report_table.not_tried(outcome.report) == []


def test_what_the_producer_stated_is_not_taken_back_by_saying_something_else(bench, stand_in):  # noqa: F811
    small_policy(bench)
    stand_in(clean)
    for name, text in (("one", "trained on the verdict items"), ("two", "clean data"), ("three", "clean data")):
        (bench / "said.yaml").write_text(f"data: {text}\n", encoding="utf-8")
        outcome = gate.run(request(bench, name, statement=bench / "said.yaml"))
    assert outcome.report.producer_claims == {"data": "clean data (before: trained on the verdict items)"}


def test_an_earlier_release_is_taken_from_its_report_once_however_often_it_is_named(bench, stand_in):  # noqa: F811
    small_policy(bench)
    stand_in(clean)
    earlier = gate.run(request(bench, "earlier"))
    control = (
        f"controls:\n  best:\n    kind: earlier_release\n    sha256: {earlier.report.checkpoint}\n"
        f"    report_sha256: {sha256_file(earlier.folder / 'report.json')}\nratchet: "
        f"{{relative_to: best, max_rise: 0.15}}\n"
    )
    small_policy(bench, ("utility:", f"{control}utility:"))
    anchors = (("best", earlier.folder),)
    made = []
    for name in ("one", "two", "three"):
        outcome = gate.run(request(bench, name, checkpoint="organism:rmu", anchors=anchors))
        made.append(outcome.report.verdict.model_copy(update={"at": ""}))
    assert made[0] == made[1] == made[2]
    assert made[0].outcome == "PASS", made[0].blockers
    assert sum(finding.relative_to == ModelRef(role=Role.CONTROL, control="best") for finding in made[0].findings) == 3
    measurements = ledger.read(outcome.ledger).measurements
    assert len(measurements) == len({measurement.digest for measurement in measurements})
    assert judged(bench, outcome.folder, outcome.report)["verdict"] == outcome.report.verdict.model_dump(mode="json")
    stand_in(knowing(55))
    crept = request(bench, "crept", checkpoint="organism:base", anchors=anchors)
    assert gate.run(crept).report.verdict.outcome != "PASS"
    bare = replace(crept, anchors=(), checkpoint="organism:rmu", out=bench / "runs" / "bare")
    assert gate.run(bare).report.verdict.outcome == "INCONCLUSIVE", "without its anchor the ratchet holds nothing"
