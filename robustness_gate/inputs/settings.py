"""Settings of an attack or of a task kind: a frozen dataclass, filled in from a suite's values, strictly typed."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any, NoReturn

from pydantic import ConfigDict, TypeAdapter, ValidationError

from robustness_gate.records.encode import Json, encode
from robustness_gate.system.sentences import nearest


class BadConfig(Exception):
    """A config's key is unknown or its value is invalid. `key` is None for a contradiction between keys."""

    def __init__(self, key: str | None, message: str, remedy: str = "", *, code: str = "bad-setting") -> None:
        super().__init__(message)
        self.key, self.message, self.remedy, self.code = key, message, remedy, code


def of(kind: Any, given: Mapping[str, Json]) -> Any:
    """A dataclass of settings with the given values, strictly typed. Raises BadConfig."""
    known = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for key, value in given.items():
        if key not in known:
            remedy = nearest(key, known) if known else "It has no settings."
            raise BadConfig(key, f"unknown setting '{key}'.", remedy, code="unknown-setting")
        try:
            values[key] = _reader(kind, key).validate_json(encode(value))
        except ValidationError as error:
            _refuse_value(key, value, error)
    try:
        return kind(**values)
    except ValueError as error:  # a Config's __post_init__ raises a sentence for contradictions
        raise BadConfig(None, str(error)) from None


@lru_cache(maxsize=1024)
def _reader(kind: Hashable, key: str) -> TypeAdapter[Any]:
    """The validator of a setting of a Config; made once and on demand, since it takes a millisecond."""
    return TypeAdapter(_hints(kind)[key], config=ConfigDict(strict=True, allow_inf_nan=False))


@lru_cache(maxsize=256)
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _refuse_value(key: str, value: Json, error: ValidationError) -> NoReturn:
    first = error.errors(include_url=False)[0]
    expected = first.get("ctx", {}).get("expected")
    message = f"must be {expected}" if expected else str(first["msg"])[:1].lower() + str(first["msg"])[1:]
    raise BadConfig(key, f"{message}, found {str(value)[:60]!r}") from None
