"""Check that a loaded model equals its files: each weight comes from a file, each tensor of the files is in the model.

transformers fills missing weights with random numbers, drops tensors without a place, and only warns. A verdict on such
a model would be about random numbers. There are three checks, and the later ones do not rely on the first:

1. transformers' own account of the loading (`output_loading_info`): missing, mismatched and unexpected tensors.
2. The model's weights against the values in the files: those of the same name must be equal, and weights that were
   renamed, split or fused must have the same number of values with the same sum of squares.
3. Embedding and head: a config that ties them while the head is another tensor describes two models in one directory.

Tensors that a family itself declares as unused (`_keys_to_ignore_on_load_*`: masks kept as buffers, layers for
speculative decoding), and a multimodal wrapper's tensors outside its text part, are ignored, and `left_aside` names
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.filekinds import CONSTANT, NOT_TEXT, WRAPPERS
from robustness_gate.inputs.weightset import files_of

FUSED = 1e-3
"""Largest relative difference in the sum of squares at which tensors fused in another precision count as equal."""
REMEDY = "Save the model with save_pretrained from the class that config.json names, and look at its tensors' names."


def refuse_other_weights(model: Any, loading_info: Mapping[str, Any], directory: Path) -> None:
    """Compare a freshly loaded model with the files from which it was loaded.

    Args:
        model: from `from_pretrained`, on the CPU.
        loading_info: from `from_pretrained`: `missing_keys`, `unexpected_keys`, `mismatched_keys` (name, shape in the
        files, shape).
        directory: an ordinary checkpoint.

    Raises:
        CheckpointError: its class differs from config.json's, a weight is not in the files, a tensor has no place, one
            has another shape or value, or embedding and head are tied by the config and not in the files.
    """
    _refuse_other_class(model, directory)
    with ExitStack() as stack:
        files = _Files(stack, directory)
        _refuse_by_loading_info(loading_info, files, directory)
        if hasattr(model, "hf_quantizer"):  # quantised: stored values differ from those in the model
            return
        _refuse_unlike(model, files, directory)
    refuse_two_heads(model, directory)


def left_aside(model: Any, directory: Path) -> tuple[str, ...]:
    """Tensors of the files that the model's family declares as unused, sorted by name.

    Args:
        model: from `load`.
        directory: the ordinary checkpoint from which it was loaded.
    """
    with ExitStack() as stack:
        files = _Files(stack, directory)
        known = {name for key in model.state_dict() for name in _names(model, key)}
        return tuple(sorted(name for name in files.names - known if _declared(model, name) or files.is_of_no_use(name)))


class _Files:
    """The tensors of a checkpoint by name, read on demand."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        top = [path.name for path in directory.iterdir()]
        opened = [
            stack.enter_context(safe_open(directory / name, framework="pt"))
            for name in files_of(directory, top)
            if name.endswith(".safetensors")
        ]
        self._at = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - it is not a mapping
        self.names = set(self._at)
        self._wrapper = any(name in WRAPPERS for name in _config(directory).get("architectures") or ())

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._at[name].get_tensor(name)
        return tensor

    def size(self, name: str) -> int:
        """Number of values of a tensor."""
        return torch.Size(self._at[name].get_slice(name).get_shape()).numel()

    def is_of_no_use(self, name: str) -> bool:
        """Whether a tensor belongs to a wrapper's part that is not text, or is a mask."""
        return (self._wrapper and NOT_TEXT.search(name) is not None) or self._is_mask(name)

    def _is_mask(self, name: str) -> bool:
        """Whether it is a buffer of an old release: one number, or an n x n causal mask (full, or a window)."""
        if not CONSTANT.search(name):
            return False
        if self.size(name) == 1:
            return True
        mask = self.read(name).squeeze()
        if mask.dim() != 2 or mask.shape[0] != mask.shape[1]:
            return False
        every = torch.ones_like(mask, dtype=torch.bool).tril()
        window = int((mask[-1] != 0).sum())
        return torch.equal(mask, (every & ~every.tril(-window)).to(mask.dtype))


