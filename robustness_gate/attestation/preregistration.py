"""The preregistration: a signed statement, made before a run, of the terms of the examination.

A policy that is written after the numbers are known proves nothing. A preregistration names the policy and the suite by
the digest of their bytes, their questions and data, and every attack with its settings; so a report can be compared
with it. It shows that the holder of a key fixed these terms. It does not show *when*: the time in it is only stated by
the signer. A copy published before the run shows that. It does not name a checkpoint, and it does not prevent a signer
from making several preregistrations and showing one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator

from robustness_gate import __version__
from robustness_gate.attestation.dsse import open_bundle, read_bundle, sign
from robustness_gate.attestation.keys import PrivateKey, PublicKey
from robustness_gate.attestation.statement import Statement, read_statement, statement
from robustness_gate.attestation.strict import ASK_SIGNER
from robustness_gate.errors import SigningError, Unverified
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.base import Digest, Name, Record
from robustness_gate.records.encode import digest_of
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Role, Trial
from robustness_gate.report.record import PreregisteredBefore
from robustness_gate.verdict import label

PREDICATE_TYPE = "urn:robustness-gate:preregistration:v1"

OF_ONE_RUN = ("subject", "role", "control", "reference", "seed_index", "seed", "tasks", "data")
"""A trial's fields about the model and the questions; the other fields describe the attack and are preregistered."""


class PreregisteredFile(Record):
    """A policy or suite file."""

    id: Name
    version: str
    sha256: Digest
    """Digest of the file's bytes."""


class PreregisteredAttack(Record):
    """One attack of the suite, with everything that determines it."""

    label: str
    """The attack with the settings that distinguish it from the suite's other entries, for a reader."""
    version: int
    seeds: int = Field(ge=1)
    sha256: Digest
    """Digest of its name, version, family, settings with defaults filled in, budgets, floors and dtype: see
    `attack_digest`."""


