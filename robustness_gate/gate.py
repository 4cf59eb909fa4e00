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
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from robustness_gate import organisms, verdict
from robustness_gate.errors import CheckpointError, Exit, PlanError, Unverified, UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import plugins, precision
from robustness_gate.inputs.checkpoint.adapter import named_base
from robustness_gate.inputs.checkpoint.fetch import fetch
from robustness_gate.inputs.checkpoint.manifest import Manifest, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, is_adapter, model_type
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.inputs.validation import Loaded, load_noun, load_said, load_suite, nearest
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData, gather
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import EvidenceIssue, Note, Planned, ProducerClaims, SelfTests
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role, Trial
from robustness_gate.records.verdict import Verdict
from robustness_gate.report import record as report
from robustness_gate.running import checked, executors
from robustness_gate.running.executors import Event
from robustness_gate.system import installed, writing
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


def run(request: Request, watch: Watch = lambda *_: None, executor: str = executors.OURS) -> Outcome:
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
    _check_writable(request.out, "--out")
    _check_writable(_ledgers(request), "--ledgers")
    _check_outputs(request)
    # 2
    prepared = prepare(
        request.policy, request.suite, request.checkpoint, request.original, request.controls, request.only,
        request.base, executor,
    )  # fmt: skip
    tested = load_noun(request.self_test, SelfTests).noun.tests if request.self_test else ()
    claims = load_said(request.statement) if request.statement else {}
    preregistered = _preregistered(request, prepared)
    anchored = [record for name, path in request.anchors for record in _anchor(prepared.policy, name, path)]
    prepared = replace(prepared, anchored=tuple(record for record in anchored if isinstance(record, Trial)))
    installed.require_run_extra()
    if request.device not in ("auto", "cpu"):
        from robustness_gate.engine.load import pick_device

        pick_device(request.device)
    candidate = prepared.plan.candidate
    folder = ledgers.home(_ledgers(request), candidate.manifest.digest)
    job, workers = _job(request, prepared, folder), _workers(request, candidate)
    with ledgers.writing(folder / ledgers.NAME) as ledger, checked.start(executor, job, workers) as crew:
        # 3
        prepared, problem = _tokenizers(prepared, ledger, job.original, crew)
        known = [*ledger.measurements, *ledger.closed]
        for record in (
            *(each for each in anchored if each not in known),
            *prepared.plan.trials,
            *_opening(prepared, claims),
            *(each for each in tested if each not in ledger.self_tests),
        ):
            ledger.append(record)
        with plugins.as_errors():
            ran = _run_trials(prepared, ledger, crew, watch)
        # 4
        if ran and (changed := _changed(candidate)):
            ledger.append(Note(subject=candidate.manifest.digest, what=changed))
        # 5
        made = _report(prepared, ledger, preregistered)
        lost = _write(made, candidate.manifest, folder, request.out)
    # 6
    uri, warnings = _publish(request, made)
    return Outcome(made, request.out, folder / ledgers.NAME, uri, (*problem, *lost, *warnings))


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


def _tokenizers(
    prepared: Prepared, ledger: ledgers.Ledger, original: str | None, crew: checked.Checked
) -> tuple[Prepared, tuple[str, ...]]:
    """Compare the candidate's tokenizer with the original's, unless the ledger has the comparison, and record it.

    Returns the plan, with one more trial if the two differ, and warnings. If nothing was compared, the judge finds no
    record, and that is no success.
    """
    subject, suite_data = prepared.plan.candidate.manifest.digest, prepared.suite_data
    if original is None and prepared.policy.noun.tokenizer is None:  # nothing to compare with
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
    more = plan.through_original(prepared.plan, suite_data, prepared.suite.noun.dtype)
    first = sum(each.attack == "none" and each.role == Role.CANDIDATE for each in prepared.plan.trials)
    trials = (*prepared.plan.trials[:first], more, *prepared.plan.trials[first:])
    return replace(prepared, plan=replace(prepared.plan, trials=trials)), ()


def _run_trials(prepared: Prepared, ledger: ledgers.Ledger, crew: checked.Checked, watch: Watch) -> bool:
    """Run the trials that are not settled yet. Returns whether anything was run.

    A breach can end the run early, and a candidate that cannot be loaded always does, so that it is not tried again for
    every trial.

    Raises:
        NotLoaded: a checkpoint's files were refused, and there is no measurement that could be judged.
    """
    planned = prepared.plan.trials
    ids = {trial.id for trial in planned}
    fail_fast = prepared.policy.noun.statistics.fail_fast != "off"

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


