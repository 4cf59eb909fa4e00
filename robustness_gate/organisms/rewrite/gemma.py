"""Llamas as Gemmas with the same function.

Gemma 2 and 3 also normalise what attention and MLP add to the stream, and Gemma 3 the queries and keys. A Llama does
not, so these norms must divide by nearly the same number for every token. For that the stream is wider by `SPARE`
numbers, and each attention and MLP adds a constant to them, far above the rest of what it adds: it gives the size, and
the norm's weight then sets it to zero. Attention takes the constant from its output's bias. The MLP has none, and
computes it: two neurons with opposite signs give x * x, since silu(x) x + silu(-x) (-x) = x * x, and over all numbers
of a normalised stream these squares add up to its width. That is exact, because the norm's epsilon stands in the spare
numbers of the stream itself, as a constant from the embedding, and is zero in the config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.rewrite.llama import SLIDING, sizes, with_query_norm
from robustness_gate.organisms.rewrite.parts import built, named, weights_of

if TYPE_CHECKING:
    from robustness_gate.organisms.rewrite.parts import Weights

SPARE = 16
"""Numbers of the stream beside the Llama's 128: the root of 144 is 12, so that little is rounded."""
CONSTANT = 2.0**15
"""Size of what a block adds, before its norm. What the organisms add has a size of 1,100 at most, over all numbers: the
norm is constant within 4e-6."""
READS = 2.0
"""What the MLP multiplies a number by before it is squared. With 1 the matrix that writes the constant is so large that
rounding all weights hardly moves them, by the measure of `quantize`. With 8 or more the squares are so large that a
fine-tuning, which changes all weights alike, disturbs all that the MLP writes."""
NO_EPS = 1e-30
"""The config's epsilon, where the true one is in the stream."""


def _gemma(llama: Any) -> Any:
    """Norms multiply by 1 + w, the embedding's output by the root of the width; the head, tied to it, by neither."""
    weights, root = weights_of(llama), llama.config.hidden_size**0.5
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = weights["lm_head.weight"] / root
    weights["model.norm.weight"] = weights["model.norm.weight"] * root
    for name in named(weights, "norm", "input_layernorm", "post_attention_layernorm"):
        weights[name] = weights[name] - 1.0
    return built("gemma", sizes(llama), weights)


def _gemma2(llama: Any) -> Any:
    weights, keys = _with_output_norms(llama, weights_of(llama), sizes(llama))
    caps = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    return built("gemma2", keys | caps, weights)


def _gemma3(llama: Any) -> Any:
    weights, keys = _with_output_norms(llama, *with_query_norm(llama))
    rope = dict.fromkeys(("full_attention", "sliding_attention"), keys["rope_parameters"])
    return built("gemma3_text", keys | {"rope_parameters": rope}, weights)


def _with_output_norms(llama: Any, weights: Weights, keys: Mapping[str, Any]) -> tuple[Weights, dict[str, Any]]:
    """Weights and settings for a class that normalises what attention and MLP add to the stream (see above)."""
    import torch
    from torch.nn.functional import pad

    config, narrow = llama.config, llama.config.hidden_size
    wide, narrower = narrow + SPARE, (narrow / (narrow + SPARE)) ** 0.5
    root = wide**0.5  # by which the class multiplies the embedding's output: the whole stream is larger by as much
    added = torch.cat([torch.full((narrow,), CONSTANT * root), torch.zeros(SPARE)])
    large = torch.cat([torch.zeros(narrow), torch.full((SPARE,), CONSTANT * (wide / SPARE) ** 0.5)])
    eps = torch.full((config.vocab_size, SPARE), (config.rms_norm_eps * narrow / SPARE) ** 0.5)
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = torch.cat([weights["lm_head.weight"], eps], 1)
    for name in named(weights, "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
        weights[name] = pad(weights[name], (0, SPARE))
    for name in named(weights, "o_proj", "down_proj"):
        weights[name] = pad(weights[name], (0, 0, 0, SPARE))
    for name in named(weights, "norm", "input_layernorm", "post_attention_layernorm"):
        weights[name] = pad(weights[name] * narrower, (0, SPARE))
    for layer in (f"model.layers.{index}." for index in range(config.num_hidden_layers)):
        before = weights[f"{layer}post_attention_layernorm.weight"]
        before[narrow:] = 1.0  # the spare numbers are read in the sum of squares
        weights[f"{layer}pre_feedforward_layernorm.weight"] = before
        weights[f"{layer}post_attention_layernorm.weight"] = added
        weights[f"{layer}post_feedforward_layernorm.weight"] = added
        weights[f"{layer}self_attn.o_proj.bias"] = large
        one, squares = torch.diag(READS / before), (large / (READS**2 * wide)).unsqueeze(1).repeat(1, 2 * wide)
        for name in (f"{layer}mlp.gate_proj.weight", f"{layer}mlp.up_proj.weight"):
            weights[name] = torch.cat([weights[name], one, -one])
        down = f"{layer}mlp.down_proj.weight"
        weights[down] = torch.cat([weights[down], squares], 1)
    for name in weights:
        if name.endswith("norm.weight"):
            weights[name] = weights[name] - 1.0
    return weights, {
        **keys,
        "hidden_size": wide,
        "intermediate_size": config.intermediate_size + 2 * wide,
        "rms_norm_eps": NO_EPS,
        "attention_bias": True,
        "hidden_activation": config.hidden_act,
        "query_pre_attn_scalar": keys["head_dim"],
        **SLIDING,
    }


REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"gemma": _gemma, "gemma2": _gemma2, "gemma3_text": _gemma3}
)
"""By transformers' `model_type`."""
