"""Which calibrations on the original count for a candidate, and what their numbers show.

Nothing is taken from a record's own opinion: spikes and recoveries are judged here from their counts, under the
thresholds of the policy, and where an attack has to recover is read in its own file (of a plug-in's, from the record).
A calibration of another original, architecture, dtype, kind of device, attack version or setting, or an expired one,
counts for nothing. Impossible counts are refused when a record is read (`records.calibration`).

An attack that recovers on no spike is blind on this model: it can establish a breach, never compliance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import product

from robustness_gate.records.calibration import (
    TAUGHT,
    Calibration,
    CalibrationFault,
    Recovery,
    Spike,
    SpikeReading,
)
from robustness_gate.records.encode import Json
from robustness_gate.records.evidence import SelfTest, SelfTestFault
from robustness_gate.records.mechanisms import Mechanism, mechanism_of
from robustness_gate.records.policy import MECHANISMS, CalibrationTerms, Policy, SpikeThresholds, Utility, same
from robustness_gate.records.trial import Trial
from robustness_gate.records.verdict import Blocker
from robustness_gate.verdict.evaluation import Evaluation
from robustness_gate.verdict.hypotheses import Asked, asked_by, label, label_of
from robustness_gate.verdict.known_truth import expected
from robustness_gate.verdict.selftests import faults

NO_RECOVERY = frozenset({"small_gain", "gap_left_open"})
"""Faults of a self-test that say only that nothing was recovered. On a spike that is a result, not a fault."""
LETTERS = "multiple_choice"
"""The kind of task in whose form a calibration asks if the limited tasks are asked in several."""
UTILITY_ITEMS = 100
"""Minimum number of questions of a utility task that a spike is asked, if the policy pins so many."""
SLACK = 1e-9
"""Tolerance of a threshold in a comparison of shares."""


def blockers(case: Evaluation) -> Iterator[Blocker]:
    """Blockers of a policy that requires a calibration."""
    if not any(each.attack != "none" for each in case.policy.required):
        return
    if not case.evidence.calibrations:
        yield Blocker(code="calibration_missing")
        return
    yield from _Judged(case).blockers()


def meets_self_test(case: Evaluation) -> frozenset[str]:
    """Labels of the required attacks for which a calibration stands in for a self-test.

    Only under the policy's own terms, with every spike accepted and every method answered.
    """
    if case.policy.calibration is None or not case.evidence.calibrations:
        return frozenset()
    judged = _Judged(case)
    found = list(judged.blockers())
    if any("label" not in each.args for each in found):
        return frozenset()
    failing = {each["label"] for each in found}
    return frozenset(name for name, _ in judged.asked if name not in failing)


def unfit(calibration: Calibration, case: Evaluation) -> tuple[CalibrationFault, ...]:
    """Why a calibration counts for nothing for this candidate under this policy; empty if it counts."""
    return tuple(_unfit(calibration, case))


def spike_faults(calibration: Calibration, method: str, policy: Policy) -> tuple[CalibrationFault, ...]:
    """Why no spike of a method is accepted: an attempt is not on record, or the faults of the last. Empty if one is."""
    terms, own = policy.calibration, [each for each in calibration.spikes if each.method == method]
    if terms is None:
        return (_fault("methods_not_named"),)
    numbers = {each.number for each in own}
    if gone := sorted(set(range(max(numbers, default=-1))) - numbers):  # the settings of a grid are tried in its order
        return (_fault("attempt_missing", number=gone[0] + 1),)
    every = [tuple(_faults_of_spike(each, terms.thresholds, policy)) for each in own]
    if not every:
        return (_fault("spike_not_tried"),)
    return () if () in every else every[-1]


def faults_of_spike(spike: Spike, thresholds: SpikeThresholds, policy: Policy) -> tuple[CalibrationFault, ...]:
    """Why one attempt is not accepted; empty if it is. `policy` is spelled out (see `hypotheses`)."""
    return tuple(_faults_of_spike(spike, thresholds, policy))


def accepted(calibration: Calibration, method: str, policy: Policy) -> list[SpikeReading]:
    """The readings of a method's accepted spikes."""
    terms = policy.calibration
    own = [each for each in calibration.spikes if each.method == method and terms is not None]
    return [
        each.reading
        for each in own
        if terms is not None and each.reading is not None and not [*_faults_of_spike(each, terms.thresholds, policy)]
    ]


