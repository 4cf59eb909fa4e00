"""Which attack is tried on which organism: a case for each requirement, and no record vouches for another one."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from evidence import AT, MANIFEST, WORKS, evidence, files, made, planned, suite_data, work
from hub import pinned_policy, pinned_suite
from typer.testing import CliRunner

from robustness_gate import attacks
from robustness_gate.assurance import self_test
from robustness_gate.cli import app
from robustness_gate.errors import UsageError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.planning import bench, plan
from robustness_gate.policy_language import load_policy
from robustness_gate.records.codes import INSTRUMENTS
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import SelfTest, SelfTestFault
from robustness_gate.records.policy import Policy, Requirement
from robustness_gate.records.suite import SuiteAttack
from robustness_gate.records.trial import Role
from robustness_gate.verdict import Asked, judge
from robustness_gate.verdict.hypotheses import vouches, which
from robustness_gate.verdict.wording import sentence

ROOT = Path(__file__).parents[2]
POOL = {"dev": 40, "forget.items": 72, "retain.items": 60, "unrelated.items": 100}


def policy_of(name: str) -> Loaded[Policy]:
    return pinned_policy(ROOT / "policies" / f"{name}.yaml")


def suite_of(name: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return load_suite(pinned_suite(ROOT / "suites" / f"{name}.yaml", Path(folder)))


def requiring(**changes: Any) -> Loaded[Policy]:
    """The organisms' policy with one requirement beside `none`."""
    policy = policy_of("organism")
    required = (policy.record.required[0], Requirement(**changes))
    return dataclasses.replace(policy, record=policy.record.model_copy(update={"required": required}))


# --- a case for each requirement --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "suite", "cases"),
    [
        (
            "organism",
            "organism-smoke",
            [
                ("relearn (forget, lora)", [50], "rmu"),
                ("relearn (forget, full)", [5], "rmu"),
                ("relearn (retain, lora)", [60], "shallow"),
                ("relearn (unrelated, lora)", [100], "shallow"),
            ],
        ),
        ("smallest", "organism-smoke", [("relearn (forget, lora)", [50], "rmu")]),
        (
            "wmdp-open-weights",
            "wmdp-smoke",
            [("quantize (channel)", [4, 8], "tiny_update"), ("relearn (unrelated, lora)", [100], "shallow")],
        ),
        (
            "wmdp-standard",
            "wmdp-standard",
            [
                ("reformat", None, "shallow"),
                ("ablation (hook)", None, "rmu"),
                ("relearn (unrelated, lora)", [100], "shallow"),
                ("relearn (retain, lora)", [60], "shallow"),
                ("relearn (forget, lora)", [50], "rmu"),
            ],
        ),
        ("wmdp-api-only", "wmdp-api-only", [("reformat", None, "shallow"), ("perturb", None, "shallow")]),
    ],
)
def test_a_policy_asks_for_a_case_of_each_requirement_at_the_largest_budget_that_the_pool_holds(
    policy: str, suite: str, cases: list[Any]
) -> None:
    """The pools hold 72, 60 and 100 questions: of 5, 50 and 127 required ones that is 50, and of a hundred 60."""
    for named in (suite_of(suite), None):  # the attacks' defaults are of the same kinds
        tried = bench.required_by(policy_of(policy), named, POOL)
        assert [(each.name, each.config.get("budgets"), each.case.organism) for each in tried] == cases


def test_numbers_are_made_to_suit_the_organisms_and_the_record_says_what_was_asked_for() -> None:
    by_suite = bench.required_by(policy_of("organism"), suite_of("organism-smoke"), POOL)
    assert all(each.extended == {} for each in by_suite), "the suite of the organisms already suits them"
    tried = bench.required_by(policy_of("wmdp-standard"), suite_of("wmdp-standard"), POOL)
    forget, retain = tried[4], tried[3]
    assert forget.extended == {
        "learning_rates": [5e-5, 2e-4, 1e-3], "min_steps": 100, "rotations": 1, "rank": 128, "alpha": 16
    }  # fmt: skip
    assert forget.config["learning_rates"] == [5e-4, 2e-3, 8e-3]
    assert retain.extended["budgets"] == [100], "sixty stand in for a hundred, because the pool holds no more"


def test_where_the_pool_holds_no_required_budget_it_is_as_much_as_there_is() -> None:
    policy = requiring(attack="relearn", where={"source": "forget"}, budgets=(255, 500))
    (tried,) = bench.required_by(policy, None, POOL)
    assert (tried.config["budgets"], tried.extended["budgets"]) == ([72], [255, 500])


