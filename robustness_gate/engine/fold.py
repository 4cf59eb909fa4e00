"""Remove a direction from everything that writes to the residual stream, by changing weights instead of adding hooks.

If no module can write along d, the stream has no component along d at any layer: W <- (I - d d^T) W for the embedding
and for the matrix with which each attention and MLP writes. It is equivalent to hooks that remove d from the
embedding's output and from each attention and MLP output, costs nothing at run time, and is the method of "abliterated"
checkpoints (Arditi et al., arXiv 2406.11717, weight orthogonalization). Hooks on block outputs alone are weaker:
between attention and MLP of one block the direction would still be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.engine.anatomy import TOLERANCE, Anatomy, dissect, recorded
from robustness_gate.errors import NotApplicable


@contextmanager
def folded(model: Any, direction: torch.Tensor) -> Iterator[None]:
    """Project `direction` [width] out of every writer for the block; weights are restored exactly afterwards.

    Raises:
        NotApplicable: some block does not write through a matrix (Gemma's norms), or a learnt position table also
            writes to the stream.
    """
    anatomy = dissect(model)
    writers = [_writer(model, block.module, part) for block in anatomy.blocks for part in (block.attention, block.mlp)]
    unit = direction / direction.norm().clamp(min=1e-12)
    head = anatomy.head.weight
    tied = head is anatomy.embedding.weight
    changed = [anatomy.embedding.weight, *(each for writer in writers for each in writer.parameters())]
    before = [each.detach().clone() for each in changed]
    _refuse_other_writers(model, anatomy)
    if tied:  # the head reads the stream and must keep the direction: it has the old values inside the block
        anatomy.head.weight = torch.nn.Parameter(head.detach().clone(), requires_grad=False)
    try:
        with torch.no_grad():
            d = unit.to(anatomy.embedding.weight)
            anatomy.embedding.weight -= torch.outer(anatomy.embedding.weight @ d, d)
            for writer in writers:
                _project(writer, unit)
        yield
    finally:
        with torch.no_grad():
            for each, old in zip(changed, before, strict=True):
                each.copy_(old)
        if tied:
            anatomy.head.weight = head


def _project(writer: Any, unit: torch.Tensor) -> None:
    """Remove d from a matrix's output side and from its bias. Linear is [out, in], Conv1D is [in, out]."""
    d = unit.to(writer.weight)
    if isinstance(writer, Conv1D):
        writer.weight -= torch.outer(writer.weight @ d, d)
    else:
        writer.weight -= torch.outer(d, d @ writer.weight)
    if writer.bias is not None:
        writer.bias -= (writer.bias @ d) * d


def _writer(model: Any, block: Any, part: Any) -> Any:
    """The matrix of the block whose output this part adds to the stream (possibly through a dropout)."""
    matrices = {name: m for name, m in block.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))}
    ids = torch.arange(3, 9, device=model.get_input_embeddings().weight.device).unsqueeze(0)
    with torch.inference_mode(), recorded({**matrices, "": part}) as seen:
        model(input_ids=ids % model.get_input_embeddings().weight.shape[0], use_cache=False)
    added = seen[""]
    for name, matrix in matrices.items():
        if name and seen[name].shape == added.shape:
            difference = (seen[name] - added).abs().max()
            if difference <= TOLERANCE * added.abs().max():
                return matrix
    raise NotApplicable(f"{type(part).__name__} writes to the stream through something else than a matrix")


def _refuse_other_writers(model: Any, anatomy: Anatomy) -> None:
    """Check that the first block's input is exactly the embedding's output."""
    ids = torch.arange(3, 9, device=anatomy.embedding.weight.device).unsqueeze(0) % anatomy.embedding.weight.shape[0]
    entered: list[torch.Tensor] = []

    def keep(_module: Any, arguments: Any, keywords: Any) -> None:
        entered.append((arguments[0] if arguments else keywords["hidden_states"]).detach())

    handle = anatomy.blocks[0].module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with torch.inference_mode(), recorded({"embedding": anatomy.embedding}) as seen:
            model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    if not torch.allclose(entered[0].float(), seen["embedding"].float(), atol=1e-4):
        raise NotApplicable("something beside the embedding writes to the stream before the first block")
