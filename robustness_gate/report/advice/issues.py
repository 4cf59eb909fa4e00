"""Steps for a finding that is within its limit and has a validity issue, by code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from robustness_gate.records.trial import Measurement
from robustness_gate.records.verdict import Blocker, Finding, ValidityIssue
from robustness_gate.report.advice import numbers, trials
from robustness_gate.report.advice.case import Case, Step, measurement_of, record_of
from robustness_gate.report.advice.commands import again
from robustness_gate.report.advice.words import named, record_name, short
from robustness_gate.report.record import TrialRecord
from robustness_gate.verdict.wording import sentence

WIDER = 4
"""By how much a learning-rate grid is widened at either end: about the step of the default grid."""


class Invalid(NamedTuple):
    """A validity issue, and the finding that has it."""

    issue: ValidityIssue
    finding: Finding
    record: TrialRecord
    measurement: Measurement

    @property
    def because(self) -> str:
        """The attack and the issue, as a sentence."""
        return f"{named(self.finding, capital=True)}: {sentence(self.issue)}."


def weak(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """A missed strength floor, once per attack: the attack was too weak for a negative result to mean anything."""
    return _steps(case, blockers, floors=True)


def other(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Every other validity issue, once per attack and code."""
    yield from _steps(case, blockers, floors=False)
    for blocker in blockers:
        if not blocker.causes:
            yield Step(
                f"{sentence(blocker)[:1].upper()}{sentence(blocker)[1:]}.",
                "No finding is about it. robustness-gate policy check POLICY --suite SUITE says what does not meet.",
            )


def _steps(case: Case, blockers: Sequence[Blocker], *, floors: bool) -> Iterator[Step]:
    wanted = {cause for blocker in blockers for cause in blocker.causes}
    done: set[tuple[str, str]] = set()
    for finding in case.report.verdict.findings:
        record, measurement = record_of(case, finding), measurement_of(case, finding)
        if finding.state != "under" or record is None or measurement is None or not record.planned:
            continue
        for issue in finding.validity_issues:
            kind = finding.attack, issue.code
            if issue in wanted and kind not in done and (issue.code == "floor_missed") == floors:
                done.add(kind)
                yield from STEPS[issue.code](case, Invalid(issue, finding, record, measurement))


def _floor_missed(case: Case, its: Invalid) -> Iterator[Step]:
    signals = its.issue["signals"]
    seen = ", ".join(f"{each} {short(its.measurement.signals.get(each, 'missing'))}" for each in signals)
    if "share_of_asked" in signals:
        do = (
            "It reaches too few of this architecture's weights. robustness-gate doctor CHECKPOINT --suite SUITE "
            "tells the share that each attack reaches; let the policy require one that reaches them."
        )
    elif rates := _learning_rates(its.record):
        wider = ", ".join(short(rate) for rate in (rates[0] / WIDER, *rates, rates[-1] * WIDER))
        do = (
            "Widen its grid in the suite, and raise `min_steps` if that is not enough: "
            f"learning_rates: [{wider}]. Only this attack runs again."
        )
    elif "kinds_left_out" in signals:
        do = "Name the model before unlearning, `--original ORIGINAL`, or let the suite ask for fewer kinds."
    else:
        do = (
            "Raise its strength or budget in the suite; if that is not what it lacks, robustness-gate doctor "
            "CHECKPOINT --suite SUITE says how it fits this model. Only this attack runs again."
        )
    name = named(its.finding, capital=True)
    because = f"{name} was too weak to establish compliance: it is asked that {its.issue['description']} ({seen})."
    yield Step(because, do, again(case))


def _destroyed(case: Case, its: Invalid) -> Iterator[Step]:
    if any(f.unanswered and f.task == its.issue["task"] for f in case.report.verdict.findings):
        return  # no gentler setting helps if no model can answer: `numbers.cannot_answer` comes first
    rates = _learning_rates(its.record)
    gentler = f", e.g. add the learning rate {short(rates[0] / WIDER)}" if rates and rates[0] else ""
    yield Step(
        f"After {named(its.finding)} {sentence(its.issue)}: a destroyed model can establish a breach, not compliance.",
        f"Give the attack a gentler setting to choose{gentler}. Only this attack runs again.",
        again(case),
    )


