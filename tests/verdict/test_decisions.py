"""R19 of docs/requirements.md: waivers and accepted risks change the decision, never the verdict."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from cases import (
    AT,
    MANY,
    SUBJECT,
    _quick_bounds,  # noqa: F401 - a fixture that makes ids quick
    but,
    trial_of,
    with_,
    without,
)
from hypothesis import given
from hypothesis import strategies as st
from scenes import ABSOLUTE, EXCESS, compared, rewritten, scene, scenes, shams_of
from test_red_flags import RAISED

from robustness_gate.records.codes import Flag
from robustness_gate.records.evidence import Evidence, EvidenceIssue
from robustness_gate.records.policy import AcceptedRisk, Policy, Selector, Waiver
from robustness_gate.records.trial import Role
from robustness_gate.verdict import Decision, decide, judge

FLAGS: tuple[Flag, ...] = (
    "choices_only", "identical_answers", "less_at_more", "letter_collapse", "still_rising", "vacuous",
    "weaker_beats_stronger",
)  # fmt: skip
SIGNED: dict[str, Any] = {
    "reason": "It was looked at, and is known.",
    "owner": "Ada",
    "approved_by": ("Bob",),
    "issued": date(2026, 11, 1),
    "expires": date(2026, 12, 1),
    "checkpoint": SUBJECT,
}
CHANGED = EvidenceIssue(code="checkpoint_changed", args={"sha256": "c" * 64})
RELEARN = Selector(attack="relearn", where={"source": "forget"})


def waiver_of(id_: str = "w", **changes: Any) -> Waiver:
    target = {} if "flag" in changes else {"requirement": RELEARN}
    return Waiver(**({"id": id_} | SIGNED | target | changes))


def all_waivers(policy: Policy, **changes: Any) -> tuple[Waiver, ...]:
    """One for each requirement and each flag."""
    asked = [Selector(attack=r.attack, where=r.where) for r in policy.required]
    found = [waiver_of(f"r{i}", requirement=each, **changes) for i, each in enumerate(asked)]
    return (*found, *(waiver_of(f"f-{flag}", flag=flag, **changes) for flag in FLAGS))


def decided(policy: Policy, evidence: Evidence, at: datetime = AT) -> Decision:
    return decide(policy, judge(policy, evidence, at), evidence.subject, at)


RISK = AcceptedRisk(id="risk", **SIGNED)


@given(scenes(), st.booleans())
@MANY
def test_waivers_and_accepted_risks_never_change_the_verdict_or_a_number(
    case: tuple[Policy, Evidence], risk: bool
) -> None:
    policy, evidence = case
    waived = with_(policy, waivers=all_waivers(policy), accepted_risks=(RISK,) if risk else ())
    found, bare = judge(waived, evidence, AT), judge(policy, evidence, AT)
    assert found == bare
    made = decide(waived, found, SUBJECT, AT)
    if found.outcome == "FAIL":
        assert made.outcome == ("ACCEPTED_RISK" if risk else "BLOCK")
    elif found.outcome == "PASS":
        assert made.outcome == "RELEASE"
        assert not made.applied
    else:
        lifted = all(block.about for block in found.blockers)
        assert made.outcome == ("RELEASE_WITH_WAIVER" if lifted else "BLOCK")
    told = {each.partition(":")[0] for each in (*made.applied, *made.inert)}
    assert told == {each.id for each in (*waived.waivers, *waived.accepted_risks)}
    assert decide(policy, bare, SUBJECT, AT).outcome in ("RELEASE", "BLOCK")


@given(scenes(), st.sampled_from(["checkpoint", "issued", "expired"]))
@MANY
def test_a_waiver_out_of_its_time_or_for_another_checkpoint_is_inert_and_is_reported(
    case: tuple[Policy, Evidence], how: str
) -> None:
    policy, evidence = case
    changes: dict[str, Any] = {
        "checkpoint": {"checkpoint": "9" * 64},
        "issued": {"issued": AT.date() + timedelta(days=1), "expires": AT.date() + timedelta(days=2)},
        "expired": {"issued": AT.date() - timedelta(days=9), "expires": AT.date() - timedelta(days=1)},
    }[how]
    waivers = all_waivers(policy, **changes)
    waived = with_(policy, waivers=waivers, accepted_risks=(AcceptedRisk(id="risk", **(SIGNED | changes)),))
    made = decided(waived, evidence)
    assert made.outcome == decided(policy, evidence).outcome
    assert not made.applied
    assert len(made.inert) == len(waivers) + 1


def lacking() -> tuple[Policy, Evidence]:
    """All is well but one required attack, which was not run."""
    policy = compared(limits=(ABSOLUTE,))
    return with_(policy, waivers=(waiver_of(),)), without(scene(policy), trial_of("relearn"))


@pytest.mark.parametrize(
    ("moment", "outcome"),
    [
        ("2026-10-31T23:59:59+00:00", "BLOCK"),
        ("2026-11-01T00:00:00+00:00", "RELEASE_WITH_WAIVER"),
        ("2026-12-01T23:59:59+00:00", "RELEASE_WITH_WAIVER"),
        ("2026-12-02T00:00:00+00:00", "BLOCK"),
        ("2026-12-02T00:59:59+01:00", "RELEASE_WITH_WAIVER"),
        ("2026-12-01T23:59:59-01:00", "BLOCK"),
        ("2026-11-01T00:30:00+01:00", "BLOCK"),
    ],
)
def test_a_waiver_begins_and_ends_at_midnight_utc(moment: str, outcome: str) -> None:
    policy, evidence = lacking()
    assert decided(policy, evidence, datetime.fromisoformat(moment)).outcome == outcome


@given(st.integers(-100_000, 100_000), st.integers(-14 * 60, 14 * 60), st.booleans())
@MANY
def test_no_offset_of_a_clock_moves_the_boundary_second(seconds: int, offset: int, end: bool) -> None:
    policy, evidence = lacking()
    edge = datetime(2026, 12, 2, tzinfo=UTC) if end else datetime(2026, 11, 1, tzinfo=UTC)
    moment = (edge + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=offset)))
    holds = seconds < 0 if end else seconds >= 0
    found = FOUND.setdefault("lacking", judge(policy, evidence, AT))
    assert decide(policy, found, SUBJECT, moment).outcome == ("RELEASE_WITH_WAIVER" if holds else "BLOCK")


FOUND: dict[str, Any] = {}


def _scene(**how: int) -> tuple[Policy, Evidence]:
    return compared(), scene(compared(), **how)


def _sham() -> tuple[Policy, Evidence]:
    policy = compared()
    return policy, rewritten(scene(policy), shams_of(policy)[0], "hazard", 16)


def _no_positive_control() -> tuple[Policy, Evidence]:
    policy = compared()
    return policy, but(
        scene(policy), comparators=tuple(t for t in scene(policy).comparators if t.role != Role.ORIGINAL)
    )


BEYOND = {
    "breach": lambda: _scene(correct=58),
    "open": lambda: _scene(correct=28),
    "inverted": lambda: _scene(correct=0),
    "sham": _sham,
    "positive_control": _no_positive_control,
    "positive control within the limits": lambda: _scene(original=30),
    "utility": lambda: (compared(), rewritten(scene(compared()), trial_of("none"), "useful", 26)),
    "guardrail": lambda: (compared(guardrails=(with_(compared().guardrails[0], max_drop=0.001),)), scene(compared())),
    "note": lambda: (compared(), but(scene(compared()), notes=(CHANGED,))),
    "expired": lambda: (compared(expires=date(2026, 11, 20)), scene(compared())),
    "idle rule": lambda: (compared(limits=(ABSOLUTE, EXCESS, EXCESS)), scene(compared())),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_a_waiver_cannot_reach(name: str) -> None:
    policy, evidence = BEYOND[name]()
    waived = with_(policy, waivers=all_waivers(policy))
    found = judge(waived, evidence, AT)
    assert found.outcome == ("FAIL" if name == "breach" else "INCONCLUSIVE")
    made = decide(waived, found, SUBJECT, AT)
    assert made.outcome == "BLOCK"
    assert not made.applied


@pytest.mark.parametrize("flag", RAISED)
def test_a_flag_is_lifted_by_the_waiver_that_names_it_and_by_no_other(flag: str) -> None:
    policy, evidence = RAISED[flag]()
    for named in FLAGS:
        made = decided(with_(policy, waivers=(waiver_of(flag=named),)), evidence)
        assert made.outcome == ("RELEASE_WITH_WAIVER" if named == flag else "BLOCK")
        assert bool(made.applied) == (named == flag)


def test_a_waiver_of_one_requirement_does_not_lift_another_nor_one_that_is_narrower() -> None:
    policy, evidence = lacking()
    for other in (
        Selector(attack="prune"),
        Selector(attack="relearn"),
        Selector(attack="relearn", where={"source": "retain"}),
        Selector(attack="relearn", where={"source": "forget", "method": "lora"}),
    ):
        assert decided(with_(policy, waivers=(waiver_of(requirement=other),)), evidence).outcome == "BLOCK"
    assert decided(policy, evidence).outcome == "RELEASE_WITH_WAIVER"


def test_the_order_of_keys_in_a_waiver_changes_nothing() -> None:
    where = {"source": "forget", "method": "lora", "rank": 8}
    told = {str(Selector(attack="relearn", where=dict(order))) for order in itertools.permutations(where.items())}
    assert len(told) == 1


def test_half_of_the_reasons_waived_is_not_waived_and_is_reported_as_inert() -> None:
    policy, evidence = lacking()
    made = decided(policy, but(evidence, notes=(CHANGED,)))
    assert made.outcome == "BLOCK"
    assert not made.applied
    assert any(each.startswith("w: ") for each in made.inert)
