"""The whole trip in one function: policy, suite and checkpoint in; verdict, evidence and report out.

The steps are numbered here and in `run`:

1. Find out now whether the results can be written at all.
2. Read and plan everything; nothing has been run yet, and every mistake of the user's ends here.
3. Compare the candidate's tokenizer with the original's. Run what the checkpoint's ledger does not hold yet, writing
   each mark down before the attack goes on. A policy may end the run at the first proven breach; what was then not run
   is listed.
4. Look at the checkpoint again: evidence about a directory that changed under our hands blocks a PASS.
5. Judge, report, write the report down.
6. Tell the tracker. If it is down that is a warning; the verdict stands.
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
from typing import TYPE_CHECKING, Any

from robustness_gate import ledger as ledgers
from robustness_gate import organisms, plan, precision, redaction, report, verdict, writing
from robustness_gate.bounded import Limits
from robustness_gate.checkpoint import Manifest, Place, fetch, is_adapter, manifest_of, model_type, named_base, unread
from robustness_gate.errors import CheckpointError, Exit, GateError, PlanError, SetupError, Unverified, UsageError
from robustness_gate.executors import Event
from robustness_gate.files import Loaded, load_noun, load_said, load_suite, nearest, sha256_file
from robustness_gate.language import load_policy
from robustness_gate.materials import Materials, gather
from robustness_gate.nouns import Note, Planned, SelfTests, Statement, Suite, Trial, Verdict
from robustness_gate.policy import Policy

if TYPE_CHECKING:
    from robustness_gate.executors import local

SMALL_MODEL_BYTES = 50_000_000
EXIT = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}


@dataclass(frozen=True)
class Request:
    """What a user asks for. A checkpoint is a directory, `hf://OWNER/NAME@COMMIT` or `organism:NAME`."""

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
    """What the producer states about the checkpoint: a YAML mapping of names to texts."""
    self_test: Path | None = None
    """What `robustness-gate self-test` left behind."""
    seal: Path | None = None
    """A seal under which this run is made; what lies here must be what was sealed."""
    seal_key: Path | None = None
    """The public key of whoever sealed it."""
    ledgers: Path | None = None
    """Where ledgers are kept, one a checkpoint; None: $ROBUSTNESS_GATE_LEDGERS, else `ledgers` beside `out`."""
    base: str | None = None
    """What `checkpoint` stands on where it is an adapter; by default what its own config names."""
    device: str = "auto"
    workers: int = 0
    """Trials side by side; 0 is one a core for a small model on the CPU, else one."""
    limits: Limits = field(default_factory=Limits)
    """How long loading, a text and a trial may take."""
    tracking_uri: str | None = None
    """None: the environment's MLFLOW_TRACKING_URI, else a SQLite store beside `out`. Empty: no tracker."""