class Terms(Record):
    """The fixed terms: the predicate `urn:robustness-gate:preregistration:v1`."""

    preregistered_at: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """The time that the signer states. RFC 3339, UTC."""
    made_by: str
    """Name and version of the program that wrote it."""
    policy: PreregisteredFile
    suite: PreregisteredFile
    tasks: tuple[TaskRef, ...] = Field(min_length=1)
    """The questions, their order, key and form, by digest; sorted by name."""
    data: dict[str, Digest]
    """The attacker's data: the dev items and the corpora."""
    attacks: tuple[PreregisteredAttack, ...] = Field(min_length=1)
    """Sorted by label."""

    @field_validator("preregistered_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value


@dataclass(frozen=True, slots=True)
class Preregistration:
    """Terms whose signature was checked."""

    terms: Terms
    key: PublicKey
    """The owner of the key."""
    sha256: str
    """Digest of the signed statement; a report names the preregistration by it."""


def make(
    policy: Loaded[Any],
    suite: Loaded[Any],
    refs: Mapping[str, TaskRef],
    data: Mapping[str, str],
    trials: Sequence[Trial],
    at: datetime,
) -> Terms:
    """Make the terms.

    Args:
        policy: the policy as read from its file.
        suite: the suite as read from its file.
        refs: the questions by digest, from `suite_data.gather`.
        data: the attacker's data by digest, from `suite_data.gather`.
        trials: from `plan.make`, for any candidate. The candidate's own are preregistered; the trials of the original
        and the controls follow from the policy.
        at: the time of the preregistration, with a time zone.

    Raises:
        SigningError: `at` has no time zone.
    """
    if at.tzinfo is None:
        raise SigningError(
            "the time of the preregistration has no time zone.", remedy="Write e.g. 2026-11-21T14:00:00Z."
        )
    kinds: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.role == Role.CANDIDATE:
            kinds.setdefault(attack_digest(trial), []).append(trial)
    attacks = [
        PreregisteredAttack(
            label=label(same[0]),
            version=same[0].attack_version,
            seeds=len({trial.seed_index for trial in same}),
            sha256=digest,
        )
        for digest, same in kinds.items()
    ]
    return Terms(
        preregistered_at=at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        made_by=f"robustness-gate {__version__}",
        policy=_file(policy),
        suite=_file(suite),
        tasks=tuple(refs[name] for name in sorted(refs)),
        data=dict(sorted(data.items())),
        attacks=tuple(sorted(attacks, key=lambda each: (each.label, each.sha256))),
    )


def attack_digest(trial: Trial) -> str:
    """One digest of an attack, independent of the model and the seed.

    A verifier computes it from the trials of a report and need not have the attacks installed.
    """
    return digest_of({key: value for key, value in trial.plain.items() if key not in OF_ONE_RUN})


def sign_preregistration(terms: Terms, key: PrivateKey) -> bytes:
    """Sign the terms. The statement's subjects are the two files, so other tools find the preregistration by either."""
    subjects = {"policy": terms.policy.sha256, "suite": terms.suite.sha256}
    return sign(statement(subjects, PREDICATE_TYPE, terms), key)


def read_preregistration(path: Path, keys: Sequence[PublicKey]) -> Preregistration:
    """Read a preregistration that one of `keys` has signed.

    Raises:
        Unverified: not a bundle, not signed by one of them, changed since, or not a preregistration of this version.
    """
    try:
        opened = open_bundle(read_bundle(path), keys)
        stated = read_statement(opened.payload, PREDICATE_TYPE, Statement[Terms])
    except Unverified as error:
        raise Unverified(error.message, remedy=error.remedy, where=error.where or str(path), code=error.code) from None
    terms = stated.predicate
    if stated.subjects != {"policy": terms.policy.sha256, "suite": terms.suite.sha256}:
        raise Unverified(
            "it is on other files than it speaks of.", remedy=ASK_SIGNER, where=str(path), code="other-subject"
        )
    return Preregistration(terms, opened.key, opened.sha256)


def compared(
    path: Path,
    key: PublicKey,
    policy: Loaded[Any],
    suite: Loaded[Any],
    refs: Mapping[str, TaskRef],
    data: Mapping[str, str],
    trials: Sequence[Trial],
) -> PreregisteredBefore:
    """The preregistration of a run, once it is verified and its terms are those of the run.

    Args:
        path: the preregistration.
        key: of its signer.
        policy: of the run.
        suite: of the run.
        refs: the run's questions by digest.
        data: the run's data for attackers by digest.
        trials: of the run's plan.

    Raises:
        Unverified: another key signed it, it was changed, or policy, suite, questions or attacks do not match it.
    """
    found = read_preregistration(path, [key])
    here = make(policy, suite, refs, data, trials, datetime.now(UTC))
    if other := differences(found.terms, here):
        raise Unverified(
            f"{'; '.join(map(described, other))}.", remedy="Preregister what you want to run.", where=str(path)
        )
    return PreregisteredBefore(sha256=found.sha256, key=found.key.id, at=found.terms.preregistered_at)


class Difference(NamedTuple):
    """One difference from the preregistration."""

    kind: Literal["policy", "suite", "questions", "data", "attack"]
    state: Literal["changed", "missing", "added"]
    """`missing`: preregistered but not here; `added`: here but not preregistered."""
    name: str = ""
    """Name of the task, the data or the attack."""
    was: PreregisteredFile | None = None
    """For a file: the preregistered one."""
    now: PreregisteredFile | None = None
    """For a file: the one that is here."""


def file_differences(preregistered: Terms, policy: Loaded[Any], suite: Loaded[Any]) -> tuple[Difference, ...]:
    """Which of the two files differ from the preregistered ones; empty where both are identical."""
    return tuple(_file_changes(preregistered, _file(policy), _file(suite)))


def differences(preregistered: Terms, here: Terms) -> tuple[Difference, ...]:
    """Differences between the data of the same two files here and at preregistration; empty where there are none.

    The time and the release are not compared. `here` is the result of `make` for the present files.
    """
    return (
        *_file_changes(preregistered, here.policy, here.suite),
        *_changes("questions", _by_name(preregistered.tasks), _by_name(here.tasks)),
        *_changes("data", preregistered.data, here.data),
        *_changes("attack", _by_label(preregistered.attacks), _by_label(here.attacks)),
    )


WHAT = {"questions": "the questions of '{}'", "data": "the data '{}'", "attack": "the attack {}"}
HOW = {
    "missing": "preregistered, and not here",
    "added": "here, and not preregistered",
    "changed": "not as preregistered",
}


def described(each: Difference) -> str:
    """One difference as a sentence."""
    if each.was is not None and each.now is not None:
        was, now = (f"{file.id} {file.version} (sha256 {file.sha256[:12]})" for file in (each.was, each.now))
        return f"the {each.kind} is not the preregistered one: {was} was preregistered, {now} is here"
    return f"{WHAT[each.kind].format(each.name)}: {HOW[each.state]}"


def _file_changes(preregistered: Terms, policy: PreregisteredFile, suite: PreregisteredFile) -> Iterator[Difference]:
    if preregistered.policy != policy:
        yield Difference("policy", "changed", was=preregistered.policy, now=policy)
    if preregistered.suite != suite:
        yield Difference("suite", "changed", was=preregistered.suite, now=suite)


def _changes(
    kind: Literal["questions", "data", "attack"], was: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[Difference]:
    for name in sorted({*was, *now}):
        if name not in now:
            yield Difference(kind, "missing", name)
        elif name not in was:
            yield Difference(kind, "added", name)
        elif was[name] != now[name]:
            yield Difference(kind, "changed", name)


def _by_name(tasks: Sequence[TaskRef]) -> dict[str, TaskRef]:
    return {task.name: task for task in tasks}


def _by_label(attacks: Sequence[PreregisteredAttack]) -> dict[str, list[PreregisteredAttack]]:
    found: dict[str, list[PreregisteredAttack]] = {}
    for each in attacks:
        found.setdefault(each.label, []).append(each)
    return found


def _file(loaded: Loaded[Any]) -> PreregisteredFile:
    return PreregisteredFile(id=loaded.record.id, version=loaded.record.version, sha256=loaded.sha256)
