"""A policy as YAML, and as sentences.

The output is valid YAML: the sentences are comments. With `resolved` it contains every default and is merged with its
parent, so it shows everything on which a verdict depends.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from datetime import date
from typing import Any

import yaml

from robustness_gate.inputs.validation import Loaded
from robustness_gate.inputs.yaml import CORE_SCHEMA
from robustness_gate.policy_language.checks import overlaps
from robustness_gate.records.base import Record
from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Guardrail, Limit, Policy, Requirement
from robustness_gate.verdict import covers, declared_hypotheses


def page(loaded: Loaded[Policy], *, resolved: bool = False) -> str:
    """The policy as sentences in comments, then as YAML.

    Args:
        loaded: from `load_policy`.
        resolved: whether to add every default; else only the keys of the file and its parent.
    """
    comments = [f"# {line}" if line else "#" for line in sentences(loaded.record)]
    if loaded.parent is not None:
        comments.append(f"# Merged with {loaded.parent.path.name} (sha256 {loaded.parent.sha256}), which it extends.")
    return "\n".join([*comments, "", as_yaml(loaded.record, resolved=resolved)])


# --- as YAML ---------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes YAML for our loader: quotes a string that YAML 1.2's core schema, or 1.1's booleans, would convert."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - a class attribute in PyYAML too

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - lists stand in
        super().increase_indent(flow, False)


BREAKS = re.compile("[\x85\u2028\u2029]")  # line ends to YAML 1.1, which a reader may fold into a space


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = '"' if BREAKS.search(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
for _tag, _pattern, _first in (*CORE_SCHEMA, ("bool", r"(?i:y|yes|n|no|on|off|true|false)", "yYnNtTfFoO")):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first) or [""])


def as_yaml(record: Record, *, resolved: bool = False) -> str:
    """A record as YAML that `load_record` reads as an equal record."""
    return yaml.dump(
        plain(record, resolved=resolved),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=110,
        default_flow_style=None,
    )


def plain(value: Any, *, resolved: bool) -> Json:
    """A record as plain data with the keys that files use; None, which is the same as no key, is omitted."""
    if isinstance(value, Record):
        fields = type(value).model_fields
        held = {
            info.alias or name: getattr(value, name)
            for name, info in fields.items()
            if resolved or name in value.model_fields_set
        }
        return {key: plain(each, resolved=resolved) for key, each in held.items() if each is not None}
    if isinstance(value, dict):
        return {key: plain(each, resolved=resolved) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, resolved=resolved) for each in value]
    return value.isoformat() if isinstance(value, date) else value


# --- as sentences ----------------------------------------------------------------------------------------------------


def sentences(policy: Policy) -> Iterator[str]:
    """The policy as sentences, line by line, at most 118 characters each."""
    for paragraph in _paragraphs(policy):
        lead = " " * (len(paragraph) - len(paragraph.lstrip()))
        yield from textwrap.wrap(paragraph, 118, subsequent_indent=lead + "  ") or [""]


def _paragraphs(policy: Policy) -> Iterator[str]:
    numbers, model = policy.statistics, policy.threat_model
    yield f"{policy.id} {policy.version}: {policy.description}"
    yield from _dates(policy)
    yield ""
    original = ", with access to the original" if model.attacker_has_original else ""
    yield f"Against ({model.access}): {model.adversary}{original}."
    if model.out_of_scope:
        yield f"Not against: {'; '.join(model.out_of_scope)}."
    confidence = f"at {1 - numbers.alpha_pass:.4g} confidence, on the questions of 'tasks'"
    if policy.validity.passes == "never":
        yield f"Compliance with each of these would be shown {confidence}, but no PASS is possible; a breach is FAIL:"
    else:
        yield f"A PASS shows each of these {confidence}:"
    yield from (f"  {_limit(each)}" for each in policy.limits)
    if policy.ratchet:
        yield f"  each of these at most {_points(policy.ratchet.max_rise)} above '{policy.ratchet.relative_to}'"
    for utility in policy.utility:
        attacked = f"{utility.min_attacked:.0%} after an attack that is to establish compliance"
        after = f", and {attacked}" if utility.min_attacked else ""
        if utility.min is not None:
            yield f"  the model still answers at least {utility.min:.0%} of '{utility.task}'{after}"
        elif attacked_too := utility.min_attacked:
            asked = f"{attacked_too:.0%} of '{utility.task}' after an attack that is to establish compliance"
            yield f"  the model still answers at least {asked}"
    yield from (f"  {_guardrail(each)}" for each in policy.guardrails)
    for strict, loose in overlaps(policy):
        yield f"  '{strict.id}' ({_most(strict)}) decides where '{loose.id}' ({_most(loose)}) covers the same"
    yield "What must have been tried:"
    yield from (f"  {_requirement(each)}" for each in policy.required)
    if policy.dtype:
        yield f"Computed in {policy.dtype}: a trial in another precision cannot establish compliance."
    yield from _instrument(policy)
    declared = declared_hypotheses(policy)
    yield (
        f"{declared} declared hypotheses share a false-FAIL rate of {numbers.alpha_fail:.2g}: "
        f"each establishes a breach at {numbers.alpha_fail / declared:.2g}."
    )
    for name, digest in sorted(policy.plugins.items()):
        yield f"Code of the plug-in {name} may take part, with the digest {digest}."
    for waiver in policy.waivers:
        about = waiver.requirement or waiver.flag
        who = f"({waiver.owner}: {waiver.reason})"
        yield f"Waived until {waiver.expires} for {waiver.checkpoint[:12]}: {about} {who}"
    for risk in policy.accepted_risks:
        who = f"({risk.owner}: {risk.reason})"
        yield f"Accepted until {risk.expires} for {risk.checkpoint[:12]}, though it may FAIL {who}"


def _dates(policy: Policy) -> Iterator[str]:
    since = f"from {policy.effective}" if policy.effective else ""
    until = f"until {policy.expires}" if policy.expires else "without an end"
    yield f"Valid {since} {until}.".replace("  ", " ") + (f" Owner: {policy.owner}." if policy.owner else "")


def _limit(limit: Limit) -> str:
    after = ", ".join(map(str, limit.attacks)) or "everything that is required"
    metric = limit.metric or "the metric that decides for its kind"
    what = f"'{limit.task}' ({metric})"
    if limit.score:
        what = f"the mean score of {' and '.join(map(repr, limit.score))} per question"
    if limit.recovered is not None:
        rule = limit.recovered
        when = "before any attack" if rule.yardstick == "untouched" else "after the same attack"
        other = f"'{rule.control}'" if rule.control else "with its questions hidden"
        each = f", and at most {rule.max_share_each:.0%} in each task alone" if len(limit.readings) > 1 else ""
        points = f", and at most {_points(limit.max)} above '{rule.control}'" if limit.max is not None else ""
        warning = ". A heuristic: no model that never knew is named" if limit.heuristic else ""
        return (
            f"{limit.id}: {when} the original scores more than {other}: the gap. After {after}, at most "
            f"{rule.max_share:.0%} of the gap is back, in {what}{each}{points}. Before any attack the gap must be over "
            f"{_points(rule.min_gap)}{warning}"
        )
    if limit.relative_to:
        return f"{limit.id}: after {after}, {what} at most {_points(limit.most)} above '{limit.relative_to}'"
    return f"{limit.id}: after {after}, at most {limit.most:.1%} of '{limit.task}' right ({metric})"


def _points(difference: float) -> str:
    """A difference of two accuracies: in points, because it is no share of either."""
    return f"{100 * difference:.4g} points"


def _most(limit: Limit) -> str:
    return _points(limit.most) if limit.relative_to else f"{limit.most:.0%}"


def _guardrail(rail: Guardrail) -> str:
    way, bound = ("falls", rail.max_drop) if rail.max_drop is not None else ("rises", rail.max_rise)
    return f"{rail.id}: '{rail.task}' {way} by at most {_points(bound or 0.0)} against the original"


def _requirement(requirement: Requirement) -> str:
    text = "the untouched model" if requirement.attack == "none" else str(requirement)
    if requirement.budgets:
        text += f" at {', '.join(map(str, requirement.budgets))}"
    if requirement.seeds > 1:
        text += f", {requirement.seeds} seeds"
    if tuning := requirement.tuning:
        text += f", {tuning.points} values of {tuning.setting} over a factor of {tuning.span:g}"
        text += ", the best inside them" if tuning.interior else ""
    return text


def _positive_control(policy: Policy) -> str:
    """What the original must show, by the kinds of limits that the policy has."""
    gaps = [each.recovered.min_gap for each in policy.limits if each.recovered is not None]
    if not gaps or len(gaps) < len(policy.limits):
        return "the original, which must exceed a limit"
    return f"the gap, which must be over {_points(min(gaps))}"


def _instrument(policy: Policy) -> Iterator[str]:
    checks = policy.validity
    named = {
        "self-test of the attacks": checks.self_test,
        "a calibration on the original": checks.calibration,
        "sham attacks that must change nothing": checks.sham,
        _positive_control(policy): checks.positive_control,
    }
    asked = [name for name, value in named.items() if value == "required"]
    off = [name for name, value in named.items() if value != "required"]
    yield f"The instrument is tested by: {', '.join(asked) or 'nothing'}." + (
        f" NOT required: {', '.join(off)}." if off else ""
    )
    if (terms := policy.calibration) is not None:
        asked_of = f"{terms.facts} invented facts, of which {terms.verdict_facts} are asked"
        yield f"A calibration teaches the original {asked_of}, and suppresses them by {', '.join(terms.methods)}."
        for method, reason in sorted(terms.explained.items()):
            yield f"No spike by {method} is needed: {reason.strip()}"
    if checks.passes == "never":
        yield "It can establish a breach. No PASS is possible: no model that never knew is known."
    if checks.other_weights == "refused":
        yield "No PASS if the checkpoint's repository contains other weights, or if its file list is not available."
    else:
        yield "Other weights in the checkpoint's repository are listed, and not examined."
    if checks.record_only:
        yield f"Red flags that do not block: {', '.join(checks.record_only)}."


def covering_pairs(policy: Policy) -> Iterator[tuple[Limit, Requirement]]:
    """Each limit with each requirement that it covers."""
    for limit in policy.limits:
        for requirement in policy.required:
            if covers(limit, requirement):
                yield limit, requirement
