"""An MLflow run for each verdict: a parent with the outcome, a child for each trial, the report as an artifact.

MLflow is a view; the ledger and the report are the record. A failed policy is still a FINISHED run, because the program
did its work; only a trial that crashed is a FAILED child. The store is named explicitly: since 3.13 MLflow refuses the
bare file store, and a store that appears wherever one happens to stand is no place for evidence.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

from robustness_gate.errors import SetupError
from robustness_gate.ledger import OWN
from robustness_gate.publish import facts, markdown
from robustness_gate.report import NOT_ASKED, Record, Report, headline
from robustness_gate.verdict import strongest, tally

EXPERIMENT = "robustness-gate"


def local_store(folder: Path) -> str:
    """The URI of the embedded store in a folder: one SQLite file."""
    return f"sqlite:///{(folder / 'mlflow.db').resolve()}"


def publish(report: Report, files: Path, *, tracking_uri: str, experiment: str = EXPERIMENT, name: str = "") -> str:
    """Log a report and return the id of its parent run.

    Args:
        report: what to log.
        files: the folder with report.json and report.md.
        tracking_uri: any MLflow tracking URI.
        experiment: made if it is not there.
        name: of the checkpoint, for the parent run's title; by default its digest.

    Raises:
        SetupError: MLflow is not installed.
        Exception: whatever MLflow raises when its store cannot be reached; the caller turns it into a warning.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import, or it is too late
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a store that is down must not hold up a verdict
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        import mlflow
        from mlflow.entities import Metric, Param, RunTag
    except ImportError:
        raise SetupError("MLflow is not installed.", remedy="Install robustness-gate[run].") from None
    for chatty in ("mlflow", "alembic"):  # both tell of every table they make
        logging.getLogger(chatty).setLevel(logging.WARNING)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else _create(client, experiment, tracking_uri)

    def run(title: str, tags: dict[str, str], metrics: dict[str, float], params: dict[str, str], status: str) -> str:
        begun = client.create_run(experiment_id, run_name=title, tags=tags)
        now = begun.info.start_time
        client.log_batch(
            begun.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            params=[Param(key, value[:500]) for key, value in params.items()],
            tags=[RunTag("mlflow.note.content", tags["mlflow.note.content"])] if "mlflow.note.content" in tags else [],
        )
        if status:
            client.set_terminated(begun.info.run_id, status=status)
        return str(begun.info.run_id)

    title = f"{name or report.checkpoint[:12]} {report.verdict.outcome}"
    parent = run(title, _tags(report), _metrics(report), _params(report), status="")
    for record in report.trials:
        tags = {"mlflow.parentRunId": parent, "gate.trial": record.id, "gate.role": record.trial.role}
        child = run(_title(record), tags, {}, _trial_params(record), status="")
        points = [Metric(key, value, 0, step) for key, value, step in _curve(record)]
        if points:
            client.log_batch(child, metrics=points)
        crashed = not record.closed or record.closed[-1].status not in ("ok", "not_applicable")
        client.set_terminated(child, status="FAILED" if crashed else "FINISHED")
    for path in sorted(files.glob("report.*")):
        client.log_artifact(parent, str(path), artifact_path="report")
    client.set_terminated(parent, status="FINISHED")
    return parent


def _create(client: Any, experiment: str, tracking_uri: str) -> str:
    """Artifacts of an embedded store lie beside it, not wherever the command was given."""
    if tracking_uri.startswith("sqlite:///"):
        folder = Path(tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts"
        return str(client.create_experiment(experiment, artifact_location=folder.resolve().as_uri()))
    return str(client.create_experiment(experiment))


def _tags(report: Report) -> dict[str, str]:
    return {
        "mlflow.note.content": markdown.render(report)[:7900],
        "gate.verdict": report.verdict.outcome,
        "gate.reason": report.verdict.reason[:500],
        "gate.policy": f"{report.policy.id} {report.policy.version}",
        "gate.policy_sha256": report.policy.sha256,
        "gate.suite": f"{report.suite.id} {report.suite.version}",
        "gate.suite_sha256": report.suite.sha256,
        "gate.checkpoint_sha256": report.checkpoint,
        "gate.report_sha256": report.digest,
        "gate.decision": report.decision.outcome,
        **({"gate.seal_sha256": report.seal.sha256} if report.seal is not None else {}),
        **{f"gate.instrument.{each.name.replace(' ', '_')}": each.says for each in facts.instruments(report)},
        **({"gate.red_flags": "; ".join(told)[:500]} if (told := facts.red_flags(report)) else {}),
        **{f"gate.stated.{name}": says[:500] for name, says in report.states.items()},
        **({"gate.base_sha256": report.manifest.base} if report.manifest.base is not None else {}),
        # a key's colons and slashes are not welcome in every store
        **{f"gate.from.{re.sub('[:/]', '.', role)}": source for role, source in report.provenance.items()},
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
    for each in facts.comparisons(report):
        name = f"beside/{each.rule}/{each.finding.over.replace(':', '.')}"  # the worst of each rule
        found[name] = max(found.get(name, -1.0), each.finding.observed)
    for record in report.trials:
        if record.trial.role == "candidate" and record.trial.attack == "none":
            for mark in record.marks:
                for reading in mark.correct:
                    found[f"before/{mark.task}/{reading}"] = tally(mark, reading)[0] / mark.items
    return found


def _params(report: Report) -> dict[str, str]:
    limits = {f"limit/{f.rule.replace(':', '/')}": f"{f.limit:g}" for f in report.verdict.findings}
    strongest_attack = headline(report)["strongest_attack"]
    return {**limits, "strongest_attack": str(strongest_attack)}


def _title(record: Record) -> str:
    role = "" if record.trial.role in OWN else f" [{record.trial.role}]"
    asked = "" if record.planned else f", {NOT_ASKED}"
    return f"{record.label}, seed {record.trial.seed_index}{role}{asked}"


def _trial_params(record: Record) -> dict[str, str]:
    return {
        "attack": record.trial.attack,
        "seed": str(record.trial.seed),
        **{k: str(v) for k, v in record.trial.config.items()},
    }


def _curve(record: Record) -> list[tuple[str, float, int]]:
    """Accuracy in each reading, and the attack's signs, by budget mark. A sham's curve is not one of recoveries."""
    room = "sham/" if record.trial.role == "sham" else ""
    points = []
    for mark in record.marks:
        for reading in mark.correct:
            points.append((f"{room}acc/{mark.task}/{reading}", tally(mark, reading)[0] / mark.items, mark.mark))
        points += [(f"{room}signs/{key}", value, mark.mark) for key, value in mark.signs.items()]
    return points
