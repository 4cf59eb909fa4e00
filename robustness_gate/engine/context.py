"""How many tokens a model reads: asked here by everybody who cuts a prompt or tells that one is cut.

Families have names of their own for it, and some have no limit. A config is the vendor's word: one that declares less
than the model can read only loses questions, which are then missing, or what an attack put before them, which is then
in doubt (`score.Notes`); neither can acquit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = (
    "max_position_embeddings",  # most families; transformers gives GPT-2's and RWKV's own names this one too
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
"""Where a config names no length: longer than any prompt here."""


def context_length(config: Any) -> int | None:
    """The longest prompt in tokens, the first of NAMES that is a positive whole number; None where no limit is named.

    Args:
        config: a transformers config, or the plain data of a config.json; of several parts the one for text counts.
    """
    if isinstance(config, Mapping):
        inner = config.get("text_config")
        told = inner if isinstance(inner, Mapping) else config
        values = [told.get(name) for name in NAMES]
    else:
        told = config.get_text_config()
        values = [getattr(told, name, None) for name in NAMES]
    return next((each for each in values if isinstance(each, int) and not isinstance(each, bool) and each > 0), None)


def longest_prompt(model: Any) -> int:
    """The same of a loaded model, UNLIMITED where it has no limit."""
    return context_length(model.config) or UNLIMITED
