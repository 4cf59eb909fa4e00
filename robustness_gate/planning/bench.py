"""The self-test cases: which attack is tested on which organism, with which settings, from the attacks' files.

A case is an attack *of one kind*: full relearning from the forgotten domain is one, an adapter trained on unrelated
questions another, and that the first works does not show that the second does. So a policy with a self-test needs a
case for each of its requirements, with the suite's settings: the same kind of attack (`verdict.hypotheses.which`), at
the largest required budget for which the organisms' pools suffice. Numbers for large models are adapted to small ones,
and the record lists them (`SelfTest.extended`).

Where no organism is known on which an attack of that kind works there is no case. A policy that requires it together
with a self-test cannot be passed: `unprovable` reports that before a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from types import MappingProxyType, ModuleType
from typing import NamedTuple

from robustness_gate import attacks, organisms
from robustness_gate.errors import PlanError, UsageError
from robustness_gate.inputs import plugins
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.declarations import SelfTestCase, Settings
from robustness_gate.records.encode import Json
from robustness_gate.records.organisms import ASKED as ASKED
from robustness_gate.records.organisms import NEAR as NEAR
from robustness_gate.records.organisms import TESTED_ON
from robustness_gate.records.organisms import UNTOUCHED as UNTOUCHED
from robustness_gate.records.policy import Policy, Requirement, same
from robustness_gate.records.suite import Suite
from robustness_gate.system.sentences import nearest
from robustness_gate.verdict import Asked
from robustness_gate.verdict.hypotheses import has_words, label_of, which


@dataclass(frozen=True)
class Case(SelfTestCase):
    """A case and the attack that declares it."""

    attack: str = field(kw_only=True)
    config: dict[str, Json] = field(kw_only=True)
    """Its settings where no policy requires others."""


class Tried(NamedTuple):
    """A case with all settings."""

    case: Case
    config: dict[str, Json]
    """All settings."""
    extended: dict[str, Json]
    """The adapted settings, with the required values."""

    @property
    def name(self) -> str:
        """The attack with the settings that distinguish it from its other cases."""
        return label_of(self.case.attack, self.config)


QUICK = ("interpolate", "relearn")
"""The quick attacks, which have a case on every architecture: the first case of each."""
NO_CASE = "no shipped organism is known on which this kind of it recovers anything"
NOT_APPLICABLE = "this kind of it does not apply to a '{}'"
NOT_SHOWN = "not shown to recover anything on {}"
"""For an attack with an organism of another architecture: on none of those here was the 95 % lower bound of its gain 10
points or more, or it was not tried (organisms/README.md says which)."""


@lru_cache(maxsize=256)
def _cases(attack: str, module: ModuleType, model_type: str) -> tuple[Case, ...]:
    """The cases of one architecture; computed once, since reading settings takes milliseconds."""
    return tuple(made(attack, module, each) for each in module.SELF_TEST if each.model_type == model_type)


def made(attack: str, module: ModuleType, declared: SelfTestCase) -> Case:
    """A case from an attack's declaration, with its settings read like a suite's.

    Raises:
        PlanError: there is no such organism, or the attack's Config refuses the settings.
    """
    budgets = {"budgets": list(declared.budgets)} if declared.budgets else {}
    fault = remedy = ""
    config: dict[str, Json] = {}
    try:
        config = attacks.as_json(attacks.configure(module, {**declared.words, **budgets, **declared.sizes}))
    except attacks.BadConfig as error:
        fault, remedy = f"'{error.key}' {error.message}" if error.key else error.message, error.remedy
    shipped = declared.model_type in BENCHES and not BENCHES[declared.model_type].shipped_as
    if declared.organism not in UNTOUCHED or not shipped:
        fault = f"there is no organism '{declared.organism}' of a '{declared.model_type}'"
        remedy = nearest(declared.organism, list(UNTOUCHED))
    if fault:
        words = f"a self-test case of the attack '{attack}' cannot be used: {fault.rstrip('.')}."
        raise PlanError(words, remedy=remedy or "Mend SELF_TEST in its file.", code="unknown-attack")
    return Case(**vars(declared), attack=attack, config=config)


class Bench(NamedTuple):
    """The organisms of one architecture and the cases on them."""

    model_type: str
    base: str
    negative_controls: tuple[str, ...]
    """Never-knew organisms."""
    shipped_as: str = ""
    """The architecture in which its organisms are shipped, where they are rewritten for the test; else empty."""

    def of(self, attack: str) -> tuple[Case, ...]:
        """The cases of an attack: rewritten organisms have the function of the shipped ones, so also their cases, but
        for those that do not apply to the class.

        Raises PlanError for an unknown attack.
        """
        cases = _cases(attack, attacks.load(attack), self.shipped_as or self.model_type)
        return tuple(case for case in cases if self.model_type not in case.not_as)

    @property
    def every(self) -> tuple[Case, ...]:
        """All cases of every attack in the folder."""
        return tuple(case for name in attacks.names() for case in self.of(name))

    @property
    def cases(self) -> tuple[Case, ...]:
        """The attacks that are tested by default."""
        return tuple(case for case in self.every if case.usual)

    @property
    def untested(self) -> dict[str, str]:
        """Attacks of the folder without a case, and the reason. The baseline is not tested."""
        why = {name: self.why_not(name) for name in attacks.names() if attacks.load(name).FAMILY != "baseline"}
        return {name: words for name, words in why.items() if words}

    def why_not(self, attack: str) -> str:
        """Why an attack has no case; empty where it has one."""
        module = attacks.load(attack)
        return "" if self.of(attack) else getattr(module, "UNTESTED", NOT_SHOWN.format(self.model_type))


SHIPPED = tuple(Bench(kind, known.base, known.never) for kind, known in TESTED_ON.items())
BENCHES: Mapping[str, Bench] = MappingProxyType(
    {
        **{each.model_type: each for each in SHIPPED},
        **{
            kind: each._replace(model_type=kind, shipped_as=each.model_type)
            for each in SHIPPED
            for kind, written in organisms.REWRITTEN.items()
            if written.source == each.model_type
        },
    }
)
"""By transformers' `model_type`."""


