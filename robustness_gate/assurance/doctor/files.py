"""Checks of the files without torch: the suite, the candidate, the original."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from robustness_gate import attacks
from robustness_gate.assurance.doctor.findings import Check, Code, State, found, problem
from robustness_gate.engine.context import context_length
from robustness_gate.errors import CheckpointError, GateError, PlanError
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.manifest import Manifest, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.checkpoint.survey import Beside, beside
from robustness_gate.inputs.filekinds import WRAPPERS
from robustness_gate.inputs.validation import Loaded, load_suite
from robustness_gate.planning.checkpoints import find_checkpoint
from robustness_gate.planning.suite_data import gather
from robustness_gate.records.evidence import Stored as Precision
from robustness_gate.records.suite import Suite

STORED = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Names of dtypes in the safetensors format; other names are shown unchanged."""
TOKENIZER_FILES = {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json"}


class Stored(NamedTuple):
    """A checkpoint's location and what its safetensors headers declare; for an adapter, those of its base too."""

    place: CheckpointRef
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    """Parameters by dtype, with safetensors' names."""
    shapes: dict[str, tuple[int, ...]]


def suite_of(path: Path | None) -> tuple[Loaded[Suite] | None, list[Check]]:
    """The suite with its data and its attacks' settings, or its errors."""
    if path is None:
        return None, []
    try:
        read = load_suite(path)
        gather(read)
        for index, entry in enumerate(read.record.attacks):
            module = attacks.load(entry.attack, where=read.where("attacks", index, "attack"))
            try:
                attacks.configure(module, entry.config)
            except attacks.BadConfig as error:
                place = read.where("attacks", index, "config", *([error.key] if error.key else []))
                raise PlanError(error.message, remedy=error.remedy, where=place) from None
    except GateError as error:
        return None, [problem("attacks", "suite", error)]
    return read, [found("attacks", "ok", "suite", Code.SUITE, suite=f"{read.record.id} {read.record.version}")]


def files_of(named: str, base: str | None, dtype: str) -> tuple[list[Check], Stored | None]:
    """What the files declare; None where they are refused."""
    try:
        place = find_checkpoint(named, base)
        manifest = manifest_of(place)
        whole = manifest if place.base is None else manifest_of(place.base)  # an adapter is merged into it
        directory = place.path if place.base is None else place.base.path
        stored = stored_in(place, directory, whole)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        around = [beside(each) for each in (place, place.base) if each is not None]
    except GateError as error:
        return [problem("checkpoint", "files", error)], None
    except OSError as error:
        return [found("checkpoint", "PROBLEM", "files", Code.UNREADABLE, message=error.strerror or str(error))], None
    size = sum(entry.size for entry in manifest.files)
    checks = [
        found("checkpoint", "ok", "digest", Code.DIGEST, digest=manifest.digest),
        found("checkpoint", "ok", "files", Code.FILES, files=len(manifest.files), size=size),
        *(check for each in around for check in _around(each)),
    ]
    if place.base is not None:
        checks.append(found("checkpoint", "ok", "base", Code.ADAPTER, digest=whole.digest))
    checks += _described(config, stored)
    checks += _precision(precision.stored(place), dtype)
    context = context_length(config)
    if context:
        checks.append(found("checkpoint", "ok", "context", Code.CONTEXT, tokens=context))
    else:
        checks.append(found("checkpoint", "note", "context", Code.NO_CONTEXT))
    if not {entry.path for entry in (*manifest.files, *whole.files)} & TOKENIZER_FILES:
        checks.append(found("checkpoint", "PROBLEM", "tokenizer", Code.NO_TOKENIZER))
    return checks, stored


def _described(config: Mapping[str, Any], stored: Stored) -> Iterator[Check]:
    """The architecture that config.json names, and the parameters that the files declare."""
    architectures = [*map(str, config.get("architectures") or ())]
    if wrapper := next((name for name in architectures if name in WRAPPERS), None):
        yield found("checkpoint", "note", "not text", Code.WRAPPER, architecture=wrapper)
    if config.get("model_type"):
        kinds = ", ".join(architectures) or "no architecture named"
        kind = str(config["model_type"])
        yield found("checkpoint", "ok", "model", Code.MODEL_TYPE, model_type=kind, architectures=kinds)
    else:
        yield found("checkpoint", "PROBLEM", "model", Code.NO_MODEL_TYPE)
    dtypes = ", ".join(
        STORED.get(name, name) + (f" ({count / stored.parameters:.0%})" if len(stored.dtypes) > 1 else "")
        for name, count in sorted(stored.dtypes.items(), key=lambda each: -each[1])
    )
    yield found("checkpoint", "ok", "parameters", Code.PARAMETERS, parameters=stored.parameters, dtypes=dtypes)


def _around(here: Beside) -> Iterator[Check]:
    """Other weights next to the files that are read."""
    if here.weights:
        yield found("checkpoint", "note", "other weights", Code.OTHER_WEIGHTS, files=tuple(here.weights))
    if not here.listed:
        yield found("checkpoint", "note", "other weights", Code.OTHER_WEIGHTS_UNKNOWN)
    if here.nothing:
        yield found("checkpoint", "ok", "ignored", Code.IGNORED, files=tuple(here.nothing))


def _precision(stored: Precision, dtype: str) -> Iterator[Check]:
    """The dtype in which weights are stored, compared with the computing dtype and with config.json."""
    held = precision.shares(stored.weights)
    if stored.adapter:
        held += f", the adapter's as {precision.shares(stored.adapter)}"
    if stored.quantized:
        yield found("checkpoint", "note", "precision", Code.QUANTISED, weights=held)
    elif stored.dtypes != {dtype}:
        exact = dtype == "float32" and stored.dtypes <= {"bfloat16", "float16", "float32"}  # widening rounds nothing
        state: State = "ok" if exact else "note"
        yield found("checkpoint", state, "precision", Code.STORED_PRECISION, weights=held, dtype=dtype)
    if stored.config_dtype and stored.config_dtype not in stored.weights:
        yield found("checkpoint", "note", "precision", Code.CONFIG_PRECISION, config=stored.config_dtype, weights=held)


def stored_in(place: CheckpointRef, directory: Path, manifest: Manifest) -> Stored:
    """Count what the safetensors headers declare; `inspect` has checked that they are headers.

    Raises:
        CheckpointError: a header declares no tensors in the format.
    """
    count, size, dtypes, shapes = 0, 0, dict[str, int](), dict[str, tuple[int, ...]]()
    for entry in manifest.files:
        if not entry.path.endswith(".safetensors"):
            continue
        with (directory / entry.path).open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        size += entry.size
        header.pop("__metadata__", None)
        try:
            for name, tensor in header.items():
                shapes[name] = tuple(int(each) for each in tensor["shape"])
                held = math.prod(shapes[name])
                dtypes[str(tensor["dtype"])] = dtypes.get(str(tensor["dtype"]), 0) + held
                count += held
        except (TypeError, KeyError, ValueError):
            raise CheckpointError(f"'{entry.path}' declares no tensors", where=str(directory)) from None
    if count == 0:
        raise CheckpointError("the safetensors files hold no weights", where=str(directory))
    return Stored(place, count, size, dtypes, shapes)


def original_of(original: str | None, candidate: Stored | None) -> tuple[list[Check], Stored | None]:
    """The original: it must be a checkpoint too, and some attacks need the same tensors in it."""
    if original is None:
        return [], None
    seen, there = files_of(original, None, "float32")
    if there is None:
        return [replace(seen[0], name="original")], None
    if candidate is not None and there.shapes != candidate.shapes:
        return [found("checkpoint", "note", "original", Code.ORIGINAL_OTHER_TENSORS)], there
    return [found("checkpoint", "ok", "original", Code.ORIGINAL_SAME_TENSORS)], there
