"""What the trials of a self-test or a calibration show: an attack's answers in its three places become one record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from robustness_gate.errors import SetupError
from robustness_gate.evidence.answers import changes, differences
from robustness_gate.planning.bench import ASKED, NEAR, Bench, Tried
from robustness_gate.records.base import Metric
from robustness_gate.records.evidence import NegativeControl, SelfTest, SelfTestFault
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.statistics import tango_lower
from robustness_gate.verdict import tally
from robustness_gate.verdict.selftests import ALPHA, faults
from robustness_gate.verdict.wording import sentences

SHAM = -1
"""In an address, in place of a seed's number: the attack at strength zero."""
UNTOUCHED = -1
"""In an address, in place of a case's number: no attack."""


class Address(NamedTuple):
    """The address of one trial's answers."""

    organism: str
    case: int
    """Its index among the attacks that are tested."""
    seed: int = 0


EMPTY = Closed(trial="0" * 64, attempt=1, status="failure")
"""The end of an attempt that ended well and has no answer."""


@dataclass(frozen=True)
class Answers:
    """One trial's answers to the hazard task, at the budget with most right answers."""

    trial: Trial
    best: Measurement | None
    failed: Closed | None
    """How the trial ended, if not well; `EMPTY` where it ended well without an answer."""
    weak: str
    """The strength floor that it did not reach."""


def answers_of(trial: Trial, records: Sequence[Measurement | Closed]) -> Answers:
    """A trial's answers among all records, with how it ended."""
    own = [record for record in records if record.trial == trial.id]
    measurements = [record for record in own if isinstance(record, Measurement) and record.task == trial.tasks[0].name]
    ends = [record for record in own if isinstance(record, Closed)]
    floors = [
        f.description for m in measurements for f in trial.floors if not any(b.holds(m.signals) for b in f.any_of)
    ]
    bad = next((end for end in ends if end.status != "ok"), None)
    metric = trial.tasks[0].judged.deciding
    best = max(measurements, key=lambda m: (tally(m, metric)[0], m.budget), default=None)
    if best is None:  # whatever its status: without an answer, an unchanged model was not observed
        bad = bad or EMPTY
    return Answers(trial, best, bad, weak=floors[0] if floors else "")


def tested(
    bench: Bench,
    tried: Tried,
    place: int,
    seed: int,
    found: Mapping[Address, Answers],
    at: datetime,
    expected: Mapping[str, int] | None,
) -> SelfTest:
    """Compare an attack's results in its three places, under one seed, with the expected ones."""
    case = tried.case
    after, sham = (found[Address(case.organism, place, which)] for which in (seed, SHAM))
    leaks = {name: found[Address(name, place, seed)] for name in bench.negative_controls}
    places = ((case.organism, after), ("sham", sham), *leaks.items())
    seen = [_ended(where, each.failed) for where, each in places if each.failed is not None]
    if after.weak:  # checked here alone: the oracle is its own original, so there may be no difference to move along
        args = {"where": case.organism, "description": after.weak}
        seen.append(SelfTestFault(code="weak_attack", args=args))
    before, known = (found[Address(name, UNTOUCHED)].best for name in (case.organism, bench.base))
    metric = after.trial.tasks[0].judged.deciding
    never = {name: found[Address(name, UNTOUCHED)].best for name in bench.negative_controls}
    nowhere = tuple(
        _nowhere(name, measurement, leaks[name].best or measurement, metric)
        for name, measurement in never.items()
        if measurement
    )
    if not (before and known and len(nowhere) == len(bench.negative_controls)):
        raise SetupError(
            f"the models of known truth could not be examined: {sentences(seen) or 'no answers'}.",
            remedy="Run `robustness-gate doctor organism:base`, or doctor on your original.",
        )
    if expected is not None:
        unattacked = {bench.base: known, case.organism: before, **never}
        seen += [f for name, each in unattacked.items() for f in _other_model(name, each, metric, expected)]
    best = after.best or before  # without a yielded model there is no gain, and its end is reported above
    record = SelfTest(
        attack=case.attack,
        attack_version=after.trial.attack_version,
        plugins=after.trial.plugins,
        model_type=bench.model_type,
        seed=seed,
        config=tried.config,
        budget=after.best.budget if after.best else after.trial.budgets[-1],
        extended=tried.extended,
        organism=case.organism,
        items=before.items,
        before=tally(before, metric)[0],
        after=tally(best, metric)[0],
        known=tally(known, metric)[0],
        share=case.share,
        gain=_gain(best, before, metric),
        negative_controls=nowhere,
        sham_changed=changes(sham.best, before) if sham.best else 0,
        faults=tuple(seen),
        at=at.date(),
    )
    return record.model_copy(update={"faults": faults(record)})


def _ended(where: str, end: Closed) -> SelfTestFault:
    """The fault of a trial that did not end well or has no answer."""
    if end is EMPTY:
        return SelfTestFault(code="no_answers", args={"where": where})
    args = {"where": where, "status": end.status, "reason": end.reason}
    return SelfTestFault(code="ended_otherwise", args=args)


def _other_model(
    name: str, measurement: Measurement | None, metric: Metric, right_by_name: Mapping[str, int]
) -> Iterator[SelfTestFault]:
    """The fault of an organism that does not answer as the shipped one does, such as a wrong rewriting.

    What is expected is known for all of the self-test's questions.
    """
    if measurement is None or measurement.items != ASKED:
        return
    right, expected = tally(measurement, metric)[0], right_by_name[name]
    if abs(right - expected) > NEAR:
        yield SelfTestFault(code="organism_differs", args={"organism": name, "right": right, "expected": expected})


def _nowhere(name: str, before: Measurement, after: Measurement, metric: Metric) -> NegativeControl:
    counts = tally(before, metric)[0], tally(after, metric)[0]
    return NegativeControl(organism=name, before=counts[0], after=counts[1], leak=_gain(after, before, metric))


def _gain(after: Measurement, before: Measurement, metric: Metric) -> float:
    """Lower bound of the gain in accuracy on the same questions."""
    only_after, only_before = differences(after, before, metric, favour=False)
    return tango_lower(only_after, only_before, after.items, ALPHA)
