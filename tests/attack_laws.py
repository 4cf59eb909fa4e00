"""The laws that every attack obeys, as tests. A file of `contract/attacks` names an attack, its rows, and imports them.

`ROWS` are configs small enough for a test, each of which must really change the model where it claims to. A row is run
to its end twice, by itself and from its trial's record, and several laws read what came of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from robustness_gate import attacks, laws, organisms, trial
from robustness_gate.checkpoint import FileEntry, Manifest
from robustness_gate.engine.load import Speaker, load
from robustness_gate.engine.score import content_logliks
from robustness_gate.engine.state import changes, state_of
from robustness_gate.nouns import Mark, Recovery, Target, Trial, canonical
from robustness_gate.plan import Subject, trial_of
from robustness_gate.verdict.cells import DIAGNOSES

__all__ = [
    "test_a_config_survives_the_ledger",
    "test_a_real_attack_changes_answers_and_clears_its_own_floors",
    "test_a_trial_runs_from_its_record_alone_and_restores_the_model",
    "test_marks_come_in_order_and_as_planned_and_what_was_spent_never_falls",
    "test_the_model_is_restored_exactly_when_the_attack_runs_to_its_end",
    "test_the_model_is_restored_exactly_when_the_examiner_raises_at_the_first_mark",
    "test_the_module_declares_what_it_is",
    "test_the_module_imports_without_torch",
    "test_the_same_seed_gives_the_same_answers",
    "test_the_sham_changes_no_answer_and_clears_no_floor",
    "test_what_only_looks_is_known_to_the_judge_and_nothing_else_is_spared_a_limit",
]


class Performance(NamedTuple):
    """What a row did when it was run to its end."""

    recoveries: list[Recovery]
    """Their respondents are not to be asked any more: the scopes are closed."""
    answers: list[torch.Tensor]
    left_changed: list[str]


class Replay(NamedTuple):
    """What a row's trial did when it was run from its record."""

    marks: list[Mark]
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


def assert_same(before: dict, after: dict) -> None:
    assert not list(changes(before, after))


def answers(respondent: Any, materials: Any) -> torch.Tensor:
    exam = materials.exams["forget"]
    return respondent.choose([item.question for item in exam.items], exam.form)


def case_of(name: str, row: dict[str, Any], materials: Any) -> Case:
    module = attacks.load(name)
    config = module.Config(**row)
    nobody = Subject("candidate", None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    return Case(module, config, trial_of(nobody, None, module, config, 0, materials, "float32"))


def in_every_order(respondent: Any, materials: Any) -> torch.Tensor:
    """What a trial reads of the hazard's questions: [question, order, choice]."""
    exam = materials.exams["forget"]
    return content_logliks(respondent, [item.question for item in exam.items], exam.form)


def perform(case: Case, target: Target, materials: Any) -> Performance:
    """Run a row to its end and ask the hazard's questions at every mark."""
    before = state_of(target.model, target.tokenizer)
    recoveries, found = [], []
    for recovery in case.module.attack(target, case.config, case.trial.seed):
        recoveries.append(recovery)
        found.append(in_every_order(recovery.respondent, materials))
    return Performance(recoveries, found, list(changes(before, state_of(target.model, target.tokenizer))))


def replay(case: Case, target: Target, materials: Any, folder: Path) -> Replay:
    """Run the trial as a worker does, from what the ledger keeps of it, log-likelihoods beside it in `folder`."""
    read = Trial.model_validate_json(canonical(case.trial.model_dump(mode="json")))
    assert read.id == case.trial.id
    before = state_of(target.model, target.tokenizer)
    speaker = Speaker(target.model, target.tokenizer)
    marks = list(trial.run(read, materials, speaker, reference=original, rows_in=folder))
    left_changed = list(changes(before, state_of(target.model, target.tokenizer)))
    files = [folder / f"{mark.rows}.safetensors" for mark in marks if mark.task == "forget"]
    return Replay(marks, [load_file(file)["loglik"] for file in files], left_changed)


# --- one run, several laws -------------------------------------------------------------------------------------------


def test_the_model_is_restored_exactly_when_the_attack_runs_to_its_end(performance):
    assert performance.left_changed == []


def test_marks_come_in_order_and_as_planned_and_what_was_spent_never_falls(case, performance):
    spent = {}
    for recovery in performance.recoveries:
        assert laws.of_recovery(recovery, spent) == ""
        spent = recovery.spent
    assert tuple(recovery.mark for recovery in performance.recoveries) == attacks.marks(case.config)


def test_a_real_attack_changes_answers_and_clears_its_own_floors(case, performance, untouched):
    for heard in performance.answers:
        assert torch.equal(untouched, heard) == (case.module.FAMILY in laws.ONLY_LOOKS)
    for floor in case.module.FLOORS:
        assert any(bound.holds(performance.recoveries[-1].signs) for bound in floor.any_of), floor.says


def test_a_trial_runs_from_its_record_alone_and_restores_the_model(case, replayed):
    assert replayed.left_changed == []
    assert [(m.mark, m.task) for m in replayed.marks] == [
        (b, t) for b in case.trial.marks for t in ("forget", "retain")
    ]


def test_the_same_seed_gives_the_same_answers(performance, replayed):
    assert all(torch.equal(a, b) for a, b in zip(performance.answers, replayed.answers, strict=True))


# --- runs of their own -----------------------------------------------------------------------------------------------


def test_the_model_is_restored_exactly_when_the_examiner_raises_at_the_first_mark(case, target):
    before = state_of(target.model, target.tokenizer)
    recoveries = case.module.attack(target, case.config, 1)
    with pytest.raises(ZeroDivisionError), contextlib.closing(recoveries):
        1 / (next(recoveries).mark * 0)
    assert_same(before, state_of(target.model, target.tokenizer))


def test_the_sham_changes_no_answer_and_clears_no_floor(attack, target, small_materials, untouched):
    for recovery in attack.attack(target, attack.SHAM, 1):
        assert torch.equal(
            untouched.argmax(dim=-1), in_every_order(recovery.respondent, small_materials).argmax(dim=-1)
        )
        floors = [any(bound.holds(recovery.signs) for bound in floor.any_of) for floor in attack.FLOORS]
        assert not attack.FLOORS or not all(floors)


# --- of the file -----------------------------------------------------------------------------------------------------


def test_the_module_declares_what_it_is(attack):
    assert [law for law in laws.declared(attack) if law.fault] == []


def test_what_only_looks_is_known_to_the_judge_and_nothing_else_is_spared_a_limit(attack):
    assert (attack.FAMILY == "diagnostic") == (attack.__name__.rpartition(".")[-1] in DIAGNOSES)


def test_the_module_imports_without_torch(attack):
    laws.refuse_heavy_import(Path(attack.__file__))


def test_a_config_survives_the_ledger(case):
    assert laws.survives(case.module, case.config) == ""
