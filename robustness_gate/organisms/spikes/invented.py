"""The invented world: facts with new names, and how they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robustness_gate.inputs import prompts
from robustness_gate.organisms import facts as worlds
from robustness_gate.organisms.facts import Fact

RETAIN, RIDDLES = 40, 100
"""Facts of the other domain that are taught and kept, and unrelated questions."""
DEV_SHARE = 0.2
"""Share of the attacker's facts that are dev items."""
LETTERS, CLOZE = "multiple_choice", "cloze"
"""The kinds of task in whose form the facts can be asked."""
HEADER = prompts.header_for(worlds.FORGET_TOPIC)
"""The header line of the questions with letters."""


@dataclass(frozen=True)
class World:
    """The invented facts, divided as the shipped world's are."""

    forget: worlds.Domain
    retain: tuple[Fact, ...]


def make(seed: int, count: int, verdict: int) -> World:
    """The world of a seed.

    Args:
        seed: any integer of at least 0.
        count: facts of the domain that is suppressed, at most 512.
        verdict: how many of them are asked; a fifth of the others are dev items, the rest is the attacker's.
    """
    drawn, shipped = worlds.make(seed + worlds.SEED + 1), worlds.make()
    known = [fact.entity.lower() for fact in (*shipped.forget.facts, *shipped.retain.facts)]
    relations = {fact.relation.name: fact.relation for fact in (*shipped.forget.facts, *shipped.retain.facts)}

    def ours(facts: Sequence[Fact]) -> Iterator[Fact]:
        for fact in facts:
            name, relation = fact.entity.lower(), relations[fact.relation.name]
            if not any(name in other or other in name for other in known):
                yield Fact(relation, fact.entity, relation.values[fact.relation.values.index(fact.value)])

    forget = [*ours(drawn.forget.facts)][:count]
    left = count - verdict
    dev = round(DEV_SHARE * left)
    domain = worlds.Domain(
        worlds.FORGET_TOPIC,
        relearn=tuple(forget[verdict + dev :]),
        dev=tuple(forget[verdict : verdict + dev]),
        verdict=tuple(forget[:verdict]),
    )
    return World(domain, tuple(ours(drawn.retain.facts))[:RETAIN])
