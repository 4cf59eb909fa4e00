"""Tokens that go through a model, and the memory of its device: counted, and no answer is changed by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from robustness_gate.engine import hooks


@dataclass
class Tokens:
    """Token positions that went through the watched models, padding included."""

    read: int = 0
    """Without gradient."""
    learnt: int = 0
    """With one."""

    def count(self, _module: Any, given: Any, named: dict[str, Any], output: Any) -> None:
        """A forward hook, which returns nothing and so leaves the output as it is."""
        ids = next((named[each] for each in ("input_ids", "inputs_embeds") if named.get(each) is not None), None)
        ids = given[0] if ids is None and given else ids
        if not torch.is_tensor(ids) or ids.ndim < 2:
            return
        states = output[0] if isinstance(output, tuple) and output else getattr(output, "last_hidden_state", None)
        if torch.is_tensor(states) and states.requires_grad:
            self.learnt += ids.shape[0] * ids.shape[1]
        else:
            self.read += ids.shape[0] * ids.shape[1]


def watch(model: Any, tokens: Tokens) -> None:
    """Count the tokens of every call of a model from now on, also of those calls that pass its head by."""
    model.base_model.register_forward_hook(hooks.tokenwise(tokens.count), with_kwargs=True)


def parameters(model: Any) -> int:
    """The number of its parameters; shared ones count once."""
    return sum(each.numel() for each in model.parameters())


def restart_peak() -> None:
    """Let torch count the peak of the GPU's memory anew, if it uses one."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        torch.cuda.reset_peak_memory_stats()


def peak(device: torch.device) -> int | None:
    """The most memory that tensors had on the device, in bytes; None for the CPU and where torch does not count it."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def name_and_memory(device: torch.device) -> tuple[str, int | None]:
    """A GPU's name and its whole memory in bytes; an empty name for other devices."""
    if device.type != "cuda":
        return "", None
    its = torch.cuda.get_device_properties(device)
    return its.name, its.total_memory
