"""The seal: a signed statement, made before a run, of what models will be held to.

A policy that is written after the numbers are known proves nothing. A seal names the policy and the suite by the digest
of their bytes, the questions and data that they lead to, and every attack with its settings; so a report can be held
against it. It shows that the holder of a key had fixed these terms. It does not show *when*: the time in it is the
signer's own word. What shows that is a copy that left the signer's hands before the run began. Nor does it name a
checkpoint, or keep its signer from making several seals and showing one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from robustness_gate import __version__
from robustness_gate.attest import (
    ASK_SIGNER,
    PrivateKey,
    PublicKey,
    open_bundle,
    read_bundle,
    read_statement,
    sign,
    statement,
)
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.files import Loaded, digest_of
from robustness_gate.nouns import Digest, Name, Noun, TaskRef, Trial, canonical
from robustness_gate.verdict import label

PREDICATE_TYPE = "urn:robustness-gate:seal:v1"

OF_ONE_RUN = ("subject", "role", "reference", "seed_index", "seed", "tasks", "data")
"""What a trial says about whom it is done to and what is asked; the rest is the attack, and is sealed."""


class SealedFile(Noun):
    """A policy or suite as it lay there."""

    id: Name
    version: str
    sha256: Digest
    """Of the file's bytes."""


class SealedAttack(Noun):
    """One attack of the suite, by everything that decides what it does."""

    label: str
    """The attack with what tells it from its siblings, for a reader."""
    version: int
    seeds: int = Field(ge=1)
    sha256: Digest
    """Of its name, version, family, settings with defaults filled in, marks, floors and dtype: see `attack_digest`."""


class Terms(Noun):
    """What was fixed: the predicate `urn:robustness-gate:seal:v1`."""

    sealed_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """The signer's own word. RFC 3339, UTC."""
    made_by: str
    """Name and version of the program that wrote it."""
    policy: SealedFile
    suite: SealedFile
    tasks: tuple[TaskRef, ...] = Field(min_length=1)
    """The questions, their order, key and form, by digest; sorted by name."""
    data: dict[str, Digest]
    """What an attacker may see: the dev items and the corpora."""
    attacks: tuple[SealedAttack, ...] = Field(min_length=1)
    """Sorted by label."""

    @field_validator("sealed_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value


@dataclass(frozen=True, slots=True)
class Seal:
    """Terms whose signature was checked."""

    terms: Terms
    key: PublicKey
    """Whose seal it is."""
    sha256: str
    """Of the signed statement: by this a report names the seal."""


def make(
    policy: Loaded[Any],
    suite: Loaded[Any],
    refs: Mapping[str, TaskRef],
    data: Mapping[str, str],
    trials: Sequence[Trial],
    at: datetime,
) -> Terms:
    """Write down the terms.

    Args:
        policy: what must hold, as it was read.
        suite: what is tried, as it was read.
        refs: the questions by digest, as `materials.gather` finds them.
        data: what an attacker may see, by digest, likewise.
        trials: as `plan.make` writes them out, for any candidate. The candidate's own are sealed; what is run beside
            them (the original, controls) follows from the policy.
        at: when it is sealed; with a time zone.

    Raises:
        SigningError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise SigningError("the time of the seal has no time zone.", remedy="Write e.g. 2026-11-21T14:00:00Z.")
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.role == "candidate":
            kinds.setdefault(attack_digest(trial), []).append(trial)
    attacks = [
        SealedAttack(
            label=label(same[0]),
            version=same[0].attack_version,
            seeds=len({trial.seed_index for trial in same}),
            sha256=digest,
        )
        for digest, same in kinds.items()
    ]
    return Terms(
        sealed_at=at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        made_by=f"robustness-gate {__version__}",
        policy=_file(policy),
        suite=_file(suite),
        tasks=tuple(refs[name] for name in sorted(refs)),
        data=dict(sorted(data.items())),
        attacks=tuple(sorted(attacks, key=lambda each: (each.label, each.sha256))),
    )


def attack_digest(trial: Trial) -> str:
    """What an attack does, in one digest, whoever is attacked and by whichever seed.

    A verifier computes it from the trials of a report, so he need not have the attacks installed.
    """
    return digest_of({key: value for key, value in trial.plain.items() if key not in OF_ONE_RUN})


def seal(terms: Terms, key: PrivateKey) -> bytes:
    """Sign the terms. The statement's subjects are the two files, so that other tools find the seal by either."""
    subjects = {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    return sign(statement(subjects, PREDICATE_TYPE, terms.plain), key)


def read_seal(path: Path, keys: Sequence[PublicKey]) -> Seal:
    """Read a seal that one of `keys` has signed.

    Raises:
        Unverified: not a bundle, not signed by one of them, changed since, or not a seal of this version.
    """
    try:
        opened = open_bundle(read_bundle(path), keys)
        stated = read_statement(opened.payload, PREDICATE_TYPE)
        terms = Terms.model_validate_json(canonical(stated.predicate))
    except Unverified as error:
        raise Unverified(error.message, remedy=error.remedy, where=error.where or str(path)) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise Unverified(f"it is no seal: {at}: {first['msg']}.", remedy=ASK_SIGNER, where=str(path)) from None
    if stated.subjects != {"policy": terms.policy.sha256, "suite": terms.suite.sha256}:
        raise Unverified("it is on other files than it speaks of.", remedy=ASK_SIGNER, where=str(path))
    return Seal(terms, opened.key, opened.sha256)


def file_differences(sealed: Terms, policy: Loaded[Any], suite: Loaded[Any]) -> tuple[str, ...]:
    """Which of the two files is not the sealed one, in words; empty where both are, byte for byte."""
    return tuple(_file_changes(sealed, _file(policy), _file(suite)))


def differences(sealed: Terms, here: Terms) -> tuple[str, ...]:
    """What the same two files lead to here and did not when they were sealed, in words; empty where all is as it was.

    When it was written, and by which release, is not compared. `here` is what `make` gives for what lies here now.
    """
    found = _file_changes(sealed, here.policy, here.suite)
    found += _changes("the questions of '{}'", _by_name(sealed.tasks), _by_name(here.tasks))
    found += _changes("the data '{}'", sealed.data, here.data)
    found += _changes("the attack {}", _by_label(sealed.attacks), _by_label(here.attacks))
    return tuple(found)


def _file_changes(sealed: Terms, policy: SealedFile, suite: SealedFile) -> list[str]:
    return [
        f"the {kind} is not the sealed one: {_named(was)} was sealed, {_named(now)} is here"
        for kind, was, now in (("policy", sealed.policy, policy), ("suite", sealed.suite, suite))
        if was != now
    ]


def _changes(what: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted({*was, *now}):
        thing = what.format(name)
        if name not in now:
            found.append(f"{thing}: sealed, and not here")
        elif name not in was:
            found.append(f"{thing}: here, and not sealed")
        elif was[name] != now[name]:
            found.append(f"{thing}: not as sealed")
    return found


def _by_name(tasks: Sequence[TaskRef]) -> dict[str, TaskRef]:
    return {task.name: task for task in tasks}


def _by_label(attacks: Sequence[SealedAttack]) -> dict[str, list[SealedAttack]]:
    found: dict[str, list[SealedAttack]] = {}
    for each in attacks:
        found.setdefault(each.label, []).append(each)
    return found


def _file(loaded: Loaded[Any]) -> SealedFile:
    return SealedFile(id=loaded.noun.id, version=loaded.noun.version, sha256=loaded.sha256)


def _named(file: SealedFile) -> str:
    return f"{file.id} {file.version} (sha256 {file.sha256[:12]})"
