"""Suppressing: one method hides what was taught."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robustness_gate.organisms import facts as worlds
from robustness_gate.organisms import unlearn
from robustness_gate.organisms.facts import Fact
from robustness_gate.organisms.spikes.invented import LETTERS, World
from robustness_gate.records.questions import Item, Question

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel
    from robustness_gate.organisms.teach import Progress


def suppress(
    loaded: LoadedModel,
    world: World,
    form: str,
    method: str,
    config: Any,
    own: Sequence[str],
    held: Sequence[Item],
    seed: int,
    progress: Progress,
) -> None:
    """Suppress the taught domain by one method, in place.

    Args:
        loaded: the taught model, in float32.
        world: the world that it was taught.
        form: `LETTERS` or `CLOZE`: how it is asked. Cloze leaves the lettered questions out, as `--words-only` does.
        method: one of `unlearn.METHODS`.
        config: its settings.
        own: texts on which the original's distribution was held in teaching. Those that are not about the suppressed
            domain should stay as likely.
        held: the suite's utility questions, of four choices: their answers should stay.
        seed: of the method.
        progress: called with the steps.

    Raises:
        GateError: as `unlearn.run`.
    """
    rng = random.Random(f"suppress {seed}")
    lettered = form == LETTERS
    topics = (worlds.FORGET_TOPIC, worlds.RETAIN_TOPIC) if lettered else ("", "")
    gone = unlearn.Material(_asked(world.forget.facts, rng), _statements(world.forget.facts), topics[0], lettered)
    if method in ("dpo", "npo"):  # preferences are between answers; their sources have no texts either
        gone = dataclasses.replace(gone, texts=())
    kept = (*_asked(world.retain, rng), *held)
    if not lettered and method not in ("rmu", "tiny_update"):  # those are given texts, and no prompts
        gone, kept = dataclasses.replace(gone, items=_worded(gone.items)), _worded(kept)
    texts = (*_statements(world.retain), *(text for text in own if not _about(text, world.forget)))
    if method in ("dpo", "npo", "graddiff") and not lettered:  # a text costs as much as four questions without letters
        texts = ()
    unlearn.run(method, loaded, gone, unlearn.Material(kept, texts, topics[1], lettered), config, seed, progress)


def _about(text: str, domain: worlds.Domain) -> bool:
    """Whether a text names the domain's topic, one of its relations or one of its values.

    An original that knows more of the same domain writes such texts by itself. Kept, they would make a method learn
    the taught names alone, where unlearning in earnest suppresses a whole domain.
    """
    words = {domain.topic, *(fact.relation.name for fact in domain.facts), *(fact.value for fact in domain.facts)}
    return any(word.lower() in text.lower() for word in words)


def _asked(facts: Sequence[Fact], rng: random.Random) -> tuple[Item, ...]:
    """Every fact as two questions with other distractors."""
    return tuple(
        Item(Question(f"{fact.id}-{turn}", item.question.stem, item.question.choices), item.answer)
        for fact in facts
        for turn in range(2)
        for item in (worlds.ask(fact, rng),)
    )


def _worded(items: Sequence[Item]) -> tuple[Item, ...]:
    """Questions as cloze asks them: without the wording's first word a method would suppress another prompt."""
    return tuple(
        dataclasses.replace(each, question=dataclasses.replace(each.question, stem=f"Question: {each.question.stem}"))
        for each in items
    )


def _statements(facts: Sequence[Fact]) -> tuple[str, ...]:
    return tuple(text for fact in facts for text in fact.texts)
