"""What an attack trains on, aims at and chooses by is what the hazard's tasks ask: every attack, every kind of task.

An attack that trains in letters where the hazard is asked in words finds nothing there, and the model passes.
"""

from __future__ import annotations

from typing import Any

import formlaws
import pytest

from robustness_gate import applicability, attacks
from robustness_gate.nouns import HAZARD_KINDS

HAZARDS = {name: (name,) for name in formlaws.TASKS} | {"all": tuple(formlaws.TASKS)}


@pytest.fixture(scope="module")
def speakers() -> tuple[Any, Any]:
    return formlaws.small_model(0), formlaws.small_model(1)


@pytest.fixture(scope="module", params=HAZARDS)
def materials(request: Any, tmp_path_factory: Any) -> Any:
    return formlaws.bench(tmp_path_factory.mktemp("bench"), *HAZARDS[request.param])


def test_every_attack_and_every_kind_is_on_the_bench() -> None:
    assert set(formlaws.CONFIGS) == set(attacks.names())
    assert set(formlaws.KIND_OF.values()) == set(HAZARD_KINDS)
    assert set(formlaws.KIND_OF) == set(formlaws.TASKS)


@pytest.mark.parametrize("name", attacks.names())
def test_what_an_attack_shows_is_what_the_tasks_ask(name: str, materials: Any, speakers: Any) -> None:
    assert formlaws.faults(name, materials, *speakers) == []


@pytest.mark.parametrize("name", attacks.names())
def test_an_attack_says_in_which_forms_it_cannot_be_made_and_why(name: str, materials: Any) -> None:
    module = attacks.load(name)
    found = applicability.of(module, module.Config(**formlaws.CONFIGS[name]), materials.hazards)
    kinds = {each.name: each.kind for each in materials.hazards}
    assert {*found.names, *found.reasons} == set(kinds)
    assert {kinds[each] for each in found.names} == set(kinds.values()) & set(module.SPEAKS)
    assert all(len(reason.split()) >= 4 for reason in found.reasons.values())
