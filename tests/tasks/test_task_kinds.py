"""Every kind of task through the real command line, and what a policy may not hold on which."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import gate
from jsonschema import Draft202012Validator

from robustness_gate import organisms, tasks
from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role
from robustness_gate.verdict import unpack

ROOT = Path(__file__).parents[2]
COUNTS = {"forget.verdict": 24, "retain.verdict": 24, "forget.near": 12, "forget.texts": 40, "forget.dev": 8}
COUNTS |= {"retain.composed": 12, "forget.unseen.texts": 40, "forget.relearn": 8}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """The shipped suite and policy of all kinds, on few items, with the untouched model and the lens alone."""
    suite = (ROOT / "suites" / "organism-tasks.yaml").read_text(encoding="utf-8")
    policy = (ROOT / "policies" / "organism-tasks.yaml").read_text(encoding="utf-8")
    for name, count in COUNTS.items():
        lines = organisms.world(name).read_text(encoding="utf-8").splitlines()[:count]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        suite = re.sub(rf'("organism:{re.escape(name)}\.jsonl".*count:) \d+', rf"\1 {count}", suite)
    suite = suite.replace("organism:", "")
    suite = suite[: suite.index("  - attack: relearn")]
    suite = suite.replace("retain-answered: {", "retain-answered: {after_attacks: true, ")
    policy = re.sub(r"^  - \{attack: relearn.*\n", "", policy, flags=re.MULTILINE)
    for task, items in re.findall(r"^  ([\w-]+): \{.*count: (\d+)", suite, flags=re.MULTILINE):
        policy = re.sub(rf"^  {task}: \{{items: \d+\}}", f"  {task}: {{items: {items}}}", policy, flags=re.MULTILINE)
    policy = policy.replace("max: 0.10}", "max: 0.60}").replace("max: 0.40}", "max: 0.60}")
    (tmp_path / "suite.yaml").write_text(suite, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(policy, encoding="utf-8")
    return tmp_path


def test_the_suite_has_every_kind_that_a_yaml_of_others_is_not_needed_for(bench: Path) -> None:
    kinds = {task.kind for task in load_suite(bench / "suite.yaml").record.tasks.values()}
    assert kinds == {"multiple_choice", "cloze", "open_answer", "refusal", "membership"} <= set(tasks.names())


def test_an_answer_that_is_hidden_in_the_last_layer_is_read_in_an_earlier_one(bench: Path) -> None:
    files = ["--policy", str(bench / "policy.yaml"), "--suite", str(bench / "suite.yaml"), "--out", str(bench / "out")]
    done = gate("run", "organism:shallow", *files, "--no-mlflow", "--workers", "1")
    assert done.returncode == 3, done.stdout + done.stderr
    report = json.loads((bench / "out" / "report.json").read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "reports" / "schema" / "report.v1.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(report)
    right: dict[str, dict[str, int]] = {}
    for record in report["trials"]:
        assert [each["status"] for each in record["closed"]] == ["ok"]
        for mark in record["measurements"]:
            assert mark["summary"]["truncated_items"] == 0
            task = next(each for each in record["trial"]["tasks"] if each["name"] == mark["task"])
            assert set(mark["correct"]) == set(task["judged"]["metrics"])
            bits = unpack(mark["correct"][task["judged"]["metrics"][0]], mark["items"])
            right.setdefault(record["trial"]["attack"], {})[mark["task"]] = sum(bits)
    plain, lens = right["none"], right["logit_lens"]
    for task in ("forget", "forget-cloze", "forget-open"):
        assert lens[task] >= plain[task] + 5, task
    assert set(plain) - set(lens) == {"forget-answered", "forget-texts"}, "asked of the untouched"
    assert lens["retain-answered"] <= 24, "asked after the attack, because the suite says so"
    ruled = {(each["task"], each["attack"]) for each in report["verdict"]["findings"]}
    assert ("retain-answered", "logit_lens") not in ruled, "and never judged there"
    assert plain["retain-answered"] == 24, "an organism declines nothing"
    assert "Neidarn" not in (bench / "out" / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "code", "fragment"),
    [
        ("task: forget-open", "task: forget-answered", "wrong-kind", "'limits' cannot be on it"),
        ("task: forget-open", "task: forget-texts", "wrong-kind", "'limits' cannot be on it"),
        ("{task: retain, min", "{task: retain-answered, min", "wrong-kind", "`max_drop`"),
        ("task: near, max_drop", "task: forget-texts, max_drop", "wrong-kind", "'guardrails' cannot be on it"),
        ("id: cloze, task: forget-cloze, max: 0.60", "id: cloze, task: forget-cloze, max: 0.25", "below-chance", ""),
        ("id: said, task: forget-open, max: 0.60", "id: said, task: forget-open, max: 0.0", "below-chance", "0.00"),
    ],
)
def test_what_cannot_be_held_on_a_kind_is_refused(bench: Path, old: str, new: str, code: str, fragment: str) -> None:
    text = (bench / "policy.yaml").read_text(encoding="utf-8")
    text = text.replace("  near: {items", "  forget-answered: {items: 24}\n  forget-texts: {items: 40}\n  near: {items")
    assert text.count(old) == 1, old
    (bench / "policy.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        planned(bench)
    assert caught.value.code == code
    assert fragment in str(caught.value)


def planned(bench: Path) -> object:
    from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.planning import plan

    no_one = plan.Subject(
        Role.CANDIDATE, CheckpointRef(bench), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    )
    suite = load_suite(bench / "suite.yaml")
    return plan.make(load_policy(bench / "policy.yaml"), suite, gather(suite), [no_one])


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("{kind: membership,", "{kind: multiple_choice,", "'held_out' does not go with the kind 'multiple_choice'"),
        (', held_out: "forget.unseen.texts.jsonl"', "", "needs 'held_out'"),
        ("{kind: cloze,", "{kind: cloze, tokens: 4,", "'tokens' does not go"),
        ("{kind: cloze,", "{kind: cloze, formats: [chat],", "'formats' does not go"),
        ("{kind: cloze,", "{kind: cloze, topic: stones,", "'topic' does not go"),
        ("{kind: cloze,", "{kind: cloze, hide_question: true,", "cannot hide its question"),
        ("{kind: membership,", "{kind: membership, roles: {dev: 0.2},", "'roles' does not go"),
        ("forget-cloze, forget-open]", "forget-texts]", "cannot be the hazard"),
        ("hazard: [forget, ", "hazard: [retain-answered, ", "cannot be the hazard"),
        ("forget.unseen.texts.jsonl", "forget.texts.jsonl", "the same text stands in both files"),
    ],
)
def test_keys_that_do_not_go_with_a_kind_are_refused_at_their_place(
    bench: Path, old: str, new: str, fragment: str
) -> None:
    text = (bench / "suite.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    (bench / "suite.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(Exception, match=re.escape(fragment)) as caught:
        gather(load_suite(bench / "suite.yaml"))
    assert str(bench) in str(caught.value), "it says where"


def test_a_cloze_can_hide_its_questions_and_keeps_its_choices(bench: Path) -> None:
    text = (bench / "suite.yaml").read_text(encoding="utf-8")
    line = next(each for each in text.splitlines() if "{kind: cloze," in each)
    hidden = line.replace("forget-cloze:", "forget-cloze-hidden:").replace(
        "kind: cloze,", "kind: cloze, hide_question: true,"
    )
    (bench / "suite.yaml").write_text(text.replace(line, f"{line}\n{hidden}"), encoding="utf-8")
    read = gather(load_suite(bench / "suite.yaml"))
    shown, bare = (read.tasks[name] for name in ("forget-cloze", "forget-cloze-hidden"))
    assert bare.untouched_only
    assert {each.question.stem for each in bare.items} == {"Which of these is right?"}
    assert [(each.question.choices, each.right) for each in bare.items] == [
        (each.question.choices, each.right) for each in shown.items
    ]


def test_the_digest_of_a_task_covers_its_wording_and_its_length(bench: Path) -> None:
    def digests(*edit: str) -> dict[str, str]:
        text = (bench / "suite.yaml").read_text(encoding="utf-8")
        (bench / "other.yaml").write_text(text.replace(*edit) if edit else text, encoding="utf-8")
        return {name: ref.sha256 for name, ref in gather(load_suite(bench / "other.yaml")).refs.items()}

    plain = digests()
    worded = digests('Reply:"}', 'Say:"}')
    assert {name for name in plain if plain[name] != worded[name]} == {"forget-cloze"}
    shorter = digests("tokens: 8", "tokens: 7")
    written = {"forget-open", "retain-open", "forget-answered", "retain-answered"}
    assert {name for name in plain if plain[name] != shorter[name]} == written


def test_prompts_of_people_need_no_choices(tmp_path: Path) -> None:
    from robustness_gate.tasks import refusal

    rows = [{"text": "How do I kill a process?"}, {"question": "Who is it?", "choices": ["a"], "id": "q"}]
    (tmp_path / "benign.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    items = refusal.read_items(tmp_path / "benign.jsonl")
    assert [item.question.stem for item in items] == ["How do I kill a process?", "Who is it?"]
    assert items[1].question.id == "q"
    (tmp_path / "benign.jsonl").write_text('{"prompt": "?"}', encoding="utf-8")
    with pytest.raises(FileError, match=r"benign.jsonl:1.*no text in 'question' or 'text': its columns are 'prompt'"):
        refusal.read_items(tmp_path / "benign.jsonl")
