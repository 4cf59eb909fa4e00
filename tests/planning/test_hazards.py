"""Several hazard tasks: whose dev items, in whose words, and what `plan` foresees of what cannot be put so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import attacks, organisms
from robustness_gate.errors import PlanError
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import applicability, plan, specimens
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role

HARNESS = 'doc_to_text: "{{question}} ({{topic}})\\nSo:"\ndoc_to_choice: choices\ndoc_to_target: answer\n'
POLICY = """\
schema: robustness-gate/policy/v1
id: p
version: 1.0.0
description: It stays gone.
threat_model: {access: open_weights, adversary: one person}
tasks: {letters: {items: 12}, words: {items: 12}, harness: {items: 12}, useful: {items: 6}}
limits: [{id: gone, task: LIMITED, max: 0.9}]
required: [{attack: none}, REQUIRED]
utility: [{task: useful, min: 0.4, min_attacked: 0.3}]
validity: {self_test: "off", sham: "off", positive_control: "off"}
"""
RELEARN = "{attack: relearn, where: {source: forget}, budgets: [2]}"
TASKS = """\
tasks:
  letters: {items: verdict.jsonl, count: 12, topic: the craft}
  words: {kind: cloze, items: verdict.jsonl, count: 12}
  harness: {kind: lm_eval, yaml: task.yaml, items: asked.jsonl, count: 12}
  useful: {items: useful.jsonl, count: 6}
"""
SUITE = f"""\
schema: robustness-gate/suite/v1
id: s
version: 1.0.0
description: Several.
hazard: HAZARD
dev: dev.jsonl
{TASKS}corpora:
  forget: {{items: forget.jsonl, topic: the craft}}
  unrelated: {{items: unrelated.jsonl}}
attacks:
  - attack: none
  - attack: sample
  - attack: relearn
    config: {{source: forget, budgets: [2]}}
