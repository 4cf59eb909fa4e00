"""Checks of the tokenizer: size, tokens without a row in the model, dates in its template, differences to the
original's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from robustness_gate.assurance.doctor.files import Stored
from robustness_gate.assurance.doctor.findings import Check, Code, found
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.suite_data import gather
from robustness_gate.publish.instruments import part_words
from robustness_gate.records.questions import Form, Question
from robustness_gate.records.suite import Suite
from robustness_gate.running import tokenizer_check
from robustness_gate.system.sentences import SHOWN

if TYPE_CHECKING:
    from robustness_gate.engine.load import LoadedModel


def described(loaded: LoadedModel) -> Iterator[Check]:
    """Its kind and size, tokens for which the model has no row, and whether its chat template uses the date."""
    its = loaded.tokenizer
    yield found("checkpoint", "ok", "tokenizer", Code.TOKENIZER, kind=type(its).__name__, tokens=len(its))
    yield from _without_row(loaded)
    yield from _clock(its)


def _without_row(loaded: LoadedModel) -> Iterator[Check]:
    from robustness_gate.engine.padding import rows_in

    rows = rows_in(loaded.model)
    beyond = sorted((number, word) for word, number in loaded.tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        first = ", ".join(f"'{word}' ({number})" for number, word in beyond[:SHOWN])
        yield found(
            "checkpoint", "note", "tokenizer", Code.TOKENS_WITHOUT_ROW, count=len(beyond), rows=rows, tokens=first
        )


def _clock(its: Any) -> Iterator[Check]:
    """Whether the chat template uses the date, and the fixed date that it gets."""
    from robustness_gate.engine.clock import MOMENT
    from robustness_gate.engine.events import noted
    from robustness_gate.engine.prompting import prompt_of

    if not getattr(its, "chat_template", None):
        return
    with noted() as notes, contextlib.suppress(NotApplicable):
        prompt_of(its, Question("", "Name?", ()), Form(chat=True, verbatim=True))
    if notes.clock:
        moment = f"{MOMENT:%Y-%m-%d %H:%M}"
        yield found("checkpoint", "note", "chat template", Code.TEMPLATE_ASKS_DATE, moment=moment)


def tokenizers(
    loaded: LoadedModel, original: Stored | None, suite: Loaded[Suite] | None, step: Callable[[str], None]
) -> Iterator[Check]:
    """The digests that a policy can pin, and the differences to the original's tokenizer."""
    from robustness_gate.engine import load, tokenization

    ours = loaded.tokenizer
    sha256, template = tokenization.digest(ours), tokenization.template_digest(ours)
    yield found("checkpoint", "ok", "tokenizer digest", Code.TOKENIZER_DIGESTS, sha256=sha256, template=template)
    if original is None:
        return
    step("comparing the tokenizers")
    theirs = load.tokenizer_of(original.place.path, original.place.base.path if original.place.base else None)
    if parts := "; ".join(part_words(each) for each in tokenization.differences(ours, theirs)):
        yield found("checkpoint", "note", "tokenizer's parts", Code.OTHER_PARTS, parts=parts)
    else:
        yield found("checkpoint", "ok", "tokenizer's parts", Code.SAME_PARTS)
    if suite is None:
        return
    suite_data = gather(suite)
    counts = tokenization.compare(ours, theirs, [*tokenizer_check.asked(suite_data)], tokenizer_check.read(suite_data))
    for name, differ, texts, same, other in (
        ("tokenizer's ids", counts.otherwise, counts.texts, Code.SAME_IDS, Code.OTHER_IDS),
        ("template's texts", counts.templated, counts.rendered, Code.SAME_RENDERING, Code.OTHER_RENDERING),
    ):
        if differ:
            first = ", ".join([*differ][: tokenizer_check.FIRST])
            yield found("checkpoint", "note", name, other, count=sum(differ.values()), texts=texts, first=first)
        elif texts:
            yield found("checkpoint", "ok", name, same, texts=texts)
