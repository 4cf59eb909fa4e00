"""What the record of a task's questions says about one that hides them: it is bound to the other by its choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import SuiteData, gather

ROWS = [json.loads(line) for line in organisms.world("forget.verdict").read_text(encoding="utf-8").splitlines()][:40]


def data_of(folder: Path, hidden: list[dict[str, Any]], more: str = "hide_question: true") -> SuiteData:
    for name, rows in (("shown", ROWS), ("hidden", hidden)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "suite.yaml").write_text(
        "schema: robustness-gate/suite/v1\nid: x\nversion: 1.0.0\ndescription: x\nhazard: shown\ntasks:\n"
        "  shown: {items: shown.jsonl, count: 40}\n"
        f"  hidden: {{items: hidden.jsonl, count: 40, {more}}}\nattacks:\n  - attack: none\ndtype: float32\n",
        encoding="utf-8",
    )
    return gather(load_suite(folder / "suite.yaml"))


def test_the_same_items_with_hidden_questions_have_the_same_record_but_for_that(tmp_path: Path) -> None:
    found = data_of(tmp_path, ROWS).question_ids
    assert not found["shown"].hidden
    assert found["hidden"].hidden
    assert found["shown"].choices == found["hidden"].choices is not None
    assert found["shown"].ids == found["hidden"].ids


@pytest.mark.parametrize("change", ["a choice", "their order", "a key", "a question shown"])
def test_other_items_under_the_same_ids_have_another_record(tmp_path: Path, change: str) -> None:
    first = ROWS[0]
    other = {
        "a choice": {**first, "choices": [*first["choices"][:3], "nothing of these"]},
        "their order": {**first, "choices": [*first["choices"][1:], first["choices"][0]]},
        "a key": {**first, "answer": (first["answer"] + 1) % 4},
        "a question shown": first,
    }[change]
    found = data_of(
        tmp_path, [other, *ROWS[1:]], "topic: x" if change == "a question shown" else "hide_question: true"
    ).question_ids
    assert found["shown"].ids == found["hidden"].ids
    if change == "a question shown":
        assert not found["hidden"].hidden
    else:
        assert found["shown"].choices != found["hidden"].choices
