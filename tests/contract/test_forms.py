"""What an attack trains on, aims at and chooses by is what the hazard's tasks ask: every attack, every kind of task.

An attack that trains in letters where the hazard is asked in words finds nothing there, and the model passes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import form_rules
import pytest

from robustness_gate import attacks
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.planning import applicability, plan
from robustness_gate.records.encode import encode
from robustness_gate.records.questions import hazard_kinds
from robustness_gate.records.trial import Role, Trial
from robustness_gate.running import trial

HAZARDS = {name: (name,) for name in form_rules.TASKS} | {"all": tuple(form_rules.TASKS)}


@pytest.fixture(scope="module")
def loaded_models() -> tuple[Any, Any]:
    return form_rules.small_model(0), form_rules.small_model(1)


@pytest.fixture(scope="module", params=HAZARDS)
def suite_data(request: Any, tmp_path_factory: Any) -> Any:
    return form_rules.bench(tmp_path_factory.mktemp("bench"), *HAZARDS[request.param])


def test_every_kind_is_on_the_bench() -> None:
    assert set(form_rules.KIND_OF.values()) == set(hazard_kinds())
    assert set(form_rules.KIND_OF) == set(form_rules.TASKS)


@pytest.mark.parametrize("name", attacks.names())
def test_what_an_attack_shows_is_what_the_tasks_ask(name: str, suite_data: Any, loaded_models: Any) -> None:
    assert form_rules.faults(name, suite_data, *loaded_models) == []


@pytest.mark.parametrize("name", attacks.names())
def test_an_attack_says_in_which_forms_it_cannot_be_made_and_why(name: str, suite_data: Any) -> None:
    module = attacks.load(name)
    found = applicability.of(module, form_rules.config_of(module), suite_data.hazards)
    kinds = {each.name: each.kind for each in suite_data.hazards}
    assert {*found.names, *found.reasons} == set(kinds)
    assert {kinds[each] for each in found.names} == set(kinds.values()) & set(module.SPEAKS)
    assert all(len(reason.split()) >= 4 for reason in found.reasons.values())


@pytest.mark.parametrize("name", ["probe", "relearn", "sample"])
def test_a_trial_is_made_in_the_forms_that_its_record_names_and_in_no_others(
    name: str, suite_data: Any, loaded_models: Any
) -> None:
    """From its record alone. Where it names none it is not applicable, with the reason that the plan foresees."""
    module = attacks.load(name)
    config = form_rules.config_of(module)
    no_one = plan.Subject(Role.CANDIDATE, None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    made = plan.trial_of(no_one, None, module, config, 0, suite_data, "float32")
    read = Trial.model_validate_json(encode(made.model_dump(mode="json")))
    assert read.id == made.id
    found = applicability.of(module, config, suite_data.hazards)
    assert read.aims == set(found.names)
    original = lambda: contextlib.nullcontext(loaded_models[1])  # noqa: E731 - the reference of one trial
    if not found.names:
        with pytest.raises(NotApplicable, match="cannot be made in any form") as caught:
            list(trial.run(read, suite_data, loaded_models[0], reference=original))
        assert found.why_not in caught.value.message
        return
    measurements = list(trial.run(read, suite_data, loaded_models[0], reference=original))
    assert [(each.budget, each.task) for each in measurements] == [
        (m, ref.name) for m in made.budgets for ref in made.tasks
    ]
    other = made.model_copy(update={"hazard": (*found.names, "more")})
    with pytest.raises(BrokenTrial, match="forms in which the hazard is asked changed"):
        list(trial.run(other, suite_data, loaded_models[0], reference=original))
