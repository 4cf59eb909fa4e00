"""What to do where the policy's own terms are not met: its dates, rules, models to compare with, and statements."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.advice.case import Case, Step, beside, blocks
from robustness_gate.advice.commands import again
from robustness_gate.advice.words import listed, sentence


def out_of_time(case: Case) -> Iterator[Step]:
    """A policy or control that does not hold today. Its owner looks at it again; nobody else moves a date."""
    for block in blocks(case, "expired"):
        yield Step(
            f"{sentence(block)}.",
            "Let whoever owns the policy look at its limits again and issue a new version with new dates. The same "
            "command then judges again without running anything twice.",
            again(case),
        )


def idle(case: Case) -> Iterator[Step]:
    """Rules that do not meet, so that nothing would have to be shown."""
    for block in blocks(case, "idle_rule"):
        yield Step(
            f"{sentence(block)}.",
            "Let the policy's rules meet, or take one out: robustness-gate policy check POLICY --suite SUITE.",
        )


def no_control(case: Case) -> Iterator[Step]:
    """Models beside which the policy holds the candidate, and which nobody named, or whose answers do not count."""
    for name in sorted({limit.over for limit in case.policy.limits if limit.over is not None}):
        role, control = f"control:{name}", case.policy.controls.get(name)
        if control is None or role in _held(case):
            continue
        earlier = control.kind == "earlier_release"
        if role in beside(case):
            because = f"'{name}' was given, and none of its answers can stand beside the candidate's."
            do = (
                "Its trials must have ended well, on the same questions, data, attacks, seeds and budgets, and the "
                "policy's digest must be its own."
            )
        else:
            because = f"The policy compares with '{name}', and this run was not given it."
            do = "Name that model: it is put through the same attacks."
            if earlier:
                do = f"Name the report of that release; its SHA-256 begins with {(control.report_sha256 or '')[:12]}."
        yield Step(because, do, again(case, more=f"--anchor {name}=REPORT" if earlier else f"--control {name}=DIR"))


def no_original(case: Case) -> Iterator[Step]:
    """Guardrails without the model that they compare with. Where the canary misses it too, it was asked for above."""
    asked_for = any(
        block.words.startswith(("there is no canary", "the canary was not held"))
        for block in blocks(case, "instrument")
    )
    if case.policy.guardrails and "original" not in _held(case) and not asked_for:
        rules = listed(sorted(rule.id for rule in case.policy.guardrails))
        yield Step(
            f"What unlearning cost is held against the original ({rules}), and it has no valid answers here.",
            "Name the model before unlearning; it is asked once, with no attack.",
            again(case, more="--original ORIGINAL"),
        )


def unstated(case: Case) -> Iterator[Step]:
    """What the producer must say of the checkpoint."""
    required = case.policy.provenance.require if case.policy.provenance else ()
    names = [name for name in required if not case.report.states.get(name, "").strip()]
    if names:
        yield Step(
            f"The policy requires that the producer state {listed(names)}, and nothing is on record.",
            f"Let the producer write a YAML file with {', '.join(f'`{name}: ...`' for name in names)}. It is recorded "
            "as said; nothing runs twice.",
            again(case, more="--statement FILE"),
        )


def other_weights(case: Case) -> Iterator[Step]:
    """Weights in the checkpoint's repository that were not examined, or a repository whose files are not known."""
    for block in blocks(case, "other_weights"):
        yield Step(
            f"{sentence(block)}.",
            "Write a directory of what was examined, robustness-gate checkpoint copy SRC DST, and release and examine "
            "that. Its digest is the same, so nothing runs twice.",
            again(case),
        )


def _held(case: Case) -> set[str]:
    """Roles of the models beside which the candidate was held in the end."""
    return {finding.over for finding in case.report.verdict.findings if finding.over}
