"""How a training step is made where the plain one does not fit into memory: exact ways first, and always recorded.

The ways and their order are `inputs.memory.ways`. One is chosen by arithmetic and the device's free memory before a
run; where the device runs out of memory all the same, the step is made again in the next. Where none fits, the trial
fails with the numbers. A trial that fails prevents a PASS, required or not: with less memory a run must not attack less
and pass.

Blocks that are computed again must give the gradients of the plain pass, or an attack would be weaker than it says. So
each model is measured on a short example before, and where it differs its blocks are not computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from robustness_gate.engine.loss import loss_scale
from robustness_gate.errors import BrokenTrial, CheckpointError, NotApplicable
from robustness_gate.inputs import memory
from robustness_gate.inputs.memory import Way
from robustness_gate.inputs.shape import Shape, shape_from
from robustness_gate.records.work import Training
from robustness_gate.system import usage

if TYPE_CHECKING:
    from robustness_gate.engine.train import Example

SHORT = 16
"""Tokens of the example on which gradients are compared."""
ALIKE = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.02}
"""By how much two gradients may differ, relative to the norm: backward passes on a GPU add up in any order."""


def free(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where the system does not give them."""
    if device.type == "cuda":
        found, _ = torch.cuda.mem_get_info(device)
        return found + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return usage.available()


class Wanted(NamedTuple):
    """A training for which memory is wanted."""

    model: Any
    """A transformers model, in memory already."""
    parameters: Mapping[str, torch.nn.Parameter]
    """What is trained, by name."""
    examples: Sequence[Example]
    batch: int
    """Examples in a step."""
    loss: Callable[[Sequence[Example]], torch.Tensor]
    """The mean loss of some examples, with its gradient: it shows whether blocks can be computed again."""


@dataclass(frozen=True)
class Step:
    """The largest step of a training, as far as memory is concerned: every example as long as the longest."""

    shape: Shape
    """All zeros but for the weights where the model's config does not name its sizes."""
    dtype: str
    its: Training
    numbers: int
    """How many are trained."""
    device: torch.device

    def needs(self, way: Way) -> float:
        """Bytes beside the model's weights, on the CPU with the copy of the best run's values."""
        found = memory.needed(self.shape, self.dtype, self.its, way, self.numbers)
        size = memory.BYTES[self.dtype] if self.its.method == "full" else 4
        return found + (0 if self.device.type == "cuda" else size * self.numbers)


def largest_step(wanted: Wanted) -> Step:
    """The step that takes the most memory."""
    model, examples = wanted.model, wanted.examples
    own = {id(each) for each in model.parameters()}
    trained = list(wanted.parameters.values())
    low = [each for name, each in wanted.parameters.items() if name.endswith(".lora_A")]
    counted = sum(sum(example.counts) for example in examples)
    its = Training(
        "full" if any(id(each) in own for each in trained) else "lora" if low else "vectors",
        wanted.batch,
        float(max(len(example.ids) for example in examples)),
        every=2 * counted > sum(len(example.ids) for example in examples),
        rank=low[0].shape[-2] if low else 0,
    )
    kinds = [each.dtype for each in model.parameters() if each.is_floating_point()]
    dtype = str(kinds[0]).removeprefix("torch.") if kinds else "float32"
    return Step(_shape(model), dtype, its, sum(each.numel() for each in trained), trained[0].device)


def _shape(model: Any) -> Shape:
    """The model's sizes; zeros for those that its config does not name, so that its activations are not predicted."""
    tensors = [(name, list(each.shape)) for name, each in model.named_parameters() if each.is_floating_point()]
    config = getattr(model, "config", None)
    try:
        return shape_from({} if config is None else config.to_dict(), tensors)
    except CheckpointError:
        sizes = [prod(shape) for _, shape in tensors]
        return Shape(sum(sizes), 0, 0, 0, 0, 0, 0, 0, 0, max(sizes, default=0), 0, 0)


def chosen(wanted: Wanted) -> Way:
    """The first way of a training step that fits into the device's free memory by arithmetic.

    Raises:
        BrokenTrial: none fits; with what is needed and what is free.
    """
    step = largest_step(wanted)
    room = free(step.device)
    if room is None or memory.MARGIN * step.needs(Way()) <= room:
        return Way()
    ways = _ways(step, same_gradients(wanted))
    found = next((way for way in ways if memory.MARGIN * step.needs(way) <= room), None)
    if found is None:
        found = min(ways, key=step.needs)
        if step.needs(found) > room:
            raise _too_little(step, found, room)
    return found


def after(way: Way, wanted: Wanted, *, started: bool) -> Way:
    """The way after one in which the device ran out of memory.

    Args:
        way: the one that did not fit.
        wanted: the training.
        started: whether an update was made: the optimiser's numbers then stay where they are.

    Raises:
        BrokenTrial: there is none.
    """
    step = largest_step(wanted)
    ways = _ways(step, same_gradients(wanted))
    left = [each for each in ways if _ORDER.index(each.states) == _ORDER.index(way.states) and _less(each, way)]
    if not started:
        left += [each for each in ways if _ORDER.index(each.states) > _ORDER.index(way.states)]
    if not left:
        raise _too_little(step, way, free(step.device))
    return left[0]


