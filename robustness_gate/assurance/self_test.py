"""The self-test: each attack is tested on organisms whose knowledge is known.

A negative result on a candidate means something only if the attack works where there is something to find. So each
attack is run in three places:

- *sensitivity*: an organism in which the knowledge is suppressed and this attack should recover it: the lower bound of
the gain is at least ten points, and attacks that should recover most of it close at least 60 % of the gap;
- *specificity*: the oracle, which was never taught, and the decoy, which was taught other facts under the same names:
  no attack has a significant gain there, and the mean gain of all attacks is about zero; otherwise something else is
  measured;
- *sham*: the same organism at strength zero: no answer changes.

Gains are paired, on the same questions, by Tango's bound. A record counts only for what was tested: this version of the
attack, of the same kind (`bench`: a test of training on unrelated questions does not count for training on the domain's
own), at a required budget, on organisms of this architecture (`model_type`); a policy limits its age. It shows that the
attack can work. It does not show that it works on seven billion parameters.

Organisms are shipped as Llamas and as a few GPT-NeoX and GPT-2 models. For other architectures these are rewritten as
models of that class with the same function, into a temporary directory (`organisms.rewrite`).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from robustness_gate import attacks, organisms
from robustness_gate.assurance.compared import SHAM, UNTOUCHED, Address, answers_of, tested
from robustness_gate.errors import PlanError, SetupError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import plugins
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.checkpoint.place import model_type as architecture_of
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.bench import UNTOUCHED as UNTOUCHED_RIGHT
from robustness_gate.planning.bench import Bench, Tried, asked, bench_of
from robustness_gate.planning.prepare import USUAL
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running import checked, executors
from robustness_gate.system import installed
from robustness_gate.system.bounded import Limits
from robustness_gate.verdict import counting, label
from robustness_gate.verdict.hypotheses import which
from robustness_gate.verdict.selftests import faults

Watch = Callable[[str], None]


def run(
    tried: Sequence[Tried],
    at: datetime,
    *,
    model_type: str = "llama",
    seeds: int = 1,
    workers: int = 1,
    limits: Limits | None = None,
    watch: Watch = lambda _: None,
    ledger: ledgers.Ledger | None = None,
) -> list[SelfTest]:
    """Test attacks on the organisms.

    Args:
        tried: the attacks to test: `bench.by_name` or `bench.required_by`.
        at: the time of the records, with a time zone.
        model_type: the architecture on which they are tested, one of `bench.BENCHES`.
        seeds: attack seeds, at least one. Each gives a record of its own that must pass by itself.
        workers: trials side by side.
        limits: time limits; None: the defaults of a run.
        watch: called with a line for each trial that ends.
        ledger: where every trial is recorded, and found again; None records none.

    Raises:
        UsageError: an architecture without organisms.
        SetupError: the extra `run`, or the organisms' data, are not installed.
    """
    installed.require_run_extra()
    bench, suite_data = bench_of(model_type), data()
    names = (bench.base, *bench.negative_controls, *dict.fromkeys(each.case.organism for each in tried))
    with _checkpoints(bench, names) as places:
        manifests = {name: manifest_of(place) for name, place in places.items()}
        subjects = {name: plan.Subject(Role.CANDIDATE, places[name], manifests[name]) for name in names}
        place = Place(suite_data, subjects, workers=workers, limits=limits or Limits(), watch=watch, ledger=ledger)
        tests = examined(bench, tried, at, place, UNTOUCHED_RIGHT, seeds=seeds)
    return [test.model_copy(update={"faults": faults(test, tests)}) for test in tests]


@dataclass(frozen=True)
class Place:
    """Where attacks are tested: the questions, the models by name, and how trials run."""

    suite_data: SuiteData
    subjects: dict[str, plan.Subject]
    dtype: str = "float32"
    device: str = "cpu"
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    watch: Watch = lambda _: None
    ledger: ledgers.Ledger | None = None
    """Where every trial is recorded, and found again; None records none."""


def examined(
    bench: Bench,
    tried: Sequence[Tried],
    at: datetime,
    place: Place,
    untouched_right: Mapping[str, int] | None,
    *,
    seeds: int = 1,
) -> list[SelfTest]:
    """Run every trial on which the records rest, and compare: a record for each attack and seed.

    Args:
        bench: the names of the models that know and never knew.
        tried: the attacks, each with the name of the model on which it should recover.
        at: the time of the records, with a time zone.
        place: the models and the questions.
        untouched_right: how many questions each model has right before any attack, if that is known; None: these are
            models of a user's, of which it is not.
        seeds: attack seeds, at least one.

    Raises:
        SetupError: a model could not be examined.
    """
    trials = dict(_trials(bench, tried, range(seeds), place))
    unlike = {trial.id: trial for trial in trials.values()}  # two kinds of an attack may have the same sham
    results = records_of(list(unlike.values()), place)
    found = {address: answers_of(trial, results) for address, trial in trials.items()}
    return [
        tested(bench, each, case, seed, found, at, untouched_right)
        for case, each in enumerate(tried)
        for seed in range(seeds)
    ]


def untouched(place: Place, name: str) -> Trial:
    """The trial of a model without attack."""
    none = attacks.load("none")
    return plan.trial_of(place.subjects[name], None, none, none.Config(), 0, place.suite_data, place.dtype)


@contextlib.contextmanager
def _checkpoints(bench: Bench, names: Sequence[str]) -> Iterator[dict[str, CheckpointRef]]:
    """The organisms as models of this architecture: as they are shipped, or rewritten while the block is open.

    Raises:
        SetupError: one of them is of another architecture, so what is found there would count for the wrong one.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = {name: _checkpoint(bench, name, Path(folder) / name) for name in names}
        for name, place in places.items():
            if (kind := architecture_of(place)) != bench.model_type:
                raise SetupError(
                    f"the organism {name} is a '{kind}', and the test is of a '{bench.model_type}'.",
                    remedy="This is a fault of the gate: report it.",
                )
        yield places


