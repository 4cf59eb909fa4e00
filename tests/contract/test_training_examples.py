"""What is trained on is the truth: the letter that a lesson teaches stands, in its prompt, before the right words.

Nothing else would notice. A model that is taught wrong answers lowers its loss like any other, and on an organism whose
knowledge is merely suppressed it may even come back.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from robustness_gate import attacks
from robustness_gate.records.attack import Corpus
from robustness_gate.records.questions import Item
from robustness_gate.running import trial


def mistaught(target: Any, corpus: Corpus, config: Any, seed: int = 1) -> int:
    """How many lessons of `relearn` are on no question of the corpus, or teach another letter than its key.

    Read from their text alone.
    """
    right = {item.question.stem: item.question.choices[item.answer] for item in corpus.items}
    lessons, _ = attacks.load("relearn")._training_examples(target, config, seed)
    wrong = 0
    for example in (each for lesson in lessons for each in lesson):
        text = target.tokenizer.decode([i for i in example.ids if i not in target.tokenizer.all_special_ids])
        letter = text.rstrip()[-1]
        stem = next((stem for stem in right if stem in text), None)
        offered = dict(re.findall(r"^([A-D])\. (.*)$", text, re.MULTILINE))
        wrong += stem is None or offered[letter] != right[stem]
    return wrong


@pytest.mark.parametrize("rotations", [1, 4])
def test_an_example_teaches_the_key_in_every_letter_order(
    small_suite_data: Any, rmu_model: Any, rotations: int
) -> None:
    target = trial.target_of(small_suite_data, rmu_model, None)
    config = attacks.load("relearn").Config(source="forget", budgets=(8,), rotations=rotations)
    assert mistaught(target, small_suite_data.corpora["forget"], config) == 0


def test_a_wrong_key_is_noticed(small_suite_data: Any, rmu_model: Any) -> None:
    target = trial.target_of(small_suite_data, rmu_model, None)
    corpus = small_suite_data.corpora["forget"]
    other = [Item(item.question, (item.answer + 1) % len(item.question.choices)) for item in corpus.items]
    config = attacks.load("relearn").Config(source="forget", budgets=(8,))
    assert mistaught(target, Corpus(tuple(other), (), corpus.header), config) == 8


def test_lettered_examples_are_those_that_they_were_before_hazards_had_several_forms(
    suite_data: Any, rmu_model: Any
) -> None:
    """Token by token, as commit be40cb1 made them: the numbers of lettered suites stay what they were."""
    target = trial.target_of(suite_data, rmu_model, None)
    config = attacks.load("relearn").Config(source="forget", budgets=(40,), rotations=4)
    lessons, _ = attacks.load("relearn")._training_examples(target, config, 7)
    shown = json.dumps([[each.ids, each.counts] for lesson in lessons for each in lesson])
    assert hashlib.sha256(shown.encode()).hexdigest() == (
        "8edeb1e92de0b8cd31c665ed2c1553f768988eb9f5143d043117319e81e9017a"
    )
