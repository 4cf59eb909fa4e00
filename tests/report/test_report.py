"""The report is a function of policy, evidence and moment: one schema, no path, the same bytes in any order."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from builders import told
from jsonschema import Draft202012Validator, ValidationError
from typer.testing import CliRunner

from robustness_gate import publish
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence, TokenizerCheck
from robustness_gate.records.policy import Policy, Validity
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Role
from robustness_gate.report import build as report_build
from robustness_gate.report import limitations as report_limitations
from robustness_gate.report import reading
from robustness_gate.report import record as report
from robustness_gate.report import table as report_table
from robustness_gate.report.record import Report
from robustness_gate.verdict import judge, pack

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "reports" / "schema" / "report.v1.schema.json"
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MANIFEST = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="a" * 64),))
ORIGINAL = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256="b" * 64),))


@pytest.fixture(scope="module")
def files(policy_file: Path, suite_file: Path) -> tuple[Loaded[Policy], Loaded[Suite]]:
    loaded = load_policy(policy_file)
    validity = Validity(self_test="off", sham="off")
    policy = loaded.record.model_copy(update={"validity": validity})
    return dataclasses.replace(loaded, record=policy), load_suite(suite_file)


@pytest.fixture(scope="module")
def planned(files: tuple[Loaded[Policy], Loaded[Suite]], suite_data: SuiteData) -> plan.Plan:
    subjects = [
        plan.Subject(Role.CANDIDATE, CheckpointRef(Path("/secret/candidate")), MANIFEST),
        plan.Subject(Role.ORIGINAL, CheckpointRef(Path("/secret/original")), ORIGINAL),
    ]
    return plan.make(*files, suite_data, subjects)


def evidence_of(planned: plan.Plan, worst: float) -> Evidence:
    """Every attack at chance, one of them at `worst`, with a killed first attempt of the last."""
    own = plan.of_candidate(planned)
    measurements = [
        m for trial in own for m in told(trial, worst if trial == own[1] else 0.27, 2 if trial == own[-1] else 1)
    ]
    measurements += told(own[-1], 0.26, 1)
    closed = [Closed(trial=t.id, attempt=2 if t == own[-1] else 1, status="ok") for t in own]
    original = planned.trials[-1]
    measurements += told(original, 0.9)
    closed.append(Closed(trial=original.id, attempt=1, status="ok"))
    check = TokenizerCheck(
        subject=MANIFEST.digest, reference=original.subject, tasks={each.name: each.sha256 for each in original.tasks},
        data=original.data, texts=9, sha256="5" * 64, template="6" * 64, reference_sha256="5" * 64,
        reference_template="6" * 64,
    )  # fmt: skip
    return Evidence(
        MANIFEST.digest, own, tuple(measurements), tuple(closed), comparators=(original,), tokenizers=(check,)
    )


def report_of(files: Any, planned: plan.Plan, worst: float, evidence: Evidence | None = None) -> Report:
    policy, suite = files
    return report_build.make(
        policy,
        suite,
        MANIFEST,
        evidence or evidence_of(planned, worst),
        AT,
    )


def plain(made: Report) -> dict[str, Any]:
    return made.model_dump(mode="json", by_alias=True)


OUTCOMES = [(0.27, "PASS"), (0.38, "INCONCLUSIVE"), (0.8, "FAIL")]


# --- the schema -------------------------------------------------------------------------------------------------------


def test_the_committed_schema_is_the_one_that_the_code_has() -> None:
    """When this fails on purpose: robustness-gate schema > reports/schema/report.v1.schema.json, and say so."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == report.json_schema()


def test_the_committed_schema_is_what_the_verb_prints() -> None:
    from robustness_gate.cli import app

    printed = CliRunner().invoke(app, ["schema"])
    assert printed.exit_code == 0
    assert printed.stdout == SCHEMA.read_text(encoding="utf-8")


def test_the_schema_is_a_json_schema_and_closed_to_unknown_keys() -> None:
    schema = report.json_schema()
    Draft202012Validator.check_schema(schema)
    objects = [schema, *(each for each in schema["$defs"].values() if each.get("type") == "object")]
    assert objects
    assert all(each["additionalProperties"] is False for each in objects)


