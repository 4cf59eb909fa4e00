"""Commands on policies: `policy check | show | diff | test | pin | schema`; `linting` has `policy lint`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustness_gate.cli.common import (
    AsJson,
    Base,
    Controls,
    Original,
    PolicyArgument,
    SuiteFile,
    pairs,
    policy_app,
    say,
    say_json,
)
from robustness_gate.errors import Exit, SetupError, UsageError
from robustness_gate.inputs.shipped import CASES, POLICY, SUITE

if TYPE_CHECKING:
    from datetime import date

    from robustness_gate.inputs.validation import Loaded
    from robustness_gate.planning.plan import Plan, Subject
    from robustness_gate.records.policy import Policy


@policy_app.command("check", epilog="Example: robustness-gate policy check gate/policy.yaml --suite gate/suite.yaml")
def policy_check(
    policy: PolicyArgument,
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite", parser=SUITE.find, metavar="FILE|NAME", help="Also check that this suite runs what is required."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", help="Also say whether a PASS is possible for this model, and what makes it so."),
    ] = None,
    base: Base = None,
    at: Annotated[
        str | None, typer.Option("--at", help="The day on which it must hold, e.g. 2026-12-31; else today.")
    ] = None,
) -> None:
    """Check a policy (and a suite) and report errors, with a code and file:line:column."""
    if base is not None and checkpoint is None:
        raise UsageError("--base goes with --checkpoint.", remedy="Name the adapter that stands on it.")
    from robustness_gate.policy_language import load_policy, refuse_untimely
    from robustness_gate.verdict import declared_hypotheses

    loaded = load_policy(policy)
    refuse_untimely(loaded, _day(at))
    if suite is not None:
        try:
            planned_without(loaded, suite)
        except SetupError as error:  # Parquet and the hub need the extra `run`, which a CI job for checks may lack
            say(f"{suite}: read, but its questions and its fit to the policy were NOT checked: {error}")
    for line in (
        unprovable_requirements(loaded, suite) if checkpoint is None else _prospects(loaded, suite, checkpoint, base)
    ):
        say(line)
    record = loaded.record
    limits, required, declared = len(record.limits), len(record.required), declared_hypotheses(record)
    counted = ", ".join(
        f"{many} {noun if many == 1 else nouns}"
        for many, noun, nouns in (
            (limits, "limit", "limits"),
            (required, "requirement", "requirements"),
            (declared, "hypothesis", "hypotheses"),
        )
    )
    say(f"{policy}: ok, {counted}")


@policy_app.command("show", epilog="Example: robustness-gate policy show gate/policy.yaml --resolved")
def policy_show(
    policy: PolicyArgument,
    resolved: Annotated[bool, typer.Option("--resolved", help="Fill in every default.")] = False,
) -> None:
    """Print a policy as sentences and as YAML, merged with its parent."""
    from robustness_gate.policy_language import load_policy
    from robustness_gate.policy_language.show import page

    print(page(load_policy(policy), resolved=resolved), end="")  # noqa: T201 - the YAML ends its own last line


@policy_app.command("diff", epilog="Example: robustness-gate policy diff old.yaml new.yaml --require-reason")
def policy_diff(
    before: Annotated[Path, typer.Argument(parser=POLICY.find, metavar="A", help="The policy before.")],
    after: Annotated[Path, typer.Argument(parser=POLICY.find, metavar="B", help="The policy after.")],
    require_reason: Annotated[
        bool,
        typer.Option("--require-reason", help="Leave with 2 if something is looser and B's 'loosened' has no reason."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what is looser, what is tighter and what only differs, one line each.

    With --require-reason each looser value needs a reason: an entry {what, since, reason, owner} under B's `loosened`,
    in which `what` is the name as printed here and `since` is B's version, which must differ from A's.
    """
    from robustness_gate.policy_language import load_policy
    from robustness_gate.policy_language.diff import compare, unexplained

    one, other = load_policy(before), load_policy(after)
    changes = compare(one.record, other.record)
    if as_json:
        say_json([{"direction": c.direction, "what": c.what, "words": c.words} for c in changes])
    else:
        for change in changes:
            say(str(change))
        if not changes:
            say("no difference")
    if require_reason and (bare := unexplained(other.record, one.record, changes)):
        raise UsageError(
            f"{len(bare)} of the looser things have no written reason: {', '.join(each.what for each in bare)}.",
            remedy=f"Add each to 'loosened' with `since: {other.record.version}` (a new version), a reason and owner.",
            where=other.where(*bare[0].at),
            code="no-reason",
        )


def unprovable_requirements(policy: Loaded[Policy], suite: Path | None) -> list[str]:
    """Requirements that make a PASS impossible, because no architecture has a self-test of them."""
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning.bench import unprovable_everywhere
    from robustness_gate.planning.calibrated import uncalibrated

    if policy.record.validity.self_test == "off":
        return []
    spiked = policy.record.calibration is not None
    named = load_suite(suite) if suite is not None else None
    try:
        found = dict(unprovable_everywhere(policy, named))
        neither = dict(uncalibrated(policy, named, "llama")) if spiked else found
    except UsageError:
        if named is not None:
            raise
        return []  # `where` does not contain all settings of the attack; the suite has the others
    return [
        f"{policy.where('required', index)}: {words}: no PASS is possible while 'self_test' is required"
        for index, words in found.items()
        if index in neither
    ]


