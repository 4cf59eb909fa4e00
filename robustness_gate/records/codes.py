"""Every code that explains a verdict, with the arguments of each code.

A code and its arguments are a record (`base.Coded`), checked against these tables when it is made and when it is read.
`verdict.wording` has a sentence for each code, `report.advice` a next step. An unknown code raises an error.

    NOTES              what happened to the evidence as a whole
    End                why an attempt failed, where the program knows the reason
    SELF_TEST_FAULTS   why a self-test fails
    CALIBRATION_FAULTS why a calibration counts for nothing, or a spike was not accepted
    VALIDITY_ISSUES    why a finding under its limit does not establish compliance
    RED_FLAGS          what makes an instrument or a measurement suspicious, by flag
    BLOCKERS           what blocks a PASS

A type is that of the argument in JSON: a float may be a whole number, a list holds strings, `None` next to a type means
that the argument may be null. No code is in two tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType, NoneType
from typing import Literal, get_args

Kinds = type | tuple[type, ...]
Args = Mapping[str, Kinds]
Table = Mapping[str, Args]


class Role(StrEnum):
    """Which model a trial examines, and how."""

    CANDIDATE = "candidate"
    """The candidate, attacked or untouched, asked as the suite defines it."""
    SHAM = "sham"
    """The candidate under an attack of strength zero."""
    THROUGH_ORIGINAL = "through_original"
    """The untouched candidate, asked through the original's tokenizer."""
    IN_DECLARED_DTYPE = "in_declared_dtype"
    """The untouched candidate, in the precision that its config.json names."""
    ORIGINAL = "original"
    """The model from before unlearning."""
    CONTROL = "control"
    """Another model with which the policy compares the candidate: `control` has its name."""


class FindingKind(StrEnum):
    """The kind of rule to which a finding belongs."""

    LIMIT = "limit"
    """The highest accuracy that is allowed after an attack, absolute or relative to a control."""
    UTILITY = "utility"
    """The lowest accuracy that the untouched model must reach."""
    GUARDRAIL = "guardrail"
    """The largest difference that is allowed between the untouched model and the original."""


TRIAL: Args = {"role": Role, "control": str, "attack": str, "label": str, "seed_index": int}
"""Which trial: the name of its attack, and the label with the settings that distinguish it from similar trials."""
PLACE: Args = {"kind": FindingKind, "rule": str, "attack": str, "seed_index": int, "budget": int}
"""Which finding: the kind and the id of its rule, and its trial; here `attack` is the label."""
COMPARATOR: Args = {"relative_to": (Role, NoneType), "control": str}
"""The role of the model with which the candidate is compared, if any, and a control's name."""
BOUNDS: Args = {
    "observed": float, "lower": float, "upper": float, "limit": float, **COMPARATOR, "fell": bool, "share": bool
}  # fmt: skip
"""`share`: whether the numbers are shares of a gap."""
HYPOTHESIS: Args = {
    "kind": FindingKind,
    "rule": str,
    "requirement": (str, NoneType),
    "seed_index": (int, NoneType),
    "budget": (int, NoneType),
}
"""One hypothesis that a policy declares, and for which evidence must exist."""
GAIN: Args = {"organism": str, "gain": float, "before": int, "after": int, "items": int}

NOTES: Table = {
    "checkpoint_changed": {"sha256": str},
    "checkpoint_unreadable": {"reason": str},
    "executor_broken": {"executor": str, "what": str},
}

End = Literal["", "data_changed", "diverged", "limit", "memory", "needs_original", "not_finite"]
ENDS: tuple[End, ...] = get_args(End)

SELF_TEST_FAULTS: Table = {
    "no_answers": {"where": str},
    "ended_otherwise": {"where": str, "status": str, "reason": str},
    "weak_attack": {"where": str, "description": str},
    "organism_differs": {"organism": str, "right": int, "expected": int},
    "impossible_gain": GAIN,
    "small_gain": {"organism": str, "gain": float, "asked": float},
    "gap_left_open": {"organism": str, "closed": float, "asked": float},
    "leak": {"organism": str, "gain": float},
    "impossible_leak": GAIN,
    "zero_strength_changes": {"changed": int},
    "drift": {"organism": str, "mean": float, "allowed": float},
}

