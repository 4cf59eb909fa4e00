"""The check of the report's model against the auditor's checkpoint."""

from __future__ import annotations

from robustness_gate.attestation.verify.codes import Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import Context, Failed, Found, NotChecked, message_of
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import Manifest, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, model_type
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.records.evidence import Unread
from robustness_gate.report import record
from robustness_gate.report import table as report_table


def checkpoint(its: Context) -> Found:
    """4. The checkpoint is byte for byte the examined one, and the report describes it correctly."""
    made, place = its.made, its.asked.checkpoint
    if made.manifest.digest != made.checkpoint:
        raise Failed(Fault.MANIFEST_NOT_SIGNED)
    if place is None:
        raise NotChecked(Unchecked.NO_CHECKPOINT, digest=made.checkpoint, beside=_other_weights(made.unread))
    try:
        here = manifest_of(place, its.asked.watch)
    except CheckpointError as error:
        raise Failed(Fault.CHECKPOINT_UNREADABLE, message=message_of(error), remedy=error.remedy) from None
    if here.digest != made.checkpoint:
        raise _other(made.manifest, here)
    _hold_description(made, place)
    around = unread(place)
    policies = [made.resolved, *([its.asked.policy.record] if its.asked.policy is not None else [])]
    if any(each.validity.other_weights != "listed" for each in policies) and (around.weights or not around.listed):
        raise Failed(Fault.OTHER_WEIGHTS_REFUSED, beside=_other_weights(around))
    total = sum(entry.size for entry in here.files)
    return Found(
        Confirmed.SAME_CHECKPOINT,
        files=len(here.files),
        bytes=total,
        digest=here.digest[:16],
        beside=_other_weights(around),
    )


def _hold_description(made: record.Report, place: CheckpointRef) -> None:
    """Raises Failed where the report and the files differ in a property that matters for the verdict.

    These are the architecture, for which self-tests count, and the precision of the stored weights. Without an
    architecture no self-test counts; the precision must be stated.
    """
    if made.model_type not in ("", kind := model_type(place)):
        raise Failed(Fault.OTHER_ARCHITECTURE, reported=made.model_type, found=kind)
    if made.stored is None:
        raise Failed(Fault.PRECISION_NOT_REPORTED)
    if made.stored != precision.stored(place):
        raise Failed(Fault.OTHER_PRECISION)


def _other_weights(around: Unread | None) -> str:
    return "; ".join(f"{what}: {names}" for what, names in report_table.other_weights(around))


def _other(signed: Manifest, here: Manifest) -> Failed:
    was, now = ({entry.path: entry for entry in each.files} for each in (signed, here))
    return Failed(
        Fault.OTHER_CHECKPOINT,
        changed=tuple(sorted(name for name in was.keys() & now.keys() if was[name] != now[name])),
        missing=tuple(sorted(was.keys() - now.keys())),
        added=tuple(sorted(now.keys() - was.keys())),
        base="other" if signed.base != here.base else "",
    )