def test_what_an_organism_needs_more_of_is_reported_beside_what_the_suite_asks_for() -> None:
    """The suite of the organisms suits the Llamas; the one of the GPT-NeoX takes longer to come back."""
    tried = bench.required_by(policy_of("organism"), suite_of("organism-smoke"), POOL, "gpt_neox")
    assert [each.case.organism for each in tried] == ["neox_rmu"] * 4
    assert tried[3].config["min_steps"] == 300
    assert tried[3].extended == {"learning_rates": [5e-4, 2e-3, 8e-3], "min_steps": 60}
    assert all(each.extended == {} for each in tried[:3])


def test_a_choice_of_words_may_be_shorter_than_what_is_asked_for_and_never_another_one() -> None:
    tried = bench.required_by(policy_of("wmdp-api-only"), suite_of("wmdp-api-only"), POOL)
    assert tried[0].config["presentations"] == ["header_instruction", "letters_digits", "header_none"]
    asked = {"presentations": ["header_none", "conversation"]}
    (only,) = bench.required_by(requiring(attack="reformat", where=asked), None, POOL)
    assert only.config["presentations"] == ["header_none", "conversation"], "what a policy names is tried"
    policy, suite = requiring(attack="reformat"), suite_of("wmdp-api-only")
    entry = suite.record.attacks[1].model_copy(update={"config": {"presentations": ["conversation"]}})
    other = dataclasses.replace(suite, record=suite.record.model_copy(update={"attacks": (entry,)}))
    assert bench.required_by(policy, other, POOL)[0].config["presentations"] == ["conversation"]


UNPROVABLE = {
    "repaired first": (
        {"attack": "relearn", "where": {"source": "dev", "repair": "retain"}},
        "'relearn (dev, lora, repaired on retain)' is required",
    ),
    "one block": (
        {"attack": "relearn", "where": {"source": "forget", "layers": [1]}},
        "'relearn (forget, lora, blocks 1)' is required",
    ),
    "another scheme": (
        {"attack": "quantize", "where": {"scheme": "nf4"}, "budgets": (4,)},
        "'quantize (nf4)' is required",
    ),
    "no organism": (
        {"attack": "noise"},
        "on every shipped organism the 95 % lower bound of the gain is under 10 points",
    ),
}


@pytest.mark.parametrize(("changes", "words"), UNPROVABLE.values(), ids=UNPROVABLE)
def test_what_no_organism_shows_is_refused_at_its_line_and_its_siblings_are_named(
    changes: dict[str, Any], words: str
) -> None:
    policy = requiring(**changes)
    with pytest.raises(UsageError) as told:
        bench.required_by(policy, None, POOL)
    assert words in told.value.message
    assert "cannot be tested" in told.value.message
    assert told.value.where == policy.where("required", 1, "attack")
    if changes["attack"] == "relearn":
        assert "tested are relearn (dev, lora), relearn (forget, full), relearn (forget, lora)" in told.value.message


@pytest.mark.parametrize("model_type", bench.BENCHES)
def test_no_two_cases_are_of_the_same_kind_and_each_is_what_it_says(model_type: str) -> None:
    """Else the second would never be tried. A case's settings are read as a suite's, so a wrong one is found here."""
    here = bench.BENCHES[model_type]
    kinds = [(case.attack, repr(sorted(which(case.config).items()))) for case in here.every]
    assert len(set(kinds)) == len(kinds)
    for case in here.every:
        assert case.words.items() <= case.config.items()
        marks = {"budgets": case.budgets} if case.budgets else {}
        policy = requiring(attack=case.attack, where=dict(case.words), **marks)
        (tried,) = bench.required_by(policy, None, self_test.data().pool(), model_type)
        assert tried.case is case


def test_a_setting_that_is_not_there_and_a_suite_that_runs_nothing_of_the_sort_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown setting"):
        bench.required_by(requiring(attack="relearn", where={"sauce": "forget"}), None, POOL)
    with pytest.raises(UsageError, match="the suite does not run it"):
        bench.required_by(requiring(attack="relearn", where={"source": "dev"}), suite_of("organism-smoke"), POOL)


# --- what is said beforehand ------------------------------------------------------------------------------------------


