"""How important each weight of a model's matrices is for the predictions on some examples.

Two scores, as Wei et al., arXiv 2402.05162, define them to find weights that safety training changed:

    SNIP   mean over examples of |w * dL/dw|, L the example's loss: the first-order change of L if w were zero
    Wanda  |w| * norm over counted positions of the input that w multiplies (Sun et al., arXiv 2306.11695)

Both are taken one example at a time; nothing is trained and no weight changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.engine.train import Example, batch_loss
from robustness_gate.errors import BrokenTrial


def snip(model: Any, weights: Mapping[str, torch.nn.Parameter], examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """SNIP score of every number of the named weights: float32 in the weight's own shape, on its device.

    The weights must require gradients. Each gradient is added to its sum during the backward pass and dropped there, so
    that those of the whole model are never in memory together.

    Raises:
        BrokenTrial: there are no examples, or a loss is not finite.
    """
    total = {name: torch.zeros_like(each, dtype=torch.float32) for name, each in weights.items()}
    device = model.get_input_embeddings().weight.device
    _refuse_nothing(examples)

    def adder(name: str) -> Any:
        def add(weight: Any) -> None:  # not called of an expert that this example does not use
            total[name] += (weight.detach().float() * weight.grad.float()).abs()
            weight.grad = None

        return add

    with ExitStack() as stack:
        for name, weight in weights.items():
            weight.grad = None
            handle = weight.register_post_accumulate_grad_hook(adder(name))  # type: ignore[no-untyped-call]  # torch's
            stack.callback(handle.remove)
        for example in examples:
            with torch.enable_grad():
                loss = batch_loss(model, [example], device)
                if not bool(loss.isfinite()):
                    raise BrokenTrial(f"the loss on a calibration example is {float(loss)}", code="not_finite")
                torch.autograd.backward(loss, inputs=list(weights.values()))
    return {name: each.div_(len(examples)) for name, each in total.items()}


def wanda(model: Any, modules: Mapping[str, Any], examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Wanda score of every weight of the named linear modules: float32 in the weight's own shape, on its device.

    Raises:
        BrokenTrial: there are no examples.
    """
    squares = {name: torch.zeros(_inputs(module), device=module.weight.device) for name, module in modules.items()}
    device = model.get_input_embeddings().weight.device
    _refuse_nothing(examples)
    counted: torch.Tensor = torch.zeros(0, dtype=torch.bool)

    def keeper(name: str) -> Any:
        def keep(_module: Any, arguments: Any) -> None:
            entering = arguments[0].detach().float()
            flat = entering.reshape(-1, entering.shape[-1])
            if len(flat) == len(counted):  # an expert gets some of the positions, and all of those count
                flat = flat[counted.to(flat.device)]
            squares[name] += flat.square().sum(dim=0)

        return keep

    with torch.inference_mode(), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(keeper(name)).remove)
        for example in examples:
            counted = torch.tensor([*example.counts[1:], False])  # a token is predicted from the position before it
            model(input_ids=torch.tensor([example.ids], device=device), use_cache=False)
    scores = {}
    for name, module in modules.items():
        norms = squares[name].sqrt()
        size = module.weight.detach().float().abs()
        scores[name] = size * (norms.unsqueeze(1) if isinstance(module, Conv1D) else norms)
    return scores


def levels(scores: Mapping[str, torch.Tensor], shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """How far up each weight stands in its own matrix: uint8 on the CPU, in the matrix's shape.

    In a stack of matrices, [..., rows, columns], each has its own levels. One byte a weight, because a ranking of all
    weights of a 7B would take 28 GB, and only these shares are asked for.

    Args:
        scores: of each weight, by the matrix's name.
        shares: in per cent, rising.

    Returns:
        The index of the smallest share whose top scores include the weight, `len(shares)` if none does. Of equal scores
        the first in index order stands higher.
    """
    return {name: _levels(each, shares).cpu() for name, each in scores.items()}


def _levels(scores: torch.Tensor, shares: Sequence[float]) -> torch.Tensor:
    if scores.ndim > 2:
        return torch.stack([_levels(each, shares) for each in scores])
    flat = scores.flatten()
    counts = [round(share / 100 * len(flat)) for share in shares]
    top = flat.topk(counts[-1]).values
    least = torch.stack([top[count - 1] if count else top.new_tensor(torch.inf) for count in counts])
    found = torch.bucketize(-flat, -least).to(torch.uint8)  # how many shares begin above this score
    for level, count in enumerate(counts):  # of those that are equal to the last score inside, some are outside
        if excess := int((found <= level).sum()) - count:
            equal = ((found == level) & (flat == least[level])).nonzero().squeeze(1)
            found[equal[len(equal) - excess :]] = level + 1
    return found.reshape(scores.shape)


def _inputs(module: Any) -> int:
    """How many inputs a linear module has. Linear is [out, in], Conv1D is [in, out]."""
    return int(module.weight.shape[0 if isinstance(module, Conv1D) else 1])


def _refuse_nothing(examples: Sequence[Example]) -> None:
    if not examples:
        raise BrokenTrial("there is nothing to calibrate on")
