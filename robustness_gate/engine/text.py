"""The part of a model that computes text: all of it, or of a multimodal model the text decoder.

Models for text and pictures or sound (`filekinds.WRAPPERS`) hold encoders and projectors beside their text decoder. A
text never passes through them, so they are no part of what is attacked: their blocks are not the model's blocks, their
matrices do not count in the share that an attack reaches, and no attack trains, cuts, rounds, mixes or shakes them.
"""

from __future__ import annotations

from typing import Any

import torch


def decoder(model: Any) -> Any:
    """The module in which texts are computed: the model itself, unless its config holds another one for the text part.

    Args:
        model: a transformers causal language model, or a multimodal one.
    """
    config = model.config
    return model if config.get_text_config() is config else model.get_decoder()


def parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters with which texts are computed, embedding and head included, by full name in the model's order."""
    part = decoder(model)
    if part is model:
        return dict(model.named_parameters())
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    used = {id(each) for module in (part, *ends) if module is not None for each in module.parameters()}
    return {name: each for name, each in model.named_parameters() if id(each) in used}
