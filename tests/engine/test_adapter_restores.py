"""However an adapter's block is left, also half-way into it, the model is as it was."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch

from robustness_gate.engine import matrices, scope
from robustness_gate.engine.state import changes, state_of
from robustness_gate.errors import BrokenTrial

IDS = torch.tensor([[1, 5, 9, 40]])


class Injected(Exception):
    """What no code catches by its kind."""


def at_call(number: int, whole: Any) -> Any:
    """A function that fails when it is called for the so-manieth time."""
    calls = []

    def fail(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            raise Injected
        return whole(*given, **named)

    return fail


PLACES = {
    "before anything": (scope, "_beside", 1),
    "at the first matrix": (scope, "_low_rank", 1),
    "half-way": (scope, "_low_rank", 12),
    "at the first that is changed in its place": (scope, "_in_place", 1),
    "at another": (scope, "_in_place", 5),
    "at a hook": (torch.nn.Module, "register_forward_hook", 7),
    "at a hook before a module": (torch.nn.Module, "register_forward_pre_hook", 2),
    "while routers are looked at": (scope, "_of_their_own_kind", 1),
}


def left(before: dict[str, Any], model: Any) -> list[str]:
    """What is not as it was; an adapter draws its beginning from torch's state, which `seeded` puts back."""
    return [each for each in changes(before, state_of(model)) if each != "torch's random state"]


@pytest.fixture(scope="module", params=["llama4_text", "jamba"])
def model(request):
    made = families.build(request.param)
    made.get_input_embeddings().weight.requires_grad_()  # flags are put back one by one
    made.get_submodule("model.layers.1").train()
    made(input_ids=IDS, use_cache=False)
    return made


@pytest.mark.parametrize("place", PLACES)
def test_a_failure_while_it_is_attached_leaves_nothing(model, place, monkeypatch):
    before, (owner, name, number) = state_of(model), PLACES[place]
    names = scope.linear_names(model)
    monkeypatch.setattr(owner, name, at_call(number, getattr(owner, name)))
    with pytest.raises(Injected), scope.adapter(model, rank=2, alpha=4, targets=names):
        pytest.fail("it was attached")
    monkeypatch.undo()
    assert left(before, model) == []
    assert not any(leaf in vars(owner) for owner in model.modules() for leaf in ("weight", "gate_up_proj", "down_proj"))


def test_a_failure_inside_the_block_leaves_nothing(model):
    before, plain = state_of(model), model(input_ids=IDS, use_cache=False).logits
    opened = scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model))
    given = opened.__enter__()
    scope.write(given, {name: torch.ones_like(each) for name, each in given.items()})
    assert not torch.equal(model(input_ids=IDS, use_cache=False).logits, plain)
    assert not opened.__exit__(Injected, Injected(), None)
    assert left(before, model) == []
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, plain)


def test_a_forward_pass_that_breaks_leaves_no_weight_in_another_s_place(model):
    before = state_of(model)
    with scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)):
        handles = [
            module.register_forward_pre_hook(at_call(1, lambda *_: None))
            for module in model.modules()
            if type(module).__name__.endswith("Experts")
        ]
        assert handles
        with pytest.raises(Injected):
            model(input_ids=IDS, use_cache=False)
        for handle in handles:
            handle.remove()
        assert not [n for n, module in model.named_modules() if {"gate_up_proj", "down_proj"} & set(vars(module))]
    assert left(before, model) == []


def test_targets_are_full_names_and_one_that_is_none_is_refused(model):
    names = scope.linear_names(model)
    assert names == list(matrices.of_blocks(model))
    one = next(name for name in names if name.endswith("q_proj.weight"))
    with scope.adapter(model, rank=2, alpha=4, targets=[one]) as parameters:
        assert list(parameters) == [f"{one}.lora_A", f"{one}.lora_B"]
    for bad in ([], ["q_proj"], [one.removesuffix(".weight")], [*names, "nowhere.weight"]):
        with pytest.raises(BrokenTrial, match="no adapter"), scope.adapter(model, rank=2, alpha=4, targets=bad):
            pass


@pytest.mark.parametrize(("rank", "alpha"), [(2, 4), (2, 3), (4, 2)])
def test_the_update_of_a_linear_module_is_alpha_over_rank_times_both_factors(model, rank, alpha):
    """Hu et al., arXiv 2106.09685, section 4.1."""
    one = next(name for name in scope.linear_names(model) if name.endswith("q_proj.weight"))
    module = model.get_submodule(one.removesuffix(".weight"))
    entering = torch.randn(3, module.in_features)
    before = module(entering)
    with scope.adapter(model, rank=rank, alpha=alpha, targets=[one]) as parameters, torch.no_grad():
        low, high = parameters[f"{one}.lora_A"], parameters[f"{one}.lora_B"]
        high.copy_(torch.randn_like(high))
        expected = before + alpha / rank * (entering @ low.T @ high.T)
        assert torch.allclose(module(entering), expected, atol=1e-5)
        assert not torch.allclose(expected, before, atol=1e-2)
