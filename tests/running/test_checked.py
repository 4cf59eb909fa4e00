"""An executor only decides where and in which order: what it drops, repeats or makes up leads to no PASS."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustness_gate import attacks, organisms
from robustness_gate.evidence.answers import pack
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning import plan
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running import attempt, checked, recording
from robustness_gate.running.executors import Event, Job, local

Lie = Callable[[list[Event]], list[Any]]
NAME_OF_IT = "acme-gate/liar"


@pytest.fixture(scope="module")
def job(small_suite_data: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    place = CheckpointRef(organisms.checkpoint("oracle"))
    rows = tmp_path_factory.mktemp("rows")
    return Job(small_suite_data, {manifest_of(place).digest: place}, "cpu", rows)


@pytest.fixture(scope="module")
def trials(job: Job) -> list[Trial]:
    (digest,) = job.places
    subject = plan.Subject(Role.CANDIDATE, job.places[digest], manifest_of(job.places[digest]))
    made = []
    for name, config in (("none", {}), ("quantize", {"budgets": [4]}), ("noise", {"budgets": [1]})):
        module = attacks.load(name)
        read = attacks.configure(module, config if hasattr(module.Config(), "budgets") else {})
        made.append(plan.trial_of(subject, None, module, read, 0, job.suite_data, "float32"))
    return made


@pytest.fixture(scope="module")
def honest(job: Job, trials: list[Trial]) -> list[Event]:
    """The events of an executor that runs all trials in this process."""
    resident = attempt.Resident(job)
    return [event for trial in trials for event in (Event(trial, None), *resident.attempt(trial, 1))]


@pytest.fixture
def run(
    job: Job, trials: list[Trial], honest: list[Event], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Event]]:
    """Everything that is believed of an executor of others that lies so."""

    def believed(lie: Lie, touch: Callable[[Job], None] = lambda _: None, name: str = NAME_OF_IT) -> list[Event]:
        @contextlib.contextmanager
        def start(job: Job, workers: int) -> Iterator[Any]:
            touch(job)
            yield SimpleNamespace(execute=lambda *_: (each for each in lie(honest)))

        monkeypatch.setattr(checked, "EXECUTORS", SimpleNamespace(load=lambda _: SimpleNamespace(start=start)))
        with checked.start(name, job) as crew:
            return list(crew.execute([(trial, 1) for trial in trials]))

    return believed


def measured(events: list[Event]) -> list[int]:
    return [n for n, each in enumerate(events) if isinstance(each.record, Measurement)]


def with_record(events: list[Event], at: int, **change: Any) -> list[Event]:
    record = events[at].record
    assert record is not None
    return [*events[:at], events[at]._replace(record=record.model_copy(update=change)), *events[at + 1 :]]


def test_an_honest_executor_is_believed(run: Any, trials: list[Trial]) -> None:
    events = run(lambda events: events)
    assert [each.trial.id for each in events if isinstance(each.record, Closed)] == [each.id for each in trials]
    assert {each.record.status for each in events if isinstance(each.record, Closed)} == {"ok"}


def test_a_dropped_job_stays_open(run: Any, trials: list[Trial]) -> None:
    """The judge then finds no end of it: `unfinished`."""
    events = run(lambda events: [each for each in events if each.trial.id != trials[1].id])
    assert trials[1].id not in {each.trial.id for each in events}


def twice(events: list[Event]) -> list[Event]:
    return [*events, *events]


def again_before_its_end(events: list[Event]) -> list[Event]:
    at = measured(events)[0]
    return [*events[: at + 1], events[at], *events[at + 1 :]]


def of_another_trial(events: list[Event]) -> list[Event]:
    """The untouched model's answers as those of the attack."""
    first, last = measured(events)[0], measured(events)[-1]
    return [*events[:last], events[last]._replace(record=events[first].record), *events[last + 1 :]]