def _config(directory: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config


def _refuse_other_class(model: Any, directory: Path) -> None:
    """Transformers builds the class by `model_type`, other programs by `architectures`: they must agree."""
    named = [str(each) for each in _config(directory).get("architectures") or ()]
    built = type(model).__name__
    if named and built.lower() not in {WRAPPERS.get(each, each).lower() for each in named}:
        raise CheckpointError(
            f"config.json names the architecture {named[0][:80]}, and its model_type makes it a {built}: some loaders "
            "go by the one, some by the other",
            remedy=f"Set architectures to [{built}], or model_type to what the architecture has.",
            where=str(directory),
        )


def _refuse_by_loading_info(loading_info: Mapping[str, Any], files: _Files, directory: Path) -> None:
    missing = sorted(loading_info["missing_keys"])
    mismatched = sorted(loading_info["mismatched_keys"])
    unexpected = sorted(
        name for name in loading_info["unexpected_keys"] if not (name in files.names and files.is_of_no_use(name))
    )
    found = []
    if missing:
        found.append(f"{len(missing)} of its weights are not in the files, the first is '{missing[0]}'")
    if mismatched:
        name, stored, wanted = mismatched[0]
        shapes = f"{_shape(stored)} in the files, {_shape(wanted)} in the model"
        found.append(f"{len(mismatched)} have another shape, the first is '{name}' ({shapes})")
    if unexpected:
        found.append(f"{len(unexpected)} tensors of the files have no place in it, the first is '{unexpected[0]}'")
    if found:
        raise CheckpointError(
            f"the files do not hold the model that config.json describes: {'; '.join(found)}. transformers would go on "
            "with random numbers, or without them",
            remedy=REMEDY,
            where=str(directory),
        )


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _refuse_unlike(model: Any, files: _Files, directory: Path) -> None:
    """The second check, of values, independent of the names that transformers matched."""
    kept = {name: weight for name, weight in model.state_dict(keep_vars=True).items() if torch.is_tensor(weight)}
    together: dict[tuple[int, torch.Size], list[str]] = {}
    for name, weight in kept.items():  # tied weights are one
        together.setdefault((weight.data_ptr(), weight.shape), []).append(name)
    seen: set[str] = set()
    rest: list[torch.Tensor] = []
    for names in together.values():
        weight = kept[names[0]].detach()
        here = {name for key in names for name in _names(model, key) if name in files.names}
        seen |= here
        alike = [_same(files.read(name), weight) for name in sorted(here)]
        if None in alike or not here:
            rest.append(weight)
            seen -= {name for name, same in zip(sorted(here), alike, strict=True) if same is None}
        if False in alike:
            name = sorted(here)[alike.index(False)]
            raise CheckpointError(
                f"'{name}' in the files is not what the loaded model computes with", remedy=REMEDY, where=str(directory)
            )
    unseen = {name for name in files.names - seen if not (_declared(model, name) or files.is_of_no_use(name))}
    _refuse_made_up(model, rest, unseen, files, directory)


def _refuse_made_up(model: Any, weights: list[torch.Tensor], names: set[str], files: _Files, directory: Path) -> None:
    """Weights whose names are not in the files: in number and sum of squares they must match the files' remaining
    tensors.
    """
    excused = sum(
        weight.numel()
        for key, weight in model.state_dict().items()
        if any(re.search(pattern, key) for pattern in model._keys_to_ignore_on_load_missing or ())
        and not files.names & set(_names(model, key))
    )
    held, stored = sum(weight.numel() for weight in weights), sum(files.size(name) for name in names)
    if held > stored + excused:
        raise CheckpointError(
            f"the model has {held - stored:,} values that come from no file: they were made up",
            remedy=REMEDY,
            where=str(directory),
        )
    if held == stored and held:
        dtype = weights[0].dtype
        here = sum(_squares(weight) for weight in weights)
        there = sum(_squares(files.read(name).to(dtype)) for name in sorted(names))
        if abs(here - there) > FUSED * max(here, there):
            raise CheckpointError(
                f"{held:,} values of the model are not those of the files: they were made up, or changed in loading",
                remedy=REMEDY,
                where=str(directory),
            )


def _same(stored: torch.Tensor, weight: torch.Tensor) -> bool | None:
    """Whether a tensor equals a weight in the weight's precision; None where loading changed the shape."""
    if stored.shape != weight.shape:
        return None
    cast = stored.to(device=weight.device, dtype=weight.dtype)
    return torch.equal(cast, weight) or torch.allclose(cast, weight, rtol=0, atol=0, equal_nan=True)


def _squares(weight: torch.Tensor) -> float:
    return float(weight.to(torch.float64).square().sum())


def _names(model: Any, key: str) -> Iterator[str]:
    """The possible names of a weight in the files: with or without the base model's prefix."""
    prefix = f"{model.base_model_prefix}."
    yield key
    yield prefix + key
    if key.startswith(prefix):
        yield key.removeprefix(prefix)


def _declared(model: Any, name: str) -> bool:
    """Whether the family declares a tensor of the files as unused."""
    own = model._keys_to_ignore_on_load_unexpected or ()
    computed = [
        pattern
        for end, pattern in (("rotary_emb.inv_freq", r"rotary_emb\.inv_freq"), ("position_ids", r"(^|\.)position_ids$"))
        if any(buffer.endswith(end) for buffer, _ in model.named_buffers())
    ]
    return any(re.search(pattern, name) for pattern in (*own, *computed))


def refuse_two_heads(model: Any, directory: Path) -> None:
    """Refuse a config that ties embedding and head where they are different tensors.

    Some loaders then use the head and some overwrite it with the embedding, so the examined model may differ from the
    served one. In a family without tied weights the flag has no effect in any loader.

    Args:
        model: as loaded, or merged with an adapter.
        directory: the folder of its config.json.

    Raises:
        CheckpointError: they are tied by a flag, the outer or the nested one, and not by their values.
    """
    config = _config(directory)
    nested = config.get("text_config")
    flags = [config.get("tie_word_embeddings"), nested.get("tie_word_embeddings") if isinstance(nested, dict) else None]
    if True not in (*flags, getattr(model.config, "tie_word_embeddings", None)) or not model._tied_weights_keys:
        return
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    first, last = (getattr(each, "weight", None) for each in ends)
    if first is None or last is None or first is last:
        return
    if first.shape != last.shape or not torch.equal(first, last):
        raise CheckpointError(
            "config.json ties the head to the embedding (tie_word_embeddings), and the head is another tensor: some "
            "loaders use it, others overwrite it",
            remedy="Set tie_word_embeddings to false, in text_config too, or remove the head from the files.",
            where=str(directory),
        )
