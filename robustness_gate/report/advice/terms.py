"""Steps for the policy's own terms: its dates, rules, comparators, and required statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustness_gate.records.trial import Role
from robustness_gate.records.verdict import Blocker
from robustness_gate.report.advice.case import Case, Step, comparators
from robustness_gate.report.advice.commands import again
from robustness_gate.report.advice.words import listed
from robustness_gate.verdict.wording import capital, sentence


def out_of_time(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """A policy or control that is not valid today. Only its owner may review it and change a date."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Let the policy's owner look at its limits again and issue a new version with new dates. The same "
            "command then judges again without running anything twice.",
            again(case),
        )


def idle(_: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Rules that do not fit together, so that they have no effect."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Make the policy's rules fit together, or remove one: robustness-gate policy check POLICY --suite SUITE.",
        )


def not_run(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Required trials that were not run, or not on the control that the policy names."""
    yield from _no_control(case)
    yield from _no_original(case)
    for blocker in blockers:
        if blocker.code == "not_compared" and blocker.causes:
            yield Step(
                f"{capital(sentence(blocker))}.",
                "The same attack must work on both models. Give it a grid of settings in the suite that does not ruin "
                "a model without the knowledge (smaller rates, fewer steps): it is then another trial, and runs again.",
                again(case),
            )
        if not blocker.args.get("relative_to", blocker.args.get("control")):
            yield Step(
                f"{capital(sentence(blocker))}.",
                "Let the suite try what the policy requires, then give the same command again. robustness-gate policy "
                "check POLICY --suite SUITE says what it lacks.",
                again(case),
            )


def only_a_breach(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:  # noqa: ARG001 - all steps have them
    """The policy is for an audit without the models that a PASS needs."""
    yield Step(
        "This policy can find a breach and nothing else.",
        "Ask the vendor for the model before unlearning and for one that was trained without the domain; then use a "
        "policy with a limit on the share of their gap (docs/vendor-audit.md).",
    )


def not_asked(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """The candidate must also be asked differently from the suite: the run plans that by itself."""
    for blocker in blockers:
        through = blocker.code == "not_asked_through_original"
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Give the same command again: that trial is planned and run, and nothing else runs twice.",
            again(case, more="--original ORIGINAL" if through else ""),
        )


def _no_control(case: Case) -> Iterator[Step]:
    """Controls of the policy that were not given, or whose answers are not valid."""
    for name in sorted({limit.control for limit in case.policy.limits if limit.control is not None}):
        model, control = (Role.CONTROL, name), case.policy.controls.get(name)
        if control is None or model in _held(case):
            continue
        earlier = control.kind == "earlier_release"
        if model in comparators(case):
            because = f"'{name}' was given, but none of its answers can be compared with the candidate's."
            do = (
                "Its trials must have ended well and reached the strength floors of their attacks, on the same "
                "questions, data, attacks, seeds and budgets, and the policy's digest must be its own."
            )
        else:
            because = f"The policy compares with '{name}', and this run was not given it."
            do = "Name that model: it is put through the same attacks."
            if earlier:
                do = f"Name the report of that release; its SHA-256 begins with {(control.report_sha256 or '')[:12]}."
        yield Step(because, do, again(case, more=f"--anchor {name}=REPORT" if earlier else f"--control {name}=DIR"))


def _no_original(case: Case) -> Iterator[Step]:
    """Guardrails without the model that they compare with, unless the positive control asks for it already."""
    control = ("positive_control_missing", "positive_control_invalid")
    asked_for = any(each.code in control for each in case.report.verdict.blockers)
    if case.policy.guardrails and (Role.ORIGINAL, "") not in _held(case) and not asked_for:
        rules = listed(sorted(rule.id for rule in case.policy.guardrails))
        yield Step(
            f"The cost of unlearning is measured against the original ({rules}), but it has no valid answers here.",
            "Name the model before unlearning; it is asked once, with no attack.",
            again(case, more="--original ORIGINAL"),
        )


def unstated(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Claims that the policy requires from the producer."""
    names = [blocker["name"] for blocker in blockers]
    if names:
        yield Step(
            f"The policy requires that the producer state {listed(names)}, and nothing is on record.",
            f"Let the producer write a YAML file with {', '.join(f'`{name}: ...`' for name in names)}. It is recorded "
            "unchecked; nothing runs twice.",
            again(case, more="--statement FILE"),
        )


def other_weights(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Weights in the checkpoint's repository that were not examined, or a repository whose files are not known."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Write a directory of what was examined, robustness-gate checkpoint copy SRC DST, and release and examine "
            "that. Its digest is the same, so nothing runs twice.",
            again(case),
        )


def plugins(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """A plug-in took part that the policy does not name by digest."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Read its code. Then install its wheel (not as editable) and let the policy's `plugins` name its digest, "
            "which `policy pin` prints; or run without it and with another --ledgers, where it has never run.",
            again(case),
        )


def _held(case: Case) -> set[tuple[Role, str]]:
    """The models with which the candidate was compared, each by its role and a control's name."""
    found = (finding.relative_to for finding in case.report.verdict.findings)
    return {(each.role, each.control) for each in found if each is not None}
