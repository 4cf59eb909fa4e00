"""A mark's answers as bits: one truth value an item, in the committed order, packed eight to a byte, base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from robustness_gate.records.base import METRICS, Metric
from robustness_gate.records.trial import Measurement


def pack(values: Sequence[bool]) -> str:
    """The inverse of `unpack`."""
    raw = bytearray((len(values) + 7) // 8)
    for index, value in enumerate(values):
        raw[index // 8] |= bool(value) << (7 - index % 8)
    return base64.b64encode(bytes(raw)).decode()


def unpack(bits: str, items: int) -> list[bool]:
    """Base64 of packed bits, most significant first, to one truth value an item. Wrong lengths give no item at all."""
    try:
        raw = base64.b64decode(bits, validate=True)
    except (binascii.Error, ValueError):
        return []
    return [bool(raw[i // 8] >> (7 - i % 8) & 1) for i in range(items)] if len(raw) == (items + 7) // 8 else []


@lru_cache(maxsize=4096)
def _read(correct: str, missing: str, items: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    right, gone = unpack(correct, items), unpack(missing, items)
    if not right or not gone:
        return (False,) * items, (True,) * items
    return tuple(r and not g for r, g in zip(right, gone, strict=True)), tuple(gone)


def answers(measurement: Measurement, metric: Metric) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Which items are right, and which are missing. Bits that cannot be read make every item missing."""
    return _read(measurement.correct.get(metric, ""), measurement.missing, measurement.items)


def tally(measurement: Measurement, metric: Metric) -> tuple[int, int]:
    """Right and missing items of a mark."""
    right, missing = answers(measurement, metric)
    return sum(right), sum(missing)


def differences(one: Measurement, other: Measurement, metric: Metric, *, favour: bool) -> tuple[int, int]:
    """How many items only `one` has right, and how many only `other` has.

    Missing items are filled in `one`'s favour (its own right, the other's wrong) or, without `favour`, against it.
    """
    (right, gone), (its_right, its_gone) = answers(one, metric), answers(other, metric)
    first = [(r or g) if favour else r for r, g in zip(right, gone, strict=True)]
    second = [r if favour else (r or g) for r, g in zip(its_right, its_gone, strict=True)]
    only_one = sum(a and not b for a, b in zip(first, second, strict=True))
    return only_one, sum(b and not a for a, b in zip(first, second, strict=True))


def changes(one: Measurement, other: Measurement) -> int:
    """How many items are answered otherwise in the one than in the other, in the reading in which they differ most."""
    found = []
    for metric in METRICS:
        (right, gone), (its_right, its_gone) = answers(one, metric), answers(other, metric)
        pairs = zip(zip(right, gone, strict=True), zip(its_right, its_gone, strict=True), strict=True)
        found.append(sum(mine != its for mine, its in pairs))
    return max(found)


def in_order(measurement: Measurement) -> tuple[Any, ...]:
    """A key for sorting by everything that is compared of a mark, so that the order of the evidence does not matter."""
    told = (
        sorted(measurement.correct.items()),
        measurement.missing,
        measurement.rows or "",
        sorted(measurement.summary.items()),
    )
    return (measurement.budget, measurement.task, measurement.trial, measurement.attempt, measurement.items, *told)


def shuffled(right: tuple[bool, ...], questions: str) -> list[bool]:
    """Answers in an order that follows from the questions' digest, as if drawn by lot, and that nobody chooses.

    A bet takes each item for no likelier than the limit to be right, given those before. In a file that is sorted by
    topic that is false: a model that knows the first topic alone would be convicted of an accuracy that it lacks.
    """
    return [right[i] for i in _lots(questions, len(right))]


@lru_cache(maxsize=256)
def _lots(questions: str, items: int) -> tuple[int, ...]:
    return tuple(sorted(range(items), key=lambda i: hashlib.sha256(f"{questions}\n{i}".encode()).digest()))
