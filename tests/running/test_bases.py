"""An adapter among the models of a run is recorded with its base, so that the judge knows what it was made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from robustness_gate import gate, organisms
from robustness_gate.running import recording

BASE = "b" * 64


def test_the_plan_names_the_base_of_each_adapter(policy_file: Path, suite_file: Path) -> None:
    control = [("blank", str(organisms.checkpoint("decoy")))]
    prepared = gate.prepare(policy_file, suite_file, str(organisms.checkpoint("oracle")), controls=control)
    assert recording.planned(prepared, "cpu").bases == {}
    first, adapter = prepared.plan.subjects
    on_base = dataclasses.replace(adapter, manifest=adapter.manifest.model_copy(update={"base": BASE}))
    plan = dataclasses.replace(prepared.plan, subjects=(first, on_base))
    found = recording.planned(dataclasses.replace(prepared, plan=plan), "cpu")
    assert found.bases == {on_base.manifest.digest: BASE}
