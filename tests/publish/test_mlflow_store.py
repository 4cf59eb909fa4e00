"""The tracker's store: several first runs at once, one that fails, and what is told of it."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_facts import RELEARN, told

from robustness_gate.errors import SetupError, WriteError
from robustness_gate.publish import Sending, outputs
from robustness_gate.publish import mlflow as tracker
from robustness_gate.system import redaction

SECRET, TOKEN = "S3CRET-of-bob", "T0KEN-of-bob"
URI = f"http://bob:{SECRET}@127.0.0.1:9/tracker?token={TOKEN}"

THREE = """
import multiprocessing, os, pathlib, sys, warnings
warnings.simplefilter("ignore")
import mlflow
from test_facts import RELEARN, told
from robustness_gate.publish import mlflow as tracker

def one(uri, answers, begin):
    made = told([(RELEARN, 30)], states={"who says so?": "the lab"})
    begin.wait()
    try:
        tracker.publish(made, pathlib.Path("."), tracking_uri=uri, name="x")
        answers.put("logged")
    except Exception as error:
        answers.put(str(error))

context = multiprocessing.get_context("fork")
for uri in sys.argv[1:]:
    answers, begin = context.Queue(), context.Barrier(3)
    runs = [context.Process(target=one, args=(uri, answers, begin)) for _ in range(3)]
    [run.start() for run in runs]
    print(sorted({answers.get(timeout=200) for _ in runs}))
    [run.join() for run in runs]
    client = mlflow.MlflowClient(tracking_uri=uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == tracker.EXPERIMENT]
    found = client.search_runs([experiment.experiment_id])
    print(sum("gate.verdict" in run.data.tags for run in found), {run.info.status for run in found})
"""


@pytest.mark.slow
def test_first_runs_at_once_are_all_logged(tmp_path, root):
    """Three make one store, of each embedded kind. MLflow is imported once for all of them, which takes most of it."""
    stores = [f"sqlite:///{tmp_path}/new/mlflow.db", f"file:{tmp_path}/mlruns"]
    done = subprocess.run(
        [sys.executable, "-c", THREE, *stores], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{root}:{root}/tests:{root}/tests/publish", "OMP_NUM_THREADS": "1",
             "MLFLOW_ALLOW_FILE_STORE": "true", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["['logged']", "3 {'FINISHED'}"] * 2, done.stdout + done.stderr


def tracked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publish: Any, uri: str | None = URI) -> Any:
    monkeypatch.setattr(tracker, "publish", publish)
    return outputs.send((), told([(RELEARN, 30)]), Sending(tmp_path, "x", uri))


def failing(words: str) -> Any:
    def publish(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    return publish


@pytest.mark.parametrize(
    "words",
    [
        f"cannot reach {URI}",
        f"no route to http://bob:{SECRET}@127.0.0.1:9/tracker/api?x=1",
        f"password authentication failed for user bob with {SECRET}",
        f"401 for url: /api?token={TOKEN}&x=1",
        "request: {'Authorization': 'Basic Ym9iOlMzQ1JFVC1vZi1ib2I='}",
        f"x\n{SECRET}",
        f"{'x' * 190}{SECRET}",
    ],
)
def test_a_warning_names_the_place_and_no_credential(monkeypatch, tmp_path, words):
    place, (warning,) = tracked(monkeypatch, tmp_path, failing(words))
    assert place is None
    assert warning.startswith("MLflow at http://127.0.0.1:9/tracker could not be written, the verdict stands: ")
    for secret in (SECRET, TOKEN, "bob", "Ym9iOlMzQ1JFVC1vZi1ib2I=", SECRET[:6]):
        assert secret not in warning


def test_what_a_library_prints_logs_and_warns_of_is_reported_without_credentials_and_not_to_standard_output(
    monkeypatch, tmp_path, capfd
):
    def publish(*_: Any, **__: Any) -> None:
        sys.stdout.write(f"View run at: http://bob:{SECRET}@127.0.0.1:9/#/runs/1\n")
        sys.stdout.write("half a line with " + SECRET[:4])
        sys.stdout.write(SECRET[4:])
        warnings.warn(f"slow: {URI}", stacklevel=1)
        for name in ("urllib3.connectionpool", "alembic", "of.mine"):
            logging.getLogger(name).warning("retrying %s", URI)
        try:
            raise RuntimeError(f"with {SECRET}")
        except RuntimeError:
            logging.getLogger("mlflow").exception("failed at %s", URI)

    handler = logging.StreamHandler(logged := io.StringIO())  # as one that was there before the gate was
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            place, none = tracked(monkeypatch, tmp_path, publish)
    finally:
        logging.getLogger().removeHandler(handler)
    assert (place, none) == ("http://127.0.0.1:9/tracker", ())
    seen = capfd.readouterr()
    assert seen.out == ""
    assert "View run at: http://127.0.0.1:9/#/runs/1" in seen.err
    assert "slow: http" in seen.err
    assert "RuntimeError: with ***" in logged.getvalue()
    for secret in (SECRET, TOKEN, "bob"):
        assert secret not in seen.err + logged.getvalue()


def test_the_logs_of_others_keep_their_form(caplog):
    with redaction.strangers_words(URI):
        logging.getLogger("of.mine").warning("retrying %s in %d s", URI, 3)
    assert [record.getMessage() for record in caplog.records] == [
        "retrying http://127.0.0.1:9/tracker?token=*** in 3 s"
    ]
    logging.getLogger("of.mine").warning("afterwards %s", "http://a:b@c")
    assert caplog.records[-1].getMessage() == "afterwards http://a:b@c"


def test_without_mlflow_it_says_so(monkeypatch, tmp_path):
    def publish(*_: Any, **__: Any) -> None:
        raise SetupError("MLflow is not installed.", remedy="Install robustness-gate[run].")

    assert tracked(monkeypatch, tmp_path, publish)[1][0].startswith("nothing was logged to MLflow: MLflow is not")


class Client:
    """A store that says what real ones say."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.ended = list(errors), dict[str, str]()

    def get_experiment_by_name(self, _: str) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return SimpleNamespace(experiment_id="7")


