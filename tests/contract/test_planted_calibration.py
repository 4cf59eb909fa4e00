"""A bug that is planted in one attack is caught by a calibration. Takes minutes, so it is not among the everyday tests.

Here shipped organisms stand for the spikes, so that nothing has to be trained first: base for the taught model, oracle
for the blank, rmu and shallow for themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from calibrations import WORLD, calibration_of, organism, reading, spike
from cases import policy_of
from test_planted_bugs import (
    AT,
    EXECUTE,
    Patch,
    examples_not_shown,
    frozen_parameters,
    in_this_process,
    no_learning_rate,
    sham_that_does_something,
    suite_data,
)

from robustness_gate import attacks
from robustness_gate.assurance import self_test
from robustness_gate.planning import bench
from robustness_gate.planning.calibrated import expected
from robustness_gate.records.calibration import (
    BLANK,
    TAUGHT,
    Calibration,
    Recovery,
    SpikeWorld,
    UtilityReading,
)
from robustness_gate.records.policy import CalibrationTerms, Policy, Requirement
from robustness_gate.running.executors import local
from robustness_gate.verdict.calibrations import of_its_own

ITEMS = 120
ORIGINAL = "b" * 64
STANDS_FOR = {TAUGHT: "base", BLANK: "oracle", "rmu": "rmu", "shallow": "shallow"}
METHODS = ("rmu", "shallow")


def calibrated(attack: str, config: dict[str, object]) -> tuple[Calibration, Policy]:
    whole = suite_data()
    data = dataclasses.replace(
        whole, tasks={name: dataclasses.replace(each, items=each.items[:ITEMS]) for name, each in whole.tasks.items()}
    )
    subjects = {name: organism(each) for name, each in STANDS_FOR.items()}
    settings = attacks.as_json(attacks.configure(attacks.load(attack), config))  # type: ignore[arg-type]
    recoveries, spikes = [], []
    for method in METHODS:
        case = bench.Case(method, attack=attack, config=settings)
        models = {name: subjects[name] for name in (TAUGHT, BLANK, method)}
        names = bench.Bench("llama", TAUGHT, (BLANK,))
        (test,) = self_test.examined(names, [bench.Tried(case, settings, {})], AT, self_test.Place(data, models), None)
        recoveries.append(Recovery(method=method, expected=expected(attack, settings, "llama"), test=test))
        read = reading(
            items=test.items, blank=test.negative_controls[0].before, taught=test.known, suppressed=test.before,
            utility=(UtilityReading(task="useful", items=100, original=99, spiked=99),),
        )  # fmt: skip
        spikes.append(spike(method, read, original=ORIGINAL))
    taught = spikes[0].reading
    assert taught is not None
    spikes.insert(0, spike(TAUGHT, taught.model_copy(update={"suppressed": taught.taught}), original=ORIGINAL))
    terms = CalibrationTerms(methods=(*METHODS, "npo"), explained={"npo": "it is not tried in this test"})
    world = SpikeWorld(seed=1, facts=160, verdict_facts=ITEMS, form="multiple_choice", sha256=WORLD)
    made = calibration_of(
        original=ORIGINAL, world=world, methods=terms.methods, spikes=tuple(spikes), recoveries=tuple(recoveries),
        at=AT.date(),
    )  # fmt: skip
    return made, policy_of(calibration=terms, required=(Requirement(attack="none"), Requirement(attack=attack)))


def sound(_: Patch) -> None:
    pass


RELEARN = {"source": "forget", "method": "full", "budgets": [5], "learning_rates": [5e-4, 2e-3], "min_steps": 60,
           "batch": 8, "rotations": 4}  # fmt: skip
SHOWN = {"budgets": [2], "draws": 4}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("attack", "config", "plant", "found"),
    [
        ("relearn", RELEARN, sound, set()),
        ("relearn", RELEARN, no_learning_rate, {"calibration_failed", "expected_bite_missing"}),
        ("relearn", RELEARN, frozen_parameters, {"calibration_failed", "expected_bite_missing"}),
        ("relearn", RELEARN, sham_that_does_something, {"calibration_failed"}),
        ("few_shot", SHOWN, examples_not_shown, {"calibration_failed", "expected_bite_missing"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_bug_in_one_attack_is_caught(
    attack: str, config: dict[str, object], plant: Callable[[Patch], None], found: set[str], monkeypatch: Patch
) -> None:
    plant(monkeypatch)
    if local.execute is EXECUTE:  # the bug may have its own
        monkeypatch.setattr(local, "execute", in_this_process)
    made, policy = calibrated(attack, config)
    codes = {each.code for each in of_its_own(made, policy)}
    assert found <= codes
    assert bool(codes) == bool(found)