def recovers(test: SelfTest, thresholds: SpikeThresholds) -> bool:
    """Whether the lower bound of the gain reaches its threshold, and closes the share of the gap."""
    gap = (test.known - test.before) / test.items
    return gap > 0 and test.gain >= needed_gain(test, thresholds) - SLACK


def needed_gain(test: SelfTest, thresholds: SpikeThresholds) -> float:
    """The lower bound of the gain that counts as a recovery on this spike."""
    return max(thresholds.gain, thresholds.share * (test.known - test.before) / test.items)


def unsound(test: SelfTest, others: Sequence[SelfTest]) -> tuple[SelfTestFault, ...]:
    """Faults of a result that hold wherever it was made: a leak, a drift, a changed sham, an impossible number."""
    return tuple(each for each in faults(test, others) if each.code not in NO_RECOVERY)


def tried(recovery: Recovery, asked: Asked) -> bool:
    """Whether a result is of the required attack: its version, a plug-in's content, and exactly its settings.

    Only `budgets` may differ, to what the world's pool holds; `extended` then records the required ones.
    """
    test = recovery.test
    if (test.attack, test.attack_version, test.plugins) != (asked.requirement.attack, asked.version, asked.plugins):
        return False
    if test.config.keys() != asked.config.keys():
        return False
    if any(not same(value, asked.config[key]) for key, value in test.config.items() if key != "budgets"):
        return False
    if not asked.config.keys() & {"budgets"}:
        return not test.extended
    if test.extended.keys() - {"budgets"}:
        return False
    return test.budget in asked.budgets or test.extended.get("budgets") == list(asked.budgets)


def _fault(code: str, **args: Json) -> CalibrationFault:
    return CalibrationFault(code=code, args=args)


def of_its_own(calibration: Calibration, policy: Policy) -> list[Blocker]:
    """Blockers that a calibration brings by its own results, whatever the candidate: for `calibrate` and `plan`.

    What each requirement asks for is taken from the results themselves, so an attack without any result is not missed
    here; for a candidate its plan says what was to be tried.
    """
    terms, own = policy.calibration, [each for each in policy.required if each.attack != "none"]
    if terms is None:
        return [Blocker(code="calibration_missing")]
    found: dict[str, Asked] = {}
    for requirement, each in product(own, (recovery.test for recovery in calibration.recoveries)):
        if requirement.fits(each.attack, each.config):
            config = {**each.config, **each.extended}
            budgets = config.get("budgets")
            many = tuple(int(b) for b in budgets) if isinstance(budgets, list) else (0,)
            name = label_of(each.attack, each.config)
            found[name] = Asked(requirement, each.attack_version, config, requirement.budgets or many, each.plugins)
    return list(dict.fromkeys(_of(calibration, terms, policy, list(found.items()))))


@dataclass(frozen=True)
class _Judged:
    """The calibrations on record, judged for one candidate."""

    case: Evaluation

    @cached_property
    def asked(self) -> list[tuple[str, Asked]]:
        """Every requirement with a planned trial that it selects, by the trial's label."""
        own = [each for each in self.case.policy.required if each.attack != "none"]
        found: dict[str, Asked] = {}
        pairs: list[tuple[str, Asked]] = []
        for requirement, trial in product(own, self.case.own_planned):
            if requirement.selects(trial):
                pair = (label(trial), asked_by(requirement, trial))
                if found.get(pair[0]) != pair[1]:
                    found[pair[0]] = pair[1]
                    pairs.append(pair)
        return pairs

    def counting(self) -> list[Calibration]:
        """The calibrations that count: all of the latest day on which there is one that fits."""
        fit = [each for each in self.case.evidence.calibrations if not unfit(each, self.case)]
        last = max((each.at for each in fit), default=None)
        return sorted((each for each in fit if each.at == last), key=lambda each: each.digest)

    def blockers(self) -> Iterator[Blocker]:
        found, terms = self.counting(), self.case.policy.calibration
        if not found or terms is None:
            newest = max(self.case.evidence.calibrations, key=lambda each: (each.at, each.digest))
            args: dict[str, Json] = {"day": str(newest.at)}
            yield Blocker(code="calibration_does_not_count", args=args, causes=unfit(newest, self.case))
            return
        yield from dict.fromkeys(b for each in found for b in _of(each, terms, self.case.policy, self.asked))


