"""Records of self-tests and calibrations that were made easier than this release makes them count for nothing."""

from __future__ import annotations

from typing import Any

import calibrations
import pytest
from calibrations import DOWN, policy_in

from robustness_gate import attacks
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import bench
from robustness_gate.records.calibration import Calibration, Recovery, mechanism_of
from robustness_gate.records.cases import cases_of, words_of
from robustness_gate.records.policy import Policy
from robustness_gate.verdict import known_truth
from robustness_gate.verdict.hypotheses import which


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Loaded[Policy]:
    return policy_in(tmp_path_factory.mktemp("policy"))


def judged(policy: Loaded[Policy], made: Calibration) -> tuple[str, set[str], set[str]]:
    """The outcome, and the codes of blockers and of their causes, with this calibration alone."""
    verdict = calibrations.told(policy, calibrations=(made,)).verdict
    causes = {cause.code for each in verdict.blockers for cause in each.causes}
    return verdict.outcome, {each.code for each in verdict.blockers}, causes


# --- what an attack's own file says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", attacks.names())
def test_the_judge_reads_the_cases_that_the_attack_declares(name: str) -> None:
    module = attacks.load(name)
    assert cases_of(name) == module.SELF_TEST
    assert words_of(name) == which(attacks.as_json(module.Config()))


def test_each_case_of_each_class_is_found_by_its_settings() -> None:
    for kind, each in bench.BENCHES.items():
        for case in each.every:
            (found, *_) = known_truth._cases(case.attack, case.config, kind)
            assert (found.organism, found.share) == (case.organism, case.share)


# --- calibrations -----------------------------------------------------------------------------------------------------


def blind(made: Calibration, **changes: Any) -> Calibration:
    """The calibration with the first attack blind on the kind of suppression on which it should recover."""
    first = made.recoveries[0].test.attack, made.recoveries[0].test.config
    after = {"after": DOWN + 4, "gain": calibrations.gain(DOWN, DOWN + 4)}

    def changed(each: Recovery) -> Recovery:
        own = (each.test.attack, each.test.config) == first and mechanism_of(each.method) in each.expected
        test = each.test.model_copy(update=after) if own else each.test
        return each.model_copy(update={"test": test, **changes})

    return made.model_copy(update={"recoveries": tuple(map(changed, made.recoveries))})


@pytest.mark.parametrize("changes", [{}, {"expected": ()}, {"expected": ("preference",)}])
def test_a_blind_attack_is_found_whatever_its_record_says_of_what_is_expected(
    policy: Loaded[Policy], changes: dict[str, Any]
) -> None:
    made = calibrations.calibration(policy.path)
    assert judged(policy, made) == ("PASS", set(), set())
    outcome, codes, _ = judged(policy, blind(made, **changes))
    assert (outcome, codes) == ("INCONCLUSIVE", {"expected_bite_missing", "self_test_does_not_count"})
