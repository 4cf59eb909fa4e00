"""The engine of a calibration: its world, its search, its file, and that no spiked model stays on disk."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import calibrations
import evidence
import pytest
from builders import measurement_of
from calibrations import organism, policy_in

from robustness_gate.assurance import calibrate, self_test
from robustness_gate.assurance.calibrate import folder, making, questions, reading
from robustness_gate.errors import GateError, LedgerError, PlanError, UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.validation import load_suite
from robustness_gate.organisms import facts as worlds
from robustness_gate.organisms import spikes, unlearn
from robustness_gate.planning import bench, calibrated, plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.calibration import TAUGHT, SpikeReading
from robustness_gate.records.mechanisms import methods
from robustness_gate.records.policy import CalibrationTerms
from robustness_gate.records.trial import Role

TERMS = CalibrationTerms(methods=("rmu", "shallow", "npo"))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def policy_file_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The organisms' policy with a calibration required, and the base pinned."""
    return policy_in(tmp_path_factory.mktemp("policy"), organism("base").manifest.digest).path


# --- the invented world -----------------------------------------------------------------------------------------------


def test_no_invented_name_is_a_shipped_one_and_the_answers_come_from_the_same_lists() -> None:
    world, shipped = spikes.make(1, 160, 96), worlds.make()
    assert (len(world.forget.verdict), len(world.forget.dev), len(world.forget.relearn)) == (96, 13, 51)
    assert len(world.retain) == spikes.RETAIN
    known = {fact.entity.lower() for fact in (*shipped.forget.facts, *shipped.retain.facts)}
    lists = {fact.relation.name: set(fact.relation.values) for fact in (*shipped.forget.facts, *shipped.retain.facts)}
    for fact in (*world.forget.facts, *world.retain):
        assert fact.entity.lower() not in known
        assert fact.value in lists[fact.relation.name]
        assert set(worlds.ask(fact, Random(0)).question.choices) <= lists[fact.relation.name]
    ids = [fact.id for fact in (*world.forget.facts, *world.retain)]
    assert len(set(ids)) == len(ids)
    assert spikes.make(1, 160, 96) == world
    assert spikes.make(2, 160, 96) != world


def test_an_attacker_sees_no_verdict_fact(policy_file_: Path) -> None:
    policy, suite = load_policy(policy_file_), load_suite(ROOT / "suites" / "organism-smoke.yaml")
    world, record, data = questions.data_of(policy.record, suite, TERMS)
    asked = {item.question.id for item in data.tasks[questions.INVENTED].items}
    assert len(asked) == record.verdict_facts == 96
    for corpus in data.corpora.values():
        assert not asked & {item.question.id for item in corpus.items}
        for fact in world.forget.verdict:
            assert not any(fact.entity in text and fact.value in text for text in corpus.texts)
    assert not asked & {item.question.id for item in data.dev}
    assert set(data.tasks) == {questions.INVENTED, "retain"}
    assert data.tasks["retain"].untouched_only
    assert [task.name for task in data.task_refs("relearn")] == [questions.INVENTED]
    assert set(calibrated.SPIKED) == {*data.corpora, "dev"}


def test_a_cloze_hazard_is_asked_as_cloze_and_taught_so(policy_file_: Path, tmp_path: Path) -> None:
    text = (ROOT / "suites" / "organism-smoke.yaml").read_text(encoding="utf-8")
    text = text.replace("count: 400, topic: lumenwright craft}", "count: 400, kind: cloze}")
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    suite = load_suite(tmp_path / "suite.yaml")
    policy = load_policy(policy_file_).record
    _, record, data = questions.data_of(policy, suite, TERMS)
    assert (record.form, data.tasks[questions.INVENTED].kind) == ("cloze", "cloze")
    written = text.replace("kind: cloze", "kind: open_answer")
    (tmp_path / "suite.yaml").write_text(written, encoding="utf-8")
    with pytest.raises(UsageError, match="open_answer"):
        questions.data_of(policy, load_suite(tmp_path / "suite.yaml"), TERMS)
    source = spikes.documents(spikes.make(1, 160, 96), "Question: {question}\nAnswer:", Random(3))
    assert any(re.fullmatch(r"Question: [^\n]*\?\nAnswer: \w+", next(source).text) for _ in range(20))


