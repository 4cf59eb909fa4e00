"""Panels of models whose training is known: suites and policies fit once they are pinned, and are refused before."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub import WMDP_PARTS, pinned, unchecked
from test_refusals import NOBODY

from robustness_gate.errors import FileError, GateError
from robustness_gate.inputs.shipped import POLICY, SUITE
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.questions import question_ids

PANELS = [name for name in SUITE.names() if name.startswith("panels/")]
JUDGED = [name for name in POLICY.names() if name.startswith("panels/")]
COUNTS = {"forget10": 400, "forget10-cloze": 400, "retained": 400, "real-authors": 100, "world-facts": 117,
          "forgotten-news": 100, "retained-news": 100, "seen-before": 30}  # fmt: skip
"""Made-up numbers of rows for tasks whose count is not pinned."""


def row(place: str, number: int) -> dict[str, Any]:
    """A row with every column that a panel names."""
    draw = random.Random(f"{place} {number}")
    right = f"answer {number} of {place[-30:]}"
    return {
        "question": f"What is {number} of {place[-60:]}?", "prompt": f"How is {number} of {place[-60:]} done?",
        "answer": right, "paraphrased_answer": right, "perturbed_answer": [f"{right} {each}" for each in "vwxyz"],
        "choices": [f"{each}{number}" for each in "abcd"], "text": f"Text {number} of {place[-60:]}.",
        "label": "safe" if number < 250 else "unsafe", "index": draw.randrange(4),
    }  # fmt: skip


def local(name: str, folder: Path) -> Path:
    """A panel's suite with made-up pins, and files in the place of the hub's data sets."""
    made = yaml.safe_load(unchecked(pinned(SUITE.named(name).read_text(encoding="utf-8"))))
    held: dict[str, str] = {}

    def put(place: str, count: int, *, letters: bool) -> str:
        if place not in held:
            held[place] = f"set{len(held)}"
            rows = [row(place, number) for number in range(count)]
            if letters:
                rows = [{**each, "answer": each["index"]} for each in rows]
            (folder / held[place]).mkdir()
            (folder / held[place] / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return held[place]

    bio = [{**row("bio", n), "answer": row("bio", n)["index"]} for n in range(1273)]
    for place, part in {**WMDP_PARTS, "cais/wmdp@": slice(None)}.items():
        full = next((each for each in re.findall(r"hf-dataset://\S+", json.dumps(made)) if place in each), "")
        if full := full.strip('",]}'):
            held[full] = f"set{len(held)}"
            (folder / held[full]).mkdir()
            (folder / held[full] / "rows.jsonl").write_text("\n".join(map(json.dumps, bio[part])), encoding="utf-8")
    for key, task in made["tasks"].items():
        if task["count"] == "UNPINNED":
            task["count"] = COUNTS[key]
        total = 450 if "where" in task else task["count"]
        for source in ("items", "held_out"):
            if isinstance(task.get(source), list):
                task[source] = [held[each] for each in task[source]]
            elif source in task:
                task[source] = put(task[source], total, letters="columns" not in task)
    for corpus in made["corpora"].values():
        if "items" in corpus:
            corpus["items"] = put(corpus["items"], 310, letters=True)
    (folder / "suite.yaml").write_text(json.dumps(made), encoding="utf-8")
    return folder / "suite.yaml"


def test_there_are_panels():
    assert {"panels/tofu-1b", "panels/deep-ignorance", "panels/muse-news", "panels/refusals"} <= set(PANELS)
    assert set(JUDGED) == set(PANELS) - {"panels/refusals"}


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_says_that_it_was_not_run(name):
    for kind in (SUITE, POLICY):
        if name in kind.names():
            assert kind.named(name).read_text(encoding="utf-8").startswith("# NOT RUN HERE.")


@pytest.mark.parametrize("name", [each for each in PANELS if each != "panels/refusals"])
def test_a_panel_is_refused_until_it_is_pinned(name):
    with pytest.raises(FileError) as caught:
        load_suite(SUITE.named(name))
    assert caught.value.code == "unpinned"
    with pytest.raises(GateError):
        load_policy(POLICY.named(name))


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_can_be_planned_once_it_is_pinned(name, tmp_path):
    read = load_suite(local(name, tmp_path))
    data = gather(read)
    if name not in JUDGED:
        asked = {task.name for task in data.task_refs("relearn")}
        assert {"safe.chat", "unsafe.chat", "over-refusal.chat", "harmful.chat"} <= asked, "after attacks too"
        assert (len(data.tasks["safe.chat"].items), len(data.tasks["unsafe.chat"].items)) == (250, 200)
        return
    text = POLICY.named(name).read_text(encoding="utf-8")
    for task in re.findall(r"^  (\S+): {items: \S+, sha256: UNPINNED, questions: UNPINNED", text, re.MULTILINE):
        found = question_ids(data.refs[task], data.tasks[task].items).pin
        text = re.sub(rf"({task}: {{items: \S+, sha256: UNPINNED, questions: )UNPINNED", rf"\g<1>{found}", text)
    for task in re.findall(r"^  (\S+): {items: \S+, sha256: UNPINNED", text, re.MULTILINE):
        text = re.sub(rf"({task}: {{items: \S+, sha256: )UNPINNED", rf"\g<1>{data.refs[task].sha256}", text)
    numbers = itertools.count()  # each model is another one
    text = re.sub(r"(sha256|original): UNPINNED", lambda m: f"{m[1]}: {next(numbers):064x}", text)
    for task in re.findall(r"^  (\S+): {items: UNPINNED", text, re.MULTILINE):
        text = text.replace(f"{task}: {{items: UNPINNED", f"{task}: {{items: {len(data.tasks[task].items)}")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    policy = load_policy(tmp_path / "policy.yaml")
    made = plan.make(policy, read, data, [NOBODY])
    for requirement in policy.record.required:
        assert any(requirement.selects(trial) for trial in made.trials), str(requirement)


def test_the_authors_of_tofu_are_on_one_side_each(tmp_path):
    data = gather(load_suite(local("panels/tofu-1b", tmp_path)))
    judged = {item.cluster for item in data.tasks["forget10"].items}
    assert (len(judged), len(data.tasks["forget10"].items)) == (14, 280)
    assert {item.cluster for item in data.tasks["forget10-cloze"].items} == judged
    assert len({item.cluster for item in data.corpora["forget"].items} | judged) == 18
