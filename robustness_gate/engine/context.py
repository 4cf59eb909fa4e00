"""The context length of a model in tokens, used wherever prompts are cut or cut prompts are reported.

Families use different names for it, and some have no limit. The vendor writes the config: one that declares less than
the model can read only loses questions, which then count as missing, or text that an attack put before them, which is
then a validity issue (`events.Notes`); neither can establish compliance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NAMES = (
    "max_position_embeddings",  # most families; transformers maps GPT-2's and RWKV's own names to this one
    "n_positions",
    "n_ctx",
    "max_seq_len",  # MPT, DBRX
    "max_seq_length",
    "seq_length",  # BLOOM, Falcon, ChatGLM
    "context_length",  # RWKV
    "max_sequence_length",
    "max_context_length",
    "max_target_positions",
)
UNLIMITED = 1_000_000
"""The length where a config declares none: longer than any prompt here."""
LIMITS = (
    "window",
    "window_size",
    "chunk_size",
    "floor_scale",  # Llama 4: from which place on attention changes
    "index_topk",  # sparse attention of DeepSeek's kind: how many places are looked at
    "index_block_size",
    "local_attention_window_len",
)
"""Ends of the names under which configs say how far attention looks, or from which place on it changes."""
CHANGING = ("dynamic", "longrope")
"""Kinds of rotary embedding whose frequencies depend on the length of what is read."""


def context_length(config: Any) -> int | None:
    """The longest prompt in tokens, the first of NAMES that is a positive whole number; None where no limit is named.

    Args:
        config: a transformers config, or the plain data of a config.json; of several parts the text part counts.
    """
    if isinstance(config, Mapping):
        inner = config.get("text_config")
        text_config = inner if isinstance(inner, Mapping) else config
        values = [text_config.get(name) for name in NAMES]
    else:
        text_config = config.get_text_config()
        values = [getattr(text_config, name, None) for name in NAMES]
    return next((each for each in values if isinstance(each, int) and not isinstance(each, bool) and each > 0), None)


def longest_prompt(model: Any) -> int:
    """The context length of a loaded model, UNLIMITED where it has no limit."""
    return context_length(model.config) or UNLIMITED


def attention_limit(model: Any) -> int:
    """From how many tokens on attention counts places and not tokens alone, UNLIMITED where it never does.

    Sliding windows, chunks and sparse attention count places, and some rotary embeddings change their frequencies with
    the length.
    """
    limits = [UNLIMITED]
    for part in _parts(model.config.get_text_config().to_dict()):
        limits += [each for name, each in part.items() if name.endswith(LIMITS) and type(each) is int and each > 0]
        if part.get("rope_type") in CHANGING:
            limits.append(part.get("original_max_position_embeddings") or 0)
    return min(limits)


def _parts(config: Mapping[Any, Any]) -> Iterator[Mapping[str, Any]]:
    """A config and the mappings inside it."""
    yield {str(name): each for name, each in config.items()}
    for each in config.values():
        if isinstance(each, Mapping):
            yield from _parts(each)
