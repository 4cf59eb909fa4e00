"""An MLflow run for each verdict: a parent with the outcome, a child for each trial, the report as an artifact.

MLflow is a view; the ledger and the report are the record. A FAIL is still a FINISHED run, because the program did its
work; only a trial that crashed is a FAILED child. The store is named explicitly: since 3.13 MLflow refuses the bare
file store, and a store in the current directory is no place for evidence.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from robustness_gate.errors import GateError, SetupError
from robustness_gate.evidence.ledger import OWN
from robustness_gate.publish import NotSent, Sending, facts, markdown
from robustness_gate.publish.instruments import instruments
from robustness_gate.publish.took import read, totals
from robustness_gate.records.cost import NAME as COSTS
from robustness_gate.records.cost import AttemptCost
from robustness_gate.records.trial import ModelRef, Role
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.report.table import NOT_ASKED, headline
from robustness_gate.system import redaction, writing
from robustness_gate.verdict import strongest, tally
from robustness_gate.verdict.wording import model_name

EXPERIMENT = "robustness-gate"
PATIENCE = 120.0
"""Seconds for which a run waits while others log to the same embedded store; then it continues without the lock."""
SCHEMA_RACE = re.compile(
    r"already exists|duplicate column|UNIQUE constraint|no such table|database is locked", re.IGNORECASE
)
"""Error messages of databases while another run creates the same tables."""
NOT_A_DATABASE = ("http://", "https://", "databricks", "file:")
TRIES = 5
"""Attempts to open a store that another run is creating at the same moment."""


def local_store(folder: Path) -> str:
    """The URI of the embedded store in a folder: one SQLite file."""
    return f"sqlite:///{(folder / 'mlflow.db').resolve()}"


SENDS = "MLflow"


def send(report: Report, sending: Sending) -> str | None:
    """Log a report; returns the store's address without credentials, or None if no tracker is wanted.

    Raises:
        NotSent: it could not be logged; the verdict does not change.
    """
    if sending.tracking_uri == "":
        return None
    store = local_store(sending.folder.resolve().parent)
    uri = sending.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or store
    name = sending.checkpoint.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    shown = redaction.place(uri)
    try:
        with redaction.strangers_words(uri):
            publish(report, sending.folder, tracking_uri=uri, name=name)
    except GateError as error:
        raise NotSent(f"nothing was logged to MLflow: {redaction.message(str(error), uri)}") from None
    except Exception as error:  # noqa: BLE001 - a tracker may fail in any way; this is a warning only
        lines = redaction.message(str(error), uri).strip().splitlines() or [type(error).__name__]
        raise NotSent(f"MLflow at {shown} could not be written, the verdict stands: {lines[0][:200]}") from None
    return shown


def publish(report: Report, files: Path, *, tracking_uri: str, experiment: str = EXPERIMENT, name: str = "") -> str:
    """Log a report and return the id of its parent run.

    Several runs can log to one store at once, also if the store does not exist yet: for an embedded store one creates
    the tables while the others wait; for a server the request is repeated if another run was faster.

    Args:
        report: what to log.
        files: the folder with report.json, report.md, and cost.json where there is one.
        tracking_uri: any MLflow tracking URI.
        experiment: created if it does not exist.
        name: the checkpoint's name, for the parent run's title; by default its digest.

    Raises:
        SetupError: MLflow is not installed.
        WriteError: the embedded store does not exist and cannot be created.
        Exception: whatever MLflow raises when its store cannot be reached; the caller turns it into a warning.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, or it is too late
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a store that is down must not hold up a verdict
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        import mlflow  # noqa: F401 - whether it is there
    except ImportError:
        raise SetupError("MLflow is not installed.", remedy="Install robustness-gate[run].") from None
    for chatty in ("mlflow", "alembic"):  # both log every table that they create, and every attempt
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with _alone(tracking_uri):
        _refuse_what_is_no_store(tracking_uri)
        with _made_whole(tracking_uri):
            client, experiment_id = _opened(tracking_uri, experiment)
        return _log(client, experiment_id, report, files, name)


def _refuse_what_is_no_store(tracking_uri: str) -> None:
    """Refuse an unusable SQLite store at once, and limit MLflow's retries (by default ten in a hundred seconds)."""
    if tracking_uri.startswith("sqlite:") and (store := _store_of(tracking_uri)) is not None:
        with writing.as_write_error(store, "Name another --tracking-uri, or none: --no-mlflow."):
            writing.refuse_what_is_no_file(store)
            writing.try_out(store.parent)
    if tracking_uri.startswith(NOT_A_DATABASE):
        return
    with contextlib.suppress(ImportError):
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = min(getattr(utils, "MAX_RETRY_COUNT", TRIES), TRIES)


