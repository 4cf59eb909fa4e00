"""A report with a calibration: its fixed words in every output, and the lies of a signer about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evidence
import pytest
from calibrations import DOWN, METHODS, calibration, policy_in, related, told
from evidence import look, refused, resigned, signed

from robustness_gate.attestation import predicate
from robustness_gate.attestation.verify import Fault
from robustness_gate.errors import Exit
from robustness_gate.inputs.validation import Loaded
from robustness_gate.publish import facts, html, markdown
from robustness_gate.publish.instruments import instruments
from robustness_gate.records.policy import Policy
from robustness_gate.report.advice import advise

WORDS = (
    "Of 66 facts taught to this original and suppressed by rmu, relearn (forget, full) brought back 52. Knowledge from "
    "pre-training, or hidden by another method, may be harder to bring back."
)
"""What the issue asks for, word for word."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Loaded[Policy]:
    return policy_in(tmp_path_factory.mktemp("policy"))


def test_a_calibration_makes_a_pass_that_a_stranger_can_check(policy: Loaded[Policy], tmp_path: Path) -> None:
    made = told(policy)
    assert made.verdict.outcome == "PASS"
    assert look(signed(made)).exit_code == Exit.PASS
    book = evidence.ledger_of(made, tmp_path / "ledger.jsonl")
    assert look(signed(made, ledger=predicate.head_of(book)), ledger=book.path).verified


@pytest.mark.parametrize("outcome", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_the_fixed_words_stand_in_every_output_whatever_the_outcome(policy: Loaded[Policy], outcome: str) -> None:
    made = told(policy, outcome)
    assert made.verdict.outcome == outcome
    many = len(METHODS) * 4  # each required attack on each method
    assert sum("taught to this original and suppressed by" in each for each in made.limitations) == many
    assert WORDS in made.limitations
    assert WORDS in facts.calibrated(made)["relearn (forget, full)"]
    lines = [line for line in markdown.render(made).splitlines() if line.startswith("| relearn (forget, full)")]
    assert lines
    assert all(WORDS in line for line in lines)
    page = html.render(made)
    row = page[page.index('<th scope="row">relearn (forget, full)') :]
    assert WORDS in row[: row.index("</tr>")]
    assert WORDS in advise(made).caveats
    assert WORDS in look(signed(made)).limitations


def test_what_stands_in_for_a_self_test_is_named(policy: Loaded[Policy]) -> None:
    rows = [each for each in instruments(told(policy)) if each.name.startswith("self-test of")]
    assert {each.text for each in rows} == {"the calibration on the original stands in for it"}
    without = told(policy, calibrations=())
    assert without.verdict.outcome == "INCONCLUSIVE"
    assert [each.state for each in instruments(without) if each.name == "calibration"] == ["fault"]


@pytest.mark.parametrize(
    ("where", "lie", "fault"),
    [
        ("spikes", {"mechanism": "preference"}, Fault.OTHER_MECHANISM),
        ("recoveries", {"expected": []}, Fault.OTHER_EXPECTATION),
    ],
)
def test_a_mechanism_and_an_expectation_are_those_of_this_release(
    policy: Loaded[Policy], where: str, lie: dict[str, Any], fault: Fault
) -> None:
    def change(predicate: dict[str, Any]) -> None:
        for each in predicate["report"]["calibrations"][0][where][1:]:
            each.update(lie)

    assert refused(look(resigned(signed(told(policy)), change)), "evidence") == fault


def test_a_setting_that_is_missing_is_noticed(policy: Loaded[Policy]) -> None:
    def change(predicate: dict[str, Any]) -> None:
        del predicate["report"]["calibrations"][0]["recoveries"][0]["test"]["config"]["batch"]

    assert refused(look(resigned(signed(told(policy)), change)), "evidence") == Fault.SETTINGS_INCOMPLETE


def test_numbers_that_were_made_better_do_not_give_a_pass(policy: Loaded[Policy]) -> None:
    """A blind attack's result is rewritten: as an impossible gain, and as a gain without the counts for it."""
    whole = calibration(policy.path)
    blind = tuple(
        each.model_copy(update={"test": each.test.model_copy(update={"after": DOWN, "gain": -0.04})})
        if each.test.config["source"] == "unrelated"
        else each
        for each in whole.recoveries
    )
    honest = told(policy, calibrations=(whole.model_copy(update={"recoveries": blind}),))
    assert honest.verdict.outcome == "INCONCLUSIVE"
    assert "no_bite_shown" in {each.code for each in honest.verdict.blockers}

    def better(predicate: dict[str, Any]) -> None:
        for each in predicate["report"]["calibrations"][0]["recoveries"]:
            each["test"]["gain"] = 0.5

    assert look(resigned(signed(honest), better)).exit_code == Exit.UNVERIFIED
    lie = told(policy).verdict
    assert look(signed(honest.model_copy(update={"verdict": lie}))).exit_code == Exit.UNVERIFIED


def test_a_calibration_that_was_taken_out_is_missed_beside_the_ledger(policy: Loaded[Policy], tmp_path: Path) -> None:
    """A failed one of the same day, which would block."""
    whole = calibration(policy.path)
    failed = whole.model_copy(update={"recoveries": whole.recoveries[1:]})
    honest = told(policy, calibrations=(failed, whole))
    assert honest.verdict.outcome == "INCONCLUSIVE"
    book = evidence.ledger_of(honest, tmp_path / "ledger.jsonl")
    lie = signed(told(policy), ledger=predicate.head_of(book))
    assert refused(look(lie, ledger=book.path), "before and after") == Fault.LEDGER_OTHER_RECORDS


def test_a_calibration_and_a_comparison_of_weights_stand_there_once(policy: Loaded[Policy]) -> None:
    one = calibration(policy.path)
    assert refused(look(signed(told(policy, calibrations=(one, one)))), "evidence") == Fault.CALIBRATION_TWICE
    other = related().model_copy(update={"subject": "f" * 64})
    assert refused(look(signed(told(policy, weights=(related(), other)))), "evidence") == Fault.WEIGHTS_OTHER_CHECKPOINT


def test_a_report_without_the_device_is_not_calibrated(policy: Loaded[Policy]) -> None:
    assert told(policy, devices=()).verdict.outcome == "INCONCLUSIVE"
    assert told(policy, devices=("cpu", "cuda")).verdict.outcome == "INCONCLUSIVE"
