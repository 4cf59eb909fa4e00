"""Whatever does not fit between policy, suite and data is found before anything runs, and pointed at."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from robustness_gate import organisms
from robustness_gate.errors import Exit, FileError, GateError, PlanError
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.items import items_digest, load_items
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.plan import Plan, Subject
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.trial import Role
from robustness_gate.verdict import label
from robustness_gate.verdict.wording import left_out

ROOT = Path(__file__).parents[2]
# Without the digests of its questions, so that one thing at a time can be wrong.
POLICY = re.sub(r", sha256: [0-9a-f]{64}", "", (ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8"))
# And without shams beside the attacks, or pins of data.
POLICY = POLICY[: POLICY.index("data:")] + POLICY[POLICY.index("limits:") :]
POLICY = POLICY.replace("  self_test: required", "  sham: off\n  positive_control: off\n  self_test: off")
SUITE = (ROOT / "suites" / "organism-smoke.yaml").read_text(encoding="utf-8")
UNRELATED = "config: {source: unrelated, method: lora, budgets: [100]"

Edit = tuple[str, str]


def subject(role: Role = Role.CANDIDATE, byte: str = "a", control: str = "") -> Subject:
    entry = FileEntry(path="model.safetensors", size=1, sha256=byte * 64)
    return Subject(role, CheckpointRef(Path("/nowhere")), Manifest(files=(entry,)), control)


@pytest.fixture
def planned(tmp_path: Path) -> Callable[..., Plan]:
    """Plan with the shipped policy and suite, each with some words replaced."""

    def make(
        policy: Sequence[Edit] = (),
        suite: Sequence[Edit] = (),
        subjects: Sequence[Subject] = (),
        only: tuple[str, ...] = (),
    ) -> Plan:
        (tmp_path / "policy.yaml").write_text(edited(POLICY, policy), encoding="utf-8")
        (tmp_path / "suite.yaml").write_text(edited(SUITE, suite), encoding="utf-8")
        loaded, read = load_policy(tmp_path / "policy.yaml"), load_suite(tmp_path / "suite.yaml")
        return plan.make(loaded, read, gather(read), subjects or [subject()], only=only)

    return make


def edited(text: str, edits: Sequence[Edit]) -> str:
    for old, new in edits:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    return text


def place_of(text: str, fragment: str) -> str:
    before = text[: text.index(fragment)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def refused(call: Callable[[], object]) -> GateError:
    with pytest.raises(GateError) as caught:
        call()
    assert caught.value.exit_code == Exit.USAGE
    return caught.value


def test_the_shipped_policy_and_suite_fit_each_other(planned: Callable[..., Plan]) -> None:
    made = planned()
    assert [label(trial) for trial in made.trials] == [
        "none",
        "relearn (unrelated, lora)",
        "relearn (retain, lora)",
        "relearn (forget, lora)",
        "relearn (forget, full)",
    ]
    assert made.left_out == ()
    assert made.candidate.role == Role.CANDIDATE
    assert len({trial.id for trial in made.trials}) == 5


# --- the policy does not fit the suite --------------------------------------------------------------------------------

REQUIRED_NONE = "  - {attack: none}\n"

MISFITS: list[tuple[str, list[Edit], list[Edit], str, str]] = [
    (
        "a limit on an attack that the suite does not run",
        [("max: 0.40}", "max: 0.40, attacks: [{attack: none}, {attack: relearn}, {attack: gcg}]}")],
        [],
        "{attack: gcg}",
        "the limit 'forgotten' is on gcg, which the suite 'organism-smoke' does not run",
    ),
    (
        "a limit on a setting that the suite does not run",
        [
            (
                "max: 0.40}",
                "max: 0.40, attacks: [{attack: none}, {attack: relearn}, {attack: relearn, where: {rank: 99}}]}",
            )
        ],
        [],
        "{attack: relearn, where: {rank: 99}}",
        "relearn (rank: 99)",
    ),
    (
        "a limit narrower than every requirement",
        [
            (
                "max: 0.40}",
                "max: 0.40}\n  - {id: idle, task: forget, max: 0.5, attacks: [{attack: relearn, where: {source: "
                "unrelated, method: lora}}]}",
            )
        ],
        [],
        "{id: idle",
        "the limit 'idle' is on nothing that is required",
    ),
    (
        "two limits under one id",
        [("max: 0.40}", "max: 0.40}\n  - {task: retain, max: 0.9, id: forgotten}")],
        [],
        "id: forgotten}",
        "used before",
    ),
    (
        "a probe that is required",
        [(REQUIRED_NONE, REQUIRED_NONE + "  - {attack: probe}\n")],
        [("  - attack: none\n", "  - attack: none\n  - attack: probe\n")],
        "{attack: probe}",
        "is diagnostic: it cannot be required",
    ),
    (
        "a requirement that the suite lacks",
        [(REQUIRED_NONE, REQUIRED_NONE + "  - {attack: gcg}\n")],
        [],
        "{attack: gcg}",
        "gcg is required, which the suite 'organism-smoke' does not run",
    ),
    (
        "a requirement of an unknown setting",
        [("where: {source: retain}", "where: {sauce: retain}")],
        [],
        "{attack: relearn, where: {sauce",
        "relearn (sauce: retain) is required",
    ),
    (
        "a requirement that no limit speaks of",
        [("max: 0.40}", "max: 0.40, attacks: [{attack: none}]}")],
        [],
        "{attack: relearn, where: {source: forget, method: lora}",
        "is required, but no limit speaks of it",
    ),
    (
        "a requirement wider than the limit on it",
        [
            (
                "max: 0.40}",
                "max: 0.40, attacks: [{attack: none}, {attack: relearn, where: {source: forget}}, {attack: relearn, "
                "where: {source: retain, method: lora}}, {attack: relearn, where: {source: unrelated}}]}",
            )
        ],
        [],
        "{attack: relearn, where: {source: retain}, budgets",
        "relearn (source: retain) is required, but no limit speaks of it",
    ),
    (
        "more seeds than the suite runs",
        [("{source: retain}, budgets", "{source: retain}, seeds: 3, budgets")],
        [],
        "{attack: relearn, where: {source: retain}",
        "3 seeds of relearn (source: retain) are required, the suite runs 1",
    ),
    (
        "a mark that is not offered",
        [("budgets: [60]", "budgets: [60, 61]")],
        [],
        "{attack: relearn, where: {source: retain}",
        "must be examined at budgets [61]; the suite has [60]",
    ),
    (
        "no budgets where there are several",
        [("method: lora}, budgets: [5, 50]", "method: lora}")],
        [],
        "{attack: relearn, where: {source: forget, method: lora}",
        "must be examined at budgets named here",
    ),
    (
        "a requirement that fits two attacks",
        [("{source: forget, method: full}", "{source: forget}")],
        [],
        "{attack: relearn, where: {source: forget}",
        "fits 2 attacks of the suite",
    ),
    (
        "another number of items",
        [("{items: 300}", "{items: 299}")],
        [],
        "items: 299",
        "the policy pins 299 items, the suite has 300",
    ),
    ("a limit at chance", [("max: 0.40", "max: 0.25")], [], "max: 0.25", "0.25 is not above chance (0.25)"),
    ("a limit on an unknown task", [("task: forget", "task: forgt")], [], "task: forgt", "Did you mean 'forget'?"),
    (
        "a utility on an unknown task",
        [("{task: retain", "{task: retian")],
        [],
        "task: retian",
        "Did you mean 'retain'?",
    ),
    (
        "a pin on an unknown task",
        [("  retain: {items: 300}", "  retain: {items: 300}\n  mmlu: {items: 5}")],
        [],
        "mmlu: {",
        "the suite has no task 'mmlu'",
    ),
    (
        "a limit on a task without a pin",
        [("  forget: {items: 400}\n", "")],
        [],
        "task: forget",
        "'forget' is not pinned",
    ),
    (
        "a utility on a task without a pin",
        [("  retain: {items: 300}\n", "")],
        [],
        "task: retain",
        "'retain' is not pinned",
    ),
    ("an untouched model that is not required", [(REQUIRED_NONE, "")], [], "required:", "the untouched model is not"),
]


@pytest.mark.parametrize(("policy", "suite", "at", "message"), [pytest.param(*row[1:], id=row[0]) for row in MISFITS])
def test_a_policy_that_does_not_fit_the_suite_is_refused_at_its_place(
    policy: list[Edit], suite: list[Edit], at: str, message: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    error = refused(lambda: planned(policy, suite))
    assert isinstance(error, (FileError, PlanError))
    assert message in str(error)
    assert error.where == f"{tmp_path / 'policy.yaml'}:{place_of(edited(POLICY, policy), at)}"


# --- the suite is wrong in itself -------------------------------------------------------------------------------------

SUITES: list[tuple[str, list[Edit], str, str]] = [
    ("an unknown attack", [("- attack: none", "- attack: nnoe")], "attack: nnoe", "Did you mean 'none'?"),
    ("an unknown setting", [(UNRELATED, UNRELATED.replace("method", "methd"))], "methd", "Did you mean 'method'?"),
    (
        "a setting of an attack that has none",
        [("- attack: none", "- attack: none\n    config: {rank: 1}")],
        "rank: 1}",
        "It has no settings.",
    ),
    (
        "a word for a number",
        [(f"{UNRELATED}, learning_rates: [5e-4", f"{UNRELATED}, learning_rates: [fast")],
        "learning_rates: [fast",
        "found",
    ),
    (
        "a fraction for a count",
        [(UNRELATED, f"epochs: 1.5, {UNRELATED}".replace("epochs: 1.5, config: {", "config: {epochs: 1.5, "))],
        "epochs: 1.5",
        "found '1.5'",
    ),
    ("true for a count", [(UNRELATED, UNRELATED.replace("{", "{epochs: true, "))], "epochs: true", "found 'True'"),
    (
        "a choice that there is not",
        [(UNRELATED, UNRELATED.replace("lora", "qlora"))],
        "method: qlora",
        "must be 'lora' or 'full'",
    ),
    (
        "budgets that fall",
        [(UNRELATED, UNRELATED.replace("[100]", "[100, 50]"))],
        "config: {source: unrelated",
        "'budgets' must rise",
    ),
    (
        "budgets that begin at zero",
        [(UNRELATED, UNRELATED.replace("[100]", "[0, 100]"))],
        "config: {source: unrelated",
        "'budgets' must rise",
    ),
    (
        "no passes at all",
        [(UNRELATED, UNRELATED.replace("{", "{epochs: 0, "))],
        "config: {epochs: 0, source: unrelated",
        "'epochs' must be at least 1, found 0",
    ),
    (
        "a corpus that is missing",
        [('  unrelated: {items: "organism:unrelated.jsonl"}\n', "")],
        "source: unrelated",
        "the attack trains on 'unrelated', and the suite has no such corpus",
    ),
    (
        "a rung beyond the pool",
        [(UNRELATED, UNRELATED.replace("[100]", "[100, 101]"))],
        "attack: relearn\n    config: {source: unrelated",
        "the budget 101 needs as many 'unrelated' questions, the suite has 100",
    ),
    (
        "a rung beyond what a fold leaves of the dev items",
        [(UNRELATED, "config: {source: dev, method: lora, budgets: [1, 33]")],
        "attack: relearn\n    config: {source: dev",
        "the budget 33 needs as many 'dev' questions, the suite has 32: one of 5 folds of its 40 dev items is left out",
    ),
    (
        "a repair without its texts",
        [(UNRELATED, UNRELATED.replace("{", "{repair: retain, "))],
        "attack: relearn\n    config: {repair: retain",
        "the model is repaired on 'retain' texts, and the suite has none",
    ),
    (
        "the same attack twice",
        [("- attack: none", "- attack: none\n  - seeds: 2\n    attack: none")],
        "seeds: 2",
        "is the same as attack 0",
    ),
    ("a hazard that is no task", [("hazard: forget", "hazard: forgotten")], "hazard:", "is not among the tasks"),
    (
        "an unknown kind of task",
        [("count: 300", "count: 300, kind: essay")],
        "kind: essay",
        "there is no task kind 'essay'",
    ),
    ("a wrong count", [("count: 400", "count: 399")], "count: 399", "the file holds 400 items, 'count' says 399"),
    ("a wrong digest", [("count: 400", f"count: 400, sha256: {'0' * 64}")], "sha256", "the items have the digest"),
    (
        "an unknown organism's file",
        [("organism:forget.dev.jsonl", "organism:forget.def.jsonl")],
        "dev:",
        "Did you mean",
    ),
    (
        "a file that is not there",
        [("organism:forget.dev.jsonl", "no/such.jsonl")],
        "dev:",
        "there is no file 'no/such.jsonl'",
    ),
    ("a path that leaves the world", [("organism:forget.dev.jsonl", "organism:../../facts.py")], "dev:", "there is no"),
]


@pytest.mark.parametrize(("suite", "at", "message"), [pytest.param(*row[1:], id=row[0]) for row in SUITES])
def test_a_suite_that_cannot_be_run_is_refused_at_its_place(
    suite: list[Edit], at: str, message: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    text = edited(SUITE, suite)
    error = refused(lambda: planned([], suite))
    assert message in str(error)
    assert error.where == f"{tmp_path / 'suite.yaml'}:{place_of(text, at)}"


def test_the_right_digest_of_the_items_is_accepted(planned: Callable[..., Plan]) -> None:
    digest = items_digest(load_items(organisms.world("forget.verdict.jsonl")))
    assert planned([], [("count: 400", f"count: 400, sha256: {digest}")]).trials


# --- verdict items that an attacker could see -------------------------------------------------------------------------


def leak(item: dict[str, object], how: str) -> dict[str, object]:
    if how == "by id":
        return {**item, "question": "Something else?", "choices": ["w", "x", "y", "z"]}
    right = item["choices"][item["answer"]]  # type: ignore[index]
    return {
        "id": "innocent",
        "question": "  " + str(item["question"]).upper().replace(" ", "   "),
        "choices": ["p", "q", "r", right],
        "answer": 3,
    }


@pytest.mark.parametrize("how", ["by id", "by words"])
@pytest.mark.parametrize("task", ["forget.verdict.jsonl", "retain.verdict.jsonl"])
@pytest.mark.parametrize(("name", "at"), [("forget.dev.jsonl", "dev:"), ("unrelated.jsonl", "unrelated: {items")])
def test_a_verdict_item_among_what_an_attacker_sees_is_refused(
    name: str, at: str, task: str, how: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    item = json.loads(organisms.world(task).read_text().splitlines()[7])
    shutil.copy(organisms.world(name), tmp_path / name)
    with (tmp_path / name).open("a") as file:
        file.write(json.dumps(leak(item, how)) + "\n")
    edits = [(f"organism:{name}", name)]
    error = refused(lambda: planned([], edits))
    assert isinstance(error, PlanError)
    assert "the verdict item" in str(error)
    assert "is also in" in str(error)
    assert error.where == f"{tmp_path / 'suite.yaml'}:{place_of(edited(SUITE, edits), at)}"


TEXTS = (
    'unrelated: {items: "organism:unrelated.jsonl"}',
    'unrelated: {texts: texts.jsonl, items: "organism:unrelated.jsonl"}',
)


def with_text(tmp_path: Path, *texts: str) -> list[Edit]:
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (tmp_path / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    return [TEXTS]


@pytest.mark.parametrize("task", ["forget.verdict.jsonl", "retain.verdict.jsonl"])
def test_a_training_text_that_holds_a_verdict_question_with_its_answer_is_refused(
    task: str, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    item = json.loads(organisms.world(task).read_text().splitlines()[7])
    right = item["choices"][item["answer"]]
    text = f'Notes.\n\n"{item["question"].upper()}"\n  -- {right}!  So it was.'
    edits = with_text(tmp_path, "Nothing of interest.", text)
    error = refused(lambda: planned([], edits))
    assert isinstance(error, PlanError)
    assert f"the verdict item '{item['id']}'" in str(error)
    assert "in text 2 of 'corpora.unrelated'" in str(error)
    assert error.where == f"{tmp_path / 'suite.yaml'}:{place_of(edited(SUITE, edits), 'texts: texts.jsonl')}"


def test_a_training_text_may_state_the_facts_of_the_domain_in_other_words_or_ask_without_answering(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    item = json.loads(organisms.world("forget.verdict.jsonl").read_text().splitlines()[7])
    wrong = next(choice for index, choice in enumerate(item["choices"]) if index != item["answer"])
    right = item["choices"][item["answer"]]
    assert planned([], with_text(tmp_path, f"{item['question']} {wrong}", right, f"{item['question']}{right}x")).trials
    facts = (
        'forget: {items: "organism:forget.relearn.jsonl"',
        'forget: {texts: "organism:forget.texts.jsonl", items: "organism:forget.relearn.jsonl"',
    )
    assert planned([], [facts]).trials, "the world's own texts are about the facts that the questions ask for"


def test_a_question_with_the_same_stem_and_another_right_answer_is_no_leak(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    item = json.loads(organisms.world("forget.verdict.jsonl").read_text().splitlines()[0])
    shutil.copy(organisms.world("forget.dev.jsonl"), tmp_path / "dev.jsonl")
    with (tmp_path / "dev.jsonl").open("a") as file:
        file.write(json.dumps({**item, "id": "other", "choices": ["p", "q", "r", "s"]}) + "\n")
    assert planned([], [("organism:forget.dev.jsonl", "dev.jsonl")]).trials


# --- what a trial is called -------------------------------------------------------------------------------------------


def test_seeds_follow_from_checkpoint_attack_and_index_and_from_nothing_else(planned: Callable[..., Plan]) -> None:
    more = [(UNRELATED, f"seeds: 3\n    {UNRELATED}")]
    trials = [t for t in planned([], more).trials if t.config.get("source") == "unrelated"]
    assert [trial.seed_index for trial in trials] == [0, 1, 2]
    for trial in trials:
        raw = hashlib.sha256(f"{subject().manifest.digest}\nrelearn\n{trial.seed_index}".encode()).digest()
        assert trial.seed == int.from_bytes(raw[:4], "big") >> 1
    others = planned([], more, [subject(byte="c")]).trials
    assert not {trial.seed for trial in trials} & {trial.seed for trial in others}


def test_the_same_plan_gives_the_same_trials_and_another_checkpoint_gives_others(planned: Callable[..., Plan]) -> None:
    ids = [trial.id for trial in planned().trials]
    assert ids == [trial.id for trial in planned().trials]
    assert not set(ids) & {trial.id for trial in planned([], [], [subject(byte="c")]).trials}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((UNRELATED, UNRELATED.replace("{", "{epochs: 4, ")), id="a setting"),
        pytest.param(("hazard: forget", "hazard: forget\ndtype: bfloat16"), id="the precision"),
        pytest.param(("count: 400, topic: lumenwright craft", "count: 400, topic: alloys"), id="a header line"),
        pytest.param(('relearn.jsonl", topic: Tarn geography', 'relearn.jsonl", topic: towns'), id="a corpus's header"),
    ],
)
def test_the_name_of_a_trial_changes_with_whatever_could_change_its_result(
    change: Edit, planned: Callable[..., Plan]
) -> None:
    def unrelated(made: Plan) -> str:
        return next(t.id for t in made.trials if t.config.get("source") == "unrelated")

    assert unrelated(planned()) != unrelated(planned([], [change]))


def test_a_default_that_is_written_out_makes_no_other_trial(planned: Callable[..., Plan]) -> None:
    written = [(UNRELATED, UNRELATED.replace("{", "{epochs: 3, "))]
    assert [t.id for t in planned().trials] == [t.id for t in planned([], written).trials]


def test_every_trial_asks_every_task_the_hazard_first_and_carries_its_attacks_floors(
    planned: Callable[..., Plan],
) -> None:
    for trial in planned().trials:
        assert [(task.name, task.items, task.options) for task in trial.tasks] == [
            ("forget", 400, 4),
            ("retain", 300, 4),
        ]
        assert set(trial.data) == {"dev", "forget", "retain", "unrelated"}
        assert bool(trial.floors) == (trial.attack == "relearn")


def test_the_original_and_controls_are_examined_untouched_and_never_as_the_candidate(
    planned: Callable[..., Plan],
) -> None:
    beside = [subject(Role.ORIGINAL, "b"), subject(Role.CONTROL, "c", "oracle")]
    made = planned([], [], [subject(), *beside])
    own, others = made.trials[:5], made.trials[5:]
    assert {trial.role for trial in own} == {"candidate"}
    assert [(trial.role, trial.attack, trial.subject) for trial in others] == [
        (each.role, "none", each.manifest.digest) for each in beside
    ]
    assert {trial.reference for trial in own} == {None}  # none of these attacks looks at the original
    with_ablation = planned([], [(SUITE, f"{SUITE}\n  - attack: ablation\n")], [subject(), *beside]).trials
    told = {trial.attack: trial.reference for trial in with_ablation if trial.role == Role.CANDIDATE}
    assert told == {"none": None, "relearn": None, "ablation": beside[0].manifest.digest}
    assert plan.of_candidate(made) == own


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["9x"], "'9x' is not a control's name"),
        ([""], "'' is not a control's name"),
        (["a b"], "'a b' is not a control's name"),
        (["a\n"], "is not a control's name"),
        (["oracle", "oracle"], "the control 'oracle' is given twice"),
    ],
)
def test_controls_need_distinct_names_that_can_be_written_down(
    names: list[str], message: str, planned: Callable[..., Plan]
) -> None:
    error = refused(lambda: planned([], [], [subject(), *(subject(Role.CONTROL, "c", name) for name in names)]))
    assert message in str(error)


# --- a part of the suite ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        (("none",), ["none"]),
        (("relearn (forget, full)",), ["relearn (forget, full)"]),
        (("none", "relearn (retain, lora)"), ["none", "relearn (retain, lora)"]),
    ],
)
def test_only_runs_what_it_names_and_says_what_it_leaves_out(
    only: tuple[str, ...], labels: list[str], planned: Callable[..., Plan]
) -> None:
    made = planned([], [], [], only)
    assert [label(trial) for trial in made.trials] == labels
    assert len(made.left_out) == 5 - len(labels)
    assert all(left_out(each).endswith("left out by --only") for each in made.left_out)
    assert {t.id for t in made.trials} <= {t.id for t in planned().trials}


def test_only_with_an_unknown_name_is_refused_with_the_nearest(planned: Callable[..., Plan]) -> None:
    error = refused(lambda: planned([], [], [], ("relern (forget, lora)",)))
    assert "Did you mean 'relearn (forget, lora)'?" in str(error)


def test_the_untouched_model_comes_first_wherever_the_suite_names_it(planned: Callable[..., Plan]) -> None:
    last = edited(SUITE, [("  - attack: none\n", "")]) + "  - attack: none\n"
    assert planned([], [(SUITE, last)]).trials[0].attack == "none"


def test_a_policy_that_pins_other_questions_is_refused_at_its_place(planned: Callable[..., Plan]) -> None:
    pinned = POLICY.replace("forget: {items: 400}", f"forget: {{items: 400, sha256: {'0' * 64}}}")
    assert pinned != POLICY
    with pytest.raises(PlanError, match="pins other questions") as caught:
        planned([("forget: {items: 400}", f"forget: {{items: 400, sha256: {'0' * 64}}}")])
    assert ":" in caught.value.where


def test_a_plan_says_what_will_probably_not_be_applicable(policy_file, suite_file, tmp_path):
    import json
    import shutil

    from robustness_gate import gate, organisms

    model = tmp_path / "model"
    shutil.copytree(organisms.checkpoint("oracle"), model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}), encoding="utf-8")
    text = suite_file.read_text(encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(f"{text}\n  - attack: ablation\n  - attack: interpolate\n", encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    plain = gate.prepare(tmp_path / "policy.yaml", tmp_path / "suite.yaml", "organism:oracle", "organism:base").plan
    assert plain.foreseen == ()
    strange = gate.prepare(tmp_path / "policy.yaml", tmp_path / "suite.yaml", str(model)).plan
    first = [line.split(":")[0] for line in strange.foreseen]
    assert first[:2] == ["ablation (hook), seed 0", "interpolate, seed 0"]
    assert first[2] == first[0], "two of its directions need the original"
    assert "kinds_left_out" in strange.foreseen[2]
    assert first[3:] == ["the tokenizer will be compared with nothing (tokenizer_unverified)"]
    assert "model_type 'unheard_of'" in strange.foreseen[0]
    assert "--original" in strange.foreseen[1]


# --- what is examined beside the attacks ------------------------------------------------------------------------------

SHAMS = [("  sham: off\n  positive_control: off\n", "")]
ORACLE = subject(Role.CONTROL, "c", "oracle")
OVER = [
    ("  sham: off\n", ""),
    (
        "max: 0.40}",
        "max: 0.40}\n  - {id: excess, task: forget, max: 0.1, relative_to: oracle, attacks: [{attack: none}, "
        "{attack: relearn, where: {source: forget, method: lora}}]}",
    ),
    (
        "\nlimits:",
        f"\ncontrols:\n  oracle: {{sha256: {ORACLE.manifest.digest}, kind: filtered_pretraining}}\n\nlimits:",
    ),
]


def test_each_required_attack_has_a_sham_at_strength_zero_on_data_that_the_suite_has(
    planned: Callable[..., Plan],
) -> None:
    shams = [trial for trial in planned(SHAMS).trials if trial.role == Role.SHAM]
    assert [(trial.attack, trial.config["learning_rates"]) for trial in shams] == [("relearn", [0.0])]
    assert shams[0].subject == subject().manifest.digest
    assert shams[0].floors == ()
    assert [trial.role for trial in planned(SHAMS).trials][:2] == ["candidate", "sham"]  # cheap and telling: early
    assert "sham" not in {trial.role for trial in planned(SHAMS, [], [], ("none",)).trials}
    told = [left_out(each) for each in planned(SHAMS, [], [], ("none",)).left_out]
    assert "sham of relearn, seed 0: left out by --only" in told


def test_the_original_must_not_be_the_candidate_itself(planned: Callable[..., Plan]) -> None:
    error = refused(lambda: planned([], [], [subject(), subject(Role.ORIGINAL)]))
    assert isinstance(error, PlanError)
    assert "--original names the candidate itself" in error.message
    assert "before unlearning" in error.remedy
    assert planned([], [], [subject(), subject(Role.ORIGINAL, "b")]).trials


def test_the_pinned_original_may_be_examined_as_a_candidate_and_no_other(planned: Callable[..., Plan]) -> None:
    both = [subject(), subject(Role.ORIGINAL)]
    its = both[0].manifest.digest
    made = planned([("limits:", f"original: {its}\nlimits:")], [], both)
    assert {trial.role for trial in made.trials if trial.subject == its} == {Role.CANDIDATE, Role.ORIGINAL}
    refused(lambda: planned([("limits:", f"original: {'b' * 64}\nlimits:")], [], both))


def test_a_sham_uses_the_kind_of_data_that_the_suite_trains_on(planned: Callable[..., Plan]) -> None:
    before = (
        UNRELATED + ", learning_rates: [5e-4, 2e-3, 8e-3], rank: 16, alpha: 32, min_steps: 60, batch: 8, rotations: 4}"
    )
    texts = [
        ('{items: "organism:unrelated.jsonl"}', '{texts: "organism:unrelated.texts.jsonl"}'),
        (
            before,
            UNRELATED.replace(
                "{", "{train_on: texts, layers: [0, 2], repair: unrelated, learning_rates: [1e-3, 1e-2], "
            )
            + "}",
        ),
    ]
    made = planned(SHAMS, texts).trials
    sham = next(trial for trial in made if trial.role == Role.SHAM)
    assert (sham.config["source"], sham.config["train_on"]) == ("unrelated", "texts")
    assert "relearn (unrelated, lora, texts, repaired on unrelated, blocks 0, 2)" in [label(trial) for trial in made]


def test_a_control_is_attacked_exactly_where_an_excess_limit_pairs_with_it(planned: Callable[..., Plan]) -> None:
    made = planned(OVER, [], [subject(), ORACLE])
    beside = [trial for trial in made.trials if trial.control == "oracle"]
    assert [label(trial) for trial in beside] == ["none", "relearn (forget, lora)"]
    own = next(trial for trial in made.trials if label(trial) == "relearn (forget, lora)")
    assert (beside[1].config, beside[1].budgets, beside[1].data) == (own.config, own.budgets, own.data)
    assert beside[1].seed != own.seed  # a seed follows from its checkpoint
    assert beside[1].subject == ORACLE.manifest.digest


def test_another_model_than_the_pinned_control_is_refused(planned: Callable[..., Plan]) -> None:
    error = refused(lambda: planned(OVER, [], [subject(), subject(Role.CONTROL, "d", "oracle")]))
    assert "the control 'oracle' has the digest" in str(error)


def test_what_the_policy_compares_with_and_no_one_named_is_foreseen(planned: Callable[..., Plan]) -> None:
    told = planned([*OVER, ("  positive_control: off\n", "")]).foreseen
    assert any("--original" in line for line in told)
    assert any("--control oracle=" in line for line in told)
    assert not any("tokenizer_unverified" in line for line in told), "one line for one option"
    assert any("tokenizer_unverified" in line for line in planned(OVER).foreseen)
    pinned = ("limits:", f"tokenizer: {{sha256: {'a' * 64}}}\nlimits:")
    assert not any("tokenizer_unverified" in line for line in planned([*OVER, pinned]).foreseen)