def _prospects(policy: Loaded[Policy], suite: Path | None, checkpoint: str, base: str | None) -> list[str]:
    """Whether a PASS is possible for this checkpoint, and what makes it so or prevents it.

    A contradiction in config.json that only the loading with transformers refuses is not found here.

    Raises:
        CheckpointError: its files are refused, or there are none, as by `plan`; weights are not hashed.
    """
    from robustness_gate.inputs.checkpoint.place import model_type
    from robustness_gate.inputs.checkpoint.survey import unread
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import prospects
    from robustness_gate.planning.checkpoints import find_checkpoint

    place = find_checkpoint(checkpoint, base)
    unread(place)  # refuses what `plan` refuses
    kind, named = model_type(place), load_suite(suite) if suite is not None else None
    if hindered := prospects.obstacles(policy, named, kind):
        return [f"{prospects.sentence(each)}. {prospects.remedy(each)}" for each in hindered]
    return [f"{checkpoint}: {prospects.way(policy, named, kind)}"]


@policy_app.command("test", epilog="Example: robustness-gate policy test gate/policy.yaml gate/policy.cases.yaml")
def policy_test(
    policy: PolicyArgument,
    cases: Annotated[Path, typer.Argument(parser=CASES.find, metavar="CASES", help="Its fixtures (YAML).")],
    at: Annotated[
        str | None, typer.Option("--at", help="The day of judgement where a case names none; else today.")
    ] = None,
) -> None:
    """Test a policy on synthetic results; exits with 2 if a verdict is not the one that its case expects."""
    from robustness_gate.policy_language.cases import load_cases, load_tested, try_all
    from robustness_gate.verdict import wording

    read = load_cases(cases)
    record, unpinned = load_tested(policy, read)
    tried = try_all(record, read, _day(at))
    for assumed in (*unpinned, *tried[0].assumed):
        say(f"assumed: {assumed}")
    for each in tried:
        say(f"{'ok ' if each.as_expected else 'NOT'} {each.verdict.outcome:12} {each.case.description}")
        if not each.as_expected:
            wanted = f" because of '{each.case.because}'" if each.case.because else ""
            say(f"    expected {each.case.expect}{wanted}; the reason was: {wording.reason(each.verdict)}")
            for blocker in each.verdict.blockers[:5]:
                say(f"    {wording.sentence(blocker)}")
    if not all(each.as_expected for each in tried):
        raise typer.Exit(int(Exit.USAGE))


@policy_app.command("pin", epilog="Example: robustness-gate policy pin gate/policy.yaml --suite gate/suite.yaml")
def policy_pin(policy: PolicyArgument, suite: SuiteFile, original: Original = None, control: Controls = None) -> None:
    """Print the digests of a suite's questions, data and settings, as lines to paste into the policy.

    With --original also those of that model and of its tokenizer, with --control those of the policy's controls.
    """
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import plan as plans
    from robustness_gate.planning.compatibility import compared_by_clusters
    from robustness_gate.planning.suite_data import gather
    from robustness_gate.policy_language import load_policy
    from robustness_gate.policy_language.pin import lines

    loaded, read = load_policy(policy, unpinned=True), load_suite(suite)
    data = gather(read)
    made = planned_without(plans.without_pins(loaded, data), suite)  # the current pins may be the ones to replace
    refs = {task.name: task for task in made.trials[0].tasks}
    sources = {name: task.source for name, task in read.record.tasks.items()}
    questions = compared_by_clusters(loaded.record, data)
    for line in lines(loaded.record, refs, made.trials[0].data, plans.of_candidate(made), sources, questions):
        say(line)
    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.planning.checkpoints import find_checkpoint

    controls = pairs(control, "--control", "oracle=models/oracle")
    if controls:
        say("controls:   # the digest of each")
    for name, place in controls:
        say(f"  {name}: {{sha256: {manifest_of(find_checkpoint(place)).digest}}}")
    if original is not None:
        from robustness_gate.running import tokenizer_check
        from robustness_gate.system import bounded

        found = find_checkpoint(original)
        say(f"original: {manifest_of(found).digest}")
        limits = bounded.Limits()
        sha256, template = bounded.call(tokenizer_check.digests, found, limits=limits, name="reader of its tokenizer")
        say(f"tokenizer: {{sha256: {sha256}, template: {template}}}")


@policy_app.command("schema", epilog="Example: robustness-gate policy schema > policy.v1.schema.json")
def policy_schema(
    suite: Annotated[bool, typer.Option("--suite", help="Of a suite in place of a policy.")] = False,
) -> None:
    """Print the JSON Schema of a policy, for editors."""
    from robustness_gate.policy_language import schema as schemas

    made = schemas.suite_schema() if suite else schemas.policy_schema()
    say_json(made, in_order=True)


def planned_without(loaded: Loaded[Policy], suite: Path) -> Plan:
    """A plan without a real checkpoint, which checks that policy and suite fit together."""
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import plan as plans
    from robustness_gate.planning.suite_data import gather

    read = load_suite(suite)
    return plans.make(loaded, read, gather(read), [placeholder()])


def placeholder() -> Subject:
    """A subject for a plan that is never run."""
    from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.planning.plan import Subject
    from robustness_gate.records.trial import Role

    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    return Subject(Role.CANDIDATE, CheckpointRef(Path()), manifest)


def _day(given: str | None) -> date:
    """The given day, or today, UTC."""
    from datetime import date

    if given is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise UsageError(f"--at '{given}' is not a day.", remedy="Write it as 2026-12-31.") from None
