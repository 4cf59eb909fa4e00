"""A checkpoint as a command names it: a directory, a commit on the hub, or a shipped organism, with its base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robustness_gate import organisms
from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.inputs.checkpoint.adapter import named_base
from robustness_gate.inputs.checkpoint.fetch import fetch
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, is_adapter
from robustness_gate.records.evidence import EvidenceIssue


def find_checkpoint(named: str, base: str | None = None) -> CheckpointRef:
    """The location of a checkpoint, and of its base if it is an adapter.

    Args:
        named: a directory, a commit of a Hugging Face repository as `hf://OWNER/NAME@COMMIT`, or `organism:NAME`.
        base: the same, for the base of an adapter; None: the one that the adapter's config names, if it is a local
            directory or pinned to a commit.

    Raises:
        UsageError: the name does not exist, the commit is not given in full, or a base is given without an adapter.
        CheckpointError: the commit is not available, or an adapter's base is not known.
    """
    found = _find(named)
    if not is_adapter(found):
        if base is not None and found.path.is_dir():  # a missing directory is reported when it is read
            raise UsageError(f"--base was given, and {named} is not an adapter.", remedy="Leave --base out.")
        return found
    under = _find(base if base is not None else named_base(found))
    if is_adapter(under):
        raise UsageError("the base is an adapter itself.", remedy="Merge it into its own base and name the result.")
    return replace(found, base=under)


def changed(place: CheckpointRef, digest: str) -> EvidenceIssue | None:
    """A note if a checkpoint no longer has the digest that it had before the run; None if it has."""
    try:
        after = manifest_of(place).digest
    except CheckpointError as error:
        return EvidenceIssue(code="checkpoint_unreadable", args={"reason": error.message})
    if after == digest:
        return None
    return EvidenceIssue(code="checkpoint_changed", args={"sha256": after})


def _find(named: str) -> CheckpointRef:
    if named.startswith("hf:"):
        return fetch(named)
    if named.startswith("organism:"):
        return CheckpointRef(organisms.checkpoint(named.removeprefix("organism:")), source=named)
    return CheckpointRef(Path(named))