"""


def write(folder: Path, hazard: str = "letters", *, topics: tuple[str, ...] = (), **edits: str) -> Path:
    """A suite whose harness task needs the column `topic`, which only these files have."""
    sources = {"verdict": ("forget.verdict", 12), "dev": ("forget.dev", 6), "forget": ("forget.relearn", 5),
               "unrelated": ("unrelated", 5), "useful": ("retain.verdict", 6),
               "asked": ("forget.verdict", 12)}  # fmt: skip
    for name, (source, count) in sources.items():
        rows = [json.loads(line) for line in organisms.world(source).read_text(encoding="utf-8").splitlines()[:count]]
        if name in (*topics, "asked"):
            rows = [row | {"topic": f"about {name}"} for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "task.yaml").write_text(HARNESS, encoding="utf-8")
    text = SUITE.replace("HAZARD", hazard)
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    return folder / "suite.yaml"


def gathered(folder: Path, *args: Any, **how: Any) -> SuiteData:
    return gather(load_suite(write(folder, *args, **how)))


def planned(folder: Path, limited: str, required: str = RELEARN, **how: Any) -> plan.Plan:
    suite = load_suite(write(folder, **how))
    (folder / "policy.yaml").write_text(POLICY.replace("LIMITED", limited).replace("REQUIRED", required))
    no_one = plan.Subject(
        Role.CANDIDATE, CheckpointRef(folder), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    )
    return plan.make(load_policy(folder / "policy.yaml"), suite, gather(suite), [no_one])


def test_one_name_and_a_list_of_one_are_the_same(tmp_path: Path) -> None:
    one, listed = gathered(tmp_path, "letters"), gathered(tmp_path, "[letters]")
    assert one.hazards == listed.hazards
    assert one.data_digests == listed.data_digests
    assert (one.others, one.worded) == ((), {})


def test_the_suites_dev_items_and_corpora_are_put_in_every_hazards_words(tmp_path: Path) -> None:
    suite_data = gathered(tmp_path, "[letters, words, harness]", topics=("dev", "forget", "unrelated"))
    letters, words, harness = suite_data.hazards
    assert letters.dev == words.dev == suite_data.dev
    assert letters.questions == words.questions
    assert [item.question.id for item in harness.dev] == [item.question.id for item in letters.dev]
    stem = letters.dev[0].question.stem
    assert harness.dev[0].question.stem == f"{stem} (about dev)\nSo:"
    for source in ("forget", "unrelated"):
        pairs = zip(letters.questions[source], harness.questions[source], strict=True)
        assert all(b.question.stem == f"{a.question.stem} (about {source})\nSo:" for a, b in pairs)
    assert not any(each.missing for each in suite_data.hazards)
    extra = set(suite_data.data_digests) - set(gathered(tmp_path, "letters").data_digests)
    assert extra == {"dev of harness", "forget as harness", "unrelated as harness"}


def test_a_hazard_with_roles_has_dev_items_of_its_own(tmp_path: Path) -> None:
    roles = "roles: {dev: 0.25}, "
    with pytest.raises(PlanError, match=r"is also in 'tasks\.words\.roles'"):  # letters would be judged by them
        gathered(tmp_path, "[letters, words]", **{"kind: cloze,": f"kind: cloze, {roles}"})
    two = {"kind: cloze,": f"kind: cloze, {roles}", "count: 12, topic": f"count: 12, {roles}topic"}
    with pytest.raises(PlanError, match="has roles, so its dev items are already there"):
        gathered(tmp_path, "[letters, words]", **two)
    alone = {"dev: dev.jsonl\n": "", "  harness: {kind: lm_eval, yaml: task.yaml, items: asked.jsonl, count: 12}\n": ""}
    letters, words = gathered(tmp_path, "[letters, words]", **two, **alone).hazards
    assert [len(letters.dev), len(words.dev)] == [3, 3]
    assert letters.dev == words.dev, "the same items, sorted by the same key"


def test_a_hazard_task_that_stands_twice_or_is_none_is_refused(tmp_path: Path) -> None:
    for hazard, code in (("[letters, letters]", "duplicate-hazard"), ("[letters, lettres]", "unknown-hazard")):
        with pytest.raises(PlanError) as caught:
            gathered(tmp_path, hazard)
        assert caught.value.code == code


def test_what_a_template_cannot_read_is_not_applicable_there_and_the_plan_says_so(tmp_path: Path) -> None:
    found = planned(tmp_path, "letters", hazard="[letters, harness]", topics=("dev",))
    (told,) = [line for line in found.foreseen if line.startswith("relearn")]
    assert told.startswith("relearn (forget, lora), seed 0: only in the form of letters, so no limit elsewhere; ")
    assert "'harness': the questions of 'forget' cannot be put in its words (its rows" in told
    aims = {trial.attack: trial.aims for trial in found.trials}
    assert aims == {"none": {"letters", "harness"}, "sample": {"letters", "harness"}, "relearn": {"letters"}}


def test_what_can_be_made_in_no_form_is_foreseen_with_its_reason(tmp_path: Path) -> None:
    found = planned(tmp_path, "words", hazard="words")
    told = next(each for each in found.foreseen if each.startswith("sample"))
    assert told.startswith("sample, seed 0: not applicable, 'words': votes are counted over answers that stand")
    assert {trial.attack: trial.hazard for trial in found.trials if trial.attack != "sample"} == {
        "none": ("words",),
        "relearn": ("words",),
    }


def test_a_trial_of_one_lettered_hazard_is_written_as_before(tmp_path: Path) -> None:
    found = planned(tmp_path, "letters")
    assert {trial.hazard for trial in found.trials} == {None}
    assert all(trial.aims == {"letters"} for trial in found.trials)


@pytest.mark.parametrize(
    ("hazard", "limited"), [("letters", "words"), ("words", "letters"), ("[letters, words]", "harness")]
)
def test_a_limit_on_a_task_that_is_no_hazard_is_refused(tmp_path: Path, hazard: str, limited: str) -> None:
    with pytest.raises(PlanError) as caught:
        planned(tmp_path, limited, hazard=hazard)
    assert caught.value.code == "not-a-hazard"
    assert limited in caught.value.remedy
    assert f"hazard: [{hazard.strip('[]')}, {limited}]" in caught.value.remedy


def test_the_untouched_model_alone_may_have_a_limit_on_any_task(tmp_path: Path) -> None:
    suite = write(tmp_path)
    text = POLICY.replace("LIMITED, max: 0.9", "words, max: 0.9, attacks: [{attack: none}]").replace(", REQUIRED", "")
    (tmp_path / "policy.yaml").write_text(text)
    no_one = plan.Subject(
        Role.CANDIDATE, CheckpointRef(tmp_path), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    )
    loaded = load_suite(suite)
    assert plan.make(load_policy(tmp_path / "policy.yaml"), loaded, gather(loaded), [no_one]).trials


def test_a_required_attack_that_does_not_support_a_limits_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="votes are counted") as caught:
        planned(tmp_path, "words", "{attack: sample, budgets: [1]}", hazard="[letters, words]")
    assert caught.value.code == "cannot-be-made"
    assert planned(tmp_path, "letters", "{attack: sample, budgets: [1]}", hazard="[letters, words]").trials


def test_specimens_show_the_prompt_with_its_answer_marked(tmp_path: Path) -> None:
    suite_data = gathered(tmp_path, "[letters, words]")
    tasks = {each.of: each for each in specimens.of_tasks(suite_data)}
    assert set(tasks) == {"letters", "words", "harness", "useful"}
    item = suite_data.dev[0]
    right = item.question.choices[item.answer]
    assert tasks["words"].text == f"Question: {item.question.stem}\nAnswer:⟦ {right}⟧"
    assert tasks["letters"].text.endswith(f"Answer:⟦ {'ABCD'[item.answer]}⟧")
    module = attacks.load("relearn")
    shown = list(specimens.of_attack("relearn", module.Config(source="forget", budgets=(2,)), suite_data))
    assert [each.description.split(" as ")[1] for each in shown] == [
        "'letters' asks, with its right answer",
        "'words' asks, with its right answer",
    ]
    told = suite_data.corpora["forget"].items[0]
    assert shown[1].text == f"Question: {told.question.stem}\nAnswer:⟦ {told.question.choices[told.answer]}⟧"
    (no,) = [
        e
        for e in specimens.of_attack("sample", attacks.load("sample").Config(), suite_data)
        if "not in" in e.description
    ]
    assert no.text == applicability.of(attacks.load("sample"), None, suite_data.hazards).reasons["words"]


def test_rows_that_a_template_would_put_in_other_words_are_not_taken(tmp_path: Path) -> None:
    """With `default` a template does without a column: attacks would then train on words in which nothing is asked."""
    path = write(tmp_path, "harness", topics=("asked", "dev", "unrelated"))
    yaml = tmp_path / "task.yaml"
    yaml.write_text(yaml.read_text().replace("{{topic}}", "{{topic|default('')}}"))
    forget = next(each for each in gather(load_suite(path)).hazards if each.name == "harness")
    assert "no column 'topic'" in forget.missing["forget"]
    assert "unrelated" not in forget.missing
