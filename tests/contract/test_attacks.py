"""The laws that every attack obeys, held against every attack in the folder. A new attack adds one row to ROWS."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from robustness_gate import attacks, laws, organisms, trial
from robustness_gate.engine.load import load
from robustness_gate.engine.state import changes, state_of
from robustness_gate.nouns import Target
from robustness_gate.plan import Subject, trial_of
from robustness_gate.verdict.cells import DIAGNOSES

# One row an attack: configs small enough for a test, each of which must really change the model where it claims to.
SMALL = {"learning_rates": (2e-3, 1e-2), "marks": (2, 4), "batch": 2, "min_steps": 16, "rank": 4, "alpha": 8}
SEARCH = {"source": "retain", "tokens": 3, "candidates": 8, "questions": 1, "looks": 9, "header": False}
ROWS = {
    "ablation": [
        {"skip_tokens": 12, "directions": ("retain", "unrelated"), "questions": 8},
        {"skip_tokens": 12, "single_layers": False, "questions": 12},
        {"skip_tokens": 12, "directions": ("retain",), "questions": 8, "apply": "fold", "all_layers": False},
    ],
    "enhanced_prefix": [{**SEARCH, "shortest": 3, "longest": 4, "marks": (1, 3), "warm": 1}],
    "few_shot": [{"marks": (1, 2), "draws": 1}],
    "interpolate": [{"marks": (50, 100)}],
    "latent_prompt": [{"marks": (2, 4), "learning_rates": (0.1,), "batch": 4, "questions": 8, "depths": (0.25,)}],
    "logit_lens": [{}],
    "model_guidance": [{}, {"weights": (0.5,)}],
    "noise": [{"marks": (50, 200), "draws": 2}, {"marks": (100,), "draws": 1, "where": "linear"}],
    "none": [{}],
    "pruning": [
        {"samples": 3, "p": (5.0,), "q": (2.0, 5.0), "utility": ("retain",)},
        {
            "samples": 3,
            "p": (0.5,),
            "q": (5.0, 10.0, 20.0),
            "q_over_p": True,
            "scores": ("snip",),
            "tail": 1,
            "calibrate_on": ("questions",),
            "utility": ("unrelated",),
        },
    ],
    "perturb": [{"every": (9,), "shares": (), "characters": ("!",), "slips": (), "screened": 2, "finalists": 1}],
    "perturb_informed": [
        {"depths": (0.0,), "thresholds": (0.5,), "questions": 4, "rounds": 2},
        {"depths": (0.0,), "thresholds": (0.3,), "questions": 4, "rounds": 1, "direction": "original"},
    ],
    "probe": [{"questions": 8, "folds": 2, "penalties": (10.0,)}],
    "quantize": [{"marks": (2, 3)}, {"scheme": "group", "marks": (3,), "group": 48}, {"scheme": "nf4", "marks": (4,)}],
    "reformat": [
        {"presentations": ("letters_lower", "tokens_all", "header_none"), "calibrations": ()},
        {"presentations": ("header_none",), "probes": 1, "chosen_by": "single_order"},
    ],
    "refusal_direction": [
        {"declined": "wrong", "questions": 8, "validating": 4, "positions": 2, "tried": 2, "max_kl": 1.0},
    ],
    "relearn": [
        {**SMALL, "source": "forget", "method": "lora"},
        {
            **SMALL,
            "source": "retain",
            "method": "full",
            "repair": "unrelated",
            "repair_on": "questions",
            "repair_steps": 2,
            "repair_rate": 1e-3,
        },
        {**SMALL, "marks": (1,), "learning_rates": (1e-2,), "source": "dev", "folds": 4},
        {**SMALL, "source": "unrelated", "method": "lora", "rotations": 2},
        {**SMALL, "marks": (2,), "source": "forget", "train_on": "texts", "method": "full", "layers": (1, 2)},
    ],
    "sample": [{"marks": (1, 8), "temperatures": (0.5, 1.0)}],
    "soft_prompt": [{"vectors": 8, "marks": (2, 12), "learning_rates": (0.1,), "batch": 4, "questions": 8}],
    "steer": [{"depths": (0.0, 0.5), "multiples": (1.0, 4.0), "questions": 4}],
    "universal_prefix": [{**SEARCH, "marks": (1, 2), "restarts": 2, "batch": 1}],
}
CASES = [(name, i) for name, rows in ROWS.items() for i in range(len(rows))]


def test_every_attack_in_the_folder_has_a_row():
    assert set(ROWS) == set(attacks.names())


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    name, index = request.param
    module = attacks.load(name)
    return module, module.Config(**ROWS[name][index])


@pytest.fixture
def target(small_materials, rmu_speaker) -> Target:
    return trial.target_of(small_materials, rmu_speaker, original)


@contextlib.contextmanager
def original():
    yield load(organisms.checkpoint("base"), dtype="float32", device="cpu")


def assert_same(before: dict, after: dict) -> None:
    assert not list(changes(before, after))


def answers(respondent, materials):
    exam = materials.exams["forget"]
    return respondent.choose([item.question for item in exam.items], exam.form)


def test_the_model_is_restored_exactly_when_the_attack_runs_to_its_end(case, target):
    module, config = case
    before = state_of(target.model, target.tokenizer)
    for _ in module.attack(target, config, 1):
        pass
    assert_same(before, state_of(target.model, target.tokenizer))


def test_the_model_is_restored_exactly_when_the_examiner_raises_at_the_first_mark(case, target):
    module, config = case
    before = state_of(target.model, target.tokenizer)
    with pytest.raises(ZeroDivisionError), contextlib.closing(module.attack(target, config, 1)) as recoveries:
        1 / (next(recoveries).mark * 0)
    assert_same(before, state_of(target.model, target.tokenizer))


def test_marks_come_in_order_and_as_planned_and_what_was_spent_never_falls(case, target):
    module, config = case
    spent, marks = {}, []
    for recovery in module.attack(target, config, 1):
        marks.append(recovery.mark)
        assert laws.of_recovery(recovery, spent) == ""
        spent = recovery.spent
    assert tuple(marks) == attacks.marks(config)


def test_the_same_seed_gives_the_same_answers(case, target, small_materials):
    module, config = case
    runs = []
    for _ in range(2):
        recoveries = module.attack(target, config, 7)
        runs.append([answers(recovery.respondent, small_materials) for recovery in recoveries])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_real_attack_changes_answers_and_clears_its_own_floors(case, target, small_materials):
    module, config = case
    plain = answers(target.respondent, small_materials)
    for recovery in module.attack(target, config, 1):
        changed = not torch.equal(plain, answers(recovery.respondent, small_materials))
        assert changed == (module.FAMILY not in laws.ONLY_LOOKS)
        if recovery.mark == attacks.marks(config)[-1]:
            for floor in module.FLOORS:
                assert any(bound.holds(recovery.signs) for bound in floor.any_of), floor.says


def test_the_sham_changes_no_answer_and_clears_no_floor(case, target, small_materials):
    module, _ = case
    plain = answers(target.respondent, small_materials).argmax(dim=-1)
    for recovery in module.attack(target, module.SHAM, 1):
        assert torch.equal(plain, answers(recovery.respondent, small_materials).argmax(dim=-1))
        floors = [any(bound.holds(recovery.signs) for bound in floor.any_of) for floor in module.FLOORS]
        assert not module.FLOORS or not all(floors)


@pytest.mark.parametrize("name", attacks.names())
def test_the_module_declares_what_it_is(name):
    assert [law for law in laws.declared(attacks.load(name)) if law.fault] == []


@pytest.mark.parametrize("name", attacks.names())
def test_what_only_looks_is_known_to_the_judge_and_nothing_else_is_spared_a_limit(name):
    assert (attacks.load(name).FAMILY == "diagnostic") == (name in DIAGNOSES)


@pytest.mark.parametrize("name", attacks.names())
def test_the_module_imports_without_torch(name):
    laws.refuse_heavy_import(Path(attacks.load(name).__file__))


@pytest.mark.parametrize("name", attacks.names())
def test_a_config_survives_the_ledger(name):
    module = attacks.load(name)
    for row in ROWS[name]:
        assert laws.survives(module, module.Config(**row)) == ""


def test_a_trial_runs_from_its_record_alone_and_restores_the_model(case, small_materials, rmu_speaker):
    module, config = case
    from robustness_gate.checkpoint import FileEntry, Manifest
    from robustness_gate.nouns import Trial, canonical

    nobody = Subject("candidate", None, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    made = trial_of(nobody, None, module, config, 0, small_materials, "float32")
    read = Trial.model_validate_json(canonical(made.model_dump(mode="json")))
    assert read.id == made.id
    before = state_of(rmu_speaker.model, rmu_speaker.tokenizer)
    marks = list(trial.run(read, small_materials, rmu_speaker, reference=original))
    assert_same(before, state_of(rmu_speaker.model, rmu_speaker.tokenizer))
    assert [(m.mark, m.task) for m in marks] == [(b, t) for b in made.marks for t in ("forget", "retain")]