CALIBRATION_FAULTS: Table = {
    "original_not_pinned": {},
    "methods_not_named": {},
    "other_original": {"sha256": str, "pinned": str},
    "other_architecture": {"model_type": str, "candidate": str},
    "calibrated_in_other_dtype": {"dtype": str, "candidate": str},
    "calibrated_on_other_device": {"device": str, "candidate": str},
    "other_term": {"name": str, "found": str, "asked": str},
    "calibrated_later": {"day": str},
    "calibration_expired": {"day": str, "days": int},
    "few_mechanisms": {"mechanisms": list, "asked": int},
    "spike_not_tried": {},
    "attempt_missing": {"number": int},
    "spike_not_made": {"reason": str},
    "taught_too_little": {"blank": int, "taught": int, "items": int, "asked": float},
    "suppressed_too_little": {"blank": int, "suppressed": int, "items": int, "asked": float},
    "utility_not_read": {"task": str, "items": int, "asked": int},
    "utility_lost": {"task": str, "original": int, "spiked": int, "items": int, "asked": float},
}

VALIDITY_ISSUES: Table = {
    "not_ended": {},
    "ended_badly": {"status": str, "reason": str},
    "unplanned_budget": {"budget": int},
    "chosen_seed": {},
    "other_data": {"name": str},
    "other_dtype": {"dtype": str, "pinned": str},
    "curtailed": {"curtailed": int, "items": int},
    "unpinned_task": {"task": str},
    "other_count": {"task": str, "items": int, "pinned": int},
    "other_questions": {"task": str},
    "task_not_in_trial": {"task": str},
    "other_count_in_trial": {"task": str, "items": int, "named": int},
    "missing_answers": {"missing": int, "items": int},
    "floor_missed": {"description": str, "signals": list},
    "narrow_grid": {"setting": str, "tried": int, "asked": int},
    "short_grid": {"setting": str, "lowest": float, "highest": float, "asked": float},
    "best_at_edge": {"setting": str},
    "utility_not_asked": {"task": str},
    "destroyed": {"task": str, "accuracy": float, "asked": float},
    "below_chance": {},
    "other_form": {"task": str},
    "nothing_to_lose": {},
    "few_clusters": {"clusters": int, "asked": int},
    "other_clusters": {"task": str},
    "few_in_all_tasks": {"shared": int, "questions": int, "asked": float},
    "one_task_over": {"task": str, "upper": float, "asked": float},
    "unanswerable": {"by": str, "task": str, "accuracy": float, "chance": float},  # by: original or candidate
}

Flag = Literal[
    "below_control",
    "choices_only",
    "control_ruined",
    "declines",
    "identical_answers",
    "less_at_more",
    "letter_collapse",
    "original_unrelated",
    "read_inside",
    "still_rising",
    "template_differs",
    "tokenizer_differs",
    "tokenizer_unverified",
    "familiarity",
    "vacuous",
    "weaker_beats_stronger",
]
"""Signs that an instrument or a measurement cannot be trusted; `verdict.flags` explains each."""

RED_FLAGS: Mapping[Flag, Table] = {
    "letter_collapse": {"one_letter": {"task": str, "share": float, "decides": bool, "calibrated": float}},
    "vacuous": {"original_within_limit": {"rule": str}},
    "choices_only": {
        "choices_not_asked": {"task": str, "choices_task": str},
        "choices_suffice": {"task": str, "share": float, "near": float, "rule": str},
    },
    "identical_answers": {"nothing_changed": {"label": str, "seed_index": int, "budget": int}},
    "less_at_more": {"falls": {"label": str, "seed_index": int, "task": str, "low": int, "high": int, "gain": float}},
    "still_rising": {"rises": {"label": str, "seed_index": int, "task": str, "low": int, "high": int, "gain": float}},
    "read_inside": {
        "hidden_states": {"label": str, "seed_index": int, "share": float, "lower": float, "guessing": float}
    },
    "declines": {"many_declined": {"task": str, "share": float}},
    "familiarity": {"familiar": {"task": str, "more": bool, "share": float, "pairs": int}},
    "weaker_beats_stronger": {
        "weaker_recovers_more": {"weaker": str, "budget": int, "stronger": str, "task": str, "gain": float}
    },
    "tokenizer_differs": {
        "other_ids": {"differ": int, "texts": int, "first": list},
        "tokenizer_not_pinned_one": {"sha256": str},
        "other_ids_under_attack": {"texts": int},
    },
    "template_differs": {
        "other_prompts": {"differ": int, "prompts": int, "first": list},
        "template_not_pinned_one": {"sha256": str},
    },
    "tokenizer_unverified": {"tokenizer_not_compared": {}, "template_not_compared": {}},
    "control_ruined": {
        "control_lost_utility": {
            "control": str,
            "task": str,
            "label": str,
            "budget": int,
            "accuracy": float,
            "asked": float,
            "many": int,
        }
    },
    "below_control": {"avoids": {"rule": str, "control": str, "points": float, "least": float}},
    "original_unrelated": {
        "weights_unrelated": {"tensors": int, "alike": int, "cosine": float},
        "weights_not_compared": {},
    },
}

