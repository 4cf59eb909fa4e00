"""Credentials are told by no one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from robustness_gate import cli
from robustness_gate.errors import FileError
from robustness_gate.system import redaction


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://bob:S3CRET@host:5000/x?token=T#f", "http://host:5000/x"),
        ("https://S3CRET@host/", "https://host/"),
        ("http://:S3CRET@host", "http://host"),
        ("postgresql+psycopg://bob:S3/CR@ET@host/db", "postgresql+psycopg://host/db"),
        ("mysql://bob:S3?C#RET@host/db", "mysql://host/db"),
        ("http://[::1]:5000/x", "http://[::1]:5000/x"),
        ("http://host/a@b", "http://host/a@b"),
        ("sqlite:////data/me@home/mlflow.db", "sqlite:////data/me@home/mlflow.db"),
        ("file:/a/b", "file:/a/b"),
        ("mlruns", "mlruns"),
        ("databricks", "databricks"),
        ("", ""),
    ],
)
def test_a_place_is_scheme_host_port_and_path(address, place):
    assert redaction.place(address) == place


ADDRESS = "http://bob:p%40ss%2Fw0rd@host/x?api_key=K3Y-of-bob"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fetch hf://lab/model@0123 failed", "fetch hf://lab/model@0123 failed"),
        ("at http://u:x@host/", "at http://host/"),
        ("at mysql://u:a/b@host/db now", "at mysql://host/db now"),
        ("http://host:80/a@b and c@d", "http://host:80/a@b and c@d"),
        ("a@b.c wrote", "a@b.c wrote"),
        ("GET /x?page=1&access_token=abc&y=2", "GET /x?page=1&access_token=***&y=2"),
        ("Driver=x;PWD=abc;Server=y", "Driver=x;PWD=***;Server=y"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("hf_abcdefghijklmnopqrstuvwxyz is not valid", "*** is not valid"),
        ("the password p@ss/w0rd, or p%40ss%2Fw0rd", "the password ***, or ***"),
        ("in a log: xxp@ss/w0rdyy", "in a log: xx***yy"),
        ("K3Y-of-bob", "***"),
        ("user bob in bobsleigh", "user *** in bobsleigh"),
    ],
)
def test_a_message_loses_what_has_the_form_of_a_credential_or_is_known_to_be_one(words, told):
    assert redaction.message(words, ADDRESS) == told


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "https_proxy", "HF_ENDPOINT"])
def test_addresses_of_the_environment_are_known(monkeypatch, name):
    monkeypatch.setenv(name, "http://bob:S3CRET9@host")
    assert redaction.message("with S3CRET9 of bob") == "with *** of ***"


@pytest.mark.parametrize("name", redaction.SECRETS)
def test_secrets_of_the_environment_are_known(monkeypatch, name):
    monkeypatch.setenv(name, "S3CRET\nof lines")
    assert redaction.message("x S3CRET\nof lines y") == "x *** y"


def test_a_users_mistake_is_reported_without_credentials(monkeypatch, capsys):
    def app() -> None:
        raise FileError("http://bob:S3CRET@host/x is no path", where="https://k:S3CRET@h")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "error: https://h: http://host/x is no path\n"


def test_a_crash_is_reported_without_credentials(root):
    crash = "from robustness_gate import cli\ndef app(): raise RuntimeError('at http://bob:' + 'S3CRET' + '@host')\n"
    done = subprocess.run(
        [sys.executable, "-c", crash + "cli.app = app\ncli.main()"],
        capture_output=True, text=True, check=False, timeout=60, cwd=root,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: at http://host\n")
    assert "Traceback" in done.stderr