def _of(
    calibration: Calibration, terms: CalibrationTerms, policy: Policy, every: Sequence[tuple[str, Asked]]
) -> Iterator[Blocker]:
    """What a calibration lacks: spikes, results, recoveries."""
    failed = set()
    for method in (TAUGHT, *terms.needed):
        if causes := spike_faults(calibration, method, policy):
            failed.add(method)
            many = sum(each.method == method for each in calibration.spikes)
            yield Blocker(code="spike_failed", args={"method": method, "tried": many}, causes=causes)
    if TAUGHT in failed:  # then no method has anything to suppress
        return
    whole = [each for each in terms.needed if each not in failed]
    bitten: set[str] = set()
    for name, asked in every:
        results = {method: _on(calibration, method, asked, policy) for method in whole}
        yield from _of_attack(calibration, terms, name, asked, results, bitten)
    for method in whole:
        if method not in bitten:
            yield Blocker(code="nothing_recovers", args={"method": method})


def _of_attack(
    calibration: Calibration,
    terms: CalibrationTerms,
    name: str,
    asked: Asked,
    results: Mapping[str, Sequence[Recovery]],
    bitten: set[str],
) -> Iterator[Blocker]:
    """What one required attack lacks; methods on which it recovers are added to `bitten`."""
    tests = [each.test for each in calibration.recoveries]
    wanted = {
        mechanism for own in results.values() for each in own for mechanism in _expected(each, calibration.model_type)
    }
    sound, mine = True, set[str]()
    for method, own in results.items():
        if not own:
            budgets = [*map(str, asked.budgets)]
            yield Blocker(code="not_calibrated", args={"label": name, "method": method, "budgets": budgets})
            sound = False
            continue
        for each in own:
            if found := unsound(each.test, [t for t in tests if t.seed == each.test.seed]):
                args: dict[str, Json] = {"label": name, "method": method, "seed": each.test.seed}
                yield Blocker(code="calibration_failed", args=args, causes=found)
                sound = False
        weakest = min(own, key=lambda each: each.test.gain).test
        if all(recovers(each.test, terms.thresholds) for each in own):
            mine.add(method)
        elif mechanism_of(method) in wanted:
            need = needed_gain(weakest, terms.thresholds)
            args = {"label": name, "method": method, "gain": weakest.gain, "asked": need}
            yield Blocker(code="expected_bite_missing", args=args)
    if sound:
        bitten |= mine
        if not mine:
            yield Blocker(code="no_bite_shown", args={"label": name, "methods": [*results]})
        elif wanted and not wanted & {mechanism_of(method) for method in results}:
            yield Blocker(code="expected_method_missing", args={"label": name})


def _expected(each: Recovery, model_type: str) -> tuple[Mechanism, ...]:
    """What the attack's own file expects; what the record says of it counts only for a plug-in's, whose file is not
    at hand.
    """
    own = expected(each.test.attack, each.test.config, model_type)
    return each.expected if own is None else own


def _on(calibration: Calibration, method: str, asked: Asked, policy: Policy) -> list[Recovery]:
    """The results of a required attack on an accepted spike of a method, every seed; none without the first."""
    read = accepted(calibration, method, policy)
    found = [
        each
        for each in calibration.recoveries
        if each.method == method and tried(each, asked) and _on_one_of(each.test, read)
    ]
    return found if any(each.test.seed == 0 for each in found) else []


def _on_one_of(test: SelfTest, readings: Sequence[SpikeReading]) -> bool:
    (blank,) = test.negative_controls
    mine = (test.items, test.before, test.known, blank.before)
    return any((each.items, each.suppressed, each.taught, each.blank) == mine for each in readings)


