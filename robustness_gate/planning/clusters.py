"""The ids and clusters that a suite gives to a task's items: an id once, and a cluster for every item or for none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustness_gate import tasks
from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.digest import opened, unreadable
from robustness_gate.inputs.items import json_lines
from robustness_gate.inputs.rows import label
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.sources import locate
from robustness_gate.records.questions import Item
from robustness_gate.records.suite import Suite
from robustness_gate.system import utf8

SHAPE = 'Write one {"id": ..., "cluster": ...} a line, or a CSV file with the columns id and cluster.'


def of_items(suite: Loaded[Suite], name: str, given: tasks.Declared, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """A task's items with their clusters, after a check that the suite's ids are distinct.

    Raises:
        FileError: a row without a value in a named column, or a map that cannot be read.
        PlanError: an id that stands twice, an item without a cluster, or rows that are not the items one by one.
    """
    task = given.task
    if task.id is not None:
        _refuse_repeated_ids(suite, name, _rows(suite, name, given, items, "id"))
    if task.clusters is None:
        return items
    if task.clusters.every is not None:
        found = _in_blocks(suite, name, task.clusters.every, len(items))
    elif task.clusters.column is not None:
        rows = _rows(suite, name, given, items, "clusters")
        found = [label(row, task.clusters.column, where) for where, row in rows]
    else:
        found = _mapped(suite, name, str(task.clusters.map), items)
    return tuple(replace(item, cluster=each) for item, each in zip(items, found, strict=True))


def _rows(
    suite: Loaded[Suite], name: str, given: tasks.Declared, items: Sequence[Item], key: str
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The rows of the items, one each."""
    rows = tuple(datasets.read_rows(given.place))
    if len(rows) != len(items):
        raise PlanError(
            f"the kind '{given.task.kind}' makes {len(items)} items of {len(rows)} rows, so a column of the rows does "
            "not say anything about the items.",
            remedy="Take the key out, let the kind make one item of each row, or name a map of clusters by id.",
            where=suite.where("tasks", name, key),
            code="bad-ids" if key == "id" else "bad-clusters",
        )
    return rows


def _refuse_repeated_ids(suite: Loaded[Suite], name: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    seen = dict[str, str]()
    for where, row in rows:
        if (id_ := str(row["id"])) in seen:
            raise PlanError(
                f"the id '{id_[:60]}' stands twice: {seen[id_]} and {where}.",
                remedy="Name a column in which each question has a value of its own, or leave 'id' out.",
                where=suite.where("tasks", name, "id"),
                code="bad-ids",
            )
        seen[id_] = where


def _in_blocks(suite: Loaded[Suite], name: str, every: int, many: int) -> list[str]:
    """A cluster for each block of rows, by number from 0."""
    if many % every:
        raise PlanError(
            f"{many} items are no multiple of {every}, so the blocks are not whole.",
            remedy="Name the size of the blocks in the source, or clusters by a column or map.",
            where=suite.where("tasks", name, "clusters", "every"),
            code="bad-clusters",
        )
    return [f"block-{number // every}" for number in range(many)]


def _mapped(suite: Loaded[Suite], name: str, file: str, items: Sequence[Item]) -> list[str]:
    """Each item's cluster from a map beside the suite."""
    at = ("tasks", name, "clusters", "map")
    path = locate(file, suite, *at)
    if isinstance(path, str) or not path.is_file():
        raise PlanError(
            "a map of clusters is a file, not a dataset or a folder.",
            remedy=SHAPE,
            where=suite.where(*at),
            code="missing-file",
        )
    found = _read(path)
    lacking = [item.question.id for item in items if item.question.id not in found]
    if lacking:
        raise PlanError(
            f"{len(lacking)} of the {len(items)} items have no cluster in '{path.name}', first '{lacking[0][:60]}'.",
            remedy="Give every item its cluster: an item that depends on no other has its own id there.",
            where=suite.where(*at),
            code="bad-clusters",
        )
    return [found[item.question.id] for item in items]


def _read(path: Path) -> dict[str, str]:
    """The map of a file: id to cluster. Raises FileError with file:line."""
    found = dict[str, str]()
    for where, row in _lines(path):
        id_, cluster = label(row, "id", where), label(row, "cluster", where)
        if id_ in found:
            raise FileError(f"the id '{id_[:60]}' stands twice.", remedy=SHAPE, where=where, code="bad-item")
        found[id_] = cluster
    if not found:
        raise FileError("holds no clusters.", remedy=SHAPE, where=str(path), code="bad-item")
    return found


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix != ".csv":
        yield from ((f"{path}:{line}", row) for line, row in json_lines(path))
        return
    try:
        with opened(path) as file:
            raw = file.read()
    except OSError as error:
        raise unreadable(path, error) from None
    if fault := utf8.fault(raw):
        raise FileError(fault.words, remedy=fault.remedy, where=str(path), code="not-utf8")
    reader = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row or None in row.values():
            raise FileError(
                "has another number of fields than its first line.", remedy=SHAPE, where=where, code="bad-item"
            )
        yield where, row
