"""Whether the instruments were shown to work: self-tests, calibrations, shams, the positive control, the tokenizer.

Every output prints these with the same text. Nothing here decides: faults are the judge's blockers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from robustness_gate.publish import facts
from robustness_gate.records.codes import INSTRUMENTS
from robustness_gate.records.evidence import TokenizerPart
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import Blocker
from robustness_gate.report.calibrated import calibrated
from robustness_gate.report.record import Report, TrialRecord, evidence_in
from robustness_gate.statistics import clopper_pearson_lower
from robustness_gate.verdict import asked_by, counting, label, spelled_out, tally
from robustness_gate.verdict.hypotheses import metric_of
from robustness_gate.verdict.wording import sentence, sentences

CALIBRATION = (
    "calibration_missing", "calibration_does_not_count", "spike_failed", "not_calibrated", "calibration_failed",
    "no_bite_shown", "expected_bite_missing", "expected_method_missing", "nothing_recovers",
)  # fmt: skip
SELF_TEST = ("self_test_missing", "self_test_does_not_count", "self_test_failed")
POSITIVE_CONTROL = (
    "positive_control_missing", "positive_control_invalid", "positive_control_within_limits", "gap_not_measured",
    "no_gap", "control_may_know", "hidden_not_bound",
)  # fmt: skip
TOKENIZER_FLAGS = ("template_differs", "tokenizer_differs", "tokenizer_unverified")
PARTS = {
    "normalizer": ("normalizer", "normalizers"),
    "pre_tokenizer": ("pre-tokenizer", "pre-tokenizers"),
    "model": ("setting of its model", "settings of its model"),
    "vocabulary": ("word of the vocabulary", "words of the vocabulary"),
    "merges": ("merge", "merges"),
    "post_processor": ("post-processor", "post-processors"),
    "decoder": ("decoder", "decoders"),
    "added_tokens": ("added token", "added tokens"),
    "special_tokens": ("special token", "special tokens"),
    "chat_template": ("chat template", "chat templates"),
    "settings": ("setting", "settings"),
}
"""The name of a part, in the singular and in the plural."""


class Instrument(NamedTuple):
    """Whether an instrument was shown to work: without it a negative result means nothing."""

    name: str
    state: Literal["ok", "fault", "off"]
    text: str

    @property
    def line(self) -> str:
        """In one line."""
        return f"{self.name}: {self.text}"


def instruments(report: Report) -> Iterator[Instrument]:
    """The self-test, a sham for each required attack, the positive control, with the judge's sentences for faults."""
    validity = report.resolved.validity
    faults = [each for each in report.verdict.blockers if each.code in INSTRUMENTS]
    off = "the policy does not ask for it"
    if validity.self_test == "off":
        yield Instrument("self-test", "off", off)
    elif fault := next((each for each in faults if each.code in SELF_TEST), None):
        yield Instrument("self-test", "fault", sentence(fault))
    else:
        yield from _self_tests(report)
    yield from _calibration(report, [each for each in faults if each.code in CALIBRATION])
    for attack in sorted({each.attack for each in report.resolved.required} - {"none"}):
        own = [r for r in report.trials if r.trial.role == Role.SHAM and r.trial.attack == attack and r.measurements]
        fault = next((each for each in faults if each.args.get("attack") == attack), None)
        if validity.sham == "off" and not own:
            yield Instrument(f"sham of {attack}", "off", off)
        elif fault is None and not own:  # no blocker `sham_missing`, because the left-out sham has its own
            yield Instrument(f"sham of {attack}", "off", "the plan left it out")
        elif validity.sham != "off":
            yield Instrument(
                f"sham of {attack}", "fault" if fault else "ok", sentence(fault) if fault else _unmoved(own)
            )
    control = next((each for each in faults if each.code in POSITIVE_CONTROL), None)
    yield from _positive_control(report, sentence(control) if control else None)
    yield _tokenizer(report)


def _self_tests(report: Report) -> Iterator[Instrument]:
    """The self-test of each required attack."""
    today, days = datetime.fromisoformat(report.verdict.at).date(), report.resolved.validity.self_test_days
    trials = [each.trial for each in report.trials if each.planned and each.trial.role == Role.CANDIDATE]
    for requirement in (each for each in report.resolved.required if each.attack != "none"):
        trial = next((each for each in trials if requirement.selects(each)), None)
        if trial is None:
            yield Instrument(f"self-test of {requirement}", "off", "the plan left the attack out")
            continue
        counted = counting(report.self_tests, asked_by(requirement, trial), report.model_type, today, days)
        if not counted:  # without a blocker for it
            yield Instrument(f"self-test of {label(trial)}", "ok", "the calibration on the original stands in for it")
        for test in sorted(counted, key=lambda each: each.seed):
            there = f"it brought {test.organism} from {test.before / test.items:.1%} to {test.after / test.items:.1%}"
            there += f" at budget {test.budget}" if test.budget > 0 else ""
            there += f" (for so small a model with other {', '.join(sorted(test.extended))})" if test.extended else ""
            controls = " and ".join(
                f"{each.organism} from {each.before / test.items:.1%} to {each.after / test.items:.1%}"
                for each in test.negative_controls
            )
            text = f"{there}, and, where nothing is to be found, {controls} ({test.at}, {test.model_type})"
            seed = f", seed {test.seed}" if len(counted) > 1 else ""
            yield Instrument(f"self-test of {label(trial)}{seed}", "ok", text)


