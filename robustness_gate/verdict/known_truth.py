"""What an attack's own file says of its self-test: the judge reads it there, and not in the record of one.

A record names its organism, the share of the gap that is asked, its negative controls, and for a calibration the kinds
of suppression on which the attack should recover. Whoever writes a record could write weaker ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from robustness_gate.records.cases import cases_of, words_of
from robustness_gate.records.declarations import SelfTestCase
from robustness_gate.records.encode import Json
from robustness_gate.records.mechanisms import Mechanism, mechanism_of
from robustness_gate.records.organisms import ASKED, NEAR, REWRITTEN, SHIPPED, TESTED_ON, UNTOUCHED
from robustness_gate.records.policy import same
from robustness_gate.verdict.hypotheses import which

if TYPE_CHECKING:
    from robustness_gate.records.evidence import SelfTest


def expected(attack: str, config: Mapping[str, Json], model_type: str) -> tuple[Mechanism, ...] | None:
    """The kinds of suppression on which this kind of an attack is expected to recover, by its own file's cases, sorted.

    The cases of the architecture, or where there is none those of Llamas. Empty if the attack has no such case; None if
    the attack is not one of ours, so that its file is not at hand.
    """
    if cases_of(attack) is None:
        return None
    for kind in (model_type, "llama"):
        if found := kinds_of(_cases(attack, config, kind)):
            return found
    return ()


def kinds_of(cases: Iterable[SelfTestCase]) -> tuple[Mechanism, ...]:
    """The kinds of suppression of the cases' organisms, sorted: a case's own, or that of its organism's method."""
    method_of = {each.name: each.method for each in SHIPPED}
    kinds = {
        each.mechanism or mechanism_of(each.organism) or mechanism_of(method_of.get(each.organism, ""))
        for each in cases
    }
    return tuple(sorted(kind for kind in kinds if kind is not None))


def of_the_bench(test: SelfTest) -> bool:
    """Whether a self-test was made as `self-test` makes it: its organism, share, negative controls, and questions.

    The organisms must answer as the shipped ones do before any attack. Of a plug-in's attack the cases are not at hand:
    any organism that hides its knowledge will do.
    """
    known = TESTED_ON.get(_shipped_as(test.model_type))
    if known is None or test.items != ASKED:
        return False
    if cases_of(test.attack) is None:
        if test.organism in (known.base, *known.never):
            return False
    elif not any(
        (each.organism, each.share) == (test.organism, test.share)
        for each in _cases(test.attack, test.config, test.model_type)[:1]
    ):
        return False
    if sorted(each.organism for each in test.negative_controls) != sorted(known.never):
        return False
    untouched = {known.base: test.known, test.organism: test.before}
    untouched |= {each.organism: each.before for each in test.negative_controls}
    return all(name in UNTOUCHED and abs(right - UNTOUCHED[name]) <= NEAR for name, right in untouched.items())


def _shipped_as(model_type: str) -> str:
    """The architecture in which the organisms are shipped that a self-test writes as this one."""
    return REWRITTEN[model_type].source if model_type in REWRITTEN else model_type


def _cases(attack: str, config: Mapping[str, Json], model_type: str) -> list[SelfTestCase]:
    """The cases of the kind of an attack of ours that these settings are, on an architecture, in the file's order."""
    source, words = _shipped_as(model_type), words_of(attack)
    return [
        each
        for each in cases_of(attack) or ()
        if each.model_type == source
        and model_type not in each.not_as
        and same(which({**words, **each.words, **each.sizes}), which(config))
    ]
