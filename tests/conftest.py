"""What several test rooms share: small data, and a model that is loaded once."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch: threads that wait for a busy core cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).parent.parent


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
