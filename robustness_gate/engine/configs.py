"""Refuse a config.json with contradictory settings, or with a key that is a name of transformers' own.

Several programs read a config. Where it holds two rope settings, two values for one number under two names, or a nested
config that its family does not have, programs may use different ones, and the examined model may differ from the served
one. A key with the name of a method replaces the method in transformers, which then fails elsewhere with an unrelated
message. Both are found in the file itself, before a model is built.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers

from robustness_gate.errors import CheckpointError

NESTED = ("text_encoder", "decoder", "generator", "text_config")
"""Keys under which `get_text_config` of transformers finds the config of the text part."""
THETAS = ("rope_theta", "rotary_emb_base")
SHARES = ("partial_rotary_factor", "rotary_pct")
ELSEWHERE = frozenset({"rope_theta", "partial_rotary_factor", "type", "rope_type", "original_max_position_embeddings"})
"""Keys of a rope setting that are compared separately, or are filled in from the rest of the config."""
DTYPES = ("dtype", "torch_dtype")
"""transformers 5 reads the first; older releases and other programs read the second."""
KERNELS = ("attn_implementation", "_attn_implementation")
OF_TORCH = (None, "eager", "sdpa")
"""Attention implementations that need torch alone."""


def refuse_ambiguous(directory: Path) -> None:
    """Find settings that two readers would read differently.

    Args:
        directory: an ordinary checkpoint whose config.json is JSON, as `manifest.inspect` has checked.

    Raises:
        CheckpointError: with the keys and their values.
    """
    for place, part, kind in _parts(directory):
        for words, remedy in _faults(part, kind):
            raise CheckpointError(f"config.json{place} {words}", remedy=remedy, where=str(directory))


def named_kernel(directory: Path) -> str:
    """The key and value in config.json that select an attention outside torch; empty where there are none."""
    for _, part, _ in _parts(directory):
        for key in KERNELS:
            if part.get(key) not in OF_TORCH:
                return f"{key}: {str(part[key])[:80]}"
    return ""


def _parts(directory: Path) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """config.json and the config of the text part inside it: the place, the plain data, and transformers' class or
    None.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    kind = _class_of(config)
    yield "", config, kind
    inner = config.get("text_config") if isinstance(config, Mapping) else None
    if isinstance(inner, Mapping):
        own = (getattr(kind, "sub_configs", None) or {}).get("text_config")
        yield "'s text_config", inner, _class_of(inner) or (own if own is not transformers.AutoConfig else None)


def _class_of(part: Mapping[str, Any]) -> Any:
    """The config class of a model_type; None where transformers has none and raises its own error later."""
    name = part.get("model_type")
    try:
        return transformers.CONFIG_MAPPING[name] if isinstance(name, str) else None
    except KeyError:
        return None


def _faults(part: Mapping[str, Any], kind: Any) -> Iterator[tuple[str, str]]:
    """The fault of one config, as the end of a sentence about it, and the remedy."""
    if kind is not None:
        yield from _of_its_class(part, kind)
    yield from _of_rope(part)
    names = [str(part[key]).removeprefix("torch.") for key in DTYPES if part.get(key) is not None]
    if len(set(names)) > 1:
        yield f"says {DTYPES[0]}: {names[0][:30]} and {DTYPES[1]}: {names[1][:30]}", "Keep the one in which it is used."


def _of_its_class(part: Mapping[str, Any], kind: Any) -> Iterator[tuple[str, str]]:
    for key in part:
        own = inspect.getattr_static(kind, key, None)
        if callable(own) or isinstance(own, (classmethod, staticmethod)):
            yield f"has the key '{key[:60]}', which is the name of a method of {kind.__name__}", "Take it out."
    names = dict(kind.attribute_map)
    if part.get("attribute_map") not in (None, names):
        yield "has an 'attribute_map' of its own, which gives other keys another meaning", "Take it out."
    for key, real in names.items():
        if _differ(part.get(key), part.get(real)):
            yield (
                f"says {real}: {_short(part[real])} and {key}: {_short(part[key])}, one setting to {kind.__name__}",
                "Keep the one that the weights were trained with.",
            )
    for name in NESTED:
        own_parts = {*(kind.sub_configs or {}), *getattr(kind, "__dataclass_fields__", {})}
        if part.get(name) is not None and name not in own_parts:
            yield (
                f"has a '{name}', and {part['model_type']} has none: some loaders read it, some do not",
                "Take it out, or set model_type to the model that it belongs to.",
            )


def _of_rope(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Transformers 5 reads `rope_parameters`; older releases and other programs read `rope_scaling` and
    `rope_theta`.
    """
    remedy = "Keep the one that the weights were trained with, or write the same into each."
    new, old = part.get("rope_parameters"), part.get("rope_scaling")
    for name, each in (("rope_parameters", new), ("rope_scaling", old)):
        for setting in _settings(each):
            for outer, inner in ((THETAS, "rope_theta"), (SHARES, "partial_rotary_factor")):
                for key in outer:
                    if _differ(part.get(key), setting.get(inner)) and not _is_nested(each):
                        yield f"says {key}: {part[key]} and {name}.{inner}: {_short(setting[inner])}", remedy
        thetas = [setting.get("rope_theta") for setting in _settings(each)]
        for key in THETAS:
            if _is_nested(each) and None not in (part.get(key), *thetas) and part[key] not in thetas:
                yield f"says {key}: {part[key]}, which is none of those in {name}", remedy
    if isinstance(new, Mapping) and not _is_nested(new) and "rope_scaling" in part and not _is_nested(old):
        scaling = old if isinstance(old, Mapping) else {}
        kinds = [_kind(new), _kind(scaling)]
        if kinds[0] != kinds[1]:
            yield f"says rope_parameters of the type '{kinds[0]}' and rope_scaling of the type '{kinds[1]}'", remedy
        for key in sorted({*new, *scaling} - ELSEWHERE):
            if new.get(key) != scaling.get(key) and kinds[0] != "default":
                yield f"says '{key}' in rope_parameters and in rope_scaling differently", remedy


def _settings(rope: Any) -> list[Mapping[str, Any]]:
    """A rope setting, or one for each type of layer."""
    if not isinstance(rope, Mapping):
        return []
    return [each for each in rope.values() if isinstance(each, Mapping)] if _is_nested(rope) else [rope]


def _is_nested(rope: Any) -> bool:
    """Whether there is one for each type of layer."""
    return isinstance(rope, Mapping) and any(isinstance(each, Mapping) for each in rope.values())


def _kind(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _differ(one: Any, other: Any) -> bool:
    """Whether both are set and differ."""
    return one is not None and other is not None and one != other


def _short(value: Any) -> str:
    return json.dumps(value)[:60]
