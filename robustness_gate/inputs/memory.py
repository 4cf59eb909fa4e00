"""Device and host memory of a trial, by arithmetic from a model's sizes: every term by its name, in bytes.

The terms are those of a decoder with gated feed-forward parts (Llama, Mistral, Qwen2) as transformers runs it, with
torch's own attention, which keeps no scores, and with optimisers as `engine/optimizer.py` has them. Other families keep
more or less in a block (`CHECKED`). What a process takes besides (CUDA's context, fragments of the allocator) is not in
it.
docs/cost.md has the formula; `tests/planning/test_memory.py` compares the terms with what torch really kept.

The same arithmetic decides how a training step is made (`Way`): for a loaded model in `engine/frugal.py`, and
beforehand in `planning/cost.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from robustness_gate.inputs.shape import Shape
from robustness_gate.records.work import Training

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BATCH_TOKENS = 16_384
"""Tokens in a batch of prompts: `engine.score.TOKENS_PER_BATCH`."""
FIT_ROWS = 16
"""Training examples whose fit is measured at once: `engine.fit`."""
CACHE = 4 << 30
"""At most so many bytes of keys and values of what prompts have in common are kept."""
PROGRAM = 600_000_000
"""A process with torch and transformers and a model of a million parameters: 605 MB at its peak, measured on
2026-11-30 with torch 2.13 for the CPU. With CUDA's libraries it is more."""

MARGIN = 1.1
"""What a step needs must fit this many times: the terms are right to about a twentieth, and allocators leave holes."""

CHECKED = frozenset({"llama", "mistral", "qwen2"})
"""Architectures whose activations in training are these. Measured beside what autograd kept, the arithmetic was too low
for Gemma 2 (0.4 to 0.7 of it), Gemma 3 (0.6 to 0.85), Qwen3 (0.8 to 0.97) and mixtures of experts (0.2 to 0.6): more
norms, attention that keeps its scores, experts. It was right to an eighth for GPT-2 and Phi, too high for GPT-NeoX and
OPT (docs/cost.md)."""

Terms = Mapping[str, float]
"""Bytes by the name of the term. All of them are there at the same time."""
States = Literal["device", "in_place", "host"]
"""Where the optimiser's numbers are: its moments in float32, and for weights in 16 bits float32 copies of them.

    device     beside the weights
    in_place   there are no copies: weights in 16 bits are trained themselves, and moments have their dtype
    host       in the host's memory; each tensor's come to the device for its own update: exact and slow
"""


@dataclass(frozen=True)
class Way:
    """How a training step is made. The default is the plain one, which takes the most memory."""

    states: States = "device"
    checkpointed: bool = False
    """Whether each block keeps its input alone, and is computed again in the backward pass: the same gradients."""
    rows: int = 0
    """At most so many examples of a step's batch go through the model together, and their gradients are added up; 0
    is all of them. The same gradients but for rounding."""

    @property
    def plain(self) -> bool:
        """Whether a step is one pass that keeps everything, wherever the optimiser's numbers are."""
        return not self.checkpointed and not self.rows

    @property
    def signals(self) -> dict[str, float]:
        """What a measurement records of it; empty for the plain one."""
        found = {
            "states_in_place": float(self.states == "in_place"),
            "states_on_host": float(self.states == "host"),
            "checkpointed": float(self.checkpointed),
            "examples_together": float(self.rows),
        }
        return {name: value for name, value in found.items() if value}


def asking(shape: Shape, dtype: str, length: float) -> Terms:
    """Reading a batch of prompts of `length` tokens without gradient."""
    size, keys = BYTES[dtype], shape.kv_heads * shape.head
    attention = 3 * shape.width + 5 * shape.heads * shape.head + 2 * keys
    feed_forward = 3 * shape.width + 3 * shape.inner
    rows = max(1.0, BATCH_TOKENS / max(1.0, length))
    return {
        "weights": float(shape.loaded * size),
        "one block": float(BATCH_TOKENS * size * max(attention, feed_forward)),
        "mask": BATCH_TOKENS * length,
        "keys and values": float(min(CACHE, 2 * shape.layers * keys * size * BATCH_TOKENS)),
        "last logits": rows * shape.vocabulary * (size + 8),
    }


def activations(shape: Shape, dtype: str, its: Training) -> float:
    """What the blocks keep for the backward pass of a step.

    In each block, for each token: two norms (their input in float32, the normalised values where the norm is trained,
    and the output), queries, keys, values, the attention's output and its copy for the projection, and four vectors of
    the inner width. An adapter also keeps its product with the first factor, seven times, and in a 16-bit model the
    input of each adapted matrix in float32, in place of the one in 16 bits.
    """
    size, queries, keys = BYTES[dtype], shape.heads * shape.head, shape.kv_heads * shape.head
    instead = its.method == "lora" and size == 2
    norms = 2 * shape.width * (4 + size * {"full": 2, "vectors": 1, "lora": 0 if instead else 1}[its.method])
    attention = size * ((2 if instead else 3) * queries + 2 * keys)
    inner = size * (3 if instead else 4) * shape.inner
    if its.method == "lora":
        inner += 7 * 4 * its.rank
    if instead:
        inner += 4 * (5 * shape.width + queries + shape.inner)
    return its.batch * its.length * shape.layers * (norms + attention + inner)