@dataclass(frozen=True)
class Prepared:
    """Everything read and planned; nothing run."""

    policy: Loaded[Policy]
    suite: Loaded[Suite]
    materials: Materials
    plan: plan.Plan
    anchored: tuple[Trial, ...] = ()
    """Trials of earlier releases, from their reports."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that the verdict may rest on."""
        return (*self.plan.trials, *self.anchored)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    report: report.Report
    folder: Path
    ledger: Path
    tracking_uri: str | None
    """Where it was logged, without credentials; None where it was not."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> Exit:
        """0 PASS, 3 FAIL, 4 INCONCLUSIVE."""
        return EXIT[self.report.verdict.outcome]


Watch = Callable[[Event, int, int], None]
"""Called for every event with the number of closed trials and of all; for progress only."""


def run(request: Request, watch: Watch = lambda *_: None) -> Outcome:
    """Take one checkpoint through the gate.

    Raises:
        GateError: whatever the user can mend: files, arguments, a checkpoint that is refused, a missing extra, a full
            disk. Then no empty folder is left, and what the ledger holds is found by the next run.
    """
    with writing.nothing_empty(request.out, _ledgers(request)):
        return _trip(request, watch)


def _trip(request: Request, watch: Watch) -> Outcome:
    # 1
    _check_writable(request.out, "--out")
    _check_writable(_ledgers(request), "--ledgers")
    # 2
    prepared = prepare(
        request.policy, request.suite, request.checkpoint, request.original, request.controls, request.only,
        request.base,
    )  # fmt: skip
    tested = load_noun(request.self_test, SelfTests).noun.tests if request.self_test else ()
    said = load_said(request.statement) if request.statement else {}
    sealed = _sealed(request, prepared)
    anchored = [record for name, path in request.anchors for record in _anchor(prepared.policy, name, path)]
    prepared = replace(prepared, anchored=tuple(record for record in anchored if isinstance(record, Trial)))
    _check_installed()
    if request.device not in ("auto", "cpu"):
        from robustness_gate.engine.load import pick_device

        pick_device(request.device)
    candidate = prepared.plan.candidate
    folder = ledgers.home(_ledgers(request), candidate.manifest.digest)
    with ledgers.writing(folder / ledgers.NAME) as ledger:
        # 3
        job = _job(request, prepared, folder)
        prepared, started, problem = _tokenizers(prepared, ledger, job)
        known = [*ledger.marks, *ledger.closed]
        for record in (
            *(each for each in anchored if each not in known),
            *prepared.plan.trials,
            *_opening(prepared, said),
            *(each for each in tested if each not in ledger.self_tests),
        ):
            ledger.append(record)
        ran = _run_trials(request, prepared, ledger, job, started, watch)
        # 4
        if ran and (changed := _changed(candidate)):
            ledger.append(Note(subject=candidate.manifest.digest, text=changed))
        # 5
        made = _report(prepared, ledger, sealed)
        lost = _write(made, candidate.manifest, folder, request.out)
    # 6
    uri, warnings = _track(request, made)
    return Outcome(made, request.out, folder / ledgers.NAME, uri, (*problem, *lost, *warnings))


def _job(request: Request, prepared: Prepared, folder: Path) -> local.Job:
    from robustness_gate.executors import local  # with multiprocessing, of which `plan` has no use

    return local.Job(
        materials=prepared.materials,
        places={subject.manifest.digest: subject.place for subject in prepared.plan.subjects},
        device=request.device,
        rows_in=folder / "rows",
        original=_original(prepared),
        limits=request.limits,
    )


def _original(prepared: Prepared) -> str | None:
    """The original's digest, where it is another model than the candidate."""
    digests = (each.manifest.digest for each in prepared.plan.subjects if each.role == "original")
    return next((each for each in digests if each != prepared.plan.candidate.manifest.digest), None)


def _tokenizers(
    prepared: Prepared, ledger: ledgers.Ledger, job: local.Job
) -> tuple[Prepared, list[Any], tuple[str, ...]]:
    """Compare the candidate's tokenizer with the original's, unless the ledger knows, and write it down.

    Returns what is planned, with one trial more where the two differ; the worker that compared; and what went wrong, in
    words. Where nothing was compared the judge finds no record, and that is no success.
    """
    from robustness_gate.executors import local

    subject, materials, original = prepared.plan.candidate.manifest.digest, prepared.materials, job.original
    if original is None and prepared.policy.noun.tokenizer is None:  # nothing to compare with
        return prepared, [], ()
    tasks = {name: ref.sha256 for name, ref in materials.refs.items()}
    wanted = (subject, original, tasks, materials.data_digests)
    known = [c for c in ledger.tokenizers if (c.subject, c.reference, c.tasks, c.data) == wanted]
    started = []
    if not known:
        worker = local.hire(job)
        started.append(worker)
        found = worker.compare(subject)
        if isinstance(found, str):
            return prepared, started, (f"the candidate's tokenizer was compared with nothing: {found}",)
        ledger.append(found)
        known = [found]
    if original is None or not any(check.otherwise or check.templated for check in known):
        return prepared, started, ()
    more = plan.through_original(prepared.plan, materials, prepared.suite.noun.dtype)
    first = sum(each.attack == "none" and each.role == "candidate" for each in prepared.plan.trials)
    trials = (*prepared.plan.trials[:first], more, *prepared.plan.trials[first:])
    return replace(prepared, plan=replace(prepared.plan, trials=trials)), started, ()


def _run_trials(
    request: Request, prepared: Prepared, ledger: ledgers.Ledger, job: local.Job, started: Sequence[Any], watch: Watch
) -> bool:
    """Run what is not closed yet. Returns whether anything was run.

    A proven breach may end it, and a candidate that cannot be loaded does: nothing is then tried again and again.

    Raises:
        NotLoaded: a checkpoint's files were refused, and nothing was ever measured that could be judged.
    """
    from robustness_gate.executors import local  # with multiprocessing, of which `plan` has no use

    planned = prepared.plan.trials
    ids = {trial.id for trial in planned}
    fail_fast = prepared.policy.noun.statistics.fail_fast != "off"

    def breached() -> bool:
        return fail_fast and _judge(prepared, ledger).outcome == "FAIL"

    todo = [] if breached() else [(t, ledger.attempts(t.id) + 1) for t in planned if not ledger.is_settled(t.id)]
    workers = _workers(request, prepared.plan.candidate)
    idle = {"idle": started} if started else {}
    with contextlib.closing(local.execute(job, todo, workers, breached, **idle)) as events:
        for event in events:
            lost = event.not_loaded
            if lost is not None and lost.by_files and not ledger.marks:
                raise lost
            if event.record is not None:
                ledger.append(event.record)
            watch(event, sum(ledger.has_ended(each) for each in ids), len(ids))
            if lost is not None and event.trial.subject == prepared.plan.candidate.manifest.digest:
                break
    return bool(todo)


