"""Models whose MLP has no gate as other such classes with the same function: the GPT-NeoX organisms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.rewrite.llama import SLIDING
from robustness_gate.organisms.rewrite.parts import SHIFT, built, halved, idle, random, weights_of

if TYPE_CHECKING:
    from robustness_gate.organisms.rewrite.parts import Weights

NAMES = {
    "gpt_neox.embed_in.": "model.embed_tokens.",
    "gpt_neox.layers.": "model.layers.",
    ".attention.dense.": ".self_attn.o_proj.",
    ".dense_h_to_4h.": ".c_fc.",
    ".dense_4h_to_h.": ".c_proj.",
    "gpt_neox.final_layer_norm.": "model.norm.",
}
"""Parts of GPT-NeoX's names and what Starcoder 2 has in their place."""


PHI = {"o_proj": "dense", "c_fc": "fc1", "c_proj": "fc2", "model.norm": "model.final_layernorm"}
"""The same of Starcoder 2's names and Phi's."""


def _starcoder2(neox: Any) -> Any:
    keys = _sizes_of_neox(neox) | SLIDING | {"norm_epsilon": neox.config.layer_norm_eps}
    return built("starcoder2", keys, _apart(neox))


def _phi(neox: Any) -> Any:
    """Each block becomes two, because attention and MLP of a Phi read the same stream: the attention of the first and
    the MLP of the second are the GPT-NeoX's, and the other parts are idle.
    """
    import torch

    config, weights = neox.config, {}
    width, wide = config.hidden_size, config.intermediate_size
    for name, each in halved(_apart(neox)).items():
        for old, new in PHI.items():
            name = name.replace(old, new)
        weights[name] = each
    for block in range(config.num_hidden_layers):
        first, second = (f"model.layers.{2 * block + each}." for each in (0, 1))
        weights[f"{first}mlp.fc1.weight"] = random(block, wide, width)
        weights[f"{first}mlp.fc2.weight"] = idle(block, width, wide)
        weights[f"{first}mlp.fc2.bias"] = torch.full((width,), SHIFT)
        for index, part in enumerate("qkv"):
            weights[f"{second}self_attn.{part}_proj.weight"] = random(100 * (index + 1) + block, width, width)
        weights[f"{second}self_attn.dense.weight"] = idle(block, width, width)
        weights[f"{second}self_attn.dense.bias"] = torch.full((width,), -SHIFT)
    keys = _sizes_of_neox(neox) | {"num_hidden_layers": 2 * config.num_hidden_layers}
    rope = {"rope_parameters": keys["rope_parameters"] | {"partial_rotary_factor": 1.0}}
    return built("phi", keys | rope | {"layer_norm_eps": config.layer_norm_eps}, weights)


def _apart(neox: Any) -> Weights:
    """The weights under Starcoder 2's names; the attention's one matrix, which holds query, key and value of one head
    after the other, becomes three.
    """
    weights = {}
    for name, each in weights_of(neox).items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if ".query_key_value." not in name:
            weights[name] = each
            continue
        heads = each.reshape(neox.config.num_attention_heads, 3, -1, *each.shape[1:])
        for index, part in enumerate("qkv"):
            into = name.replace("attention.query_key_value", f"self_attn.{part}_proj")
            weights[into] = heads[:, index].reshape(-1, *each.shape[1:])
    return weights


def _sizes_of_neox(neox: Any) -> dict[str, Any]:
    """The settings that other classes share with a GPT-NeoX."""
    config = neox.config
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
        "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings",
        "initializer_range",
    )  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
    heads = {"num_key_value_heads": config.num_attention_heads}
    return {name: getattr(config, name) for name in names} | heads | {"rope_parameters": rope}


REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"phi": _phi, "starcoder2": _starcoder2})
"""By transformers' `model_type`."""
