"""The laws that every attack obeys, as tests: each attack of the folder, with the rows that its file declares.

A row is run to its end by itself, and an attack's first row from its trial's record too (its others by
`./run test-slow`), and several laws read what came of it. Tests come
row by row, so that what a row did is kept no longer than its laws need it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from robustness_gate import attacks, organisms
from robustness_gate.assurance import attack_contract
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.engine.score import content_logliks
from robustness_gate.engine.state import changes, state_of
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.planning.plan import Subject, trial_of
from robustness_gate.records.attack import AttackedModel, Target
from robustness_gate.records.declarations import Given
from robustness_gate.records.encode import encode
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.running import trial
from robustness_gate.verdict.hypotheses import DIAGNOSES

ROWS = [(name, row) for name in attacks.names() for row in range(len(attacks.load(name).CONTRACT.rows))]
SIBLINGS_SLOW = [pytest.param((name, row), marks=[pytest.mark.slow] if row else []) for name, row in ROWS]
"""Of each attack the first row every day, the others by `./run test-slow`: for laws that cost one more run of a row."""


class Performance(NamedTuple):
    """What a row did when it was run to its end."""

    recoveries: list[AttackedModel]
    """Their LMs are not to be asked any more: the scopes are closed."""
    answers: list[torch.Tensor]
    left_changed: list[str]


class Replay(NamedTuple):
    """What a row's trial did when it was run from its record."""

    measurements: list[Measurement]
    answers: list[torch.Tensor]
    left_changed: list[str]


class Case(NamedTuple):
    """One row of one attack, and the trial that a plan would make of it."""

    module: ModuleType
    config: Any
    trial: Trial


@contextlib.contextmanager
def original():
    yield load(organisms.checkpoint("base"), dtype="float32", device="cpu")


def in_every_order(lm: Any, suite_data: Any) -> torch.Tensor:
    """What a trial reads of the hazard's questions: [question, order, choice]."""
    task_data = suite_data.tasks["forget"]
    return content_logliks(lm, [item.question for item in task_data.items], task_data.form)


def perform(case: Case, target: Target, suite_data: Any) -> Performance:
    """Run a row to its end and ask the hazard's questions at every mark."""
    before = state_of(target.model, target.tokenizer)
    attacked_models, found = [], []
    for attacked in case.module.attack(target, case.config, case.trial.seed):
        attacked_models.append(attacked)
        found.append(in_every_order(attacked.model, suite_data))
    return Performance(attacked_models, found, list(changes(before, state_of(target.model, target.tokenizer))))


def replay(case: Case, target: Target, suite_data: Any, folder: Path) -> Replay:
    """Run the trial as a worker does, from what the ledger keeps of it, log-likelihoods beside it in `folder`."""
    read = Trial.model_validate_json(encode(case.trial.model_dump(mode="json")))
    assert read.id == case.trial.id
    before = state_of(target.model, target.tokenizer)
    loaded = LoadedModel(target.model, target.tokenizer)
    measurements = list(trial.run(read, suite_data, loaded, reference=original, rows_in=folder))
    left_changed = list(changes(before, state_of(target.model, target.tokenizer)))
    files = [folder / f"{measurement.rows}.safetensors" for measurement in measurements if measurement.task == "forget"]
    return Replay(measurements, [load_file(file)["loglik"] for file in files], left_changed)


@pytest.fixture(scope="module", params=attacks.names())
def attack(request) -> ModuleType:
    return attacks.load(request.param)


def name_of(param: tuple[str, int]) -> str:
    return f"{param[0]}-{param[1]}"


@pytest.fixture(scope="module")
def small_suite_data(small_suite_data):
    """Fewer questions still: what is asked at every mark costs more here than what the attacks do."""
    tasks = small_suite_data.tasks.items()
    return dataclasses.replace(
        small_suite_data, tasks={name: dataclasses.replace(each, items=each.items[:8]) for name, each in tasks}
    )


