"""Llamas as other classes with the same function: each function takes a LlamaForCausalLM in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms.rewrite.parts import built, halved, idle, named, random, weights_of

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.rewrite.parts import Weights

EXPERTS = 4
"""Experts of a rewritten mixture: all are the Llama's MLP, so its answers do not depend on the routing. Two are used
for each token, with weights that add up to one."""
CONSTANT = 8192.0
"""The bias that makes the norm of a query or key nearly constant (`with_query_norm`): it is far above their numbers
(under 100 in the organisms), and a power of two, which low precision does not round."""

# --- from one class to another ---------------------------------------------------------------------------------------


def _same(kind: str, **keys: Any) -> Callable[[Any], Any]:
    """A class whose weights have the Llama's names and meaning; biases that it has beside them are zero."""

    def make(llama: Any) -> Any:
        return built(kind, {**sizes(llama), **keys}, weights_of(llama))

    return make


def _interleaved(kind: str) -> Callable[[Any], Any]:
    """A class that rotates neighbouring numbers of queries and keys, where Llama rotates the two halves."""

    def make(llama: Any) -> Any:
        weights, order = weights_of(llama), _neighbours(llama.config)
        for name in named(weights, "q_proj", "k_proj"):
            weights[name] = weights[name][order]
        return built(kind, sizes(llama), weights)

    return make


def _phi3(llama: Any) -> Any:
    weights = _fused(weights_of(llama), qkv_proj=("q_proj", "k_proj", "v_proj"), gate_up_proj=("gate_proj", "up_proj"))
    return built("phi3", sizes(llama) | {"original_max_position_embeddings": 512}, weights)


def _glm(llama: Any) -> Any:
    weights, order = weights_of(llama), _neighbours(llama.config)
    for name in named(weights, "q_proj", "k_proj"):
        weights[name] = weights[name][order]
    rope = {"rope_parameters": {**llama.config.rope_parameters, "partial_rotary_factor": 1.0}}
    return built("glm", sizes(llama) | rope, _fused(weights, gate_up_proj=("gate_proj", "up_proj")))


GRANITE = {"embedding_multiplier": 16.0, "residual_multiplier": 0.25, "logits_scaling": 8.0}
"""Like those of Granite 3 (12, 0.22, 8 to 16), as powers of two."""
GRANITE_ATTENTION = 1 / 64
"""Granite 3's, in place of the inverse root of a head's width."""


def _scaled(llama: Any) -> Weights:
    """The weights of a Llama under Granite's multipliers."""
    weights = weights_of(llama)
    embedding, residual, logits = GRANITE.values()
    weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = weights["lm_head.weight"] / embedding
    weights["model.norm.weight"] = weights["model.norm.weight"] * embedding * logits
    for name in named(weights, "o_proj", "down_proj"):
        weights[name] = weights[name] / residual
    for name in named(weights, "q_proj"):
        weights[name] = weights[name] * (llama.config.head_dim**-0.5 / GRANITE_ATTENTION)
    return weights


def _granite(llama: Any) -> Any:
    keys = sizes(llama) | GRANITE | {"attention_multiplier": GRANITE_ATTENTION}
    return built("granite", keys, _scaled(llama))


def _granitemoe(llama: Any) -> Any:
    weights = _scaled(llama)
    for prefix, gate_up, down in _taken_mlps(weights):
        weights[f"{prefix}block_sparse_moe.experts.gate_up_proj"] = gate_up.repeat(EXPERTS, 1, 1)
        weights[f"{prefix}block_sparse_moe.experts.down_proj"] = down.repeat(EXPERTS, 1, 1)
        weights[f"{prefix}block_sparse_moe.router.weight"] = _router(prefix, gate_up.shape[1])
    keys = sizes(llama) | GRANITE | {"attention_multiplier": GRANITE_ATTENTION}
    return built("granitemoe", keys | {"num_local_experts": EXPERTS, "num_experts_per_tok": 2}, weights)


def _mixtral(llama: Any) -> Any:
    weights = _with_experts(weights_of(llama))
    return built("mixtral", sizes(llama) | {"num_local_experts": EXPERTS, "num_experts_per_tok": 2}, weights)


def _qwen2_moe(llama: Any) -> Any:
    """The shared expert, of which one half is added, and the others, which are halved, give the MLP together."""
    import torch

    plain = weights_of(llama)
    weights = _with_experts(dict(plain), of_each=0.5)
    for name in named(plain, "gate_proj", "up_proj", "down_proj"):
        weights[name.replace(".mlp.", ".mlp.shared_expert.")] = plain[name]
        half = name.rpartition(".mlp.")[0] + ".mlp.shared_expert_gate.weight"
        weights[half] = torch.zeros(1, llama.config.hidden_size)
    wide = llama.config.intermediate_size
    keys = {"moe_intermediate_size": wide, "shared_expert_intermediate_size": wide}
    return built("qwen2_moe", sizes(llama) | _routing() | keys, weights)


def _qwen3(llama: Any) -> Any:
    weights, keys = with_query_norm(llama)
    return built("qwen3", keys, weights)


