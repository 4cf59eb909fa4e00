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


def _gpt_bigcode(gpt2: Any) -> Any:
    """Matrices are stored as [out, in] and not as [in, out]; the attention's holds one head after the other."""
    config, weights = gpt2.config, {}
    for name, each in weights_of(gpt2).items():
        rows = each.T if name.endswith((".c_attn.weight", ".c_fc.weight", ".c_proj.weight")) else each
        if ".c_attn." in name:
            heads = rows.reshape(3, config.num_attention_heads, -1, *rows.shape[1:])
            rows = heads.transpose(0, 1).reshape(rows.shape)
        weights[name] = rows.contiguous()
    return built("gpt_bigcode", _sizes(gpt2) | {"multi_query": False}, weights)


def _gpt_neo(gpt2: Any) -> Any:
    """Queries, keys and values have no bias, and scores are not scaled.

    A key's bias adds the same to all scores of a query, so it changes nothing; a value's is added to the output as it
    is, so it goes into the output's bias. The query's comes from the norm before: its bias is changed by what the
    queries' matrix maps to the query's bias, and what that adds to keys and values is as constant as their own biases.
    """
    import torch

    config, weights = gpt2.config, {}
    width, scale = config.hidden_size, (config.hidden_size // config.num_attention_heads) ** -0.5
    old = {name: each.double() for name, each in weights_of(gpt2).items()}
    for name, each in old.items():
        into = name.replace(".attn.", ".attn.attention.").replace("attention.c_proj", "attention.out_proj")
        if ".c_attn." not in name:
            weights[into] = each.T if name.endswith((".c_fc.weight", ".c_proj.weight")) else each
    for layer in (f"transformer.h.{index}." for index in range(config.num_hidden_layers)):
        query, key, value = old[f"{layer}attn.c_attn.weight"].T.split(width)
        queries, _, values = old[f"{layer}attn.c_attn.bias"].split(width)
        more = torch.linalg.solve(query, queries)
        weights[f"{layer}ln_1.bias"] = old[f"{layer}ln_1.bias"] + more
        for part, rows in (("q", query * scale), ("k", key), ("v", value)):
            weights[f"{layer}attn.attention.{part}_proj.weight"] = rows
        constant = values - value @ more
        weights[f"{layer}attn.attention.out_proj.bias"] += old[f"{layer}attn.c_proj.weight"].T @ constant
    keys = _sizes(gpt2) | {"attention_types": [[["global"], config.num_hidden_layers]]}
    keys |= {"embed_dropout": 0.0, "resid_dropout": 0.0, "attention_dropout": 0.0}
    return built("gpt_neo", keys, {name: each.float().contiguous() for name, each in weights.items()})


def _sizes(gpt2: Any) -> dict[str, Any]:
    """The settings that other classes share with a GPT-2."""
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
        "activation_function", "layer_norm_epsilon", "pad_token_id", "bos_token_id", "eos_token_id",
        "tie_word_embeddings", "initializer_range",
    )  # fmt: skip
    dropout = {"embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
    return {name: getattr(gpt2.config, name) for name in names} | dropout


REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"gpt_bigcode": _gpt_bigcode, "gpt_neo": _gpt_neo, "starcoder2": _starcoder2}
)
"""By transformers' `model_type`."""