def ways(dtype: str, its: Training, *, host: bool, blocks: bool = True) -> Iterator[Way]:
    """The ways of a step, from the plain one to the one that takes the least of the device's memory.

    Exact ones come first; training in place comes before the host's memory, because a step of seven billion weights
    then moves 160 GB between the two.

    Args:
        dtype: of the model.
        its: the step.
        host: whether the host's memory is another than the device's.
        blocks: whether the model's blocks can be computed again.
    """
    kinds: list[States] = ["device"]
    if its.method == "full":
        kinds += ["in_place"] if BYTES[dtype] == 2 else []
        kinds += ["host"] if host else []
    rows = its.batch
    fewer = [0]
    while rows > 1:
        rows = (rows + 1) // 2
        fewer.append(rows)
    for states in kinds:
        yield Way(states)
        if blocks:
            yield Way(states, checkpointed=True)
        yield from (Way(states, blocks, each) for each in fewer[1:])


def trained(shape: Shape, its: Training) -> float:
    """How many numbers are trained: all weights, or those of an adapter."""
    return float(shape.parameters if its.method == "full" else its.rank * shape.sides)


def training(shape: Shape, dtype: str, its: Training, way: Way, count: float) -> tuple[Terms, Terms]:
    """A training step: at the end of its forward pass, and at the optimiser's step.

    Gradients come as activations go, so that both are there together only where a batch has several passes.

    Args:
        shape: the model.
        dtype: in which it computes.
        its: the step.
        way: how it is made.
        count: how many numbers are trained, see `trained`. Those of an adapter and of vectors are float32.
    """
    size, full = BYTES[dtype], its.method == "full"
    part = replace(its, batch=min(its.batch, way.rows or its.batch))
    tokens, fitted = part.batch * its.length, min(FIT_ROWS, way.rows or FIT_ROWS) * its.length
    logits = tokens * shape.vocabulary * (2 * size + (12 if its.every else 0))
    fit = fitted * shape.vocabulary * (size + (size + 8 if its.every else 0))
    kept = activations(shape, dtype, part)
    if way.checkpointed:
        last = 4 + (2 * size if full else 0)  # the last norm's input in float32, and where it is trained its output
        kept = tokens * shape.width * (shape.layers * size + last) + kept / max(1, shape.layers)
    held: dict[str, float] = {"weights": float(shape.loaded * size)}
    if not full:
        held["what is trained"] = 4 * count
    gradients = {"gradients": (size if full else 4) * count}
    before = gradients if way.rows else {"the head's gradient": float(size * shape.largest)} if full else {}
    if way.states == "in_place":
        held["moments"] = 2 * (2 if dtype == "bfloat16" else 4) * count
    elif way.states == "device":
        held["moments"] = 8 * count
        if full and size == 2:
            held["float32 copies"] = 4 * count
    matrix = {"one matrix in float32": (32.0 if way.states == "host" else 24.0) * shape.largest} if full else {}
    return (
        {**held, **before, "activations": kept, "logits": max(logits, fit)},
        {**held, **gradients, **matrix},
    )


def scoring(shape: Shape, dtype: str, its: Training) -> Terms:
    """Scoring the weights of the blocks by the gradients of one example after the other: `engine.importance`.

    A score in float32 stays on the device for each of them. A gradient is dropped once it is added to its scores, with
    three more tensors of its size in float32.
    """
    size = BYTES[dtype]
    return {
        "weights": float(shape.loaded * size),
        "scores": 4.0 * shape.inside,
        "activations": activations(shape, dtype, its),
        "logits": its.length * shape.vocabulary * (2 * size + (12 if its.every else 0)),
        "one gradient": (12.0 + size) * shape.width * shape.inner,
    }


def on_host(dtype: str, way: Way, count: float) -> float:
    """Bytes of the optimiser's numbers in the host's memory."""
    return (12 if BYTES[dtype] == 2 else 8) * count if way.states == "host" else 0.0


def needed(shape: Shape, dtype: str, its: Training, way: Way, count: float) -> float:
    """Bytes that training takes at its peak beside the model's weights."""
    states = training(shape, dtype, its, way, count)
    return max(map(total, states)) - shape.loaded * BYTES[dtype]


def fitting(shape: Shape, dtype: str, its: Training, count: float, room: float) -> Way:
    """The first way that fits into `room` bytes of a device beside the model's weights, or the one that takes least."""
    every = list(ways(dtype, its, host=True, blocks=its.again))
    enough = (way for way in every if MARGIN * needed(shape, dtype, its, way, count) <= room)
    return next(enough, None) or min(every, key=lambda way: needed(shape, dtype, its, way, count))


def total(terms: Terms) -> float:
    """Bytes of all terms together."""
    return sum(terms.values())


def host(shape: Shape, dtype: str, copied: float, others: int, states: float = 0.0) -> Terms:
    """Host memory where the model is on a device: it is loaded there first, and snapshots are kept there.

    Args:
        shape: the model.
        dtype: in which it computes.
        copied: bytes of all snapshots.
        others: other models that are loaded during the trial: the original.
        states: the optimiser's numbers there, see `on_host`.
    """
    weights = float(shape.loaded * BYTES[dtype])
    found = {"the program": float(PROGRAM), "snapshots, or loading": max(weights, copied + others * weights)}
    return {**found, "the optimiser's numbers": states} if states else found
