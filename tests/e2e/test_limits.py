"""A checkpoint that hangs or breaks its reader costs its trial, never the run, and never makes a PASS."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import endless
import pytest
from test_gate import set_up

from robustness_gate import attacks, gate, organisms
from robustness_gate.assurance import doctor
from robustness_gate.errors import GateError
from robustness_gate.evidence import ledger
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning import plan
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.trial import Closed, Measurement, Role
from robustness_gate.running.executors import NotLoaded, local
from robustness_gate.system import bounded
from robustness_gate.system.bounded import Limits

PATIENCE = 60.0
"""Seconds, on a busy machine, for what takes a few."""
TOO_LONG = {
    "looping": "the chat template took longer than 1 s over a prompt (limit --text-timeout)",
    "growing": "the tokenizer took longer than 1 s over a text (limit --text-timeout)",
}
BROKEN = {
    "catastrophic": "the tokenizer broke down: Onig: Regex search error: retry-limit-in-match over",
    "panicking": "transformers cannot load its tokenizer: the loader broke down: Precompiled",
    "huge": "the chat template ran out of memory",
}


def specimen(kind: str, to: Path) -> Path:
    return endless.looping(to, template=endless.HUGE) if kind == "huge" else getattr(endless, kind)(to)


def jobbed(suite_data, folder: Path, original: Path | None = None, **limits: float) -> local.Job:
    places = {
        manifest_of(CheckpointRef(each)).digest: CheckpointRef(each) for each in (folder, original) if each is not None
    }
    digests = list(places)
    return local.Job(
        suite_data, places, "cpu", None, original=digests[1] if original is not None else None, limits=Limits(**limits)
    )


def trials_of(job: local.Job, count: int = 1) -> list:
    digest = next(iter(job.places))
    subject, none = (
        plan.Subject(Role.CANDIDATE, job.places[digest], manifest_of(job.places[digest])),
        attacks.load("none"),
    )
    return [plan.trial_of(subject, None, none, none.Config(), i, job.suite_data, "float32") for i in range(count)]


def executed(job: local.Job, count: int, **more) -> list:
    return [each for each in local.execute(job, [(t, 1) for t in trials_of(job, count)], **more) if each.record]


@pytest.mark.parametrize("kind", [*TOO_LONG, *BROKEN])
def test_each_ends_its_trial_with_the_reason_in_one_sentence(kind, small_suite_data, tmp_path, capfd):
    job = jobbed(small_suite_data, specimen(kind, tmp_path / "m"), text=1.0)
    start = time.monotonic()
    (event,) = executed(job, 1)
    assert time.monotonic() - start < PATIENCE
    assert isinstance(event.record, Closed)
    assert event.record.status == "failure"
    assert {**TOO_LONG, **BROKEN}[kind] in event.record.reason
    assert "\n" not in event.record.reason
    assert "Traceback" not in capfd.readouterr().err


def test_what_cannot_be_loaded_is_loaded_once_and_every_trial_of_it_says_why(small_suite_data, tmp_path, monkeypatch):
    """A hundred thousand layers, past the look at the files: too many for three seconds."""
    started = []

    class Counted(local._Worker):
        def __init__(self, job):
            started.append(job)
            super().__init__(job)

    monkeypatch.setattr(local, "_Worker", Counted)
    folder = tmp_path / "m"
    endless.deep(folder)
    job = local.Job(small_suite_data, {"a" * 64: CheckpointRef(folder)}, "cpu", None, limits=Limits(loading=3.0))
    (trial,) = trials_of(jobbed(small_suite_data, organisms.checkpoint("oracle")))
    trials = [trial.model_copy(update={"subject": "a" * 64, "seed_index": i}) for i in range(12)]
    start = time.monotonic()
    events = [each for each in local.execute(job, [(t, 1) for t in trials]) if each.record]
    assert time.monotonic() - start < PATIENCE
    assert len(started) == 1
    assert {each.record.reason for each in events} == {"it took longer than 3 s to load (limit --load-timeout)"}
    assert [each.record.trial for each in events] == [each.id for each in trials]
    assert all(each.not_loaded is not None and not each.not_loaded.by_files for each in events)


def test_the_next_trial_gets_a_fresh_worker(small_suite_data):
    """Stopped from outside in the middle of its trial, as no exception could tell."""
    job = jobbed(small_suite_data, organisms.checkpoint("oracle"), silence=3.0)
    records, stopped = [], []
    for event in local.execute(job, [(trial, 1) for trial in trials_of(job, 2)]):
        if isinstance(event.record, Measurement) and not stopped:
            (worker,) = multiprocessing.active_children()
            stopped.append(worker.pid)
            os.kill(worker.pid, signal.SIGSTOP)
        records.append(event.record)
    first, second = (each for each in records if isinstance(each, Closed))
    assert (first.status, first.reason) == ("failure", "the worker gave no sign of life for 3 s")
    assert second.status == "ok"
    assert not any(Path(f"/proc/{pid}").exists() for pid in stopped)


@pytest.mark.parametrize("kind", ["growing", "catastrophic", "panicking"])
def test_a_comparison_of_tokenizers_that_hangs_or_breaks_is_none_and_says_why(kind, small_suite_data, tmp_path):
    job = jobbed(small_suite_data, specimen(kind, tmp_path / "m"), organisms.checkpoint("base"), text=1.0)
    worker = local.hire(job)
    found = worker.compare(next(iter(job.places)))
    assert {**TOO_LONG, **BROKEN}[kind] in str(found)
    assert not isinstance(found, TokenizerCheck)
    (event,) = executed(job, 1, idle=[worker])  # by another worker, unless it is known that it cannot be loaded
    assert {**TOO_LONG, **BROKEN}[kind] in event.record.reason
    assert (event.not_loaded is not None) == (kind == "panicking")


def test_a_worker_that_died_while_it_compared_costs_no_trial(small_suite_data):
    job = jobbed(small_suite_data, organisms.checkpoint("oracle"), organisms.checkpoint("base"))
    worker = local.hire(job)
    worker.child.process.kill()
    assert worker.compare(next(iter(job.places))) == "the worker died (signal 9)"
    events = executed(job, 1, idle=[worker])
    assert [event.record.status for event in events if isinstance(event.record, Closed)] == ["ok"]


@pytest.mark.parametrize("kind", [*TOO_LONG, *BROKEN])
def test_doctor_names_it_and_ends(kind, tmp_path):
    checks = doctor.examine(
        str(specimen(kind, tmp_path / "m")), limits=Limits(text=1.0), original="organism:base", device="cpu"
    )
    (problem,) = [each for each in checks if each.state == "PROBLEM"]
    assert {**TOO_LONG, **BROKEN}[kind] in problem.args["message"]
    assert "ok" in {each.state for each in checks if each.part == "checkpoint"}, "what was found before is shown"


def test_the_digests_of_a_tokenizer_that_breaks_are_an_error_of_one_line(tmp_path, capfd):
    from robustness_gate.running import tokenizer_check

    with pytest.raises(GateError, match="the loader broke down"):
        bounded.call(
            tokenizer_check.digests, CheckpointRef(endless.panicking(tmp_path / "m")), limits=Limits(), name="reader"
        )
    assert "panicked" not in capfd.readouterr().err


# --- the whole trip ---------------------------------------------------------------------------------------------------


def run(bench: Path, checkpoint: str, watch=lambda *_: None, **limits: float) -> gate.Outcome:
    files = (bench / "policy.yaml", bench / "suite.yaml", bench / "out")
    return gate.run(gate.Request(checkpoint, *files, workers=1, tracking_uri="", limits=Limits(**limits)), watch)


def test_a_limit_makes_no_verdict_it_stands_in_the_report_and_the_same_command_tries_again(tmp_path):
    bench = set_up(tmp_path)
    cut = run(bench, "organism:oracle", trial=0.05)
    assert cut.report.verdict.outcome == "INCONCLUSIVE"
    assert int(cut.exit_code) == 4
    assert "it took longer than 0.05 s (limit --trial-timeout)" in (bench / "out" / "report.md").read_text()
    again = run(bench, "organism:oracle")
    assert again.report.verdict.outcome == "PASS"
    closed = ledger.read(again.ledger).closed
    tried = {trial: [(c.attempt, c.status) for c in closed if c.trial == trial] for trial in {c.trial for c in closed}}
    assert len(tried) == 2, "a limit is no part of what a trial is"
    assert all(each == [(1, "failure"), (2, "ok")] for each in tried.values())


def test_a_breach_stays_a_breach_where_another_trial_was_cut(tmp_path):
    def stop(event, *_):
        if isinstance(event.record, Measurement) and event.trial.attack == "relearn":
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGSTOP)

    found = run(set_up(tmp_path), "organism:base", stop, silence=3.0)
    assert found.report.verdict.outcome == "FAIL"
    ends = {end.status: end.reason for record in found.report.trials for end in record.closed}
    assert ends == {"ok": "", "failure": "the worker gave no sign of life for 3 s"}


def test_a_checkpoint_that_hangs_while_it_is_loaded_ends_the_run_at_once_without_a_verdict(tmp_path):
    bench = set_up(tmp_path)
    found = run(bench, str(endless.looping(tmp_path / "m")), text=1.0)
    (end,) = ledger.read(found.ledger).closed
    assert end.reason == TOO_LONG["looping"]
    assert found.report.verdict.outcome == "INCONCLUSIVE"
    assert TOO_LONG["looping"] in found.report.reason
    assert sum(record.planned and not record.closed for record in found.report.trials) > 0, "nothing else was begun"


def test_files_that_are_refused_while_they_are_loaded_are_a_users_mistake_and_leave_no_report(tmp_path):
    bench = set_up(tmp_path)
    with pytest.raises(NotLoaded, match="the loader broke down") as caught:
        run(bench, str(endless.panicking(tmp_path / "m")))
    assert int(caught.value.exit_code) == 2
    assert caught.value.where == str(tmp_path / "m")
    assert not (bench / "out" / "report.json").exists()
