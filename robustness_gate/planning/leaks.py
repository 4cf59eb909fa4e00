"""Refuse verdict questions in the attackers' data: by id, and by their text, however a kind rewords its rows.

A task kind may put its rows in other words and under other ids. So each question is compared as it is asked and as its
row states it, and each row of the attackers as it stands and as every kind of the suite rewords it. Texts are compared
without case, white space and punctuation marks.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.questions import Item
from robustness_gate.records.suite import Suite

MARKS = re.compile(r"""[\s.,;:!?'"`…()\[\]{}«»“”‘’„‚¿¡]+""")
"""White space and punctuation marks. Signs of arithmetic are not among them: they change what is asked."""


class Side(NamedTuple):
    """Questions in one form."""

    items: tuple[Item, ...]
    whole: bool = False
    """Whether a stem is a prompt that a kind made, which contains the question."""
    plain: tuple[Item, ...] = ()
    """The same questions as their rows state them, where that differs."""


Place = tuple[str, ...]
Words = tuple[str, str]
"""A question's stem and its right answer."""


def refuse(
    suite: Loaded[Suite],
    judged: Mapping[str, Side],
    seen: Sequence[tuple[Place, Side]],
    texts: Mapping[str, Sequence[str]],
) -> None:
    """Check that no attacker sees a verdict question.

    Args:
        suite: the suite, for the place of an error.
        judged: the verdict questions by task.
        seen: the attackers' questions with their place in the suite.
        texts: the attackers' texts by corpus.

    Raises:
        PlanError: a verdict question, by id or by its text, is in the attackers' data, or is in a text with its answer.
    """
    for name, side in judged.items():
        questions = tuple(dict.fromkeys((*side.items, *side.plain)))
        ids, asked = {item.question.id for item in side.items}, {_words(item) for item in questions}
        for at, other in seen:
            for item in (*other.items, *other.plain):
                mine = _words(item)
                inside = side.whole != other.whole and any(_within(mine, each) for each in asked)
                if item.question.id in ids or mine in asked or inside:
                    raise _found(suite, at, f"'{item.question.id}' of '{name}' is also in '{'.'.join(at)}'")
        for source, its in texts.items():
            if (quoted := datasets.quoted(its, questions)) is not None:
                number, item = quoted
                words = (
                    f"'{item.question.id}' of '{name}' stands with its answer in text {number} of 'corpora.{source}'"
                )
                raise _found(suite, ("corpora", source, "texts"), words)


def readable(rows: Iterable[tuple[str, Mapping[str, Any]]], place: Any) -> tuple[Item, ...]:
    """The rows that state a question with its choices and its answer, as they state it."""
    found: list[Item] = []
    for each in rows:
        with contextlib.suppress(FileError):  # a row for a kind's template alone: it is compared as that makes it
            found += datasets.of_rows([each], place)
    return tuple(found)


def _found(suite: Loaded[Suite], at: Place, words: str) -> PlanError:
    return PlanError(
        f"the verdict item {words}.",
        remedy="The attacker's data and the verdict items must be disjoint.",
        where=suite.where(*at),
        code="leak",
    )


def _words(item: Item) -> Words:
    return _bare(item.question.stem), _bare(item.question.choices[item.answer])


def _bare(text: str) -> str:
    """In one spelling, case and spacing, without punctuation marks; with them where it consists of nothing else."""
    whole = unicodedata.normalize("NFKC", text).casefold()
    return MARKS.sub(" ", whole).strip() or " ".join(whole.split())


def _within(one: Words, other: Words) -> bool:
    """Whether a prompt that a kind made contains a question and its answer."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
