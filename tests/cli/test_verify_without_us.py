"""docs/verify-without-us.md, block by block; and clients that we did not write, on the good and on the tampered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import independent_verifier
import make_fixtures
import pytest

from robustness_gate.attestation import dsse, keys

HAVE = make_fixtures.PLACE
NODE = shutil.which("node")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """What an auditor has, and the interpreter of these tests as python3."""
    shutil.copy(HAVE / "accepted.sigstore.json", tmp_path / "report.sigstore.json")
    shutil.copy(HAVE / "lab.pub", tmp_path / "signing.pub")
    shutil.copy(HAVE / "checkpoint.manifest.json", tmp_path)
    shutil.copy(independent_verifier.__file__, tmp_path)
    shutil.copytree(HAVE / "model", tmp_path / "model")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    return tmp_path


def blocks(root: Path) -> list[str]:
    text = (root / "docs" / "verify-without-us.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(desk: Path, block: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=desk, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PATH": f"{desk / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ""},
    )  # fmt: skip


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@needs_openssl
def test_every_block_of_the_page_runs_in_its_order(desk: Path, root: Path) -> None:
    told = []
    for block in blocks(root):
        done = run(desk, block)
        assert done.returncode == 0, (block, done.stdout, done.stderr)
        told.append(done.stdout)
    key, apart, signature, name, subject, files, says, numbers, client = told
    accepted = (HAVE / "accepted.sigstore.json").read_bytes()
    assert key.split()[0] == keys.public_key(HAVE / "lab.pub").id
    assert apart == ""
    assert signature == "Verified OK\n"
    assert name.split()[0] == dsse.open_bundle(accepted, [keys.public_key(HAVE / "lab.pub")]).sha256
    assert subject == "OK\n"
    assert files == "config.json: OK\nmodel.safetensors: OK\n"
    assert says.startswith("PASS judged 2026-11-21T12:00:00Z\nsigned 2026-11-21T12:01:00Z valid until ")
    assert numbers.splitlines()[1] == "it says PASS; its 2 bounds say PASS"
    assert client == "1 signature accepted\n"


def tamper(path: Path) -> None:
    """One letter of the payload, so that it is still base64 of as many bytes."""
    bundle = json.loads(path.read_text())
    text = bundle["dsseEnvelope"]["payload"]
    bundle["dsseEnvelope"]["payload"] = text[:400] + ("A" if text[400] != "A" else "B") + text[401:]
    path.write_text(json.dumps(bundle))


@needs_openssl
@pytest.mark.parametrize(
    ("change", "stops"),
    [
        (lambda d: tamper(d / "report.sigstore.json"), [2, 7, 8]),
        (lambda d: shutil.copy(HAVE / "untrusted-signer.sigstore.json", d / "report.sigstore.json"), [2, 7, 8]),
        (lambda d: shutil.copy(HAVE / "unsupported-version.sigstore.json", d / "report.sigstore.json"), [4]),
        (lambda d: (d / "checkpoint.manifest.json").write_text("{}"), [4, 5]),
        (lambda d: shutil.copy(HAVE / "other-model" / "model.safetensors", d / "model"), [5]),
        (lambda d: (d / "model" / "vocab.txt").write_text("x"), [5]),
        (lambda d: (d / "model" / "x").symlink_to("config.json"), [5]),
        (lambda d: (d / "model" / "config.json").rename(d / "model" / "Config.json"), [5]),
    ],
)
def test_the_page_stops_a_reader_who_was_given_something_else(
    change: object, stops: list[int], desk: Path, root: Path
) -> None:
    change(desk)  # type: ignore[operator]
    failing = [
        number for number, block in enumerate(blocks(root)[: max(stops) + 1]) if run(desk, block).returncode != 0
    ]
    assert failing[0] == stops[0]
    assert set(stops) <= set(failing)


JAVASCRIPT = """
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toTrustMaterial, toSignedEntity } = require('@sigstore/verify');
const { createPublicKey } = require('crypto');
const { readFileSync } = require('fs');
const [bundle, key] = process.argv.slice(1).map((path) => readFileSync(path, 'utf8'));
const none = { tlogs: [], ctlogs: [], timestampAuthorities: [], certificateAuthorities: [] };
const trust = toTrustMaterial(none, () => ({ publicKey: createPublicKey(key), validFor: () => true }));
const verifier = new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
try {
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(bundle))));
  console.log('accepted');
} catch (error) {
  console.log('refused', error.code);
}
"""


def test_sigstores_javascript_client_accepts_the_good_and_refuses_the_tampered(desk: Path) -> None:
    if NODE is None:
        pytest.skip("node is not installed")
    probe = "require.resolve('@sigstore/verify'); require.resolve('@sigstore/bundle')"
    if subprocess.run([NODE, "-e", probe], capture_output=True, check=False, timeout=60).returncode != 0:
        pytest.skip("node finds no @sigstore/verify and @sigstore/bundle: npm install them and set NODE_PATH")

    def verdict() -> str:
        command = [NODE, "-e", JAVASCRIPT, str(desk / "report.sigstore.json"), str(desk / "signing.pub")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    assert verdict() == "accepted"
    tamper(desk / "report.sigstore.json")
    assert verdict() == "refused SIGNATURE_ERROR"
    shutil.copy(HAVE / "untrusted-signer.sigstore.json", desk / "report.sigstore.json")
    assert verdict() == "refused SIGNATURE_ERROR"
