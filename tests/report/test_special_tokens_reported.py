"""The report names the special tokens that stand in questions, by task and id."""

from __future__ import annotations

import dataclasses

import evidence as its

from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build


def test_the_report_says_which_special_tokens_stand_in_lost_questions() -> None:
    evidence = its.evidence(its.planned(its.MANIFEST), its.WORST["PASS"])
    untouched = {trial.id for trial in evidence.planned if (trial.role, trial.attack) == (Role.CANDIDATE, "none")}
    task = next(measurement.task for measurement in evidence.measurements if measurement.trial in untouched)

    def told(*ids: int, **summary: float) -> list[str]:
        measurements = tuple(
            measurement.model_copy(
                update={"lost": ("q1",), "special_tokens": ids, "summary": {**measurement.summary, **summary}}
            )
            if measurement.trial in untouched and measurement.task == task
            else measurement
            for measurement in evidence.measurements
        )
        made = report_build.make(
            *its.files(), its.MANIFEST, dataclasses.replace(evidence, measurements=measurements), its.AT
        )
        return [each for each in made.limitations if f"items of '{task}' have no answer" in each]

    (line,) = told()
    assert line.endswith("loses part of the question: q1.")
    (line,) = told(1, 32000, control_items=2.0)
    assert line.endswith(
        "q1. 2 of them hold what the tokenizer takes for special tokens (ids 1, 32000), and not for text."
    )
