"""How much work an attack is, before it runs: what its file may declare for `plan --cost`.

An attack may have `work(config, sizes) -> Work`. Without it, its own passes are not counted, and `plan --cost` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data that an attack uses, in tokens, as `plan --cost` estimates them."""

    look: float
    """One examination of the dev items in every form of the hazard, all letter orders."""
    prompts: int
    """Prompts of such a look."""
    ways: int
    """Forms of the hazard in which the attack runs."""
    orders: int
    """Letter orders of a question: its options."""
    solved: Mapping[str, float]
    """By source, `dev` among them: a whole prompt with its answer, the mean over questions and forms."""
    shot: Mapping[str, float]
    """The same without the header, as a solved example before a question."""
    text: Mapping[str, float]
    """By source: the mean text."""
    held: Mapping[str, int]
    """How many there are, under the names of `SuiteData.pool`."""


@dataclass(frozen=True)
class Training:
    """What one step of a training keeps in memory."""

    method: Literal["full", "lora", "vectors"]
    """All weights, an adapter, or a few vectors that are put into the model."""
    batch: int
    """Examples in a step."""
    length: float
    """Tokens of an example."""
    every: bool = False
    """Whether every token counts in the loss, as in texts, or a question's answer alone."""
    rank: int = 0
    """Of an adapter."""


@dataclass(frozen=True)
class Work:
    """An attack's own passes over all of its budgets, without the examinations after each."""

    read: float = 0.0
    """Tokens without gradient."""
    learnt: float = 0.0
    """Tokens with a gradient."""
    before: tuple[float, ...] = ()
    """Tokens that it puts before each prompt of the examinations, by budget; empty: none."""
    training: Training | None = None
    copies: int = 0
    """Copies in host memory of what it trains or changes: of all weights, or of an adapter."""
    omitted: str = ""
    """What is not in these numbers; empty where nothing is missing."""
