"""Evidence is added, never repaired: a torn last line is cut, and anything else that does not fit is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import builders
import pytest
from builders import tasks_of

from robustness_gate.errors import LedgerError
from robustness_gate.evidence.ledger import read, writing
from robustness_gate.evidence.lines import FIRST, SCHEMA
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import EvidenceIssue, Note
from robustness_gate.records.trial import Closed, Measurement, Role, Trial

SUBJECT, OTHER = "a" * 64, "b" * 64
CHANGED = EvidenceIssue(code="checkpoint_changed", args={"sha256": "c" * 64})


def trial_of(seed_index: int = 0, *, subject: str = SUBJECT, role: Role = Role.CANDIDATE, control: str = "") -> Trial:
    config = {"source": "forget", "rates": [1e-4, 5e-4], "name": "Łucki"}
    return builders.trial_of(
        "relearn", seed_index, subject=subject, role=role, control=control, family="relearning", config=config,
        budgets=(5,), seed=7, tasks=tasks_of(forget=8), data={"dev": "2" * 64},
    )  # fmt: skip


def measurement_of(trial: Trial, attempt: int = 1) -> Measurement:
    chosen = {"learning_rate": 2e-3}
    return builders.measurement_of(
        trial, 5, trial.tasks[0], 1, other=0, attempt=attempt, cost={"steps": 60.0},
        signals={"loss_ratio": 0.123456789012345}, selected=chosen, settings_tried=({**chosen, "dev_accuracy": 0.25},),
    )  # fmt: skip


def closed_of(trial: Trial, attempt: int = 1, status: Any = "ok") -> Closed:
    return Closed(trial=trial.id, attempt=attempt, status=status)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of five lines: header, trial, mark, closed, note."""
    file = tmp_path / "ledger.jsonl"
    with writing(file) as ledger:
        for record in (
            trial_of(), measurement_of(trial_of()), closed_of(trial_of()), Note(subject=SUBJECT, what=CHANGED),
        ):  # fmt: skip
            ledger.append(record)
    return file


def refused(path: Path, line: int | None = None) -> str:
    """Both ways of opening it refuse it, at the same line, and leave the file as it was."""
    raw = path.read_bytes()
    said = set()
    for opening in (lambda: read(path), lambda: writing(path).__enter__()):
        with pytest.raises(LedgerError) as caught:
            opening()
        assert caught.value.where == (str(path) if line is None else f"{path}:{line}")
        said.add(str(caught.value))
    assert path.read_bytes() == raw
    assert len(said) == 1
    return said.pop()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def chained(records: list[object]) -> list[bytes]:
    """Lines that follow from one another, whatever they hold; hashed here, not by the code under test."""
    lines, head = [], FIRST
    for record in records:
        lines.append(json.dumps({"prev": head, "record": record}, separators=(",", ":")).encode())
        head = hashlib.sha256(lines[-1]).hexdigest()
    return lines


HEADER = {"kind": "ledger", "schema": SCHEMA}


# --- what goes in comes out -------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again_the_same(path: Path) -> None:
    ledger = read(path)
    assert list(ledger.trials.values()) == [trial_of()]
    assert ledger.trials[trial_of().id].id == trial_of().id
    assert ledger.measurements == [measurement_of(trial_of())]
    assert ledger.closed == [closed_of(trial_of())]
    assert [note.what for note in ledger.notes] == [CHANGED]


def test_every_line_is_canonical_json_and_names_the_one_before_by_its_hash(path: Path) -> None:
    head = FIRST
    for line in lines_of(path):
        entry = json.loads(line)
        assert line == encode(entry)
        assert entry["prev"] == head
        head = hashlib.sha256(line).hexdigest()
    assert read(path).head == head
    assert json.loads(lines_of(path)[0])["record"] == HEADER


def test_a_ledger_goes_on_where_it_stopped(path: Path) -> None:
    before = path.read_bytes()
    with writing(path) as ledger:
        ledger.append(measurement_of(trial_of(), attempt=2))
    assert path.read_bytes().startswith(before)
    assert [measurement.attempt for measurement in read(path).measurements] == [1, 2]


def test_a_record_is_on_the_disk_before_append_returns(path: Path) -> None:
    with writing(path) as ledger:
        ledger.append(measurement_of(trial_of(), attempt=2))
        assert json.loads(lines_of(path)[-1])["record"]["attempt"] == 2
        assert read(path).head == ledger.head


def test_what_was_appended_is_held_as_it_is_and_not_read_again(path: Path) -> None:
    with writing(path) as ledger:
        ledger.append(record := measurement_of(trial_of(), attempt=2))
        assert ledger.measurements[-1] is record


