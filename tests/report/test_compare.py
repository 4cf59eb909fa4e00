"""`compare`: the same questions are paired, different ones are not, and what only one tried is named."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import HEALTHY, measurement_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.policy_language import load_policy
from robustness_gate.publish import comparison
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.report import build as report_build
from robustness_gate.report import compare as comparing
from robustness_gate.report.compare import Comparison, Line, compare
from robustness_gate.report.record import Report
from robustness_gate.statistics import tango_lower, tango_upper
from robustness_gate.verdict import label, pack

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
LORA = "relearn (forget, lora)"

Answers = Callable[[Trial, int, int], list[bool]]
"""Of a trial, a mark and a number of items: which are right on the hazard task."""


def first(share: float) -> Answers:
    """So large a share right, the first ones."""
    return lambda _trial, _mark, items: [i < round(share * items) for i in range(items)]


AT_CHANCE = first(0.27)


def after(name: str, share: float, budget: int) -> Answers:
    """27 % everywhere, but so much after this attack at this budget."""
    return lambda trial, at, items: first(share if (label(trial), at) == (name, budget) else 0.27)(trial, at, items)


@pytest.fixture(scope="module")
def made(policy_file: Path, suite_file: Path, suite_data: SuiteData) -> Callable[..., Report]:
    policy, suite = load_policy(policy_file), load_suite(suite_file)

    def make(
        hazard: Answers = AT_CHANCE,
        weights: str = "a",
        missing: int = 0,
        only: tuple[str, ...] = (),
        ends: Callable[[Trial], str] = lambda _trial: "ok",
        trials: dict[str, Any] | None = None,
        effect: float = 1.0,
        twice: bool = False,
    ) -> Report:
        pins = {name: pin.model_copy(update={"design_effect": effect}) for name, pin in policy.record.tasks.items()}
        loaded = dataclasses.replace(policy, record=policy.record.model_copy(update={"tasks": pins}))
        manifest = Manifest(files=(FileEntry(path="model.safetensors", size=1, sha256=weights * 64),))
        planned = plan.make(
            policy, suite, suite_data, [plan.Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest)], only=only
        )
        own = tuple(t.model_copy(update=trials or {}) for t in plan.of_candidate(planned))

        def told(trial: Trial, at: int, task: Any, attempt: int) -> Measurement:
            right = hazard(trial, at, task.items) if task.name == "forget" else first(0.97)(trial, at, task.items)
            if attempt > 1:
                right = [False] * task.items
            gone = [i >= task.items - missing for i in range(task.items)]
            return measurement_of(
                trial, at, task, right, other=right[::-1], attempt=attempt, missing=pack(gone), signals=HEALTHY
            )

        measurements = tuple(
            told(trial, at, task, attempt)
            for trial in own
            if ends(trial) == "ok"
            for at in trial.budgets
            for task in trial.tasks
            for attempt in ((2, 1) if twice else (1,))
        )
        closed = tuple(
            Closed(trial=t.id, attempt=1, status=ends(t), reason="" if ends(t) == "ok" else "it broke")  # type: ignore[arg-type]
            for t in own
        )
        return report_build.make(loaded, suite, manifest, Evidence(manifest.digest, own, measurements, closed), AT)

    return make


def line_of(found: Comparison, attack: str, budget: int, task: str = "forget", metric: str = "acc_permuted") -> Line:
    lines = [x for x in found.lines if (x.attack, x.budget, x.task, x.metric) == (attack, budget, task, metric)]
    assert len(lines) == 1
    return lines[0]


def test_a_report_beside_itself_differs_in_nothing(made: Any) -> None:
    one = made()
    found = compare(one, one)
    assert found.sentence.startswith("A and B are the same checkpoint; A is ")
    assert "do not differ beyond chance" in found.sentence
    assert found.only_a == found.only_b == ()
    assert found.lines
    for line in found.lines:
        assert line.difference == 0
        assert line.lower == -line.upper < 0
        assert not line.beyond_chance
        assert not line.unlike


def test_a_recovery_that_is_gone_is_found_paired_and_stated_in_one_sentence(made: Any) -> None:
    found = compare(made(after(LORA, 0.6, 50)), made(weights="b"))
    line = line_of(found, LORA, 50)
    items = 400
    assert (line.a, line.b, line.difference) == (0.6, 0.27, pytest.approx(-0.33))
    assert line.lower == tango_lower(0, 132, items, 0.025)  # the first 27 % are right in both
    assert line.upper == tango_upper(0, 132, items, 0.025)
    assert line.beyond_chance
    assert line.decides
    assert not line_of(found, LORA, 50, metric="acc").decides
    assert not line_of(found, LORA, 5).beyond_chance
    assert "B recovers more in 0 and less in 1 beyond chance" in found.sentence
    assert f"most after {LORA} at budget 50: 60.0% in A, 27.0% in B on 'forget'." in found.sentence
    back = compare(made(weights="b"), made(after(LORA, 0.6, 50)))
    assert line_of(back, LORA, 50).difference == pytest.approx(0.33)
    assert (line_of(back, LORA, 50).lower, line_of(back, LORA, 50).upper) == (-line.upper, -line.lower)
    assert "more in 1 and less in 0" in back.sentence


def test_a_difference_within_chance_for_so_many_comparisons_is_not_called_one(made: Any) -> None:
    """Twelve answers of one kind only: beyond chance at 95 % by itself, not among all lines."""
    found = compare(made(after(LORA, 0.27 + 7 / 400, 50)), made(weights="b"))
    line = line_of(found, LORA, 50)
    assert line.upper < 0
    assert not line.beyond_chance
    assert any("is corrected for all" in each for each in found.caveats)


def test_the_pinned_design_effect_and_missing_items_widen_the_interval(made: Any) -> None:
    one = after(LORA, 0.6, 50)
    plain = line_of(compare(made(one), made(weights="b")), LORA, 50)
    clustered = compare(made(one, effect=2.0), made(weights="b", effect=1.3))
    wide = line_of(clustered, LORA, 50)
    assert wide.lower < plain.lower < plain.upper < wide.upper
    assert wide.upper == tango_upper(0, 66, 200, 0.025)
    assert any("larger pinned design effect" in each and "'forget' by 2" in each for each in clustered.caveats)
    holes = line_of(compare(made(one, missing=4), made(weights="b", missing=4)), LORA, 50)
    assert holes.lower < plain.lower < plain.upper < holes.upper


def test_other_questions_are_not_paired_and_that_is_stated(made: Any) -> None:
    one, other = made(), made(weights="b")
    tasks = tuple(t.model_copy(update={"sha256": "9" * 64}) for t in other.trials[0].trial.tasks)
    found = compare(one, made(weights="b", trials={"tasks": tasks}))
    assert found.lines
    for line in found.lines:
        assert line.lower is None
        assert line.upper is None
        assert not line.beyond_chance
        assert line.unlike == ("questions",)
    assert "no hazard questions in common" in found.sentence
    assert any("no bound is given" in each for each in found.caveats)


def test_other_settings_are_named(made: Any) -> None:
    found = compare(made(), made(weights="b", trials={"dtype": "float16", "attack_version": 99}))
    assert {line.unlike for line in found.lines} == {("attack_version", "dtype")}
    assert all(line.lower is not None for line in found.lines)
    assert any("other settings" in each for each in found.caveats)


def test_what_only_one_tried_is_named_with_what_the_other_has_of_it(made: Any) -> None:
    found = compare(made(), made(weights="b", only=("none",)))
    assert {each.why for each in found.only_a} == {"not planned"}
    assert ("none", 0) not in {(each.attack, each.seed_index) for each in found.only_a}
    assert next(each for each in found.only_a if each.attack == LORA).budgets == (5, 50)
    assert found.only_b == ()
    broken = compare(made(), made(weights="b", ends=lambda t: "failure" if label(t) == LORA else "ok"))
    assert {(each.attack, each.why) for each in broken.only_a} == {(LORA, "failure: it broke")}
    nothing = compare(made(ends=lambda _: "failure"), made(weights="b", ends=lambda _: "failure"))
    assert nothing.lines == nothing.only_a == nothing.only_b == ()
    assert "no hazard questions in common" in nothing.sentence


def test_of_two_attempts_the_one_that_ended_well_counts(made: Any) -> None:
    assert compare(made(twice=True), made()).lines == compare(made(), made()).lines


def test_other_rules_and_another_environment_are_caveats(made: Any) -> None:
    one, other = made(), made(weights="b")
    changed = other.model_copy(
        update={
            "policy": other.policy.model_copy(update={"sha256": "8" * 64}),
            "suite": other.suite.model_copy(update={"sha256": "8" * 64}),
            "environment": {**other.environment, "torch": "0.1"},
        }
    )
    caveats = " ".join(compare(one, changed).caveats)
    assert "different policies" in caveats
    assert "suites differ" in caveats
    assert "environments differ: torch." in caveats
    assert "differ:" not in " ".join(compare(one, other).caveats)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=50, deadline=None)
def test_swapping_the_reports_swaps_the_sides_and_mirrors_every_difference(
    made: Any, one: int, other: int, shift: int
) -> None:
    a = made(lambda _t, _m, items: [i < one for i in range(items)])
    b = made(lambda _t, _m, items: [(i + shift) % items < other for i in range(items)], weights="b")
    there, back = compare(a, b), compare(b, a)
    assert (there.a, there.b) == (back.b, back.a)
    for line, mirrored in zip(there.lines, back.lines, strict=True):
        assert line.difference == pytest.approx(-mirrored.difference)
        assert (line.lower, line.upper) == (-mirrored.upper, -mirrored.lower)
        assert line.lower <= line.difference <= line.upper
        assert line.beyond_chance == mirrored.beyond_chance


def test_it_is_shown_in_plain_lines_and_nothing_in_it_is_markup(made: Any) -> None:
    found = compare(made(after(LORA, 0.6, 50)), made(weights="b", only=("none", "relearn")))
    out = io.StringIO()
    comparison.show(found, Console(file=out, width=160, highlight=False))
    text = out.getvalue()
    lines = text.splitlines()
    assert lines[0] == found.sentence
    row = next(line for line in lines if line.startswith(LORA) and " 50 " in line and "acc_permuted" in line)
    shown = line_of(found, LORA, 50)
    interval = f"{100 * shown.lower:+.1f} to {100 * shown.upper:+.1f}"
    assert row.split()[-8:] == ["acc_permuted", "60.0", "27.0", "-33.0", *interval.split(), "less"]
    assert not [line for line in lines if line != line.rstrip()]
    assert "note: Each interval is at 95 % by itself" in text
    other = made(weights="b", only=("none",))
    comparison.show(compare(made(), other), Console(file=out, width=160, highlight=False))
    assert f"only in A: {LORA} at 5, 50 (not planned in the other)" in out.getvalue()
    empty = io.StringIO()
    comparison.show(dataclasses.replace(found, lines=()), Console(file=empty, width=160))
    assert "no attack was examined in both" in empty.getvalue()


def test_it_is_plain_data(made: Any) -> None:
    found = compare(made(), made(weights="b"))
    assert json.loads(json.dumps(dataclasses.asdict(found)))["sentence"] == found.sentence
    assert comparing.ALPHA == 0.05