def bench_of(model_type: str) -> Bench:
    """The organisms of an architecture. Raises UsageError where there are none."""
    if model_type not in BENCHES:
        raise UsageError(f"no organism is a '{model_type}'.", remedy=f"There are {', '.join(sorted(BENCHES))}.")
    return BENCHES[model_type]


def by_name(only: Sequence[str], model_type: str = "llama", *, quick: bool = False) -> list[Tried]:
    """Cases at settings of their own.

    Args:
        only: attacks by name, a plug-in's as `distribution/name`, each in every kind; empty: all of ours that have an
            organism, in their default kinds.
        model_type: the architecture.
        quick: only the first kind of each attack.

    Raises:
        UsageError: an unknown attack, or one without an organism; an architecture without organisms.
    """
    bench = bench_of(model_type)
    untested = bench.untested
    for name in only:
        why = bench.why_not(name) if "/" in name else untested.get(name)
        if why:
            raise UsageError(f"'{name}' cannot be tested: {why}.", remedy="Test the others.")
        known = [case.attack for case in bench.cases] + [each for each in only if "/" in each]
        if name not in known:
            raise UsageError(f"there is no self-test of '{name}'.", remedy=nearest(name, known))
    theirs = [case for name in dict.fromkeys(only) if "/" in name for case in bench.of(name)]
    chosen = [*(case for case in bench.every if case.attack in only), *theirs] if only else list(bench.cases)
    if quick:
        chosen = [case for index, case in enumerate(chosen) if case.attack not in {c.attack for c in chosen[:index]}]
    return [Tried(case, case.config, {}) for case in chosen]


def asked(policy: Loaded[Policy], suite: Loaded[Suite] | None) -> Iterator[tuple[int, Asked]]:
    """The settings of each requirement, with its place in the policy; `none` left out.

    Args:
        policy: the requirements.
        suite: the suite whose attacks they select; without one they select the attacks' defaults with the values in
            `where`.

    Raises:
        UsageError: an unknown attack or setting, or the suite runs no such attack.
    """
    for index, requirement in enumerate(policy.record.required):
        if requirement.attack != "none":
            yield from ((index, each) for each in _asked_at(policy, index, requirement, suite))


def _asked_at(
    policy: Loaded[Policy], index: int, requirement: Requirement, suite: Loaded[Suite] | None
) -> Iterator[Asked]:
    module = attacks.load(requirement.attack, where=policy.where("required", index, "attack"))
    budgets = {"budgets": list(requirement.budgets)} if requirement.budgets else {}
    given = [{**requirement.where, **budgets}]
    if suite is not None:
        given = [each.config for each in suite.record.attacks if each.attack == requirement.attack]
    try:
        configs = [attacks.as_json(attacks.configure(module, each)) for each in given]
    except attacks.BadConfig as error:
        where = policy.where("required", index) if suite is None else str(suite.path)
        remedy = error.remedy or "Name the suite that goes with this policy: --suite SUITE."
        raise UsageError(error.message, remedy=remedy, where=where) from None
    fitting = [each for each in configs if requirement.fits(requirement.attack, each)]
    if not fitting:
        raise UsageError(
            f"{requirement} is required, and the suite does not run it.",
            remedy="Name the suite that goes with this policy.",
            where=policy.where("required", index),
        )
    for config in fitting:
        tried = requirement.budgets or tuple(config.get("budgets", (0,)))
        yield Asked(requirement, module.VERSION, config, tried, plugins.of((requirement.attack,)))


def case_of(each: Asked, bench: Bench) -> Case | None:
    """The case for a requirement: the same attack with the same kind."""
    kind = which(each.config)
    return next((case for case in bench.of(each.requirement.attack) if same(which(case.config), kind)), None)