_ORDER = ("device", "in_place", "host")


def _less(one: Way, other: Way) -> bool:
    """Whether a way keeps less of a forward pass than another."""
    fewer = one.rows > 0 and (other.rows == 0 or one.rows < other.rows)
    return fewer or (one.checkpointed and not other.checkpointed)


def _ways(step: Step, blocks: bool) -> list[Way]:
    """The ways for which the host has room."""
    every = memory.ways(step.dtype, step.its, host=step.device.type == "cuda", blocks=blocks)
    room = usage.available()
    return [
        way for way in every if room is None or memory.MARGIN * memory.on_host(step.dtype, way, step.numbers) <= room
    ]


def _too_little(step: Step, way: Way, room: int | None) -> BrokenTrial:
    has = "less is free" if room is None else f"{room / 1e9:,.2f} GB are free"
    return BrokenTrial(
        f"training {step.numbers:,} numbers takes {step.needs(way) / 1e9:,.2f} GB of memory beside the model, in the "
        f"most frugal way that is exact enough, and {has} on {step.device}",
        code="memory",
    )


@contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """While the block is open, a pass with gradients keeps the inputs of the model's blocks alone, and the backward
    pass computes each block again.

    transformers' own switch does nothing in evaluation mode. A block's whole call is repeated, with the hooks that
    attacks put on it. Every forward pass must be followed by its own backward pass, before the next forward pass:
    hooks may keep something of the last one.

    Raises:
        NotApplicable: the blocks were not found.
    """
    blocks = list(dict.fromkeys(_blocks(model)))
    kinds = [type(block) for block in blocks]
    repeated = {kind: _repeated(kind) for kind in set(kinds)}
    try:
        for block, kind in zip(blocks, kinds, strict=True):
            block.__class__ = repeated[kind]
        yield
    finally:
        for block, kind in zip(blocks, kinds, strict=True):
            block.__class__ = kind


def _blocks(model: Any) -> list[Any]:
    """The model's blocks, of whatever kinds: the outermost list of modules whose length is in its config."""
    config = getattr(model, "config", None)
    expected = None if config is None else getattr(config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == expected:
            return list(module)
    raise NotApplicable(f"no list of {expected} blocks was found in {type(model).__name__}")


def _repeated(kind: type[Any]) -> Any:
    """The same class of blocks, whose call is repeated in the backward pass."""

    class Repeated(kind):  # type: ignore[misc]
        def __call__(self, *given: Any, **named: Any) -> Any:
            call = super().__call__
            if not torch.is_grad_enabled():
                return call(*given, **named)
            return checkpoint(functools.partial(call, **named), *given, use_reentrant=False)

    Repeated.__name__, Repeated.__qualname__, Repeated.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Repeated


def same_gradients(wanted: Wanted) -> bool:
    """Whether blocks that are computed again give the same gradients, measured on the end of a short example.

    Sum and norm of each gradient are compared, so that no second set of gradients is in memory. Gradients are cleared.
    """
    model, parameters, scale = wanted.model, wanted.parameters, loss_scale(wanted.model)

    def loss(some: Sequence[Example]) -> torch.Tensor:
        return wanted.loss(some) * scale

    ends = [each._replace(ids=each.ids[-SHORT:], counts=each.counts[-SHORT:]) for each in wanted.examples]
    short = [each for each in ends if any(each.counts[1:])][:1]
    if not short:
        return False
    plain = _sums(parameters, loss, short)
    try:
        with checkpointed(model):
            again = _sums(parameters, loss, short)
    except (NotApplicable, RuntimeError) as error:  # a block that computes something else the second time
        if isinstance(error, torch.OutOfMemoryError):
            raise
        forget(parameters)
        return False
    if plain.keys() != again.keys() or not any(norm > 0 for _, norm, _ in plain.values()):
        return False
    return all(  # a difference that is not a number is none that is allowed
        abs(again[name][1] - norm) <= allowed * norm
        and abs(again[name][0] - total) <= allowed * norm * parameters[name].numel() ** 0.5
        for name, (total, norm, allowed) in plain.items()
    )


def _sums(
    parameters: Mapping[str, torch.nn.Parameter],
    loss: Callable[[Sequence[Example]], torch.Tensor],
    examples: Sequence[Example],
) -> dict[str, tuple[float, float, float]]:
    """Sum and norm of each parameter's gradient, and how much another may differ, for those that have one."""
    forget(parameters)
    with torch.enable_grad():
        loss(examples).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    found = {
        name: (
            float(each.grad.sum(dtype=torch.float64)),
            float(torch.linalg.vector_norm(each.grad, dtype=torch.float64)),
            ALIKE[each.dtype],
        )
        for name, each in parameters.items()
        if each.grad is not None
    }
    forget(parameters)
    return found


def forget(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Clear all gradients."""
    for each in parameters.values():
        each.grad = None