def _qwen3_moe(llama: Any) -> Any:
    weights, keys = with_query_norm(llama)
    keys |= _routing() | {"moe_intermediate_size": llama.config.intermediate_size}
    return built("qwen3_moe", keys, _with_experts(weights))


def _stablelm(llama: Any) -> Any:
    weights, keys = _mirrored(llama)
    rope = {"rope_parameters": {**llama.config.rope_parameters, "partial_rotary_factor": 1.0}}
    eps = {"layer_norm_eps": llama.config.rms_norm_eps}
    return built("stablelm", keys | rope | eps, weights)


def _cohere(kind: str, **keys: Any) -> Callable[[Any], Any]:
    """Each block becomes two, because attention and MLP of a Cohere read the same stream: the attention of the first
    and the MLP of the second are the Llama's, and the other parts are idle. Neighbouring numbers are rotated.
    """

    def make(llama: Any) -> Any:
        import torch

        plain, sizes_of = _mirrored(llama)
        order = _neighbours(llama.config)
        for name in named(plain, "q_proj", "k_proj"):
            plain[name] = plain[name][torch.cat([order, order + len(order)])]
        weights = halved(plain)
        width, wide = sizes_of["hidden_size"], llama.config.intermediate_size
        for block in range(llama.config.num_hidden_layers):
            first, second = (f"model.layers.{2 * block + each}." for each in (0, 1))
            for index, part in enumerate(("gate", "up")):
                weights[f"{first}mlp.{part}_proj.weight"] = random(100 * (index + 1) + block, wide, width)
            weights[f"{first}mlp.down_proj.weight"] = idle(block, width, wide)
            for index, part in enumerate("qkv"):
                weights[f"{second}self_attn.{part}_proj.weight"] = random(100 * (index + 1) + block, width, width)
            weights[f"{second}self_attn.o_proj.weight"] = idle(block, width, width)
        more = {"num_hidden_layers": 2 * llama.config.num_hidden_layers, "logit_scale": 1.0}
        return built(kind, sizes_of | more | {"layer_norm_eps": llama.config.rms_norm_eps} | keys, weights)

    return make


OLMO_EPS = 1e-5
"""Fixed in OLMo's norm."""


def _olmo(llama: Any) -> Any:
    """OLMo's norms have no weights, so they are multiplied into the matrices that read them."""
    weights, keys = _mirrored(llama)
    larger = (OLMO_EPS / llama.config.rms_norm_eps) ** 0.5  # a larger stream, under which a larger eps is the same
    for name in ("model.embed_tokens.weight", *named(weights, "o_proj", "down_proj")):
        weights[name] = weights[name] * larger
    for norm, readers in (
        ("input_layernorm", ("q_proj", "k_proj", "v_proj")),
        ("post_attention_layernorm", ("gate_proj", "up_proj")),
    ):
        for name in named(weights, norm):
            scale, layer = weights.pop(name), name.removesuffix(f"{norm}.weight")
            for each in named(weights, *readers):
                if each.startswith(layer):
                    weights[each] = weights[each] * scale
    weights["lm_head.weight"] = weights["lm_head.weight"] * weights.pop("model.norm.weight")
    return built("olmo", keys | {"tie_word_embeddings": False}, weights)


# --- parts -----------------------------------------------------------------------------------------------------------


def sizes(llama: Any) -> dict[str, Any]:
    """The settings that other classes share with a Llama."""
    config = llama.config
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "pad_token_id",
        "bos_token_id", "eos_token_id", "tie_word_embeddings", "initializer_range",
    )  # fmt: skip
    return {name: getattr(config, name) for name in names} | {"rope_parameters": dict(config.rope_parameters)}


