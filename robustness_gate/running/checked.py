"""Open an executor, and believe none of its events unchecked.

An executor decides where trials run and in which order. So every event must be about a trial that it was given, and
come when it can; every measurement must be of an answer that the trial asks for, once. A shipped executor is part of
this release. A plug-in's (`distribution/name`, as in `inputs.plugins`) is code of others, and every trial that it ran
names it: its answers must also follow from their files of log-likelihoods. What no check can find is one that makes up
whole files: a policy must name its content before its trials take part in a PASS, and `robustness-gate audit` runs a
sample of them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustness_gate import tasks
from robustness_gate.errors import GateError
from robustness_gate.evidence.answers import is_packed, pack
from robustness_gate.planning.prepare import EXECUTORS
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.cost import Spent
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.questions import Rows, TaskRef
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running.executors import Event, Job, local
from robustness_gate.running.trial import summary
from robustness_gate.verdict.complete import incomplete
from robustness_gate.verdict.hypotheses import label


class BrokenExecutor(GateError):
    """An executor returned what cannot be true. The run ends; what it returned before stays in the ledger."""


@dataclass(frozen=True)
class Checked:
    """An open executor whose events are checked."""

    name: str
    job: Job
    executor: Any

    def compare(self, subject: str) -> TokenizerCheck | str:
        """The comparison of the candidate's and the original's tokenizer (`tokenizer_check.make`), or why there is
        none. Always by a process of ours.
        """
        if isinstance(self.executor, local.Crew) and not of_others(self.name):
            return self.executor.compare(subject)
        with local.start(self.job, 1) as own:
            return own.compare(subject)

    def execute(
        self, trials: Sequence[tuple[Trial, int]], enough: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, None]:
        """As `Executor.execute`. Raises BrokenExecutor at the first event that cannot be true."""
        checks = {trial.id: _Check(self.name, self.job, trial, attempt) for trial, attempt in trials}
        with contextlib.closing(self.executor.execute(list(trials), enough)) as events:
            for event in events:
                trial = getattr(event, "trial", None)
                check = checks.get(trial.id) if isinstance(event, Event) and isinstance(trial, Trial) else None
                if check is None:
                    raise _broken(self.name, "returned a result of a trial that it was not given")
                check.take(event.record)
                spent = event.spent if isinstance(event.spent, Spent) else None
                yield event._replace(trial=check.trial, spent=spent)
        if of_others(self.name):
            _refuse_shared(self.name, list(checks.values()))


def of_others(name: str) -> bool:
    """Whether an executor is a plug-in's, by the rule of `inputs.plugins.of`, from which trials name it."""
    return "/" in name


@contextlib.contextmanager
def start(name: str, job: Job, workers: int = 1) -> Iterator[Checked]:
    """Open an executor by name, ours or a plug-in's. A plug-in's gets a copy of the data, so that it changes no key.

    Raises:
        PlanError: there is none of that name, or it lacks its part.
    """
    given = pickle.loads(pickle.dumps(job)) if of_others(name) else job
    with EXECUTORS.load(name).start(given, workers) as opened:
        yield Checked(name, job, opened)


@dataclass
class _Check:
    """What one trial's executor has returned so far."""

    name: str
    job: Job
    trial: Trial
    attempt: int
    state: str = "waiting"
    seen: list[Measurement] = field(default_factory=list)

    def take(self, record: object) -> None:
        """Check the next event's record. Raises BrokenExecutor."""
        if record is None:
            if self.state != "waiting":
                raise self._broken("began {trial} twice")
            self.state = "running"
            return
        if not isinstance(record, Measurement | Closed):
            raise self._broken("returned what is no record of {trial}")
        if self.state != "running":
            raise self._broken("returned a result of {trial} " + f"when it was {self.state}")
        if (record.trial, record.attempt) != (self.trial.id, self.attempt):
            raise self._broken("returned another trial's result, or another attempt's, as one of {trial}")
        if isinstance(record, Measurement):
            self._measured(record)
            self.seen.append(record)
            return
        self.state = "closed"
        if record.status == "ok" and incomplete(self.trial, self.attempt, self.seen):
            raise self._broken("closed {trial} as done without all of its answers")

    def _measured(self, its: Measurement) -> None:
        task = next((each for each in self.trial.tasks if each.name == its.task), None)
        if task is None or its.budget not in self.trial.budgets or its.items != task.items:
            raise self._broken("returned answers that {trial} does not ask for")
        if any((each.task, each.budget) == (its.task, its.budget) for each in self.seen):
            raise self._broken("returned the same answers of {trial} twice")
        bits = (*its.correct.values(), its.missing)
        if {*its.correct} != {*task.judged.metrics} or not all(is_packed(each, its.items) for each in bits):
            raise self._broken("returned answers of {trial} that are not one bit for each question")
        if of_others(self.name) and self.job.rows_in is not None:
            self._kept(its, task, self.job.rows_in)

    def _kept(self, its: Measurement, task: TaskRef, folder: Path) -> None:
        """The log-likelihoods of a measurement are in the folder, and the answers follow from them."""
        place = folder / f"{its.rows}.safetensors"
        raw = place.read_bytes() if its.rows is not None and place.is_file() else b""
        if hashlib.sha256(raw).hexdigest() != its.rows:
            raise self._broken("returned answers of {trial} without their file of log-likelihoods")
        if task.judged.generative:  # the file has digests of the texts, from which no answer follows
            return
        if not _follows(raw, its, self.job.suite_data.tasks[its.task]):
            raise self._broken("returned answers of {trial} that do not follow from their log-likelihoods")

    def _broken(self, what: str) -> BrokenExecutor:
        return _broken(self.name, what.format(trial=f"'{label(self.trial)}', seed {self.trial.seed_index},"))


def _follows(raw: bytes, its: Measurement, task_data: TaskData) -> bool:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        loglik = load(raw)["loglik"]
    except (SafetensorError, KeyError):
        return False
    if loglik.ndim != 3 or len(loglik) != len(task_data.items):
        return False
    key = [item.right for item in task_data.items]
    rows = Rows(loglik, task_data.form.settings)
    scored = tasks.load(task_data.kind).read(rows, key)
    correct = {metric: pack(bits) for metric, bits in scored.correct.items()}
    numbers = summary(task_data.kind, rows, key)
    same = all(its.summary.get(name) == value for name, value in numbers.items())  # flags are raised by them
    return same and (correct, pack(scored.missing)) == (its.correct, its.missing)


def _refuse_shared(name: str, checks: Sequence[_Check]) -> None:
    """Two attacks never give the same log-likelihoods to the last bit, unless both left the model as it was."""
    of: dict[tuple[str, str, str], set[str]] = {}
    for check in checks:
        asked = {task.name for task in check.trial.tasks if not task.judged.generative}
        attack = "none" if check.trial.role == Role.SHAM else check.trial.attack
        for its in check.seen:
            if its.rows is not None and its.task in asked:
                of.setdefault((check.trial.subject, its.task, its.rows), set()).add(attack)
    for (_, task, _), attacks in of.items():
        if len(attacks) > 1 and "none" not in attacks:
            both = " and ".join(f"'{each}'" for each in sorted(attacks)[:2])
            raise _broken(name, f"returned the same log-likelihoods of '{task}' after {both}")


def _broken(name: str, what: str) -> BrokenExecutor:
    return BrokenExecutor(
        f"the executor '{name}' {what}.",
        remedy="No verdict rests on it: mend it, or run without --executor and with another --ledgers.",
        code="broken-executor",
    )
