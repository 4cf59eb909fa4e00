"""The whole trip in one function: policy, suite and checkpoint in; verdict, evidence and report out.

The steps are numbered here and in `run`:

1. Find out now whether the results can be written at all.
2. Read and plan everything; nothing has been run yet, and every mistake of the user's ends here.
3. Run what the ledger does not hold yet, writing each mark down before the attack goes on.
4. Look at the checkpoint again: evidence about a directory that changed under our hands blocks a PASS.
5. Judge, report, write the report down.
6. Tell the tracker. If it is down that is a warning; the verdict stands.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from robustness_gate import ledger as ledgers
from robustness_gate import organisms, plan, report, verdict
from robustness_gate.checkpoint import Manifest, Place, fetch, is_adapter, manifest_of, named_base
from robustness_gate.errors import CheckpointError, Exit, GateError, SetupError, UsageError
from robustness_gate.executors import Event, local
from robustness_gate.files import Loaded, load_suite
from robustness_gate.language import load_policy
from robustness_gate.nouns import Note, Suite, canonical
from robustness_gate.policy import Policy

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
    base: str | None = None
    """What `checkpoint` stands on where it is an adapter; by default what its own config names."""
    device: str = "auto"
    workers: int = 0
    """Trials side by side; 0 is one a core for a small model on the CPU, else one."""
    tracking_uri: str | None = None
    """None: the environment's MLFLOW_TRACKING_URI, else a SQLite store beside `out`. Empty: no tracker."""


@dataclass(frozen=True)
class Prepared:
    """Everything read and planned; nothing run."""

    policy: Loaded[Policy]
    suite: Loaded[Suite]
    materials: plan.Materials
    plan: plan.Plan


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    report: report.Report
    folder: Path
    tracking_uri: str | None
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
        GateError: whatever the user can mend: files, arguments, a checkpoint that is refused, a missing extra.
    """
    # 1
    _check_writable(request.out)
    # 2
    prepared = prepare(
        request.policy, request.suite, request.checkpoint, request.original, request.controls, request.only,
        request.base,
    )  # fmt: skip
    _check_installed()
    if request.device not in ("auto", "cpu"):
        from robustness_gate.engine.load import pick_device

        pick_device(request.device)
    candidate = prepared.plan.candidate
    ids = {trial.id for trial in prepared.plan.trials}
    with ledgers.writing(request.out / "ledger.jsonl") as ledger:
        # 3
        for trial in prepared.plan.trials:
            ledger.append(trial)
        todo = [(t, ledger.attempts(t.id) + 1) for t in prepared.plan.trials if not ledger.is_closed(t.id)]
        job = local.Job(
            materials=prepared.materials,
            places={subject.manifest.digest: subject.place for subject in prepared.plan.subjects},
            device=request.device,
            rows_in=request.out / "rows",
        )
        with contextlib.closing(local.execute(job, todo, _workers(request, candidate))) as events:
            for event in events:
                if event.record is not None:
                    ledger.append(event.record)
                watch(event, sum(ledger.is_closed(each) for each in ids), len(ids))
        # 4
        if todo and (changed := _changed(candidate)):
            ledger.append(Note(subject=candidate.manifest.digest, text=changed))
        # 5
        made = _report(prepared, ledger)
    _write(made, candidate.manifest, request.out)
    # 6
    uri, warnings = _track(request, made)
    return Outcome(made, request.out, uri, warnings)


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
    materials = plan.gather(suite)
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


def _report(prepared: Prepared, ledger: ledgers.Ledger) -> report.Report:
    candidate = prepared.plan.candidate
    evidence = ledger.evidence(candidate.manifest.digest, plan.of_candidate(prepared.plan))
    judged = verdict.judge(prepared.policy.noun, evidence, datetime.now(UTC))
    beside = []
    for subject in prepared.plan.subjects[1:]:
        trials = [trial for trial in prepared.plan.trials if trial.role == subject.role]
        records = [report.record_of(trial, ledger.marks, ledger.closed) for trial in trials]
        beside.append((subject.role, subject.manifest.digest, records))
    return report.make(
        prepared.policy,
        prepared.suite,
        candidate.manifest,
        evidence,
        judged,
        beside=beside,
        left_out=prepared.plan.left_out,
        provenance=_provenance(prepared.plan.subjects),
    )


def _provenance(subjects: Sequence[plan.Subject]) -> dict[str, str]:
    places = {subject.role: subject.place for subject in subjects}
    places |= {f"{role}/base": place.base for role, place in places.items() if place.base is not None}
    return {role: place.source for role, place in places.items() if place.source is not None}


def _check_writable(folder: Path) -> None:
    """Better now than after hours: make the folder and put a file into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"the output folder cannot be written: {error.strerror or error}.", remedy="Choose another --out.",
            where=str(folder),
        ) from None  # fmt: skip


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


def _write(made: report.Report, manifest: Manifest, folder: Path) -> None:
    from robustness_gate.publish import html, junit, markdown  # templates are of no use to `plan`

    for name, content in (
        ("report.json", canonical(made.model_dump(mode="json", by_alias=True))),
        ("report.md", markdown.render(made).encode()),
        ("report.html", html.render(made).encode()),
        ("report.junit.xml", junit.render(made)),
        ("checkpoint.manifest.json", canonical(manifest.model_dump(mode="json"))),
    ):
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)


def _track(request: Request, made: report.Report) -> tuple[str | None, tuple[str, ...]]:
    from robustness_gate.publish import mlflow

    if request.tracking_uri == "":
        return None, ()
    store = mlflow.local_store(request.out.resolve().parent)
    uri = request.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store
    name = request.checkpoint.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    try:
        mlflow.publish(made, request.out, tracking_uri=uri, name=name)
    except GateError as error:
        return None, (f"nothing was logged to MLflow: {error}",)
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way; it is told, and the verdict stands
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return None, (f"MLflow at {uri} could not be written, the verdict stands: {first[:200]}",)
    return uri, ()
