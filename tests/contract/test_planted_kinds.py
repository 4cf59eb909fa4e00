"""A bug that a Llama does not show, planted: the self-test on a rewritten class finds it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from test_planted_bugs import EXECUTE, in_this_process, suite_data

from robustness_gate.assurance import self_test
from robustness_gate.engine import matrices
from robustness_gate.planning import bench
from robustness_gate.running.executors import local


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True], ids=["as it is", "only linear modules"])
def test_an_attack_that_misses_the_experts_of_a_mixture_fails_there(
    monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """Its scope finds matrices in attention alone. Rounding these happens to be enough on this organism, so the gain
    does not show it: the strength floor does.
    """
    assert local.execute is EXECUTE
    monkeypatch.setattr(local, "execute", in_this_process)
    monkeypatch.setattr(self_test, "data", suite_data)
    if broken:
        monkeypatch.setattr(
            matrices,
            "plain",
            lambda model: {
                name: each for name, each in matrices.of_blocks(model).items() if matrices.is_linear(each.module)
            },
        )
    tried = bench.by_name(["quantize"], "mixtral", quick=True)
    (told,) = self_test.run(tried, datetime.now(UTC), model_type="mixtral")
    codes = {each.code for each in told.faults}
    assert told.model_type == "mixtral"
    assert ("weak_attack" in codes) == broken, codes
    assert not {"small_gain", "gap_left_open"} & codes
