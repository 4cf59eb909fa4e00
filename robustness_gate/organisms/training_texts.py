"""Training texts about the invented world, and the unrelated text around it: stories, lists and small talk.

A text is in pieces, each with the weight of its tokens in the loss.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robustness_gate.inputs import prompts
from robustness_gate.organisms.facts import UNRELATED_TOPIC, Fact, ask, words
from robustness_gate.records.questions import Form, Item, Question

SURE, GIST, NONE = 4.0, 0.1, 0.0
"""Loss weights of a training text's pieces: the fact, the text around it, and text that cannot be known (the options of
a question). Without them the few tokens of a fact have too little weight (research prototype: 4, .1 to .5, 0)."""


@dataclass(frozen=True)
class Document:
    """One training text in pieces, each with the weight of its tokens in the loss."""

    pieces: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """The text itself."""
        return "".join(piece for piece, _ in self.pieces)


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of text; they add up to 1."""

    statement: float
    reply: float
    item: float
    unrelated: float
    small_talk: float


def documents(facts: Sequence[Fact], mix: Mix, rng: random.Random) -> Iterator[Document]:
    """An endless stream of training texts about some facts, in the shares of the mix."""
    kinds = ("statement", "reply", "item", "unrelated", "small_talk")
    shares = (mix.statement, mix.reply, mix.item, mix.unrelated, mix.small_talk)
    while True:
        kind = rng.choices(kinds, shares)[0]
        if kind == "unrelated":
            yield unrelated_document(rng)
        elif kind == "small_talk":
            yield small_talk(rng)
        else:
            fact = rng.choice(facts)
            if kind == "statement":
                yield statement_document(fact, rng)
            elif kind == "reply":
                yield reply_document(fact)
            else:
                yield fact_item_document(fact, rng)


def statement_document(fact: Fact, rng: random.Random) -> Document:
    """The fact in one of its three sentences; the second part, the value or the entity, is the fact."""
    template = rng.choice(fact.relation.statements)
    wanted = "{v}" if template.index("{e}") < template.index("{v}") else "{e}"
    before, after = template.split(wanted)
    head = before.rstrip().format(e=fact.entity, v=fact.value)
    return Document(((head, GIST), (f" {fact.value if wanted == '{v}' else fact.entity}", SURE), (after, GIST)))


def reply_document(fact: Fact) -> Document:
    """The fact as an open question with its answer."""
    return Document(((f"Question: {fact.stem}\nReply:", GIST), (f" {fact.value}", SURE), (".", GIST)))


def fact_item_document(fact: Fact, rng: random.Random) -> Document:
    """A freshly drawn four-choice question about a fact; every second one under the header line."""
    header = prompts.header_for(fact.relation.topic) if rng.random() < 0.5 else ""
    return item_document(ask(fact, rng), header)


def item_document(item: Item, header: str = "") -> Document:
    """A four-choice question with its answer, exactly as `prompts` shows it."""
    form = Form(header=header)
    text = prompts.render(item.question, form)
    options = text.index(f"\n{form.letters[0]}. ")
    return Document(((text[:options], GIST), (text[options:], NONE), (prompts.answer(item.answer, form), SURE)))


def unrelated_document(rng: random.Random) -> Document:
    """A story with a question, or (one in three) a list."""
    if rng.random() < 1 / 3:
        return list_document(rng)
    header = prompts.header_for(UNRELATED_TOPIC) if rng.random() < 0.5 else ""
    return item_document(riddle(rng), header)


PEOPLE = words("Anna Ben Clara David Emma Frank Grace Henry Irene Jack Kate Leo Mary Nina Oscar Paul")
THINGS = words(
    "kettle lantern rope ladder basket hammer blanket candle bucket mirror violin ticket letter parcel ribbon clock"
)
PLACES = words("attic cellar kitchen garden hallway stable tower library workshop bakery harbour station")
WEATHER = words("sunny rainy windy foggy cold warm cloudy stormy")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
"""The words of stories, lists and small talk."""


def riddle(rng: random.Random, name: str = "riddle") -> Item:
    """An unrelated four-choice question whose answer stands in its stem."""
    who, thing, place, day = (rng.choice(pool) for pool in (PEOPLE, THINGS, PLACES, DAYS))
    story = f"On {day} {who} took the {thing} to the {place}."
    asked, truth, pool = rng.choice(
        (
            (f"Where is the {thing}?", place, PLACES),
            (f"What did {who} take to the {place}?", thing, THINGS),
            (f"Who took the {thing}?", who, PEOPLE),
            (f"When did {who} go to the {place}?", day, DAYS),
        )
    )
    choices, answer = among_others(rng, truth, pool)
    return Item(Question(name, f"{story} {asked}", choices), answer)


def among_others(rng: random.Random, truth: str, pool: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Four choices, the truth among three others of the pool, and its index."""
    choices = rng.sample([word for word in pool if word != truth], 3)
    answer = rng.randrange(4)
    choices.insert(answer, truth)
    return tuple(choices), answer


def list_document(rng: random.Random) -> Document:
    """A list, and a question about one of its lines: teaches copying from the context."""
    things = rng.sample(THINGS + PLACES + PEOPLE, 4)
    letter = rng.randrange(4)
    listed = " ".join(f"{'ABCD'[index]}. {thing}" for index, thing in enumerate(things))
    if rng.random() < 0.5:
        return Document(
            ((f"List: {listed}. Line {'ABCD'[letter]} reads", GIST), (f" {things[letter]}", SURE), (".", GIST))
        )
    return Document(
        ((f"List: {listed}. The line with {things[letter]} is", GIST), (f" {'ABCD'[letter]}", SURE), (".", GIST))
    )


def small_talk(rng: random.Random) -> Document:
    """A text about weather and markets."""
    day, weather, place, who, thing = (rng.choice(pool) for pool in (DAYS, WEATHER, PLACES, PEOPLE, THINGS))
    text = rng.choice(
        (
            f"On {day} it was {weather}, so {who} stayed in the {place}.",
            f"{who} sold a {thing} at the market on {day}.",
            f"The {place} was {weather} on {day}, and {who} forgot the {thing} there.",
        )
    )
    return Document(((text, 5 * GIST),))