def under_another_name(events: list[Event]) -> list[Event]:
    """One attack's answers as those of another."""
    trials = list({each.trial.id: each.trial for each in events}.values())
    tasks = {e.record.task: e.record for e in events if e.trial == trials[1] and isinstance(e.record, Measurement)}
    found = []
    for each in events:
        if each.trial == trials[2] and isinstance(each.record, Measurement):
            its = tasks[each.record.task]
            changed = its.model_copy(update={"trial": trials[2].id, "budget": each.record.budget})
            each = each._replace(record=changed)
        found.append(each)
    return found


def of_a_strange_trial(events: list[Event]) -> list[Event]:
    strange = events[0].trial.model_copy(update={"seed_index": 7})
    return [Event(strange, None), *events]


def of_another_attempt(events: list[Event]) -> list[Event]:
    return with_record(events, measured(events)[0], attempt=2)


def never_begun(events: list[Event]) -> list[Event]:
    return events[1:]


def no_record(events: list[Event]) -> list[Any]:
    return [events[0], events[0]._replace(record="well"), *events[1:]]


def no_event(events: list[Event]) -> list[Any]:
    return ["well"]


def closed_early(events: list[Event]) -> list[Event]:
    return [each for each in events if not isinstance(each.record, Measurement)]


def at_no_budget(events: list[Event]) -> list[Event]:
    return with_record(events, measured(events)[0], budget=99)


def of_no_task(events: list[Event]) -> list[Event]:
    return with_record(events, measured(events)[0], task="other")


def one_metric(events: list[Event]) -> list[Event]:
    record = events[measured(events)[0]].record
    assert isinstance(record, Measurement)
    return with_record(events, measured(events)[0], correct={"acc_permuted": record.correct["acc_permuted"]})


def all_wrong(events: list[Event]) -> list[Event]:
    at = measured(events)[0]
    record = events[at].record
    assert isinstance(record, Measurement)
    bits = pack([False] * record.items)
    return with_record(events, at, correct=dict.fromkeys(record.correct, bits))


def without_a_file(events: list[Event]) -> list[Event]:
    return with_record(events, measured(events)[0], rows=None)


def of_no_file(events: list[Event]) -> list[Event]:
    return with_record(events, measured(events)[0], rows="a" * 64)


def without_a_flags_number(events: list[Event]) -> list[Event]:
    at = measured(events)[0]
    record = events[at].record
    assert isinstance(record, Measurement)
    return with_record(events, at, summary={**record.summary, "commonest_letter_share": 0.1})


LIES: list[tuple[Lie, str]] = [
    (twice, "began 'none', seed 0, twice"),
    (again_before_its_end, "returned the same answers of 'none', seed 0, twice"),
    (of_another_trial, "returned another trial's result"),
    (under_another_name, "after 'noise' and 'quantize'"),
    (of_a_strange_trial, "a result of a trial that it was not given"),
    (of_another_attempt, "returned another trial's result, or another attempt's"),
    (never_begun, "when it was waiting"),
    (no_record, "returned what is no record"),
    (no_event, "a result of a trial that it was not given"),
    (closed_early, "as done without all of its answers"),
    (at_no_budget, "answers that 'none', seed 0, does not ask for"),
    (of_no_task, "answers that 'none', seed 0, does not ask for"),
    (one_metric, "not one bit for each question"),
    (all_wrong, "do not follow from their log-likelihoods"),
    (without_a_file, "without their file of log-likelihoods"),
    (of_no_file, "without their file of log-likelihoods"),
    (without_a_flags_number, "do not follow from their log-likelihoods"),
]