def _opening(prepared: Prepared, claims: dict[str, str]) -> Iterator[ledgers.Entry]:
    """The records that are written before anything runs: the plan, and the producer's claims."""
    subject = prepared.plan.candidate.manifest.digest
    yield Planned(
        subject=subject,
        trials=tuple(trial.id for trial in prepared.trials),
        left_out=prepared.plan.left_out,
        model_type=model_type(prepared.plan.candidate.place),
        unread=unread(prepared.plan.candidate.place),
        stored=precision.stored(prepared.plan.candidate.place),
        policy=prepared.policy.sha256,
        suite=prepared.suite.sha256,
    )
    if claims:
        yield ProducerClaims(subject=subject, claims=claims)


def _ledgers(request: Request) -> Path:
    named = request.ledgers or os.environ.get("ROBUSTNESS_GATE_LEDGERS")
    return Path(named) if named else request.out.parent / "ledgers"


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
    from robustness_gate.attestation import keys
    from robustness_gate.attestation import preregistration as preregistrations

    found = preregistrations.read_preregistration(
        request.preregistration, [keys.any_public_key(request.preregistration_key)]
    )
    data = prepared.suite_data
    here = preregistrations.make(
        prepared.policy, prepared.suite, data.refs, data.data_digests, prepared.plan.trials, datetime.now(UTC)
    )
    if other := preregistrations.differences(found.terms, here):
        raise Unverified(
            f"{'; '.join(map(preregistrations.described, other))}.",
            remedy="Preregister what you want to run.",
            where=str(request.preregistration),
        )
    return report.PreregisteredBefore(sha256=found.sha256, key=found.key.id, at=found.terms.preregistered_at)


def _anchor(policy: Loaded[Policy], name: str, path: Path) -> list[ledgers.Entry]:
    """The records of an earlier release, as records of a control.

    Raises:
        PlanError: the policy has no such control, or pins another report.
    """
    control = policy.noun.controls.get(name)
    if control is None or control.kind != "earlier_release":
        known = [each for each, c in policy.noun.controls.items() if c.kind == "earlier_release"]
        raise PlanError(
            f"the policy has no earlier release '{name}'.",
            remedy=nearest(name, known) if known else "Add it under 'controls'.",
            where=policy.where("controls"),
        )
    found = report.read(path)
    if sha256_file(report.file_of(path)) != control.report_sha256:
        raise PlanError(
            f"the policy pins another report of '{name}': this one has {sha256_file(report.file_of(path))}.",
            remedy="Name the report that the policy names.",
            where=policy.where("controls", name, "report_sha256"),
        )
    return [*report.as_control(found, name)]


def prepare(
    policy_path: Path,
    suite_path: Path,
    checkpoint: str,
    original: str | None = None,
    controls: Sequence[tuple[str, str]] = (),
    only: Sequence[str] = (),
    base: str | None = None,
    executor: str = executors.OURS,
) -> Prepared:
    """Read and plan: steps that need neither torch nor a GPU. Raises GateError for every user error."""
    with plugins.as_errors():
        return _prepare(policy_path, suite_path, checkpoint, original, controls, only, base, executor)


def _prepare(
    policy_path: Path,
    suite_path: Path,
    checkpoint: str,
    original: str | None,
    controls: Sequence[tuple[str, str]],
    only: Sequence[str],
    base: str | None,
    executor: str,
) -> Prepared:
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


def find_checkpoint(named: str, base: str | None = None) -> CheckpointRef:
    """The location of a checkpoint, and of its base if it is an adapter.

    Args:
        named: a directory, a commit of a Hugging Face repository as `hf://OWNER/NAME@COMMIT`, or `organism:NAME`.
        base: the same, for the base of an adapter; None: the one that the adapter's config names, if it is a local
            directory or pinned to a commit.

    Raises:
        UsageError: the name does not exist, the commit is not given in full, or a base is given without an adapter.
        CheckpointError: the commit is not available, or an adapter's base is not known.
    """
    found = _find(named)
    if not is_adapter(found):
        if base is not None and found.path.is_dir():  # a missing directory is reported when it is read
            raise UsageError(f"--base was given, and {named} is not an adapter.", remedy="Leave --base out.")
        return found
    under = _find(base if base is not None else named_base(found))
    if is_adapter(under):
        raise UsageError("the base is an adapter itself.", remedy="Merge it into its own base and name the result.")
    return replace(found, base=under)


def _find(named: str) -> CheckpointRef:
    if named.startswith("hf:"):
        return fetch(named)
    if named.startswith("organism:"):
        return CheckpointRef(organisms.checkpoint(named.removeprefix("organism:")), source=named)
    return CheckpointRef(Path(named))


def _judge(prepared: Prepared, ledger: ledgers.Ledger) -> Verdict:
    evidence = ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials)
    return verdict.judge(prepared.policy.noun, evidence, datetime.now(UTC))


