"""What a plan can foresee: attacks that will not apply, and reasons for which no PASS will be possible.

Each is one sentence for `plan` and changes nothing; `doctor` tries the attacks on the loaded model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustness_gate import attacks, organisms
from robustness_gate.errors import PlanError
from robustness_gate.inputs.checkpoint.place import layers_of, model_type
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import applicability, prospects
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.attack import Bound
from robustness_gate.records.declarations import Given
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role, Trial
from robustness_gate.verdict import label, spelled_out

if TYPE_CHECKING:
    from robustness_gate.planning.plan import Subject


KNOWN_BLOCKS = frozenset({"gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "phi", *organisms.REWRITTEN})
"""Architectures on which tests/engine/test_anatomy.py and tests/organisms/test_rewrite.py try engine/anatomy.py."""


def foreseen(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    suite_data: SuiteData,
    subjects: Sequence[Subject],
    trials: Sequence[Trial],
) -> tuple[str, ...]:
    """All of them, in the order in which `plan` prints them.

    Args:
        policy: the limits and requirements.
        suite: the tasks and attacks.
        suite_data: the suite's files, from `gather`.
        subjects: the candidate first, then the original and controls, if any.
        trials: those that the run makes.

    Raises:
        PlanError: a control is another model than the policy pins.
    """
    chosen = [trial for trial in trials if trial.role == Role.CANDIDATE]
    return (
        *_inapplicable(chosen, subjects[0]),
        *_unspoken(chosen, suite_data),
        *_too_small(chosen, subjects[0], suite_data),
        *_not_given(policy, subjects),
        *_no_pass(policy, suite, subjects[0]),
        *_not_named(policy, trials),
    )


def _inapplicable(trials: Sequence[Trial], candidate: Subject) -> Iterator[str]:
    """Trials whose needs this checkpoint or this command probably does not meet."""
    for trial in trials:
        needs = getattr(attacks.load(trial.attack), "NEEDS", ())
        if "original" in needs and trial.reference is None:
            yield f"{label(trial)}, seed {trial.seed_index}: not applicable without --original"
        if "blocks" in needs and (kind := model_type(candidate.place)) not in KNOWN_BLOCKS:
            yield (
                f"{label(trial)}, seed {trial.seed_index}: perhaps not applicable, blocks of model_type '{kind}' "
                "were never tried; `robustness-gate doctor` finds out"
            )


def _unspoken(trials: Sequence[Trial], suite_data: SuiteData) -> Iterator[str]:
    """Attacks that cannot run in every form of the hazard, and why."""
    for trial in trials:
        module = attacks.load(trial.attack)
        found = applicability.of(module, attacks.configure(module, trial.config), suite_data.hazards)
        where = f"{label(trial)}, seed {trial.seed_index}"
        if not found.hazards:
            yield f"{where}: not applicable, {found.why_not}"
        elif found.reasons:
            yield f"{where}: only in the form of {', '.join(found.names)}, so no limit elsewhere; {found.why_not}"


def _too_small(trials: Sequence[Trial], candidate: Subject, suite_data: SuiteData) -> Iterator[str]:
    """Searches that are smaller than their own floor asks, so that they establish no compliance, whatever they find."""
    if (candidate.place.base or candidate.place).path == Path():  # a plan without a checkpoint
        return
    layers = layers_of(candidate.place)
    for trial in trials:
        module = attacks.load(trial.attack)
        if not hasattr(module, "at_best"):
            continue
        config = attacks.configure(module, trial.config)
        ways = len(applicability.of(module, config, suite_data.hazards).hazards)
        found = module.at_best(config, Given(ways, layers, original=trial.reference is not None))
        for floor in module.FLOORS:
            missed = [_missed(each, found[each.signal]) for each in floor.any_of if each.signal in found]
            if len(missed) == len(floor.any_of) and all(missed):
                yield (
                    f"{label(trial)}, seed {trial.seed_index}: {' and '.join(missed)}, so it can establish a breach, "
                    f"but not compliance; required: {floor.description}"
                )


def _missed(bound: Bound, best: float) -> str:
    """Why a signal that is `best` where all goes well cannot hold a bound; empty where it can."""
    if bound.holds({bound.signal: best}):
        return ""
    if bound.min is not None:
        return f"its settings are too few (at most {best:g})"
    return f"its settings ask for more than there is ({bound.signal}: at least {best:g})"


def _not_given(policy: Loaded[Policy], subjects: Sequence[Subject]) -> Iterator[str]:
    """Models that the policy compares with and this command does not name: the verdict would be INCONCLUSIVE."""
    original = any(subject.role == Role.ORIGINAL for subject in subjects)
    controls = {subject.control: subject for subject in subjects if subject.role == Role.CONTROL}
    if policy.record.validity.positive_control != "off" and not original:
        yield "the policy requires a positive control: name the model from before unlearning with --original"
    elif policy.record.tokenizer is None and not original:
        yield (
            "the tokenizer will be compared with nothing (tokenizer_unverified): name the model from before unlearning "
            "with --original, or pin its digests under 'tokenizer' in the policy"
        )
    for name, control in policy.record.controls.items():
        named = controls.get(name)
        if named is not None and named.manifest.digest != control.sha256:
            raise PlanError(
                f"the control '{name}' has the digest {named.manifest.digest}.",
                remedy="It is another model than the policy pins.",
                where=policy.where("controls", name, "sha256"),
                code="wrong-control",
            )
        if named is None and any(limit.control == name for limit in spelled_out(policy.record).limits):
            how = "--anchor" if control.kind == "earlier_release" else "--control"
            yield f"the policy compares with '{name}': name it with {how} {name}=..."


def _no_pass(policy: Loaded[Policy], suite: Loaded[Suite], candidate: Subject) -> Iterator[str]:
    """Why no self-test can satisfy the policy for this candidate, and what to do."""
    if (candidate.place.base or candidate.place).path != Path():  # a plan without a checkpoint is about no architecture
        for each in prospects.obstacles(policy, suite, model_type(candidate.place)):
            yield f"{prospects.sentence(each)}. {prospects.remedy(each)}"


def _not_named(policy: Loaded[Policy], trials: Sequence[Trial]) -> Iterator[str]:
    """Plug-ins in the run that make a PASS impossible."""
    for each in sorted({one for trial in trials for one in trial.plugins}, key=lambda one: one.distribution):
        if not each.pinned:
            yield f"the plug-in {each.distribution} is an editable install, or runs from elsewhere: no PASS is possible"
        elif policy.record.plugins.get(each.distribution) != each.sha256:
            yield f"the policy does not name the plug-in {each.distribution}: {each.sha256}: no PASS is possible"
