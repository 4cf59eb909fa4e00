"""What lies beside a checkpoint's files stands on page one and in `verify`, and a policy may refuse it."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import evidence
import pytest
from evidence import arguments, files, look, made, planned, signed, states
from rich.console import Console
from trees import HDF5, PLAIN, lay

from robustness_gate.attestation.verify import Fault, Unchecked
from robustness_gate.errors import Exit
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import Manifest, inspect
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded
from robustness_gate.publish import html, junit, markdown, terminal
from robustness_gate.records.evidence import Unread
from robustness_gate.records.policy import Policy
from robustness_gate.report import build as report_build
from robustness_gate.report import record as report
from robustness_gate.verdict import judge
from robustness_gate.verdict.explain import explain
from robustness_gate.verdict.wording import sentence

OTHERS = Unread(weights=("consolidated.safetensors", "original/consolidated.00.pth"), ignored=3)
UNKNOWN = Unread(listed=False)


def told(unread: Unread | None, manifest: Manifest = evidence.MANIFEST) -> report.Report:
    """A PASS, of a commit beside whose files this lies."""
    known = dataclasses.replace(evidence.evidence(planned(manifest), 0.27), unread=unread)
    return report_build.make(*files(), manifest, known, evidence.AT)


def refusing() -> Loaded[Policy]:
    policy = files()[0]
    strict = policy.record.model_copy(
        update={"validity": policy.record.validity.model_copy(update={"other_weights": "refused"})}
    )
    return dataclasses.replace(policy, record=strict)


def pages(its: report.Report) -> dict[str, str]:
    file = io.StringIO()
    terminal.show(its, Console(file=file, width=200))
    return {
        "markdown": markdown.render(its).partition("## What was tried")[0],
        "html": html.render(its),
        "terminal": file.getvalue(),
        "junit": junit.render(its).decode(),
    }


def test_other_weights_stand_on_page_one() -> None:
    for name, page in pages(told(OTHERS)).items():
        assert "ther weights of this repository, not examined" in page, name
        assert "consolidated.safetensors, original/consolidated.00.pth" in page, name
    for name, page in pages(told(Unread(ignored=3))).items():
        assert "ther weights of this repository" not in page, name


def test_of_many_the_first_are_reported_and_the_record_has_them_all() -> None:
    many = Unread(weights=tuple(f"w{number:02}.bin" for number in range(40)))
    its = told(many)
    assert all("w11.bin and 28 more" in page for page in pages(its).values())
    assert its.unread == many
    assert report.evidence_in(its).unread == many


def test_a_list_that_could_not_be_had_is_stated_to_be_unknown() -> None:
    for name, page in pages(told(UNKNOWN)).items():
        assert "not known, its file list could not be had" in page, name


@pytest.mark.parametrize(
    ("unread", "code"),
    [(OTHERS, "other_weights"), (UNKNOWN, "other_weights_unknown"), (None, "other_weights_unknown")],
)
def test_a_policy_may_refuse_them_and_what_is_not_known_blocks(unread: Unread | None, code: str) -> None:
    its = told(unread)
    assert its.verdict.outcome == "PASS", "named, and in nobody's way"
    known = report.evidence_in(its)
    strict = judge(refusing().record, known, evidence.AT)
    (block,) = strict.blockers
    assert (strict.outcome, block.code, block.about) == ("INCONCLUSIVE", code, "")
    assert (unread is OTHERS) == ("there are consolidated.safetensors, original/" in sentence(block))
    assert "the repository may contain other weights" in "\n".join(explain(refusing().record, strict))
    clean = dataclasses.replace(known, unread=Unread(ignored=3))
    assert judge(refusing().record, clean, evidence.AT).outcome == "PASS"


def test_a_ledger_keeps_what_the_last_run_saw(tmp_path: Path) -> None:
    its = told(OTHERS)
    kept = evidence.ledger_of(its, tmp_path / "ledger.jsonl")
    trials = [record.trial for record in its.trials]
    assert kept.evidence(its.checkpoint, trials).unread == OTHERS


# --- verify -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def commit(tmp_path: Path) -> CheckpointRef:
    """A commit of two files that are read, with weights of TensorFlow beside them."""
    blobs = tmp_path / "models--lab--m" / "blobs"
    folder = blobs.parent / "snapshots" / ("0" * 40)
    lay(blobs, PLAIN)
    folder.mkdir(parents=True)
    for name in PLAIN:
        (folder / name).symlink_to(blobs / name)
    listed = {name: len(content) for name, content in {**PLAIN, "tf_model.h5": HDF5}.items()}
    return CheckpointRef(folder, links_into=blobs, listed=tuple(sorted(listed.items())))


def test_verify_names_them_and_fails_where_the_policy_refuses_them(commit: CheckpointRef, tmp_path: Path) -> None:
    manifest = inspect(commit.path, links_into=commit.links_into)
    known = dataclasses.replace(evidence.evidence(planned(manifest), 0.27), stored=precision.stored(commit))
    raw = signed(report_build.make(*files(), manifest, known, evidence.AT))
    found = look(raw, checkpoint=commit)
    assert found.exit_code == Exit.PASS
    assert "other weights of this repository, not examined: tf_model.h5" in arguments(found, "checkpoint")["beside"]
    refused: dict[str, Any] = {"checkpoint": commit, "policy": refusing()}
    assert states(look(raw, **refused))["checkpoint"] == ("FAILED", Fault.OTHER_WEIGHTS_REFUSED)
    unlisted = dataclasses.replace(commit, listed=None)
    beside = arguments(look(raw, checkpoint=unlisted), "checkpoint")["beside"]
    assert "not known, its file list could not be had" in beside
    assert states(look(raw, **{**refused, "checkpoint": unlisted}))["checkpoint"][0] == "FAILED"
    clean = CheckpointRef(lay(tmp_path / "clean", PLAIN))
    assert states(look(raw, **{**refused, "checkpoint": clean}))["checkpoint"][0] == "ok"


def test_verify_without_a_checkpoint_states_what_the_report_names() -> None:
    found = look(signed(told(OTHERS)))
    assert states(found)["checkpoint"] == ("not checked", Unchecked.NO_CHECKPOINT)
    assert "not examined: consolidated.safetensors" in arguments(found, "checkpoint")["beside"]


def test_a_report_from_before_this_was_looked_at_says_that_it_does_not_know() -> None:
    old = made("PASS").model_dump(mode="json", by_alias=True)
    old.pop("unread")
    old["resolved"]["validity"].pop("other_weights")
    again = report.Report.model_validate(old, strict=False)
    assert again.unread is None
    assert again.resolved.validity.other_weights == "listed"
    assert "| other weights of this repository | `not known, nothing is on record` |" in markdown.render(again)
