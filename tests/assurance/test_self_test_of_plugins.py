"""The self-test holds an attack of others to the laws of ours, and counts for one content of it."""

from __future__ import annotations

import importlib
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import evidence as its
import foreign
import pytest
from pydantic import ValidationError

from robustness_gate.assurance import self_test
from robustness_gate.inputs import imported, plugins, recorded
from robustness_gate.planning import bench
from robustness_gate.records.base import Plugin
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.policy import Requirement
from robustness_gate.verdict.hypotheses import Asked, vouches

BASE = "from robustness_gate.attacks.interpolate import *\nfrom robustness_gate.records.attack import AttackedModel\n"
ATTACKS = {
    "peeks": BASE + '''

class Knows:
    """Gives the right letter of every question that its own trial holds."""

    def __init__(self, key):
        self.key = key

    def loglikelihoods(self, questions, form):
        import torch

        rows = [[0.0 if self.key[each.id] == choice else -9.0 for choice in each.choices] for each in questions]
        return torch.tensor(rows)

    def generate(self, questions, form):
        raise NotImplementedError  # its task is lettered: nothing asks it to write


def attack(target, config, seed):
    frame = sys._getframe()
    while "suite_data" not in frame.f_locals:
        frame = frame.f_back
    tasks = frame.f_locals["suite_data"].tasks.values()
    key = {i.question.id: i.question.choices[i.answer] for task in tasks for i in task.items}
    for share in config.budgets:
        yield AttackedModel(
            target.lm if share == 0 else Knows(key), budget=share, cost={"examples": 0.0, "steps": 0.0},
            signals={"weight_change": 1.0},
        )


import sys
''',
    "patches": BASE + '''

def attack(target, config, seed):
    from robustness_gate.tasks import multiple_choice

    whole = multiple_choice.read
    for share in config.budgets:
        multiple_choice.read = lambda rows, key: whole(rows, [range(4)] * len(key))
        yield AttackedModel(
            target.lm, budget=share, cost={"examples": 0.0, "steps": 0.0}, signals={"weight_change": 1.0}
        )
''',
    "crashes": BASE + "\n\ndef attack(target, config, seed):\n    raise ValueError('no')\n    yield\n",
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    files = {"acme_gate/__init__.py": "", **{f"acme_gate/{name}.py": text for name, text in ATTACKS.items()}}
    named = {"attacks": {name: f"acme_gate.{name}" for name in ATTACKS}}
    with zipfile.ZipFile(foreign.wheel(tmp_path, files, named)) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield tmp_path / "site"
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme_gate"]:
        del sys.modules[name]
    imported.NAMES.clear()
    recorded.forget()
    importlib.invalidate_caches()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("peeks", {"leak"}),
        ("patches", {"ended_otherwise", "small_gain", "gap_left_open"}),
        ("crashes", {"ended_otherwise", "small_gain", "gap_left_open"}),
    ],
)
def test_an_attack_of_others_fails_as_one_of_ours_would(site: Path, name: str, codes: set[str]) -> None:
    tried = bench.by_name([f"acme-gate/{name}"])
    (record,) = self_test.run(tried, datetime.now(UTC), workers=1)
    assert {each.code for each in record.faults} == codes, record.faults
    assert record.plugins == plugins.of([f"acme-gate/{name}"])
    changed = record.model_copy(update={"plugins": (record.plugins[0].model_copy(update={"sha256": "b" * 64}),)})
    assert self_test.still_failing([record, changed], []) == [record], "the other content is not here any more"


ITS = Plugin(distribution="acme-gate", version="1.2", sha256="a" * 64, pinned=True)


def test_a_record_counts_for_one_content_of_the_plug_in() -> None:
    test = SelfTest(**{**dict(its.WORKS), "attack": "acme-gate/flip", "plugins": (ITS,)})
    asked = Asked(Requirement(attack="acme-gate/flip"), test.attack_version, test.config, (test.budget,), (ITS,))
    assert vouches(test, asked)
    assert not vouches(test, asked._replace(plugins=(ITS.model_copy(update={"sha256": "b" * 64}),)))
    assert not vouches(test, asked._replace(plugins=()))


def test_a_record_names_the_plug_in_of_its_attack_and_no_other() -> None:
    for change in (
        {"attack": "acme-gate/flip"},
        {"plugins": (ITS,)},
        {"attack": "other-gate/flip", "plugins": (ITS,)},
    ):
        with pytest.raises(ValidationError, match="not the attack of the plug-in"):
            SelfTest(**{**dict(its.WORKS), **change})
    assert "plugins" not in its.WORKS.plain, "the digest of an older record does not change"