def _opening(prepared: Prepared, said: dict[str, str]) -> Iterator[ledgers.Record]:
    """What is written down before anything runs: what is planned, and what the producer says."""
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
    if said:
        yield Statement(subject=subject, says=said)


def _ledgers(request: Request) -> Path:
    named = request.ledgers or os.environ.get("ROBUSTNESS_GATE_LEDGERS")
    return Path(named) if named else request.out.parent / "ledgers"


def _sealed(request: Request, prepared: Prepared) -> report.SealedBefore | None:
    """The seal under which this run is made.

    Raises:
        UsageError: a seal without the key of whoever sealed, or the key without the seal.
        Unverified: somebody else signed it, it was changed, or what lies here is not what was sealed.
    """
    if request.seal is None or request.seal_key is None:
        if (request.seal is None) != (request.seal_key is None):
            raise UsageError("a seal and its key go together.", remedy="Give both --seal and --seal-key.")
        return None
    from robustness_gate import attest, seal

    found = seal.read_seal(request.seal, [attest.any_public_key(request.seal_key)])
    data = prepared.materials
    here = seal.make(
        prepared.policy, prepared.suite, data.refs, data.data_digests, prepared.plan.trials, datetime.now(UTC)
    )
    if other := seal.differences(found.terms, here):
        raise Unverified(f"{'; '.join(other)}.", remedy="Seal what you mean to run.", where=str(request.seal))
    return report.SealedBefore(sha256=found.sha256, key=found.key.id, at=found.terms.sealed_at)


def _anchor(policy: Loaded[Policy], name: str, path: Path) -> list[ledgers.Record]:
    """The records of an earlier release, as those of a control.

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
) -> Prepared:
    """Read and plan: steps that need neither torch nor a GPU. Raises GateError for every mistake of the user's."""
    policy, suite = load_policy(policy_path), load_suite(suite_path)
    materials = gather(suite)
    roles = [("candidate", checkpoint), *([("original", original)] if original else [])]
    roles += [(f"control:{name}", place) for name, place in controls]
    subjects = []
    for role, place in roles:
        found = find_checkpoint(place, base if role == "candidate" else None)
        subjects.append(plan.Subject(role, found, manifest_of(found)))
    return Prepared(policy, suite, materials, plan.make(policy, suite, materials, subjects, only=only))


def find_checkpoint(named: str, base: str | None = None) -> Place:
    """Where a checkpoint lies, and what it stands on where it is an adapter.

    Args:
        named: a directory, a commit of a Hugging Face repository as `hf://OWNER/NAME@COMMIT`, or `organism:NAME`.
        base: the same, for the base of an adapter; None takes the one that the adapter's config names, if that is a
            directory here or pinned to a commit.

    Raises:
        UsageError: there is none of that name, the commit is not given in full, or a base is given without an adapter.
        CheckpointError: the commit cannot be had, or an adapter's base cannot be told.
    """
    found = _find(named)
    if not is_adapter(found):
        if base is not None and found.path.is_dir():  # one that is not there is told of when it is read
            raise UsageError(f"--base was given, and {named} is not an adapter.", remedy="Leave --base out.")
        return found
    under = _find(base if base is not None else named_base(found))
    if is_adapter(under):
        raise UsageError("the base is an adapter itself.", remedy="Merge it into its own base and name the result.")
    return replace(found, base=under)


def _find(named: str) -> Place:
    if named.startswith("hf:"):
        return fetch(named)
    if named.startswith("organism:"):
        return Place(organisms.checkpoint(named.removeprefix("organism:")), source=named)
    return Place(Path(named))


def _judge(prepared: Prepared, ledger: ledgers.Ledger) -> Verdict:
    evidence = ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials)
    return verdict.judge(prepared.policy.noun, evidence, datetime.now(UTC))


def _report(prepared: Prepared, ledger: ledgers.Ledger, sealed: report.SealedBefore | None) -> report.Report:
    return report.make(
        prepared.policy,
        prepared.suite,
        prepared.plan.candidate.manifest,
        ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials),
        datetime.now(UTC),
        provenance=_provenance(prepared.plan.subjects),
        seal=sealed,
        machine=_machine(),
    )


