"""The sentences of a verdict, in English: no other room has any.

names        trials, models, rules and findings, with their numbers
issues       validity issues
instruments  faults of self-tests and of calibrations
flags        red flags
blockers     blockers and what they come from
outcome      the whole verdict
tables       what a table of sentences is

Each code has one entry: a template over the code's arguments, or a function of the record. `sentence` looks it up; a
code without an entry raises UnknownWord. Sentences begin with a small letter and have no full stop: the caller adds
both. Other rooms import from here, not from the modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustness_gate.records.base import Coded
from robustness_gate.records.evidence import EvidenceIssue
from robustness_gate.records.verdict import Blocker
from robustness_gate.verdict.wording.blockers import BLOCKERS, CAUSES, NOTES, OTHER_THAN_A_LIMIT, lacking
from robustness_gate.verdict.wording.flags import flag_line
from robustness_gate.verdict.wording.instruments import calibrated
from robustness_gate.verdict.wording.names import (
    BY,
    HYPOTHESES,
    gap_name,
    kept_line,
    left_out,
    model_name,
    name_of,
    numbers,
    place,
    rule_name,
    state,
    trial_name,
)
from robustness_gate.verdict.wording.outcome import reason, trials_line
from robustness_gate.verdict.wording.tables import Wording, written

WORDING: Mapping[type[Coded], Wording] = {Blocker: BLOCKERS, EvidenceIssue: NOTES, **CAUSES}
"""Every sentence of a code, by the kind of its record."""


def sentence(coded: Coded) -> str:
    """The sentence of a code with its arguments. Raises UnknownWord for a code without a sentence."""
    return written(WORDING.get(type(coded), {}), coded)


def sentences(coded: Sequence[Coded], *, between: str = "; ") -> str:
    """Several sentences in one line."""
    return between.join(map(sentence, coded))


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


__all__ = [
    "BY",
    "HYPOTHESES",
    "OTHER_THAN_A_LIMIT",
    "WORDING",
    "calibrated",
    "capital",
    "flag_line",
    "gap_name",
    "kept_line",
    "lacking",
    "left_out",
    "model_name",
    "name_of",
    "numbers",
    "place",
    "reason",
    "rule_name",
    "sentence",
    "sentences",
    "state",
    "trial_name",
    "trials_line",
]