def _calibration(report: Report, faults: Sequence[Blocker]) -> Iterator[Instrument]:
    """The calibration on the original, with the judge's sentences for its faults, and its fixed words by attack."""
    for each in faults:
        yield Instrument("calibration", "fault", sentence(each))
    for name, words in calibrated(report.resolved, evidence_in(report)).items():
        yield Instrument(f"calibration of {name}", "off" if faults else "ok", " ".join(words))


def part_words(part: TokenizerPart) -> str:
    """`26 normalizers that the original does not have (Replace)`."""
    names = ", ".join(part.names) + (", ..." if len(part.names) == 3 and part.count > 3 else "")
    what = f"{part.count:,} {PARTS[part.part][part.count > 1]}"
    how = {
        "more": "that the original does not have",
        "fewer": "of the original that it does not have",
        "other": "otherwise than the original's",
    }
    return f"{what} {how[part.how]}" + (f" ({names})" if names else "")


def _tokenizer(report: Report) -> Instrument:
    """The comparison of the candidate's tokenizer, with the parts that differ."""
    raised = [each for each in report.verdict.flags if each.flag in TOKENIZER_FLAGS]
    compared = [each for each in report.tokenizers if each.reference in {b.sha256 for b in report.comparators}]
    differing = "; ".join(part_words(part) for each in compared for part in each.parts)
    parts = f"; it has {differing}" if differing else ""
    if blocking := [each for each in raised if each.blocks]:
        return Instrument("tokenizer", "fault", f"{sentences(blocking)}{parts}")
    if raised:
        return Instrument("tokenizer", "off", f"recorded only: {sentences(raised)}{parts}")
    if compared:
        texts = sum(each.texts for each in compared)
        return Instrument("tokenizer", "ok", f"the original's makes the same token ids of all {texts:,} texts{parts}")
    if report.tokenizers and report.resolved.tokenizer is not None:
        return Instrument("tokenizer", "ok", "it has the digest that the policy pins")
    return Instrument("tokenizer", "off", "no comparison is on record")


def _unmoved(shams: list[TrialRecord]) -> str:
    asked = {measurement.task: measurement.items for record in shams for measurement in record.measurements}
    which = ", ".join(f"all {items} to '{task}'" for task, items in sorted(asked.items()))
    return f"at strength zero it left every answer as it was: {which}"


def _gap(report: Report) -> str | None:
    """The gap on which the share limits rest, as the untouched trials show it; None without one."""
    untouched = [each for each in facts.shares(report) if each.finding.attack == "none"]
    found = [
        f"the original scores {each.points} points more than the {each.control} {each.gap_when} "
        f"(rule '{each.finding.rule}')"
        for each in untouched
    ]
    return "; ".join(dict.fromkeys(found)) or None


def _positive_control(report: Report, fault: str | None) -> Iterator[Instrument]:
    """The untouched original's accuracy, and the limit that it exceeds."""
    asked = report.resolved.validity.positive_control != "off"
    measurements = {m.task: (r.trial, m) for r in report.trials
                    if (r.trial.role, r.trial.attack) == (Role.ORIGINAL, "none") for m in r.measurements}  # fmt: skip
    policy = spelled_out(report.resolved)
    held = [
        (limit, metric_of(limit, measurements[limit.task][0]), measurements[limit.task][1])
        for limit in policy.limits
        if limit.absolute and limit.task in measurements
    ]
    if not held and (gap := _gap(report)) is not None:
        yield Instrument("positive control", "fault" if fault else "ok", f"{gap}{f': {fault}' if fault else ''}")
        return
    if not held:
        text = fault or "the policy does not ask for it, and no original was examined"
        yield Instrument("positive control", "fault" if fault else "off", text)
        return

    def over(measurement: Measurement, limit: float, correct: int) -> float:
        effect = policy.tasks[measurement.task].design_effect if measurement.task in policy.tasks else 1.0
        return (
            clopper_pearson_lower(correct / effect, measurement.items / effect, report.verdict.alpha_hypothesis) - limit
        )

    limit, metric, measurement = max(held, key=lambda each: over(each[2], each[0].most, tally(each[2], each[1])[0]))
    share = tally(measurement, metric)[0] / measurement.items
    result = f"the original answers {share:.1%} of '{measurement.task}' before any attack"
    if fault:
        yield Instrument("positive control", "fault", f"{result}: {fault}")
    elif asked:
        yield Instrument("positive control", "ok", f"{result}, and breaks the limit '{limit.id}' of {limit.most:.0%}")
    else:
        yield Instrument(
            "positive control", "off", f"{result}; the limit '{limit.id}' is {limit.most:.0%}, and nothing was required"
        )
