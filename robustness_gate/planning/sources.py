"""Where a suite's sources are: what is shipped, a hub dataset, or a file beside it; and the questions in their rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustness_gate import organisms
from robustness_gate.errors import FileError, PlanError, UsageError
from robustness_gate.inputs import datasets, tables
from robustness_gate.inputs.rows import Place, Source
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.questions import Item
from robustness_gate.records.suite import HUB, Suite, SuiteCorpus, SuiteTask


def locate(name: str, suite: Loaded[Suite], *at: str | int) -> Path | str:
    """The location of a suite's source: `organism:NAME` is shipped, a hub dataset is unchanged, a path is relative to
    the suite.
    """
    if tables.is_hub(name):
        if HUB.match(name) is None:
            raise PlanError(
                f"'{name}' does not name a dataset by its commit.",
                remedy="Write hf-dataset://OWNER/NAME@40-HEX-COMMIT/CONFIG/SPLIT: a branch may change under a verdict.",
                where=suite.where(*at),
                code="moving-tag",
            )
        return name
    try:
        if name.startswith("organism:"):
            return organisms.world(name.removeprefix("organism:"))
        path = suite.path.parent / name
        if path.exists():
            return path
    except (UsageError, OSError) as error:  # OSError: the name is too long for a file
        words = error.message if isinstance(error, UsageError) else f"'{name[:60]}' is no file's name."
        remedy = error.remedy if isinstance(error, UsageError) else "Paths start at the suite."
        raise PlanError(words, remedy=remedy, where=suite.where(*at), code="missing-file") from None
    raise PlanError(
        f"there is no file '{name}'.",
        remedy="Paths start at the suite.",
        where=suite.where(*at),
        code="missing-file",
    )


def source_of(refs: str | Sequence[str], suite: Loaded[Suite], read: SuiteTask | SuiteCorpus, *at: str | int) -> Place:
    """Where the rows of a task or corpus lie, with the suite's names for their columns.

    Args:
        refs: one source, or several that are pooled.
        suite: the suite.
        read: the task or corpus, which says how rows are read.
        at: the place of `refs` in the suite.

    Raises:
        PlanError: a source that is not there, or is no pinned one.
    """
    if isinstance(refs, str):
        places: tuple[Path | str, ...] = (locate(refs, suite, *at),)
    else:
        places = tuple(locate(each, suite, *at, index) for index, each in enumerate(refs))
    named = read.id if isinstance(read, SuiteTask) else None
    clusters = read.clusters.column if isinstance(read, SuiteTask) and read.clusters else None
    columns = read.columns.pairs if read.columns else ()
    if len(places) == 1 and not (read.columns or read.where or named or clusters):
        return places[0]
    wanted = tuple((column, tuple(each) if isinstance(each, list) else (each,)) for column, each in read.where.items())
    borrowed = (read.columns.borrow or 0) if read.columns else 0
    return Source(places, columns, wanted, named or "", (clusters,) if clusters else (), borrowed)


def readable(rows: Iterable[tuple[str, Mapping[str, Any]]], place: Any) -> tuple[Item, ...]:
    """The rows that state a question with its choices and its answer, as they state it."""
    found: list[Item] = []
    for each in rows:
        with contextlib.suppress(FileError):  # a row for a kind's template alone: it is compared as that makes it
            found += datasets.of_rows([each], place)
    return tuple(found)
