"""Batches hold little padding and stay within their budgets, and every prompt is in one of them."""

from __future__ import annotations

import math
import random

import pytest

from robustness_gate.engine.batching import batches


def uneven(count: int) -> list[int]:
    rng = random.Random(count)
    return [round(math.exp(rng.uniform(math.log(30), math.log(250)))) for _ in range(count)]


@pytest.mark.parametrize(("count", "most"), [(16, 1.3), (60, 1.1), (100, 1.1), (240, 1.1), (600, 1.1)])
def test_little_of_a_batch_is_padding(count, most):
    lengths = uneven(count)
    found = list(batches(lengths, 16_384))
    assert sorted(index for batch in found for index in batch) == list(range(count))
    assert sum(len(batch) * max(lengths[i] for i in batch) for batch in found) <= most * sum(lengths)
    assert len(found) < count / 3 + 4, "and it is still a batch"


def test_a_small_batch_goes_on_past_the_bound():
    assert list(batches([10, 20, 40], 16_384)) == [[0, 1, 2]]
    assert list(batches([10] * 26 + [20], 16_384)) == [[*range(26)], [26]]
    assert list(batches([10] * 26 + [11], 16_384)) == [[*range(27)]]


def test_a_batch_stays_within_its_tokens_and_its_rows():
    lengths = uneven(50)
    for batch in batches(lengths, 700):
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 700
    assert {len(batch) for batch in batches([5] * 7, 16_384, rows=3)} == {3, 1}
    assert list(batches([900, 3], 10)) == [[1], [0]], "what is too long is alone"


def test_where_padding_matters_a_batch_holds_one_length():
    assert list(batches([5, 7, 5, 6], 16_384, alike=True)) == [[0, 2], [3], [1]]
    assert list(batches([], 10)) == []