def required_by(
    policy: Loaded[Policy], suite: Loaded[Suite] | None, pool: Mapping[str, int], model_type: str = "llama"
) -> list[Tried]:
    """A case for each requirement of a policy, without duplicates.

    Args:
        policy: the requirements.
        suite: the suite whose settings they select; without one the attacks' defaults.
        pool: the sizes of the self-test's data, which limit the budgets.
        model_type: the architecture.

    Raises:
        UsageError: a requirement has no case on that architecture, so that no self-test can satisfy the policy; no
            attack is required; or an architecture without organisms.
    """
    bench = bench_of(model_type)
    for index, words in unprovable(policy, suite, model_type):
        raise UsageError(
            f"{words}.",
            remedy="Take it out of 'required', or let the policy say `validity: {self_test: off}`.",
            where=policy.where("required", index, "attack"),
        )
    found: list[Tried] = []
    for _, each in asked(policy, suite):
        case = case_of(each, bench)
        assert case is not None
        tried = _settled(case, each, pool)
        found += [] if tried in found else [tried]
    if not found:
        raise UsageError(
            "no attack is required, so there is nothing to test.",
            remedy="Run the gate without --self-test.",
            where=policy.where("required"),
        )
    return found


def unprovable(
    policy: Loaded[Policy], suite: Loaded[Suite] | None, model_type: str = "llama"
) -> Iterator[tuple[int, str]]:
    """Requirements without a possible self-test, by their place in the policy, with the reason."""
    bench = bench_of(model_type)
    for index, each in asked(policy, suite):
        if reason := without_case(each, bench):
            yield index, reason


def unprovable_everywhere(policy: Loaded[Policy], suite: Loaded[Suite] | None) -> Iterator[tuple[int, str]]:
    """Requirements without a possible self-test on any architecture, as `unprovable`; the reason is the first's."""
    first, *others = BENCHES.values()
    for index, found in groupby(asked(policy, suite), key=lambda each: each[0]):
        settings = [each for _, each in found]
        reasons = [words for each in settings if (words := without_case(each, first))]
        if reasons and all(any(without_case(each, bench) for each in settings) for bench in others):
            yield index, reasons[-1]


def without_case(each: Asked, bench: Bench) -> str:
    """Why no self-test is possible of what a requirement asks for; empty where one is."""
    if case_of(each, bench) is not None:
        return ""
    name = each.requirement.attack
    why = bench.why_not(name)
    if not why:
        kinds = sorted({label_of(name, case.config) for case in bench.of(name)})
        source = _cases(name, attacks.load(name), bench.shipped_as) if bench.shipped_as else ()
        applies = not any(same(which(case.config), which(each.config)) for case in source)
        reason = NO_CASE if applies else NOT_APPLICABLE.format(bench.model_type)
        name, why = label_of(name, each.config), f"{reason}; tested are {', '.join(kinds)}"
    return f"'{name}' is required, and cannot be tested: {why}"


def _settled(case: Case, each: Asked, pool: Mapping[str, int]) -> Tried:
    """The requirement with the case's numbers, at the largest budget for which the pool suffices."""
    kept = {key for key, value in each.requirement.where.items() if has_words(value)}
    config = dict(each.config)
    for key, value in case.sizes.items():
        if key in kept or key == "budgets":
            continue
        if isinstance(value, list) and has_words(value):  # only words that the requirement names too
            value = [word for word in value if word in each.config[key]] or each.config[key]
        config[key] = value
    if "budgets" in config:
        config["budgets"] = fitting_budgets(case, each, config, pool)
    extended = {k: each.config[k] for k, value in config.items() if k != "budgets" and not same(value, each.config[k])}
    if "budgets" in config and not set(config["budgets"]) <= set(each.budgets):
        extended["budgets"] = list(each.budgets)
    return Tried(case, config, extended)


def fitting_budgets(case: Case, each: Asked, config: Settings, pool: Mapping[str, int]) -> list[int]:
    """The case's own budgets where it has some, else the largest required one for which the pool suffices.

    Where the pool is too small for all of them it is the pool's size. Where the largest budget is not the strongest,
    all required ones are tried, and the best counts.
    """
    if "budgets" in case.sizes:
        return list(case.sizes["budgets"])
    if not attacks.load(case.attack).BUDGET.rises:
        return list(each.budgets)
    for budget in (*sorted(each.budgets, reverse=True), *range(min(each.budgets) - 1, 0, -1)):
        if _holds(case.attack, {**config, "budgets": [budget]}, pool):
            return [budget]
    return [max(each.budgets)]  # the trial will report the missing data


def _holds(attack: str, settings: Settings, pool: Mapping[str, int]) -> bool:
    module = attacks.load(attack)
    return attacks.refusal(module, attacks.configure(module, settings), pool) is None
