"""The base class of every record, and the types of values that many records share.

A record is *written to disk* (policy, suite, trial, measurement, report): a strict, frozen pydantic model that refuses
unknown keys, NaN and silent conversions, and is identified by its digest. What exists only *while a model is loaded*
(question, form, attacked model, target) is a plain frozen dataclass.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from robustness_gate.records import codes
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json, digest_of, encode, plain

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hexadecimal SHA-256."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=80)]
Distribution = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
"""A plug-in's distribution name, normalised as package indexes do: lower case, single hyphens."""
Registered = Annotated[str, Field(pattern=r"^([a-z0-9]+(-[a-z0-9]+)*/)?[A-Za-z][A-Za-z0-9_.-]*$", max_length=160)]
"""Name of an attack or of a task kind: ours has a bare name, a plug-in's is `distribution/name`."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Difference = Annotated[float, Field(ge=-1.0, le=1.0)]
Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""Name of a metric, as a task kind declares it (`questions.Kind`). `verdict.metrics` describes ours."""
Format = Literal["raw", "chat"]


KEPT = "_digest"
"""Where a record keeps its digest. No field: pydantic leaves out what begins with an underscore."""


class Record(BaseModel):
    """A record that is written to disk: strict, frozen, without unknown keys and without NaN."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # a command builds only the schemas that it uses
    )

    @property
    def plain(self) -> dict[str, Json]:
        """The record as plain data: `records.encode.plain`."""
        return plain(self)

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical bytes, which is also the digest of its file.

        Computed once: a ledger of ten thousand trials is asked for their digests again and again. A copy may have other
        values, and what comes from another process is not believed, so neither takes it over.
        """
        found = self.__dict__.get(KEPT)
        if found is None:
            found = self.__dict__[KEPT] = digest_of(self)
        return str(found)

    @property
    def canonical(self) -> bytes:
        """Its canonical bytes, the content of its file. Their digest is kept, so that a large one is encoded once."""
        raw = encode(self)
        self.__dict__[KEPT] = hashlib.sha256(raw).hexdigest()
        return raw

    def __copy__(self) -> Self:
        return _without_digest(super().__copy__())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return _without_digest(super().__deepcopy__(memo))

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        _without_digest(self)


R = TypeVar("R", bound=Record)


def _without_digest(record: R) -> R:
    record.__dict__.pop(KEPT, None)
    return record


class Coded(Record):
    """A code with its arguments. `codes` has the tables, `verdict.wording` the sentences."""

    code: str
    args: dict[str, Json] = Field(default={})

    def __getitem__(self, name: str) -> Json:
        """The value of an argument."""
        return self.args[name]

    def __hash__(self) -> int:
        """Equal records have equal hashes, independent of the order of their arguments."""
        return hash((self.code, encode(self.args)))

    @property
    def key(self) -> tuple[str, str]:
        """The sort key: code, then arguments."""
        return self.code, encode(self.args).decode()

    @classmethod
    def table(cls) -> codes.Table:
        """Every code that such a record can have, with its arguments."""
        raise NotImplementedError  # abstract: every subclass names its own table

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        """Raises ValueError for an unknown code and for arguments that the code does not have."""
        wanted = self.table().get(self.code)
        if wanted is None:
            raise ValueError(f"this release does not know the code '{self.code[:80]}'")
        if self.args.keys() != wanted.keys():
            raise ValueError(f"'{self.code}' has the arguments {', '.join(wanted) or 'none'}")
        for name, kinds in wanted.items():
            allowed = kinds if isinstance(kinds, tuple) else (kinds,)
            value = self.args[name]
            whole = type(value) is int and float in allowed
            strings = not isinstance(value, list) or all(isinstance(each, str) for each in value)
            member = any(issubclass(kind, StrEnum) and value in [*kind] for kind in allowed)
            if not (type(value) in allowed or whole or member) or not strings:
                raise ValueError(f"'{name}' of '{self.code}' cannot be {str(value)[:80]!r}")
            if whole:  # canonical JSON writes 1.0 as 1
                self.args[name] = float(value)
        return self


Dtype = Literal["float32", "bfloat16", "float16"]
"""The precision in which a model computes."""


class Plugin(Record):
    """Third-party code that took part: an installed distribution, identified by the content of its files."""

    distribution: Distribution
    version: str = Field(max_length=80)
    sha256: Digest
    """Digest of the files that its RECORD lists, computed from the installed files: see `inputs.plugins`."""
    pinned: bool
    """Whether the imported code is among these files. In an editable install it is not."""
