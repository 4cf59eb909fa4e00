"""The attackers' data: a suite's corpora and dev items, in the suite's own form and in that of each hazard task.

Attackers train and select on prompts of the form in which the verdict asks; data that cannot be put into a task's form
are listed with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.prompts import header_for
from robustness_gate.inputs.rows import Place
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.sources import locate, source_of
from robustness_gate.planning.task_data import Asked
from robustness_gate.records.attack import Corpus
from robustness_gate.records.questions import Item
from robustness_gate.records.suite import Suite, SuiteCorpus


@dataclass(frozen=True)
class Worded:
    """The attackers' data in the form of one hazard task, where it differs from the suite's own."""

    dev: tuple[Item, ...]
    corpora: Mapping[str, tuple[Item, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)
    """Data that do not have this form, `dev` or a corpus, with the reason."""


class Rows(NamedTuple):
    """The rows of a corpus's questions, so that each task can put them into its own form."""

    place: Place = ""
    rows: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    odd: str = ""
    """Why the rows alone are not questions, where only a harness's task makes questions of them."""


def read_corpus(
    suite: Loaded[Suite], name: str, corpus: SuiteCorpus, read: Mapping[str, Asked], hazards: Sequence[str]
) -> tuple[Corpus, Rows]:
    """A corpus for attackers, and the rows of its questions."""
    items, rows = _questions_of(corpus, _rows_to_train_on(suite, name, corpus, read), read, hazards)
    texts: tuple[str, ...] = ()
    if corpus.texts is not None:
        texts = datasets.read_texts(source_of(corpus.texts, suite, corpus, "corpora", name, "texts"))
    found = whole_size(suite, name, corpus) if corpus.count is not None else None
    if found != corpus.count:
        raise PlanError(
            f"the source holds {found} {'texts' if corpus.items is None else 'items'}, 'count' says {corpus.count}.",
            remedy="Correct the one that is wrong: changed data are other data.",
            where=suite.where("corpora", name, "count"),
            code="wrong-count",
        )
    return Corpus(items, texts, header_for(corpus.topic) if corpus.topic else ""), rows


def whole_size(suite: Loaded[Suite], name: str, corpus: SuiteCorpus) -> int:
    """How many rows the source of a corpus has: of its questions, or of its texts where it has no questions.

    Raises:
        PlanError: it has no source of its own.
    """
    for key, refs in (("items", corpus.items), ("texts", corpus.texts)):
        if refs is not None:
            return sum(1 for _ in datasets.read_rows(source_of(refs, suite, corpus, "corpora", name, key)))
    raise PlanError(
        "a corpus without 'items' and 'texts' has no 'count'.",
        remedy="Take 'count' out.",
        where=suite.where("corpora", name, "count"),
        code="wrong-count",
    )


def in_words_of(
    suite: Loaded[Suite],
    name: str,
    read: Mapping[str, Asked],
    corpora: Mapping[str, Corpus],
    rows: Mapping[str, Rows],
) -> Worded:
    """The attackers' data in the form of one hazard task: its own dev items or the suite's, and every corpus."""
    asked = read[name]
    record, missing, dev = suite.record, dict[str, str](), asked.dev
    own = columns(asked.given.place) if asked.rewords else frozenset()
    place: Place
    if not record.tasks[name].divided and record.dev:
        place = locate(record.dev, suite, "dev")
        mixed = not asked.rewords and any(read[each].rewords for each in record.hazards)
        try:
            if asked.rewords:
                dev = asked.reworded(list(datasets.read_rows(place)), place, own)
            else:
                dev = datasets.of_rows(datasets.read_rows(place), place) if mixed else datasets.read_items(place)
        except FileError as error:
            if len(record.hazards) == 1:
                raise
            missing["dev"] = f"the suite's dev items cannot be put in its words ({error.message})"
    elif not record.tasks[name].divided and len(record.hazards) > 1:
        missing["dev"] = "the suite has no dev items for it (give it `roles`, or the suite `dev`)"
    found = {}
    for source, corpus in corpora.items():
        found[source], place, given, odd = corpus.items, *rows[source]
        if given and asked.rewords:
            try:
                found[source], odd = asked.reworded(given, place, own), ""
            except FileError as error:
                odd = error.message
        if odd:
            found[source] = ()
            missing[source] = f"the questions of '{source}' cannot be put in its words ({odd})"
    return Worded(dev, found, missing)


def _rows_to_train_on(suite: Loaded[Suite], name: str, corpus: SuiteCorpus, read: Mapping[str, Asked]) -> Rows:
    """The rows of a corpus's questions: from a source of their own, or those that a task reserves for training."""
    if corpus.train_of is None:
        if corpus.items is None:
            return Rows()
        place = source_of(corpus.items, suite, corpus, "corpora", name, "items")
        return Rows(place, tuple(datasets.read_rows(place))[: corpus.first])
    asked = read.get(corpus.train_of)
    if corpus.items is not None or asked is None or not asked.train:
        raise PlanError(
            f"'{corpus.train_of}' keeps no items back for training."
            if corpus.items is None
            else "questions come from 'items' or from 'train_of'.",
            remedy="Give the task `roles: {dev: 0.1, train: 0.2}`, or take one of the two keys out.",
            where=suite.where("corpora", name, "train_of"),
            code="no-train-items",
        )
    place = asked.given.place
    kept = {item.question.id for item in asked.train}
    rows = tuple(datasets.read_rows(place))
    if len(rows) != len(asked.items):
        raise PlanError(
            f"'{corpus.train_of}' makes {len(asked.items)} items of {len(rows)} rows, so its rows cannot be kept back.",
            remedy="Give the corpus 'items' of its own, or let the kind make one item of each row.",
            where=suite.where("corpora", name, "train_of"),
            code="no-train-items",
        )
    both = zip(asked.items, rows, strict=True)
    return Rows(place, tuple(row for item, row in both if item.question.id in kept)[: corpus.first])


def _questions_of(
    corpus: SuiteCorpus, found: Rows, read: Mapping[str, Asked], hazards: Sequence[str]
) -> tuple[tuple[Item, ...], Rows]:
    """A corpus's questions in the suite's own form, or in that of a harness's task where only its template reads them.

    Raises:
        FileError: no reader accepts them.
    """
    if not found.rows:
        return (), found
    owner = read[corpus.train_of] if corpus.train_of else None
    if owner is not None and not owner.rewords:
        return owner.train[: corpus.first], found
    templates = [read[hazard] for hazard in hazards if read[hazard].rewords]
    try:
        if owner is None and not templates:
            return datasets.read_items(found.place)[: corpus.first], found
        return datasets.of_rows(found.rows, found.place), found  # a file for a template may have more columns
    except FileError as error:
        for template in templates:
            with contextlib.suppress(FileError):  # the first error is about the expected columns
                return template.reworded(found.rows, found.place), found._replace(odd=error.message)
        raise


def columns(place: Place) -> frozenset[str]:
    """The columns of a source's rows."""
    return frozenset(column for _, row in datasets.read_rows(place) for column in row)
