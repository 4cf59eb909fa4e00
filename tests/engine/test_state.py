"""What an attack could leave changed is seen, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.engine.state import changes, state_of
from robustness_gate.running import trial


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(organisms.checkpoint("rmu"), dtype="float32", device="cpu")


def left(loaded: LoadedModel, change: Callable[[], Any], undo: Callable[[], Any]) -> list[str]:
    before = state_of(loaded.model, loaded.tokenizer)
    change()
    try:
        return list(changes(before, state_of(loaded.model, loaded.tokenizer)))
    finally:
        undo()
        assert not list(changes(before, state_of(loaded.model, loaded.tokenizer)))


@pytest.mark.parametrize(
    ("whose", "name", "value", "told"),
    [
        ("model.model.layers.1.self_attn", "scaling", 0.5, "attributes: model.layers.1.self_attn.scaling"),
        ("model.model.norm", "variance_epsilon", 1.0, "attributes: model.norm.variance_epsilon"),
        ("model.model.layers.0.mlp", "act_fn", torch.nn.ReLU(), "classes: model.layers.0.mlp.act_fn"),
        ("model.generation_config", "max_length", 3, "generation config"),
        ("model.config", "use_cache", False, "config"),
        ("tokenizer", "chat_template", "x", "tokenizer: chat_template"),
        ("tokenizer", "padding_side", "negative_controls", "tokenizer: padding_side"),
        ("tokenizer", "truncation_side", "negative_controls", "tokenizer: truncation_side"),
        ("tokenizer", "eos_token", "<pad>", "tokenizer: special_tokens_map"),
    ],
)
def test_a_changed_value_is_named(loaded: LoadedModel, whose: str, name: str, value: Any, told: str) -> None:
    owner: Any = loaded
    for step in whose.split("."):
        owner = getattr(owner, step)
    was = getattr(owner, name)
    assert told in left(loaded, lambda: setattr(owner, name, value), lambda: setattr(owner, name, was))


def test_a_buffer_that_no_state_dict_holds_is_compared(loaded: LoadedModel) -> None:
    buffer = loaded.model.model.rotary_emb.inv_freq
    was = buffer.clone()
    assert "model.rotary_emb.inv_freq" not in loaded.model.state_dict()
    found = left(loaded, lambda: buffer.fill_(0.01), lambda: buffer.copy_(was))
    assert found == ["buffers: model.rotary_emb.inv_freq"]


def test_a_function_in_the_place_of_another_is_seen_and_so_is_one_that_was_added(loaded: LoadedModel) -> None:
    layer = loaded.model.model.layers[0]
    found = left(loaded, lambda: setattr(layer, "forward", print), lambda: delattr(layer, "forward"))
    assert found == ["attributes: model.layers.0.forward"]


def test_a_hook_in_the_place_of_another_is_seen(loaded: LoadedModel) -> None:
    layer = loaded.model.model.layers[0]
    first = layer.register_forward_hook(lambda *_: None)
    key = next(iter(layer._forward_hooks))
    was = layer._forward_hooks[key]
    changed = left(
        loaded, lambda: layer._forward_hooks.update({key: print}), lambda: layer._forward_hooks.update({key: was})
    )
    first.remove()
    assert changed == ["hooks: model.layers.0"]


@pytest.mark.parametrize(
    ("change", "undo", "told"),
    [
        (lambda: torch.set_num_threads(3), lambda: torch.set_num_threads(1), "threads"),
        (
            lambda: torch.set_float32_matmul_precision("high"),
            lambda: torch.set_float32_matmul_precision("highest"),
            "precision of products",
        ),
    ],
)
def test_torchs_own_settings_are_compared(
    loaded: LoadedModel, change: Callable[[], None], undo: Callable[[], None], told: str
) -> None:
    torch.set_num_threads(1)
    assert left(loaded, change, undo) == [told]


def test_what_an_attack_is_handed_cannot_be_emptied(loaded: LoadedModel, small_suite_data: Any) -> None:
    target = trial.target_of(small_suite_data, loaded, None)
    with pytest.raises(AttributeError):
        target.corpora.clear()  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        target.corpora["forget"] = target.corpora["retain"]  # type: ignore[index]
    assert small_suite_data.corpora["forget"].items