INSTRUMENTS: Table = {
    "self_test_missing": {},
    "self_test_does_not_count": {"label": str, "model_type": str, "budgets": list, "days": int},
    "self_test_failed": {"label": str, "seed": int, "superseded_of": (str, NoneType)},
    "calibration_missing": {},
    "calibration_does_not_count": {"day": str},
    "spike_failed": {"method": str, "tried": int},
    "not_calibrated": {"label": str, "method": str, "budgets": list},
    "calibration_failed": {"label": str, "method": str, "seed": int},
    "no_bite_shown": {"label": str, "methods": list},
    "expected_bite_missing": {"label": str, "method": str, "gain": float, "asked": float},
    "expected_method_missing": {"label": str},
    "nothing_recovers": {"method": str},
    "sham_missing": {"attack": str},
    "sham_not_comparable": {"attack": str, "task": str},
    "sham_changes": {"attack": str, "changed": int, "items": int, "task": str},
    "positive_control_missing": {},
    "positive_control_invalid": {},
    "positive_control_within_limits": {},
    "control_may_know": {"rule": str, "control": str, "original": bool},
    "hidden_not_bound": {"rule": str, "task": str, "hidden": (str, NoneType)},
    "gap_not_measured": {"rule": str, "control": str},
    "no_gap": {"rule": str, "control": str, "gap": float, "lower": float, "asked": float},
}
"""Blockers about the instruments: a negative result means something only if they were shown to work."""

PLUGINS: Table = {
    "plugin_not_pinned": {"distribution": str, "version": str},
    "plugin_not_named": {"distribution": str, "version": str},
    "plugin_other_digest": {"distribution": str, "version": str, "sha256": str},
}
"""What is wrong with a plug-in that took part."""

BLOCKERS: Table = {
    "unanswered": {"task": str},
    "left_out": {**TRIAL, "why": str},
    "passes_never": {},
    "policy_not_yet": {"day": str},
    "policy_expired": {"day": str},
    "control_expired": {"control": str, "day": str},
    **INSTRUMENTS,
    "not_asked_through_original": {},
    "not_asked_in_declared_dtype": {},
    "breach": {**PLACE, **BOUNDS},
    "open": {**PLACE, **BOUNDS},
    "inverted": PLACE,
    "back_in_one_task": PLACE,
    "requirement_without_limit": {"requirement": str},
    "limit_on_nothing": {"rule": str},
    "unknown_control": {"rule": str, "control": str},
    "rule_twice": {"rule": str},
    "no_such_metric": {
        "kind": FindingKind,
        "rule": str,
        "task": str,
        "task_kind": str,
        "metric": str,
        "metrics": list,
    },
    "incomplete": {**TRIAL, "attempt": int, "task": str, "budget": int, "more": int},
    "unfinished": TRIAL,
    "failed": {**TRIAL, "reason": str},
    "required_not_applicable": {**TRIAL, "reason": str},
    "invalid_trial": {**TRIAL, "budget": int},
    "hypothesis_not_run": {**HYPOTHESIS, **COMPARATOR},
    "hypothesis_invalid": HYPOTHESIS,
    "not_compared": {**PLACE, "control": str},
    "not_stated": {"name": str},
    "other_weights_unknown": {},
    "other_weights": {"weights": list},
    **PLUGINS,
    "flag": {"flag": str},
    **NOTES,
}

CAUSES = MappingProxyType(
    {
        "unanswered": ("unanswerable",),
        "self_test_failed": tuple(SELF_TEST_FAULTS),
        "calibration_does_not_count": tuple(CALIBRATION_FAULTS),
        "spike_failed": tuple(CALIBRATION_FAULTS),
        "calibration_failed": tuple(SELF_TEST_FAULTS),
        "invalid_trial": tuple(VALIDITY_ISSUES),
        "not_compared": tuple(VALIDITY_ISSUES),
        "back_in_one_task": ("one_task_over",),
        "hypothesis_invalid": tuple(VALIDITY_ISSUES),
        "flag": tuple(code for table in RED_FLAGS.values() for code in table),
    }
)
"""Blockers that name their causes, with the codes of those causes. No other blocker has a cause."""
