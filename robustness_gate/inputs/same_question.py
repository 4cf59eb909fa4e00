"""When two questions are the same one: repeated in a benchmark, or quoted in a text for attackers.

Answers to the same question are one observation, and no attacker may see a verdict item.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from robustness_gate.records.questions import Item

REPEATS = 0.05
"""Share of a task's items that may repeat an earlier one: public benchmarks contain a few."""


MARKS = re.compile(r"""[\s.,;:!?'"`…()\[\]{}«»“”‘’„‚¿¡]+""")
"""White space and punctuation marks. Signs of arithmetic are not among them: they change what is asked."""


class Repeats(NamedTuple):
    """Items that repeat an earlier item's question."""

    number: int
    first: tuple[str, str]
    """The ids of the first such pair, the earlier one first."""


def words_of(item: Item) -> tuple[str, str]:
    """A question by its stem and right answer, as they read; no attacker may see it."""
    return as_read(item.question.stem), as_read(item.question.choices[item.answer])


def bare_words_of(item: Item) -> tuple[str, str]:
    """The same without case and punctuation marks, for questions in the data of attackers."""
    return _bare(item.question.stem), _bare(item.question.choices[item.answer])


def _bare(text: str) -> str:
    """In one spelling, case and spacing, without punctuation marks; with them where it consists of nothing else."""
    whole = unicodedata.normalize("NFKC", text).casefold()
    return MARKS.sub(" ", whole).strip() or " ".join(whole.split())


def as_read(text: str) -> str:
    """A text in lower case with single spaces, without characters that are not seen (Unicode's category Cf)."""
    if text.isascii():  # nothing in it is unseen, or spelt in two ways
        return " ".join(text.lower().split())
    seen = "".join(each for each in text if each.isascii() or unicodedata.category(each) != "Cf")
    return " ".join(unicodedata.normalize("NFC", seen).lower().split())


def repeats(items: Sequence[Item]) -> Repeats | None:
    """Items that repeat an earlier one's question, apart from white space and case; None where none does.

    The same stem with the same choices in any order, or with the same right answer and other wrong ones, is the same
    question. Its answers are one observation, and a bound that counts them separately is invalid.
    """
    seen = dict[tuple[str, str | frozenset[str]], str]()
    count, first = 0, None
    for item in items:
        stem, right = words_of(item)
        choices = frozenset(as_read(each) for each in item.question.choices)
        asked: list[tuple[str, str | frozenset[str]]] = [(stem, right), (stem, choices)]
        earlier = next((seen[each] for each in asked if each in seen), None)
        if earlier is not None:
            count, first = count + 1, first or (earlier, item.question.id)
        for each in asked:
            seen.setdefault(each, item.question.id)
    return Repeats(count, first) if first else None


def quoted(texts: Sequence[str], items: Sequence[Item]) -> tuple[int, Item] | None:
    """The first text, counted from 1, that contains an item's stem and its right answer, and that item; None where none
    does.

    Both must occur word for word, apart from case, spaces and punctuation. An attacker may have a text that states the
    fact in other words, but not the question with its answer. The stem of an lm-evaluation-harness task is its whole
    prompt, so that a part of it is not found.
    """
    by_start: dict[tuple[str, ...], list[Item]] = {}
    for item in items:
        by_start.setdefault(_words(item.question.stem)[:3], []).append(item)
    lengths = {len(start) for start in by_start}
    for number, text in enumerate(texts, start=1):
        words = _words(text)
        whole = f" {' '.join(words)} "
        starts = {words[at : at + length] for length in lengths for at in range(len(words))}
        for item in (each for start in sorted(starts & by_start.keys()) for each in by_start[start]):
            asked = (item.question.stem, item.question.choices[item.answer])
            if all(f" {' '.join(_words(part))} " in whole for part in asked if _words(part)):
                return number, item
    return None


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", as_read(text)))
