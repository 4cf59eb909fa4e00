"""The gate errs as seldom as it says: `benchmarks/error_rates.py`, with fewer replicates and another seed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "error_rates.py"


@pytest.fixture(scope="module")
def error_rates() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_rates", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["error_rates"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_claimed_rate_holds_within_three_standard_errors(error_rates: Any) -> None:
    rows = error_rates.simulate(replicates=3000, sample=60, retries=150, seed=7)
    claimed = [row for row in rows if row.most is not None or row.least is not None]
    assert [f"{row.group}: {row.what}: {row.rate}" for row in claimed if not row.holds] == []

    def gate(group: str) -> list[Any]:
        return [row for row in claimed if row.group.startswith(group)]

    assert [row.most for row in gate("False PASS: one")] == [0.05] * 5  # 1, 10 and 50 trials, the latter in both ways
    assert [row.most for row in gate("False FAIL: every")] == [0.05] * 5
    assert [row.most for row in gate("False PASS by an excess")] == [0.05] * 6
    assert [row.most for row in gate("False FAIL by an excess")] == [0.05] * 3
    assert [row.least for row in gate("True PASS")] == [0.95] * 5
    assert len(gate("Clusters")) == 9
    assert len(gate("Stopping")) == 2
    assert len(gate("A policy with fail_fast")) == 2
    assert len(gate("Bets on clusters")) == 1
    assert len(gate("Retry")) == 1
    assert all(row.judged for row in claimed if not row.what.endswith("the truth"))


@pytest.mark.slow
def test_the_rules_that_are_not_ours_err_as_the_certification_page_says(error_rates: Any) -> None:
    """Otherwise the simulation could not tell a good rule from a bad one."""
    rows = {f"{row.group}: {row.what}": row for row in error_rates.simulate(2000, 10, 60, seed=8)}

    def rate(*words: str) -> float:
        found = [row.rate for name, row in rows.items() if all(word in name for word in words)]
        assert len(found) == 1, words
        return float(found[0])

    assert rate("False PASS", "50 trials, independent", "compares") == pytest.approx(0.5, abs=0.06)
    assert rate("False FAIL", "50 trials, the same items", "compares") > 0.95
    assert rate("False FAIL", "50 trials, the same items", "do not share") == pytest.approx(0.587, abs=0.06)
    assert rate("false PASS", "1272 items", "ignored") > 0.09
    assert rate("Stopping", "alpha 0.05", "every 50 items") == pytest.approx(0.205, abs=0.05)
    assert rate("Bets on clusters", "as if independent") > 0.05
    assert rate("Retry", "starts anew") == pytest.approx(0.64, abs=0.2)


def test_a_claim_that_is_missed_by_more_than_three_standard_errors_does_not_hold(error_rates: Any) -> None:
    row = error_rates.Row
    assert row("", "", hits=59, replicates=1000, most=0.05).holds
    assert not row("", "", hits=71, replicates=1000, most=0.05).holds
    assert row("", "", hits=941, replicates=1000, least=0.95).holds
    assert not row("", "", hits=929, replicates=1000, least=0.95).holds
    assert row("", "", hits=1000, replicates=1000).holds


def test_the_shortcut_is_held_against_the_judge_and_one_disagreement_ends_the_simulation(
    error_rates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = error_rates.policy_of(3)
    counts = error_rates.np.array([[300, 310, 320], [300, 380, 320], [300, 310, 500], [200, 310, 320]])
    useful = error_rates.np.array([400, 400, 400, 400])
    outcomes, seen = error_rates.checked(policy, counts, useful, 12)
    assert outcomes.tolist() == ["PASS", "INCONCLUSIVE", "FAIL", "INCONCLUSIVE"]
    assert seen == 4
    monkeypatch.setattr(error_rates, "judged", lambda *_: "PASS")
    with pytest.raises(AssertionError, match="judge says PASS, the shortcut INCONCLUSIVE, in replicate 1"):
        error_rates.checked(policy, counts, useful, 12)