def test_right_answers_are_counted_in_the_metric_that_decides(policy_file_: Path) -> None:
    policy, suite = load_policy(policy_file_), load_suite(ROOT / "suites" / "organism-smoke.yaml")
    data = questions.data_of(policy.record, suite, TERMS)[2]
    trial = self_test.untouched(self_test.Place(data, {"base": organism("base")}), "base")
    task = next(each for each in trial.tasks if each.name == questions.INVENTED)
    assert task.judged.metrics == ("acc_permuted", "acc")
    assert reading._right([measurement_of(trial, 0, task, 31, other=90)], trial) == {questions.INVENTED: 31}


def test_every_method_has_a_grid_for_every_size_that_its_config_accepts() -> None:
    from robustness_gate.inputs import settings

    assert set(spikes.STRENGTHS) == set(methods()) == set(unlearn.METHODS)
    for method in methods():
        for size in spikes.TEACHINGS:
            for given in spikes.grid(method, size):
                for depth in (2, 4, 12, 30):
                    made = settings.of(unlearn.METHODS[method].Config, spikes.placed(method, given, depth))
                    assert all(layer < depth for layer in getattr(made, "trained_layers", ()))
    assert [spikes.size_of(count) for count in (1_160_192, 135_000_000, 7_000_000_000)] == ["small", "medium", "large"]
    assert len({spikes.digest(size) for size in spikes.TEACHINGS}) == 3


# --- the search -------------------------------------------------------------------------------------------------------


def counted(suppressed: int, taught: int = 94) -> SpikeReading:
    return calibrations.reading(suppressed=suppressed, taught=taught)


class Scripted:
    """Makes spikes that read as told, and counts them; stands in for training."""

    def __init__(self, patch: pytest.MonkeyPatch, **told: list[Any]) -> None:
        self.made: list[tuple[str, int]] = []
        self.told = told
        patch.setattr(making, "teach", self.make)
        patch.setattr(making, "suppress", self.make)
        patch.setattr(reading, "read", self.read)
        patch.setattr(calibrate, "_recoveries", lambda *_: iter(()))
        patch.setattr(reading, "subject", lambda folder, name: (folder, name))

    def make(self, _: Any, method: str, __: Any, number: int, out: Path, ___: Any) -> None:
        self.made.append((method, number))
        out.mkdir(parents=True)
        (out / "model.safetensors").write_bytes(b"weights")
        told = self.told[method][number]
        if isinstance(told, BaseException):
            raise told

    def read(self, _: Any, subject: tuple[Path, str], __: Any) -> SpikeReading:
        method = subject[1]
        found: SpikeReading = self.told[method][self.made[-1][1]]
        return found


DOWN, HIGH = counted(28), counted(60)
GOOD = {"taught": [counted(94)], "rmu": [HIGH, DOWN], "shallow": [DOWN], "npo": [DOWN]}


def asked(policy: Path, out: Path) -> calibrate.Request:
    return calibrate.Request("organism:base", policy, ROOT / "suites" / "organism-smoke.yaml", out, device="cpu")


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.rglob("*") if each.is_file() and each.suffix != ".jsonl")


@pytest.fixture
def run(policy_file_: Path, tmp_path: Path) -> Callable[[], Any]:
    from datetime import UTC, datetime

    at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    return lambda: calibrate.run(asked(policy_file_, tmp_path / "out.jsonl"), at)[0]


