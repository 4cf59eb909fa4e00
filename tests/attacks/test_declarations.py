"""What an attack declares for its self-test, and how its Config refuses a setting that does not fit."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from robustness_gate import attacks
from robustness_gate.errors import PlanError
from robustness_gate.planning import bench
from robustness_gate.records.declarations import SelfTestCase, bounded, different, rising


def config(value: Any) -> Any:
    return SimpleNamespace(it=value)


@pytest.mark.parametrize(
    ("values", "limits", "words"),
    [
        ((), {}, r"'it' must rise, found \[\]"),
        ((1, 1), {}, r"'it' must rise, found \[1, 1\]"),
        ((0, 1), {"least": 1}, r"'it' must rise, each at least 1, found \[0, 1\]"),
        ((0, 101), {"least": 0, "most": 100}, "'it' must rise, each at least 0 and at most 100"),
        ((0.0, 0.5), {"over": 0}, "'it' must rise, each over 0"),
        ((0.5, 1.0), {"under": 1}, "'it' must rise, each under 1"),
    ],
)
def test_what_is_no_ladder_is_refused(values: tuple[float, ...], limits: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rising(config(values), "it", **limits)


@pytest.mark.parametrize(
    ("value", "limits", "words"),
    [
        (0, {"least": 1}, "'it' must be at least 1, found 0"),
        (2, {"most": 1}, "'it' must be at most 1, found 2"),
        ((0.5, 1.0), {"least": 0, "under": 1}, r"'it' must be at least 0 and under 1, found \[0.5, 1.0\]"),
        (0, {"over": 0}, "'it' must be over 0, found 0"),
    ],
)
def test_what_is_outside_its_range_is_refused(value: Any, limits: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bounded(config(value), "it", **limits)


def test_what_is_within_is_taken() -> None:
    rising(config((1, 2)), "it", least=1, most=2)
    rising(config(()), "it", empty=True)
    bounded(config((0, 1)), "it", least=0, most=1)
    different(config(("a", "b")), "it")
    different(config(()), "it", empty=True)


@pytest.mark.parametrize("values", [(), ("a", "a")])
def test_nothing_or_one_thing_twice_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="'it' must name at least one, and none twice"):
        different(config(values), "it")


def lists() -> list[tuple[str, str]]:
    """Every setting of every attack that is a list, by attack and name."""
    named = ((attack, attacks.load(attack).Config) for attack in attacks.names())
    return [
        (attack, each.name)
        for attack, settings in named
        for each in dataclasses.fields(settings)
        if "tuple" in str(each.type)
    ]


@pytest.mark.parametrize(("attack", "setting"), lists())
def test_no_attack_takes_the_same_value_twice_in_any_list(attack: str, setting: str) -> None:
    """`every: [40, 40, 40]` was three settings, and a floor that asks for three was met by one."""
    module = attacks.load(attack)
    value = next(iter(getattr(module.Config(), setting)), 1)
    with pytest.raises(attacks.BadConfig, match=f"'{setting}' must (rise|name at least one, and none twice)"):
        attacks.configure(module, {setting: [value, value]})


def test_the_lists_of_settings_are_found() -> None:
    assert {("perturb", "every"), ("relearn", "layers"), ("relearn", "budgets"), ("logit_lens", "stages")} <= {*lists()}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (SelfTestCase("rnu"), "there is no organism 'rnu' of a 'llama'"),
        (SelfTestCase("rmu", model_type="qwen2"), "there is no organism 'rmu' of a 'qwen2'"),
        (SelfTestCase("rmu", sizes={"depth": 1}), "unknown setting 'depth'"),
        (SelfTestCase("rmu", budgets=(3, 2)), "'budgets' must rise"),
    ],
)
def test_a_self_test_case_that_cannot_be_made_is_refused(case: SelfTestCase, words: str) -> None:
    with pytest.raises(PlanError, match=f"a self-test case of the attack 'relearn' cannot be used: .*{words}"):
        bench.made("relearn", attacks.load("relearn"), case)
