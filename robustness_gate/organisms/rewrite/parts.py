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
