"""The report names the machine: its GPUs, and the container's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustness_gate.system import machine


def test_the_machine_is_reported_with_its_cards_and_its_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 570.86.15'\n", encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("ROBUSTNESS_GATE_IMAGE", "sha256:" + "a" * 64)
    assert machine.described() == {"gpu": "NVIDIA H100 80GB HBM3, 570.86.15", "image": "sha256:" + "a" * 64}
    tool.write_text("#!/bin/sh\nexit 9\n", encoding="utf-8")
    assert machine.described()["gpu"] == "nvidia-smi does not answer: CalledProcessError"
    tool.unlink()
    monkeypatch.delenv("ROBUSTNESS_GATE_IMAGE")
    assert machine.described() == {}