def _machine() -> dict[str, str]:
    """The graphics cards with their driver, and the container's image where $ROBUSTNESS_GATE_IMAGE names its digest."""
    found = {}
    if image := os.environ.get("ROBUSTNESS_GATE_IMAGE"):
        found["image"] = image
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        try:
            told = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            found["gpu"] = f"nvidia-smi does not answer: {type(error).__name__}"
        else:
            found["gpu"] = "; ".join(line.strip() for line in told.splitlines() if line.strip())
    return found


def _provenance(subjects: Sequence[plan.Subject]) -> dict[str, str]:
    places = {subject.role: subject.place for subject in subjects}
    places |= {f"{role}/base": place.base for role, place in places.items() if place.base is not None}
    return {role: place.source for role, place in places.items() if place.source is not None}


def _check_writable(folder: Path, option: str) -> None:
    """Better now than after hours: make the folder and put a file into it."""
    try:
        writing.try_out(folder)
    except OSError as error:
        raise UsageError(
            f"this folder cannot be written: {error.strerror or error}.",
            remedy=f"Choose another {option}.",
            where=str(folder),
        ) from None


def _workers(request: Request, candidate: plan.Subject) -> int:
    """A small model gains nothing from a second thread and much from a second process; a large one needs it all."""
    if request.workers:
        return request.workers
    weights = sum(entry.size for entry in candidate.manifest.files if entry.path.endswith(".safetensors"))
    alone = candidate.place.base is None  # an adapter is small, what it stands on is not
    small = alone and weights < SMALL_MODEL_BYTES and request.device in ("auto", "cpu")
    return min(4, os.cpu_count() or 1) if small else 1


def _check_installed() -> None:
    import importlib.util

    for name in ("torch", "transformers", "peft", "safetensors"):
        if importlib.util.find_spec(name) is None:
            raise SetupError(f"{name} is not installed.", remedy="Running attacks needs robustness-gate[run].")


def _changed(candidate: plan.Subject) -> str:
    """What to note about a checkpoint that is not what it was before the run; empty if it is."""
    try:
        after = manifest_of(candidate.place).digest
    except CheckpointError as error:
        return f"the checkpoint cannot be read any more after the run: {error.message}"
    return "" if after == candidate.manifest.digest else f"the checkpoint changed during the run: it is now {after}"


def _write(made: report.Report, manifest: Manifest, ledger: Path, folder: Path) -> tuple[str, ...]:
    """Report and evidence into the folder of the run, all or nothing. Returns what the evidence has lost, in words.

    Raises:
        WriteError: it cannot be written. What lay there before lies there still.
    """
    from robustness_gate.publish import html, junit, markdown  # templates are of no use to `plan`

    contents = {
        "report.json": made.written,
        "report.md": markdown.render(made).encode(),
        "report.html": html.render(made).encode(),
        "report.junit.xml": junit.render(made),
        "checkpoint.manifest.json": manifest.written,
        ledgers.NAME: (ledger / ledgers.NAME).read_bytes(),
    }
    remedy = f"Every answer is in {ledger / ledgers.NAME}: make room, and give the same command again."
    lost = _keep_rows(made, ledger, folder, remedy)
    writing.together(folder, contents, remedy=remedy)
    return lost


def _keep_rows(made: report.Report, ledger: Path, folder: Path, remedy: str) -> tuple[str, ...]:
    """The log-likelihoods that the report names, beside it; which of them are not in the ledger's folder, in words."""
    digests = sorted({mark.rows for record in made.trials for mark in record.marks if mark.rows})
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
        f"{len(lost)} of {len(digests)} files of log-likelihoods are gone from {ledger / 'rows'}, or not what their "
        f"name says, {lost[0][:12]} among them. The verdict rests on the ledger's answers and stands.",
    )


def _track(request: Request, made: report.Report) -> tuple[str | None, tuple[str, ...]]:
    from robustness_gate.publish import mlflow

    if request.tracking_uri == "":
        return None, ()
    store = mlflow.local_store(request.out.resolve().parent)
    uri = request.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store
    name = request.checkpoint.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    shown = redaction.place(uri)
    try:
        with redaction.strangers_words(uri):
            mlflow.publish(made, request.out, tracking_uri=uri, name=name)
    except GateError as error:
        return None, (f"nothing was logged to MLflow: {redaction.message(str(error), uri)}",)
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way; it is told, and the verdict stands
        words = redaction.message(str(error), uri).strip().splitlines() or [type(error).__name__]
        return None, (f"MLflow at {shown} could not be written, the verdict stands: {words[0][:200]}",)
    return shown, ()
