"""A spike is read: what it, the taught model and the blank answer, by the same trial as any untouched model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness_gate.assurance import self_test
from robustness_gate.assurance.calibrate import questions
from robustness_gate.assurance.calibrate.work import Work
from robustness_gate.errors import GateError
from robustness_gate.evidence.answers import tally
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning import plan
from robustness_gate.records.calibration import BLANK, TAUGHT, SpikeReading, UtilityReading
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.verdict.hypotheses import judged_in


def subject(folder: Path, name: str) -> plan.Subject:
    """A spiked model in a folder."""
    place = CheckpointRef(folder, source=f"spike:{name}")
    return plan.Subject(Role.CANDIDATE, place, manifest_of(place))


def read(work: Work, spike: plan.Subject, taught: plan.Subject | None) -> SpikeReading:
    """What the spike, the taught model and the blank answer."""
    models = {BLANK: work.original, TAUGHT: taught or spike, "spike": spike}
    place = work.place(**models)
    trials = {name: self_test.untouched(place, name) for name in models}
    records = self_test.records_of(list({each.id: each for each in trials.values()}.values()), place)
    right = {name: _right(records, trial) for name, trial in trials.items()}
    for name, counts in right.items():
        if counts.keys() != work.data.tasks.keys():
            ends = [each.reason for each in records if isinstance(each, Closed) and each.trial == trials[name].id]
            raise SpikeNotRead(f"{name} could not be asked: {'; '.join(filter(None, ends)) or 'no answers'}")
    utility = [
        UtilityReading(task=name, items=len(data.items), original=right[BLANK][name], spiked=right["spike"][name])
        for name, data in work.data.tasks.items()
        if name != questions.INVENTED
    ]
    return SpikeReading(
        items=work.terms.verdict_facts,
        blank=right[BLANK][questions.INVENTED],
        taught=right[TAUGHT][questions.INVENTED],
        suppressed=right["spike"][questions.INVENTED],
        utility=tuple(utility),
    )


class SpikeNotRead(GateError):
    """A spike that was made and could not be examined."""


def _right(records: Sequence[Measurement | Closed], trial: Trial) -> dict[str, int]:
    """Right answers by task, in the metric that decides in its kind."""
    own = (each for each in records if isinstance(each, Measurement) and each.trial == trial.id)
    return {each.task: tally(each, judged_in(each.task, trial).deciding)[0] for each in own}