def _log(client: Any, experiment_id: str, report: Report, files: Path, name: str) -> str:
    from mlflow.entities import Metric, Param, RunTag

    def run(title: str, tags: dict[str, str], metrics: dict[str, float], params: dict[str, str], status: str) -> str:
        begun = client.create_run(experiment_id, run_name=title, tags={_key(key): tags[key] for key in tags})
        now = begun.info.start_time
        client.log_batch(
            begun.info.run_id,
            metrics=[Metric(_key(key), value, now, 0) for key, value in metrics.items()],
            params=[Param(_key(key), value[:500]) for key, value in params.items()],
            tags=[RunTag("mlflow.note.content", tags["mlflow.note.content"])] if "mlflow.note.content" in tags else [],
        )
        if status:
            client.set_terminated(begun.info.run_id, status=status)
        return str(begun.info.run_id)

    title = f"{name or report.checkpoint[:12]} {report.verdict.outcome}"
    took = read(files)
    parent = run(title, _tags(report), {**_metrics(report), **totals(took)}, _params(report), status="")
    try:
        _log_trials(client, run, parent, report, took)
        for path in (*sorted(files.glob("report.*")), *([files / COSTS] if took else [])):
            client.log_artifact(parent, str(path), artifact_path="report")
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is reported; an incomplete run must not look complete
            client.set_terminated(parent, status="FAILED")
        raise
    client.set_terminated(parent, status="FINISHED")
    return parent


def _log_trials(client: Any, run: Any, parent: str, report: Report, took: Sequence[AttemptCost]) -> None:
    from mlflow.entities import Metric

    for record in report.trials:
        tags = {"mlflow.parentRunId": parent, "gate.trial": record.id, "gate.role": model_name(record.trial)}
        its_cost = totals([each for each in took if each.trial == record.id])
        child = run(_title(record), tags, its_cost, _trial_params(record), status="")
        points = [Metric(_key(key), value, 0, step) for key, value, step in _curve(record)]
        if points:
            client.log_batch(child, metrics=points)
        crashed = not record.closed or record.closed[-1].status not in ("ok", "not_applicable")
        client.set_terminated(child, status="FAILED" if crashed else "FINISHED")


@contextlib.contextmanager
def _alone(tracking_uri: str) -> Iterator[None]:
    """Lock an embedded store, so that one run of this machine writes at a time; a server needs no lock.

    If the file system has no locks, or another run keeps its lock too long, it continues without one.
    """
    if (lock := _lock_of(tracking_uri)) is None:
        yield
        return
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            held.callback(os.close, handle)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.1)
        yield


