"""What several test rooms share: small data, a model that is loaded once, and imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

# Before torch: threads that wait for a busy core cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def shared_imports():
    """Workers are forked from one process that has imported torch, where the system can: seconds less for each.

    `run` on the command line spawns them, so the tests that go through a command see the way of every day.
    """
    from robustness_gate import bounded

    if sys.platform == "linux":
        multiprocessing.set_forkserver_preload(["robustness_gate.engine.load", "robustness_gate.trial", "peft"])
        bounded.STARTED_BY = "forkserver"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def policy_file() -> Path:
    return ROOT / "policies" / "organism.yaml"


@pytest.fixture(scope="session")
def suite_file() -> Path:
    return ROOT / "suites" / "organism-smoke.yaml"


@pytest.fixture(scope="session")
def materials(suite_file):
    from robustness_gate.files import load_suite
    from robustness_gate.materials import gather

    return gather(load_suite(suite_file))


@pytest.fixture(scope="session")
def small_materials(materials):
    """The organisms' questions and texts, a handful of each: enough to tell answers apart, quick to ask."""
    import dataclasses

    from robustness_gate import organisms, sources

    exams = {name: dataclasses.replace(exam, items=exam.items[:24]) for name, exam in materials.exams.items()}
    corpora = {
        name: dataclasses.replace(corpus, texts=sources.read_texts(organisms.world(f"{name}.texts"))[:8])
        for name, corpus in materials.corpora.items()
    }
    return dataclasses.replace(materials, exams=exams, dev=materials.dev[:8], corpora=corpora)


@pytest.fixture(scope="session")
def rmu_speaker():
    """The suppressed organism, loaded once. Tests must leave it as they found it; the contract checks that they do."""
    from robustness_gate import organisms
    from robustness_gate.engine.load import load

    return load(organisms.checkpoint("rmu"), dtype="float32", device="cpu")
