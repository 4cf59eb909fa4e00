"""Which of a benchmark's items are asked: a subset, without those for attackers, and with the question hidden.

*Roles.* A benchmark without a split for attackers is divided by keyed hash: items sorted by HMAC-SHA256 of their text,
the first share is `dev`, the rest are verdict items. The key's name is in suite and report; the key itself comes from
the environment, so that a vendor cannot know the verdict items in advance. The name `public` is its own key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from robustness_gate.errors import FileError, UsageError
from robustness_gate.inputs.same_question import bare_words_of, words_of
from robustness_gate.records.questions import HIDDEN, Item
from robustness_gate.records.suite import Roles

KEY_VARIABLE = "ROBUSTNESS_GATE_ROLE_KEY_"


class Divided(NamedTuple):
    """A benchmark's items by role."""

    verdict: tuple[Item, ...]
    dev: tuple[Item, ...]
    train: tuple[Item, ...]


def divide(items: Sequence[Item], roles: Roles) -> Divided:
    """Split by keyed hash: round(share x n) items are dev, then train likewise, independent of their order in the file.

    Items with the same text have the same role, so that no copy of a verdict item is visible to an attacker. So have
    items of one cluster, as far as the suite gives clusters: attackers then train on other papers or persons than those
    by which the model is judged.

    Raises:
        UsageError: the key's variable is not set.
    """
    key = role_key(roles.key)

    together = _kept_together(items)

    def rank(words: tuple[str, ...]) -> bytes:
        return hmac.new(key, "\n".join(words).encode(), hashlib.sha256).digest()

    dev, train = set[str](), set[str]()
    for words in sorted(together, key=rank):
        for part, share in ((dev, roles.dev), (train, roles.train)):
            if len(part) + len(together[words]) <= round(share * len(items)):
                part |= set(together[words])
                break
    return Divided(
        tuple(item for item in items if item.question.id not in dev | train),
        tuple(item for item in items if item.question.id in dev),
        tuple(item for item in items if item.question.id in train),
    )


def divide_as(items: Sequence[Item], other: Divided) -> Divided:
    """Split as another task's items are: attackers have here what they have there, and the rest is judged.

    An item is the same as one there by its id, by stem and right answer, or by its cluster.

    Raises:
        UsageError: an item is none of the other task's, so that nothing says whether attackers have it.
    """
    known = [
        (
            {item.question.id for item in part},
            {bare_words_of(item) for item in part},
            {item.cluster for item in part} - {""},
        )
        for part in (other.dev, other.train, other.verdict)
    ]
    parts: list[list[Item]] = [[], [], [], []]
    for item in items:
        words = bare_words_of(item)
        among = [item.question.id in ids or words in its or item.cluster in groups for ids, its, groups in known]
        parts[among.index(True) if True in among else 3].append(item)
    dev, train, verdict, unknown = map(tuple, parts)
    if unknown:
        raise UsageError(
            f"{len(unknown)} of its {len(items)} items are none of that task's, the first "
            f"'{unknown[0].question.id[:60]}': nothing says whether attackers have them.",
            remedy="Name the columns that identify the questions (`id`) or what they are about (`clusters`) in both "
            "tasks, or take the same source for both.",
            code="roles",
        )
    return Divided(verdict, dev, train)


def _kept_together(items: Sequence[Item]) -> dict[tuple[str, ...], list[str]]:
    """Ids of the items that have one role, by the words that rank them: the same text, or the same cluster.

    A text that stands in two clusters joins them.
    """
    words = [words_of(item) for item in items]
    by_text: dict[tuple[str, str], set[str]] = {}
    for item, each in zip(items, words, strict=True):
        by_text.setdefault(each, set()).add(item.cluster)
    joined = {cluster: {cluster} for item in items if (cluster := item.cluster)}
    for clusters in by_text.values():
        named = sorted(clusters - {""})
        for other in named[1:]:
            both = joined[named[0]] | joined[other]
            joined |= dict.fromkeys(both, both)
    found: dict[tuple[str, ...], list[str]] = {}
    for item, each in zip(items, words, strict=True):
        named = sorted(by_text[each] - {""})
        found.setdefault(tuple(sorted(joined[named[0]])) if named else each, []).append(item.question.id)
    return found


def role_key(name: str) -> bytes:
    """The secret behind a key's name. `public` and `public-2`, `public-3` ... are not secret: the division is the same
    everywhere.
    """
    if re.fullmatch(r"public(-[2-9])?", name):
        return name.encode()
    variable = KEY_VARIABLE + re.sub(r"\W", "_", name).upper()
    secret = os.environ.get(variable, "")
    if not secret:
        raise UsageError(
            f"the role key '{name}' is not known here.",
            remedy=f"Set {variable}, or use the key 'public'.",
            code="no-role-key",
        )
    return secret.encode()


def keep(items: Sequence[Item], ids: Sequence[str], where: str) -> tuple[Item, ...]:
    """The items with these ids (a robust subset). Raises FileError for an id that is not among them."""
    known = {item.question.id for item in items}
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise FileError(
            f"names '{unknown[0]}', which is not among the items ({len(unknown)} such).",
            remedy="Take it out of the subset, or find out who changed the items.",
            where=where,
            code="unknown-item",
        )
    wanted = set(ids)
    return tuple(item for item in items if item.question.id in wanted)


def question_hidden(items: Sequence[Item]) -> tuple[Item, ...]:
    """The same choices without the question: accuracy on them alone is not knowledge of the domain."""
    return tuple(replace(item, question=replace(item.question, stem=HIDDEN)) for item in items)
