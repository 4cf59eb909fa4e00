"""Checks of an ordinary model's config.json before its weights are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs import filekinds, jsonfiles, weightset
from robustness_gate.inputs.checkpoint.place import LAYERS
from robustness_gate.inputs.checkpoint.safety import refuse_cache
from robustness_gate.inputs.filekinds import ADAPTER


def check_model(directory: Path, names: Sequence[str], keep: str | None) -> tuple[str, ...]:
    """The weight set of an ordinary model."""
    if ADAPTER in names:
        raise CheckpointError(
            f"'{ADAPTER}' makes a loader fetch weights that the manifest does not name",
            remedy="Name what it stands on with --base, or merge it (peft's merge_and_unload) and save that.",
            where=str(directory),
        )
    if "config.json" not in names:
        refuse_cache(directory)
        raise CheckpointError(
            "there is no config.json", remedy="Point to a directory made by save_pretrained.", where=str(directory)
        )
    config = jsonfiles.read(directory, directory / "config.json")
    if not config:
        raise CheckpointError(
            "config.json says nothing: it is empty, or no JSON object",
            remedy="Save the model anew with save_pretrained.",
            where=str(directory),
        )
    if "transformers_weights" in config:
        raise CheckpointError(
            "config.json chooses its own weights file (transformers_weights)",
            remedy="Name the weights model.safetensors and remove the key.",
            where=str(directory),
        )
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise CheckpointError("'architectures' in config.json is not a list", where=str(directory))
    if architectures and not any(
        str(name).endswith(("ForCausalLM", "LMHeadModel")) or name in filekinds.WRAPPERS for name in architectures
    ):
        raise CheckpointError(
            f"{architectures[0]} is not a causal language model",
            remedy="Of a model for text and pictures or sound, save the text part as a model of its own (its "
            "...ForCausalLM class, with the head) and examine that.",
            where=str(directory),
        )
    return weightset.files_of(directory, names, keep)


def refuse_more_layers(directory: Path, tensors: int) -> None:
    """Refuse a config with more layers than tensors: such a model would be built, in minutes and gigabytes, before it
    fails.
    """
    config = jsonfiles.read(directory, directory / "config.json")
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in LAYERS:
            asked = part.get(key)
            if isinstance(asked, int) and asked > tensors:
                raise CheckpointError(
                    f"config.json asks for {asked:,} layers ({key}), and the files hold {tensors:,} tensors",
                    remedy="Save the model anew with save_pretrained.",
                    where=str(directory),
                )