def _neighbours(config: Any) -> torch.Tensor:
    """The order of the rows of queries or keys in which the two halves of each head alternate."""
    import torch

    heads = torch.arange(config.num_attention_heads * config.head_dim).reshape(-1, 2, config.head_dim // 2)
    return heads.transpose(1, 2).reshape(-1)


def _fused(weights: Weights, **wholes: tuple[str, ...]) -> Weights:
    """The weights with some matrices of each layer one above the other, under a new name."""
    import torch

    for whole, parts in wholes.items():
        for first in named(weights, parts[0]):
            names = [first.replace(parts[0], part) for part in parts]
            weights[first.replace(parts[0], whole)] = torch.cat([weights.pop(name) for name in names])
    return weights


def _taken_mlps(weights: Weights) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Each layer's prefix, gate above up, and down; they are taken out of the weights."""
    import torch

    found = []
    for name in named(weights, "gate_proj"):
        mlp = name.removesuffix("gate_proj.weight")
        gate, up, down = (weights.pop(f"{mlp}{part}_proj.weight") for part in ("gate", "up", "down"))
        found.append((mlp.removesuffix("mlp."), torch.cat([gate, up]), down))
    return found


def _router(prefix: str, width: int) -> torch.Tensor:
    """Random directions, so that different tokens go to different experts: [experts, width]."""
    import torch

    layer = int(prefix.rstrip(".").rpartition(".")[2])
    return torch.randn(EXPERTS, width, generator=torch.Generator().manual_seed(layer))


def _routing() -> dict[str, Any]:
    return {"num_experts": EXPERTS, "num_experts_per_tok": 2, "norm_topk_prob": True}


def _with_experts(weights: Weights, of_each: float = 1.0) -> Weights:
    """A mixture in place of each MLP: every expert is the MLP, times `of_each`."""
    for prefix, gate_up, down in _taken_mlps(weights):
        weights[f"{prefix}mlp.experts.gate_up_proj"] = gate_up.repeat(EXPERTS, 1, 1)
        weights[f"{prefix}mlp.experts.down_proj"] = (down * of_each).repeat(EXPERTS, 1, 1)
        weights[f"{prefix}mlp.gate.weight"] = _router(prefix, gate_up.shape[1])
    return weights


def with_query_norm(llama: Any) -> tuple[Weights, dict[str, Any]]:
    """Weights and settings for a class that divides each query and key by its own size (Qwen 3).

    A head is twice as wide. Half of its numbers are a large constant (from the bias) and give the size; the norm's
    weight then sets them to zero. The others are the Llama's, each pair of them at the place with its own frequency of
    rotation. What is left of the norm is a relative error of about the square of their size over the constant's. Values
    stand there twice, and half of each is read.
    """
    import torch

    weights, config = weights_of(llama), llama.config
    heads, narrow = config.num_attention_heads, config.head_dim
    wide, half = 2 * narrow, narrow // 2
    places = torch.cat([torch.arange(half) * 2, torch.arange(half) * 2 + narrow])
    used = torch.zeros(wide)
    used[places] = 1.0
    for name in named(weights, "q_proj", "k_proj"):
        rows = torch.zeros(heads, wide, weights[name].shape[1])
        rows[:, places] = weights[name].reshape(heads, narrow, -1)
        weights[name] = rows.reshape(heads * wide, -1)
        weights[name.replace("weight", "bias")] = ((1 - used) * CONSTANT).repeat(heads)
        scale = CONSTANT * (0.5**0.5 if ".k_proj" in name else 1.0)  # for queries also the root of two of a wider head
        weights[name.replace("_proj", "_norm")] = used * scale
    for name in named(weights, "v_proj"):
        weights[name] = weights[name].reshape(heads, narrow, -1).repeat(1, 2, 1).reshape(heads * wide, -1)
    for name in named(weights, "o_proj"):
        weights[name] = weights[name].reshape(-1, heads, narrow).repeat(1, 1, 2).reshape(-1, heads * wide) / 2
    return weights, sizes(llama) | {"head_dim": wide, "attention_bias": True}


def _mirrored(llama: Any) -> tuple[Weights, dict[str, Any]]:
    """Weights and settings for a class with LayerNorm, which subtracts the mean.

    The stream is twice as wide, and its second half is the first with the sign changed: its mean is zero, and LayerNorm
    is Llama's norm. All that is read is the half difference of the two. Each head stands there twice, with half its
    output.
    """
    import torch

    weights, config = weights_of(llama), llama.config
    heads, width = config.num_attention_heads, config.head_dim

    def twice(matrix: torch.Tensor) -> torch.Tensor:
        return matrix.reshape(heads, width, -1).repeat(2, 1, 1).reshape(2 * heads * width, -1)

    for name in named(weights, "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"):
        read = torch.cat([weights[name], -weights[name]], dim=1) / 2
        weights[name] = twice(read) if "self_attn" in name else read
    for name in named(weights, "o_proj", "down_proj"):
        if "self_attn" in name:
            weights[name] = torch.cat([weights[name], weights[name]], dim=1) / 2
        weights[name] = torch.cat([weights[name], -weights[name]])
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = torch.cat([weights[name], -weights[name]], dim=1)
    for name in named(weights, "norm", "input_layernorm", "post_attention_layernorm"):
        weights[name] = weights[name].repeat(2)
    weights["model.norm.weight"] = weights["model.norm.weight"] / 2
    more = {name: 2 * getattr(config, name) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads")}
    return weights, sizes(llama) | more


SLIDING = {"sliding_window": 4096}
"""Longer than any prompt of the organisms."""
REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "cohere": _cohere("cohere"),
        "cohere2": _cohere("cohere2", layer_types=["sliding_attention"] * 8, sliding_window=4096),
        "cwm": _same("cwm", sliding_window=4096, layer_types=["full_attention"] * 4),
        "ernie4_5": _interleaved("ernie4_5"),
        "glm": _glm,
        "granite": _granite,
        "granitemoe": _granitemoe,
        "helium": _interleaved("helium"),
        "ministral": _same("ministral", **SLIDING),
        "mistral": _same("mistral", **SLIDING),
        "mixtral": _mixtral,
        "olmo": _olmo,
        "phi3": _phi3,
        "qwen2": _same("qwen2"),
        "qwen2_moe": _qwen2_moe,
        "qwen3": _qwen3,
        "qwen3_moe": _qwen3_moe,
        "seed_oss": _same("seed_oss", attention_bias=True),
        "smollm3": _same("smollm3", no_rope_layers=[1] * 4),
        "stablelm": _stablelm,
    }
)
"""By transformers' `model_type`; `gemma` has the others."""
