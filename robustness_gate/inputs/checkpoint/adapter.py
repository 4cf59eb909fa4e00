"""PEFT adapters: only those that merge into an ordinary model, from weights in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import jsonfiles
from robustness_gate.inputs.checkpoint.place import HUB, CheckpointRef
from robustness_gate.inputs.checkpoint.safety import files_of
from robustness_gate.inputs.filekinds import ADAPTER, ADAPTER_WEIGHTS, INDEX, ONE_FILE

MERGEABLE = ("LORA", "IA3", "LOHA", "LOKR")
"""Kinds of adapters that can be merged into their base, each covered by tests."""
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")
"""Initialisations of a LoRA that do not change the base's own weights."""
SETTINGS = {
    "peft_type", "task_type", "peft_version", "inference_mode", "base_model_name_or_path", "revision", "target_modules",
    "exclude_modules", "target_parameters", "modules_to_save", "trainable_token_indices", "ensure_weight_tying",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "r", "alpha", "lora_alpha", "bias",
    "lora_bias", "lora_dropout", "rank_dropout", "module_dropout", "rank_dropout_scale", "use_rslora", "use_dora",
    "fan_in_fan_out", "feedforward_modules", "decompose_both", "decompose_factor", "use_effective_conv2d",
    "init_lora_weights", "init_ia3_weights", "init_weights", "megatron_core", "qalora_group_size",
}  # fmt: skip
"""Settings of an adapter with which merging is equivalent to using it; others must not be set. (The last two are always
set, and have no effect without others that are not in this list.)"""


def named_base(place: CheckpointRef) -> str:
    """The base that an adapter's own config names: a local directory, or a hub reference with its commit.

    Raises:
        CheckpointError: it names none, or one that can change: a hub name without a commit.
    """
    where = place.source or str(place.path)
    files_of(place.path, place.links_into)  # links and pipes are refused before anything is read
    config = jsonfiles.read(place.path, place.path / ADAPTER)
    base, commit = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise CheckpointError("the adapter names no base model", remedy="Name it with --base.", where=where)
    for reference in (base, f"hf://{base}@{commit}"):
        if HUB.fullmatch(reference):
            return reference
    if Path(base).is_dir():
        return base
    raise CheckpointError(
        f"the adapter's base '{base[:120]}' is neither a directory here nor pinned to a commit",
        remedy="Name it with --base: a directory, or hf://OWNER/NAME@COMMIT.",
        where=where,
    )


def check_adapter(directory: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Check that an adapter merges into an ordinary model, from weights in the manifest, without importing anything."""
    for file in (ADAPTER, ADAPTER_WEIGHTS):
        if file not in names:
            raise CheckpointError(
                f"there is no {file}, and a base was given",
                remedy="Save the adapter with peft's save_pretrained, as safetensors.",
                where=str(directory),
            )
    if other := [name for name in (ONE_FILE, INDEX) if name in names]:
        raise CheckpointError(
            f"there are an adapter and the weights '{other[0]}': {ADAPTER} makes a loader read both, or fetch weights "
            "that the manifest does not name",
            remedy="Keep the adapter alone, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    config = jsonfiles.read(directory, directory / ADAPTER)
    kind, start, task = config.get("peft_type"), config.get("init_lora_weights"), config.get("task_type")
    unknown = sorted(key for key, value in config.items() if value and key not in SETTINGS)
    merge = "Merge it into its base (peft's merge_and_unload) and save that."
    write_task = (
        f"If it is one, write CAUSAL_LM into '{ADAPTER}' (or take task_type out); one for another task is not judged."
    )
    refusals: dict[str, tuple[bool, str]] = {
        f"'{ADAPTER}' does not say what kind of adapter it is (peft_type)": (
            kind is None,
            "Write its kind there (LORA, say), or save it anew with peft's save_pretrained.",
        ),
        f"adapters of the kind {str(kind)[:40]!r} cannot be judged as merged": (kind not in MERGEABLE, merge),
        f"an adapter for the task {str(task)[:40]!r} is not for a causal language model": (
            task not in ("CAUSAL_LM", None),
            write_task,
        ),
        f"'{ADAPTER}' names code to import (auto_mapping)": (bool(config.get("auto_mapping")), merge),
        f"'{ADAPTER}' names code to import (megatron_config)": (bool(config.get("megatron_config")), merge),
        f"the adapter changes its base while it is loaded (init_lora_weights: {str(start)[:40]})": (
            not (start is None or (isinstance(start, bool | str) and start in PLAIN_STARTS)),
            merge,
        ),
        f"the adapter sets '{(unknown or [''])[0][:40]}', and whether merging keeps it is not known": (
            bool(unknown),
            merge,
        ),
    }
    for message, (applies, remedy) in refusals.items():
        if applies:
            raise CheckpointError(message, remedy=remedy, where=str(directory))
    return (ADAPTER_WEIGHTS,)
