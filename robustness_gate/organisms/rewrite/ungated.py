"""Models whose MLP has no gate as other such classes with the same function: GPT-NeoX and GPT-2 organisms."""

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
    scale = (config.hidden_size // config.num_attention_heads) ** -0.5
    old = {name: each.double() for name, each in weights_of(gpt2).items()}
    for name, each in old.items():
        into = name.replace(".attn.", ".attn.attention.").replace("attention.c_proj", "attention.out_proj")
        if ".c_attn." not in name:
            weights[into] = each.T if name.endswith((".c_fc.weight", ".c_proj.weight")) else each
    for layer in (f"transformer.h.{index}." for index in range(config.num_hidden_layers)):
        query, key, value = torch.chunk(old[f"{layer}attn.c_attn.weight"].T, 3)
        queries, _, values = torch.chunk(old[f"{layer}attn.c_attn.bias"], 3)
        more = torch.linalg.solve(query, queries)
        weights[f"{layer}ln_1.bias"] = old[f"{layer}ln_1.bias"] + more
        for part, rows in (("q", query * scale), ("k", key), ("v", value)):
            weights[f"{layer}attn.attention.{part}_proj.weight"] = rows
        constant = values - value @ more
        weights[f"{layer}attn.attention.out_proj.bias"] += old[f"{layer}attn.c_proj.weight"].T @ constant
    keys = _sizes(gpt2) | {"embed_dropout": 0.0, "resid_dropout": 0.0, "attention_dropout": 0.0}
    keys |= {"attention_types": [[["global", "local"], config.num_hidden_layers // 2]], "window_size": 256}
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
    {"gpt_bigcode": _gpt_bigcode, "gpt_neo": _gpt_neo, "phi": _phi, "starcoder2": _starcoder2}
)
"""By transformers' `model_type`."""
