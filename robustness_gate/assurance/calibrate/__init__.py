"""Calibration on the candidate's own original: how much of what was taught and suppressed does each attack bring back?

As a chemist spikes a sample with a known amount and measures how much comes back:

- the original is taught an invented world (`organisms.spikes`) and suppressed by each method that the policy names;
  settings are searched in a committed grid until the policy's thresholds are met, and every attempt is recorded;
- each required attack runs on each spike at the policy's settings, at strength zero (sham), and on the *blank*, the
  original itself, which never knew that world.

The attacks are run and compared by `self_test`; `verdict.calibrations` judges the numbers. Everything is appended to
one file, a ledger, as it is measured: a stopped calibration continues there, and no attempt is lost from it. Spiked
models lie beside that file while they are needed, and are deleted also after a failure; what a killed process leaves is
deleted by the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import get_args

from robustness_gate.assurance import self_test
from robustness_gate.assurance.calibrate import folder, questions, search
from robustness_gate.assurance.calibrate.work import Request as Request
from robustness_gate.assurance.calibrate.work import Watch, Work
from robustness_gate.errors import UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, model_type
from robustness_gate.inputs.validation import load_suite
from robustness_gate.organisms import spikes
from robustness_gate.planning import plan
from robustness_gate.planning.bench import Bench
from robustness_gate.planning.calibrated import expected, spiked
from robustness_gate.planning.checkpoints import find_checkpoint
from robustness_gate.planning.compatibility import check_pins
from robustness_gate.planning.suite_data import gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.calibration import BLANK, TAUGHT, Calibration, Device, Recovery
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Role
from robustness_gate.system import installed, writing
from robustness_gate.verdict import calibrations as rules
from robustness_gate.verdict.hypotheses import label_of
from robustness_gate.verdict.wording import sentence

DEVICES: tuple[Device, ...] = get_args(Device)


def run(request: Request, at: datetime, watch: Watch = lambda _: None) -> tuple[Calibration, Policy]:
    """Calibrate the attacks that a policy requires, and append the result to `request.out`.

    Returns the calibration, and the policy as it was read.

    Raises:
        UsageError: the policy has no terms, pins another original, or requires what cannot be calibrated.
        PlanError: the suite asks otherwise than the policy pins, as in `plan`.
        GateError: as `gate.run`. What was measured stays in the file.
    """
    policy, suite = load_policy(request.policy), load_suite(request.suite)
    terms = policy.record.calibration
    if terms is None:
        raise UsageError(
            "the policy has no terms for a calibration.",
            remedy="Add `calibration: {methods: [rmu, npo, shallow]}`; docs/calibration.md explains it.",
            where=str(policy.path),
        )
    if terms.recipe != spikes.RECIPE:
        raise UsageError(
            f"the policy asks for recipe {terms.recipe}, and this release has {spikes.RECIPE}.",
            remedy="Use the release that has it, or let the policy's owner name the new one.",
            where=policy.where("calibration", "recipe"),
        )
    place = find_checkpoint(request.original, request.base)
    original = plan.Subject(Role.CANDIDATE, place, manifest_of(place))
    if policy.record.original not in (None, original.manifest.digest):
        raise UsageError(
            f"this model has the digest {original.manifest.digest}, and the policy pins another original.",
            remedy="Name the model that the policy pins.",
            where=policy.where("original"),
        )
    theirs = gather(suite)
    check_pins(policy, suite, theirs)
    made = questions.data_of(policy.record, suite, terms, theirs)
    device = _device(request.device)
    with (
        writing.nothing_empty(request.out.parent),
        folder.ends_on_terminate(),
        ledgers.writing(request.out) as ledger,
        folder.opened(request.out) as spiked,
    ):
        work = Work(
            policy, suite, terms, original, *made, _size(place), device, request, ledger, spiked, watch,
        )  # fmt: skip
        return _calibrated(work, at), policy.record


def _calibrated(work: Work, at: datetime) -> Calibration:
    recoveries: list[Recovery] = []
    with search.taught(work) as taught:
        if taught is not None:
            for method in work.terms.methods:
                with search.suppressed(work, method, taught) as model:
                    if model is not None:
                        recoveries += _recoveries(work, method, taught, model, at)
    made = Calibration(
        original=work.original.manifest.digest,
        model_type=model_type(work.original.place),
        dtype=work.suite.record.dtype,
        device=work.device,
        world=work.record,
        recipe=spikes.RECIPE,
        recipe_sha256=work.recipe,
        methods=work.terms.methods,
        spikes=tuple(each for each in work.ledger.spikes if work.has(each)),
        recoveries=tuple(recoveries),
        policy=work.policy.sha256,
        suite=work.suite.sha256,
        at=at.date(),
    )
    if made not in work.ledger.calibrations:
        work.ledger.append(made)
    return made


def shortcomings(made: Calibration, policy: Policy) -> list[str]:
    """What this calibration lacks under the policy, in the judge's words: any of it would block a PASS."""
    return [sentence(each) for each in rules.of_its_own(made, policy)]


def cells(made: Calibration, policy: Policy) -> dict[str, dict[str, str]]:
    """The table attack x method: for each attack and budget and each method what it brought back."""
    assert policy.calibration is not None
    table: dict[str, dict[str, str]] = {}
    for each in made.recoveries:
        test = each.test
        bites = "*" if rules.recovers(test, policy.calibration.thresholds) else " "
        row = table.setdefault(row_of(test), {})
        row[each.method] = f"{test.before} > {test.after} of {test.items}, {test.gain:.0%} {bites}"
    return table


def row_of(test: SelfTest) -> str:
    """The name of a row of `cells`: one attack may be required twice, with other settings and budgets."""
    return f"{label_of(test.attack, test.config)}{f' at {test.budget}' if test.budget > 0 else ''}"


def _recoveries(work: Work, method: str, taught: plan.Subject, spike: plan.Subject, at: datetime) -> Iterator[Recovery]:
    """Every required attack on one spike, with its sham, and on the blank."""
    place = work.place(**{TAUGHT: taught, BLANK: work.original, method: spike})
    kind = model_type(work.original.place)
    tried = spiked(work.policy, work.suite, method, work.data.pool())
    names = Bench(kind, TAUGHT, (BLANK,))
    for test in self_test.examined(names, tried, at, place, None, seeds=work.request.seeds):
        yield Recovery(method=method, expected=expected(test.attack, test.config, kind), test=test)


def _size(place: CheckpointRef) -> str:
    """The size of the original, from its weights' headers."""
    return spikes.size_of(sum(precision.stored(place).weights.values()))


def _device(wish: str) -> Device:
    """The kind of device on which trials will run. Raises UsageError for a device that does not exist."""
    installed.require_run_extra()
    from robustness_gate.engine.load import pick_device

    kind = pick_device(wish).type
    for found in DEVICES:
        if found == kind:
            return found
    raise UsageError(f"a calibration cannot run on '{kind}'.", remedy="Use --device cpu, cuda or mps.")