class Quicker(Exception):
    error_code = "RESOURCE_ALREADY_EXISTS"


@pytest.mark.parametrize(
    ("uri", "error", "again"),
    [
        ("http://h", Quicker(), True),
        ("http://h", RuntimeError("table runs already exists"), False),
        ("postgresql://h/db", RuntimeError('relation "runs" already exists'), True),
        ("postgresql://h/db", RuntimeError("connection refused"), False),
    ],
)
def test_a_server_that_another_run_is_filling_is_asked_again_and_one_that_is_down_is_not(
    monkeypatch, uri, error, again
):
    client = Client(error)
    monkeypatch.setitem(
        sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda **_: client)
    )  # takes seconds to import
    monkeypatch.setattr(tracker.time, "sleep", lambda _: None)
    if again:
        assert tracker._opened(uri, "x") == (client, "7")
        return
    with pytest.raises(type(error)):
        tracker._opened(uri, "x")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["folder", "pipe", "folder above it is a file"])
def test_what_cannot_be_a_store_is_reported_at_once(tmp_path, what):
    store = tmp_path / "new" / "mlflow.db"
    if what == "folder":
        store.mkdir(parents=True)
    elif what == "pipe":
        store.parent.mkdir()
        os.mkfifo(store)
    else:
        store.parent.write_text("", encoding="utf-8")
    with pytest.raises(WriteError, match=r"cannot be written: .*--no-mlflow"):
        tracker._refuse_what_is_no_store(f"sqlite:///{store}")


def test_a_store_that_could_not_be_made_is_not_left_half_made(tmp_path):
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    old.write_bytes(b"of others")

    def fill(path: Path) -> None:
        with tracker._made_whole(f"sqlite:///{path}"):
            path.write_bytes(path.read_bytes() if path is old else b"half")
            raise RuntimeError("disk full")

    for path in (new, old):
        with pytest.raises(RuntimeError):
            fill(path)
    assert not new.exists()
    assert old.read_bytes() == b"of others"


@pytest.mark.parametrize("where", ["artifact", "trial"])
def test_a_run_that_could_not_be_logged_whole_does_not_look_finished(monkeypatch, tmp_path, where):
    entities = SimpleNamespace(Metric=lambda *_: None, Param=lambda *_: None, RunTag=lambda *_: None)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(entities=entities))
    ended: dict[str, str] = {}

    class Half:
        count = 0

        def create_run(self, *_: Any, **__: Any) -> Any:
            self.count += 1
            if where == "trial" and self.count == 2:
                raise OSError("disk full")
            return SimpleNamespace(info=SimpleNamespace(run_id=str(self.count), start_time=0))

        def log_batch(self, *_: Any, **__: Any) -> None: ...
        def log_artifact(self, *_: Any, **__: Any) -> None:
            raise OSError("disk full")

        def set_terminated(self, run: str, status: str) -> None:
            ended[run] = status

    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OSError, match="disk full"):
        tracker._log(Half(), "7", told([(RELEARN, 30)]), tmp_path, "x")
    assert ended["1"] == "FAILED"
