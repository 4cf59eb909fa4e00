"""The state of a model and a process that an attack could leave changed, and its comparison."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch

OF_A_TOKENIZER = ("chat_template", "padding_side", "truncation_side", "model_max_length", "special_tokens_map")
"""Attributes of a tokenizer that affect the encoding of a question, besides its vocabulary."""


def state_of(model: Any, tokenizer: Any = None) -> dict[str, Any]:
    """Weights and buffers (copies), flags, modes, classes, attributes, hooks, random states, torch's settings, by name.

    Args:
        model: a transformers model. In addition to its weights only its buffers outside the state dict are copied: a
        few kilobytes.
        tokenizer: its tokenizer; None leaves it out.
    """
    weights = model.state_dict()
    generation = getattr(model, "generation_config", None)
    return {
        "weights": {name: each.clone() for name, each in weights.items()},
        "buffers": {name: each.clone() for name, each in model.named_buffers() if name not in weights},
        "dtypes": {name: each.dtype for name, each in weights.items()},
        **of_structure(model),
        "config": model.config.to_json_string(),
        "generation config": generation.to_json_string() if generation is not None else "",
        "tokenizer": of_tokenizer(tokenizer) if tokenizer is not None else {},
        **of_process(),
    }


def of_structure(model: Any) -> dict[str, Any]:
    """Flags, modes, classes, attributes and hooks of a model by name: what changes its answers besides its weights."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    return {
        "requires_grad": {name: each.requires_grad for name, each in parameters.items()},
        "gradients": {name: each.grad is None for name, each in parameters.items()},
        "training mode": {name: module.training for name, module in modules.items()},
        "classes": {name: type(module) for name, module in modules.items()},
        "attributes": {
            f"{name}.{key}".lstrip("."): value if _is_plain(value) else id(value)
            for name, module in modules.items()
            for key, value in vars(module).items()
            if key != "training"
        },
        "hooks": {
            name: [
                list(hooks.values())
                for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            ]
            for name, module in modules.items()
        },
    }


def of_process() -> dict[str, Any]:
    """Random states and torch's settings, by name."""
    return {
        "Python's random state": random.getstate(),
        "torch's random state": torch.get_rng_state().tolist(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "precision of products": torch.get_float32_matmul_precision(),
    }


def put_back(process: Mapping[str, Any]) -> None:
    """Set random states and torch's settings to those of `of_process`; other entries are ignored."""
    random.setstate(process["Python's random state"])
    torch.set_rng_state(torch.tensor(process["torch's random state"], dtype=torch.uint8))
    torch.set_default_dtype(process["default dtype"])
    torch.set_grad_enabled(process["gradient mode"])
    torch.use_deterministic_algorithms(process["deterministic mode"])
    torch.set_num_threads(process["threads"])
    torch.set_float32_matmul_precision(process["precision of products"])


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The differences as a sentence; empty if there are none."""
    for key, value in before.items():
        if not isinstance(value, dict):
            if value != after[key]:
                yield key
            continue
        names = dict.fromkeys((*value, *after[key]))
        moved = [name for name in names if not _same(value.get(name, _ABSENT), after[key].get(name, _ABSENT))]
        if moved:
            yield f"{key}: {moved[0]}" + (f" and {len(moved) - 1} more" if len(moved) > 1 else "")


def sums_of(model: Any) -> dict[str, tuple[str, str]]:
    """Sum and norm of each weight tensor by name, to detect changes without a copy of 7B weights.

    A swap of two numbers in a tensor is not detected. As text, so that NaN equals itself.
    """
    return {name: _sums(each) for name, each in model.state_dict().items()}


def sums_of_buffers(model: Any) -> dict[str, tuple[str, str]]:
    """The same for a model's buffers, also those outside its state dict."""
    return {name: _sums(each) for name, each in model.named_buffers()}


def _sums(each: torch.Tensor) -> tuple[str, str]:
    norm = torch.linalg.vector_norm(each, dtype=torch.float64) if each.is_floating_point() else each.sum()
    return float(each.sum(dtype=torch.float64)).hex(), float(norm).hex()


_ABSENT = object()


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        return torch.equal(before, after)
    return type(before) is type(after) and bool(before == after)


def _is_plain(value: Any) -> bool:
    """Whether a value can be compared by equality. Any other object is compared by identity."""
    return isinstance(value, (bool, int, float, str, type(None))) or (
        isinstance(value, tuple) and all(map(_is_plain, value))
    )


def of_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """What determines a tokenizer's encoding of a question, by name."""
    attributes = {name: getattr(tokenizer, name, None) for name in OF_A_TOKENIZER}
    return attributes | {"words": len(tokenizer), "added words": tokenizer.get_added_vocab()}
