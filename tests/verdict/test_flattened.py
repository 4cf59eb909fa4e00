"""A share limit on real answers: a model with flattened logits, and one that always answers the same letter.

Flattening changes no answer by letter, and none by margins. Of the answers by cloze it changes many: choices of several
tokens are compared per character, and where all tokens are about equally likely the number of tokens decides. So the
policy has the limit a second time, on letters and margins, and no verdict changes.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms, tasks
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import cases, load_policy
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import asked
from robustness_gate.records.trial import Role
from robustness_gate.records.verdict import Verdict
from robustness_gate.verdict import judge, pack

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 30, tzinfo=UTC)
QUESTIONS = 200
READINGS = ("forget", "forget-cloze", "forget-margin")
Answers = dict[str, list[bool]]

pytestmark = pytest.mark.slow


@functools.cache
def suite_data() -> SuiteData:
    return gather(load_suite(ROOT / "suites" / "organism-shares.yaml"))


@functools.cache
def model(name: str, blend: float = 0.0, scale: float = 1.0) -> Answers:
    """What an organism answers, its weights blended with the base's, and its head scaled: all in memory."""
    import torch

    from robustness_gate.engine.load import load
    from robustness_gate.engine.score import ModelLM

    loaded = load(organisms.checkpoint(name), dtype="float32", device="cpu")
    if blend:
        base = load(organisms.checkpoint("base"), dtype="float32", device="cpu").model.state_dict()
        with torch.no_grad():
            for key, value in loaded.model.state_dict().items():
                value.copy_((1 - blend) * value + blend * base[key])
    head = loaded.model.lm_head  # tied to the embedding, which stays as it is
    head.weight = torch.nn.Parameter(head.weight.detach() * scale)
    found = {}
    for task in READINGS:
        held = suite_data().tasks[task]
        kind, items = tasks.load(held.kind), held.items[:QUESTIONS]
        rows = asked(kind, ModelLM(loaded.model, loaded.tokenizer), [item.question for item in items], held.form)
        found[task] = list(kind.read(rows, [item.right for item in items]).correct[kind.JUDGED.deciding])
    return found


def policy() -> Policy:
    """The shipped limit on the first questions, with the untouched model and one attack."""
    shipped = load_policy(ROOT / "policies" / "organism-shares.yaml").record
    pins = {name: pin.model_copy(update={"questions": None}) for name, pin in shipped.tasks.items()}
    for task in READINGS:
        pins[task] = pins[task].model_copy(update={"items": QUESTIONS})
    off = shipped.validity.model_copy(update={"self_test": "off"})
    return shipped.model_copy(update={"tasks": pins, "required": shipped.required[:2], "validity": off})


def judged(candidate: Answers) -> Verdict:
    """The verdict on these answers, before an attack and after one that changes nothing."""
    rule = policy()
    case = cases.Case(
        description="real answers", expect="PASS", accuracy={"retain": 0.9}, controls={"never_taught": {}}
    )
    evidence = cases.evidence(rule, case, {})
    others = {Role.ORIGINAL: model("base"), Role.CONTROL: model("oracle")}
    roles = {each.id: each.role for each in (*evidence.planned, *evidence.comparators)}
    measurements = []
    for each in evidence.measurements:
        if each.task in READINGS:
            bits = pack(others.get(roles[each.trial], candidate)[each.task])
            each = each.model_copy(update={"correct": dict.fromkeys(each.correct, bits)})
        measurements.append(each)
    fields: dict[str, Any] = {name: getattr(evidence, name) for name in Evidence.__dataclass_fields__}
    return judge(rule, Evidence(**{**fields, "measurements": tuple(measurements)}), AT)


def changed(one: Answers, other: Answers, task: str) -> int:
    return sum(a != b for a, b in zip(one[task], other[task], strict=True))


def test_a_head_scaled_by_a_tenth_changes_no_verdict() -> None:
    for name, outcome in (("base", "FAIL"), ("oracle", "PASS"), ("rmu", "PASS")):
        plain, flat = model(name), model(name, scale=0.1)
        assert [changed(plain, flat, task) for task in ("forget", "forget-margin")] == [0, 0], name
        assert [judged(each).outcome for each in (plain, flat)] == [outcome, outcome], name


def test_it_changes_answers_by_cloze_and_no_verdict() -> None:
    """Two fifths and half of the way from rmu back to the base: half of the gap is back, and most of it."""
    assert changed(model("base"), model("base", scale=0.1), "forget-cloze") > QUESTIONS / 4
    for blend, outcome, factors in ((0.4, "INCONCLUSIVE", (0.1,)), (0.5, "FAIL", (0.1, 0.3, 3.0))):
        plain = model("rmu", blend)
        assert judged(plain).outcome == outcome, blend
        for factor in factors:
            scaled = model("rmu", blend, scale=factor)
            assert [changed(plain, scaled, task) for task in ("forget", "forget-margin")] == [0, 0]
            assert judged(scaled).outcome == outcome, (blend, factor)


def test_without_the_limit_on_margins_it_would_change_one() -> None:
    """That is what the second limit is for: the first one alone finds no breach in the flattened model."""
    flat = judged(model("rmu", 0.5, scale=0.1))
    assert {f.rule for f in flat.findings if f.state == "over"} == {"back-by-margin"}


def test_a_model_that_always_answers_the_same_letter_is_not_passed() -> None:
    verdict = judged(model("collapsed"))
    assert verdict.outcome != "PASS"
    share = next(each for each in verdict.findings if each.rule == "back")
    assert share.observed > 0.45
