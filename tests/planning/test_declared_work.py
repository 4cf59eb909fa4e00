"""What an attack's `work` declares, beside the tokens that really went through a small model."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import pytest

from robustness_gate import attacks, organisms
from robustness_gate.engine import padding, shared, usage
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.planning import cost
from robustness_gate.records.work import Sizes
from robustness_gate.running import trial

MORE: dict[str, dict[str, Any]] = {"pruning": {"utility": ("retain",), "scores": ("snip", "wanda")}}
"""Settings in place of those of the contract's tiny run."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(organisms.checkpoint("rmu"), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def counter(loaded: LoadedModel) -> usage.Tokens:
    found = usage.Tokens()
    usage.watch(loaded.model, found)
    return found


@pytest.fixture(scope="module")
def few(small_suite_data: Any) -> Any:
    return dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2])


def spent(name: str, config: Any, loaded: LoadedModel, counter: usage.Tokens, data: Any) -> tuple[int, int]:
    """Tokens that an attack reads and learns, without examinations; prompts are read whole, as `plan --cost` counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "applies", lambda *_, **__: False)
        for side in ("left", "right"):
            padding.look(loaded.model, [[1] * 30, [1] * 9], side=side)  # what a trial measures before the attack
        target = trial.target_of(data, loaded, lambda: contextlib.nullcontext(loaded))
        before = counter.read, counter.learnt
        with contextlib.closing(attacks.load(name).attack(target, config, 1)) as attacked_models:
            for _ in attacked_models:
                pass
    return counter.read - before[0], counter.learnt - before[1]


@pytest.mark.parametrize("name", [each for each in attacks.names() if hasattr(attacks.load(each), "work")])
def test_an_attack_reads_and_learns_what_it_declares(
    name: str, loaded: LoadedModel, counter: usage.Tokens, few: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "length_of", lambda text: float(len(loaded.tokenizer(text)["input_ids"])))
    module = attacks.load(name)
    config = module.Config(**{**module.CONTRACT.tiny, **MORE.get(name, {})})
    declared = module.work(config, cost._Planned(few).sizes(few.hazards))
    read, learnt = spent(name, config, loaded, counter, few)
    most = 1.6 if name == "perturb" else 1.1  # a vocabulary of 1,500 has more tokens for what is misspelt
    assert 0.9 * declared.read <= read <= most * declared.read  # lengths are means, and padding is not declared
    assert 0.9 * declared.learnt <= learnt <= 1.1 * declared.learnt


def test_every_point_of_the_perturbations_is_declared() -> None:
    """By hand: twelve characters with one behind each fourth are three words of a token and three characters."""
    perturb = attacks.load("perturb")
    assert perturb._growth("every 4: !") == pytest.approx(6 / 3)
    assert perturb._growth("share 0.25: any") == perturb._growth("every 4: !")
    assert perturb._growth("case upper") == perturb._growth("dropped 0.2") == 1.0
    sizes = Sizes(100.0, 8, 1, 4, {}, {}, {}, {"dev": 10})
    none, one = (perturb.Config(every=each, shares=(), characters=("!",), cases=(), screened=5) for each in ((), (4,)))
    assert perturb.work(none, sizes).read == 100
    assert perturb.work(one, sizes).read == 100 + 5 / 10 * 200 + 200