def unprovable_policy(folder: Path) -> Path:
    text = (ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8")
    line = "  - {attack: noise, budgets: [50]}"
    path = folder / "policy.yaml"
    path.write_text(text.replace("  - {attack: none}", f"  - {{attack: none}}\n{line}"), encoding="utf-8")
    return path


def test_lint_and_check_say_that_no_pass_is_possible(tmp_path: Path) -> None:
    path = unprovable_policy(tmp_path)
    row = 1 + next(i for i, each in enumerate(path.read_text(encoding="utf-8").splitlines()) if "noise" in each)
    words = f"{path}:{row}:5: 'noise' is required, and cannot be tested"
    for verb in ("check", "lint"):
        done = CliRunner().invoke(app, ["policy", verb, str(path)])
        assert done.exit_code == 0, done.output
        (line,) = [each for each in done.output.splitlines() if "cannot be tested" in each]
        assert words in line
        assert line.endswith("no PASS is possible while 'self_test' is required")
        off = tmp_path / "off.yaml"
        off.write_text(path.read_text(encoding="utf-8").replace("self_test: required", "self_test: off"))
        assert "no PASS is possible" not in CliRunner().invoke(app, ["policy", verb, str(off)]).output
    assert CliRunner().invoke(app, ["policy", "lint", "--strict", str(path)]).exit_code == 2
    shipped = CliRunner().invoke(app, ["policy", "lint", str(ROOT / "policies" / "organism.yaml")])
    assert "no PASS is possible" not in shipped.output


def test_lint_does_without_the_settings_that_only_a_suite_has(tmp_path: Path) -> None:
    """One folded direction wants other settings than the defaults: no fault of the policy."""
    path = unprovable_policy(tmp_path)
    text = path.read_text(encoding="utf-8").replace(
        "{attack: noise, budgets: [50]}", "{attack: ablation, where: {apply: fold}}"
    )
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["policy", "lint", str(path)])
    assert done.exit_code == 0, done.output
    with pytest.raises(UsageError, match="all_layers: false"):
        bench.required_by(load_policy(path), None, POOL)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("llama", []),
        ("olmo2", ["no organism is a 'olmo2', so no self-test counts for this checkpoint: no PASS is possible"]),
        ("", ["config.json names no model_type"]),
        ("qwen2", []),
        ("gpt_neox", []),
    ],
)
def test_a_plan_says_of_this_checkpoint_what_no_self_test_can_show(tmp_path: Path, kind: str, words: list[str]) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}', encoding="utf-8")
    made = plan.make(*files(), suite_data(), [plan.Subject(Role.CANDIDATE, CheckpointRef(tmp_path), MANIFEST)])
    told = [each for each in made.foreseen if "no PASS is possible" in each]
    assert len(told) >= len(words)
    assert not told or words
    for each in words:
        assert any(each in line for line in told), told


def test_a_plan_says_at_its_line_what_has_no_organism(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    policy, suite = load_policy(unprovable_policy(tmp_path)), files()[1]
    noise = SuiteAttack(attack="noise", config={"budgets": [50]})
    attacks = (*suite.record.attacks, noise)
    noisy = dataclasses.replace(suite, record=suite.record.model_copy(update={"attacks": attacks}))
    made = plan.make(policy, noisy, suite_data(), [plan.Subject(Role.CANDIDATE, CheckpointRef(tmp_path), MANIFEST)])
    (told,) = [each for each in made.foreseen if "no PASS is possible" in each]
    assert told.startswith(f"{policy.where('required', 1)}: 'noise' is required, and cannot be tested")


# --- what a record vouches for ----------------------------------------------------------------------------------------


def without(attack: str) -> tuple[list[SelfTest], SelfTest]:
    """All that the organisms' policy needs but one, and that one."""
    kept = list(work())
    (one,) = [each for each in kept if each.config["source"] + each.config["method"] == attack]
    kept.remove(one)
    return kept, one


def blocks_of(tests: list[SelfTest]) -> list[str]:
    its = dataclasses.replace(evidence(planned(MANIFEST), 0.27), self_tests=tuple(tests))
    found = judge(files()[0].record, its, AT)
    assert found.outcome == ("INCONCLUSIVE" if found.blockers else "PASS")
    return [sentence(block) for block in found.blockers if block.code in INSTRUMENTS]


def test_with_a_record_of_each_requirement_nothing_is_in_the_way() -> None:
    assert blocks_of(list(work())) == []
    assert made("PASS").verdict.outcome == "PASS"


@pytest.mark.parametrize("attack", ["unrelatedlora", "retainlora", "forgetlora", "forgetfull"])
def test_a_requirement_whose_record_is_not_there_blocks_whatever_others_show(attack: str) -> None:
    """Full relearning from the domain's questions may work while the adapter of another source finds nothing."""
    kept, one = without(attack)
    name = f"relearn ({one.config['source']}, {one.config['method']})"
    assert [each.split(" counts: ")[0] for each in blocks_of(kept)] == [f"no self-test of '{name}'"]
    failed = one.model_copy(update={"faults": (SelfTestFault(code="no_answers", args={"where": "rmu"}),)})
    assert blocks_of([*kept, failed]) == [f"'{name}' failed its self-test: rmu: it yielded no attacked model"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {}},
        {"config": {"source": "unrelated", "method": "lora"}},
        {"budget": -1},
        {"budget": 60},
        {"extended": {"source": "unrelated"}, "budget": 72},
    ],
    ids=["from before it was told", "less than all settings", "no budget", "another budget", "an excuse for a word"],
)
def test_a_record_that_does_not_say_all_vouches_for_nothing(changes: dict[str, Any]) -> None:
    kept, one = without("unrelatedlora")
    assert "no self-test of 'relearn (unrelated, lora)' counts" in blocks_of([*kept, one.model_copy(update=changes)])[0]


