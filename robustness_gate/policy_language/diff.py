"""What is looser, what is tighter, and what only differs between two policies.

*Looser* means: some evidence could pass B that does not pass A, or B claims less. Every field of every record has a row
in RULES; a field without a row, and a change without a known direction, counts as looser. A test checks all records, so
that a new field is not forgotten.

A tighter policy can turn a FAIL into INCONCLUSIVE: with more requirements, more hypotheses share alpha_fail. Both
block; no change that is called tighter can make a PASS (tests/property/test_policy_language.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from robustness_gate.inputs.yaml import Path_
from robustness_gate.policy_language.directions import (
    Direction,
    Rule,
    another,
    attacks,
    becomes,
    budgets,
    explained,
    fewer,
    fixed,
    larger,
    more,
    rising,
    says,
    shown,
    smaller,
)
from robustness_gate.records.base import Record
from robustness_gate.records.policy import (
    AcceptedRisk,
    CalibrationTerms,
    Control,
    Extends,
    Guardrail,
    Limit,
    Loosening,
    Policy,
    Provenance,
    Ratchet,
    Recovered,
    Requirement,
    Selector,
    SpikeThresholds,
    Statistics,
    TaskPin,
    ThreatModel,
    TokenizerPin,
    Tuning,
    Utility,
    Validity,
    Waiver,
)
from robustness_gate.records.suite import Roles


class Change(NamedTuple):
    """One difference between A and B."""

    direction: Direction
    what: str
    """Its address: `limits.bio.max`."""
    words: str
    at: Path_
    """Its place in B; for a removed value, the place of its parent."""

    def __str__(self) -> str:
        """`looser   limits.bio.max rises from 0.32 to 0.34`."""
        return f"{self.direction:8} {self.words}"


# --- the directions a value can go -----------------------------------------------------------------------------------


# --- a row for every field -------------------------------------------------------------------------------------------

INSIDE = "inside"
"""The field contains records, and their fields have rows of their own."""

RULES: Mapping[type[Record], Mapping[str, Rule | str]] = {
    Policy: {
        "schema_": another,
        "id": says,
        "version": says,
        "description": says,
        "owner": says,
        "effective": larger,  # a later first day
        "expires": smaller,
        "extends": says,  # what is inherited shows in the merged policy
        "threat_model": INSIDE,
        "tasks": INSIDE,
        "data": INSIDE,
        "dtype": fixed,
        "original": fixed,
        "tokenizer": INSIDE,
        "controls": INSIDE,
        "limits": INSIDE,
        "required": INSIDE,
        "utility": INSIDE,
        "guardrails": INSIDE,
        "ratchet": INSIDE,
        "statistics": INSIDE,
        "validity": INSIDE,
        "calibration": INSIDE,
        "provenance": INSIDE,
        "plugins": INSIDE,
        "waivers": INSIDE,
        "accepted_risks": INSIDE,
        "loosened": says,
    },
    ThreatModel: {
        "access": rising("api", "fine_tune_api", "open_weights"),
        "adversary": says,
        "out_of_scope": fewer,
        "attacker_has_original": rising(False, True),
    },
    TaskPin: {
        "items": fixed,
        "sha256": fixed,
        "source": fixed,
        "roles": fixed,
        "design_effect": larger,
        "questions": fixed,
        "formats": more,
        "choices_only": fixed,
    },
    TokenizerPin: {"sha256": fixed, "template": fixed},
    Control: {"sha256": fixed, "kind": fixed, "report_sha256": fixed, "expires": smaller},
    Limit: {
        "id": fixed,
        "task_": fixed,
        "score": fixed,
        "max": smaller,
        "metric": another,
        "attacks": attacks,
        "relative_to": another,
        "recovered": INSIDE,
    },
    Recovered: {
        "max_share": smaller,
        "control": another,
        "yardstick": another,  # of another gap, which can be larger or smaller
        "min_gap": larger,
        "max_share_each": smaller,
    },
    Requirement: {
        "attack": fixed,
        "where": fixed,
        "seeds": larger,
        "budgets": budgets,
        "tuning": INSIDE,
        "config_sha256": fixed,
    },
    Tuning: {"setting": fixed, "points": larger, "span": larger, "interior": rising(False, True)},
    Utility: {"task": fixed, "min": larger, "min_attacked": larger, "metric": another},
    Guardrail: {"id": fixed, "task": fixed, "max_drop": smaller, "max_rise": smaller, "metric": another},
    Ratchet: {"relative_to": fixed, "max_rise": smaller},
    Statistics: {
        "alpha_pass": smaller,
        "alpha_fail": larger,  # a smaller one establishes fewer breaches, so it is looser, though it errs less
        "alpha_fail_extra": larger,
        "max_missing": smaller,
        "fail_fast": another,  # another test for FAIL, neither stricter nor looser than the other
        "min_design_power": larger,
    },
    Validity: {
        "self_test": rising("off", "required"),
        "self_test_days": smaller,
        "calibration": rising("off", "required"),
        "calibration_days": smaller,
        "sham": rising("off", "required"),
        "positive_control": rising("off", "required"),
        "passes": rising("possible", "never"),
        "other_weights": rising("listed", "refused"),
        "record_only": fewer,
    },
    CalibrationTerms: {
        "methods": more,
        "facts": another,  # more to learn, and more for the attacker
        "verdict_facts": larger,
        "seed": another,
        "recipe": another,
        "thresholds": INSIDE,
        "explained": explained,
    },
    SpikeThresholds: {
        "taught": larger,
        "suppressed": smaller,
        "utility": smaller,
        "gain": larger,
        "share": larger,
    },
    Provenance: {"require": more},
    Waiver: {
        "id": fixed,
        "reason": says,
        "owner": fixed,
        "approved_by": more,
        "issued": fixed,
        "expires": smaller,
        "checkpoint": fixed,
        "requirement": another,
        "flag": another,
    },
    AcceptedRisk: {
        "id": fixed,
        "reason": says,
        "owner": fixed,
        "approved_by": more,
        "issued": fixed,
        "expires": smaller,
        "checkpoint": fixed,
    },
    Extends: {"file": says, "sha256": says},
    Loosening: {"what": says, "since": says, "reason": says, "owner": says},
    Roles: {"dev": fixed, "train": fixed, "key": fixed},
    Selector: {"attack": fixed, "where": fixed},
}

ADDED: Mapping[str, Direction] = {
    "tasks": "differs",  # a pin alone requires nothing
    "data": "tighter",
    "tokenizer": "tighter",
    "controls": "differs",
    "limits": "tighter",
    "required": "tighter",
    "utility": "tighter",
    "guardrails": "tighter",
    "ratchet": "tighter",
    "tuning": "tighter",
    "calibration": "looser",  # a calibration under its own terms can stand in for a self-test
    "provenance": "tighter",
    "plugins": "looser",  # third-party code may take part in a PASS
    "waivers": "looser",
    "accepted_risks": "looser",
}
"""The direction of an added record; a removed one has the reverse. If adding only differs, removing is looser."""


def compare(before: Policy, after: Policy) -> tuple[Change, ...]:
    """Every difference: looser ones first, then tighter ones, each in the order of the policy's fields."""
    found = list(_records(before, after, (), ()))
    order = ("looser", "tighter", "differs")
    return tuple(sorted(found, key=lambda change: order.index(change.direction)))


