"""The whole trip in one function: policy, suite and checkpoint in; verdict, evidence and report out.

The steps are numbered here and in `run`:

1. Check first that the results can be written.
2. Read and plan everything; nothing has run yet, and every user error ends here.
3. Compare the candidate's tokenizer with the original's. Run the trials that the checkpoint's ledger does not hold yet,
   and record each measurement before the attack continues. A policy may end the run at the first breach; the trials
   that were then not run are listed.
4. Digest the checkpoint again: if its directory changed during the run, this blocks a PASS.
5. Judge, build the report, and write it.
6. Publish: the outputs of plug-ins, and the tracker. If the tracker is down, this is a warning only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from robustness_gate import publish, verdict
from robustness_gate.errors import CheckpointError, Exit, UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import plugins, precision
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import model_type
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.inputs.validation import Loaded, load_record, load_suite, load_texts
from robustness_gate.planning import plan
from robustness_gate.planning.checkpoints import find_checkpoint
from robustness_gate.planning.compatibility import compared_by_clusters
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import load_policy
from robustness_gate.publish import delivery, outputs
from robustness_gate.records.calibration import Calibration, WeightsCheck
from robustness_gate.records.evidence import EvidenceIssue, Note, Planned, ProducerClaims, SelfTest, SelfTests
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.records.verdict import Verdict
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.report.anchors import anchor
from robustness_gate.running import checked, executors
from robustness_gate.running.executors import Event
from robustness_gate.system import installed, machine, writing
from robustness_gate.system.bounded import Limits

SMALL_MODEL_BYTES = 50_000_000
EXIT = MappingProxyType({"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE})


@dataclass(frozen=True)
class Request:
    """The arguments of a run. A checkpoint is a directory, `hf://OWNER/NAME@COMMIT` or `organism:NAME`."""

    checkpoint: str
    policy: Path
    suite: Path
    out: Path
    original: str | None = None
    controls: Sequence[tuple[str, str]] = ()
    only: Sequence[str] = ()
    anchors: Sequence[tuple[str, Path]] = ()
    """Reports of earlier releases, by the name of the policy's control."""
    statement: Path | None = None
    """The producer's claims about the checkpoint: a YAML mapping of names to texts."""
    self_test: Path | None = None
    """The output of `robustness-gate self-test`."""
    calibration: Path | None = None
    """The file of `robustness-gate calibrate`."""
    preregistration: Path | None = None
    """The preregistration of this run; policy, suite, questions and attacks must match it."""
    preregistration_key: Path | None = None
    """The public key of the preregistration's signer."""
    ledgers: Path | None = None
    """The folder of ledgers, one per checkpoint; None: $ROBUSTNESS_GATE_LEDGERS, else `ledgers` next to `out`."""
    base: str | None = None
    """The base of `checkpoint` if it is an adapter; by default the one that its config names."""
    device: str = "auto"
    workers: int = 0
    """Number of parallel trials; 0: one per core for a small model on the CPU, else one."""
    limits: Limits = field(default_factory=Limits)
    """Time limits for loading, for a text and for a trial."""
    outputs: Sequence[str] = ()
    """Plug-in publishers to use besides ours, as `distribution/name`."""
    tracking_uri: str | None = None
    """None: the environment's MLFLOW_TRACKING_URI, else a SQLite store next to `out`. Empty: no tracker."""


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and planned, before anything runs."""

    policy: Loaded[Policy]
    suite: Loaded[Suite]
    suite_data: SuiteData
    plan: plan.Plan
    anchored: tuple[Trial, ...] = ()
    """Trials of earlier releases, from their reports."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials on which the verdict may rest."""
        return (*self.plan.trials, *self.anchored)


