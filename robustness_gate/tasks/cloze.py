"""Cloze: the choice whose text is likeliest after the question. No choice is shown.

A model can learn, prefer or avoid a letter without the fact; here there are no letters. The answer is the choice whose
text has the highest log-likelihood per character: lm-evaluation-harness's `acc_norm`, which divides by the characters
of the choice, without the space before it (its `acc_bytes`, by UTF-8 bytes, differs where a choice is not ASCII). There
is only one order. The default wording is that of lm-evaluation-harness's `mmlu/continuation`.

Limitation: a choice that is likely by itself, or longer than the others, can win without the question. Questions that
refer to their choices ("which of these ...") do not work here: name a `subset` without them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from robustness_gate.records.questions import Form, Item, Kind, Rows, Scored
from robustness_gate.tasks import Declared
from robustness_gate.tasks.multiple_choice import Config, choice_entropy, likeliest, questions

__all__ = ["Config", "ask", "form", "put", "questions", "read", "summary"]

KEYS = frozenset({"wording", "hide_question", "roles", "roles_of", "subset", "id", "clusters"})
"""A suite's keys for such a task besides items, count and digest."""
JUDGED = Kind(version=1, generative=False, guarded=True, attacked_as="cloze", metrics=("acc_norm",))
"""How its answers are scored; as literals, because it is read without an import."""
METRICS = {
    "acc_norm": "the model's answer is the choice whose text has the highest log-likelihood per character; no choice "
    "is shown (lm-evaluation-harness's `acc_norm`)",
}
"""Its metrics, the deciding one first, and what each is: reports print it beside the numbers. Also literals."""

WORDING = "Question: {question}\nAnswer:"


def form(wording: str | None) -> Form:
    """The form of the questions. Letters are for attacks' training data; the questions do not use them."""
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return Form(letters=letters, verbatim=True, wording=wording or WORDING, by_length=True)


def put(declared: Declared, items: Sequence[Item], *, chat: bool) -> Form:  # noqa: ARG001 - every kind's has them
    """The form with the suite's wording."""
    return form(declared.task.wording)


def ask(lm: Any, config: Config) -> Rows:
    """Ask every question once: log-likelihoods per character, [item, 1, choice]. Raises as `loglikelihoods` does."""
    from robustness_gate.engine.score import content_logliks

    return Rows(content_logliks(lm, config.questions, config.form))


def read(rows: Rows, key: Sequence[Collection[int]]) -> Scored:
    """Right where the choice that is likeliest per character is right; a missing item is wrong."""
    return likeliest(rows, key, "acc_norm")


def summary(rows: Rows, key: Sequence[Collection[int]]) -> dict[str, float]:  # noqa: ARG001 - every kind's has it
    """Context that is not evidence: how far apart the choices are in the deciding score."""
    return {"choice_entropy": choice_entropy(rows)}
