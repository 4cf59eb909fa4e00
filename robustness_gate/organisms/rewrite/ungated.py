"""Models whose MLP has no gate as other such classes with the same function: GPT-NeoX and GPT-2 organisms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from robustness_gate.organisms.rewrite.llama import SLIDING
from robustness_gate.organisms.rewrite.parts import built, weights_of

STARCODER2 = {
    "gpt_neox.embed_in.": "model.embed_tokens.",
    "gpt_neox.final_layer_norm.": "model.norm.",
    "gpt_neox.layers.": "model.layers.",
    "embed_out.": "lm_head.",
    ".attention.dense.": ".self_attn.o_proj.",
    ".dense_h_to_4h.": ".c_fc.",
    ".dense_4h_to_h.": ".c_proj.",
}
"""Parts of GPT-NeoX's names and what Starcoder 2 has in their place."""


def _starcoder2(neox: Any) -> Any:
    """The attention's one matrix becomes three: it holds query, key and value of one head after the other."""
    config, weights = neox.config, {}
    for name, each in weights_of(neox).items():
        for old, new in STARCODER2.items():
            name = name.replace(old, new)
        if ".query_key_value." not in name:
            weights[name] = each
            continue
        heads = each.reshape(config.num_attention_heads, 3, -1, *each.shape[1:])
        for index, part in enumerate("qkv"):
            into = name.replace("attention.query_key_value", f"self_attn.{part}_proj")
            weights[into] = heads[:, index].reshape(-1, *each.shape[1:])
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
        "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings",
        "initializer_range",
    )  # fmt: skip
    keys = {name: getattr(config, name) for name in names} | {"num_key_value_heads": config.num_attention_heads}
    keys |= SLIDING | {"norm_epsilon": config.layer_norm_eps}
    rope = {"rope_type": "default", "rope_theta": config.rope_parameters["rope_theta"]}
    return built("starcoder2", keys | {"rope_parameters": rope}, weights)


REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"starcoder2": _starcoder2})
"""By transformers' `model_type`."""
