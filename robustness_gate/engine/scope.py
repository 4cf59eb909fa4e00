"""Temporary change is a `with` block: what an attack does to a model is undone exactly, whatever happens inside.

`trainable` and `adapter` put back weights, `requires_grad`, training mode and module classes; `seeded` puts back random
state. An attack opens them; nobody has to remember to close them but the trial, which closes the attack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.errors import BrokenTrial


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Fix Python's and torch's random state for the block and put it back afterwards; yields a generator on the CPU."""
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    device_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield torch.Generator().manual_seed(seed)
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if device_states:
            torch.cuda.set_rng_state_all(device_states)


@contextmanager
def trainable(model: Any, names: Sequence[str] | None = None) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Let parameters be trained for the block; afterwards their values, flags and training mode are as before.

    Args:
        model: a torch module.
        names: which parameters; None means all.

    Yields:
        The parameters by name. Values are kept on the CPU meanwhile, so a device holds the model only once.
    """
    chosen = {name: each for name, each in model.named_parameters() if names is None or name in set(names)}
    flags = {name: each.requires_grad for name, each in model.named_parameters()}
    before = {name: each.detach().to("cpu", copy=True) for name, each in chosen.items()}
    modes = {name: module.training for name, module in model.named_modules()}
    for name, each in model.named_parameters():
        each.requires_grad_(name in chosen)
    try:
        yield chosen
    finally:
        with torch.no_grad():
            for name, each in chosen.items():
                each.copy_(before[name])
                each.grad = None
        _put_back(model, flags, modes)


@contextmanager
def adapter(model: Any, *, rank: int, alpha: int, targets: Sequence[str]) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Attach a LoRA adapter through peft for the block; yields its parameters by name.

    Args:
        model: a transformers model.
        rank: inner dimension, >= 1.
        alpha: the update is scaled by alpha / rank.
        targets: names of the linear modules that get one, in full or their last part.

    Raises:
        BrokenTrial: no module of the model has any of these names.
    """
    import peft  # four seconds to import, and only this scope needs it

    flags = {name: each.requires_grad for name, each in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    extras = {name: set(vars(module)) for name, module in model.named_modules()}
    wanted = set(targets)
    meant = [m for n, m in model.named_modules() if n in wanted or n.rsplit(".", 1)[-1] in wanted]
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(targets),
        fan_in_fan_out=any(
            isinstance(each, Conv1D) for each in meant
        ),  # GPT-2's matrices are stored the other way round
    )
    try:
        tuner = peft.LoraModel(model, config, "attack")
    except ValueError as error:
        raise BrokenTrial(f"no adapter could be attached: {str(error)[:200]}") from error
    try:
        yield {name: each for name, each in model.named_parameters() if each.requires_grad}
    finally:
        tuner.unload()
        for name, module in model.named_modules():  # peft leaves notes of itself on the modules it visited
            for left in set(vars(module)) - extras.get(name, set(vars(module))):
                delattr(module, left)
        _put_back(model, flags, modes)


def linear_modules(model: Any) -> list[str]:
    """Full names of the linear modules but the output head, in the model's order (GPT-2's are called Conv1D)."""
    head, kinds = model.get_output_embeddings(), (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def linear_names(model: Any) -> list[str]:
    """The last part of the name of every linear module but the output head, sorted: LoRA's usual targets."""
    return sorted({name.rsplit(".", 1)[-1] for name in linear_modules(model)})


def freeze(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Stop asking for gradients: a model that is only examined should not keep them."""
    for each in parameters.values():
        each.requires_grad_(False)  # torch names it no other way


@contextmanager
def values(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Put other values into parameters for the block."""
    before = {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}
    write(parameters, new)
    try:
        yield
    finally:
        write(parameters, before)


def snapshot(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of the values, on the CPU."""
    return {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}


def write(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> None:
    """Overwrite the values in place."""
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(new[name])


def distance(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Euclidean distance between the values now and then, over all parameters together."""
    total = 0.0
    for name, each in parameters.items():
        total += float((each.detach().float().cpu() - before[name].float()).square().sum())
    return float(total**0.5)


def _put_back(model: Any, flags: Mapping[str, bool], modes: Mapping[str, bool]) -> None:
    for name, each in model.named_parameters():
        each.requires_grad_(flags[name])
    for name, module in model.named_modules():
        module.training = modes[name]