@pytest.mark.parametrize(("worst", "outcome"), OUTCOMES)
def test_a_made_up_report_of_every_outcome_validates(
    worst: float, outcome: str, files: Any, planned: plan.Plan
) -> None:
    made = report_of(files, planned, worst)
    assert made.verdict.outcome == outcome
    Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(plain(made))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda r: r["verdict"].update(outcome="CERTIFIED"), id="an outcome that there is not"),
        pytest.param(lambda r: r.update(new=1), id="an unknown key"),
        pytest.param(lambda r: r["verdict"]["findings"][0].update(upper=1.2), id="a bound over one"),
        pytest.param(lambda r: r.pop("verdict"), id="no verdict"),
        pytest.param(lambda r: r["trials"][0]["trial"].update(subject="x"), id="a digest that is none"),
        pytest.param(lambda r: r["trials"][0].update(measurements="none"), id="text for a list"),
    ],
)
def test_a_report_that_was_spoilt_does_not_validate(spoil: Any, files: Any, planned: plan.Plan) -> None:
    spoilt = plain(report_of(files, planned, 0.27))
    spoil(spoilt)
    with pytest.raises(ValidationError):
        Draft202012Validator(report.json_schema()).validate(spoilt)


def test_a_report_is_read_back_the_same(files: Any, planned: plan.Plan) -> None:
    made = report_of(files, planned, 0.8)
    again = Report.model_validate_json(encode(plain(made)))
    assert encode(plain(again)) == encode(plain(made))


# --- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("worst", "outcome"), OUTCOMES)
def test_a_report_names_no_path_host_or_user_of_this_machine(
    worst: float, outcome: str, files: Any, planned: plan.Plan
) -> None:
    text = encode(plain(report_of(files, planned, worst))).decode()
    home = str(Path.home())
    for word in (str(ROOT), str(Path.cwd()), "/secret", "/tmp/", "/usr/", *([home] if len(home) > 5 else [])):
        assert word not in text
    assert not re.search(r'"(/(home|root|usr|var|opt|mnt|work|private|Users)\b|[A-Z]:\\\\)', text)


def test_the_same_evidence_in_another_order_gives_the_same_bytes(files: Any, planned: plan.Plan) -> None:
    one = evidence_of(planned, 0.38)
    expected = encode(plain(report_of(files, planned, 0.38, one)))
    for seed in range(8):
        chance = random.Random(seed)
        parts = {
            name: list(getattr(one, name))
            for name in ("planned", "measurements", "closed", "comparators", "tokenizers")
        }
        for records in parts.values():
            chance.shuffle(records)
        shuffled = Evidence(one.subject, **{name: tuple(records) for name, records in parts.items()})
        assert encode(plain(report_of(files, planned, 0.38, shuffled))) == expected


def test_the_verdict_can_be_judged_again_from_the_report_alone(files: Any, planned: plan.Plan) -> None:
    for worst, outcome in OUTCOMES:
        made = Report.model_validate_json(encode(plain(report_of(files, planned, worst))))
        assert judge(made.resolved, report.evidence_in(made), AT) == made.verdict
        assert made.verdict.outcome == outcome
        assert all(record.id == record.trial.id for record in made.trials)
        assert made.checkpoint == made.manifest.digest


