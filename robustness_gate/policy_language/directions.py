"""Rules of the difference between two policies: from two values to a direction, with words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, Literal

from robustness_gate.records.base import Record
from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Selector

Direction = Literal["looser", "tighter", "differs"]
Rule = Callable[[Any, Any], "tuple[Direction, str]"]
"""From two different values to a direction and a description."""


def smaller(old: Any, new: Any) -> tuple[Direction, str]:
    """Smaller is tighter; without a value there is no bound."""
    if old is None or new is None:
        return pinned(old, new)
    return ("tighter" if new < old else "looser"), _moves(old, new)


def larger(old: Any, new: Any) -> tuple[Direction, str]:
    """Larger is tighter."""
    if old is None or new is None:
        return pinned(old, new)
    return ("tighter" if new > old else "looser"), _moves(old, new)


def fixed(old: Any, new: Any) -> tuple[Direction, str]:
    """A value is tighter than none; another value is another claim, and counts as looser."""
    return pinned(old, new)


def another(old: Any, new: Any) -> tuple[Direction, str]:
    """Another claim: its direction is not known, so it counts as looser."""
    return "looser", becomes(old, new)


def says(old: Any, new: Any) -> tuple[Direction, str]:
    """A text for people, or a name: neither looser nor tighter."""
    return "differs", becomes(old, new)


def more(old: Iterable[Any], new: Iterable[Any]) -> tuple[Direction, str]:
    """A list in which more entries are tighter."""
    before, after = set(old), set(new)
    return ("tighter" if before < after else "looser"), _gains(before, after)


def fewer(old: Iterable[Any], new: Iterable[Any]) -> tuple[Direction, str]:
    """A list in which fewer entries are tighter."""
    before, after = set(old), set(new)
    return ("tighter" if after < before else "looser"), _gains(before, after)


def rising(*order: Json) -> Rule:
    """One of a few values, ordered from the loosest to the strictest."""

    def rule(old: Any, new: Any) -> tuple[Direction, str]:
        up = old in order and new in order and order.index(new) > order.index(old)
        return ("tighter" if up else "looser"), becomes(old, new)

    return rule


def budgets(old: tuple[int, ...], new: tuple[int, ...]) -> tuple[Direction, str]:
    """More budgets are tighter; an empty list means the attack's only budget, which is another requirement."""
    if not old or not new:
        return "looser", becomes(list(old), list(new))
    return more(old, new)


def explained(old: dict[str, str], new: dict[str, str]) -> tuple[Direction, str]:
    """Explaining away one more method is looser; another reason for the same ones is neither."""
    if set(old) == set(new):
        return "differs", "gives other reasons"
    return ("tighter" if set(new) < set(old) else "looser"), _gains(set(old), set(new))


def attacks(old: tuple[Selector, ...], new: tuple[Selector, ...]) -> tuple[Direction, str]:
    """A limit on more attacks is tighter; a limit that names none is on all."""

    def within(selector: Selector, others: Iterable[Selector]) -> bool:
        return any(each.attack == selector.attack and each.where.items() <= selector.where.items() for each in others)

    wider = not new or (bool(old) and all(within(selector, new) for selector in old))
    words = " and ".join(", ".join(map(str, each)) or "everything that is required" for each in (old, new))
    return ("tighter" if wider else "looser"), f"was on {words.replace(' and ', ', is on ', 1)}"


def pinned(old: Any, new: Any) -> tuple[Direction, str]:
    """Looser where it is no longer stated, or another one."""
    if old is None:
        return "tighter", f"is now said: {shown(new)}"
    if new is None:
        return "looser", f"is no longer said; it was {shown(old)}"
    return "looser", becomes(old, new)


def _moves(old: Any, new: Any) -> str:
    later = isinstance(new, date)
    up, down = ("moves", "moves") if later else ("rises", "falls")
    return f"{up if new > old else down} from {shown(old)} to {shown(new)}"


def becomes(old: Any, new: Any) -> str:
    """`was 1, is 2`."""
    return f"was {shown(old)}, is {shown(new)}"


def _gains(before: set[Any], after: set[Any]) -> str:
    parts = [f"{word} {', '.join(sorted(map(shown, each)))}" for word, each in (
        ("gains", after - before), ("loses", before - after),
    ) if each]  # fmt: skip
    return " and ".join(parts) or "is in another order"


def shown(value: Any) -> str:
    """A value in a line, at most 70 characters of it."""
    if value is None:
        return "not said"
    if isinstance(value, Record):
        inside = {name: each for name, each in value if each not in (None, (), {})}
        return ", ".join(f"{name} {shown(each)}" for name, each in inside.items())
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    text = f"{value:g}" if isinstance(value, float) else f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 70 else f"{text[:67]}..."
