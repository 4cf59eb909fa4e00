"""Which hooks may be open where a prompt is read in parts.

A forward pass of a model may hold a whole prompt, or some tokens behind others whose keys and values were kept
(`engine.shared`). A hook that takes every pass for a whole prompt would do something else in the second case. So a hook
is declared as tokenwise where it is not affected, and under any other one prompts are asked in whole passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.modules import module as torch_modules

DECLARED = "robustness_gate_tokenwise"
RECORDS = "transformers.utils.output_capturing"
"""The module of transformers' own hooks, which only record outputs."""


def tokenwise(hook: Callable[..., Any]) -> Any:
    """Declare that what a hook does at a token does not depend on the pass in which the token is read.

    It may count positions by the attention mask, which always covers the whole prompt. It must not take the tokens of a
    pass for a whole prompt, as a hook does that changes the first or the last of them.

    Returns:
        The same function, for `register_forward_hook` or `register_forward_pre_hook`.
    """
    declared = partial(hook)
    vars(declared)[DECLARED] = True
    return declared


def is_tokenwise(hook: Callable[..., Any]) -> bool:
    """Whether a hook was declared by `tokenwise`, or is one of transformers' that record outputs."""
    return DECLARED in getattr(hook, "__dict__", {}) or getattr(hook, "__module__", "") == RECORDS


def are_tokenwise(model: torch.nn.Module) -> bool:
    """Whether all that changes a model's pass from outside is tokenwise: its hooks, and no pass replaced by another."""
    if torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks:
        return False
    return all(
        "forward" not in vars(each)
        and all(map(is_tokenwise, (*each._forward_hooks.values(), *each._forward_pre_hooks.values())))
        for each in model.modules()
    )
