"""How much work an attack is, before it runs: what its file declares for `plan --cost`.

An attack of ours has `work(config, sizes) -> Work`. A plug-in's may go without it: `plan --cost` then names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from robustness_gate.records.attack import Hazard
from robustness_gate.records.questions import Form, Question


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data that an attack uses, in tokens, as `plan --cost` estimates them, and of its model."""

    look: float
    """One examination of the dev items in every form of the hazard, all letter orders."""
    prompts: int
    """Prompts of such a look."""
    once: float
    """The answers to the dev items by likelihood, in the first form and in the order of the file."""
    ways: int
    """Forms of the hazard with prompts of their own: `engine.examples.ways`."""
    orders: int
    """Letter orders of a question: its options."""
    solved: Mapping[str, float]
    """By source, `dev` among them: a whole prompt with its answer, the mean over questions and `ways`; of `dev`, which
    each form asks as its own, over all forms."""
    longest: Mapping[str, float]
    """By source: the longest whole prompt with its answer."""
    longest_text: Mapping[str, float]
    """By source: the longest text."""
    shot: Mapping[str, float]
    """The same in every form and without the header, as a solved example before a question."""
    header: Mapping[str, float]
    """By source: the header of its prompts, the mean over `ways`."""
    text: Mapping[str, float]
    """By source: the mean text."""
    held: Mapping[str, int]
    """How many there are, under the names of `SuiteData.pool`."""
    forms: int
    """Forms of the hazard in which directions are looked for: `engine.direction.forms`."""
    prompt: Mapping[str, float]
    """By source: a question's prompt without its answer, the mean over questions, added up over `forms`."""
    answers: Mapping[str, float]
    """The same of the likelihoods of its answers in the order of the file."""
    judged: Mapping[str, float]
    """The same of finding out whether it is answered rightly: `answers`, or a written answer."""
    stem: Mapping[str, float]
    """By source: a question alone, without header and choices, the mean."""
    hazards: Sequence[Hazard]
    """The forms of the hazard, with their dev items."""
    length: Callable[[str], float]
    """Tokens of a text."""
    asked: Callable[[Sequence[Question], Form], float]
    """Tokens of asking questions in a form, each once, in the order in which its choices stand."""
    layers: int
    """Blocks of the model."""
    original: bool
    """Whether there is an original, for attacks that need or use it."""

    def edited(self, edit: Callable[[Question, Form], tuple[Question, Form]]) -> float:
        """A look in which every question is asked in another form, or with other words."""
        return sum(
            self.asked([question], form) * (1 if form.verbatim else len(question.choices))
            for hazard in self.hazards
            for question, form in (edit(item.question, hazard.form) for item in hazard.dev)
        )


@dataclass(frozen=True)
class Training:
    """What one step of a training keeps in memory."""

    method: Literal["full", "lora", "vectors"]
    """All weights, an adapter, or a few vectors that are put into the model."""
    batch: int
    """Examples in a step."""
    length: float
    """Tokens of the longest example: a step's memory follows from it."""
    every: bool = False
    """Whether every token counts in the loss, as in texts, or a question's answer alone."""
    rank: int = 0
    """Of an adapter."""
    again: bool = True
    """Whether blocks can be computed again where memory is short; else a step's examples are divided."""


@dataclass(frozen=True)
class Work:
    """An attack's own passes over all of its budgets, without the examinations after each.

    What is not known beforehand, such as a search that may end early, is declared at its most, or named in `omitted`.
    """

    read: float = 0.0
    """Tokens without gradient, the original's among them."""
    learnt: float = 0.0
    """Tokens with a gradient."""
    before: tuple[float, ...] = ()
    """Tokens that it puts before each prompt of the examinations, by budget; empty: none."""
    longer: float = 1.0
    """How many times over the prompts of the examinations are read: twice where two models answer."""
    training: Training | None = None
    scored: Training | None = None
    """The example by whose gradients every weight of the blocks gets a score on the device; only its sizes count."""
    copies: int = 0
    """Copies in host memory of what it trains or changes: of all weights, or of an adapter."""
    vectors: float = 0.0
    """Vectors as wide as the model's stream that it keeps in host memory at once, counted in float32."""
    omitted: str = ""
    """What is not in these numbers; empty where nothing is missing."""
