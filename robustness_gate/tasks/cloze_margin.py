"""Cloze that does not depend on the scale of the logits: the choice whose text is nearest to what the model would say.

The prompts are those of `cloze`, and no choice is shown. `cloze` compares log-likelihoods per character, and for
choices of several tokens these depend on how sure of itself a model is. If every logit is multiplied by 0.1, a model
still writes the same text, but all tokens become about equally likely, and then the number of tokens decides. Here a
token counts by its margin: how far its log-likelihood is below that of the model's likeliest token at the same place.
Summed over a choice's tokens and divided by its characters, it is multiplied by the factor by which the logits are, so
every answer stays the same. It is what `cloze` reads where the logits are multiplied by a very large number.

Source: our own; measured on the organisms (docs/limits.md). Departure from lm-evaluation-harness's `acc_norm`: the
normaliser of each token is the likeliest token and not the sum over the vocabulary.
Limitation: as for `cloze`. No public benchmark reports this metric, so no score of a model that was never taught is
known.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from robustness_gate.records.questions import Form, Item, Kind, Rows, Scored
from robustness_gate.tasks import Declared, cloze
from robustness_gate.tasks.cloze import ask, summary
from robustness_gate.tasks.multiple_choice import Config, likeliest, questions

__all__ = ["Config", "ask", "form", "put", "questions", "read", "summary"]

KEYS = frozenset({"wording", "hide_question", "roles", "roles_of", "subset", "id", "clusters"})
"""A suite's keys for such a task besides items, count and digest."""
JUDGED = Kind(version=1, generative=False, guarded=True, attacked_as="cloze", metrics=("acc_margin",))
"""How its answers are scored; as literals, because it is read without an import."""
METRICS = {
    "acc_margin": "the model's answer is the choice whose tokens are, per character, the least below the model's "
    "likeliest tokens; no choice is shown, and a factor on all logits changes no answer",
}
"""Its metrics, the deciding one first, and what each is: reports print it beside the numbers. Also literals."""


def form(wording: str | None) -> Form:
    """The form of the questions: that of `cloze`, read by margins."""
    return replace(cloze.form(wording), by_margin=True)


def put(declared: Declared, items: Sequence[Item], *, chat: bool) -> Form:  # noqa: ARG001 - every kind's has them
    """The form with the suite's wording."""
    return form(declared.task.wording)


def read(rows: Rows, key: Sequence[Collection[int]]) -> Scored:
    """Right where the choice with the smallest margin per character is right; a missing item is wrong."""
    return likeliest(rows, key, "acc_margin")
