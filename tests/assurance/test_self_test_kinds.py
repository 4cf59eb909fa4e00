"""A self-test on organisms that are written as another class: what would make it count where it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from evidence import WORKS
from test_self_test import addresses as addresses
from test_self_test import blocks_of, result_of

from robustness_gate import organisms
from robustness_gate.assurance import self_test
from robustness_gate.cli.self_testing import architecture
from robustness_gate.errors import SetupError
from robustness_gate.inputs.checkpoint.place import TEXT_PARTS, CheckpointRef, model_type
from robustness_gate.inputs.filekinds import WRAPPERS
from robustness_gate.organisms import rewrite
from robustness_gate.planning import bench
from robustness_gate.policy_language import load_policy
from robustness_gate.verdict.wording import sentence

ROOT = Path(__file__).parents[2]


# --- which architecture it counts for ---------------------------------------------------------------------------------


def place(folder: Path, config: dict[str, Any]) -> CheckpointRef:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return CheckpointRef(folder)


def test_a_multimodal_model_counts_by_its_text_part(tmp_path: Path) -> None:
    assert (
        model_type(place(tmp_path, {"model_type": "gemma3", "text_config": {"model_type": "llama"}})) == "gemma3_text"
    )
    assert architecture("gemma3", None, None) == "gemma3_text"


def test_the_text_parts_are_those_of_the_wrappers_that_are_loaded() -> None:
    causal = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    for kind, text in TEXT_PARTS.items():
        assert transformers.CONFIG_MAPPING[kind].sub_configs["text_config"].model_type == text
        assert causal[kind] in WRAPPERS.values()
    assert len(TEXT_PARTS) == len(WRAPPERS)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "mistral3", "unheard_of"])
def test_a_text_part_that_a_config_only_claims_counts_for_nothing(tmp_path: Path, kind: str) -> None:
    """Else a model of any class could name a class that has organisms."""
    assert model_type(place(tmp_path, {"model_type": kind, "text_config": {"model_type": "llama"}})) == kind


def test_a_record_of_one_class_is_none_of_another() -> None:
    for kind in ("mistral", "qwen2", "phi3"):
        written = WORKS.model_copy(update={"model_type": kind})
        assert blocks_of((written,), kind=kind) == []
        assert f"on {kind} in the last" in blocks_of((WORKS,), kind=kind)[0]
        assert "on llama in the last" in blocks_of((written,))[0]
    llamas = WORKS.model_copy(update={"model_type": "gpt_neox"})
    assert "on gpt_neox in the last" in blocks_of((llamas,), kind="gpt_neox")[0], "its organisms are Llamas"


# --- that the organisms are of that class, and the same models --------------------------------------------------------


def test_organisms_are_written_as_the_class_and_gone_afterwards() -> None:
    with self_test._checkpoints(bench.bench_of("phi3"), ["rmu", "oracle"]) as places:
        assert {name: model_type(each) for name, each in places.items()} == {"rmu": "phi3", "oracle": "phi3"}
        assert all(each.source is None for each in places.values()), "they are not the shipped checkpoints"
        kept = [each.path for each in places.values()]
    assert not any(each.exists() for each in kept)


def test_an_organism_of_another_class_than_is_tested_stops_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewriting that gave a Llama would let an attack on Llamas count for that class."""
    monkeypatch.setattr(rewrite, "REWRITINGS", {**rewrite.REWRITINGS, "qwen2": lambda llama: llama})
    with (
        pytest.raises(SetupError, match="the organism rmu is a 'llama', and the test is of a 'qwen2'"),
        self_test._checkpoints(bench.bench_of("qwen2"), ["rmu"]),
    ):
        pass


def test_shipped_organisms_are_checked_as_well() -> None:
    wrong = bench.bench_of("gpt_neox")._replace(base="base")
    with pytest.raises(SetupError, match="the organism base is a 'llama'"), self_test._checkpoints(wrong, ["base"]):
        pass


@pytest.mark.parametrize(("where", "right"), [("base", 340), ("oracle", 140), ("before", 130), ("decoy", 60)])
def test_an_organism_that_answers_otherwise_than_the_shipped_one_is_a_fault(
    addresses: Any, where: str, right: int
) -> None:
    found = [each for each in result_of(addresses, **{where: right}).faults if each.code == "organism_differs"]
    assert len(found) == 1
    assert f"{right} right answers before any attack" in sentence(found[0])


def test_rounding_on_another_machine_is_no_other_model(addresses: Any) -> None:
    assert result_of(addresses, oracle=111 + bench.NEAR, base=398 - bench.NEAR, leak=105).faults == ()


def test_the_self_test_of_a_written_class_has_the_cases_of_its_source() -> None:
    for kind, written in organisms.REWRITTEN.items():
        here, source = bench.bench_of(kind), bench.bench_of(written.source)
        assert here.cases == source.cases
        assert list(here.every) == [each for each in source.every if kind not in each.not_as]
        assert (here.base, here.negative_controls) == (source.base, source.negative_controls)


def test_a_kind_that_does_not_apply_to_a_class_is_no_case_of_it_and_nothing_promises_a_pass(tmp_path: Path) -> None:
    """Else `plan` would say that a PASS is possible, and the self-test would end as not applicable."""
    text = (ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8")
    line = "  - {attack: ablation, where: {apply: fold, all_layers: false}}"
    path = tmp_path / "policy.yaml"
    path.write_text(text.replace("  - {attack: none}", f"  - {{attack: none}}\n{line}"), encoding="utf-8")
    told = {kind: dict(bench.unprovable(load_policy(path), None, kind)) for kind in ("qwen2", "gemma2", "mixtral")}
    assert told["qwen2"] == {}
    for kind in ("gemma2", "mixtral"):
        (reason,) = told[kind].values()
        assert f"this kind of it does not apply to a '{kind}'; tested are ablation (hook)" in reason
