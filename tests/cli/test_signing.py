"""`keys` and `policy preregister` as a person meets them: what is printed, what lies there afterwards, the exit
code."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from robustness_gate import cli, organisms
from robustness_gate.attestation import keys

Gate = Callable[..., "Done"]


@dataclass
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    """The command line in this process, with no one at the terminal."""
    monkeypatch.delenv(keys.KEY_VARIABLE, raising=False)
    monkeypatch.delenv(keys.PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["robustness-gate", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        told = capsys.readouterr()
        return Done(int(left.value.code or 0), told.out, told.err)

    return run


@dataclass
class Bench:
    """A policy and a suite with data of their own, a key, and a preregistration on them."""

    policy: Path
    suite: Path
    private: Path
    public: Path
    preregistration: Path
    printed: str

    @property
    def files(self) -> list[str | Path]:
        return ["--policy", self.policy, "--suite", self.suite]

    @property
    def check(self) -> list[str | Path]:
        return ["policy", "preregister", "--check", self.preregistration, *self.files, "--public", self.public]


@pytest.fixture
def bench(gate: Gate, tmp_path: Path, policy_file: Path, suite_file: Path) -> Bench:
    text = suite_file.read_text(encoding="utf-8").replace("organism:", "")
    for part in ("forget.verdict", "retain.verdict", "forget.dev", "forget.relearn", "retain.relearn", "unrelated"):
        shutil.copy(organisms.world(f"{part}.jsonl"), tmp_path)
    policy, suite, preregistration = (
        tmp_path / "policy.yaml",
        tmp_path / "suite.yaml",
        tmp_path / "preregistration.sigstore.json",
    )
    policy.write_bytes(policy_file.read_bytes())
    suite.write_text(text, encoding="utf-8")
    private, public = keys.save(keys.generate(), tmp_path / "keys")
    done = gate(
        "policy", "preregister", "--policy", policy, "--suite", suite, "--key", private, "--out", preregistration
    )
    assert done.code == 0, done.err
    return Bench(policy, suite, private, public, preregistration, done.out)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
def test_a_key_is_made_shown_and_never_made_twice(gate: Gate, tmp_path: Path, kind: str) -> None:
    made = gate("keys", "generate", "--out", tmp_path / "keys", "--type", kind)
    assert made.code == 0, made.err
    private, public = tmp_path / "keys" / "signing.key", tmp_path / "keys" / "signing.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert "not encrypted" in made.out
    key_id = made.out.rsplit("key id: ", 1)[1].strip()
    shown = gate("keys", "show", public)
    assert shown.code == 0
    assert shown.out == f"type: {kind}\nkey id: {key_id}\n{public.read_text()}"
    assert gate("keys", "show", private).out == shown.out
    before = private.read_bytes(), public.read_bytes()
    again = gate("keys", "generate", "--out", tmp_path / "keys")
    assert again.code == 2
    assert "already there. Nothing is overwritten" in again.err
    assert (private.read_bytes(), public.read_bytes()) == before


def test_an_encrypted_key_takes_its_passphrase_from_the_environment(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = gate("keys", "generate", "--out", tmp_path, "--encrypted")
    assert refused.code == 2
    assert "ROBUSTNESS_GATE_SIGNING_PASSPHRASE" in refused.err
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "open sesame")
    made = gate("keys", "generate", "--out", tmp_path, "--encrypted")
    assert made.code == 0
    assert "signing.key, encrypted" in made.out
    private = tmp_path / "signing.key"
    assert private.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert gate("keys", "show", private).out == gate("keys", "show", tmp_path / "signing.pub").out
    monkeypatch.setenv(keys.PASSPHRASE_VARIABLE, "open barley")
    wrong = gate("keys", "show", private)
    assert wrong.code == 2
    assert "passphrase does not open" in wrong.err
    assert "open barley" not in wrong.err + wrong.out


def test_a_person_is_asked_twice_and_the_answers_must_agree(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["one", "two", "", "three", "three", "three"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    for _ in range(2):  # they differ; it is empty
        assert "differ, or are empty" in gate("keys", "generate", "--out", tmp_path, "--encrypted").err
    assert gate("keys", "generate", "--out", tmp_path, "--encrypted").code == 0
    assert gate("keys", "show", tmp_path / "signing.key").code == 0
    assert next(answers, None) is None


def test_another_type_is_refused_with_the_nearest(gate: Gate, tmp_path: Path) -> None:
    done = gate("keys", "generate", "--out", tmp_path, "--type", "ed2551")
    assert done.code == 2
    assert "Did you mean 'ed25519'?" in done.err
    assert list(tmp_path.iterdir()) == []


# --- preregistrations -------------------------------------------------------------------------------------------------


def test_a_preregistration_is_made_and_holds(gate: Gate, bench: Bench) -> None:
    done = gate(*bench.check)
    assert done.code == 0, done.err
    digest = bench.printed.rsplit("preregistered statement: ", 1)[1].strip()
    key_id = keys.public_key(bench.public).id
    assert f"signed by {key_id}, sha256 {digest}" in done.out
    assert "ok: policy organism 1.1.0 and suite organism-smoke 1.0.0" in done.out
    assert "ok: 2 tasks, 4 sets of data, 5 attacks" in done.out


def test_a_changed_policy_is_not_the_preregistered_one(gate: Gate, bench: Bench) -> None:
    before = bench.policy.read_text(encoding="utf-8")
    bench.policy.write_text(before + "# a word later\n", encoding="utf-8")
    done = gate(*bench.check)
    assert done.code == 5
    assert "DIFFERS: the policy is not the preregistered one" in done.out
    assert "suite" not in done.out.split("DIFFERS", 1)[1]
    assert "ok" not in done.out
    bench.policy.write_text(before, encoding="utf-8")
    assert gate(*bench.check).code == 0


def test_a_changed_suite_is_not_the_preregistered_one(gate: Gate, bench: Bench) -> None:
    text = bench.suite.read_text(encoding="utf-8")
    bench.suite.write_text(text.replace("budgets: [100]", "budgets: [10]"), encoding="utf-8")
    done = gate(*bench.check, "--files-only")
    assert done.code == 5
    assert "DIFFERS: the suite is not the preregistered one" in done.out


def test_changed_data_behind_the_same_files_are_noticed(gate: Gate, bench: Bench) -> None:
    """An attacker who trains on the same questions in another order; the two files do not know of it."""
    items = bench.suite.parent / "retain.relearn.jsonl"
    items.write_text("".join(items.read_text(encoding="utf-8").splitlines(keepends=True)[::-1]), encoding="utf-8")
    done = gate(*bench.check)
    assert done.code == 5
    assert "what they lead to is not as preregistered" in done.err
    assert "the policy pins other data under 'retain'" in done.err
    assert "ok" not in done.out
    assert gate(*bench.check, "--files-only").code == 0


def test_changed_questions_that_the_policy_itself_pins_leave_with_5_too(gate: Gate, bench: Bench) -> None:
    items = bench.suite.parent / "retain.verdict.jsonl"
    lines = items.read_text(encoding="utf-8").splitlines(keepends=True)
    first = json.loads(lines[0])
    items.write_text(
        "".join([json.dumps({**first, "answer": (first["answer"] + 1) % 4}) + "\n", *lines[1:]]), encoding="utf-8"
    )
    done = gate(*bench.check)
    assert done.code == 5
    assert "what they lead to is not as preregistered" in done.err
    assert "policy pins other questions" in done.err


def test_without_the_questions_the_files_alone_are_compared_and_it_says_so(gate: Gate, bench: Bench) -> None:
    (bench.suite.parent / "retain.verdict.jsonl").unlink()
    refused = gate(*bench.check)
    assert refused.code == 5
    assert "--files-only" in refused.err
    done = gate(*bench.check, "--files-only")
    assert done.code == 0
    assert "not checked: questions, data and attacks" in done.out


def test_another_key_and_changed_bytes_leave_with_5(gate: Gate, bench: Bench, tmp_path: Path) -> None:
    _, stranger = keys.save(keys.generate(), tmp_path / "stranger")
    done = gate(*bench.check[:-1], stranger)
    assert done.code == 5
    assert "not among those given" in done.err
    assert gate(*bench.check, "--public", stranger).code == 0  # one of several is enough
    raw = bench.preregistration.read_bytes()
    at = raw.index(b'"payload":"') + 200
    bench.preregistration.write_bytes(raw[:at] + (b"A" if raw[at : at + 1] != b"A" else b"B") + raw[at + 1 :])
    done = gate(*bench.check)
    assert done.code == 5
    assert "does not fit" in done.err
    assert "ok" not in done.out


def test_a_preregistration_is_never_overwritten(gate: Gate, bench: Bench) -> None:
    before = bench.preregistration.read_bytes()
    done = gate("policy", "preregister", *bench.files, "--key", bench.private, "--out", bench.preregistration)
    assert done.code == 2
    assert "already there" in done.err
    assert bench.preregistration.read_bytes() == before


def test_the_key_may_come_from_the_environment_and_the_time_from_the_caller(
    gate: Gate, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preregistration, again = tmp_path / "a.json", tmp_path / "b.json"
    refused = gate("policy", "preregister", *bench.files, "--out", preregistration)
    assert refused.code == 2
    assert "no key to sign with" in refused.err
    monkeypatch.setenv(keys.KEY_VARIABLE, bench.private.read_text())
    when = ["--at", "2026-01-02T04:04:05+01:00"]
    assert (
        "preregistered at 2026-01-02T03:04:05Z"
        in gate("policy", "preregister", *bench.files, "--out", preregistration, *when).out
    )
    gate("policy", "preregister", *bench.files, "--out", again, *when)
    assert preregistration.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--at", "noon"], "is not a time"),
        (["--at", "2026-01-01T00:00:00"], "has no time zone"),
        (["--at", "2999-01-01T00:00:00Z"], "is in the future"),
        (["--files-only"], "go with --check"),
        (["--out", "no/such/folder/preregistration.json"], "cannot be written"),
    ],
)
def test_what_does_not_fit_together_is_reported(gate: Gate, bench: Bench, more: list[str], says: str) -> None:
    out = bench.preregistration.with_name("other.json")
    done = gate("policy", "preregister", *bench.files, "--key", bench.private, "--out", out, *more)
    assert done.code == 2
    assert says in done.err
    assert not out.exists()


def test_a_check_takes_public_keys_alone(gate: Gate, bench: Bench) -> None:
    for wrong in (bench.check[:-2], [*bench.check, "--key", bench.private], [*bench.check, "--out", "x"]):
        done = gate(*wrong)
        assert done.code == 2
        assert "--check goes with --public" in done.err
    done = gate(*bench.check[:-1], bench.private)
    assert done.code == 2
    assert "only its signer should have" in done.err


def test_a_policy_that_does_not_fit_its_suite_is_not_preregistered(gate: Gate, bench: Bench) -> None:
    text = bench.suite.read_text(encoding="utf-8")
    bench.suite.write_text(text.replace("  - attack: none\n", ""), encoding="utf-8")
    out = bench.preregistration.with_name("other.json")
    done = gate("policy", "preregister", *bench.files, "--key", bench.private, "--out", out)
    assert done.code == 2
    assert "policy.yaml:" in done.err
    assert not out.exists()


def test_all_of_it_in_processes_of_their_own_without_torch(root: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from robustness_gate.cli import main; main()"
    files = ["--policy", "policies/organism.yaml", "--suite", "suites/organism-smoke.yaml"]
    preregistration = str(tmp_path / "preregistration.sigstore.json")
    for arguments in (
        ["keys", "generate", "--out", str(tmp_path)],
        ["policy", "preregister", *files, "--key", str(tmp_path / "signing.key"), "--out", preregistration],
        ["policy", "preregister", *files, "--check", preregistration, "--public", str(tmp_path / "signing.pub")],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=root, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "COLUMNS": "120"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


def test_help_does_not_import_cryptography(root: Path) -> None:
    code = (
        "import sys, atexit; sys.argv = ['robustness-gate', *sys.argv[1:]]\n"
        "atexit.register(lambda: print('LOADED', 'cryptography' in sys.modules))\n"
        "from robustness_gate.cli import main; main()"
    )
    for arguments in (["--help"], ["keys", "generate", "--help"], ["policy", "preregister", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.rstrip().endswith("LOADED False")
