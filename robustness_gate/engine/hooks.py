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
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

RECORDS = "transformers.utils.output_capturing"
"""The module of transformers' own hooks, which only record outputs."""


class _Tokenwise(partial[Any]):
    """A declared hook. A class and no mark: `functools.wraps` copies marks to functions that nobody declared."""


def tokenwise(hook: Callable[..., Any]) -> Any:
    """Declare that what a hook does at a token does not depend on the pass in which the token is read.

    It may count positions by the attention mask, which always covers the whole prompt. It must not take the tokens of a
    pass for a whole prompt, as a hook does that changes the first or the last of them.

    Returns:
        The same function, for `register_forward_hook` or `register_forward_pre_hook`.
    """
    return _Tokenwise(hook)


def is_tokenwise(hook: Callable[..., Any]) -> bool:
    """Whether a hook was declared by `tokenwise`, or is one of transformers' that record outputs."""
    return isinstance(hook, _Tokenwise) or getattr(hook, "__module__", "") == RECORDS


def are_tokenwise(model: torch.nn.Module) -> bool:
    """Whether all that changes a model's pass from outside is tokenwise: its hooks, and no pass replaced by another."""
    if torch_modules._global_forward_hooks or torch_modules._global_forward_pre_hooks:
        return False
    return all(
        vars(each).keys().isdisjoint(("forward", "_call_impl"))
        and all(map(is_tokenwise, (*each._forward_hooks.values(), *each._forward_pre_hooks.values())))
        for each in model.modules()
    )


def structure(model: torch.nn.Module) -> tuple[Any, ...]:
    """What a model's pass is made of: its modules, the passes of their classes, and its attention.

    Where it is another than at the measurement (a plug-in put its own block in, or patched a class), the measurement is
    of another model. Modules are kept by number, so that this does not keep a model in memory.
    """
    wish = getattr(getattr(model, "config", None), "_attn_implementation", None)
    attention = ALL_ATTENTION_FUNCTIONS.get(wish) if wish in ALL_ATTENTION_FUNCTIONS else None
    return wish, attention, *((id(each), type(each), type(each).forward) for each in model.modules())
