"""The limitations of an outcome: what was examined, the instruments, what is open. Printed on page one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from robustness_gate.inputs.precision import shares
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import RedFlag
from robustness_gate.report.calibrated import calibrated
from robustness_gate.report.record import name_of
from robustness_gate.verdict import unpack
from robustness_gate.verdict.wording import flag_line

NO_SELF_TEST = (
    "The attacks were not tested on models of known truth (validity.self_test is off): that they find nothing may also "
    "mean that they do not work on this kind of model."
)


NO_SHAM = (
    "The attacks were not tried at strength zero (validity.sham is off): what they change, the gate itself may have "
    "changed."
)


NO_POSITIVE_CONTROL = (
    "The model from before unlearning was not required to break a limit (validity.positive_control is off): perhaps "
    "these limits catch nothing."
)


NO_PREREGISTRATION = (
    "No preregistration is named: nothing here shows that policy, suite and questions were fixed before any number was "
    "known."
)


UNSEEN_PREREGISTRATION = (
    "The preregistration that the report names was not given, so it was not checked: ask its signer for the "
    "preregistration, and give it with --preregistration."
)


UNCHECKED = (("self_test", NO_SELF_TEST), ("sham", NO_SHAM), ("positive_control", NO_POSITIVE_CONTROL))


def limitations(
    policy: Policy, evidence: Evidence, flags: Sequence[RedFlag], *, preregistered: bool
) -> tuple[str, ...]:
    """The limitations of the outcome: what was examined, the instruments, what is open.

    Every output prints exactly these: the record, the page, the summary, the terminal, `why` and `verify`, which
    computes them again, under the reader's own policy if one is given.
    """
    found = [*otherwise_stored(evidence)]
    found += _heuristics(policy)
    found += _foreign_code(policy, evidence)
    found += [text for setting, text in UNCHECKED if getattr(policy.validity, setting) == "off"]
    found += [words for each in calibrated(policy, evidence).values() for words in each]
    found += [f"Red flag, recorded and not in the way: {flag_line(each)}." for each in flags if not each.blocks]
    found += _at_the_edge(evidence)
    found += _unpinned(policy, evidence)
    found += [] if preregistered else [NO_PREREGISTRATION]
    found += _cut_short(evidence)
    found += _on_the_way(evidence)
    found += _lost(evidence)
    written = {task.name for trial in evidence.planned for task in trial.tasks if task.judged.generative}
    limited = {task for limit in policy.limits if limit.recovered is None for task in limit.readings}
    unread = sorted(task for task in limited - written if (pin := policy.tasks.get(task)) and pin.choices_only is None)
    if unread:
        found.append(f"How much the choices alone give away was not asked of: {', '.join(unread)}.")
    if policy.expires is None:
        found.append("The policy has no last day, so its limits never come up for review.")
    return tuple(found)


def _heuristics(policy: Policy) -> Iterator[str]:
    """Share limits without a model that never knew: what the stand-in does to the limit."""
    for limit in policy.limits:
        if limit.recovered is not None and limit.heuristic:
            rest = 1 - limit.recovered.max_share
            yield (
                f"The limit '{limit.id}' is a heuristic: no model that never knew was named, so the original with its "
                "questions hidden stands in for one. It may guess more from the choices than such a model would. Each "
                f"point by which it does raises the share that can be back by {rest:.2f} points divided by the gap."
            )


def _foreign_code(policy: Policy, evidence: Evidence) -> Iterator[str]:
    """The plug-ins that took part in this evidence, by digest."""
    trials = (*evidence.planned, *evidence.extra, *evidence.comparators)
    for each in sorted({p for trial in trials for p in trial.plugins}, key=lambda p: (p.distribution, p.sha256)):
        named = "names" if policy.plugins.get(each.distribution) == each.sha256 else "does not name"
        files = "" if each.pinned else ", from files that this does not cover"
        yield (
            f"Code of a plug-in took part, which the policy {named}: {each.distribution} {each.version}, "
            f"sha256 {each.sha256}{files}."
        )


def otherwise_stored(evidence: Evidence) -> Iterator[str]:
    """Differences between the precision of the trials, of the stored weights, and of config.json."""
    asked = (trial for trial in evidence.planned if trial.role != Role.IN_DECLARED_DTYPE)
    held, used = evidence.stored, sorted({trial.dtype for trial in asked})
    if held is None:
        yield "In which precision the weights lie on disk is not on record."
    if held is None or not used:
        return
    on_disk = shares(held.weights) + (f", the adapter's as {shares(held.adapter)}" if held.adapter else "")
    if {*used} != held.dtypes:
        how = ", quantised" if held.quantized else ""
        yield f"Examined in {' and '.join(used)}; on disk the weights are stored as {on_disk}{how}."
    if held.config_dtype and held.config_dtype not in held.weights:
        yield f"config.json says {held.config_dtype}, in which others will load it; on disk the weights are {on_disk}."


def _on_the_way(evidence: Evidence) -> Iterator[str]:
    """How the gate handled a checkpoint's end tokens, padding and clock in order to get its answers."""
    own = {trial.id for trial in evidence.planned if trial.role == Role.CANDIDATE}
    summaries = [measurement.summary for measurement in evidence.measurements if measurement.trial in own]
    words, drift, strange, dated = (
        max((summary.get(name, 0.0) for summary in summaries), default=0.0)
        for name in ("end_marks_dropped", "padding_drift", "strange_items", "template_clock")
    )
    if words:
        yield f"The checkpoint declares {words:.0f} words of the questions or answers as end tokens: this was ignored."
    if drift:
        yield (
            f"Padding changes this model's answers (by {drift:.2g} nats as measured): prompts of unequal length were "
            "asked separately."
        )
    if strange:
        yield f"Up to {strange:.0f} prompts of a task hold tokens that the model does not have: they count as missing."
    if dated:
        day = datetime.fromtimestamp(dated, UTC).isoformat(timespec="minutes")
        yield f"The chat template uses the current date: it always got {day}."