@dataclass(frozen=True)
class Brought:
    """What a command names besides policy, suite and checkpoint."""

    tested: tuple[SelfTest, ...]
    calibrated: tuple[Calibration, ...]
    claims: dict[str, str]
    """The producer's."""
    preregistered: report.PreregisteredBefore | None
    anchored: tuple[Trial | Measurement | Closed, ...]
    """The records of earlier releases, as those of controls."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    report: report.Report
    folder: Path
    ledger: Path
    tracking_uri: str | None
    """The store to which it was logged, without credentials; None if it was not logged."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> Exit:
        """0 PASS, 3 FAIL, 4 INCONCLUSIVE."""
        return EXIT[self.report.verdict.outcome]


Watch = Callable[[Event, int, int], None]
"""Called for every event with the numbers of closed trials and of all trials; for progress only."""


def run(request: Request, watch: Watch = lambda *_: None, executor: str = executors.USUAL) -> Outcome:
    """Take one checkpoint through the gate.

    Args:
        request: the arguments of the run.
        watch: called for every event.
        executor: the name of the executor that runs the trials: ours, or a plug-in's as `distribution/name`.

    Raises:
        GateError: an error that the user can fix: files, arguments, a refused checkpoint, a missing extra, a full disk.
            Then no empty folder is left, and the next run uses what the ledger holds.
    """
    with writing.nothing_empty(request.out, _ledgers(request)):
        return _trip(request, watch, executor)


def _trip(request: Request, watch: Watch, executor: str) -> Outcome:
    # 1
    _check_destinations(request)
    # 2
    prepared = prepare(
        request.policy, request.suite, request.checkpoint, request.original, request.controls, request.only,
        request.base, executor,
    )  # fmt: skip
    brought = _brought(request, prepared)
    prepared = replace(prepared, anchored=tuple(each for each in brought.anchored if isinstance(each, Trial)))
    _check_installation(request)
    candidate = prepared.plan.candidate
    folder = ledgers.home(_ledgers(request), candidate.manifest.digest)
    job, workers = _job(request, prepared, folder), _workers(request, candidate)
    with ledgers.writing(folder / ledgers.NAME) as ledger:
        _open(ledger, prepared, brought, request.device)  # first: an executor of others is named there before it runs
        with checked.start(executor, job, workers) as crew:
            # 3
            before, (prepared, problem) = prepared, _tokenizers(prepared, ledger, job.original, crew)
            if prepared is not before:
                _open(ledger, prepared, brought, request.device)
            with plugins.as_errors():
                ran = _run_trials(prepared, ledger, crew, watch)
            # 4
            if ran and (changed := _changed(candidate)):
                ledger.append(Note(subject=candidate.manifest.digest, what=changed))
            # 5
            made = _report(prepared, ledger, brought.preregistered)
            lost = delivery.write(made, candidate.manifest, folder, request.out)
        # 6
        sending = publish.Sending(request.out, request.checkpoint, request.tracking_uri)
        watched = (request.out, folder) if request.outputs else ()  # the ledger's lock keeps other runs from it
        with outputs.kept(*watched), plugins.as_errors():
            outputs.write(request.outputs, made, request.out)
            uri, warnings = outputs.send(request.outputs, made, sending)
    return Outcome(made, request.out, folder / ledgers.NAME, uri, (*problem, *lost, *warnings))


def prepare(
    policy_path: Path,
    suite_path: Path,
    checkpoint: str,
    original: str | None = None,
    controls: Sequence[tuple[str, str]] = (),
    only: Sequence[str] = (),
    base: str | None = None,
    executor: str = executors.USUAL,
) -> Prepared:
    """Read and plan: steps that need neither torch nor a GPU. Raises GateError for every user error."""
    with plugins.as_errors():
        executors.DOOR.check(executor)
        policy, suite = load_policy(policy_path), load_suite(suite_path)
        suite_data = gather(suite)
        named = [(Role.CANDIDATE, "", checkpoint), *([(Role.ORIGINAL, "", original)] if original else [])]
        named += [(Role.CONTROL, name, place) for name, place in controls]
        subjects = []
        for role, control, place in named:
            found = find_checkpoint(place, base if role == Role.CANDIDATE else None)
            subjects.append(plan.Subject(role, found, manifest_of(found), control))
        made = plan.make(policy, suite, suite_data, subjects, only=only, executor=executor)
        return Prepared(policy, suite, suite_data, made)


