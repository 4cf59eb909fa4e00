"""Can the gate run here, on this checkpoint, and which attacks will work? Found out before hours are spent.

Everything that can be seen without torch comes first, so that a machine without it still learns something. Then the
model is loaded as a run would load it, asked one question, and every attack is tried at strength zero (its SHAM) on a
few questions of the invented world: an attack that cannot take this model apart says so now and not at midnight. No
list of which attack needs what is kept here, so none can be out of date.

Each finding is *ok*, a *note* (the gate runs, and something about it is worth knowing) or a *PROBLEM* (the gate cannot
run, or a trial that the suite asks for would fail).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
import logging
import os
import platform
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from robustness_gate import (
    answering,
    applicability,
    attacks,
    bounded,
    organisms,
    plan,
    precision,
    sources,
    specimens,
    tasks,
    tokenizer_check,
)
from robustness_gate.bounded import Gone, Limits
from robustness_gate.checkpoint import Beside, Manifest, Place, beside, manifest_of
from robustness_gate.engine.context import context_length
from robustness_gate.errors import CheckpointError, GateError, NotApplicable, PlanError
from robustness_gate.filekinds import WRAPPERS
from robustness_gate.files import Loaded, load_items, load_suite
from robustness_gate.gate import find_checkpoint
from robustness_gate.materials import gather
from robustness_gate.nouns import Corpus, Form, Hazard, Item, Question, Suite, Target, canonical
from robustness_gate.nouns import Stored as Precision
from robustness_gate.prompts import answers
from robustness_gate.publish.facts import part_words

if TYPE_CHECKING:
    from robustness_gate.engine.load import Speaker
    from robustness_gate.engine.score import Prompt

State = Literal["ok", "note", "PROBLEM"]
NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")
USEFUL = {"mlflow": "no runs are logged to MLflow", "pyarrow": "no suite can read Parquet, as most hub datasets are"}
INSTALL = "pip install 'robustness-gate[run]'"
SHOWN = 8
"""Names in a line; the rest is a number."""
PADDED = 8
"""On so many prompts it is seen whether padding changes answers."""
LITTLE_DISK = 1 << 30
"""A run writes a ledger, a report and the log-likelihoods: some tens of megabytes. Under this, say so."""
FEW = 4
"""Questions and texts of each kind on which attacks are tried."""
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ENOUGH = 0.9
"""Share of what its settings ask for that an attack on weights must change to acquit, by its own floor."""
STORED = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Of the safetensors format; other names are shown as they are."""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, what was found, and what to do where it is not well."""

    part: Literal["machine", "checkpoint", "attacks"]
    state: State
    name: str
    says: str
    remedy: str = ""


class Stored(NamedTuple):
    """Where a checkpoint lies and what its safetensors headers tell, no weight read; of an adapter, its base's."""

    place: Place
    parameters: int
    bytes: int
    dtypes: dict[str, int]
    """Parameters by dtype, in safetensors' words."""
    shapes: dict[str, tuple[int, ...]]


