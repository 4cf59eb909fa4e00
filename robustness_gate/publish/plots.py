"""Plots as numbers: the position of each row, point and label of the page's drawings.

The input is shares and texts, the output coordinates for the template: in units of the SVG's viewBox, to the right and
down from its upper left corner. This module does not know the meaning of the shares and texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal, NamedTuple

from robustness_gate.publish import spelling

# Outlines around the origin: what a colour says, a shape says too.
SHAPES = {
    "OVER": "M0-7.5 7.5 5.5H-7.5Z",
    "open": "M0-7.5 7.5 0 0 7.5-7.5 0Z",
    "not counted": "M-6-6 6 6M-6 6 6-6",
    "not valid": "M-6-6H6V6H-6Z",
    "within": "M-6.5 0a6.5 6.5 0 1 0 13 0a6.5 6.5 0 1 0-13 0Z",
}


class Frame(NamedTuple):
    """One width of a plot. The page has two, because text that is scaled with a picture cannot be read."""

    name: Literal["wide", "narrow"]
    width: float
    left: float
    right: float
    row: float
    """Height of a row of the first plot."""
    tall: float
    """Height of the second plot's field."""
    letters: int
    """Room for a row's name, in letters; the narrow frame has `where` in the same line."""


FRAMES = (
    Frame("wide", 960, 244, 816, 38, 380, 29),
    Frame("narrow", 360, 14, 338, 56, 300, 40),
)


class Span(NamedTuple):
    """A share from 0 to 1, or a difference of two, with the ends of its interval."""

    at: float
    low: float
    high: float


# --- the first plot: a row for each accuracy -------------------------------------------------------------------------


class Entry(NamedTuple):
    """What a row shows."""

    number: int
    """Its name in table and plots."""
    name: str
    where: str
    span: Span
    other: float | None
    """A second share, drawn as a ring."""
    word: str
    """A key of SHAPES."""


class Absence(NamedTuple):
    """What an empty row stands for."""

    name: str
    why: str
    state: str


class Reference(NamedTuple):
    """A line with which all rows are compared."""

    kind: Literal["limit", "chance", "before", "original", "control"]
    """Its CSS class."""
    name: str
    span: Span


class Track(NamedTuple):
    """An entry in its place."""

    entry: Entry
    y: float
    x: float
    low: float
    high: float
    other: float | None
    """Where the ring stands."""
    name: str
    """As much of the entry's as there is room for."""


class Gap(NamedTuple):
    """An empty row: an absent trial takes as much room as one that was run."""

    y: float
    name: str
    why: str
    state: str


class Flag(NamedTuple):
    """A reference line with its label, kept clear of the other labels."""

    kind: str
    x: float
    low: float
    high: float
    label: str
    text_x: float
    text_y: float
    anchor: str


class Forest(NamedTuple):
    """Rows under one another from `top` to `bottom`, shares to the right, reference lines through all of them."""

    frame: Frame
    height: float
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    limit: float
    flags: tuple[Flag, ...]
    tracks: tuple[Track, ...]
    gaps: tuple[Gap, ...]


def forest(
    frame: Frame, entries: Sequence[Entry], absences: Sequence[Absence], references: Sequence[Reference], limit: float
) -> Forest:
    """Entries in their order, absences under them, a line at each reference (one or more).

    `limit` is the share from which the template shades the rows, to their right end.
    """

    def x(share: float) -> float:
        return frame.left + share * (frame.right - frame.left)

    flags, lanes = _flags(frame, references, x)
    top = 10.0 + 17 * lanes
    bottom = top + frame.row * (len(entries) + len(absences))
    tracks = tuple(
        Track(
            entry=entry,
            y=top + frame.row * index,
            x=x(entry.span.at),
            low=x(entry.span.low),
            high=x(entry.span.high),
            other=None if entry.other is None else x(entry.other),
            name=_cut(entry.name, frame.letters - (len(entry.where) if frame.name == "narrow" else 0)),
        )
        for index, entry in enumerate(entries)
    )
    gaps = tuple(
        Gap(top + frame.row * index, _cut(each.name, frame.letters), _cut(each.why, frame.letters), each.state)
        for index, each in enumerate(absences, start=len(entries))
    )
    return Forest(frame, bottom + 30, top, bottom, _ticks(frame, x), x(limit), flags, tracks, gaps)