# --- 1, 2: before anything runs ---------------------------------------------------------------------------------------


def _check_destinations(request: Request) -> None:
    """Create the folders and write a test file, so that an error shows now and not after hours; nothing is imported.

    Raises:
        UsageError: a folder cannot be written.
        PlanError: a requested publisher is not installed.
    """
    _check_writable(request.out, "--out")
    _check_writable(_ledgers(request), "--ledgers")
    for name in request.outputs:
        publish.check(name)


def _check_installation(request: Request) -> None:
    """Raises GateError without the libraries of a run, or without the device that the command names."""
    installed.require_run_extra()
    if request.device not in ("auto", "cpu"):
        from robustness_gate.engine.load import pick_device

        pick_device(request.device)


def _brought(request: Request, prepared: Prepared) -> Brought:
    """Read the files that the command names besides policy, suite and checkpoint."""
    tested = load_record(request.self_test, SelfTests).record.tests if request.self_test else ()
    calibrated = ledgers.calibrations_in(request.calibration) if request.calibration else ()
    claims = load_texts(request.statement) if request.statement else {}
    preregistered = _preregistered(request, prepared)
    anchored = [record for name, path in request.anchors for record in anchor(prepared.policy, name, path)]
    return Brought(tested, calibrated, claims, preregistered, tuple(anchored))


def _preregistered(request: Request, prepared: Prepared) -> report.PreregisteredBefore | None:
    """The verified preregistration of this run; None without one.

    Raises:
        UsageError: a preregistration without its signer's key, or the key without the preregistration.
        Unverified: another key signed it, it was changed, or policy, suite, questions or attacks do not match it.
    """
    if request.preregistration is None or request.preregistration_key is None:
        if (request.preregistration is None) != (request.preregistration_key is None):
            raise UsageError(
                "a preregistration and its key go together.",
                remedy="Give both --preregistration and --preregistration-key.",
            )
        return None
    from robustness_gate.attestation import keys, preregistration

    key, data = keys.any_public_key(request.preregistration_key), prepared.suite_data
    return preregistration.compared(
        request.preregistration, key, prepared.policy, prepared.suite, data.refs, data.data_digests,
        prepared.plan.trials,
    )  # fmt: skip


def _check_writable(folder: Path, option: str) -> None:
    """Create the folder and write a test file, so that an error shows now and not after hours. Raises UsageError."""
    try:
        writing.try_out(folder)
    except OSError as error:
        raise UsageError(
            f"this folder cannot be written: {error.strerror or error}.",
            remedy=f"Choose another {option}.",
            where=str(folder),
        ) from None


def _ledgers(request: Request) -> Path:
    named = request.ledgers or os.environ.get("ROBUSTNESS_GATE_LEDGERS")
    return Path(named) if named else request.out.parent / "ledgers"


# --- 3: trials run, and the ledger records them ----------------------------------------------------------------------


def _job(request: Request, prepared: Prepared, folder: Path) -> executors.Job:
    return executors.Job(
        suite_data=prepared.suite_data,
        places={subject.manifest.digest: subject.place for subject in prepared.plan.subjects},
        device=request.device,
        rows_in=folder / "rows",
        original=_original(prepared),
        limits=request.limits,
    )


def _original(prepared: Prepared) -> str | None:
    """The original's digest, if it is another model than the candidate."""
    digests = (each.manifest.digest for each in prepared.plan.subjects if each.role == Role.ORIGINAL)
    return next((each for each in digests if each != prepared.plan.candidate.manifest.digest), None)