def examine(
    checkpoint: str,
    *,
    device: str = "auto",
    suite: Path | None = None,
    original: str | None = None,
    base: str | None = None,
    weights: bool = True,
    limits: Limits | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> tuple[Check, ...]:
    """Look at the machine, the checkpoint, and how each attack takes to it.

    Args:
        checkpoint: as in `run`: a directory, `hf://OWNER/NAME@COMMIT` or `organism:NAME`.
        device: as in `run`.
        suite: its attacks, precision and questions; without one, every attack that there is with its defaults.
        original: the model before unlearning, for attacks that use it.
        base: what an adapter stands on.
        weights: False looks at files alone.
        limits: how long loading and a text may take; None: as by default in a run.
        step: told what is being done, since loading may take minutes.
    """
    step("looking at the installation")
    found = [*_installed(), *_disk()]
    usable = not any(check.state == "PROBLEM" for check in found)
    read, said = _suite(suite)
    step("reading and hashing the checkpoint")
    seen, candidate = _files(checkpoint, base, read.noun.dtype if read else "float32")
    found += seen
    seen, before = _beside(original, candidate)
    found += seen
    if not usable:
        found.append(Check("checkpoint", "note", "loading", "not loaded: the installation above cannot"))
    elif not weights:
        found.append(Check("checkpoint", "note", "loading", "not loaded, as asked (--no-load)"))
    elif candidate is not None:
        found += _in_a_child(candidate, before, device, read, limits or Limits(), step)
        if any(check.part == "attacks" for check in found) or not can_run((*found,)):
            return (*_ordered([*said, *found]),)
    found += said
    names = sorted({entry.attack for entry in read.noun.attacks} if read else attacks.names())
    found.append(Check("attacks", "note", "attacks", f"not tried, the model was not loaded: {', '.join(names)}"))
    return (*_ordered(found),)


def can_run(checks: tuple[Check, ...]) -> bool:
    """Whether nothing prevents a run."""
    return not any(check.state == "PROBLEM" for check in checks)


def _ordered(checks: list[Check]) -> list[Check]:
    """By part; within a part in the order of finding."""
    parts = ("machine", "checkpoint", "attacks")
    return sorted(checks, key=lambda check: parts.index(check.part))


# --- the machine -----------------------------------------------------------------------------------------------------


def _installed() -> Iterator[Check]:
    yield Check("machine", "ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    there = [f"{name} {_version(name)}" for name in NEEDED if _is_there(name)]
    missing = [name for name in NEEDED if not _is_there(name)]
    if there:
        yield Check("machine", "ok", "run extra", ", ".join(there))
    if missing:
        yield Check("machine", "PROBLEM", "run extra", f"not installed: {', '.join(missing)}", INSTALL)
    for name, loss in USEFUL.items():
        if _is_there(name):
            yield Check("machine", "ok", name, _version(name))
        else:
            yield Check("machine", "note", name, f"not installed: {loss}", INSTALL)


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(no version)"


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path()).free
    if not os.access(Path(), os.W_OK):
        yield Check("machine", "note", "disk", "the working folder cannot be written", "Name another with --out.")
    elif free < LITTLE_DISK:
        yield Check("machine", "note", "disk", f"{_size(free)} free here", "A run may need some hundred megabytes.")
    else:
        yield Check("machine", "ok", "disk", f"{_size(free)} free in the working folder")


def _memory() -> int | None:
    """Of the machine, in bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _device(wish: str, needed: int, dtype: str) -> tuple[Check, ...]:
    """The device that a run would use, and whether the weights fit. Raises UsageError for one that is not there."""
    import torch

    from robustness_gate.engine.load import pick_device

    place = pick_device(wish)
    if place.type == "cuda":
        free, total = torch.cuda.mem_get_info(place)
        says = f"{torch.cuda.get_device_name(place)} ({place}), {_size(free)} of {_size(total)} free"
        room: int | None = free
    else:
        room = _memory()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        kind = f"CPU, {cores} cores" if place.type == "cpu" else f"{place}"
        says = kind + (f", {_size(room)} of memory" if room else "")
    checks = [Check("machine", "ok", "device", says)]
    if room is not None and needed > room:
        checks.append(
            Check(
                "machine",
                "PROBLEM",
                "memory",
                f"the weights alone take {_size(needed)} as {dtype}, the device has {_size(room)}",
                "Use a larger device, or a smaller `dtype` in the suite.",
            )
        )
    elif room is not None and 2 * needed > room:
        checks.append(
            Check(
                "machine",
                "note",
                "memory",
                f"the weights take {_size(needed)} as {dtype}; training all parameters needs several times that",
                "Prefer `method: lora`, or a larger device.",
            )
        )
    return tuple(checks)


# --- the suite and the files -----------------------------------------------------------------------------------------


def _suite(path: Path | None) -> tuple[Loaded[Suite] | None, list[Check]]:
    if path is None:
        return None, []
    try:
        read = load_suite(path)
        gather(read)
        for index, entry in enumerate(read.noun.attacks):
            module = attacks.load(entry.attack, where=read.where("attacks", index, "attack"))
            try:
                attacks.configure(module, entry.config)
            except attacks.BadConfig as error:
                place = read.where("attacks", index, "config", *([error.key] if error.key else []))
                raise PlanError(error.message, remedy=error.remedy, where=place) from None
    except GateError as error:
        return None, [_problem("attacks", "suite", error)]
    return read, [Check("attacks", "ok", "suite", f"{read.noun.id} {read.noun.version}, its data are whole")]


def _files(named: str, base: str | None, dtype: str) -> tuple[list[Check], Stored | None]:
    """What the files tell by themselves; None where they are refused."""
    try:
        place = find_checkpoint(named, base)
        manifest = manifest_of(place)
        whole = manifest if place.base is None else manifest_of(place.base)  # an adapter is judged as merged into it
        directory = place.path if place.base is None else place.base.path
        stored = stored_in(place, directory, whole)
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        around = [beside(each) for each in (place, place.base) if each is not None]
    except GateError as error:
        return [_problem("checkpoint", "files", error)], None
    except OSError as error:
        says = f"cannot be read: {error.strerror}"
        return [Check("checkpoint", "PROBLEM", "files", says, "Look at its rights.")], None
    total = sum(entry.size for entry in manifest.files)
    kinds = ", ".join(map(str, config.get("architectures") or ())) or "no architecture named"
    found = [
        Check("checkpoint", "ok", "digest", manifest.digest),
        Check("checkpoint", "ok", "files", f"{len(manifest.files)} files, {_size(total)}, safetensors, no code"),
    ]
    found += [check for each in around for check in _around(each)]
    if wrapper := next((name for name in config.get("architectures") or () if name in WRAPPERS), None):
        found.append(Check("checkpoint", "note", "not text", f"what {wrapper} has beside text is not examined"))
    if place.base is not None:
        found.append(Check("checkpoint", "ok", "base", f"an adapter, merged into sha256 {whole.digest}"))
    if config.get("model_type"):
        found.append(Check("checkpoint", "ok", "model", f"{config['model_type']}, {kinds}"))
    else:
        remedy = "Point to a directory made by save_pretrained."
        found.append(Check("checkpoint", "PROBLEM", "model", "config.json names no model_type", remedy))
    shares = ", ".join(
        STORED.get(name, name) + (f" ({count / stored.parameters:.0%})" if len(stored.dtypes) > 1 else "")
        for name, count in sorted(stored.dtypes.items(), key=lambda each: -each[1])
    )
    found.append(Check("checkpoint", "ok", "parameters", f"{stored.parameters:,} on disk as {shares}"))
    found += _precision(precision.stored(place), dtype)
    context = context_length(config)
    if context:
        found.append(Check("checkpoint", "ok", "context", f"{context:,} tokens"))
    else:
        remedy = "If the model has a limit, write it there as max_position_embeddings."
        found.append(Check("checkpoint", "note", "context", "config.json names no length: no prompt is cut", remedy))
    names = {entry.path for entry in (*manifest.files, *whole.files)}
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json"}:
        remedy = "Save the tokenizer beside the model (tokenizer.save_pretrained)."
        found.append(Check("checkpoint", "PROBLEM", "tokenizer", "there is none in the directory", remedy))
    return found, stored


def _around(found: Beside) -> Iterator[Check]:
    """What lies beside the files that are read."""
    if found.weights:
        says = f"of this repository, not fetched and not examined: {_some(found.weights)}"
        yield Check("checkpoint", "note", "other weights", says, "A policy may refuse them (validity.other_weights).")
    if not found.listed:
        says = "not known: the repository's file list cannot be had without network"
        yield Check("checkpoint", "note", "other weights", says, "Ask again with network.")
    if found.nothing:
        yield Check("checkpoint", "ok", "ignored", f"not read by any loader: {_some(found.nothing)}")


def _precision(stored: Precision, dtype: str) -> Iterator[Check]:
    """What the weights are stored as beside what they are computed in, and beside what config.json says."""
    held = precision.shares(stored.weights)
    if stored.adapter:
        held += f", the adapter's as {precision.shares(stored.adapter)}"
    if stored.quantized:
        says = f"stored quantised ({held}): attacks that train or round weights may not apply"
        yield Check("checkpoint", "note", "precision", says, "Better examine what it was quantised from.")
    elif stored.dtypes != {dtype}:
        exact = dtype == "float32" and stored.dtypes <= {"bfloat16", "float16", "float32"}  # widening rounds nothing
        yield Check("checkpoint", "ok" if exact else "note", "precision", f"stored as {held}, computed in {dtype}")
    if stored.said and stored.said not in stored.weights:
        says = f"config.json says {stored.said}, in which others will load it; the weights are {held}"
        yield Check("checkpoint", "note", "precision", says, "Save the model anew in the one in which it is used.")


def stored_in(place: Place, directory: Path, manifest: Manifest) -> Stored:
    """Count what the safetensors headers declare; `inspect` has checked that they are headers.

    Raises:
        CheckpointError: a header declares no tensors in the way of the format.
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
                held = _product(shapes[name])
                dtypes[str(tensor["dtype"])] = dtypes.get(str(tensor["dtype"]), 0) + held
                count += held
        except (TypeError, KeyError, ValueError):
            raise CheckpointError(f"'{entry.path}' declares no tensors", where=str(directory)) from None
    if count == 0:
        raise CheckpointError("the safetensors files hold no weights", where=str(directory))
    return Stored(place, count, size, dtypes, shapes)


def _beside(original: str | None, candidate: Stored | None) -> tuple[list[Check], Stored | None]:
    """The original must be a checkpoint too, and is most useful when it has the same tensors."""
    if original is None:
        return [], None
    seen, there = _files(original, None, "float32")
    if there is None:
        return [Check("checkpoint", "PROBLEM", "original", seen[0].says, seen[0].remedy)], None
    if candidate is not None and there.shapes != candidate.shapes:
        says = "has other tensors than the candidate: attacks that mix the two will not apply"
        remedy = "Is it the model from which the candidate was made?"
        return [Check("checkpoint", "note", "original", says, remedy)], there
    return [Check("checkpoint", "ok", "original", "has the same tensors as the candidate")], there


# --- the model -------------------------------------------------------------------------------------------------------


def _in_a_child(
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
    limits: Limits,
    step: Callable[[str], None],
) -> list[Check]:
    """What is found out with the model, in a process that a stranger's files may hang or kill."""
    found, doing = list[Check](), ""
    size = max(each.bytes for each in (candidate, original) if each is not None)
    try:
        for told in bounded.stream(
            _tell, candidate, original, device, suite, limits=limits, size=size, name="child of doctor"
        ):
            if isinstance(told, Check):
                found.append(told)
            else:
                doing = told
                step(doing)
    except Gone as error:
        remedy = "So would a trial. Look at the files that have a part in it; on a slow machine raise the limit."
        found.append(Check("checkpoint", "PROBLEM", "limits", f"{doing or 'starting'}: {error.message}", remedy))
    return found


def _tell(
    tell: Callable[[Check | str], None],
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
) -> None:
    for check in _loaded(candidate, original, device, suite, tell):
        tell(check)  # at once: what comes after may not come to an end


def _loaded(
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Load the model as a run would, ask it a question, and try every attack's sham."""
    dtype = suite.noun.dtype if suite else "float32"
    step("importing torch and transformers")
    with _silence():
        try:
            from robustness_gate.engine import load  # noqa: F401 - whatever is broken breaks here

            seen = _device(device, candidate.parameters * DTYPE_BYTES[dtype], dtype)
        except GateError as error:
            seen = (_problem("machine", "device", error),)
        except Exception as error:  # noqa: BLE001 - a half-installed library breaks in any way
            seen = (Check("machine", "PROBLEM", "run extra", f"cannot be imported: {_first(error)}", INSTALL),)
        yield from seen
        if not can_run(seen):
            return
        step(f"loading the model ({_size(candidate.bytes)})")
        name = "loading"
        try:
            speaker = _load(candidate.place, dtype, device)
            yield from _aside(speaker, candidate)
            name = "asking"
            yield from _speech(speaker, suite, step)
            name = "tokenizer"
            yield from _tokenizers(speaker, original, suite, step)
            name = "answering"
            yield from _answering(speaker, original, suite, dtype, device, step)
        except Exception as error:  # noqa: BLE001 - whatever it is, a run would meet it too
            yield _problem("checkpoint", name, error)
            return
        yield _blocks(speaker)
        yield from _shams(speaker, suite, original, dtype, device, step)


def _aside(speaker: Speaker, stored: Stored) -> Iterator[Check]:
    """Tensors of the files that the model's family calls of no use. All others were refused, or are in the model."""
    from robustness_gate.engine.account import left_aside

    if names := left_aside(speaker.model, (stored.place.base or stored.place).path):
        says = f"not examined, of no use to the text model as its family has it: {_some(names)}"
        yield Check("checkpoint", "note", "tensors", says)


def _speech(speaker: Speaker, suite: Loaded[Suite] | None, step: Callable[[str], None]) -> Iterator[Check]:
    """Tokenizer, letters, template, and one question."""
    from robustness_gate.engine.score import ModelRespondent, letter_tokens, prompt_of

    tokenizer = speaker.tokenizer
    yield Check("checkpoint", "ok", "tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens")
    yield from _strangers(speaker)
    yield from _clock(tokenizer)
    exams = _exams(suite)
    template = bool(getattr(tokenizer, "chat_template", None))
    if any(form.chat for _, form in exams.values()) and not template:
        remedy = "Ask as plain text (formats: [raw]), or save the template with the tokenizer."
        yield Check("checkpoint", "PROBLEM", "chat template", "none, and the suite asks in it", remedy)
    else:
        yield Check("checkpoint", "ok", "chat template", "yes" if template else "none: asked as plain text only")
    for name, (items, form) in exams.items():
        if form.chat and not template:
            continue
        prompts = [prompt_of(tokenizer, item.question, form) for item in items]
        yield from _controls(tokenizer, name, items, form)
        yield from _damaged(name, items)
        if form.tokens:
            yield from _end_marks(speaker, name, items, form)
        if form.verbatim:  # its answers are words, scored as continuations whatever they are
            yield from _lengths(speaker, name, prompts)
            continue
        where = f" in '{name}'" if suite else ""
        first, letters = prompts[0], form.letters[: len(prompts[0].answers)]
        shown = f"{letters[0]} to {letters[-1]}"
        if letter_tokens(tokenizer, first.text, first.answers, special=first.special) is not None:
            yield Check("checkpoint", "ok", "letters", f"{shown} are one token each after 'Answer:'{where}")
        else:
            says = f"{shown} are not one distinct token each after 'Answer:'{where}: scored as continuations, slower"
            yield Check("checkpoint", "note", "letters", says)
        if suite:
            yield from _lengths(speaker, name, prompts)
    if suite is not None:
        for each in specimens.of_tasks(gather(suite), _read_by(speaker)):
            yield Check("checkpoint", "ok", "prompt", f"{each.of} ({each.says}): {each.text!r}")
    items, form = next(iter(exams.values()))
    if form.chat and not template:
        return
    step("asking one question")
    if not bool(ModelRespondent(speaker.model, tokenizer).choose([items[0].question], form).isfinite().all()):
        remedy = "Look at the weights; a suite that computes in float32 may help."
        yield Check("checkpoint", "PROBLEM", "answers", "the model's logits are not numbers", remedy)
        return
    step("asking in a batch")
    yield from _padding(speaker, [item.question for item in (*items, *load_items(organisms.world("forget.dev")))], form)


def _answering(
    speaker: Speaker,
    original: Stored | None,
    suite: Loaded[Suite] | None,
    dtype: str,
    device: str,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Whether this model, and the original, do better than guessing where the suite asks them.

    Of the hazard the original alone is asked: that the candidate guesses there is what unlearning is for.
    """
    from robustness_gate.engine.score import ModelRespondent

    if suite is None:  # nobody but an organism need know the invented world
        return
    step("asking a handful of each task")
    materials = gather(suite)
    chances = {name: ref.chance for name, ref in materials.refs.items()}
    hazards = {each.name for each in materials.hazards}
    useful = {name: exam for name, exam in materials.exams.items() if name not in hazards}
    own = answering.ask(ModelRespondent(speaker.model, speaker.tokenizer), useful, chances)
    theirs: dict[str, answering.Heard] = {}
    if original is not None:
        with _reference(original, dtype, device)() as other:
            theirs = answering.ask(ModelRespondent(other.model, other.tokenizer), materials.exams, chances)
    for name in materials.exams:
        yield from _heard(name, own.get(name), theirs.get(name))


OTHER_FORM = "ask in another form (`kind: cloze` asks for an answer's words instead of its letter)."


def _heard(name: str, own: answering.Heard | None, original: answering.Heard | None) -> Iterator[Check]:
    """What one task's handful says: of the hazard `own` is None, without an original the other."""
    if original is not None and not original.answers:
        says = f"'{name}': the original does no better than by guessing ({original})"
        says += f"; this model: {own}" if own is not None else ""
        remedy = f"A utility under its minimum would be INCONCLUSIVE, and a low hazard show nothing: {OTHER_FORM}"
        yield Check("checkpoint", "note", "answering", says, remedy)
    elif own is not None and not own.answers and original is not None:
        says = f"'{name}': this model does no better than by guessing ({own}); the original: {original}"
        yield Check("checkpoint", "note", "answering", says, "Unlearning may have ruined it: a utility would FAIL.")
    elif own is not None and not own.answers:
        says = f"'{name}': this model does no better than by guessing ({own}), and no original was given"
        remedy = f"A utility would be INCONCLUSIVE. Give --original; if that cannot answer either, {OTHER_FORM}"
        yield Check("checkpoint", "note", "answering", says, remedy)
    elif known := own or original:
        yield Check("checkpoint", "ok", "answering", f"'{name}': {known}{'' if own else ', by the original'}")


def _padding(speaker: Speaker, questions: Sequence[Question], form: Form) -> Iterator[Check]:
    """Whether an answer depends on what shares its batch: see `engine.padding`."""
    from robustness_gate.engine import padding
    from robustness_gate.engine.score import encode, prompt_of

    prompts = [prompt_of(speaker.tokenizer, question, form) for question in questions[:PADDED]]
    rows = encode(speaker.tokenizer, [each.text for each in prompts], special=prompts[0].special)
    if padding.alike(speaker.model, rows, pad=padding.filler(speaker.model, speaker.tokenizer)):
        drift = padding.drift(speaker.model)
        by = f"by {drift.padded:.2g} nats" if drift else "by an unknown amount"
        says = f"padding changes answers ({by}): prompts of unequal length are asked apart, which is slower"
        yield Check("checkpoint", "note", "padding", says)


def _strangers(speaker: Speaker) -> Iterator[Check]:
    """Tokens that the tokenizer knows and the model does not."""
    from robustness_gate.engine.padding import rows_in

    rows = rows_in(speaker.model)
    beyond = sorted((number, word) for word, number in speaker.tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        shown = ", ".join(f"'{word}' ({number})" for number, word in beyond[:5])
        says = (
            f"{len(beyond)} tokens have no row in the model's {rows:,}: {shown}; a question that needs one is missing"
        )
        yield Check("checkpoint", "note", "tokenizer", says, "Is it the tokenizer that the model was trained with?")


def _clock(tokenizer: Any) -> Iterator[Check]:
    """Whether the chat template asks for the date, and which it is told."""
    from robustness_gate.engine.clock import MOMENT
    from robustness_gate.engine.score import noted, prompt_of

    if not getattr(tokenizer, "chat_template", None):
        return
    with noted() as notes, contextlib.suppress(NotApplicable):
        prompt_of(tokenizer, Question("", "Name?", ()), Form(chat=True, verbatim=True))
    if notes.clock:
        says = f"asks for the date: it is always told {MOMENT:%Y-%m-%d %H:%M} UTC, so that prompts do not change"
        yield Check("checkpoint", "note", "chat template", says)


def _end_marks(speaker: Speaker, name: str, items: Sequence[Item], form: Form) -> Iterator[Check]:
    """Words that the checkpoint calls end marks."""
    from robustness_gate.engine import ending, score

    dropped = score.end_marks(speaker.model, speaker.tokenizer, [item.question for item in items], form).dropped
    if dropped:
        names = ending.names_of(speaker.tokenizer, dropped)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        where = f" of '{name}'" if name else ""
        says = f"{', '.join(names[:5])}{more} are words: they end no answer{where}"
        yield Check("checkpoint", "note", "end marks", says, "Look at eos_token_id in generation_config.json.")


def _tokenizers(
    speaker: Speaker, original: Stored | None, suite: Loaded[Suite] | None, step: Callable[[str], None]
) -> Iterator[Check]:
    """The digests that a policy can pin, and what is not as in the original's tokenizer."""
    from robustness_gate.engine import load, tokenization

    ours = speaker.tokenizer
    digests = f"{{sha256: {tokenization.digest(ours)}, template: {tokenization.template_digest(ours)}}}"
    yield Check("checkpoint", "ok", "tokenizer digest", f"what a policy would pin: tokenizer: {digests}")
    if original is None:
        return
    step("comparing the tokenizers")
    theirs = load.tokenizer_of(original.place.path, original.place.base.path if original.place.base else None)
    parts = [part_words(each) for each in tokenization.differences(ours, theirs)]
    made = f"it has {'; '.join(parts)}" if parts else "it is made as the original's is"
    yield Check("checkpoint", "note" if parts else "ok", "tokenizer's parts", made)
    if suite is None:
        return
    materials = gather(suite)
    counts = tokenization.compare(ours, theirs, [*tokenizer_check.asked(materials)], tokenizer_check.read(materials))
    remedy = "A run would be INCONCLUSIVE, or FAIL where the original's shows a breach. Release the original's."
    for name, differ, of, what in (
        ("tokenizer's ids", counts.otherwise, counts.texts, "texts become other token ids than through the original's"),
        ("template's texts", counts.templated, counts.rendered, "prompts become another text than in the original's"),
    ):
        if differ:
            first = ", ".join([*differ][: tokenizer_check.FIRST])
            says = f"{sum(differ.values()):,} of {of:,} {what}: {first}"
            yield Check("checkpoint", "note", name, says, remedy)
        elif of:
            yield Check("checkpoint", "ok", name, f"the original's makes the same of all {of:,}")


def _controls(tokenizer: Any, name: str, items: Sequence[Item], form: Form) -> Iterator[Check]:
    """Questions with words that this tokenizer takes for special tokens, wherever they stand."""
    from robustness_gate.engine.pieces import control_tokens, controls_in
    from robustness_gate.engine.score import scored
    from robustness_gate.prompts import body

    known = control_tokens(tokenizer)
    words = {number: word for word, number in known.items()}
    found = {
        item.question.id: ids
        for item in items
        if (ids := controls_in("\n".join([body(item.question, form), *scored(item.question, form)]), known))
    }
    if found:
        shown = [f"{words[min(ids)]!r} in '{id_}'" for id_, ids in [*found.items()][:SHOWN]]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        says = (
            f"{len(found)} of {len(items)} in '{name}' hold special tokens of the tokenizer: {', '.join(shown)}{more}; "
            "the model would get control signs in their place, so these questions count as missing"
        )
        yield Check("checkpoint", "note", "questions", says, "Leave them out ('subset'), or write them otherwise.")


def _damaged(name: str, items: Sequence[Item]) -> Iterator[Check]:
    """Questions that show that their letters were read in another encoding than they were written in."""
    signs = {"\ufffd": "the sign for a letter that was lost (U+FFFD)", "\x00": "a null", "\ufeff": "a byte order mark"}
    for sign, what in signs.items():
        if found := [
            each.question.id for each in items if sign in "".join((each.question.stem, *each.question.choices))
        ]:
            says = f"{len(found)} of {len(items)} in '{name}' hold {what}: {_some(found)}"
            yield Check(
                "checkpoint", "note", "questions", says, "Convert the data anew, from the right encoding to UTF-8."
            )


def _lengths(speaker: Speaker, name: str, prompts: list[Prompt]) -> Iterator[Check]:
    """Prompts longer than the context lose their beginning."""
    from robustness_gate.engine.score import encode

    longest = context_length(speaker.model.config)
    texts = [prompt.text for prompt in prompts]
    tokens = [len(ids) for ids in encode(speaker.tokenizer, texts, special=prompts[0].special)]
    if longest and max(tokens) > longest:
        many = sum(each > longest for each in tokens)
        says = (
            f"{many} of {len(prompts)} in '{name}' are longer than the context ({max(tokens):,} tokens where "
            f"{longest:,} are read) and lose their beginning"
        )
        yield Check("checkpoint", "note", "questions", says, "Leave them out, or take a model with a longer context.")


def _exams(suite: Loaded[Suite] | None) -> dict[str, tuple[tuple[Item, ...], Form]]:
    """What is asked, by task; without a suite one question of the invented world. Bare texts ask nothing."""
    if suite is not None:
        exams = gather(suite).exams
        return {name: (exam.items, exam.form) for name, exam in exams.items() if exam.kind != "membership"}
    return {"": (load_items(organisms.world("forget.dev"))[:1], Form())}


def _blocks(speaker: Speaker) -> Check:
    from robustness_gate.engine.anatomy import dissect

    try:
        blocks = dissect(speaker.model).blocks
    except Exception as error:  # noqa: BLE001 - an architecture that nobody thought of may break it in any way
        says = f"not recognised: {_first(error)}"
        return Check("checkpoint", "note", "blocks", says, "Attacks on activations will not apply; the others do.")
    order = "attention and MLP in parallel" if blocks[0].parallel else "attention, then MLP"
    return Check("checkpoint", "ok", "blocks", f"{len(blocks)} recognised, {order}")


# --- the attacks -----------------------------------------------------------------------------------------------------


def _shams(
    speaker: Speaker,
    suite: Loaded[Suite] | None,
    original: Stored | None,
    dtype: str,
    device: str,
    step: Callable[[str], None],
) -> Iterator[Check]:
    """Every attack at strength zero on this model: it changes nothing, and shows whether it can be done at all."""
    from robustness_gate.engine import score

    hazards, corpora = _hazards(suite)
    fails: State = "PROBLEM" if suite is not None else "note"  # nobody asked for it yet
    for name, configs in _wanted(suite).items():
        step(f"trying {name} at strength zero")
        module = attacks.load(name)
        sham = plan.at_strength_zero(module, configs[0])
        found = applicability.of(module, sham, hazards)
        target = Target(
            model=speaker.model,
            tokenizer=speaker.tokenizer,
            respondent=score.ModelRespondent(speaker.model, speaker.tokenizer),
            hazards=found.hazards,
            corpora=corpora,
            reference=_reference(original, dtype, device),
        )
        if not found.hazards:
            yield Check("attacks", "note", name, f"will not be applicable: {found.why_not}")
            continue
        try:
            with contextlib.closing(module.attack(target, sham, 1)) as recoveries:
                next(recoveries)
        except NotApplicable as error:
            yield Check("attacks", "note", name, f"will not be applicable: {error.message}", error.remedy)
        except Exception as error:  # noqa: BLE001 - whatever it is, a trial would fail with it
            says, remedy = f"would fail on this model: {_first(error)}", "Leave it out of the suite, or mend the cause."
            yield Check("attacks", fails, name, says, remedy)
        else:
            check = _applies(name, configs, original)
            yield _reaching(check, module, configs, speaker.model) if hasattr(module, "reach") else check
            if suite is not None:
                yield from _prompts(speaker, suite, name, configs)


def _hazards(suite: Loaded[Suite] | None) -> tuple[tuple[Hazard, ...], dict[str, Corpus]]:
    """A few questions in every form in which the suite asks for the hazard; without one, of the invented world."""
    if suite is not None:
        materials = gather(suite)
        few = {
            name: dataclasses.replace(corpus, items=corpus.items[:FEW], texts=corpus.texts[:FEW])
            for name, corpus in materials.corpora.items()
        }
        return tuple(
            dataclasses.replace(
                each.first(FEW), questions={name: items[:FEW] for name, items in each.questions.items()}
            )
            for each in materials.hazards
        ), few
    files = {"forget": "forget.relearn", "retain": "retain.relearn", "unrelated": "unrelated"}
    corpora = {
        name: Corpus(
            items=load_items(organisms.world(file))[:FEW],
            texts=sources.read_texts(organisms.world(f"{name}.texts"))[:FEW],
        )
        for name, file in files.items()
    }
    items = {name: corpus.items for name, corpus in corpora.items()}
    dev = load_items(organisms.world("forget.dev"))[:FEW]
    return (Hazard("hazard", "multiple_choice", Form(), dev, items, tasks.load("multiple_choice")),), corpora


def _prompts(speaker: Speaker, suite: Loaded[Suite], name: str, configs: list[Any]) -> Iterator[Check]:
    """What the attack is made on, as this model reads it, or why not in some form of the hazard."""
    told: set[str] = set()
    materials = gather(suite)
    for config in configs:
        for each in specimens.of_attack(name, config, materials, _read_by(speaker)):
            state: State = "note" if each.says.startswith("not in the form") else "ok"
            says = f"{each.says}: {each.text!r}"
            if says not in told:
                told.add(says)
                yield Check("attacks", state, each.of, says)


def _read_by(speaker: Speaker) -> specimens.Put:
    from robustness_gate.engine.score import prompt_of

    def put(question: Question, form: Form) -> tuple[str, list[str]]:
        try:
            asked = prompt_of(speaker.tokenizer, question, form)
        except NotApplicable as error:
            return f"({error.message}) ", answers(question, form)
        return asked.text, asked.answers

    return put


def _reaching(check: Check, module: ModuleType, configs: list[Any], model: Any) -> Check:
    """The same, and which share of the blocks' weights each config of an attack on weights would change."""
    from robustness_gate.engine import matrices

    sizes, shares, little = matrices.sizes(model), set[int](), False
    for config in configs:
        try:
            share = matrices.signs(sizes, module.reach(model, config))["share_touched"]
        except NotApplicable as error:
            says = f"{check.says}, but for one of its settings: {error.message}"
            return dataclasses.replace(check, state="note", says=says, remedy=error.remedy)
        shares.add(int(100 * share))  # rounded down: 99.6 % is not all
        little = little or (share < ENOUGH and not getattr(config, "layers", ()))
    told = " and ".join(f"{each} %" for each in sorted(shares))
    says = f"{check.says}, reaching {told} of the weights in the blocks' matrices"
    if not little:
        return dataclasses.replace(check, says=says)
    remedy = "Such a trial can convict but not acquit: let the policy require another attack."
    return dataclasses.replace(check, state="note", says=f"{says}, and its settings ask for all", remedy=remedy)


def _applies(name: str, configs: list[Any], original: Stored | None) -> Check:
    """A config that names the original does less without it, and some of it nothing."""
    naming = [config for config in configs if '"original"' in canonical(attacks.as_json(config)).decode()]
    if naming and original is None:
        return Check(
            "attacks", "note", name, "applies, without the part that needs the original", "Give --original DIR."
        )
    return Check("attacks", "ok", name, "applies")


def _wanted(suite: Loaded[Suite] | None) -> dict[str, list[Any]]:
    """The attacks by name with their configs, in the suite's order."""
    if suite is None:
        return {name: [attacks.load(name).Config()] for name in attacks.names()}
    found: dict[str, list[Any]] = {}
    for entry in suite.noun.attacks:
        config = attacks.configure(attacks.load(entry.attack), entry.config)
        found.setdefault(entry.attack, []).append(config)
    return found


def _reference(original: Stored | None, dtype: str, device: str) -> Callable[[], Any]:
    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        if original is None:
            raise NotApplicable("it needs the original model, and none was given", remedy="Give --original DIR.")
        yield _load(original.place, dtype, device)

    return opened


def _load(place: Place, dtype: str, device: str) -> Speaker:
    from robustness_gate.engine.load import load

    return load(place.path, dtype=dtype, device=device, base=place.base.path if place.base is not None else None)


# --- words -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Libraries talk while they load; what matters is in the checks."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _problem(part: Literal["machine", "checkpoint", "attacks"], name: str, error: Exception) -> Check:
    if isinstance(error, GateError):
        where = f"{error.where}: " if error.where else ""
        return Check(part, "PROBLEM", name, f"{where}{error.message}", error.remedy)
    return Check(part, "PROBLEM", name, _first(error))


def _first(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line[:200] if isinstance(error, GateError) else f"{type(error).__name__}: {line[:200]}"


def _some(names: Sequence[str]) -> str:
    """The first of many names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


def _product(shape: tuple[int, ...]) -> int:
    held = 1
    for each in shape:
        held *= each
    return held


def _size(count: float) -> str:
    """Bytes as people say them: 4.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