def test_a_record_of_an_earlier_form_is_read_and_counts_for_nothing() -> None:
    kept, one = without("unrelatedlora")
    told = one.model_dump(mode="json", exclude={"config", "budget", "extended", "known", "share"})
    earlier = SelfTest.model_validate_json(encode(told))
    assert (earlier.config, earlier.budget) == ({}, -1)
    assert "no self-test of 'relearn (unrelated, lora)' counts" in blocks_of([*kept, earlier])[0]


def asked_of(where: dict[str, Any], budgets: tuple[int, ...], **changes: Any) -> Asked:
    config = {**WORKS.config, **changes}
    return Asked(Requirement(attack="relearn", where=where, budgets=budgets), WORKS.attack_version, config, budgets)


def test_a_number_that_a_requirement_names_counts_where_the_record_says_that_it_was_asked_for() -> None:
    asked = asked_of({"source": "forget", "min_steps": 100}, (5,), min_steps=100)
    assert not vouches(WORKS, asked), "it was tried with sixty steps, and nothing says why"
    assert vouches(WORKS.model_copy(update={"extended": {"min_steps": 100}}), asked)
    assert not vouches(WORKS.model_copy(update={"extended": {"min_steps": 200}}), asked)
    assert vouches(WORKS, asked_of({"source": "forget"}, (5,), min_steps=100)), "a number that nobody names is free"


def test_a_budget_beyond_the_pool_counts_where_the_record_says_so() -> None:
    asked = asked_of({"source": "forget"}, (255,))
    assert not vouches(WORKS.model_copy(update={"budget": 72}), asked)
    assert vouches(WORKS.model_copy(update={"budget": 72, "extended": {"budgets": [255]}}), asked)


@pytest.mark.parametrize(
    "changes", [{"source": "dev"}, {"method": "lora"}, {"train_on": "texts"}, {"repair": "unrelated"}, {"layers": [1]}]
)
def test_another_word_or_another_block_is_another_attack(changes: dict[str, Any]) -> None:
    assert vouches(WORKS, asked_of({}, (5,)))
    assert not vouches(WORKS, asked_of({}, (5,), **changes))
    assert not vouches(WORKS.model_copy(update={"extended": changes}), asked_of({}, (5,), **changes)), "no excuse"


def test_a_wider_choice_of_words_does_not_vouch_for_a_narrower_one() -> None:
    config = attacks.as_json(attacks.load("reformat").Config())
    asked = Asked(Requirement(attack="reformat"), 1, config, (0,))
    tried = WORKS.model_copy(update={"attack": "reformat", "attack_version": 1, "budget": 0})
    few = {**config, "presentations": ["header_none"]}
    assert vouches(tried.model_copy(update={"config": few}), asked)
    assert not vouches(tried.model_copy(update={"config": config}), asked._replace(config=few))


def test_the_data_of_the_self_test_are_the_pools_that_are_spoken_of() -> None:
    pool = self_test.data().pool()
    assert {name: pool[name] for name in POOL} == POOL