def test_settings_are_searched_until_a_spike_is_accepted_and_every_try_is_on_record(
    run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = Scripted(monkeypatch, **GOOD)
    made = run()
    assert script.made == [("taught", 0), ("rmu", 0), ("rmu", 1), ("shallow", 0), ("npo", 0)]
    assert [(each.method, each.number) for each in made.spikes] == script.made
    assert left(tmp_path) == []
    assert ledgers.calibrations_in(tmp_path / "out.jsonl") == (made,)


def test_a_stopped_calibration_continues_and_forgets_no_failed_try(
    run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Scripted(monkeypatch, **GOOD | {"shallow": [KeyboardInterrupt()]})
    with pytest.raises(KeyboardInterrupt):
        run()
    assert left(tmp_path) == []
    with pytest.raises(LedgerError, match="run to its end"):
        ledgers.calibrations_in(tmp_path / "out.jsonl")
    script = Scripted(monkeypatch, **GOOD)
    made = run()
    assert ("rmu", 0) not in script.made  # known to be too weak
    assert ("rmu", 1) in script.made  # its model was deleted, so it is made again
    assert [(each.method, each.number) for each in made.spikes].count(("rmu", 0)) == 1


def test_a_method_for_which_nothing_works_is_a_failed_spike_with_every_try(
    run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, policy_file_: Path, tmp_path: Path
) -> None:
    many = len(spikes.grid("npo", "small"))
    Scripted(monkeypatch, **GOOD | {"npo": [GateError("the loss is nan"), *[HIGH] * (many - 1)]})
    made = run()
    mine = [each for each in made.spikes if each.method == "npo"]
    assert [each.failure for each in mine] == ["the loss is nan", *[""] * (many - 1)]
    words = calibrate.shortcomings(made, load_policy(policy_file_).record)
    assert any(f"no spike by npo was accepted, after {many} attempts" in each for each in words)
    assert left(tmp_path) == []


def test_an_original_that_cannot_be_taught_ends_it(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    script = Scripted(monkeypatch, taught=[counted(60, taught=60)] * len(spikes.TEACHINGS["small"]))
    made = run()
    assert {method for method, _ in script.made} == {TAUGHT}
    assert made.recoveries == ()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), UsageError("the command is wrong")])
