"""The commits of a suite's datasets: found on the hub where they are not pinned yet, and looked up again later.

Both ask the hub. A suite in which a field is `UNPINNED` is completed as text, so that its comments stay: the commit of
a dataset is that of its branch `main` now, a count is what that commit holds. Read what you pin.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from robustness_gate.errors import FileError, UsageError
from robustness_gate.inputs import hub, unpinned
from robustness_gate.inputs.unpinned import UNPINNED
from robustness_gate.inputs.validation import Loaded, validate
from robustness_gate.inputs.yaml import Path_, Raw, parse_yaml, read_yaml, where_in
from robustness_gate.planning.corpora import whole_size
from robustness_gate.planning.task_data import whole_task
from robustness_gate.records.encode import Json
from robustness_gate.records.suite import HUB, Suite

REPOSITORY = re.compile(rf"([\w.-]+/[\w.-]+)@{UNPINNED}\b")


@dataclass(frozen=True)
class Commit:
    """A commit of a dataset that suites name, and whether the hub has it."""

    dataset: str
    commit: str
    suites: tuple[str, ...]
    """Ids of the suites that name it."""
    checked: str
    """The day on which a suite says that it was last seen, `never`, or empty."""
    fault: str
    """Why the hub does not give it; empty where it does."""


def pinned(path: Path, today: date) -> str:
    """The text of a suite with every field that was not pinned.

    Args:
        path: the suite.
        today: the day on which the commits are looked up.

    Raises:
        FileError: the suite is wrong otherwise, a field has no value that the hub could give, or the hub does not give
            a dataset.
        UsageError: every field is pinned.
        SetupError: a library is not installed.
    """
    raw = read_yaml(path)
    if not any(unpinned.fields(raw.data)):
        raise UsageError(f"{path}: every field is pinned.", remedy="Use it as it stands.")
    text = raw.text
    for name in dict.fromkeys(REPOSITORY.findall(text)):
        commit = hub.commit_of("dataset", name, "main", where=f"{path}: {name}")
        text = text.replace(f"{name}@{UNPINNED}", f"{name}@{commit}")
    return _counted(parse_yaml(text.encode(), path), today)


def with_their_commits(paths: Sequence[Path]) -> tuple[list[Loaded[Suite]], dict[str, list[str]]]:
    """Suites of which only the pinned sources are looked at, and by file the fields that are not pinned.

    Raises:
        FileError: a suite is wrong otherwise.
    """
    read, lacking = [], {}
    for path in paths:
        raw = read_yaml(path)
        places = list(unpinned.fields(raw.data))
        if places:
            lacking[str(path)] = [".".join(map(str, each)) for each in places]
        read.append(_readable(raw, places))
    return read, lacking


def commits(suites: Sequence[Loaded[Suite]]) -> Iterator[Commit]:
    """Every commit that the suites name, each once, looked up on the hub.

    Raises:
        SetupError: huggingface_hub is not installed.
    """
    named: dict[tuple[str, str], list[Suite]] = {}
    for suite in (each.record for each in suites):
        for found in filter(None, map(HUB.match, suite.refs)):
            users = named.setdefault((found["name"], found["revision"]), [])
            users += [] if suite in users else [suite]
    for (name, commit), users in sorted(named.items()):
        days = {str(day) for suite in users if (day := suite.checked.get(f"{name}@{commit}")) is not None}
        fault = ""
        try:
            if (found_here := hub.commit_of("dataset", name, commit, where=f"{name}@{commit}")) != commit:
                fault = f"the hub has {found_here} in its place"
        except FileError as error:
            fault = f"{error.message}. {error.remedy}"
        yield Commit(name, commit, tuple(suite.id for suite in users), min(days, default=""), fault)


def _counted(raw: Raw, today: date) -> str:
    """The text with days and counts; its commits are known."""
    places = list(unpinned.fields(raw.data))
    suite, values = _readable(raw, places), {}
    for at in places:
        part, name = str(at[0]), str(at[1])
        if part == "checked":
            values[at] = str(today)
        elif part == "tasks":
            values[at] = str(whole_task(suite, name))
        else:
            values[at] = str(whole_size(suite, name, suite.record.corpora[name]))
    return _written(raw, values)


def _readable(raw: Raw, places: Sequence[Path_]) -> Loaded[Suite]:
    """A suite with fields that are not pinned, in memory alone: its counts mean nothing.

    Raises:
        FileError: it is wrong otherwise, or a field is not pinned for which the hub has no value.
    """
    data: Json = copy.deepcopy(raw.data)
    for at in places:
        inside = data
        for key in at[:-1]:
            inside = inside[key]
        match at:
            case ("checked", _):
                del inside[at[-1]]
            case ("tasks" | "corpora", _, "count"):
                inside[at[-1]] = 1
            case _:
                if f"@{UNPINNED}" in inside[at[-1]]:  # a commit, which the hub knows
                    continue
                raise FileError(
                    f"{'.'.join(map(str, at))}: the hub has no value for this field.",
                    remedy=f"Write the value; only commits, counts and days of 'checked' can be {UNPINNED}.",
                    where=where_in(raw.places, at),
                    code="unpinned",
                )
    return validate(replace(raw, data=data), Suite)


def _written(raw: Raw, values: Mapping[Path_, str]) -> str:
    """The text with each value in place of the first such word after its key, from the end on."""
    text, starts = raw.text, [0]
    for line in raw.text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for at in sorted(values, key=lambda each: raw.places[each][1:], reverse=True):
        spot = raw.places[at]
        start = starts[spot[1] - 1] + spot[2] - 1
        text = text[:start] + text[start:].replace(UNPINNED, values[at], 1)
    return text
