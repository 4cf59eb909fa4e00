"""Events on the way from questions to a model, and what is encoded: recorded while a block is open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

NAMED = 16
"""Maximum number of dropped end tokens, and of special tokens in questions, that are named by their token ids."""


@dataclass
class Notes:
    """Events on the way from questions to a model, by the questions' ids where they concern single questions."""

    cut: set[str] = field(default_factory=set)
    """Their prompts were longer than the context and lost their beginning: an example or the header. Where the question
    itself was cut, there is no answer either."""
    curtailed: set[str] = field(default_factory=set)
    """Those of them in which text of the attack may have been cut: then the attack was not made as described."""
    lost: set[str] = field(default_factory=set)
    """Part of the question itself did not reach the model, through its tokenizer, template or context: no answer."""
    controls: dict[str, frozenset[int]] = field(default_factory=dict)
    """Lost questions in which the tokenizer encodes text of the question, or of an answer scored as a continuation, as
    special tokens, with their ids."""
    strange: set[str] = field(default_factory=set)
    """Their tokens are not in the model's vocabulary: they have no answer."""
    words: set[int] = field(default_factory=set)
    """Token ids that the checkpoint declares as end tokens and that occur in the questions or answers: they do not end
    an answer."""
    drift: float = 0.0
    """The effect that padding would have had on answers, in nats, where prompts of unequal length were not batched."""
    clock: float = 0.0
    """The fixed date given to a chat template that used it, in seconds since 1970; 0 where none did."""

    def counts(self) -> dict[str, float]:
        """Counts for a measurement's summary; zeros are left out, except for cut prompts."""
        counts = {
            "curtailed_items": len(self.curtailed),
            "strange_items": len(self.strange),
            "control_items": len(self.controls),
            "end_marks_dropped": len(self.words),
            "padding_drift": round(self.drift, 6),
            "template_clock": self.clock,
        }
        which = {f"end_mark_dropped_{token}": 1 for token in sorted(self.words)[:NAMED]}
        counted = {name: float(each) for name, each in {**counts, **which}.items() if each}
        return {"truncated_items": float(len(self.cut)), **counted}

    @property
    def special_tokens(self) -> tuple[int, ...]:
        """The lowest ids in `controls`, rising."""
        return tuple(sorted(frozenset[int]().union(*self.controls.values()))[:NAMED])


NOTES: ContextVar[Notes | None] = ContextVar("what happens to questions on their way", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """Record the events on the way from questions to a model while the block is open."""
    notes = Notes()
    before = NOTES.set(notes)
    try:
        yield notes
    finally:
        NOTES.reset(before)


Look = Callable[[Any, Sequence[str], Sequence[list[int]], bool], None]


WATCHED: ContextVar[Look | None] = ContextVar("who sees what is encoded", default=None)


@contextmanager
def watching(look: Look) -> Iterator[None]:
    """Call a function with everything that is encoded while the block is open: tokenizer, texts, their ids, and
    `special`.
    """
    before = WATCHED.set(look)
    try:
        yield
    finally:
        WATCHED.reset(before)