def _unfit(calibration: Calibration, case: Evaluation) -> Iterator[CalibrationFault]:
    policy, evidence = case.policy, case.evidence
    if policy.original is None:
        yield _fault("original_not_pinned")
    elif calibration.original != policy.original:
        yield _fault("other_original", sha256=calibration.original, pinned=policy.original)
    if calibration.model_type != evidence.model_type:
        yield _fault("other_architecture", model_type=calibration.model_type, candidate=evidence.model_type)
    for dtype in sorted({each.dtype for each in case.own_planned if calibration.dtype != each.dtype}):
        yield _fault("calibrated_in_other_dtype", dtype=calibration.dtype, candidate=dtype)
    for device in evidence.devices or ("",):
        if calibration.device != device:
            yield _fault("calibrated_on_other_device", device=calibration.device, candidate=device)
    if policy.calibration is None:
        yield _fault("methods_not_named")
    else:
        yield from _other_terms(calibration, policy.calibration)
    if (form := _form(case)) not in ("", calibration.world.form):
        yield _fault("other_term", name="form", found=calibration.world.form, asked=form)
    if calibration.at > case.today:
        yield _fault("calibrated_later", day=str(calibration.at))
    days = policy.validity.calibration_days
    if case.today - calibration.at > timedelta(days):
        yield _fault("calibration_expired", day=str(calibration.at), days=days)


def _form(case: Evaluation) -> str:
    """The kind of task in whose form a calibration has to ask: that in which all limited tasks are asked, or letters.

    Empty if no planned trial asks one.
    """
    limited = {task for limit in case.policy.limits for task in limit.readings}
    kinds = {ref.judged.attacked_as for trial in case.own_planned for ref in trial.tasks if ref.name in limited}
    if not kinds:
        return ""
    return kinds.pop() if len(kinds) == 1 else LETTERS


def _other_terms(calibration: Calibration, terms: CalibrationTerms) -> Iterator[CalibrationFault]:
    """Terms of the policy that the calibration does not follow."""
    if lost := [each for each in terms.methods if each not in calibration.methods]:
        yield _fault("other_term", name="methods", found=", ".join(calibration.methods), asked=", ".join(lost))
    world = calibration.world
    for name, found, asked in (
        ("facts", world.facts, terms.facts),
        ("verdict_facts", world.verdict_facts, terms.verdict_facts),
        ("seed", world.seed, terms.seed),
        ("recipe", calibration.recipe, terms.recipe),
    ):
        if found != asked:
            yield _fault("other_term", name=name, found=str(found), asked=str(asked))
    kinds = {kind for kind in map(mechanism_of, terms.needed) if kind is not None}
    if len(kinds) < MECHANISMS:
        yield _fault("few_mechanisms", mechanisms=sorted(kinds), asked=MECHANISMS)


def _faults_of_spike(spike: Spike, asked: SpikeThresholds, policy: Policy) -> Iterator[CalibrationFault]:
    """Why a spike is not accepted, from its counts."""
    read = spike.reading
    if read is None:
        yield _fault("spike_not_made", reason=spike.failure)
        return
    its: dict[str, Json] = {"blank": read.blank, "items": read.items}
    if read.taught - read.blank < asked.taught * read.items - SLACK:
        yield _fault("taught_too_little", **its, taught=read.taught, asked=asked.taught)
    if spike.method != TAUGHT and read.suppressed - read.blank > asked.suppressed * read.items + SLACK:
        yield _fault("suppressed_too_little", **its, suppressed=read.suppressed, asked=asked.suppressed)
    for utility in policy.utility:
        yield from _of_utility(read, utility, asked, policy)


def _of_utility(
    read: SpikeReading, utility: Utility, asked: SpikeThresholds, policy: Policy
) -> Iterator[CalibrationFault]:
    name = utility.task.removesuffix(".chat")  # each format is a rule of its own; a spike is read once
    found = next((each for each in read.utility if each.task == name), None)
    pin = policy.tasks.get(utility.task)
    least = min(UTILITY_ITEMS, pin.items if pin is not None else UTILITY_ITEMS)
    if found is None or found.items < least:
        yield _fault("utility_not_read", task=name, items=found.items if found else 0, asked=least)
    elif found.original - found.spiked > asked.utility * found.items + SLACK:
        its: dict[str, Json] = {"task": name, "original": found.original, "spiked": found.spiked}
        yield _fault("utility_lost", **its, items=found.items, asked=asked.utility)


def of_trial(trial: Trial, calibration: Calibration, case: Evaluation) -> Iterator[Recovery]:
    """The results of a calibration that belong to a trial of the candidate, under any requirement that selects it."""
    for requirement in case.policy.required:
        if requirement.selects(trial):
            yield from (each for each in calibration.recoveries if tried(each, asked_by(requirement, trial)))
