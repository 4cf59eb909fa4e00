"""In which precision weights lie is read from the files, told on page one, and can be pinned."""

from __future__ import annotations

import dataclasses
import json
import shutil
from io import StringIO
from pathlib import Path

import evidence as its
import pytest
import torch
from safetensors.torch import load_file, save_file

from robustness_gate import organisms
from robustness_gate.errors import CheckpointError, PlanError
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.policy_language import load_policy
from robustness_gate.records.evidence import Evidence, Stored
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Role
from robustness_gate.report import build as report_build
from robustness_gate.report import limitations as report_limitations
from robustness_gate.report import record
from robustness_gate.verdict import judge
from robustness_gate.verdict.wording import sentence


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return shutil.copytree(organisms.checkpoint("base"), tmp_path / "m")


def saved_as(folder: Path, **dtypes: torch.dtype) -> None:
    """Every tensor as `rest`, the norms as `norm` where one is given."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(
        {k: v.to(dtypes.get("norm", dtypes["rest"]) if "norm" in k else dtypes["rest"]) for k, v in tensors.items()},
        path,
        metadata={"format": "pt"},
    )


def says(folder: Path, **keys: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def test_the_headers_decide_and_not_the_config(checkpoint: Path) -> None:
    saved_as(checkpoint, rest=torch.bfloat16)
    says(checkpoint, dtype="float32", torch_dtype="float32")
    found = precision.stored(CheckpointRef(checkpoint))
    assert set(found.weights) == found.dtypes == {"bfloat16"}
    assert found.weights["bfloat16"] == sum(t.numel() for t in load_file(checkpoint / "model.safetensors").values())
    assert (found.config_dtype, found.quantized, found.adapter) == ("float32", False, {})


def test_several_at_once_masks_and_quantised_weights(checkpoint: Path) -> None:
    saved_as(checkpoint, rest=torch.bfloat16, norm=torch.float32)
    found = precision.stored(CheckpointRef(checkpoint))
    assert found.dtypes == {"bfloat16", "float32"}
    assert found.weights["bfloat16"] > found.weights["float32"] > 0
    assert precision.shares({"float32": 1, "bfloat16": 3}) == "bfloat16 (75%) and float32 (25%)"
    tensors = load_file(checkpoint / "model.safetensors") | {"mask": torch.ones(64, 64, dtype=torch.bool)}
    save_file(tensors, checkpoint / "model.safetensors")
    assert precision.stored(CheckpointRef(checkpoint)) == found, "a mask is no weight"
    save_file({"weight": torch.ones(8, 8, dtype=torch.int8)}, checkpoint / "model.safetensors")
    with pytest.raises(CheckpointError, match="hold no weights"):
        precision.stored(CheckpointRef(checkpoint))
    says(checkpoint, quantization_config={"bits": 8})
    assert precision.stored(CheckpointRef(checkpoint)) == Stored(
        weights={"I8": 64}, config_dtype=found.config_dtype, quantized=True
    )


def test_an_adapter_has_its_own_and_its_bases(checkpoint: Path, tmp_path: Path) -> None:
    saved_as(checkpoint, rest=torch.bfloat16)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"a": torch.ones(3)}, adapter / "adapter_model.safetensors")
    found = precision.stored(CheckpointRef(adapter, base=CheckpointRef(checkpoint)))
    assert (set(found.weights), found.adapter) == ({"bfloat16"}, {"float32": 3})
    assert found.dtypes == {"bfloat16", "float32"}


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"{"])
def test_what_is_no_header_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="declares no tensors"):
        precision.stored(CheckpointRef(tmp_path))


# --- on page one ------------------------------------------------------------------------------------------------------


def with_stored(evidence: Evidence, stored: Stored | None) -> Evidence:
    return dataclasses.replace(evidence, stored=stored)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return its.evidence(its.planned(its.MANIFEST), its.WORST["PASS"])


def told(evidence: Evidence, stored: Stored | None) -> list[str]:
    return list(report_limitations.otherwise_stored(with_stored(evidence, stored)))


def test_both_names_stand_there_where_they_differ(evidence: Evidence) -> None:
    assert told(evidence, Stored(weights={"float32": 5})) == []
    assert told(evidence, Stored(weights={"float32": 5}, config_dtype="float32")) == []
    assert told(evidence, None) == ["In which precision the weights lie on disk is not on record."]
    assert told(evidence, Stored(weights={"bfloat16": 5})) == [
        "Examined in float32; on disk the weights are stored as bfloat16."
    ]
    assert told(
        evidence, Stored(weights={"bfloat16": 95, "float32": 5}, adapter={"float16": 1}, config_dtype="float16")
    ) == [
        "Examined in float32; on disk the weights are stored as bfloat16 (95%) and float32 (5%), the adapter's as "
        "float16.",
        "config.json says float16, in which others will load it; on disk the weights are bfloat16 (95%) and float32 "
        "(5%), the adapter's as float16.",
    ]
    (one,) = told(evidence, Stored(weights={"I8": 5}, quantized=True))
    assert one.endswith("stored as I8, quantised.")


def made_of(evidence: Evidence, stored: Stored | None) -> record.Report:
    return report_build.make(*its.files(), its.MANIFEST, with_stored(evidence, stored), its.AT)


def test_every_first_page_says_it(evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from robustness_gate.cli.verifying import _show
    from robustness_gate.publish import html, junit, markdown, terminal

    made = made_of(evidence, Stored(weights={"bfloat16": 5}))
    words = "Examined in float32; on disk the weights are stored as bfloat16."
    assert made.verdict.outcome == "PASS"
    assert made.limitations[0] == words
    assert record.evidence_in(made).stored == made.stored == Stored(weights={"bfloat16": 5})
    assert words in markdown.render(made)
    assert words in html.render(made)
    assert words in junit.render(made).decode()
    shown = StringIO()
    terminal.show(made, Console(file=shown, width=200))
    assert words in shown.getvalue()
    bundle = its.signed(made)
    found = its.look(bundle, ledger=None)
    assert its.failed(found) == []
    _show(found)
    assert f"limitation: {words}" in capsys.readouterr().out
    assert (
        its.ledger_of(made, tmp_path / "ledger.jsonl").evidence(made.checkpoint, evidence.planned).stored == made.stored
    )


def test_a_signer_cannot_leave_it_out(evidence: Evidence) -> None:
    bundle = its.signed(made_of(evidence, Stored(weights={"bfloat16": 5})))
    silent = its.resigned(bundle, lambda told: told["report"].update(limitations=told["report"]["limitations"][1:]))
    assert its.failed(its.look(silent)) == ["verdict"]


# --- pinned -----------------------------------------------------------------------------------------------------------


def pinned(dtype: str | None) -> Policy:
    return its.files()[0].record.model_copy(update={"dtype": dtype})


@pytest.mark.parametrize("worst", ["PASS", "FAIL"])
def test_a_pin_that_the_trials_do_not_have_blocks_a_pass_and_excuses_no_breach(worst: str) -> None:
    found = its.evidence(its.planned(its.MANIFEST), its.WORST[worst])
    assert {trial.dtype for trial in found.planned} == {"float32"}
    for dtype in (None, "float32"):
        assert judge(pinned(dtype), found, its.AT).outcome == worst
    other = judge(pinned("bfloat16"), found, its.AT)
    assert other.outcome == {"PASS": "INCONCLUSIVE", "FAIL": "FAIL"}[worst]
    assert any("computed in float32, and the policy pins bfloat16" in sentence(block) for block in other.blockers)


def test_a_prompt_that_lost_what_the_attack_put_there_establishes_no_compliance() -> None:
    """A context that is declared short would cut demonstrations and prefixes away, and leave the bare question."""
    whole = its.evidence(its.planned(its.MANIFEST), its.WORST["PASS"])

    def with_curtailed(many: float) -> str:
        measurements = tuple(
            measurement.model_copy(update={"summary": {**measurement.summary, "curtailed_items": many}})
            if measurement.trial == whole.planned[-1].id and measurement.task == "forget"
            else measurement
            for measurement in whole.measurements
        )
        found = judge(its.files()[0].record, dataclasses.replace(whole, measurements=measurements), its.AT)
        assert found.outcome == "PASS" or any("lost what the attack adds" in sentence(each) for each in found.blockers)
        return found.outcome

    assert whole.planned[-1].role == Role.CANDIDATE
    assert [with_curtailed(many) for many in (0.0, 4.0, 5.0)] == ["PASS", "PASS", "INCONCLUSIVE"]


def test_a_suite_in_another_precision_is_refused_before_anything_runs(tmp_path: Path, policy_file: Path) -> None:
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import plan

    path = tmp_path / "policy.yaml"
    path.write_text(policy_file.read_text(encoding="utf-8") + "\ndtype: bfloat16\n", encoding="utf-8")
    suite = load_suite(policy_file.parent.parent / "suites" / "organism-smoke.yaml")
    subject = plan.Subject(Role.CANDIDATE, CheckpointRef(Path()), its.MANIFEST)
    with pytest.raises(PlanError, match="pins bfloat16, the suite 'organism-smoke' computes in float32") as told:
        plan.make(load_policy(path), suite, its.suite_data(), [subject])
    assert told.value.code == "wrong-dtype"


def test_the_language_knows_the_pin() -> None:
    from robustness_gate.policy_language import diff, lint, show

    for old, new, way in (
        (None, "bfloat16", "tighter"), ("bfloat16", None, "looser"), ("bfloat16", "float32", "looser"),
    ):  # fmt: skip
        (change,) = diff.compare(pinned(old), pinned(new))
        assert (change.direction, change.what) == (way, "dtype")
    assert any("Computed in bfloat16" in line for line in show.sentences(pinned("bfloat16")))
    assert any("'dtype'" in hint for hint in lint.lint(pinned(None)).hints)
    assert not any("'dtype'" in hint for hint in lint.lint(pinned("bfloat16")).hints)


def test_made_up_results_are_in_the_precision_that_is_pinned(policy_file: Path) -> None:
    from robustness_gate.policy_language import cases

    told = cases.load_cases(policy_file.with_suffix(".cases.yaml"))
    tried = cases.try_all(pinned("bfloat16"), told, its.AT.date())
    assert {each.verdict.outcome for each in tried} >= {"PASS", "FAIL"}
    assert all(each.as_expected for each in tried)


# --- what was done on the way -----------------------------------------------------------------------------------------


def test_the_report_says_what_was_done_about_end_marks_padding_and_the_clock(evidence: Evidence) -> None:
    told = {"end_marks_dropped": 3.0, "padding_drift": 0.34, "strange_items": 2.0, "template_clock": 1767268800.0}
    measurements = tuple(
        measurement.model_copy(update={"summary": {**measurement.summary, **told}})
        for measurement in evidence.measurements
    )
    assert not any("end tokens" in each for each in made_of(evidence, None).limitations)
    words = " ".join(made_of(dataclasses.replace(evidence, measurements=measurements), None).limitations)
    for each in (
        "declares 3 words of the questions or answers as end tokens",
        "Padding changes this model's answers (by 0.34 nats",
        "Up to 2 prompts of a task hold tokens that the model does not have",
        "it always got 2026-01-01T12:00+00:00",
    ):
        assert each in words
