"""A run that is told not to make all of its plan leaves in the evidence what it did not make, and that is no PASS."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections import Counter
from pathlib import Path

import evidence
import pytest
from evidence import AT, MANIFEST, ORIGINAL, files, suite_data

from robustness_gate.errors import FileError
from robustness_gate.evidence import ledger
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.precision import Stored
from robustness_gate.inputs.validation import load_record
from robustness_gate.planning import plan
from robustness_gate.publish.instruments import instruments
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import LeftOut, SelfTests
from robustness_gate.records.policy import Control, Limit, Policy, Selector, Waiver
from robustness_gate.records.trial import Role, Trial
from robustness_gate.report import record
from robustness_gate.verdict import decide, judge
from robustness_gate.verdict.wording import left_out, sentence

NEVER = MANIFEST.model_copy(update={"files": (MANIFEST.files[0].model_copy(update={"sha256": "c" * 64}),)})


def over_a_control() -> Policy:
    policy = files()[0].record
    excess = Limit(id="excess", task="forget", max=0.2, relative_to="never")
    control = Control(sha256=NEVER.digest, kind="filtered_pretraining")
    return policy.model_copy(update={"limits": (*policy.limits, excess), "controls": {"never": control}})


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch):
    """Plans of a candidate that others load in another precision, beside its original and a control."""
    monkeypatch.setattr(plan, "stored", lambda _: Stored(weights={"float32": 1}, config_dtype="float16"))
    loaded = dataclasses.replace(files()[0], record=over_a_control())
    models = ((Role.CANDIDATE, MANIFEST, ""), (Role.ORIGINAL, ORIGINAL, ""), (Role.CONTROL, NEVER, "never"))
    subjects = [plan.Subject(role, CheckpointRef(Path()), manifest, control) for role, manifest, control in models]
    return lambda only=(): plan.make(loaded, files()[1], suite_data(), subjects, only=only)


def addresses(trials: tuple[Trial | LeftOut, ...]) -> Counter[str]:
    return Counter(json.dumps([t.role, t.control, t.attack, t.config, t.seed_index], sort_keys=True) for t in trials)


ONLY = [("none",), ("relearn",), ("relearn (forget, full)",), ("none", "relearn (retain, lora)"), ("none", "relearn")]


@pytest.mark.parametrize("only", ONLY)
def test_what_is_made_and_what_is_left_out_are_the_whole_plan(whole, only: tuple[str, ...]) -> None:
    """Shams, what the original's and the controls' are asked, and the declared precision among it."""
    everything, made = whole(), whole(only)
    assert everything.left_out == ()
    assert {t.role for t in everything.trials} == {*Role} - {Role.THROUGH_ORIGINAL}
    assert {t.control for t in everything.trials} == {"", "never"}
    assert addresses(made.trials) + addresses(made.left_out) == addresses(everything.trials)
    assert not addresses(made.trials) & addresses(made.left_out)
    assert bool(made.left_out) == (only != ("none", "relearn"))


def test_nothing_else_that_is_given_makes_a_plan_narrower() -> None:
    """When this fails: whatever is new here must leave in `left_out` what it leaves out, and a test above."""
    known = ["policy", "suite", "suite_data", "subjects", "only", "executor"]
    assert list(inspect.signature(plan.make).parameters) == known


@pytest.mark.parametrize("only", ONLY[:4])
def test_it_is_in_the_ledger_and_blocks_a_pass_when_that_is_judged(only: tuple[str, ...], tmp_path: Path) -> None:
    told = evidence.made(only=only)
    book = evidence.ledger_of(told, tmp_path / "ledger.jsonl")
    found = book.evidence(told.checkpoint, book.planned(book.latest_plan()))
    assert found.left_out == told.left_out != ()
    verdict = judge(files()[0].record, found, AT)
    assert verdict == told.verdict
    blockers = {sentence(blocker) for blocker in verdict.blockers if blocker.code == "left_out"}
    assert blockers == {left_out(each) for each in told.left_out}


def test_the_last_run_decides_what_was_left_out(tmp_path: Path) -> None:
    told = evidence.made()
    book = evidence.ledger_of(told, tmp_path / "ledger.jsonl")
    gap = LeftOut(role=Role.CANDIDATE, attack="noise", config={}, seed_index=0, why="only")
    before = book.latest_plan()
    with ledger.writing(book.path) as opened:
        opened.append(before.model_copy(update={"left_out": (gap,)}))
    trials = book.planned(before)
    assert judge(files()[0].record, ledger.read(book.path).evidence(told.checkpoint, trials), AT).outcome != "PASS"
    with ledger.writing(book.path) as opened:
        opened.append(before)
    assert judge(files()[0].record, ledger.read(book.path).evidence(told.checkpoint, trials), AT).outcome == "PASS"


def test_a_waiver_lifts_what_is_required_and_was_left_out_and_nothing_else() -> None:
    """As when a required attack was not run for another reason."""
    policy = files()[0].record
    policy = policy.model_copy(update={"validity": policy.validity.model_copy(update={"sham": "off"})})
    required = next(each for each in policy.required if each.where.get("source") == "retain")
    told = record.evidence_in(evidence.made())
    lost = next(trial for trial in told.planned if required.selects(trial))
    gap = LeftOut(role=Role.CANDIDATE, attack=lost.attack, config=lost.config, seed_index=0, why="only")
    told = dataclasses.replace(
        told,
        planned=tuple(trial for trial in told.planned if trial is not lost),
        measurements=tuple(measurement for measurement in told.measurements if measurement.trial != lost.id),
        closed=tuple(end for end in told.closed if end.trial != lost.id),
        left_out=(gap,),
    )
    waiver = Waiver(
        id="w", reason="the machine is too small", owner="a", approved_by=("b",), issued=AT.date(), expires=AT.date(),
        checkpoint=told.subject, requirement=Selector(attack=required.attack, where=required.where),
    )  # fmt: skip
    waived = policy.model_copy(update={"waivers": (waiver,)})
    verdict = judge(waived, told, AT)
    assert [(block.code, block.about) for block in verdict.blockers] == [("left_out", str(required))]
    assert decide(waived, verdict, told.subject, AT).releases
    other = gap.model_copy(update={"attack": "noise", "config": {}})
    verdict = judge(waived, dataclasses.replace(told, left_out=(gap, other)), AT)
    assert not decide(waived, verdict, told.subject, AT).releases


def test_a_sham_that_was_left_out_is_neither_sound_nor_missing() -> None:
    """Nothing was seen of it, and what left it out stands in the way of a PASS in words of its own."""
    told = evidence.made("PASS", only=("none",))
    (sham,) = [each for each in instruments(told) if each.name.startswith("sham of")]
    assert (sham.state, sham.text) == ("off", "the plan left it out")
    assert "sham_missing" not in {blocker.code for blocker in told.verdict.blockers}
    assert ("sham", "relearn") in {(b["role"], b["attack"]) for b in told.verdict.blockers if b.code == "left_out"}


def test_a_fail_stays_a_fail_whatever_was_left_out() -> None:
    told = record.evidence_in(evidence.made("FAIL"))
    gap = LeftOut(role=Role.CANDIDATE, attack="noise", config={}, seed_index=0, why="only")
    assert judge(files()[0].record, dataclasses.replace(told, left_out=(gap,)), AT).outcome == "FAIL"


def test_a_file_of_self_tests_with_counts_that_cannot_be_is_refused_where_it_is_read(tmp_path: Path) -> None:
    test = evidence.WORKS.model_dump(mode="json") | {"after": 0}
    path = tmp_path / "self-test.json"
    path.write_bytes(encode({"schema": "robustness-gate/self-test/v1", "tests": [test]}))
    with pytest.raises(FileError) as caught:
        load_record(path, SelfTests)
    assert "from 82 to 0 of 400" in str(caught.value)