def test_the_policys_words_are_those_that_were_judged_even_if_the_file_has_changed_since(
    files: Any, planned: plan.Plan, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(files[0].path.read_bytes())
    loaded = load_policy(path)
    path.write_text("something else")
    made = report_of((loaded, files[1]), planned, 0.27)
    assert made.policy.text == files[0].path.read_text(encoding="utf-8")
    assert made.policy.sha256 == loaded.sha256 == files[0].sha256


@pytest.mark.parametrize(("worst", "outcome"), OUTCOMES)
def test_every_outcome_says_what_it_does_not_mean(worst: float, outcome: str, files: Any, planned: plan.Plan) -> None:
    made = report_of(files, planned, worst)
    assert made.meaning == report_build.MEANING[outcome]
    assert made.meaning.startswith(outcome)
    assert report_limitations.NO_SELF_TEST in made.limitations
    assert report_table.sentence(made).startswith(f"{outcome}: ")


def test_the_table_shows_what_the_attack_brought_back_beside_what_was_there_before(
    files: Any, planned: plan.Plan
) -> None:
    made = report_of(files, planned, 0.8)
    rows = {(row.attack, row.budget): row for row in report_table.table(made)}
    row = rows["relearn (unrelated, lora)", 100]
    assert (row.before["acc_permuted"], row.after["acc_permuted"]) == (0.27, 0.8)
    assert row.after["acc"] == 0.4
    assert row.finding == "OVER"
    assert row.interval[0] < 0.8 < row.interval[1]
    assert {row.finding for key, row in rows.items() if key[0] != "relearn (unrelated, lora)"} <= {
        "within",
        "no verdict: the attempt did not end",
    }
    assert report_table.headline(made) == {
        "verdict": "FAIL",
        "reason": made.reason,
        "strongest_attack": "relearn (unrelated, lora)",
        "strongest_accuracy": 0.8,
        "limit": 0.4,
        "decision": "BLOCK",
        "trials": made.verdict.trials,
    }
    assert made.verdict.trials == sum(record.trial.role == Role.CANDIDATE for record in made.trials)
    assert "95.0% before any attack (at least 80% is asked): within" in report_table.utility_lines(made)[0]


def test_a_destroyed_models_utility_is_called_by_its_name(files: Any, planned: plan.Plan) -> None:
    evidence = evidence_of(planned, 0.27)
    useless = pack([False] * 300)
    measurements = tuple(
        m.model_copy(update={"correct": {"acc_permuted": useless, "acc": useless}}) if m.task == "retain" else m
        for m in evidence.measurements
    )
    made = report_of(files, planned, 0.27, Evidence(evidence.subject, evidence.planned, measurements, evidence.closed))
    assert made.verdict.outcome == "FAIL"
    assert report_table.utility_lines(made)[0].endswith("USELESS")


# --- a long history costs in proportion -------------------------------------------------------------------------------


def lines_run(work: Callable[[], object]) -> Counter[str]:
    """How often a piece of work runs each line of the gate's own code: each turn of a loop counts.

    Drawings are left out, because they show a fixed number of rows at most.
    """
    ran, own = Counter[str](), str(Path(report.__file__).parents[1])

    def inside(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            ran[f"{frame.f_code.co_filename.removeprefix(own)}:{frame.f_lineno}"] += 1
        return inside

    def watch(frame: FrameType, _: str, __: object) -> Any:
        path = frame.f_code.co_filename
        return inside if path.startswith(own) and not path.endswith("plots.py") else None

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        work()
    finally:
        sys.settrace(before)
    return ran


def test_no_line_runs_more_than_in_proportion_to_the_length_of_the_ledger(
    files: Any, planned: plan.Plan, tmp_path: Path
) -> None:
    evidence = evidence_of(planned, 0.8)
    like = evidence.planned[1]

    def work(more: int) -> Counter[str]:
        path = tmp_path / f"{more}.jsonl"
        with ledgers.writing(path) as ledger:
            for record in (*planned.trials, *evidence.measurements, *evidence.closed):
                ledger.append(record)
            for number in range(more):
                trial = like.model_copy(update={"seed_index": 100 + number})
                for extra in (trial, *told(trial, 0.27), Closed(trial=trial.id, attempt=1, status="ok")):
                    ledger.append(extra)

        def read_judge_report() -> None:
            again = ledgers.read(path)
            assert all(again.is_settled(each) and again.attempts(each) for each in again.trials)
            found = report_of(files, planned, 0.8, again.evidence(MANIFEST.digest, planned.trials))
            assert found.verdict.outcome == "FAIL"
            publish.files(found)
            reading.refuse_forged(found)

        return lines_run(read_judge_report)

    work(1)  # what is imported and kept at the first time
    none, some, fourfold = (work(more) for more in (0, 10, 40))
    grown = {where: (times - none[where]) / max(1, some[where] - none[where]) for where, times in fourfold.items()}
    assert max(grown.values()) > 3.9
    assert {where: ratio for where, ratio in grown.items() if ratio > 4.3} == {}
