"""One worker a GPU: each loads a model of its own. No GPU is needed here, only torch's answer that there are some."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from robustness_gate import organisms
from robustness_gate.errors import UsageError
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning.plan import Subject
from robustness_gate.records.trial import Role
from robustness_gate.running import executors
from robustness_gate.running.executors import local
from robustness_gate.system.bounded import Limits


@pytest.fixture
def candidate() -> Subject:
    place = CheckpointRef(organisms.checkpoint("oracle"))
    return Subject(Role.CANDIDATE, place, manifest_of(place))


def gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(
    ("there", "wish", "found"),
    [
        (3, "auto", ("cuda:0", "cuda:1", "cuda:2")),
        (2, "cuda", ("cuda:0", "cuda:1")),
        (3, "cuda:1", ("cuda:1",)),
        (3, "cpu", ("cpu",)),
        (0, "auto", ("auto",)),
    ],
)
def test_workers_run_on_every_gpu_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch, there: int, wish: str, found: tuple[str, ...]
) -> None:
    gpus(monkeypatch, there)
    assert executors.devices(wish) == found


def test_there_is_one_worker_a_gpu_and_never_more(monkeypatch: pytest.MonkeyPatch, candidate: Subject) -> None:
    gpus(monkeypatch, 2)
    assert executors.workers(0, "auto", candidate) == 2
    assert executors.workers(1, "cuda", candidate) == 1
    assert executors.workers(0, "cuda:1", candidate) == 1
    assert executors.workers(8, "cpu", candidate) == 8
    with pytest.raises(UsageError, match=r"--workers 8: .*there are 2 GPUs for 'auto'.* Use at most 2, or 0"):
        executors.workers(8, "auto", candidate)
    with pytest.raises(UsageError, match="there is 1 GPU for 'cuda:0'"):
        executors.workers(2, "cuda:0", candidate)


def test_a_further_worker_goes_where_the_fewest_are(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    job = executors.Job(suite_data=None, places={}, device="auto", rows_in=None, limits=Limits())  # type: ignore[arg-type]
    workers: list[Any] = []
    for _ in range(3):
        workers.append(SimpleNamespace(device=local._placed(job, workers).device))
    assert [each.device for each in workers] == ["cuda:0", "cuda:1", "cuda:0"]
    assert local._placed(job, workers[1:2]).device == "cuda:0"
