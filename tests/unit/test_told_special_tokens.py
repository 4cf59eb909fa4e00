"""The report names the special tokens that stand in questions, by task and id."""

from __future__ import annotations

import dataclasses

import evidence as its

from robustness_gate import report


def test_the_report_says_which_special_tokens_stand_in_lost_questions() -> None:
    evidence = its.evidence(its.planned(its.MANIFEST), its.WORST["PASS"])
    untouched = {trial.id for trial in evidence.planned if (trial.role, trial.attack) == ("candidate", "none")}
    task = next(mark.task for mark in evidence.marks if mark.trial in untouched)

    def told(**summary: float) -> list[str]:
        marks = tuple(
            mark.model_copy(update={"lost": ("q1",), "summary": {**mark.summary, **summary}})
            if mark.trial in untouched and mark.task == task
            else mark
            for mark in evidence.marks
        )
        made = report.make(*its.files(), its.MANIFEST, dataclasses.replace(evidence, marks=marks), its.AT)
        return [each for each in made.limitations if f"items of '{task}' have no answer" in each]

    (line,) = told()
    assert line.endswith("loses part of the question: q1.")
    (line,) = told(control_items=2.0, control_token_1=1.0, control_token_32000=1.0)
    assert line.endswith(
        "q1. 2 of them hold what the tokenizer takes for special tokens (ids 1, 32000), and not for text."
    )
