"""A measurement's answers as bits: one truth value per item, in the committed order, eight per byte, base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from robustness_gate.records.base import Metric
from robustness_gate.records.trial import Measurement

_BITS = tuple(tuple(bool(byte >> (7 - i) & 1) for i in range(8)) for byte in range(256))
"""The truth values of each byte."""
_DIGITS = bytes.maketrans(b"\0\1", b"01")


def pack(values: Sequence[bool]) -> str:
    """Truth values as packed bits in base64: the inverse of `unpack`."""
    size = (len(values) + 7) // 8
    digits = bytes(map(bool, values)).translate(_DIGITS).ljust(8 * size, b"0")
    return base64.b64encode(int(digits or b"0", 2).to_bytes(size, "big")).decode()


def unpack(bits: str, items: int) -> list[bool]:
    """One truth value per item from packed bits in base64, most significant first. Empty if the length is wrong."""
    raw = _bytes(bits, items)
    return [] if raw is None else list(chain.from_iterable(map(_BITS.__getitem__, raw)))[:items]


def is_packed(bits: str, items: int) -> bool:
    """Whether `pack` writes these bits for some truth values, one per item: no other text may mean the same."""
    raw = _bytes(bits, items)
    if raw is None or base64.b64encode(raw).decode() != bits:
        return False
    return not (raw and raw[-1] & (1 << -items % 8) - 1)


def count(bits: str, items: int) -> int | None:
    """How many items are true in packed bits; None if the length is wrong."""
    raw = _bytes(bits, items)
    return None if raw is None else (int.from_bytes(raw, "big") >> -items % 8).bit_count()


def _bytes(bits: str, items: int) -> bytes | None:
    """The bytes of packed bits; None if they are not base64, or too many or too few for these items."""
    try:
        raw = base64.b64decode(bits, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == (items + 7) // 8 else None


@lru_cache(maxsize=4096)
def _read(correct: str, missing: str, items: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    right, gone = unpack(correct, items), unpack(missing, items)
    if not right or not gone:
        return (False,) * items, (True,) * items
    return tuple(r and not g for r, g in zip(right, gone, strict=True)), tuple(gone)


def in_metrics(measurement: Measurement, metrics: Collection[Metric]) -> bool:
    """Whether a measurement has exactly these metrics, and in each of them, as in `missing`, one bit per item."""
    bits = (*measurement.correct.values(), measurement.missing)
    return measurement.correct.keys() == set(metrics) and all(is_packed(each, measurement.items) for each in bits)


def answers(measurement: Measurement, metric: Metric) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which items are right, and which are missing. If the bits are invalid, every item is missing."""
    return _read(measurement.correct.get(metric, ""), measurement.missing, measurement.items)


def tally(measurement: Measurement, metric: Metric) -> tuple[int, int]:
    """The numbers of right and of missing items of a measurement."""
    right, missing = answers(measurement, metric)
    return sum(right), sum(missing)


def differences(one: Measurement, other: Measurement, metric: Metric, *, favour: bool) -> tuple[int, int]:
    """How many items only `one` has right, and how many only `other` has right.

    With `favour`, missing items count in favour of `one` (its own as right, the other's as wrong); else against it.
    """
    (right, gone), (its_right, its_gone) = answers(one, metric), answers(other, metric)
    first = [(r or g) if favour else r for r, g in zip(right, gone, strict=True)]
    second = [r if favour else (r or g) for r, g in zip(its_right, its_gone, strict=True)]
    only_one = sum(a and not b for a, b in zip(first, second, strict=True))
    return only_one, sum(b and not a for a, b in zip(first, second, strict=True))


def changes(one: Measurement, other: Measurement) -> int:
    """How many items are answered differently in two measurements, in the metric in which they differ most.

    In a metric that only one of them has, every item of the other one is missing. Without any metric all items differ.
    """
    found = []
    for metric in {*one.correct, *other.correct}:
        (right, gone), (its_right, its_gone) = answers(one, metric), answers(other, metric)
        pairs = zip(zip(right, gone, strict=True), zip(its_right, its_gone, strict=True), strict=True)
        found.append(sum(mine != its for mine, its in pairs))
    return max(found, default=one.items)


def in_order(measurement: Measurement) -> tuple[Any, ...]:
    """A sort key of everything in a measurement that is compared, so that the order of the evidence does not matter."""
    content = (
        sorted(measurement.correct.items()),
        measurement.missing,
        measurement.rows or "",
        sorted(measurement.summary.items()),
    )
    return (measurement.budget, measurement.task, measurement.trial, measurement.attempt, measurement.items, *content)


def shuffled(right: tuple[bool, ...], questions: str) -> list[bool]:
    """Answers in a pseudo-random order that is derived from the questions' digest, so it cannot be chosen.

    The betting test assumes that each item is right with probability at most the limit, given the earlier items. In a
    file sorted by topic this is false: a model that knows only the first topic would seem to break the limit.
    """
    return [right[i] for i in _permutation(questions, len(right))]


@lru_cache(maxsize=256)
def _permutation(questions: str, items: int) -> tuple[int, ...]:
    return tuple(sorted(range(items), key=lambda i: hashlib.sha256(f"{questions}\n{i}".encode()).digest()))