def test_the_same_trial_is_written_down_once(path: Path) -> None:
    before = path.read_bytes()
    with writing(path) as ledger:
        ledger.append(trial_of())
    assert path.read_bytes() == before


def test_a_ledger_that_is_opened_twice_without_writing_holds_one_header(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    for _ in range(2):
        with writing(file):
            pass
    assert len(lines_of(file)) == 1


# --- what a kill leaves -----------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_cut_wherever_it_is_torn(path: Path) -> None:
    whole = path.read_bytes()
    last = len(lines_of(path)[-1]) + 1
    for kept in {0, 1, 10, last // 2, last - 2, last - 1}:
        path.write_bytes(whole[: len(whole) - last + kept])
        assert read(path).notes == []
        with writing(path) as ledger:
            ledger.append(Note(subject=SUBJECT, what=CHANGED))
        assert path.read_bytes() == whole


def test_reading_a_torn_ledger_does_not_change_it(path: Path) -> None:
    torn = path.read_bytes()[:-4]
    path.write_bytes(torn)
    read(path)
    assert path.read_bytes() == torn


def test_a_writer_that_was_killed_leaves_every_finished_record_and_its_lock_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    program = (
        "import os, sys; from pathlib import Path; from robustness_gate.evidence.ledger import writing\n"
        "from robustness_gate.records.evidence import EvidenceIssue, Note\n"
        "with writing(Path(sys.argv[1])) as ledger:\n"
        "    issue = EvidenceIssue(code='checkpoint_unreadable', args={'reason': 'x'})\n"
        "    ledger.append(Note(subject='a' * 64, what=issue))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(file)], check=False).returncode == -9
    with writing(file) as ledger:
        assert [note.what.code for note in ledger.notes] == ["checkpoint_unreadable"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [1, 2, 3, 4])
def test_an_edited_line_is_refused_at_the_line_that_no_longer_follows(line: int, path: Path) -> None:
    lines = lines_of(path)
    blank = lines[line - 1].replace(b'"record":', b'"record": ', 1)  # says the same, in other bytes
    assert json.loads(blank) == json.loads(lines[line - 1])
    lines[line - 1] = blank
    write(path, lines)
    assert "the ledger was edited" in refused(path, line + 1)


def test_an_answer_that_was_changed_is_refused(path: Path) -> None:
    raw = path.read_bytes()
    assert raw.count(b'"gA=="') == 1
    path.write_bytes(raw.replace(b'"gA=="', b'"AA=="'))
    assert "the ledger was edited" in refused(path, 4)


@pytest.mark.parametrize("line", [1, 2, 3, 4])
def test_a_deleted_line_is_refused(line: int, path: Path) -> None:
    lines = lines_of(path)
    del lines[line - 1]
    write(path, lines)
    assert "the ledger was edited" in refused(path, line)


def test_swapped_lines_are_refused(path: Path) -> None:
    lines = lines_of(path)
    lines[2], lines[3] = lines[3], lines[2]
    write(path, lines)
    assert "the ledger was edited" in refused(path, 3)


def test_a_line_that_is_there_twice_is_refused(path: Path) -> None:
    lines = lines_of(path)
    write(path, [*lines[:3], lines[2], *lines[3:]])
    assert "the ledger was edited" in refused(path, 4)


@pytest.mark.parametrize(
    "garbage", [b"garbage", b"", b"{", b"[]", b"null", b"42", b"\xff\xfe", b'{"prev": "x"}', b"[" * 50_000, b"9" * 5000]
)
def test_garbage_in_the_middle_is_refused_with_its_line(garbage: bytes, path: Path) -> None:
    lines = lines_of(path)
    write(path, [*lines[:2], garbage, *lines[2:]])
    assert "is not a ledger line" in refused(path, 3)


@pytest.mark.parametrize("kind", ["waiver", "", None, 5, "ledger"])
def test_an_unknown_kind_of_record_is_refused_with_its_line(kind: object, path: Path) -> None:
    write(path, chained([HEADER, {"kind": kind, "schema": "robustness-gate/ledger/v9"}]))
    assert "unknown record" in refused(path, 2)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param("text", id="text"),
        pytest.param(None, id="nothing"),
        pytest.param([1], id="a list"),
        pytest.param({"kind": "trial"}, id="a trial without itself"),
        pytest.param({"kind": "closed", "trial": "a" * 64, "attempt": 1, "status": "passed"}, id="an unknown status"),
        pytest.param({"kind": "closed", "trial": "a" * 64, "attempt": 0, "status": "ok"}, id="attempt zero"),
        pytest.param({"kind": "closed", "trial": "a" * 63, "attempt": 1, "status": "ok"}, id="a short digest"),
        pytest.param({"kind": "closed", "trial": "a" * 64, "attempt": True, "status": "ok"}, id="a bool for a number"),
        pytest.param({"kind": "note", "subject": "a" * 64, "text": "x", "new": 1}, id="an unknown key"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_its_line(record: object, path: Path) -> None:
    write(path, chained([HEADER, record]))
    assert "holds a record that this version cannot read" in refused(path, 2)


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf"), 2**60])
def test_what_readers_of_json_read_differently_is_refused_with_its_line(value: object, path: Path) -> None:
    """In a field that may hold anything, too: it would have no digest."""
    trial = json.loads(lines_of(path)[1])["record"]
    trial["trial"]["config"]["rates"] = [value]
    write(path, chained([HEADER, trial]))
    assert "is not a ledger line" in refused(path, 2)


def test_a_missing_ledger_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        read(tmp_path / "none.jsonl")


def test_a_second_writer_is_refused_while_the_first_one_writes_and_let_in_afterwards(path: Path) -> None:
    with writing(path) as ledger:
        with pytest.raises(LedgerError, match="another run is writing"), writing(path):
            pass
        ledger.append(measurement_of(trial_of(), attempt=2))  # the first one is not disturbed
    with writing(path) as ledger:
        assert len(ledger.measurements) == 2


def test_a_writer_in_another_process_is_refused_too(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from robustness_gate.evidence.ledger import writing\n"
        "with writing(Path(sys.argv[1])): pass\n"
    )
    with writing(path):
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another run is writing to this ledger" in done.stderr


def test_nothing_can_be_appended_to_a_ledger_that_was_only_read_or_is_closed(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="reading only"):
        read(path).append(measurement_of(trial_of(), attempt=2))
    with writing(path) as ledger:
        pass
    with pytest.raises(LedgerError, match="reading only"):
        ledger.append(trial_of())
    assert path.read_bytes() == before


# --- attempts and evidence --------------------------------------------------------------------------------------------


def test_attempts_are_counted_by_the_traces_they_left(tmp_path: Path) -> None:
    trial = trial_of()
    with writing(tmp_path / "ledger.jsonl") as ledger:
        assert ledger.attempts(trial.id) == 0
        assert not ledger.is_settled(trial.id)
        ledger.append(measurement_of(trial, attempt=1))
        ledger.append(measurement_of(trial_of(1), attempt=9))
        assert ledger.attempts(trial.id) == 1
        assert not ledger.has_ended(trial.id)
        ledger.append(closed_of(trial, attempt=2, status="failure"))
        assert ledger.has_ended(trial.id)
        assert not ledger.is_settled(trial.id)  # what failed is tried again, as the next attempt
        ledger.append(closed_of(trial, attempt=3))
    for seen in (ledger, read(tmp_path / "ledger.jsonl")):
        assert seen.attempts(trial.id) == 3
        assert seen.is_settled(trial.id)
        assert seen.attempts(trial_of(1).id) == 9
        assert not seen.has_ended(trial_of(1).id)


def test_evidence_holds_the_planned_trials_and_every_other_trial_of_the_same_candidate(tmp_path: Path) -> None:
    planned, old, foreign, control = (
        trial_of(0), trial_of(1), trial_of(2, subject=OTHER), trial_of(3, role=Role.CONTROL, control="oracle"),
    )  # fmt: skip
    with writing(tmp_path / "ledger.jsonl") as ledger:
        for trial in (planned, old, foreign, control):
            ledger.append(trial)
            ledger.append(measurement_of(trial))
            ledger.append(closed_of(trial))
        evidence = ledger.evidence(SUBJECT, (planned,))
    assert evidence.planned == (planned,)
    assert evidence.extra == (old,)
    assert (
        {measurement.trial for measurement in evidence.measurements}
        == {planned.id, old.id}
        == {end.trial for end in evidence.closed}
    )


def test_notes_are_only_about_their_own_subject(path: Path) -> None:
    with writing(path) as ledger:
        gone = EvidenceIssue(code="checkpoint_unreadable", args={"reason": "gone"})
        ledger.append(Note(subject=OTHER, what=gone))
    assert read(path).evidence(SUBJECT, ()).notes == (CHANGED,)
    assert read(path).evidence(OTHER, ()).notes == (gone,)
    assert read(path).evidence("c" * 64, ()).notes == ()
