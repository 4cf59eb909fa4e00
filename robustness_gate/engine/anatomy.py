"""The residual stream of a model: its blocks, found by their computation and not by their names.

Every decoder block of the families we attack adds two things to the stream, one after attention and one after the
MLP: out = in + a + m, or in + c (a + m) in Granite, where c is in its config. To find which two of a block's children
(or of their children) are a and m, a few tokens are run and the pair whose outputs add up is selected. That works for
Llama, Mistral, Qwen, Gemma (where the norms after the sub-layers are added), Granite, GPT-NeoX, GPT-2 and Phi; where it
finds nothing, an attack on activations is *not applicable*, which is better than an attack on the wrong tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import hooks, text
from robustness_gate.errors import NotApplicable

TOLERANCE = 1e-3
"""Largest relative error at which a sum counts as found: low precision rounds, a wrong pair is off by about 1."""


class Block(NamedTuple):
    """One decoder block. All three modules return tensors of shape [batch, position, width]."""

    module: Any
    """Its output is the residual stream after the block."""
    attention: Any
    """Its output, times `scale`, is what attention adds to the stream."""
    mlp: Any
    """Its output, times `scale`, is what the MLP adds to the stream."""
    parallel: bool
    """Whether the MLP reads the stream from before attention (GPT-NeoX by default, Phi)."""
    scale: float = 1.0
    """What both are multiplied by before they are added (Granite's `residual_multiplier`)."""


class Anatomy(NamedTuple):
    """The parts of a causal language model."""

    embedding: Any
    blocks: tuple[Block, ...]
    norm: Any
    """Applied to the stream before the head."""
    head: Any


def dissect(model: Any) -> Anatomy:
    """Find the blocks and what each adds to the stream.

    Args:
        model: a transformers causal language model.

    Raises:
        NotApplicable: the structure of the blocks is not recognised.
    """
    stack = layers(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise NotApplicable("the model has no output head")
    ids = torch.arange(3, 9, device=embedding.weight.device).unsqueeze(0) % embedding.weight.shape[0]
    # a tied or quantised head is used through the model itself: only plain forward passes are made here
    seen = _record(model, [module for layer in stack for _, module in _candidates(layer)], ids)
    scale = float(getattr(model.config.get_text_config(), "residual_multiplier", 1.0))
    blocks = tuple(_block(layer, seen, scale) for layer in stack)
    return Anatomy(embedding, blocks, _final_norm(model, stack, head, ids), head)


def layers(model: Any) -> list[Any]:
    """The model's blocks in order: the list of like modules whose length is in its config, of those that compute text.

    Raises:
        NotApplicable: there is no such list.
    """
    lists = [
        module for module in text.decoder(model).modules() if isinstance(module, torch.nn.ModuleList) and len(module)
    ]
    fitting = [each for each in lists if len({type(layer) for layer in each}) == 1]
    expected = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    exact = [each for each in fitting if len(each) == expected]
    if not exact:
        raise NotApplicable(f"no list of {expected} like blocks was found in {type(model).__name__}")
    return list(exact[0])


@contextmanager
def recorded(modules: Mapping[str, Any]) -> Iterator[dict[str, torch.Tensor]]:
    """Keep each named module's latest output, as [batch, position, width], while the block is open."""
    kept: dict[str, torch.Tensor] = {}

    def keeper(name: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            kept[name] = _tensor(output).detach()

        return keep

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(keeper(name)).remove)
        yield kept


@contextmanager
def edited(edits: Mapping[Any, Any]) -> Iterator[None]:
    """Replace modules' outputs while the block is open: each edit maps a tensor [batch, position, width] to another.

    Under an edit that is not declared as `hooks.tokenwise` every pass holds whole prompts, which is slower.
    """

    def hook(edit: Any) -> Any:
        def change(_module: Any, _inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(output)

        return hooks.tokenwise(change) if hooks.is_tokenwise(edit) else change

    with ExitStack() as stack:
        for module, edit in edits.items():
            stack.callback(module.register_forward_hook(hook(edit)).remove)
        yield


class _Seen(NamedTuple):
    entered: torch.Tensor
    left: torch.Tensor
    eps: float
    """Relative rounding of the precision in which it was computed."""


def _candidates(layer: Any) -> list[tuple[str, Any]]:
    """The block itself, its children, and their children: deep enough for every known family."""
    found = [("", layer)]
    for name, child in layer.named_children():
        found.append((name, child))
        found += [(f"{name}.{inner}", each) for inner, each in child.named_children()]
    return found


@torch.inference_mode()
def _record(model: Any, modules: list[Any], ids: torch.Tensor) -> dict[Any, _Seen]:
    seen: dict[Any, _Seen] = {}

    def keep(module: Any, arguments: Any, keywords: Any, output: Any) -> None:
        entering = arguments[0] if arguments else keywords.get("hidden_states")
        leaving = _tensor(output)
        if torch.is_tensor(entering) and torch.is_tensor(leaving):
            eps = torch.finfo(leaving.dtype).eps
            seen[module] = _Seen(entering.detach().clone().float(), leaving.detach().clone().float(), eps)

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        model(input_ids=ids, use_cache=False)
    return seen


def _block(layer: Any, seen: Mapping[Any, _Seen], scale: float) -> Block:
    if layer not in seen:
        raise NotApplicable(f"the blocks ({type(layer).__name__}) pass their stream in a way that we do not know")
    entered, left, eps = seen[layer]
    written = left - entered
    parts = [(n, m) for n, m in _candidates(layer)[1:] if m in seen and seen[m].left.shape == left.shape]
    rounding = (
        2 * eps * torch.maximum(entered.abs().max(), left.abs().max())
    )  # relative to the stream, which may be much larger than the added terms
    allowed = TOLERANCE * written.abs().max() + rounding
    for (_, first), (_, second) in combinations(parts, 2):
        a, m = scale * seen[first].left, scale * seen[second].left
        if a.abs().max() > 0 and m.abs().max() > 0 and (written - a - m).abs().max() <= allowed:
            return Block(layer, first, second, not _reads(parts, seen, entered + a), scale)
    raise NotApplicable(
        f"the blocks ({type(layer).__name__}) do not add an attention and an MLP output to their stream"
    )


def _reads(parts: list[tuple[str, Any]], seen: Mapping[Any, _Seen], stream: torch.Tensor) -> bool:
    """Whether some part has this stream as its input, as the MLP's norm has where the MLP comes after attention."""
    scale = stream.abs().max()
    fitting = (m for _, m in parts if seen[m].entered.shape == stream.shape)
    return any(bool((seen[m].entered - stream).abs().max() <= (TOLERANCE + seen[m].eps) * scale) for m in fitting)


def _final_norm(model: Any, layers: list[Any], head: Any, ids: torch.Tensor) -> Any:
    """The module whose input is the last block's output and whose output is the head's input."""
    outside = [m for m in model.modules() if not any(m is part for layer in layers for part in layer.modules())]
    leaves = [m for m in outside if not list(m.children())]
    seen = _record(model, [*leaves, layers[-1]], ids)
    last = seen[layers[-1]].left
    for module in leaves:
        if module is not head and module in seen and torch.equal(seen[module].entered, last):
            return module
    raise NotApplicable("no norm was found between the last block and the head")


def _tensor(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output
