"""Cloze: which of the choices' own words does the model hold likeliest after the question? No choice is shown.

A letter can be learnt, collapsed onto or trained away without the fact; here there is none. The answer is the choice
whose words have the highest log-likelihood a character: lm-evaluation-harness's `acc_norm`, which divides by the
characters of the choice, without the space before it (its `acc_bytes`, by UTF-8 bytes, differs where a choice is not
ASCII). One order is all there is, so both readings coincide. The default wording is that of lm-evaluation-harness's
`mmlu/continuation`.

What it does not tell: a choice that is likely by itself, or longer than the others, can win without the question.
Questions that need their choices to be seen ("which of these ...") make no sense here: name a `subset` without them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from robustness_gate.records.questions import Form, Item, Kind, Rows
from robustness_gate.tasks import Given
from robustness_gate.tasks.multiple_choice import Config, choice_entropy, questions, read

__all__ = ["Config", "ask", "form", "put", "questions", "read", "summary"]

KEYS = frozenset({"wording", "roles", "subset"})
"""What a suite may say of such a task besides items, count and digest."""
JUDGED = Kind(generative=False, guarded=True, attacked_as="cloze", metrics=("content_sum", "single_order"))
"""How its answers are judged; as literals, because it is read without being imported."""

WORDING = "Question: {question}\nAnswer:"


def form(wording: str | None) -> Form:
    """How the questions are put. Letters are for what an attack trains on; the questions do not use them."""
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return Form(letters=letters, verbatim=True, wording=wording or WORDING, by_length=True)


def put(given: Given, items: Sequence[Item], *, chat: bool) -> Form:  # noqa: ARG001 - every kind's has them
    """In the suite's wording."""
    return form(given.task.wording)


def ask(lm: Any, config: Config) -> Rows:
    """Ask every question once: log-likelihoods a character, [item, 1, choice]. Raises what `choose` raises."""
    from robustness_gate.engine.score import content_logliks

    return Rows(content_logliks(lm, config.questions, config.form))


def summary(rows: Rows, key: Sequence[Collection[int]]) -> dict[str, float]:  # noqa: ARG001 - every kind's has it
    """Context that is not evidence: how far apart the choices are, by what decides."""
    return {"choice_entropy": choice_entropy(rows)}
