"""What the files of this folder share: each names an attack and rows of it, and `attack_laws` are its tests."""

from __future__ import annotations

import pytest
from attack_laws import Case, Performance, Replay, case_of, in_every_order, original, perform, replay

from robustness_gate import attacks, trial
from robustness_gate.nouns import Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", range(len(metafunc.module.ROWS)), scope="module")


@pytest.fixture(scope="module")
def attack(request):
    return attacks.load(request.module.ATTACK)


@pytest.fixture(scope="module")
def case(request, row, small_materials) -> Case:
    return case_of(request.module.ATTACK, request.module.ROWS[row], small_materials)


@pytest.fixture(scope="session")
def target(small_materials, rmu_speaker) -> Target:
    return trial.target_of(small_materials, rmu_speaker, original)


@pytest.fixture(scope="module")
def performance(case, target, small_materials) -> Performance:
    return perform(case, target, small_materials)


@pytest.fixture(scope="module")
def replayed(case, target, small_materials, tmp_path_factory) -> Replay:
    return replay(case, target, small_materials, tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="session")
def untouched(target, small_materials):
    return in_every_order(target.respondent, small_materials)
