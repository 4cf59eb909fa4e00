"""What every rewriting needs: the weights of a model under their names, and a model that is made of such weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]


def weights_of(model: Any) -> Weights:
    """A copy of all weights by name."""
    return {name: each.clone() for name, each in model.state_dict().items()}


def built(kind: str, keys: Mapping[str, Any], weights: Weights) -> Any:
    """The model with exactly these weights: biases that are not among them are zero, and nothing is left random."""
    import torch
    import transformers

    config = transformers.CONFIG_MAPPING[kind](**keys)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    biases = {name: torch.zeros_like(each) for name, each in made.state_dict().items() if name.endswith(".bias")}
    made.load_state_dict(biases | weights, strict=True)
    return made.eval()


def named(weights: Mapping[str, Any], *modules: str) -> list[str]:
    """Names of the weights of every module with one of these last names."""
    return [name for name in weights if name.endswith(".weight") and name.split(".")[-2] in modules]


def halved(weights: Weights) -> Weights:
    """Each block as two: its attention in the first, its MLP in the second, each with its norm before it.

    What the first has of an MLP and the second of an attention is missing: `random` and `idle` make it.
    """
    found: Weights = {}
    for name, each in weights.items():
        head, _, rest = name.partition("layers.")
        index, _, part = rest.partition(".")
        block = 2 * int(index or 0) + part.startswith(("mlp.", "post_attention_layernorm."))
        into = part.replace("post_attention_layernorm", "input_layernorm")
        found[f"{head}layers.{block}.{into}" if rest else name] = each
    return found


SMALL = 0.02
"""Standard deviation of the numbers with which an idle part writes."""
SHIFT = 2.0
"""What an idle part adds to every number of the stream, beside what depends on its input."""


def random(seed: int, *shape: int) -> torch.Tensor:
    """Weights of an idle part that reads: random, and large enough to do something."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.08


def idle(seed: int, width: int, inputs: int) -> torch.Tensor:
    """The matrix with which an idle part writes: [width, inputs], all rows alike.

    So it adds the same to all numbers of the stream, and a LayerNorm subtracts that with the mean: nothing reads it.
    """
    return (random(seed, 1, inputs) * (SMALL / 0.08)).repeat(width, 1)