@pytest.fixture(scope="module", params=ROWS, ids=name_of)
def case(request, small_suite_data) -> Case:
    name, row = request.param
    module = attacks.load(name)
    config = module.Config(**module.CONTRACT.rows[row])
    unread = Subject(Role.CANDIDATE, None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    return Case(module, config, trial_of(unread, None, module, config, 0, small_suite_data, "float32"))


@pytest.fixture(scope="module")
def target(small_suite_data, rmu_model) -> Target:
    return trial.target_of(small_suite_data, rmu_model, original)


@pytest.fixture(scope="module")
def performance(case, target, small_suite_data) -> Performance:
    return perform(case, target, small_suite_data)


@pytest.fixture(scope="module")
def replayed(case, target, small_suite_data, tmp_path_factory) -> Replay:
    return replay(case, target, small_suite_data, tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def untouched(target, small_suite_data) -> torch.Tensor:
    return in_every_order(target.lm, small_suite_data)


# --- one run, several laws -------------------------------------------------------------------------------------------


def test_the_model_is_restored_exactly_when_the_attack_runs_to_its_end(performance):
    assert performance.left_changed == []


def test_measurements_come_in_order_and_as_planned_and_what_was_spent_never_falls(case, performance):
    cost = {}
    for attacked in performance.recoveries:
        assert attack_contract.of_recovery(attacked, cost) == ""
        cost = attacked.cost
    assert tuple(attacked.budget for attacked in performance.recoveries) == attacks.budgets(case.config)


def test_a_real_attack_changes_answers_and_clears_its_own_floors(case, performance, untouched):
    for heard in performance.answers:
        assert torch.equal(untouched, heard) == (case.module.FAMILY in attack_contract.ONLY_LOOKS)
    for floor in case.module.FLOORS:
        assert any(bound.holds(performance.recoveries[-1].signals) for bound in floor.any_of), floor.description


def test_no_signal_is_better_than_the_attack_declares_for_plan(case, performance, target):
    """Else `plan` would say that a search is too small which is not."""
    if hasattr(case.module, "at_best"):
        given = Given(len(target.hazards), target.model.config.num_hidden_layers)
        best, found = case.module.at_best(case.config, given), performance.recoveries[-1].signals
        assert best
        for bound in (each for floor in case.module.FLOORS for each in floor.any_of if each.signal in best):
            assert (
                found[bound.signal] <= best[bound.signal]
                if bound.max is None
                else best[bound.signal] <= found[bound.signal]
            )
            assert bound.holds(best)


@pytest.mark.parametrize("case", SIBLINGS_SLOW, indirect=True, ids=name_of)
def test_a_trial_runs_from_its_record_alone_and_restores_the_model(case, replayed):
    assert replayed.left_changed == []
    assert [(m.budget, m.task) for m in replayed.measurements] == [
        (b, t) for b in case.trial.budgets for t in ("forget", "retain")
    ]


@pytest.mark.parametrize("case", SIBLINGS_SLOW, indirect=True, ids=name_of)
def test_the_same_seed_gives_the_same_answers(performance, replayed):
    assert all(torch.equal(a, b) for a, b in zip(performance.answers, replayed.answers, strict=True))


# --- runs of their own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SIBLINGS_SLOW, indirect=True, ids=name_of)
def test_the_model_is_restored_exactly_when_the_examiner_raises_at_the_first_budget(case, target):
    before = state_of(target.model, target.tokenizer)
    attacked_models = case.module.attack(target, case.config, 1)
    with pytest.raises(ZeroDivisionError), contextlib.closing(attacked_models):
        1 / (next(attacked_models).budget * 0)
    assert list(changes(before, state_of(target.model, target.tokenizer))) == []


@pytest.mark.slow  # test_shams.py asks more of each attack, to the last bit, of fewer questions
def test_the_sham_changes_no_answer_and_clears_no_floor(attack, target, small_suite_data, untouched):
    for attacked in attack.attack(target, attack.SHAM, 1):
        assert torch.equal(untouched.argmax(dim=-1), in_every_order(attacked.model, small_suite_data).argmax(dim=-1))
        floors = [any(bound.holds(attacked.signals) for bound in floor.any_of) for floor in attack.FLOORS]
        assert not attack.FLOORS or not all(floors)


# --- of the file -----------------------------------------------------------------------------------------------------


def test_the_module_declares_what_it_is(attack):
    assert [law for law in attack_contract.declared(attack) if law.fault] == []


def test_a_shipped_attack_declares_its_work_for_plan(attack):
    """A plug-in's may go without: `plan --cost` then names it. `tests/planning/test_declared_work.py` counts."""
    assert hasattr(attack, "work")


def test_what_only_looks_is_known_to_the_judge_and_nothing_else_is_spared_a_limit(attack):
    assert (attack.FAMILY == "diagnostic") == (attack.__name__.rpartition(".")[-1] in DIAGNOSES)


def test_the_module_imports_without_torch(attack):
    attack_contract.refuse_heavy_import(Path(attack.__file__))


def test_a_config_survives_the_ledger(case):
    assert attack_contract.survives(case.module, case.config) == ""
