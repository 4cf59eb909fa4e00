"""The whole trip in one function: policy, suite and checkpoint in; verdict, evidence and report out.

The steps are numbered here and in `run`:

1. Check first that the results can be written.
2. Read and plan everything; nothing has run yet, and every user error ends here.
3. Compare the candidate's tokenizer with the original's. Run the trials that the checkpoint's ledger does not hold yet,
   and record each measurement before the attack continues. A policy may end the run at the first breach; the trials
   that were then not run are listed.
4. Digest the checkpoint again: if its directory changed during the run, this blocks a PASS.
5. Judge, build the report, and write it; beside it, what the trials took.
6. Publish: the outputs of plug-ins, and the tracker. If the tracker is down, this is a warning only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from robustness_gate import publish
from robustness_gate.errors import Exit, UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import imported
from robustness_gate.inputs.validation import load_record, load_texts
from robustness_gate.planning import checkpoints, plan
from robustness_gate.planning.compatibility import compared_by_clusters
from robustness_gate.planning.plan import Prepared
from robustness_gate.planning.prepare import USUAL, prepare
from robustness_gate.publish import delivery, outputs
from robustness_gate.records.calibration import Calibration
from robustness_gate.records.evidence import Note, ProducerClaims, SelfTest, SelfTests
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.report.anchors import anchor
from robustness_gate.running import checked, costs, executors, recording
from robustness_gate.running.recording import Watch
from robustness_gate.system import installed, machine, writing
from robustness_gate.system.bounded import Limits

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


def run(request: Request, watch: Watch = lambda *_: None, executor: str = USUAL) -> Outcome:
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
    job, workers = _job(request, prepared, folder), executors.workers(request.workers, request.device, candidate)
    with ledgers.writing(folder / ledgers.NAME) as ledger:
        _open(ledger, prepared, brought, request.device)  # first: an executor of others is named there before it runs
        with checked.start(executor, job, workers) as crew:
            # 3
            before, (prepared, problem) = prepared, recording.compare_tokenizers(prepared, ledger, crew)
            if prepared is not before:
                _open(ledger, prepared, brought, request.device)
            lines, unwritten = folder / costs.LINES, list[str]()
            with imported.as_errors():
                ran = recording.run_trials(prepared, ledger, crew, costs.noting(lines, watch, unwritten))
            # 4
            if ran and (changed := checkpoints.changed(candidate.place, candidate.manifest.digest)):
                ledger.append(Note(subject=candidate.manifest.digest, what=changed))
            # 5
            made = _report(prepared, ledger, brought.preregistered)
            lost = delivery.write(made, candidate.manifest, folder, request.out)
            unwritten += costs.write(lines, prepared, request.out)
        # 6
        sending = publish.Sending(request.out, request.checkpoint, request.tracking_uri)
        watched = (request.out, folder) if request.outputs else ()  # the ledger's lock keeps other runs from it
        with outputs.kept(*watched), imported.as_errors():
            outputs.write(request.outputs, made, request.out)
            uri, warnings = outputs.send(request.outputs, made, sending)
    return Outcome(made, request.out, folder / ledgers.NAME, uri, (*problem, *lost, *unwritten, *warnings))


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
        original=prepared.original,
        limits=request.limits,
    )


def _open(ledger: ledgers.Ledger, prepared: Prepared, brought: Brought, device: str) -> None:
    """Record everything that is known before a trial runs: earlier releases, the plan, claims, self-tests, calibrations
    and the comparison of the weights.
    """
    subject, known = prepared.plan.candidate.manifest.digest, [*ledger.measurements, *ledger.closed]
    for record in (
        *(each for each in brought.anchored if each not in known),
        *prepared.plan.trials,
        recording.planned(prepared, device),
        *([ProducerClaims(subject=subject, claims=brought.claims)] if brought.claims else []),
        *(each for each in brought.tested if each not in ledger.self_tests),
        *(each for each in brought.calibrated if each not in ledger.calibrations),
        *recording.compared_weights(prepared, ledger),
        *(each for each in _questions(prepared) if each not in ledger.questions),
    ):
        ledger.append(record)


def _questions(prepared: Prepared) -> Iterable[QuestionIds]:
    """Ids and clusters of the questions by which the judge joins and groups them."""
    return compared_by_clusters(prepared.policy.record, prepared.suite_data).values()


# --- 4, 5: the checkpoint again, and the report ----------------------------------------------------------------------


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
