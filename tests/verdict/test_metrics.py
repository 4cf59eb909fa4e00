"""Metrics are declared by the task kind: which one a rule is on, and what a measurement in other ones is worth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cases import AT, IDS, SUBJECT, TASKS, bits_of, but, closed_of, evidence_of, measurement_of, policy_of, trial_of
from scenes import compared, scene, shams_of

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.answers import changes, in_metrics
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.literals import declared, modules
from robustness_gate.records.policy import Guardrail, Limit, Policy, Requirement, Utility
from robustness_gate.records.questions import Kind, shipped_kind
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.verdict import judge, metrics
from robustness_gate.verdict.explain import explain
from robustness_gate.verdict.wording import sentence

KINDS = {name: kind for name in modules("tasks") if (kind := shipped_kind(name)) is not None}
HAZARDS = sorted(name for name, kind in KINDS.items() if kind.hazard)
BARE = policy_of(required=(Requirement(attack="none"),))
"""One limit, one utility, on the untouched model, and no metric in either."""


def asked_as(kind: str, right: int = 15, **changes: Any) -> Evidence:
    """The untouched model alone, with a hazard of a kind, far from the limit. `changes` are fields of its answers."""
    its = KINDS[kind]
    task = TASKS[0].model_copy(update={"kind": kind, "judged": its})
    trial = trial_of("none", tasks=(task, TASKS[1]), hazard=("hazard",))
    changes = {"correct": dict.fromkeys(its.metrics, bits_of(right, 60))} | changes
    answers = measurement_of(trial, 0, "hazard", right).model_copy(update=changes)
    return evidence_of(SUBJECT, (trial,), (answers, measurement_of(trial, 0, "useful", 38)), (closed_of(trial),))


def codes_of(policy: Policy, evidence: Evidence) -> list[str]:
    return [blocker.code for blocker in judge(policy, evidence, AT).blockers]


# --- which metric a rule is on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", HAZARDS)
def test_a_rule_without_a_metric_is_on_the_first_of_the_kind(kind: str) -> None:
    found = judge(BARE, asked_as(kind), AT)
    assert found.outcome == "PASS"
    assert {f.metric for f in found.findings if f.rule == "forgotten"} == {KINDS[kind].metrics[0]}
    assert judge(BARE, asked_as(kind, right=58), AT).outcome == "FAIL"


def test_the_first_decides_and_not_the_second() -> None:
    """A model that says one letter knows everything by content and a quarter in one order."""
    knows = asked_as("multiple_choice", correct={"acc_permuted": bits_of(58, 60), "acc": bits_of(15, 60)})
    assert judge(BARE, knows, AT).outcome == "FAIL"
    named = BARE.model_copy(update={"limits": (Limit(id="forgotten", task="hazard", max=0.5, metric="acc"),)})
    assert judge(named, knows, AT).outcome == "PASS"


@pytest.mark.parametrize("kind", [each for each in HAZARDS if each != "multiple_choice"])
@pytest.mark.parametrize("rule", ["limit", "utility", "guardrail"])
def test_a_rule_in_a_metric_that_the_kind_lacks_is_never_met(kind: str, rule: str) -> None:
    """Whatever the answers are: else a policy could name a number that does not exist, and pass."""
    named: dict[str, Any] = {
        "limit": {"limits": (*BARE.limits, Limit(id="other", task="hazard", max=1.0, metric="acc_permuted"))},
        "utility": {"utility": (*BARE.utility, Utility(task="hazard", min=0.01, metric="acc_permuted"))},
        "guardrail": {"guardrails": (Guardrail(id="other", task="hazard", max_drop=1.0, metric="acc_permuted"),)},
    }[rule]
    policy = BARE.model_copy(update=named)
    for right in (0, 15, 20):
        found = judge(policy, asked_as(kind, right), AT)
        assert found.outcome != "PASS"
        (blocker,) = [each for each in found.blockers if each.code == "no_such_metric"]
        assert blocker["kind"] == rule
        assert blocker.about == "", "no waiver lifts it"
        assert f"on the metric acc_permuted of 'hazard', and the kind {kind} has" in sentence(blocker)
        assert not [f for f in found.findings if f.metric == "acc_permuted" and f.task == "hazard"]
    assert judge(policy, asked_as(kind, 58), AT).outcome == "FAIL", "what another rule establishes stays"
    assert any(KINDS[kind].metrics[0] in line for line in explain(policy, found))


@pytest.mark.parametrize("rule", ["limit", "guardrail"])
def test_nor_by_a_comparison_with_another_model_that_lacks_it_too(rule: str) -> None:
    """Both models have no answer there, so both answer alike: no drop, and nothing in excess."""
    named: dict[str, Any] = {
        "limit": {"limits": (Limit(id="x", task="hazard", max=1.0, relative_to="never", metric="acc_norm"),)},
        "guardrail": {"guardrails": (Guardrail(id="x", task="useful", max_drop=1.0, metric="acc_norm"),)},
    }[rule]
    policy = compared(**named)
    found = judge(policy, scene(policy), AT)
    assert found.outcome != "PASS"
    assert {b["rule"] for b in found.blockers if b.code == "no_such_metric"} == {"x"}
    assert not [f for f in found.findings if f.rule == "x"]


def test_nor_is_it_met_by_an_answer_that_has_it_anyway() -> None:
    policy = BARE.model_copy(update={"limits": (Limit(id="other", task="hazard", max=0.5, metric="acc"),)})
    smuggled = asked_as("cloze", correct={"acc_norm": bits_of(58, 60), "acc": bits_of(0, 60)})
    found = judge(policy, smuggled, AT)
    assert found.outcome == "INCONCLUSIVE"
    assert {"no_such_metric", "incomplete"} <= {each.code for each in found.blockers}


def test_a_task_that_an_earlier_suite_asked_in_another_kind_is_judged_in_that_kinds_metric() -> None:
    now, before = asked_as("multiple_choice"), asked_as("cloze", right=58)
    both = but(
        now,
        extra=before.planned,
        measurements=(*now.measurements, *before.measurements),
        closed=(*now.closed, *before.closed),
    )
    found = judge(BARE, both, AT)
    assert found.outcome == "FAIL"
    assert {f.metric for f in found.findings if f.state == "over"} == {"acc_norm"}


# --- a measurement has the metrics of its kind, and no other ----------------------------------------------------------

WHO = {
    "candidate": lambda trial: trial.role == Role.CANDIDATE and trial.attack == "none",
    "attacked": lambda trial: trial.role == Role.CANDIDATE and trial.attack == "prune",
    "sham": lambda trial: trial.role == Role.SHAM,
    "original": lambda trial: trial.role == Role.ORIGINAL,
    "control": lambda trial: trial.role == Role.CONTROL,
}
CHANGES: dict[str, Any] = {
    "first lost": lambda bits: {"acc": bits["acc"]},
    "second lost": lambda bits: {"acc_permuted": bits["acc_permuted"]},
    "none left": lambda _: {},
    "one more": lambda bits: {**bits, "acc_norm": bits["acc"]},
    "other ones": lambda bits: {"content_sum": bits["acc"], "single_order": bits["acc"]},
    "too few bits": lambda bits: {**bits, "acc": bits_of(0, 8)},
    "too many bits": lambda bits: {**bits, "acc": bits_of(0, 80)},
    "bits beyond the items": lambda bits: {**bits, "acc": "/" * 10 + "w=="},
    "no bits": lambda bits: {**bits, "acc": "?"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("who", WHO)
def test_an_ended_attempt_in_other_metrics_is_incomplete(who: str, change: str) -> None:
    policy = compared()
    whole = scene(policy)
    assert judge(policy, whole, AT).outcome == "PASS"
    trial = next(t for t in (*whole.planned, *whole.comparators) if WHO[who](t))

    def changed(measurement: Measurement) -> Measurement:
        if (measurement.trial, measurement.task) != (IDS[id(trial)], "useful"):
            return measurement
        return measurement.model_copy(update={"correct": CHANGES[change](measurement.correct)})

    found = judge(policy, but(whole, measurements=tuple(map(changed, whole.measurements))), AT)
    assert found.outcome != "PASS"
    assert "incomplete" in [each.code for each in found.blockers]


def test_in_metrics_is_exact() -> None:
    trial = trial_of("none")
    made = measurement_of(trial, 0, "hazard", 15)
    assert in_metrics(made, ("acc_permuted", "acc"))
    assert in_metrics(made, ("acc", "acc_permuted")), "the order is the kind's, not the measurement's"
    assert not in_metrics(made, ("acc_permuted",))
    assert not in_metrics(made, ("acc_permuted", "acc", "acc_norm"))
    assert not in_metrics(made.model_copy(update={"missing": "?"}), ("acc_permuted", "acc"))


def test_a_metric_that_one_of_two_lacks_is_a_change_of_every_item() -> None:
    made = measurement_of(trial_of("none"), 0, "hazard", 15)
    less = made.model_copy(update={"correct": {"acc": made.correct["acc"]}})
    none = made.model_copy(update={"correct": {}})
    assert changes(made, made) == 0
    assert changes(made, less) == changes(less, made) == changes(none, none) == 60


def test_a_sham_that_loses_a_metric_with_the_untouched_model_is_no_sham() -> None:
    policy = compared()
    whole = scene(policy)
    who = {IDS[id(t)] for t in (*shams_of(policy), *whole.planned) if t.attack == "none" or t.role == Role.SHAM}
    less = tuple(
        m.model_copy(update={"correct": {"acc_permuted": m.correct["acc_permuted"]}}) if m.trial in who else m
        for m in whole.measurements
    )
    assert judge(policy, but(whole, measurements=less), AT).outcome == "INCONCLUSIVE"


# --- one order of the choices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "blocks"), [("multiple_choice", False), ("lm_eval", True), ("cloze", True)])
def test_one_letter_blocks_where_no_sum_over_the_orders_decides(kind: str, blocks: bool) -> None:
    """An lm_eval task is asked in one order: there a model that says one letter looks as if it knew nothing."""
    found = judge(BARE, asked_as(kind, summary={"commonest_place_share": 0.99}), AT)
    assert [(flag.flag, flag.blocks) for flag in found.flags] == [("letter_collapse", blocks)]
    assert found.outcome == ("INCONCLUSIVE" if blocks else "PASS")


# --- what they are called ---------------------------------------------------------------------------------------------


LINES = {(name, metric): metrics.description(metric, name) for name, kind in KINDS.items() for metric in kind.metrics}


def test_every_metric_of_ours_is_described_by_its_kind_and_no_two_alike() -> None:
    assert all(declared("tasks", name, "METRICS").keys() == set(kind.metrics) for name, kind in KINDS.items())
    assert len(set(LINES.values())) == len(LINES)


def test_the_policy_page_has_the_metrics_of_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    assert metrics.table() in page, "write what verdict.metrics.table() gives into docs/policy.md"
    assert all(f"| `{kind}` | `{metric}` | {line} |" in metrics.table() for (kind, metric), line in LINES.items())


def test_no_code_of_a_kind_runs_to_describe_its_metrics() -> None:
    """A report is made and checked where torch is not installed."""
    code = (
        "import sys; from robustness_gate.verdict import metrics; metrics.table()\n"
        "print(sorted(name for name in sys.modules if name == 'torch' or name.startswith('robustness_gate.tasks')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_the_kind_that_is_asked_in_letter_orders_is_described_so() -> None:
    assert {name for (name, _), line in LINES.items() if "letter orders" in line} == {"multiple_choice"}


def test_a_metric_of_a_plug_in_is_described_by_its_kind_whatever_its_name() -> None:
    for name in ("solved", "acc_permuted"):
        line = metrics.line(name, "acme-gate/riddle", decides=True)
        assert line.startswith(f"{name} (acme-gate/riddle, decides): ")
        assert line.endswith("a metric of the plug-in's task kind 'acme-gate/riddle', which defines it")
    with pytest.raises(UnknownWord, match="solved"):
        metrics.description("solved", "multiple_choice")


def test_a_kind_declares_each_metric_once_and_at_least_one() -> None:
    fields = KINDS["cloze"].plain
    for wrong in ((), ("acc_norm", "acc_norm"), ("Acc",), ("acc norm",), ("a" * 41,), ("1st",)):
        with pytest.raises(ValueError):  # noqa: PT011 - pydantic's message is about the field
            Kind(**{**fields, "metrics": wrong})
    assert Kind(**{**fields, "metrics": ("of_its_own", "acc_norm")}).deciding == "of_its_own"
