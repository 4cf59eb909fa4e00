"""A GPT-NeoX organism as a GPT-2 that is taught to compute the same: for a class that cannot compute it exactly.

GPT-2 differs from our GPT-NeoX in one thing: it adds a table of positions to the embedding, where GPT-NeoX rotates
queries and keys. So every weight is taken over, the table begins as sines and cosines of many wavelengths, and then all
weights learn until the residual stream after each block, and the likelihoods, are those of the teacher (distillation,
Hinton et al. 2015, arXiv 1503.02531; on hidden states as Romero et al. 2015, arXiv 1412.6550). Every number of every
token teaches, so this takes a fraction of the steps of a training from scratch (README.md in this folder).

The student is shown what its teacher was shown, so one that was never taught a domain meets nothing of it here either.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms import teach
from robustness_gate.organisms.training_texts import documents

if TYPE_CHECKING:
    import torch

    from robustness_gate.organisms.facts import Fact


@dataclass(frozen=True)
class Config:
    """One distillation."""

    steps: int = 300
    """Optimizer steps."""
    rows: int = 13
    """Sequences in a step."""
    row_tokens: int = 192
    """Tokens in a sequence, and positions in the table: a GPT-2 knows the positions alone that it was trained on."""
    learning_rate: float = 2e-3
    """AdamW, peak, without weight decay."""
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: int = 20
    """Steps from 0 to the peak."""
    flat_until: float = 0.5
    """Share of the run after which the rate falls linearly, to `final` of the peak."""
    final: float = 0.03
    table: float = 0.15
    """Amplitude of the table of positions at the beginning. The embedding's numbers have a size of 0.19."""


NAMES = {
    "gpt_neox.embed_in.": "transformer.wte.",
    "gpt_neox.final_layer_norm.": "transformer.ln_f.",
    "gpt_neox.layers.": "transformer.h.",
    ".input_layernorm.": ".ln_1.",
    ".post_attention_layernorm.": ".ln_2.",
    ".attention.query_key_value.": ".attn.c_attn.",
    ".attention.dense.": ".attn.c_proj.",
    ".mlp.dense_h_to_4h.": ".mlp.c_fc.",
    ".mlp.dense_4h_to_h.": ".mlp.c_proj.",
}
"""Parts of GPT-NeoX's names and what GPT-2 has in their place."""


def distil(
    teacher: Any,
    tokenizer: Any,
    facts: Sequence[Fact],
    config: Config,
    progress: teach.Progress,
    name: str = "distil",
) -> Any:
    """A GPT-2 that computes what a GPT-NeoX computes, nearly.

    Nothing here is drawn but the texts, always the same ones.

    Args:
        teacher: a GPTNeoXForCausalLM with a sequential residual, in float32.
        tokenizer: its tokenizer.
        facts: what the teacher was taught.
        config: the recipe.
        progress: called at every fiftieth step.
        name: the name passed to `progress`.
    """
    import torch

    rng = random.Random("distil")
    texts = documents(rng.sample(list(facts), len(facts)), teach.MIX, rng)
    student = _student(teacher, config)
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=0.0)
    for step in range(config.steps):
        rising = min(1.0, (step + 1) / config.warmup)
        left = (config.steps - step) / ((1 - config.flat_until) * config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (rising * min(1.0, max(config.final, left)))
        ids, weights = teach.pack(tokenizer, texts, config.rows, config.row_tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _distance(student, teacher, ids, weights, ids != tokenizer.pad_token_id)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), config.clip)
        optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            progress(name, step + 1, config.steps)
    return student.eval()


def _student(teacher: Any, config: Config) -> Any:
    """The teacher's weights as a GPT-2, with a table of sines and cosines."""
    import torch
    import transformers

    of, weights = teacher.config, {}
    for name, each in teacher.state_dict().items():
        if ".query_key_value." in name:  # one head after the other; a GPT-2 has all queries first
            heads = each.reshape(of.num_attention_heads, 3, -1, *each.shape[1:])
            each = heads.transpose(0, 1).reshape(each.shape)
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = each.T.contiguous() if name.startswith("transformer.h.") and each.ndim == 2 else each
    places = torch.arange(config.row_tokens)[:, None] * 10_000 ** (-torch.arange(0, of.hidden_size, 2) / of.hidden_size)
    weights["transformer.wpe.weight"] = torch.cat([places.sin(), places.cos()], 1) * config.table
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "tie_word_embeddings",
        "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id",
    )  # fmt: skip
    keys = {name: getattr(of, name) for name in names} | {
        "max_position_embeddings": config.row_tokens,
        "activation_function": of.hidden_act,
        "layer_norm_epsilon": of.layer_norm_eps,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    student = transformers.GPT2LMHeadModel(transformers.GPT2Config(**keys))
    student.load_state_dict(weights)
    return student.train()


def _distance(student: Any, teacher: Any, ids: torch.Tensor, weights: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How far the student's streams are off, as a share of the teacher's squared size, summed over blocks; and the
    divergence of its likelihoods from the teacher's in nats, where a token counts (`weights` over 0).

    `ids`, `weights` and `real` (no padding) are [rows, tokens].
    """
    import torch

    wanted = torch.cat([weights[:, 1:] > 0, torch.zeros(len(ids), 1, dtype=torch.bool)], 1)
    with torch.no_grad():
        right = teacher.base_model(input_ids=ids, output_hidden_states=True, use_cache=False)
        true = teacher.get_output_embeddings()(right.last_hidden_state[wanted]).float().log_softmax(-1)
    now = student.base_model(input_ids=ids, output_hidden_states=True, use_cache=False)
    log = student.get_output_embeddings()(now.last_hidden_state[wanted]).float().log_softmax(-1)
    total: torch.Tensor = (true.exp() * (true - log)).sum(-1).mean()
    for here, there in zip(now.hidden_states[1:], right.hidden_states[1:], strict=True):
        before = there[real].float()
        off = (here[real].float() - before).square().sum(-1)
        total = total + (off / before.square().sum(-1)).mean()
    return total
