"""Tiny random models of many families, made in memory: mixtures of experts, state-space models, and plain ones."""

from __future__ import annotations

from typing import Any

import torch
import transformers

WORDS = 320
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
DENSE = {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 256}
TWO = {**DENSE, "head_dim": 16, "num_experts_per_tok": 2}
STATES = {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mixtral": ("MixtralConfig", {**TWO, "num_local_experts": 4}),
    "qwen3_moe": ("Qwen3MoeConfig", {**TWO, "num_experts": 4, "moe_intermediate_size": 16}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {**TWO, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 32},
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        {
            **DENSE, "num_key_value_heads": 2, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
            "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 16,
            "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
        },
    ),
    "gpt_oss": ("GptOssConfig", {**TWO, "num_local_experts": 4, "sliding_window": 16}),
    "llama4_text": (
        "Llama4TextConfig",
        {
            **DENSE, "head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 48, "num_experts_per_tok": 1,
            "attention_chunk_size": 32,
        },
    ),
    "phimoe": ("PhimoeConfig", {**DENSE, "num_local_experts": 4}),
    "olmoe": ("OlmoeConfig", {**DENSE, "num_experts": 4, "num_experts_per_tok": 2}),
    "granitemoe": ("GraniteMoeConfig", {**DENSE, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_next": (
        "Qwen3NextConfig",
        {
            **TWO, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16,
            "linear_value_head_dim": 16, "layer_types": ["linear_attention", "linear_attention", "full_attention"],
        },
    ),
    "mamba": ("MambaConfig", {**STATES, "time_step_rank": 4}),
    "falcon_mamba": ("FalconMambaConfig", {**STATES, "time_step_rank": 4}),
    "mamba2": ("Mamba2Config", {**STATES, "num_heads": 4, "head_dim": 16, "n_groups": 1}),
    "falcon_h1": (
        "FalconH1Config",
        {
            **DENSE, "head_dim": 16, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
            "mamba_n_groups": 1,
        },
    ),
    "jamba": (
        "JambaConfig",
        {
            **DENSE, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
            "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_state": 8,
            "mamba_dt_rank": 4, "use_mamba_kernels": False,
        },
    ),
    "rwkv": ("RwkvConfig", {"hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32}),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        {**DENSE, "head_dim": 16, "lru_width": 32, "attention_window_size": 64},
    ),
    "xlstm": ("xLSTMConfig", {"hidden_size": 32, "embedding_dim": 32, "num_hidden_layers": 3, "num_heads": 2}),
    "llama": ("LlamaConfig", DENSE),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 2}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 256}),
    "gpt_neox": ("GPTNeoXConfig", {**SMALL, "max_position_embeddings": 256}),
    "gemma3_text": ("Gemma3TextConfig", {**DENSE, "head_dim": 16, "sliding_window": 32}),
    "phi3": ("Phi3Config", {**DENSE, "pad_token_id": 0}),
}  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.float32, words: int = WORDS) -> Any:
    """A model of a family, random from one seed and large enough in its weights for answers to differ."""
    config, keys = FAMILIES[name]
    torch.manual_seed(0)
    made = getattr(transformers, config)(**keys, vocab_size=words)
    model = transformers.AutoModelForCausalLM.from_config(made).eval().requires_grad_(requires_grad=False)
    for each in model.parameters():
        if each.ndim >= 2:
            torch.nn.init.normal_(each, std=0.2)
    return model.to(dtype)