def _workers(request: Request, candidate: plan.Subject) -> int:
    """The number of workers: several for a small model on the CPU, which gains little from threads; else one."""
    if request.workers:
        return request.workers
    weights = sum(entry.size for entry in candidate.manifest.files if entry.path.endswith(".safetensors"))
    alone = candidate.place.base is None  # an adapter is small, its base is not
    small = alone and weights < SMALL_MODEL_BYTES and request.device in ("auto", "cpu")
    return min(4, os.cpu_count() or 1) if small else 1


def _tokenizers(
    prepared: Prepared, ledger: ledgers.Ledger, original: str | None, crew: checked.Checked
) -> tuple[Prepared, tuple[str, ...]]:
    """Compare the candidate's tokenizer with the original's, unless the ledger has the comparison, and record it.

    Returns the plan, with one more trial if the two differ, and warnings. If nothing was compared, the judge finds no
    record, and that is no success.
    """
    subject, suite_data = prepared.plan.candidate.manifest.digest, prepared.suite_data
    if original is None and prepared.policy.record.tokenizer is None:  # nothing to compare with
        return prepared, ()
    tasks = {name: ref.sha256 for name, ref in suite_data.refs.items()}
    wanted = (subject, original, tasks, suite_data.data_digests)
    known = [c for c in ledger.tokenizers if (c.subject, c.reference, c.tasks, c.data) == wanted]
    if not known:
        found = crew.compare(subject)
        if isinstance(found, str):
            return prepared, (f"the candidate's tokenizer was compared with nothing: {found}",)
        ledger.append(found)
        known = [found]
    if original is None or not any(check.otherwise or check.templated for check in known):
        return prepared, ()
    more = plan.through_original(prepared.plan, suite_data, prepared.suite.record.dtype)
    first = sum(each.attack == "none" and each.role == Role.CANDIDATE for each in prepared.plan.trials)
    trials = (*prepared.plan.trials[:first], more, *prepared.plan.trials[first:])
    return replace(prepared, plan=replace(prepared.plan, trials=trials)), ()


def _open(ledger: ledgers.Ledger, prepared: Prepared, brought: Brought, device: str) -> None:
    """Record everything that is known before a trial runs: earlier releases, the plan, claims, self-tests, calibrations
    and the comparison of the weights.
    """
    subject, known = prepared.plan.candidate.manifest.digest, [*ledger.measurements, *ledger.closed]
    for record in (
        *(each for each in brought.anchored if each not in known),
        *prepared.plan.trials,
        _planned(prepared, _device(device)),
        *([ProducerClaims(subject=subject, claims=brought.claims)] if brought.claims else []),
        *(each for each in brought.tested if each not in ledger.self_tests),
        *(each for each in brought.calibrated if each not in ledger.calibrations),
        *_weights(prepared, ledger),
        *(each for each in _questions(prepared) if each not in ledger.questions),
    ):
        ledger.append(record)


def _device(wish: str) -> str:
    """The kind of device on which trials run."""
    from robustness_gate.engine.load import pick_device

    return pick_device(wish).type


def _weights(prepared: Prepared, ledger: ledgers.Ledger) -> Iterator[WeightsCheck]:
    """The candidate's weights compared with the original's, where the policy requires a calibration on it."""
    candidate = prepared.plan.candidate
    original = next((each for each in prepared.plan.subjects if each.role == Role.ORIGINAL), None)
    if prepared.policy.record.validity.calibration == "off" or original is None:
        return
    its = candidate.manifest.digest, original.manifest.digest
    if any((each.subject, each.reference) == its for each in ledger.weights):
        return
    from robustness_gate.engine.kinship import compare

    found = compare(candidate.place.base or candidate.place, original.place.base or original.place)
    yield WeightsCheck(subject=its[0], reference=its[1], **found._asdict())


def _questions(prepared: Prepared) -> Iterable[QuestionIds]:
    """Ids and clusters of the questions by which the judge joins and groups them."""
    return compared_by_clusters(prepared.policy.record, prepared.suite_data).values()