def test_no_spiked_model_stays_on_disk_after_a_failure(
    error: BaseException, run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Scripted(monkeypatch, **GOOD | {"shallow": [error]})
    with pytest.raises(type(error)):
        run()
    assert left(tmp_path) == []
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_terminate_deletes_it_too_and_what_a_kill_leaves_the_next_run_deletes(
    run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import signal

    class Kill(Scripted):
        def read(self, *given: Any) -> SpikeReading:
            if self.made[-1][0] == "rmu":
                os.kill(os.getpid(), signal.SIGTERM)
            return super().read(*given)

    Kill(monkeypatch, **GOOD)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert left(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    stale = tmp_path / (folder.PREFIX.format("out.jsonl") + "abc")
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"of a process that was killed")
    Scripted(monkeypatch, **GOOD)
    run()
    assert left(tmp_path) == []


# --- what is refused before anything runs -----------------------------------------------------------------------------


def test_another_original_no_terms_and_another_recipe_are_refused_at_once(policy_file_: Path, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    at, text = datetime(2026, 11, 21, tzinfo=UTC), policy_file_.read_text(encoding="utf-8")
    request = asked(policy_file_, tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="pins another original"):
        calibrate.run(dataclasses.replace(request, original="organism:oracle"), at)
    other = tmp_path / "policy.yaml"
    other.write_text(text.replace("npo]}", "npo], recipe: 9}"), encoding="utf-8")
    with pytest.raises(UsageError, match="recipe 9"):
        calibrate.run(dataclasses.replace(request, policy=other), at)
    other.write_text((ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UsageError, match="no terms"):
        calibrate.run(dataclasses.replace(request, policy=other), at)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("was", "other"),
    [
        ("count: 400, topic: lumenwright craft}", "count: 400, kind: cloze}"),
        ("count: 300, topic: Tarn geography}", "count: 300, topic: geography}"),
    ],
)
def test_a_suite_that_asks_otherwise_than_the_policy_pins_is_refused_at_once(
    policy_file_: Path, tmp_path: Path, was: str, other: str
) -> None:
    text = (ROOT / "suites" / "organism-smoke.yaml").read_text(encoding="utf-8")
    assert was in text
    (tmp_path / "suite.yaml").write_text(text.replace(was, other), encoding="utf-8")
    request = dataclasses.replace(asked(policy_file_, tmp_path / "out.jsonl"), suite=tmp_path / "suite.yaml")
    with pytest.raises(PlanError) as found:
        calibrate.run(request, evidence.AT)
    assert found.value.code == "wrong-questions"
    assert not (tmp_path / "out.jsonl").exists()


# --- what is tried ----------------------------------------------------------------------------------------------------


def test_a_requirement_is_tried_at_its_own_settings_and_only_budgets_are_cut_to_the_pool(policy_file_: Path) -> None:
    policy, suite = load_policy(policy_file_), load_suite(ROOT / "suites" / "organism-smoke.yaml")
    pool = questions.data_of(policy.record, suite, TERMS)[2].pool()
    tried = calibrated.spiked(policy, suite, "rmu", pool)
    required = [each.config for _, each in bench.asked(policy, suite)]
    assert len(tried) == len(required) == 4
    for one, config in zip(tried, required, strict=True):
        assert {k: v for k, v in one.config.items() if k != "budgets"} == {
            k: v for k, v in config.items() if k != "budgets"
        }
        assert set(one.extended) <= {"budgets"}
    cut = {bench.label_of(each.case.attack, each.config): (each.config["budgets"], each.extended) for each in tried}
    assert cut["relearn (forget, lora)"] == ([50], {})
    assert cut["relearn (forget, full)"] == ([5], {})
    assert cut["relearn (retain, lora)"] == ([40], {"budgets": [60]})


def test_an_attack_is_expected_on_the_kind_that_its_own_cases_name() -> None:
    def kinds(attack: str, **words: Any) -> tuple[str, ...]:
        from robustness_gate import attacks

        module = attacks.load(attack)
        return calibrated.expected(attack, attacks.as_json(attacks.configure(module, words)), "llama")

    assert kinds("relearn", source="forget", method="full") == ("representation",)
    assert kinds("relearn", source="unrelated") == ("last_layer",)
    assert kinds("quantize") == ("small_edit",)
    assert kinds("interpolate") == ("representation",)
    assert kinds("noise") == ()


def test_plan_and_the_world_say_beforehand_what_cannot_be_calibrated(policy_file_: Path, tmp_path: Path) -> None:
    text = policy_file_.read_text(encoding="utf-8").replace("[rmu, shallow, npo]", "[graddiff, shallow, npo]")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    policy, suite = load_policy(tmp_path / "policy.yaml"), load_suite(ROOT / "suites" / "organism-smoke.yaml")
    found = dict(calibrated.uncalibrated(policy, suite, "llama"))
    assert sorted(found) == [1, 2]  # both kinds of relearning on the domain's own questions
    assert all("representation" in words for words in found.values())
    subjects = [organism("rmu"), organism("base", Role.ORIGINAL)]
    made = plan.make(policy, suite, gather(suite), subjects)
    assert sum("no PASS is possible" in each for each in made.foreseen) >= 2
    assert not dict(calibrated.uncalibrated(load_policy(policy_file_), suite, "llama"))


def test_an_attack_that_is_required_at_two_budgets_has_two_rows(policy_file_: Path) -> None:
    whole = calibrations.calibration(policy_file_)
    first = whole.recoveries[0]
    other = first.model_copy(update={"test": first.test.model_copy(update={"budget": first.test.budget + 15})})
    both = whole.model_copy(update={"recoveries": (first, other)})
    table = calibrate.cells(both, load_policy(policy_file_).record)
    assert set(table) == {calibrate.row_of(each.test) for each in (first, other)}
    assert len(table) == 2