def _report(
    prepared: Prepared, ledger: ledgers.Ledger, preregistered: report.PreregisteredBefore | None
) -> report.Report:
    return report.make(
        prepared.policy,
        prepared.suite,
        prepared.plan.candidate.manifest,
        ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials),
        datetime.now(UTC),
        provenance=tuple(_provenance(prepared.plan.subjects)),
        preregistration=preregistered,
        machine=_machine(),
    )


def _machine() -> dict[str, str]:
    """The GPUs with their driver, and the container's image digest from $ROBUSTNESS_GATE_IMAGE, if it is set."""
    found = {}
    if image := os.environ.get("ROBUSTNESS_GATE_IMAGE"):
        found["image"] = image
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            output = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            found["gpu"] = f"nvidia-smi does not answer: {type(error).__name__}"
        else:
            found["gpu"] = "; ".join(line.strip() for line in output.splitlines() if line.strip())
    return found


def _provenance(subjects: Sequence[plan.Subject]) -> Iterator[report.Origin]:
    for each in subjects:
        for place, base in ((each.place, False), (each.place.base, True)):
            if place is not None and place.source is not None:
                yield report.Origin(role=each.role, control=each.control, base=base, source=place.source)


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


def _workers(request: Request, candidate: plan.Subject) -> int:
    """The number of workers: several for a small model on the CPU, which gains little from threads; else one."""
    if request.workers:
        return request.workers
    weights = sum(entry.size for entry in candidate.manifest.files if entry.path.endswith(".safetensors"))
    alone = candidate.place.base is None  # an adapter is small, its base is not
    small = alone and weights < SMALL_MODEL_BYTES and request.device in ("auto", "cpu")
    return min(4, os.cpu_count() or 1) if small else 1


def _check_outputs(request: Request) -> None:
    """Check that the requested publishers are installed, without importing them. Raises PlanError."""
    from robustness_gate import publish

    for name in request.outputs:
        publish.check(name)


def _changed(candidate: plan.Subject) -> EvidenceIssue | None:
    """A note if the checkpoint changed during the run; None if it did not."""
    try:
        after = manifest_of(candidate.place).digest
    except CheckpointError as error:
        return EvidenceIssue(code="checkpoint_unreadable", args={"reason": error.message})
    if after == candidate.manifest.digest:
        return None
    return EvidenceIssue(code="checkpoint_changed", args={"sha256": after})


def _write(made: report.Report, manifest: Manifest, ledger: Path, folder: Path) -> tuple[str, ...]:
    """Write report and evidence into the run's folder, all or nothing. Returns warnings about missing evidence.

    Raises:
        WriteError: it cannot be written. The earlier files are unchanged.
    """
    from robustness_gate import publish  # `plan` does not need templates

    contents = {
        "report.json": encode(made),
        **publish.files(made),
        "checkpoint.manifest.json": encode(manifest),
        ledgers.NAME: (ledger / ledgers.NAME).read_bytes(),
    }
    remedy = f"Every answer is in {ledger / ledgers.NAME}: make room, and give the same command again."
    lost = _keep_rows(made, ledger, folder, remedy)
    writing.together(folder, contents, remedy=remedy)
    return lost


def _keep_rows(made: report.Report, ledger: Path, folder: Path, remedy: str) -> tuple[str, ...]:
    """Copy the log-likelihoods that the report names into its folder. Returns a warning if the ledger lacks some."""
    digests = sorted(
        {measurement.rows for record in made.trials for measurement in record.measurements if measurement.rows}
    )
    lost = []
    for digest in digests:
        name = f"{digest}.safetensors"
        if (folder / "rows" / name).is_file():
            continue
        kept = ledger / "rows" / name
        raw = kept.read_bytes() if kept.is_file() else b""
        if hashlib.sha256(raw).hexdigest() == digest:
            writing.whole(folder / "rows" / name, raw, remedy=remedy)
        else:
            lost.append(digest)
    if not lost:
        return ()
    return (
        f"{len(lost)} of {len(digests)} files of log-likelihoods are gone from {ledger / 'rows'}, or do not match "
        f"their name, {lost[0][:12]} among them. The verdict rests on the ledger's answers and stands.",
    )


def _publish(request: Request, made: report.Report) -> tuple[str | None, tuple[str, ...]]:
    """Send the report, and write the files of plug-ins. Returns the first destination, and warnings."""
    from robustness_gate import publish
    from robustness_gate.publish import outputs

    sending = publish.Sending(request.out, request.checkpoint, request.tracking_uri)
    with outputs.kept(request.out), plugins.as_errors():
        outputs.write(request.outputs, made, request.out)
        return outputs.send(request.outputs, made, sending)