def _planned(prepared: Prepared, device: str) -> Planned:
    return Planned(
        subject=prepared.plan.candidate.manifest.digest,
        trials=tuple(trial.id for trial in prepared.trials),
        left_out=prepared.plan.left_out,
        model_type=model_type(prepared.plan.candidate.place),
        unread=unread(prepared.plan.candidate.place),
        stored=precision.stored(prepared.plan.candidate.place),
        device=device,
        policy=prepared.policy.sha256,
        suite=prepared.suite.sha256,
    )


def _run_trials(prepared: Prepared, ledger: ledgers.Ledger, crew: checked.Checked, watch: Watch) -> bool:
    """Run the trials that are not settled yet. Returns whether anything was run.

    A breach can end the run early, and a candidate that cannot be loaded always does, so that it is not tried again for
    every trial.

    Raises:
        NotLoaded: a checkpoint's files were refused, and there is no measurement that could be judged.
    """
    planned = prepared.plan.trials
    ids = {trial.id for trial in planned}
    fail_fast = prepared.policy.record.statistics.fail_fast != "off"

    def breached() -> bool:
        return fail_fast and _judge(prepared, ledger).outcome == "FAIL"

    todo = [] if breached() else [(t, ledger.attempts(t.id) + 1) for t in planned if not ledger.is_settled(t.id)]
    with _noted(prepared, ledger, crew), contextlib.closing(crew.execute(todo, breached)) as events:
        for event in events:
            lost = event.not_loaded
            if lost is not None and lost.by_files and not ledger.measurements:
                raise lost
            if event.record is not None:
                ledger.append(event.record)
            watch(event, sum(ledger.has_ended(each) for each in ids), len(ids))
            if lost is not None and event.trial.subject == prepared.plan.candidate.manifest.digest:
                break
    return bool(todo)


@contextlib.contextmanager
def _noted(prepared: Prepared, ledger: ledgers.Ledger, crew: checked.Checked) -> Iterator[None]:
    """Note in the ledger that its executor returned what cannot be true: else the next run would judge the rest."""
    try:
        yield
    except checked.BrokenExecutor as error:
        args = {"executor": crew.name, "what": error.message}
        subject = prepared.plan.candidate.manifest.digest
        ledger.append(Note(subject=subject, what=EvidenceIssue(code="executor_broken", args=args)))
        raise


# --- 4, 5: the checkpoint again, and the report ----------------------------------------------------------------------


def _changed(candidate: plan.Subject) -> EvidenceIssue | None:
    """A note if the checkpoint changed during the run; None if it did not."""
    try:
        after = manifest_of(candidate.place).digest
    except CheckpointError as error:
        return EvidenceIssue(code="checkpoint_unreadable", args={"reason": error.message})
    if after == candidate.manifest.digest:
        return None
    return EvidenceIssue(code="checkpoint_changed", args={"sha256": after})


def _judge(prepared: Prepared, ledger: ledgers.Ledger) -> Verdict:
    evidence = ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials)
    return verdict.judge(prepared.policy.record, evidence, datetime.now(UTC))


def _report(
    prepared: Prepared, ledger: ledgers.Ledger, preregistered: report.PreregisteredBefore | None
) -> report.Report:
    return report_build.make(
        prepared.policy,
        prepared.suite,
        prepared.plan.candidate.manifest,
        ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials),
        datetime.now(UTC),
        provenance=tuple(_provenance(prepared.plan.subjects)),
        preregistration=preregistered,
        machine=machine.described(),
    )


def _provenance(subjects: Sequence[plan.Subject]) -> Iterator[report.Origin]:
    for each in subjects:
        for place, base in ((each.place, False), (each.place.base, True)):
            if place is not None and place.source is not None:
                yield report.Origin(role=each.role, control=each.control, base=base, source=place.source)