def unexplained(after: Policy, before: Policy, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Looser changes without a reason in the policy: a reason must name the value and this version."""
    fresh = after.version != before.version
    explained = {each.what for each in after.loosened if each.since == after.version and fresh}
    return tuple(change for change in changes if change.direction == "looser" and change.what not in explained)


def _records(old: Record, new: Record, names: tuple[str, ...], at: Path_) -> Iterator[Change]:
    rules = RULES.get(type(new), {})
    for name, info in type(new).model_fields.items():
        one, other = getattr(old, name), getattr(new, name)
        if _same(one, other):
            continue
        key = info.alias or name
        rule = rules.get(name)
        if rule is None:
            what = ".".join((*names, key))
            yield Change("looser", what, f"{what} {becomes(one, other)} (no direction is known)", (*at, key))
        elif isinstance(rule, str):
            yield from _inside(key, one, other, (*names, key), (*at, key))
        else:
            direction, words = rule(one, other)
            what = ".".join((*names, key))
            yield Change(direction, what, f"{what} {words}", (*at, key))


def _inside(key: str, old: Any, new: Any, names: tuple[str, ...], at: Path_) -> Iterator[Change]:
    """Changes of the records in a field: one record, a map of them, or a list of them by name."""
    if isinstance(old, Record) and isinstance(new, Record):
        yield from _records(old, new, names, at)
        return
    if not isinstance(old, (dict, tuple)):  # an optional block
        yield _came(key, names, at, old, new)
        return
    before = old if isinstance(old, dict) else _by_name(old)
    after = new if isinstance(new, dict) else _by_name(new)
    places: dict[str, str | int] = {name: name for name in after}
    if not isinstance(new, dict):
        places = {name: index for index, name in enumerate(after)}
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        if _same(one, other):
            continue
        here = (*at, places[name]) if name in places else at
        if one is None or other is None:
            yield _came(key, (*names, name), here, one, other)
        elif isinstance(one, Record):
            yield from _records(one, other, (*names, name), here)
        else:  # a digest under `data`
            direction, words = fixed(one, other)
            yield Change(direction, ".".join((*names, name)), f"{'.'.join((*names, name))} {words}", here)


def _came(key: str, names: tuple[str, ...], at: Path_, old: Any, new: Any) -> Change:
    came: Direction = ADDED.get(key, "looser")
    gone: Direction = "tighter" if came == "looser" and key in ADDED else "looser"
    what = ".".join(names)
    words = f"{what} is new: {shown(new)}" if old is None else f"{what} is gone; it was: {shown(old)}"
    return Change(came if old is None else gone, what, words, at)


def _by_name(records: Iterable[Record]) -> dict[str, Record]:
    """Records by name; a second record of the same name gets a different key."""
    found: dict[str, Record] = {}
    for record in records:
        if isinstance(record, Selector):
            name = Selector.__str__(record)
        else:
            name = str(getattr(record, "id", None) or getattr(record, "task", "?"))
        while name in found:
            name = f"{name}'"
        found[name] = record
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type; unlike in Python, true is not 1, and 1 is not 1.0."""
    return type(one) is type(other) and repr(one) == repr(other)
