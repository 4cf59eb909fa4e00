"""Everything about a model and a process that an attack could leave changed, and whether it did."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def state_of(model: Any) -> dict[str, Any]:
    """Weights (copies), flags, modes, classes, hooks, random states and torch's settings, by name."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    return {
        "weights": {name: each.clone() for name, each in model.state_dict().items()},
        "dtypes": {name: each.dtype for name, each in model.state_dict().items()},
        "requires_grad": {name: each.requires_grad for name, each in parameters.items()},
        "gradients": {name: each.grad is None for name, each in parameters.items()},
        "training mode": {name: module.training for name, module in modules.items()},
        "classes": {name: type(module) for name, module in modules.items()},
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {
            name: (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in modules.items()
        },
        "config": model.config.to_json_string(),
        "Python's random state": random.getstate(),
        "torch's random state": torch.get_rng_state().tolist(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What is not as it was, in words; nothing if all is."""
    for key, value in before.items():
        if key == "weights":
            moved = [
                name
                for name, tensor in value.items()
                if name not in after[key] or not torch.equal(tensor, after[key][name])
            ]
            moved += sorted(set(after[key]) - set(value))
            if moved:
                yield f"the weights of {moved[0]}" + (f" and {len(moved) - 1} more" if len(moved) > 1 else "")
        elif value != after[key]:
            yield key
