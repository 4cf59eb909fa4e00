"""What is done to a model: one file an attack. The folder is the registry.

An attack is a module with

- a docstring: what the attacker does, threat model, what success means and does not mean, sources, departures, cost
  (`robustness_gate.laws` says which words it must have);
- `Config`, a frozen dataclass that can be read without torch; its field `marks`, if any, is the ladder of budgets;
- `FAMILY`, `ACCESS`, `VERSION`; `SHAM`, a Config of strength zero; `FLOORS`, what must show that it really happened;
- `attack(target, config, seed)`, a generator that yields one `Recovery` a mark while its `with` scopes are open; what
  it has `spent` holds `examples`, and no number there falls;
- `SPEAKS`, the kinds of hazard task in whose form it can be made, and where that is not all, `WHY_NOT`; it trains, aims
  and chooses in every form in `target.hazards` and in no other (`engine.examples.ways` puts a corpus's questions so);
- `questions(config)`, whose questions it puts to the model: names of corpora, and `dev` if it chooses on dev items;
- `SHOWS`, how: `solved`, `closed` (by the model's own answer), `asked`, `bare` (words alone), or `dev`, none but those;
- optionally `cannot(config, kind)`, which says why it cannot be made in a form with these settings, or nothing;
- optionally `NEEDS`, of "blocks" (its blocks must be understood) and "original", so that `plan` can foresee trouble;
- optionally `USES`, of "original": what it looks at where there is one, and can do without;
- optionally `MEANS`, of "original": what its attacker must hold himself, so that a policy whose threat model does not
  give it to him cannot require the attack (`NEEDS` is what the run needs, also for comparison alone);
- `Config` calls its data `source`, `train_on`, `utility` or `calibrate_on`: a sham takes these from the suite's config;
- optionally `reach(model, config)`, of an attack that changes weights: the full names of the blocks' matrices that this
  config sets out to change (`doctor` tells their share; what was changed stands in the signs `share_touched` and
  `share_of_asked`, see `robustness_gate.engine.matrices`);
- optionally `refuse(config, pool)`, which says why it cannot run on the given data, or nothing.

Adding one is writing one file here, one in `tests/contract/attacks` with rows of small settings, and one row in
`tests/contract/formlaws.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
import typing
from collections.abc import Hashable, Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any, NoReturn

from pydantic import ConfigDict, TypeAdapter, ValidationError

from robustness_gate.errors import PlanError
from robustness_gate.files import nearest
from robustness_gate.nouns import HAZARD_KINDS, Json, canonical

WHICH_DATA = ("source", "train_on", "utility", "calibrate_on")
"""Settings that say which of the suite's data an attack uses: a sham takes them over, because others may be missing."""


def names() -> tuple[str, ...]:
    """Every attack in the folder, sorted, none imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


PARTS = ("Config", "FAMILY", "ACCESS", "VERSION", "SHAM", "FLOORS", "SPEAKS", "SHOWS", "questions", "attack")
"""What every attack's file has. The rest is optional, and its absence says no."""


def load(name: str, *, where: str = "") -> ModuleType:
    """Import one attack (without torch). Raises PlanError for one that is not there, or of which something is missing.

    The nearest name is told. An attack that is there by half would be judged by what it does not say.
    """
    if name not in names():
        raise PlanError(
            f"there is no attack '{name}'.", remedy=nearest(name, names()), where=where, code="unknown-attack"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    lacks = [part for part in PARTS if not hasattr(module, part)]
    if not set(HAZARD_KINDS) <= set(getattr(module, "SPEAKS", ())) and not hasattr(module, "WHY_NOT"):
        lacks.append("WHY_NOT")
    if lacks:
        raise PlanError(
            f"the attack '{name}' is there in part alone: its file lacks {', '.join(lacks)}.",
            remedy="Nothing is guessed in its place: write them, or take the attack out.",
            where=where,
            code="unknown-attack",
        )
    return module


def said(module: ModuleType, word: str) -> str:
    """The sentence of an attack's docstring that begins with `Cost:` or `Source:` (also `Sources:`), in one line."""
    paragraphs = re.split(rf"^{word}s?:", module.__doc__ or "", maxsplit=1, flags=re.MULTILINE)
    if len(paragraphs) < 2:
        return ""
    text = re.split(r"\n\n|^[A-Z][a-z]+(?: [a-z]+)?:", paragraphs[1], maxsplit=1, flags=re.MULTILINE)[0]
    return " ".join(text.split())


class BadConfig(Exception):
    """A config's key is unknown or its value does not fit. `key` is None for a contradiction between keys."""

    def __init__(self, key: str | None, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.key, self.message, self.remedy = key, message, remedy


def configure(module: ModuleType, given: Mapping[str, Json]) -> Any:
    """A module's Config with the given values, strictly typed. Raises BadConfig."""
    kind = module.Config
    known = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for key, value in given.items():
        if key not in known:
            raise BadConfig(key, f"unknown setting '{key}'.", nearest(key, known) if known else "It has no settings.")
        try:
            values[key] = _reader(kind, key).validate_json(canonical(value))
        except ValidationError as error:
            _refuse_value(key, value, error)
    try:
        return kind(**values)
    except ValueError as error:  # a Config refuses contradictions in __post_init__ with a sentence
        raise BadConfig(None, str(error)) from None


@lru_cache(maxsize=1024)
def _reader(kind: Hashable, key: str) -> TypeAdapter[Any]:
    """What reads a setting of a Config; made once and for those alone that are given, since it takes a millisecond."""
    return TypeAdapter(_hints(kind)[key], config=ConfigDict(strict=True, allow_inf_nan=False))


@lru_cache(maxsize=256)
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def as_json(config: Any) -> dict[str, Json]:
    """Every field of a Config as plain data, defaults included."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(config).items()}


def marks(config: Any) -> tuple[int, ...]:
    """The budget marks of a Config; an attack without a budget has the one mark 0."""
    return tuple(getattr(config, "marks", (0,)))


def _refuse_value(key: str, value: Json, error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False)[0]
    expected = first.get("ctx", {}).get("expected")
    message = f"must be {expected}" if expected else str(first["msg"])[:1].lower() + str(first["msg"])[1:]
    raise BadConfig(key, f"{message}, found {str(value)[:60]!r}") from None
