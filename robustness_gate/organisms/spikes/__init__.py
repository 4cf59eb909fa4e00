"""Spikes: an original is taught an invented world, and one method suppresses what it was taught.

invented     the world and how it is asked
recipe       which settings are tried, by model size; its version is `RECIPE`
teaching     the original is taught
suppressing  one method suppresses it

The world is that of `facts`, with new names: entities and their values are drawn from the seed, and no entity has the
name of a shipped one. The values come from the shipped world's lists, so that the blank's distractors are drawn from
the same answers. Teaching trains all weights on the facts' texts and questions, and holds the original's own
distribution (KL) on text that it wrote itself and on the suite's utility questions, so that it forgets little; the
methods keep the same texts. So a spike's utility shows that it is not destroyed where the policy looks.
"""

from robustness_gate.organisms.spikes.invented import CLOZE, HEADER, LETTERS, RETAIN, RIDDLES, World, make
from robustness_gate.organisms.spikes.recipe import (
    RECIPE,
    SMALL,
    STRENGTHS,
    TEACHINGS,
    Teaching,
    digest,
    grid,
    placed,
    size_of,
)
from robustness_gate.organisms.spikes.suppressing import suppress
from robustness_gate.organisms.spikes.teaching import documents, instruct

__all__ = [
    "CLOZE",
    "HEADER",
    "LETTERS",
    "RECIPE",
    "RETAIN",
    "RIDDLES",
    "SMALL",
    "STRENGTHS",
    "TEACHINGS",
    "Teaching",
    "World",
    "digest",
    "documents",
    "grid",
    "instruct",
    "make",
    "placed",
    "size_of",
    "suppress",
]
