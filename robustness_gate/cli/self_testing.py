"""The parts of the command `self-test`: which cases it tests on which architecture, and how the results are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustness_gate.cli.common import say
from robustness_gate.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustness_gate.inputs.validation import Loaded
    from robustness_gate.planning.bench import Tried
    from robustness_gate.records.evidence import SelfTest
    from robustness_gate.records.policy import Policy
    from robustness_gate.records.suite import Suite


def refuse_clashes(*, quick: bool, every: bool, only: bool, policy: bool, suite: bool, if_needed: bool) -> None:
    """Raises UsageError for options, given or not, that do not go together."""
    if sum((quick, every, only, policy)) > 1:
        raise UsageError("--quick, --all, --only and --policy do not go together.", remedy="Give one of them, or none.")
    for name in ("--if-needed",) * if_needed + ("--suite",) * suite:
        if not policy:
            raise UsageError(f"{name} goes with --policy.", remedy="Name the policy that requires the attacks.")


def try_out(out: Path) -> None:
    """Raises WriteError or UsageError now, rather than after minutes, where the records could not be written."""
    from robustness_gate.system import writing

    with writing.nothing_empty(out.parent), writing.as_write_error(out):
        writing.refuse_what_is_no_file(out)
        writing.try_out(out.parent)


def cases(
    policy: Loaded[Policy] | None, suite: Loaded[Suite] | None, only: Sequence[str], kind: str, *, quick: bool
) -> Sequence[Tried]:
    """What is tested on an architecture: what the policy requires, else the named attacks, the quick ones, or all."""
    from robustness_gate.assurance import self_test
    from robustness_gate.planning import bench

    if policy is not None:
        return bench.required_by(policy, suite, self_test.data().pool(), kind)
    return bench.by_name(bench.QUICK if quick else tuple(only), kind, quick=quick)


def architecture(model_type: str | None, checkpoint: str | None, base: str | None) -> str:
    """The architecture of the test models: the named one, else the checkpoint's, else `llama`."""
    from robustness_gate.inputs.checkpoint.place import model_type as named_in
    from robustness_gate.inputs.checkpoint.place import text_part

    if checkpoint is None:
        if base is not None:
            raise UsageError("--base goes with --checkpoint.", remedy="Name the adapter that stands on it.")
        return text_part(model_type or "llama")
    if model_type is not None:
        raise UsageError("--model-type and --checkpoint do not go together.", remedy="Give one of them, or none.")
    from robustness_gate.planning.checkpoints import find_checkpoint

    found = named_in(find_checkpoint(checkpoint, base))
    if not found:
        raise UsageError(
            f"the architecture of '{checkpoint}' is not known.", remedy="Its config.json must name a 'model_type'."
        )
    return found


def asks(policy: Policy) -> bool:
    """Whether a policy asks for a self-test of anything."""
    return policy.validity.self_test != "off" and any(each.attack != "none" for each in policy.required)


def known(out: Path) -> Sequence[SelfTest]:
    """The records of an earlier self-test, if there are any."""
    from robustness_gate.inputs.validation import load_record
    from robustness_gate.records.evidence import SelfTests

    try:
        return load_record(out, SelfTests).record.tests
    except FileError:  # no file, or an older format
        return ()


def show(fresh: Sequence[SelfTest], failing: Sequence[SelfTest], out: Path) -> None:
    """Print the fresh tests, the failing ones of earlier that still count, and what to do with the records."""
    from robustness_gate.verdict.hypotheses import label_of

    _show_tests(fresh)
    for test in failing:
        stays = f"seed {test.seed} failed on {test.at} and was not tested again: it counts until it passes"
        say(f"{label_of(test.attack, test.config)}, {stays}")
    say(f"\n{out}: give it to `run` with --self-test")


def _show_tests(tests: Sequence[SelfTest]) -> None:
    """Print one line per test, with its faults below."""
    from robustness_gate.planning.bench import BENCHES
    from robustness_gate.verdict import wording
    from robustness_gate.verdict.hypotheses import label_of
    from robustness_gate.verdict.selftests import GAIN

    bench = BENCHES[tests[0].model_type]
    names = [label_of(test.attack, test.config) + (f" at {test.budget}" if test.budget > 0 else "") for test in tests]
    wide, where = max(map(len, names)), max(len(test.organism) for test in tests)
    several = any(test.seed for test in tests)
    controls = "   ".join(f"{each.organism:>15} {'leak':>7}" for each in tests[0].negative_controls)
    head = f"{'attack':{wide}} {'seed ' if several else ''}{'organism':{where}}"
    say(f"{head} {'before > after':>15} {'gain':>7}  {'asked':15}   {controls}   sham   finding")
    for name, test in zip(names, tests, strict=True):
        there = f"{test.before / test.items:.1%} > {test.after / test.items:.1%}"
        leaks = "   ".join(
            f"{f'{each.before / test.items:.1%} > {each.after / test.items:.1%}':>15} {each.leak:>7.1%}"
            for each in test.negative_controls
        )
        sham = "same" if test.sham_changed == 0 else f"{test.sham_changed} changed"
        found = "FAILED" if test.faults else "works"
        asked = f"{GAIN:.0%}, {test.share:.0%} of gap" if test.share else f"{GAIN:.0%}"
        figures = f"{there:>15} {test.gain:>7.1%}  {asked:15}   {leaks}"
        seed = f"{test.seed:<5}" if several else ""
        say(f"{name:{wide}} {seed}{test.organism:{where}} {figures}   {sham:6} {found}")
        if test.extended:
            changed = (f"{key} {test.config[key]} for {value}" for key, value in sorted(test.extended.items()))
            say(f"{'':{wide}} to suit so small a model: {'; '.join(changed)}")
        for fault in test.faults:
            say(f"{'':{wide}} {wording.sentence(fault)}")
    say("gain and leak: one-sided 95 % lower bounds of after - before, on the same questions, in the deciding metric")
    say("asked: at least this gain, and after - before at least this share of the gap between original and candidate")
    for attack, why in sorted(bench.untested.items()):
        say(f"not tested: {attack}, {why}")
