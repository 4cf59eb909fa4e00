"""Batches of prompts: which share one forward pass, and what happens where the memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

UNEVEN = 1.1
"""A batch ends at this many times its shortest prompt: the rest would be padding."""
LEAST_TOKENS = 256
"""But not before it has so many tokens: with 11 M parameters on one CPU thread, a token costs 8 % more in passes of 256
than of 1,024, and 31 % more in passes of 128."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def batches(
    lengths: Sequence[int], tokens: int, *, alike: bool = False, rows: int | None = None
) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a padded batch stays within its budget and little of it is padding.

    Args:
        lengths: the prompts' lengths in tokens.
        tokens: maximum number of tokens in a batch, padding included; a longer prompt is alone.
        alike: a batch holds one length alone and no padding.
        rows: maximum number of prompts in a batch; None: no limit of its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch:
            shortest, width = lengths[batch[0]], lengths[index]
            uneven = width > UNEVEN * shortest and len(batch) * shortest >= LEAST_TOKENS
            full = (len(batch) + 1) * width > tokens or len(batch) == rows
            if full or uneven or (alike and width != shortest):
                yield batch
                batch = []
        batch.append(index)
    if batch:
        yield batch


def halved(work: Callable[[Sequence[Part]], Result], parts: Sequence[Part]) -> Iterator[tuple[Sequence[Part], Result]]:
    """The work on all parts, or on one half after the other where the device's memory does not suffice.

    The second try comes after the `except` block: the error's traceback holds the activations of the first.

    Yields:
        The parts of each piece of work, in order, and its result.

    Raises:
        torch.OutOfMemoryError: the memory does not suffice for a single part.
    """
    try:
        found = work(parts)
    except torch.OutOfMemoryError:
        if len(parts) == 1:
            raise
    else:
        yield parts, found
        return
    half = len(parts) // 2
    yield from halved(work, parts[:half])
    yield from halved(work, parts[half:])
