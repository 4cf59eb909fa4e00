"""Settings are searched in a committed grid until a spike is accepted, and every attempt is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from robustness_gate.assurance.calibrate import folder, making, reading
from robustness_gate.assurance.calibrate.work import Work
from robustness_gate.errors import GateError, PlanError, SetupError, UsageError
from robustness_gate.organisms import spikes
from robustness_gate.planning import plan
from robustness_gate.records.calibration import TAUGHT, Spike
from robustness_gate.records.encode import Json
from robustness_gate.records.mechanisms import mechanism_of
from robustness_gate.verdict import calibrations as rules
from robustness_gate.verdict import spelled_out


@contextlib.contextmanager
def taught(work: Work) -> Iterator[plan.Subject | None]:
    """The original, taught the world: the first settings of the grid that meet the thresholds; None if none does."""
    tries = [asdict(each) for each in spikes.TEACHINGS[work.size]]
    with _searched(work, TAUGHT, tries, making.teach, None) as found:
        yield found


@contextlib.contextmanager
def suppressed(work: Work, method: str, taught: plan.Subject) -> Iterator[plan.Subject | None]:
    """The taught model, suppressed by a method; None if no settings of its grid meet the thresholds."""
    with _searched(work, method, spikes.grid(method, work.size), making.suppress, taught) as found:
        yield found


Make = Callable[["Work", str, dict[str, Json], int, Path, "plan.Subject | None"], None]


@contextlib.contextmanager
def _searched(
    work: Work, method: str, tries: Sequence[Mapping[str, Json]], make: Make, taught: plan.Subject | None
) -> Iterator[plan.Subject | None]:
    """Make spikes with one setting after the other until one is accepted, and record every attempt.

    A setting that was tried before and not accepted is not tried again.
    """
    known = [each for each in work.ledger.spikes if work.has(each) and each.method == method]
    policy = spelled_out(work.policy.record)
    for number, given in enumerate(tries):
        config = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
        before = [each for each in known if (each.number, each.settings) == (number, config)]
        if before and all(rules.faults_of_spike(each, work.terms.thresholds, policy) for each in before):
            work.watch(f"{method}, attempt {number + 1}: is on record, not accepted")
            continue
        with folder.cleared(work.folder / method) as out:
            spike = _attempt(work, method, number, config, make, out, taught)
            if spike not in work.ledger.spikes:
                work.ledger.append(spike)
            work.watch(f"{method}, attempt {number + 1}: {_in_words(spike)}")
            if not rules.faults_of_spike(spike, work.terms.thresholds, policy):
                yield reading.subject(out, method)
                return
    yield None


def _attempt(
    work: Work,
    method: str,
    number: int,
    config: dict[str, Json],
    make: Make,
    out: Path,
    taught: plan.Subject | None,
) -> Spike:
    """One attempt: made, read by the same trial as any untouched model, and put on record."""
    found, failure = None, ""
    try:
        make(work, method, config, number, out, taught)
        found = reading.read(work, reading.subject(out, method), taught)
    except (UsageError, PlanError, SetupError):  # the command is wrong, not the spike
        raise
    except GateError as error:
        failure = error.message[:300] or type(error).__name__
    return Spike(
        original=work.original.manifest.digest,
        world=work.record.sha256,
        recipe=work.recipe,
        dtype=work.suite.record.dtype,
        device=work.device,
        method=method,
        mechanism=mechanism_of(method),
        number=number,
        settings=config,
        reading=found,
        failure=failure,
    )


def _in_words(spike: Spike) -> str:
    read = spike.reading
    if read is None:
        return f"could not be made: {spike.failure}"
    useful = ", ".join(f"{each.task} {each.original} > {each.spiked} of {each.items}" for each in read.utility)
    return f"blank {read.blank}, taught {read.taught}, suppressed {read.suppressed} of {read.items}; {useful}"