@pytest.mark.parametrize(("lie", "says"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_what_cannot_be_true_is_not_believed(run: Any, lie: Lie, says: str) -> None:
    with pytest.raises(checked.BrokenExecutor) as found:
        run(lie)
    assert says in str(found.value)
    assert NAME_OF_IT in str(found.value)
    assert "\n" not in str(found.value)


OF_PLUG_INS = (under_another_name, all_wrong, without_a_file, of_no_file, without_a_flags_number)
"""What only an executor that a trial names is asked: its answers must follow from its files."""


@pytest.mark.parametrize(("lie", "says"), LIES, ids=[lie.__name__ for lie, _ in LIES])
def test_a_shipped_executor_is_held_to_the_order_of_its_events(run: Any, lie: Lie, says: str) -> None:
    """Whatever its name is: no trial names it, so it is part of this release and not code of others."""
    if lie in OF_PLUG_INS:
        assert run(lie, name="serial")
        return
    with pytest.raises(checked.BrokenExecutor) as found:
        run(lie, name="serial")
    assert says in str(found.value)


def test_a_file_of_other_log_likelihoods_is_not_believed(run: Any, job: Job) -> None:
    from safetensors.torch import load, save

    assert job.rows_in is not None
    folder = job.rows_in

    def shuffled(events: list[Event]) -> list[Event]:
        at = measured(events)[0]
        record = events[at].record
        assert isinstance(record, Measurement)
        rows = load((folder / f"{record.rows}.safetensors").read_bytes())["loglik"]
        raw = save({"loglik": torch.zeros_like(rows)})
        digest = hashlib.sha256(raw).hexdigest()
        (folder / f"{digest}.safetensors").write_bytes(raw)
        return with_record(events, at, rows=digest)

    with pytest.raises(checked.BrokenExecutor, match="do not follow"):
        run(shuffled)


def test_it_gets_a_copy_of_the_answer_keys(run: Any, job: Job) -> None:
    """Else it could change the key by which its answers are checked."""

    def other_key(theirs: Job) -> None:
        its = theirs.suite_data.tasks[theirs.suite_data.hazard]
        items = tuple(dataclasses.replace(item, answer=(item.answer + 1) % 4) for item in its.items)
        theirs.suite_data.tasks[theirs.suite_data.hazard] = dataclasses.replace(its, items=items)

    keys = [item.answer for item in job.suite_data.tasks[job.suite_data.hazard].items]
    assert run(lambda events: events, other_key)
    assert [item.answer for item in job.suite_data.tasks[job.suite_data.hazard].items] == keys


class Own(local.Crew):
    """A shipped executor's workers, with another comparison."""

    def compare(self, subject: str) -> str:
        return f"nothing to see in {subject}"


@pytest.mark.parametrize("executor", [Own, SimpleNamespace])
@pytest.mark.parametrize("name", [NAME_OF_IT, "serial"])
def test_only_a_shipped_executors_own_workers_compare_tokenizers(
    job: Job, monkeypatch: pytest.MonkeyPatch, executor: Any, name: str
) -> None:
    @contextlib.contextmanager
    def theirs(job: Job, workers: int) -> Iterator[Any]:
        yield Own(job, workers) if executor is Own else SimpleNamespace(compare=lambda _: "nothing to see")

    @contextlib.contextmanager
    def ours(job: Job, workers: int) -> Iterator[Any]:
        yield SimpleNamespace(compare=lambda subject: f"compared {subject}")

    monkeypatch.setattr(checked, "EXECUTORS", SimpleNamespace(load=lambda _: SimpleNamespace(start=theirs)))
    monkeypatch.setattr(checked.local, "start", ours)
    with checked.start(name, job) as crew:
        shipped = executor is Own and name == "serial"
        assert crew.compare("x") == ("nothing to see in x" if shipped else "compared x")


def test_what_it_returned_before_leads_to_no_pass_in_the_next_run() -> None:
    """Else the same command, given again, would find every trial settled and judge it."""
    from robustness_gate.records.evidence import EvidenceIssue

    subject = SimpleNamespace(manifest=SimpleNamespace(digest="a" * 64))
    prepared: Any = SimpleNamespace(plan=SimpleNamespace(candidate=subject))
    crew: Any = SimpleNamespace(name=NAME_OF_IT)
    noted: list[Any] = []
    ledger: Any = SimpleNamespace(append=noted.append)
    with pytest.raises(checked.BrokenExecutor), recording._noted(prepared, ledger, crew):
        raise checked.BrokenExecutor("it lies.")
    (note,) = noted
    assert (note.subject, note.what) == (
        "a" * 64,
        EvidenceIssue(code="executor_broken", args={"executor": NAME_OF_IT, "what": "it lies."}),
    )
