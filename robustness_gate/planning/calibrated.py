"""What a calibration tries: each required attack on a spike; and which of them it cannot test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.bench import BENCHES, Case, Tried, asked, fitting_budgets
from robustness_gate.records.encode import Json
from robustness_gate.records.mechanisms import Mechanism, mechanism_of
from robustness_gate.records.policy import CalibrationTerms, Policy, same
from robustness_gate.records.suite import Suite
from robustness_gate.verdict import known_truth
from robustness_gate.verdict.hypotheses import Asked, label_of, which

SPIKED = ("forget", "retain", "unrelated", "dev")
"""The data that the invented world of a calibration has."""


def expected(attack: str, config: Mapping[str, Json], model_type: str) -> tuple[Mechanism, ...]:
    """As `verdict.known_truth.expected`; for a plug-in's attack by the cases of the module that is installed."""
    if (ours := known_truth.expected(attack, config, model_type)) is not None:
        return ours
    for bench in (BENCHES.get(model_type), BENCHES["llama"]):
        cases = bench.of(attack) if bench is not None else ()
        if found := known_truth.kinds_of(each for each in cases if same(which(each.config), which(config))):
            return found
    return ()


def spiked(policy: Loaded[Policy], suite: Loaded[Suite], method: str, pool: Mapping[str, int]) -> list[Tried]:
    """What the policy requires, at its own settings, as cases on a spike: nothing is adapted but the budgets.

    Args:
        policy: the requirements.
        suite: the suite whose attacks they select.
        method: the method of the spike.
        pool: the sizes of the invented world's data, which limit the budgets.

    Raises:
        UsageError: as `asked`.
    """
    found: list[Tried] = []
    for _, each in asked(policy, suite):
        config = dict(each.config)
        case = Case(method, attack=each.requirement.attack, config=config)
        if "budgets" in config:
            config["budgets"] = fitting_budgets(case, each, config, pool)
        extended: dict[str, Json] = {}
        if "budgets" in config and not set(config["budgets"]) <= set(each.budgets):
            extended["budgets"] = list(each.budgets)
        tried = Tried(case, config, extended)
        found += [] if tried in found else [tried]
    return found


def uncalibrated(policy: Loaded[Policy], suite: Loaded[Suite] | None, model_type: str) -> Iterator[tuple[int, str]]:
    """Requirements for which no calibration under the policy's terms can count, by their place, with the reason."""
    for index, each in asked(policy, suite):
        if reason := without_calibration(each, policy.record.calibration, model_type):
            yield index, reason


def without_calibration(each: Asked, terms: CalibrationTerms | None, model_type: str) -> str:
    """Why no calibration under these terms can show that what a requirement asks for works; empty where one can."""
    name = label_of(each.requirement.attack, each.config)
    kinds = {mechanism_of(method) for method in terms.needed} if terms is not None else set()
    wanted = expected(each.requirement.attack, each.config, model_type)
    source = each.config.get("source")
    if wanted and not kinds & set(wanted):
        return f"'{name}' is expected to recover on {' and '.join(wanted)}, and no method of 'calibration' is"
    if isinstance(source, str) and source not in SPIKED:
        return f"'{name}' trains on '{source}', and the invented world of a calibration has no such data"
    return ""