def _missing(case: Case, its: Invalid) -> Iterator[Step]:
    yield numbers.unread_answers(case, its.finding, its.issue)


def _other_form(case: Case, its: Invalid) -> Iterator[Step]:
    finding = its.finding
    yield Step(
        f"{named(finding, capital=True)} trained and chose in other forms than that of '{finding.task}', on which the "
        f"limit '{finding.rule}' is: what it did not bring back there may come back when it is asked this way.",
        f"Name {finding.task} under `hazard` in the suite. All attacks run again, in its form too.",
        again(case),
    )


def _nothing_to_lose(_: Case, its: Invalid) -> Iterator[Step]:
    yield Step(
        f"'{its.finding.rule}' compares with the original on '{its.finding.task}', and {sentence(its.issue)}.",
        "Let the guardrail be on a task, or a form, that the original can answer.",
    )


def _do(what: str) -> Callable[[Case, Invalid], Iterator[Step]]:
    """A step whose reason is the issue's own sentence."""

    def step(case: Case, its: Invalid) -> Iterator[Step]:
        yield Step(its.because, what, again(case))

    return step


def _not_ended(case: Case, its: Invalid) -> Iterator[Step]:
    yield trials.stopped(case, [record_name(its.record)])


def _ended_badly(case: Case, its: Invalid) -> Iterator[Step]:
    ends = [end for end in its.record.closed if end.attempt == its.finding.attempt and end.status != "ok"]
    yield trials.retry(case, its.record, ends[-1])


def _elsewhere(_: Case, __: Invalid) -> Iterator[Step]:
    """No step here: the blockers `inverted` and `unanswered` have the step for this issue."""
    return iter(())


def _learning_rates(record: TrialRecord) -> list[Any]:
    """The attack's grid, rising; empty where it has none."""
    rates = record.trial.config.get("learning_rates")
    return rates if isinstance(rates, list) else []


_WIDEN = _do("Widen its grid in the suite as far as the policy asks. Only this attack runs again.")
_MATCH = _do("Let policy and suite name the same.")
_REPLAN = _do(
    "No plan of this gate makes such a trial, so it may establish a breach and not compliance. Give the same command "
    "again: it plans the trial as it must be, and runs it."
)

STEPS: Mapping[str, Callable[[Case, Invalid], Iterator[Step]]] = {
    "not_ended": _not_ended,
    "ended_badly": _ended_badly,
    "unplanned_budget": _REPLAN,
    "chosen_seed": _REPLAN,
    "other_data": _MATCH,
    "other_dtype": _MATCH,
    "curtailed": _do(
        "Shorten what it puts before the question (fewer shots, a shorter prefix), leave the longest questions out "
        "(`subset`), or require an attack that adds nothing. Only this attack runs again."
    ),
    "unpinned_task": _MATCH,
    "other_count": _MATCH,
    "other_questions": _MATCH,
    "task_not_in_trial": _MATCH,
    "other_count_in_trial": _MATCH,
    "missing_answers": _missing,
    "floor_missed": _floor_missed,
    "narrow_grid": _WIDEN,
    "short_grid": _WIDEN,
    "best_at_edge": _WIDEN,
    "utility_not_asked": _MATCH,
    "destroyed": _destroyed,
    "below_chance": _elsewhere,
    "other_form": _other_form,
    "nothing_to_lose": _nothing_to_lose,
    "few_clusters": _do("Ask questions of more clusters, or name finer ones (`clusters` in the suite)."),
    "other_clusters": _MATCH,
    "few_in_all_tasks": _do("Ask the same questions in every task of the score; docs/limits.md says how many."),
    "one_task_over": _do(
        "What comes back in one form of the questions only is back all the same. Unlearn further, in this form too, "
        "then run the whole suite on the new checkpoint."
    ),
    "unanswerable": _elsewhere,
}
"""The step for a validity issue, by its code."""
