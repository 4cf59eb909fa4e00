"""The weight matrices of a model's blocks, and how many of them an attack touched.

A model's knowledge is in the matrices of its blocks. Most are linear modules; but the experts of a mixture are one
parameter of three dimensions (transformers 5), and an attack on linear modules alone reached 14 % of Mixtral. So
matrices are defined by their properties: parameters of at least two dimensions that are not an embedding, an output
head, a stack of biases, a convolution along the sequence, or a state decay (`A_log`: an exponent, not a matrix).
Matrices that no text passes through (`engine.text`) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.engine import text
from robustness_gate.errors import NotApplicable

NOT_MATRICES = ("bias", "A_log")
"""Endings of the names of stacked vectors, which are not matrices."""


class Matrix(NamedTuple):
    """One weight matrix, or a stack of them: [..., rows, columns]."""

    weight: torch.nn.Parameter
    module: Any
    """The module that owns the parameter."""
    transposed: bool
    """Whether it is stored as [in, out] and not as [out, in] like a linear module's."""


def of_blocks(model: Any) -> dict[str, Matrix]:
    """Every weight matrix of the blocks by its full name, in the model's order; tied ones once."""
    ends = [each for each in (model.get_input_embeddings(), model.get_output_embeddings()) if each is not None]
    outside = {id(each.weight) for each in ends}
    read = {id(each) for each in text.parameters(model).values()}
    found: dict[str, Matrix] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, (torch.nn.Embedding, torch.nn.modules.conv._ConvNd)):
            continue
        for leaf, weight in module.named_parameters(recurse=False):
            if id(weight) in read and id(weight) not in outside and _is_matrix(module, leaf, weight):
                outside.add(id(weight))
                name = f"{prefix}.{leaf}" if prefix else leaf
                found[name] = Matrix(weight, module, _transposed(module))
    return found


def plain(model: Any) -> dict[str, Matrix]:
    """Those of them whose values can be changed.

    Raises:
        NotApplicable: there are none, or all are stored quantised.
    """
    every = of_blocks(model)
    found = {name: each for name, each in every.items() if each.weight.is_floating_point()}
    if not found:
        stored = "they are stored quantised" if every else "there are none beside embeddings and head"
        raise NotApplicable(f"the model has no weight matrix with plain numbers in its blocks: {stored}")
    return found


def is_linear(module: Any) -> bool:
    """Whether a module multiplies its input by its weight: [out, in] in Linear, [in, out] in GPT-2's Conv1D."""
    return isinstance(module, (torch.nn.Linear, Conv1D))


def sizes(model: Any) -> dict[str, int]:
    """How many numbers each matrix of the blocks holds, by its full name. Call it before anything is attached to the
    model.
    """
    return {name: each.weight.numel() for name, each in of_blocks(model).items()}


def signs(sizes: Mapping[str, int], touched: Iterable[str], asked: Iterable[str] | None = None) -> dict[str, float]:
    """Signals of how much of the model an attack reached.

    Args:
        sizes: of the matrices of the blocks, from `sizes`.
        touched: names of the weights whose values it changed.
        asked: names of the matrices that its settings select; None selects all.

    Returns:
        `share_touched`, of the weights in the blocks' matrices, and `share_of_asked`, of the selected ones. A matrix
        counts in full if any of its numbers changed.
    """
    got = {name for name in touched if name in sizes}
    meant = set(sizes) if asked is None else {name for name in asked if name in sizes}
    return {"share_touched": _share(sizes, got, set(sizes)), "share_of_asked": _share(sizes, got & meant, meant)}


def changed(now: Mapping[str, torch.Tensor], before: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors in which any number differs."""
    return [name for name, each in now.items() if not torch.equal(each.detach(), before[name].to(each.device))]


def _share(sizes: Mapping[str, int], part: set[str], whole: set[str]) -> float:
    total = sum(sizes[name] for name in whole)
    return sum(sizes[name] for name in part) / total if total else 0.0


def _is_matrix(module: Any, leaf: str, weight: torch.Tensor) -> bool:
    if is_linear(module):
        return leaf == "weight"
    return weight.ndim >= 2 and min(weight.shape[-2:]) > 1 and not leaf.endswith(NOT_MATRICES)


def _transposed(module: Any) -> bool:
    """Linear is [out, in], Conv1D [in, out]; fused experts declare it, and without a declaration the stored orientation
    is assumed.
    """
    if isinstance(module, torch.nn.Linear):
        return False
    return isinstance(module, Conv1D) or bool(getattr(module, "is_transposed", True))
