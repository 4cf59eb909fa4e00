"""A disk that is full, a folder or a pipe in a file's place: one sentence, the right code, nothing half-written.

The trip is the gate's own, in this process; what would take minutes, the trials, is a stand-in that answers at once and
keeps its rows as a trial does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pickle
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import measurement_of

from robustness_gate import cli, gate, organisms, publish, starter
from robustness_gate.attestation import keys
from robustness_gate.errors import Exit, FileError, GateError, LedgerError, SigningError, UsageError, WriteError
from robustness_gate.evidence import ledger
from robustness_gate.records.trial import Closed, Measurement
from robustness_gate.report import reading as report_reading
from robustness_gate.running import attempt
from robustness_gate.running.executors import Event, local
from robustness_gate.system import writing

RENDERED = tuple(module.FILE for module in publish.ours("FILE"))
LEFT = ("report.json", *RENDERED, "checkpoint.manifest.json", "ledger.jsonl")


def answered(job: Any, todo: Any, *_: Any, **__: Any) -> Iterator[Event]:
    """What `local.execute` does, with answers that no one had to compute."""
    for trial, number in todo:
        yield Event(trial, None)
        for mark in trial.budgets:
            for task in trial.tasks:
                raw = f"{trial.id} {mark} {task.name}".encode() * 40
                digest = hashlib.sha256(raw).hexdigest()
                writing.whole(job.rows_in / f"{digest}.safetensors", raw)
                right = [n % 4 == 0 for n in range(task.items)]
                yield Event(trial, measurement_of(trial, mark, task, right, attempt=number, rows=digest))
        yield Event(trial, Closed(trial=trial.id, attempt=number, status="ok"))


@pytest.fixture
def trip(tmp_path, root, monkeypatch) -> Callable[..., gate.Outcome]:
    """Take the oracle through the gate; by itself everything goes to `tmp_path`."""
    monkeypatch.setattr(local, "execute", answered)

    def run(**more: Any) -> gate.Outcome:
        given = {
            "checkpoint": str(organisms.checkpoint("oracle")), "policy": root / "policies" / "custom.yaml",
            "suite": root / "suites" / "custom.yaml", "out": tmp_path / "runs" / "out",
            "ledgers": tmp_path / "ledgers", "tracking_uri": "",
        }  # fmt: skip
        return gate.run(gate.Request(**{**given, **more}))

    return run


@contextlib.contextmanager
def full_after(writes: int, monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC) -> Iterator[None]:
    """The disk takes so many more writes. Every write of the gate's waits for the disk, and there it is told."""
    left, usual = [writes], os.fsync

    def fsync(handle: int) -> None:
        if not left[0]:
            raise OSError(number, os.strerror(number))
        left[0] -= 1
        usual(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def states(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(trip: Callable[..., gate.Outcome]) -> WriteError | None:
    """What a trip was refused with; None where it went to its end."""
    try:
        trip()
    except WriteError as error:
        return error
    return None


def told(error: GateError) -> str:
    """One sentence or two on one line, of what a user can do something about."""
    words = str(error)
    assert "\n" not in words
    assert "Errno" not in words
    assert error.exit_code == Exit.USAGE
    return words


def test_a_disk_that_is_full_at_any_write_ends_the_run_in_one_sentence_and_it_goes_on(tmp_path, trip, monkeypatch):
    out, kept = tmp_path / "runs" / "out", tmp_path / "ledgers"
    before = 0
    for writes in range(200):
        with full_after(writes, monkeypatch):
            error = refused(trip)
        if error is None:
            break
        assert "No space left on device" in told(error)
        assert "give the same command again" in told(error)
        assert not list(tmp_path.rglob("*partial*"))
        assert not any((out / name).exists() for name in LEFT), "a report is whole, or not there"
        for path in kept.glob("*/ledger.jsonl"):
            found = ledger.read(path)
            assert len(found.measurements) >= before, "what was written down is kept"
            before = len(found.measurements)
        for row in tmp_path.rglob("*.safetensors"):
            assert hashlib.sha256(row.read_bytes()).hexdigest() == row.stem
    else:
        pytest.fail("it never ended")
    assert writes > 10, "the injection met the ledger, the rows and the report"
    assert {path.name for path in out.iterdir()} - {"cost.json"} == {*LEFT, "rows"}, "what it took may be missing"
    assert report_reading.read(out).verdict.trials


def test_a_full_disk_leaves_the_last_report_as_it_was(tmp_path, trip, monkeypatch):
    trip()
    out = tmp_path / "runs" / "out"
    was = states(out)
    failed = 0
    for writes in range(40):
        with full_after(writes, monkeypatch):
            error = refused(trip)
        if error is None:
            break
        failed += 1
        assert states(out) == was, "nothing half-new beside old files"
    assert failed >= len(LEFT)
    assert states(out) != was


SIZES = (4, 28, 160, *(pytest.param(each, marks=pytest.mark.slow) for each in (12, 60, 100)))


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[], None]]:
    """A file system of that size; where none may be mounted, no file may be larger than a third. Calling makes room."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024 // 3, hard))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kilobytes", SIZES)
def test_on_a_small_disk_a_run_ends_in_one_sentence_and_goes_on_where_there_is_room(tmp_path, trip, kilobytes):
    with small_disk(tmp_path / "small", kilobytes) as make_room:
        where = {"ledgers": tmp_path / "small" / "ledgers", "out": tmp_path / "small" / "runs" / "out"}
        with pytest.raises((WriteError, UsageError)) as caught:
            trip(**where)
        assert "cannot be written: " in told(caught.value)
        for path in where["ledgers"].glob("*/ledger.jsonl"):
            ledger.read(path)
        assert not list((tmp_path / "small").rglob("*partial*"))
        assert not list((tmp_path / "small").rglob("report.*"))
        make_room()
        assert trip(**where).report.verdict.trials
        assert {path.name for path in where["out"].iterdir()} == {*LEFT, "rows", "cost.json"}


def test_a_run_that_fails_leaves_no_empty_folder(tmp_path, trip):
    (tmp_path / "bad.yaml").write_text("id: none\n", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "runs" / "deep" / "out", tmp_path / "mine"):
        with pytest.raises(FileError):
            trip(policy=tmp_path / "bad.yaml", out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "mine"], "what was there before is not ours"


def in_the_way(path: Path, what: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[what]()
    return path


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("report.json", "folder"),
        ("report.html", "pipe"),
        ("ledger.jsonl", "pipe"),
        ("rows", "pipe"),
        ("rows", "folder"),
    ],
)
def test_what_is_no_file_in_the_place_of_a_result_is_reported(tmp_path, trip, name, what):
    if (name, what) == ("rows", "folder"):
        name = "rows/" + next(iter(trip().folder.joinpath("rows").iterdir())).name
        tmp_path.joinpath("runs", "out", name).unlink()
    in_the_way(tmp_path / "runs" / "out" / name, what)
    with pytest.raises(WriteError) as caught:
        trip()
    assert "cannot be written: " in told(caught.value)
    assert not list(tmp_path.rglob("*partial*"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_where_what_the_trials_took_cannot_be_written_the_verdict_stands(tmp_path, trip, what):
    usual = trip(out=tmp_path / "usual" / "out", ledgers=tmp_path / "usual" / "ledgers")
    assert usual.warnings == ()
    in_the_way(tmp_path / "ledgers" / usual.report.checkpoint / "cost.jsonl", what)
    in_the_way(tmp_path / "runs" / "out" / "cost.json", what)
    hindered = trip()
    then = hindered.report.verdict.at
    assert hindered.report.verdict == usual.report.verdict.model_copy(update={"at": then})
    assert hindered.exit_code == usual.exit_code
    lines, beside = hindered.warnings
    assert "what the trials took could not be written" in lines
    assert "'cost.json' could not be written, the verdict stands" in beside


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file_is_read_by_no_one_and_waited_for_by_no_one(tmp_path, trip, what):
    other = in_the_way(tmp_path / "other", what)
    for read, kind in (
        (lambda: trip(policy=other), FileError),
        (lambda: trip(suite=other), FileError),
        (lambda: trip(self_test=other), FileError),
        (lambda: trip(statement=other), FileError),
        (lambda: ledger.read(other), LedgerError),
        (lambda: report_reading.read(in_the_way(tmp_path / what / "report.json", what)), FileError),
        (lambda: keys.public_key(other), SigningError),
    ):
        with pytest.raises(kind) as caught:
            read()
        assert "cannot be read: " in told(caught.value)
    with pytest.raises(WriteError, match=r"no file|a folder"), ledger.writing(other):
        pass


def test_a_shells_own_pipe_is_read(tmp_path, root, trip):
    """`--policy <(sed ...)` is a pipe too, and someone writes into it."""
    reading, writing_end = os.pipe()
    text = (root / "policies" / "custom.yaml").read_bytes()

    def write() -> None:
        os.write(writing_end, text)
        os.close(writing_end)

    threading.Thread(target=write).start()
    assert trip(policy=Path(f"/dev/fd/{reading}")).report.policy.sha256 == hashlib.sha256(text).hexdigest()
    os.close(reading)


def test_lost_sidecars_are_reported_and_the_verdict_stands(tmp_path, trip):
    first = trip()
    rows = sorted(first.ledger.parent.joinpath("rows").iterdir())
    rows[0].unlink()
    rows[1].write_bytes(b"something else")
    again = trip(out=tmp_path / "runs" / "again")
    (warning,) = again.warnings
    assert f"2 of {len(rows)} files of log-likelihoods are gone" in warning
    assert "the ledger's answers and stands" in warning
    assert len(list((tmp_path / "runs" / "again" / "rows").iterdir())) == len(rows) - 2, "no other bytes under a digest"
    assert again.report.verdict.outcome == first.report.verdict.outcome


def refusing(number: int) -> Callable[..., None]:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EWOULDBLOCK, "another run is writing"), (errno.ENOLCK, "has no locks"), (errno.EOPNOTSUPP, "has no locks")],
)
def test_a_file_system_without_locks_is_not_another_run(tmp_path, monkeypatch, number, words):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with pytest.raises(LedgerError, match=words), ledger.writing(tmp_path / "ledger.jsonl"):
        pass


def test_where_a_lock_keeps_no_one_out_the_chain_is_not_broken(trip):
    path = trip().ledger
    record = ledger.read(path).measurements[0]
    with ledger.writing(path) as opened:
        with path.open("ab") as other:
            other.write(path.read_bytes().splitlines(keepends=True)[-1])
        was = path.read_bytes()
        with pytest.raises(LedgerError, match="another process has written") as caught:
            opened.append(record)
        told(caught.value)
    assert path.read_bytes() == was


def test_after_a_failed_write_the_ledger_takes_no_other(tmp_path, trip, monkeypatch):
    path = trip().ledger
    record = ledger.read(path).measurements[0]
    was = path.read_bytes()
    with ledger.writing(path) as opened:
        with full_after(0, monkeypatch), pytest.raises(WriteError):
            opened.append(record)
        assert path.read_bytes() == was, "no half of a line"
        with pytest.raises(LedgerError):
            opened.append(record)
    assert path.read_bytes() == was


def test_a_worker_without_room_ends_the_run_and_its_trial_stays_open(monkeypatch):
    """A trial is no worse for a full disk: it is not closed as a failure, and those after it do not fail one by one."""
    error = WriteError("cannot be written: No space left on device.", remedy="Make room.", where="rows/x")

    worker = object.__new__(local._Worker)
    worker.child = SimpleNamespace(receive=lambda: pickle.loads(pickle.dumps(error)))
    monkeypatch.setattr(local.bounded, "ready", lambda children: children)
    with pytest.raises(WriteError) as caught:
        worker.take()
    assert str(caught.value) == "rows/x: cannot be written: No space left on device. Make room."


def test_a_worker_reports_a_full_disk_to_its_parent(monkeypatch):
    from robustness_gate.running import trial as trials

    def full(*_: Any, **__: Any) -> Iterator[Measurement]:
        raise WriteError("cannot be written: No space left on device.")
        yield

    class Resident(attempt.Resident):
        def loaded_model(self, _: Any) -> None: ...
        def reference(self, _: Any) -> None: ...
        def _surroundings(self) -> dict[str, Any]:
            return {}

        @contextlib.contextmanager
        def watched(self, _: Any) -> Iterator[Callable[[], int]]:
            yield lambda: 0

    sent: list[Any] = []
    asked = SimpleNamespace(reference=None)
    pipe = SimpleNamespace(recv=lambda: (asked, 1), send=sent.append)
    monkeypatch.setattr(trials, "run", full)
    monkeypatch.setattr(attempt, "Resident", Resident)
    local._work(pipe, SimpleNamespace(suite_data=None, rows_in=None))
    assert [type(each) for each in sent] == [WriteError]


@pytest.mark.parametrize("writes", [0, 1])
def test_half_a_key_is_no_key(tmp_path, monkeypatch, writes):
    with full_after(writes, monkeypatch), pytest.raises(SigningError, match="No space left"):
        keys.save(keys.generate(), tmp_path / "keys")
    assert not (tmp_path / "keys").exists(), "a second try is not told that a key is there already"


def test_half_a_starter_is_no_starter(tmp_path, monkeypatch):
    usual, begun = Path.open, []

    def open_(self: Path, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        if "x" in mode:
            begun.append(self)
            if len(begun) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(self, mode, *arguments, **more)

    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(UsageError, match="No space left"):
        starter.write(tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_verdict_that_cannot_be_printed_is_no_success(unbuffered, root):
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "robustness_gate", "--version"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60, cwd=root,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert done.stderr == f"error: No space left on device. {writing.ROOM}\n"


def test_a_fault_of_ours_is_still_one(monkeypatch):
    def broken() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(FileNotFoundError):
        cli.main()
