"""One commit of a Hugging Face repository, downloaded or found in the cache."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from robustness_gate.errors import CheckpointError, UsageError
from robustness_gate.inputs import filekinds, hub, jsonfiles
from robustness_gate.inputs.checkpoint.place import HUB, CheckpointRef
from robustness_gate.inputs.filekinds import ADAPTER, ADAPTER_WEIGHTS, INDEX, ONE_FILE


def fetch(reference: str, keep: str | None = None) -> CheckpointRef:
    """Download one commit of a Hugging Face repository, or find it in the cache.

    Only files that are read are downloaded, by name from the commit's file list; the weights last, and one set of
    several. Without network the snapshot is the cache's content; the manifest lists the examined files.

    Args:
        reference: `hf://OWNER/NAME@COMMIT`.
        keep: which of two sets of weights to use: `model.safetensors` or its index.

    Raises:
        UsageError: the reference does not name a commit in full.
        CheckpointError: the commit is not available.
        SetupError: huggingface_hub is not installed.
    """
    match = HUB.fullmatch(reference)
    if match is None:
        raise UsageError(
            f"'{reference}' is not hf://OWNER/NAME@COMMIT with a commit of 40 hexadecimal digits.",
            remedy="Name the commit in full: a branch, a tag or a short hash can change under a verdict.",
        )
    repository, commit = match["name"], match["commit"]
    source = f"hf://{repository}@{commit}"

    def get(patterns: Sequence[str]) -> Path:
        return hub.snapshot("model", repository, commit, patterns, where=source, refusal=CheckpointError)

    listed = hub.listing("model", repository, commit)
    if listed is None:
        path = get(FETCHED)
    else:
        small = [name for name in listed if filekinds.is_read(name) or name == INDEX]
        path = get([glob.escape(name) for name in small])
        if weights := [name for name in _wanted(path, set(listed), keep) if name in listed]:
            path = get([glob.escape(name) for name in (*small, *weights)])
    files = None if listed is None else tuple(sorted(listed.items()))
    return CheckpointRef(path, links_into=path.parent.parent / "blobs", source=source, listed=files)


FETCHED = (
    "*.json", "*.jinja", *sorted(filekinds.TOKENIZER_TEXTS), *(f"*{e}" for e in sorted(filekinds.TOKENIZER_ENDINGS)),
    "*.model", ONE_FILE, ADAPTER_WEIGHTS, "model-*-of-*.safetensors",
)  # fmt: skip
"""Patterns of files where the commit's file list is not available; the files then come from the cache."""


def _wanted(snapshot: Path, listed: set[str], keep: str | None) -> Sequence[str]:
    """The weights that belong to the small files of a snapshot. `inspect` reports their faults."""
    if ADAPTER in listed:
        return (ADAPTER_WEIGHTS,)
    if ONE_FILE in listed and keep != INDEX:
        return (ONE_FILE,)
    if INDEX not in listed:
        return ()
    shards = jsonfiles.read(snapshot, snapshot / INDEX).get("weight_map")
    found = shards.values() if isinstance(shards, dict) else ()
    return sorted(
        {each for each in found if isinstance(each, str) and "/" not in each and each.endswith(".safetensors")}
    )
