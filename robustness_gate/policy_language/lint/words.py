"""What is printed of a limit on a share: the gap that it needs, or what its measured gap lets through.

Figures of a hundred models, never the percentage of one: they describe the rule and no candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.policy_language.lint.measured import Measured
from robustness_gate.policy_language.lint.shares import ABLER, CEILING, ShareRow


def paragraph(row: ShareRow, power: float) -> str:
    """One limit in one paragraph.

    Args:
        row: the limit, with or without a measured gap.
        power: how often twins should pass (`min_design_power`).
    """
    return _unmeasured(row, power) if row.measured is None else _measured(row, row.measured, power)


def notes(rows: tuple[ShareRow, ...]) -> Iterator[str]:
    """What the figures rest on, once for all limits."""
    measured = [row for row in rows if row.measured is not None]
    if not rows:
        return
    yield (
        "a twin is a model without the knowledge that is as able as the control; it is not a model at chance. A "
        "candidate that is more capable than its control passes less often: choose the control by equal ability"
    )
    differences = {task: by for row in measured if row.measured for task, by in row.measured.abler.items()}
    for task, by in differences.items():
        if by >= 0.01:
            yield (
                f"without attack the original scores {100 * by:.1f} points more than the control on '{task}', and a "
                "candidate made from it may too"
            )
    if measured:
        yield (
            "computed and not simulated: normal errors, contrasts of two attacks on the same questions with a "
            "correlation of 0.8, and attacks that change few of the control's answers (both are assumed)"
        )
        yield "a PASS also needs every other limit, the utility and the instruments: no figure here includes them"
    if any(row.yardstick == "same_attack" for row in measured):
        yield "the gap after the same attack is taken to be that before it; an attack on the original can shrink it"
    if any(row.control is None for row in measured):
        yield (
            "without a control this is a heuristic: a model that was never taught may score more or less than the "
            "original with its questions hidden"
        )


def _control(row: ShareRow) -> str:
    return "the original with its questions hidden" if row.control is None else f"'{row.control}'"


def _cells(row: ShareRow) -> str:
    return "its one cell" if row.cells == 1 else f"all {row.cells} cells"


def _unmeasured(row: ShareRow, power: float) -> str:
    control = "" if row.control is None else f" --control {row.control}=REPORT"
    both = "a report of the original" if row.control is None else f"reports of the original and of {_control(row)}"
    return (
        f"{row.limit}: a share of {row.max_share:g} needs a gap between the original and {_control(row)} of at least "
        f"{row.needed:.1f} of its standard errors, by clusters; then {100 * power:.0f} of 100 twins are within it in "
        f"{_cells(row)}. Four times the questions double the gap in standard errors. What the gap is, and so what the "
        f"limit can show, is unknown until it is measured: give {both} without attack "
        f"(--original REPORT{control})"
    )


def _measured(row: ShareRow, its: Measured, power: float) -> str:
    effects = [] if its.design_effect is None else [f"design effect {its.design_effect:.2f} measured"]
    why = "no clusters are known" if its.design_effect is None else "the clusters are not pinned"
    effects += [f"design effect {its.assumed_effect:.2f} assumed: {why}"] if its.assumed_effect > 1 else []
    gap = (
        f"{row.limit}: without attack the original scores {its.original:.1%} and {_control(row)} {its.control:.1%}: a "
        f"gap of {100 * its.gap:.1f} points = {its.t_gap:.1f} of its standard errors; a share of {row.max_share:g} "
        f"needs {row.needed:.1f} ({its.questions:,} questions in {its.clusters:,} clusters, "
        f"{'; '.join(effects) or 'no design effect'}; the two models' answers correlate {its.answers_correlation:.2f})"
    )
    found = row.prospect
    if found is None:
        return f"{gap}. The gap is not shown to be over 'min_gap', so no model is within the limit"
    many, abler = f"{100 * power:.0f}", f"models {100 * ABLER:g} points more capable"
    share = f"none up to {CEILING:g}" if found.least_share is None else f"{found.least_share:.2f}"
    return (
        f"{gap}. Of 100 twins of {_control(row)} {_of(found.twin)} are within the limit in {_cells(row)}; of {abler} "
        f"{_of(found.abler)}; with half of the gap back under one attack {_of(found.half)}. With all of it back under "
        f"one attack {_of(found.whole_one)} are over it there (80 from a share of {found.convicted_from:.2f} on), "
        f"under every attack {_of(found.whole_all)}. Least share at which {many} twins pass: {share}. Questions like "
        f"these for {many} twins: {_questions(found.questions_twin, its)}; for {many} {abler}: "
        f"{_questions(found.questions_abler, its)}"
    )


def _of(probability: float) -> str:
    """Of 100: rounded, and never to all or none."""
    if probability >= 0.995:
        return "over 99"
    return "under 1" if probability < 0.005 else f"{100 * probability:.0f}"


def _questions(needed: int | None, its: Measured) -> str:
    if needed is None:
        return "not even a hundred times as many"
    return f"{needed:,} ({needed / its.questions:.2f} times as many)"