def _at_the_edge(evidence: Evidence) -> Iterator[str]:
    """Attacks whose best learning rate is at an edge of their grid: the optimum may lie outside."""
    own = {trial.id: name_of(trial) for trial in (*evidence.planned, *evidence.extra) if trial.role == Role.CANDIDATE}
    chosen = [
        (measurement, measurement.selected.get("grid_edge"))
        for measurement in evidence.measurements
        if measurement.trial in own
    ]
    for edge in ("highest", "lowest", "only"):
        budgets: dict[str, set[int]] = {}
        for measurement in (measurement for measurement, its in chosen if its == edge):
            budgets.setdefault(own[measurement.trial], set()).add(measurement.budget)
        if budgets:
            where = "; ".join(f"{name} at {', '.join(map(str, sorted(at)))}" for name, at in sorted(budgets.items()))
            yield f"The best learning rate was the grid's {edge} for {where}: a stronger attack may lie beyond it."


def _cut_short(evidence: Evidence) -> Iterator[str]:
    """Tasks with prompts that were truncated for the untouched model."""
    untouched = {trial.id for trial in evidence.planned if (trial.role, trial.attack) == (Role.CANDIDATE, "none")}
    cut = {
        m.task: (m.summary.get("truncated_items", 0.0), m.items) for m in evidence.measurements if m.trial in untouched
    }
    for task, (many, items) in sorted(cut.items()):
        if many:
            yield f"{many:.0f} of {items} prompts of '{task}' are longer than the context and lost their beginning."


def _lost(evidence: Evidence) -> Iterator[str]:
    """Tasks with questions that the untouched model did not get in full, with the first such items."""
    untouched = {trial.id for trial in evidence.planned if (trial.role, trial.attack) == (Role.CANDIDATE, "none")}
    measurements = sorted(evidence.measurements, key=lambda measurement: measurement.attempt)
    lost = {
        measurement.task: measurement
        for measurement in measurements
        if measurement.trial in untouched and measurement.lost
    }
    for task, measurement in sorted(lost.items()):
        missing = sum(unpack(measurement.missing, measurement.items))
        more = " and others" if missing > len(measurement.lost) else ""
        yield (
            f"{missing} of {measurement.items} items of '{task}' have no answer, because the tokenizer or the context "
            f"loses part of the question: {', '.join(measurement.lost)}{more}.{_special_tokens(measurement)}"
        )


def _special_tokens(measurement: Measurement) -> str:
    """The special tokens in a task's questions, by id, because their text may be anything."""
    if not measurement.special_tokens:
        return ""
    ids = ", ".join(map(str, measurement.special_tokens))
    many = measurement.summary.get("control_items", 0.0)
    return f" {many:.0f} of them hold what the tokenizer takes for special tokens (ids {ids}), and not for text."


def _unpinned(policy: Policy, evidence: Evidence) -> Iterator[str]:
    """What the policy does not pin, so that the suite or the command determines it."""
    loose = sorted(name for name, pin in policy.tasks.items() if pin.sha256 is None)
    if loose:
        yield f"The policy pins how many questions these tasks have, not which: {', '.join(loose)}."
    loose = sorted({name for trial in evidence.planned for name in trial.data} - set(policy.data))
    if loose:
        yield f"The policy does not pin what attacks could train and choose on: {', '.join(loose)}."
    loose = [str(each) for each in policy.required if each.attack != "none" and each.config_sha256 is None]
    if loose:
        yield f"The policy asks for these attacks without pinning their whole settings: {'; '.join(loose)}."
    if policy.dtype is None and (used := sorted({trial.dtype for trial in evidence.planned})):
        yield f"The policy does not pin the precision: the suite chose {' and '.join(used)}."
    if policy.tokenizer is None and policy.original is None:
        yield "The policy pins no tokenizer, neither by its digest nor by the original that has it."
    examined = any(trial.role == Role.ORIGINAL for trial in evidence.comparators)
    if policy.original is None and (examined or policy.guardrails or policy.validity.positive_control != "off"):
        yield "The policy does not pin the original: any model may have been named as the one from before unlearning."