@contextlib.contextmanager
def _made_whole(tracking_uri: str) -> Iterator[None]:
    """Delete a SQLite store that this block creates and cannot complete: an incomplete one would block later runs."""
    store = _store_of(tracking_uri) if tracking_uri.startswith("sqlite:") else None
    new = store is not None and not store.exists()
    try:
        yield
    except Exception:
        if new and store is not None:
            for ending in ("", "-journal", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    store.with_name(store.name + ending).unlink(missing_ok=True)
        raise


def _lock_of(tracking_uri: str) -> Path | None:
    """The lock file of an embedded store; None for a server."""
    store = _store_of(tracking_uri)
    return None if store is None else store.parent / f".{store.name}.lock"


def _store_of(tracking_uri: str) -> Path | None:
    """The file or folder of an embedded store; None for a server."""
    if tracking_uri.startswith("sqlite:"):
        path = tracking_uri.removeprefix("sqlite:///").partition("?")[0]
        return Path(path) if path and path != ":memory:" else None
    if tracking_uri.startswith("file:"):
        return Path(unquote(urlsplit(tracking_uri).path))
    return None if "://" in tracking_uri or tracking_uri.startswith("databricks") else Path(tracking_uri)


def _opened(tracking_uri: str, experiment: str) -> tuple[Any, str]:
    """A client and the experiment's id, also if another run is creating the store at this moment."""
    import mlflow

    for left in reversed(range(TRIES)):
        try:
            client = mlflow.MlflowClient(tracking_uri=tracking_uri)
            found = client.get_experiment_by_name(experiment)
            return client, str(found.experiment_id) if found else _create(client, experiment, tracking_uri)
        except Exception as error:
            if not left or not _was_quicker(error, tracking_uri):
                raise
            time.sleep(0.2 * (TRIES - left))
    raise AssertionError("the last try returns or raises")


def _was_quicker(error: Exception, tracking_uri: str) -> bool:
    """Whether the error shows that another run is creating the store: it exists, or, for a database, in part.

    A server that does not answer gets no second request: a verdict must not wait for it.
    """
    if getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS":
        return True
    return not tracking_uri.startswith(NOT_A_DATABASE) and bool(SCHEMA_RACE.search(str(error)))


def _create(client: Any, experiment: str, tracking_uri: str) -> str:
    """Create an experiment; the artifacts of an embedded store are next to it, not in the current directory."""
    if tracking_uri.startswith("sqlite:///"):
        folder = Path(tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts"
        return str(client.create_experiment(experiment, artifact_location=folder.resolve().as_uri()))
    return str(client.create_experiment(experiment))


def _key(name: str) -> str:
    """A name that every store accepts: letters, digits, a few characters. Names of tasks and attacks have more."""
    return re.sub(r"[^A-Za-z0-9_. /:-]+", "_", name)


def _tags(report: Report) -> dict[str, str]:
    return {
        "mlflow.note.content": markdown.render(report)[:7900],
        "gate.verdict": report.verdict.outcome,
        "gate.reason": report.reason[:500],
        "gate.policy": f"{report.policy.id} {report.policy.version}",
        "gate.policy_sha256": report.policy.sha256,
        "gate.suite": f"{report.suite.id} {report.suite.version}",
        "gate.suite_sha256": report.suite.sha256,
        "gate.checkpoint_sha256": report.checkpoint,
        "gate.report_sha256": report.digest,
        "gate.decision": report.decision.outcome,
        **(
            {"gate.preregistration_sha256": report.preregistration.sha256} if report.preregistration is not None else {}
        ),
        **{f"gate.instrument.{each.name.replace(' ', '_')}": each.text for each in instruments(report)},
        **({"gate.red_flags": "; ".join(flags)[:500]} if (flags := facts.red_flags(report)) else {}),
        **{f"gate.stated.{name}": says[:500] for name, says in report.producer_claims.items()},
        **({"gate.base_sha256": report.manifest.base} if report.manifest.base is not None else {}),
        **{f"gate.from.{_dotted(each)}{'.base' if each.base else ''}": each.source for each in report.provenance},
    }


def _metrics(report: Report) -> dict[str, float]:
    own = [record for record in report.trials if record.planned and record.trial.role in OWN]
    found = {
        "gate.pass": float(report.verdict.outcome == "PASS"),
        "trials/planned": float(len(own)),
        "trials/closed": float(sum(any(c.status == "ok" for c in record.closed) for record in own)),
        "trials/left_out": float(len(report.left_out)),
        "trials/ever": float(report.verdict.trials),
        "trials/unasked": float(len(facts.unasked(report))),
    }
    top = strongest(report.verdict.findings)
    if top is not None:
        found |= {"recovery/max": top.observed, "recovery/limit": top.limit}
    if size := facts.corrected(report):
        found |= {
            "recovery/corrected": size.share,
            "recovery/corrected_low": size.low,
            "recovery/corrected_high": size.high,
        }
    for share in facts.shares(report):
        name = f"share/{share.finding.rule}"  # the worst of each rule
        found[name] = max(found.get(name, -1.0), share.finding.observed)
        found[f"gap/{share.finding.rule}"] = share.gap
    for each in facts.comparisons(report):
        assert each.finding.relative_to is not None
        name = f"beside/{each.rule}/{_dotted(each.finding.relative_to)}"  # the worst of each rule
        found[name] = max(found.get(name, -1.0), each.finding.observed)
    for record in report.trials:
        if record.trial.role == Role.CANDIDATE and record.trial.attack == "none":
            for measurement in record.measurements:
                for metric in measurement.correct:
                    found[f"before/{measurement.task}/{metric}"] = tally(measurement, metric)[0] / measurement.items
    return found


def _params(report: Report) -> dict[str, str]:
    limits = {f"{f.kind}/{f.rule}": f"{f.limit:g}" for f in report.verdict.findings}
    strongest_attack = headline(report)["strongest_attack"]
    return {**limits, "strongest_attack": str(strongest_attack)}


def _dotted(model: ModelRef) -> str:
    """A model's name in a key: some stores refuse colons, slashes and blanks."""
    return f"{model.role}.{model.control}" if model.control else model.role.value


def _title(record: TrialRecord) -> str:
    role = "" if record.trial.role in OWN else f" [{model_name(record.trial)}]"
    asked = "" if record.planned else f", {NOT_ASKED}"
    return f"{record.label}, seed {record.trial.seed_index}{role}{asked}"


def _trial_params(record: TrialRecord) -> dict[str, str]:
    return {
        "attack": record.trial.attack,
        "seed": str(record.trial.seed),
        **{k: str(v) for k, v in record.trial.config.items()},
    }


def _curve(record: TrialRecord) -> list[tuple[str, float, int]]:
    """Accuracy in each metric and the attack's signals, by budget. A sham's curve has its own prefix."""
    room = "sham/" if record.trial.role == Role.SHAM else ""
    points = []
    for measurement in record.measurements:
        for metric in measurement.correct:
            points.append(
                (
                    f"{room}acc/{measurement.task}/{metric}",
                    tally(measurement, metric)[0] / measurement.items,
                    measurement.budget,
                )
            )
        points += [(f"{room}signals/{key}", value, measurement.budget) for key, value in measurement.signals.items()]
    return points