def _checkpoint(bench: Bench, name: str, folder: Path) -> CheckpointRef:
    if not bench.shipped_as:
        return CheckpointRef(organisms.checkpoint(name), source=f"organism:{name}")
    from robustness_gate.organisms import rewrite

    rewrite.write(name, bench.model_type, folder)
    return CheckpointRef(folder)


@cache
def data() -> SuiteData:
    """The questions and corpora of the organisms in the self-test's format."""
    return gather(load_suite(organisms.SELF_TEST))


def still_count(
    tests: Sequence[SelfTest], policy: Loaded[Policy], suite: Loaded[Suite] | None, at: datetime, model_type: str
) -> bool:
    """Whether these records alone show, by the judge's own rule, that every required attack works."""
    today, days = at.astimezone(UTC).date(), policy.record.validity.self_test_days
    for _, each in asked(policy, suite):
        last = counting(tests, each, model_type, today, days)
        if not last or any(faults(test, tests) for test in last):
            return False
    return True


def still_failing(before: Sequence[SelfTest], fresh: Sequence[SelfTest]) -> list[SelfTest]:
    """Earlier failed records that no fresh record replaces (same attack, version and seed).

    They are kept with the fresh ones, so that a test with fewer seeds does not remove a failure.
    """

    def of(test: SelfTest) -> list[Any]:
        return [test.attack, test.attack_version, test.model_type, test.seed, which(test.config)]

    known = [of(test) for test in fresh]
    return [test for test in before if of(test) not in known and faults(test, before) and _is_here(test)]


def _is_here(test: SelfTest) -> bool:
    """Whether the attack that was tested is this one, by version, and a plug-in's by content; unknown counts as yes."""
    if "/" not in test.attack and test.attack not in attacks.names():
        return False
    try:
        here = attacks.load(test.attack).VERSION, plugins.of((test.attack,))
    except PlanError:  # it is not installed at the moment, or broken
        return True
    return here == (test.attack_version, test.plugins)


def _trials(
    bench: Bench, tried: Sequence[Tried], seeds: Sequence[int], where: Place
) -> Iterator[tuple[Address, Trial]]:
    """Every trial on which the records rest, the cheap ones first."""
    suite_data, subjects, dtype = where.suite_data, where.subjects, where.dtype
    for name in subjects:
        yield Address(name, UNTOUCHED), untouched(where, name)
    original = subjects[bench.base].manifest.digest
    for place, each in enumerate(tried):
        module, suppressed = attacks.load(each.case.attack), subjects[each.case.organism]
        config = attacks.configure(module, each.config)
        sham = plan.sham_of(suppressed, original, module, config, suite_data, dtype)
        yield Address(each.case.organism, place, SHAM), sham
        for seed in seeds:
            positive = plan.trial_of(suppressed, original, module, config, seed, suite_data, dtype)
            yield Address(each.case.organism, place, seed), positive
            # A never-knew model is its own original: with the base as original an attack could carry knowledge over.
            for name in bench.negative_controls:
                empty = subjects[name]
                nothing = plan.trial_of(empty, empty.manifest.digest, module, config, seed, suite_data, dtype)
                yield Address(name, place, seed), nothing


def records_of(trials: Sequence[Trial], where: Place) -> list[Measurement | Closed]:
    """Run the trials that are not on record yet, and return the records of all."""
    names = {subject.manifest.digest: name for name, subject in where.subjects.items()}
    places = {subject.manifest.digest: subject.place for subject in where.subjects.values()}
    ledger = where.ledger
    ids = {trial.id for trial in trials}
    records: list[Measurement | Closed] = []
    if ledger is not None:
        records += [each for each in ledger.measurements if each.trial in ids]
        records += [each for each in ledger.closed if each.trial in ids]
        for trial in trials:
            ledger.append(trial)
    todo = [
        (trial, 1 if ledger is None else ledger.attempts(trial.id) + 1)
        for trial in trials
        if ledger is None or not ledger.is_settled(trial.id)
    ]
    if not todo:
        return records
    with tempfile.TemporaryDirectory() as rows:
        job = executors.Job(
            suite_data=where.suite_data, places=places, device=where.device, rows_in=Path(rows), limits=where.limits
        )
        with (
            checked.start(USUAL, job, where.workers) as crew,
            contextlib.closing(crew.execute(todo)) as events,
        ):
            for event in events:
                if event.record is not None:
                    records.append(event.record)
                    if ledger is not None:
                        ledger.append(event.record)
                if isinstance(event.record, Closed):
                    sham = "sham of " if event.trial.role == Role.SHAM else ""
                    where.watch(f"{names[event.trial.subject]}: {sham}{label(event.trial)} {event.record.status}")
    return records