def _flags(frame: Frame, references: Sequence[Reference], x: Callable[[float], float]) -> tuple[tuple[Flag, ...], int]:
    """Labels of the reference lines, from left to right, each in a lane under all labels that its line would cut."""
    taken: list[tuple[float, float, int]] = []
    found = []
    for each in sorted(references, key=lambda each: (each.span.at, each.kind, each.name)):
        label = f"{each.name} {spelling.share(each.span.at)}"
        at, width = x(each.span.at), 7.2 * len(label)
        flip = at + 5 + width > frame.width - 4
        begin, end = (at - 5 - width, at) if flip else (at, at + 5 + width)
        lane = max((1 + own for low, high, own in taken if low < end + 6 and begin < high + 6), default=0)
        taken.append((begin, end, lane))
        found.append((each, at, label, flip, lane))
    flags = tuple(
        Flag(
            kind=each.kind,
            x=at,
            low=x(each.span.low),
            high=x(each.span.high),
            label=label,
            text_x=at - 5 if flip else at + 5,
            text_y=16.0 + 17 * lane,
            anchor="end" if flip else "start",
        )
        for each, at, label, flip, lane in found
    )
    return flags, 1 + max(lane for *_, lane in found)


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _ticks(frame: Frame, place: Callable[[float], float]) -> tuple[tuple[float, str], ...]:
    """Where the whole steps from 0 to 100 % stand on an axis, with what is written there."""
    step = 20 if frame.name == "wide" else 25
    return tuple((place(at / 100), spelling.share(at / 100)) for at in range(0, 101, step))


# --- the second plot: one accuracy against another -------------------------------------------------------------------


class Point(NamedTuple):
    """What a point shows."""

    label: str
    """The text next to it."""
    key: str
    """What the label means."""
    state: str
    """A key of SHAPES; empty for a reference."""
    across: float
    """The share to the right."""
    up: float
    """The share upwards."""
    text: str


class Dot(NamedTuple):
    """A point in its place, with the middle of its label."""

    point: Point
    x: float
    y: float
    text_x: float
    text_y: float


class Field(NamedTuple):
    """Points in a box, with a key to their labels next to it or below it."""

    frame: Frame
    height: float
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    limit: float
    floor: float | None
    dots: tuple[Dot, ...]
    key_x: float
    key_y: float


def field(frame: Frame, points: Sequence[Point], limit: float, floor: float | None) -> Field:
    """Points, with a line at the share `limit` upwards and, where there is one, at the share `floor` to the right."""
    wide = frame.name == "wide"
    left, right, top = (52.0, 592.0, 30.0) if wide else (44.0, 350.0, 30.0)
    bottom = top + frame.tall
    air = 14.0  # a point at 100 % lies inside the field, with room for its number

    def x(share: float) -> float:
        return left + air + share * (right - left - 2 * air)

    def y(share: float) -> float:
        return bottom - air - share * (bottom - top - 2 * air)

    places = [(x(point.across), y(point.up)) for point in points]
    spots = _spots([point.label for point in points], places, (left, right, top, bottom))
    key_x, key_y = (636.0, top + 6) if wide else (4.0, bottom + 66)
    return Field(
        frame=frame,
        height=max(bottom + 46, key_y + 21 * len(points)) if wide else key_y + 21 * len(points),
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        across=_ticks(frame, x),
        up=_ticks(frame, y),
        limit=y(limit),
        floor=None if floor is None else x(floor),
        dots=tuple(Dot(point, *place, *spot) for point, place, spot in zip(points, places, spots, strict=True)),
        key_x=key_x,
        key_y=key_y,
    )


def _spots(
    labels: Sequence[str], dots: Sequence[tuple[float, float]], box: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """A place for each label (its middle), near its dot, off every dot and every other label, inside the box."""
    left, right, top, bottom = box
    taken: list[tuple[float, float, float]] = [(at, up, 8.0) for at, up in dots]
    found = []
    for label, (at, up) in zip(labels, dots, strict=True):
        half = 2.5 + 3.4 * len(label)
        spot = (at, up)
        for far, turn in product((0.0, 8.0, 18.0, 30.0, 44.0), range(16)):
            angle = math.pi * turn / 8
            where = (at - (8 + half + far) * math.cos(angle), up - (17 + far) * math.sin(angle))
            inside = left + half < where[0] < right - half and top + 8 < where[1] < bottom - 8
            if inside and all(abs(where[0] - x) > half + w or abs(where[1] - y) > 16 for x, y, w in taken):
                spot = where
                break
        taken.append((*spot, half))
        found.append(spot)
    return found


# --- the small drawings: a difference in a row of a table ------------------------------------------------------------


class Beside(NamedTuple):
    """A difference with the ends of its interval, its limit, and where zero is: all to the right."""

    low: float
    at: float
    high: float
    limit: float
    zero: float


BESIDE = (200.0, 22.0)
"""Width and height of that drawing."""


def beside(differences: Sequence[tuple[Span, float]]) -> list[Beside]:
    """Differences, each with its limit, on one scale: from the lowest end to the highest, in whole tens of points."""
    ends = [end for span, limit in differences for end in (span.low, span.high, limit)]
    least, most = math.floor(10 * min((0.0, *ends))) / 10, math.ceil(10 * max((0.1, *ends))) / 10

    def x(difference: float) -> float:
        return 8 + (difference - least) / (most - least) * (BESIDE[0] - 16)

    return [Beside(x(span.low), x(span.at), x(span.high), x(limit), x(0)) for span, limit in differences]
