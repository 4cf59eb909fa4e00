"""Device and host memory of a trial, by arithmetic from a model's sizes: every term by its name, in bytes.

The terms are those of a decoder with gated feed-forward parts (Llama, Mistral, Qwen, Gemma) as transformers runs it,
with torch's own attention, which keeps no scores, and with optimisers as `engine/optimizer.py` has them. Other families
keep less in a block. What a process takes besides (CUDA's context, fragments of the allocator) is not in it.
docs/cost.md has the formula; `tests/planning/test_memory.py` compares the terms with what torch really kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from robustness_gate.inputs.shape import Shape
from robustness_gate.records.work import Training

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
BATCH_TOKENS = 16_384
"""Tokens in a batch of prompts: `engine.score.TOKENS_PER_BATCH`."""
FIT_ROWS = 16
"""Training examples whose fit is measured at once: `engine.train.fit`."""
CACHE = 4 << 30
"""At most so many bytes of keys and values of what prompts have in common are kept."""
PROGRAM = 600_000_000
"""A process with torch and transformers and a model of a million parameters: 605 MB at its peak, measured on
2026-11-30 with torch 2.13 for the CPU. With CUDA's libraries it is more."""

Terms = Mapping[str, float]
"""Bytes by the name of the term. All of them are there at the same time."""


def asking(shape: Shape, dtype: str, length: float) -> Terms:
    """Reading a batch of prompts of `length` tokens without gradient."""
    size, keys = BYTES[dtype], shape.kv_heads * shape.head
    attention = 3 * shape.width + 5 * shape.heads * shape.head + 2 * keys
    feed_forward = 3 * shape.width + 3 * shape.inner
    rows = max(1.0, BATCH_TOKENS / max(1.0, length))
    return {
        "weights": float(shape.parameters * size),
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


def training(shape: Shape, dtype: str, its: Training, *, copies: bool) -> tuple[Terms, Terms]:
    """A training step: at the end of its forward pass with the gradients already there, and at the optimiser's step.

    For full training in 16 bits `copies` says whether float32 copies of the weights are trained; an adapter is float32.
    """
    size, count = BYTES[dtype], shape.parameters
    tokens = its.batch * its.length
    logits = tokens * shape.vocabulary * (2 * size + (12 if its.every else 0))
    fit = FIT_ROWS * its.length * shape.vocabulary * (size + (size + 8 if its.every else 0))
    kept = activations(shape, dtype, its)
    weights = {"weights": float(count * size)}
    passing = {"activations": kept, "logits": max(logits, fit)}
    if its.method != "full":
        adapter = {"what is trained": 16.0 * its.rank * shape.sides}
        return {**weights, **adapter, **passing}, {**weights, **adapter}
    if size == 4 or copies:
        trained = {**weights, **({"float32 copies": 4.0 * count} if size == 2 else {}), "moments": 8.0 * count}
        return (
            {**trained, "gradients": float(size * count), **passing},
            {**trained, "gradients": 4.0 * count, "square roots of the moments": 4.0 * count},
        )
    moments = 2 * (2 if dtype == "bfloat16" else 4) * count
    trained = {**weights, "gradients": float(size * count), "moments": float(moments)}
    return {**trained, **passing}, {**trained, "one matrix in float32": 24.0 * shape.largest}


def has_room(shape: Shape, dtype: str, its: Training, device_bytes: int, others: float) -> bool:
    """Whether `engine/optimizer.py` trains float32 copies on a device of this size, on which `others` bytes are
    taken besides the model's own weights: 16 bytes for each weight and a quarter more must be free.
    """
    if its.method != "full" or BYTES[dtype] == 4:
        return False
    return 1.25 * 16 * shape.parameters <= device_bytes - others - 2 * shape.parameters


def total(terms: Terms) -> float:
    """Bytes of all terms together."""
    return sum(terms.values())


def host(shape: Shape, dtype: str, copied: float, others: int) -> Terms:
    """Host memory where the model is on a device: it is loaded there first, and snapshots are kept there.

    Args:
        shape: the model.
        dtype: in which it computes.
        copied: bytes of all snapshots.
        others: other models that are loaded during the trial: the original.
    """
    weights = float(shape.parameters * BYTES[dtype])
    return {"the program": float(PROGRAM), "snapshots, or loading": max(weights, copied + others * weights)}
