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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from robustness_gate import attacks, organisms
from robustness_gate.checkpoint import Manifest, Place, manifest_of
from robustness_gate.errors import CheckpointError, GateError, NotApplicable, PlanError
from robustness_gate.files import Loaded, load_items, load_suite
from robustness_gate.gate import find_checkpoint
from robustness_gate.materials import gather
from robustness_gate.nouns import Corpus, Form, Item, Suite, Target, canonical

if TYPE_CHECKING:
    from robustness_gate.engine.load import Speaker
    from robustness_gate.engine.score import Prompt

State = Literal["ok", "note", "PROBLEM"]
NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")
USEFUL = {"mlflow": "no runs are logged to MLflow", "pyarrow": "no suite can read Parquet, as most hub datasets are"}
INSTALL = "pip install 'robustness-gate[run]'"
LITTLE_DISK = 1 << 30
"""A run writes a ledger, a report and the log-likelihoods: some tens of megabytes. Under this, say so."""
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
        found += _loaded(candidate, before, device, read, step)
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
    except GateError as error:
        return [_problem("checkpoint", "files", error)], None
    except OSError as error:
        says = f"cannot be read: {error.strerror}"
        return [Check("checkpoint", "PROBLEM", "files", says, "Look at its rights.")], None
    total = sum(entry.size for entry in manifest.files)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    kinds = ", ".join(map(str, config.get("architectures") or ())) or "no architecture named"
    found = [
        Check("checkpoint", "ok", "digest", manifest.digest),
        Check("checkpoint", "ok", "files", f"{len(manifest.files)} files, {_size(total)}, safetensors, no code"),
    ]
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
    if "quantization_config" in config:
        says = "stored quantised: attacks that train or round weights may not apply"
        found.append(Check("checkpoint", "note", "precision", says, "Better examine what it was quantised from."))
    elif set(stored.dtypes) != {name for name, words in STORED.items() if words == dtype}:
        exact = dtype == "float32" and set(stored.dtypes) <= {"BF16", "F16", "F32"}  # widening rounds nothing
        state: State = "ok" if exact else "note"
        found.append(Check("checkpoint", state, "precision", f"stored as {shares}, computed in {dtype}"))
    lengths = [text.get(key) for key in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")]
    context = next((each for each in lengths if isinstance(each, int)), None)
    if context:
        found.append(Check("checkpoint", "ok", "context", f"{context:,} tokens"))
    else:
        found.append(Check("checkpoint", "note", "context", "config.json names no length: no prompt is cut"))
    names = {entry.path for entry in (*manifest.files, *whole.files)}
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "tekken.json"}:
        remedy = "Save the tokenizer beside the model (tokenizer.save_pretrained)."
        found.append(Check("checkpoint", "PROBLEM", "tokenizer", "there is none in the directory", remedy))
    return found, stored


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


def _loaded(
    candidate: Stored,
    original: Stored | None,
    device: str,
    suite: Loaded[Suite] | None,
    step: Callable[[str], None],
) -> list[Check]:
    """Load the model as a run would, ask it a question, and try every attack's sham."""
    dtype = suite.noun.dtype if suite else "float32"
    found: list[Check] = []
    step("importing torch and transformers")
    with _silence():
        try:
            from robustness_gate.engine import load  # noqa: F401 - whatever is broken breaks here

            found += _device(device, candidate.parameters * DTYPE_BYTES[dtype], dtype)
        except GateError as error:
            return [_problem("machine", "device", error)]
        except Exception as error:  # noqa: BLE001 - a half-installed library breaks in any way
            return [Check("machine", "PROBLEM", "run extra", f"cannot be imported: {_first(error)}", INSTALL)]
        if any(check.state == "PROBLEM" for check in found):
            return found
        step(f"loading the model ({_size(candidate.bytes)})")
        try:
            speaker = _load(candidate.place, dtype, device)
        except Exception as error:  # noqa: BLE001 - whatever it is, a run would meet it too
            return [*found, _problem("checkpoint", "loading", error)]
        found += _whole(speaker, candidate)
        try:
            found += _speech(speaker, suite, step)
        except Exception as error:  # noqa: BLE001 - as above
            return [*found, _problem("checkpoint", "asking", error)]
        found.append(_blocks(speaker))
        found += _shams(speaker, suite, original, dtype, device, step)
    return found


def _whole(speaker: Speaker, stored: Stored) -> Iterator[Check]:
    """Weights that are not on disk are filled in at random by transformers, which then goes on."""
    held = sum(each.numel() for each in speaker.model.parameters())
    if held > stored.parameters and not hasattr(speaker.model, "hf_quantizer"):
        yield Check(
            "checkpoint",
            "PROBLEM",
            "weights",
            f"the model has {held:,} parameters, the disk {stored.parameters:,}: the rest were made up at random",
            "Save the whole model anew with save_pretrained.",
        )


def _speech(speaker: Speaker, suite: Loaded[Suite] | None, step: Callable[[str], None]) -> Iterator[Check]:
    """Tokenizer, letters, template, and one question."""
    from robustness_gate.engine.score import ModelRespondent, letter_tokens, prompt_of

    tokenizer = speaker.tokenizer
    yield Check("checkpoint", "ok", "tokenizer", f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens")
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
    items, form = next(iter(exams.values()))
    if form.chat and not template:
        return
    step("asking one question")
    if not bool(ModelRespondent(speaker.model, tokenizer).choose([items[0].question], form).isfinite().all()):
        remedy = "Look at the weights; a suite that computes in float32 may help."
        yield Check("checkpoint", "PROBLEM", "answers", "the model's logits are not numbers", remedy)


def _lengths(speaker: Speaker, name: str, prompts: list[Prompt]) -> Iterator[Check]:
    """Prompts longer than the context lose their beginning."""
    from robustness_gate.engine.score import encode

    longest = getattr(speaker.model.config.get_text_config(), "max_position_embeddings", None)
    texts = [prompt.text for prompt in prompts]
    tokens = [len(ids) for ids in encode(speaker.tokenizer, texts, special=prompts[0].special)]
    if longest and max(tokens) > longest:
        many = sum(each > longest for each in tokens)
        says = f"{many} of {len(prompts)} in '{name}' are longer than the context and lose their beginning"
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

    dev = load_items(organisms.world("forget.dev"))[:4]
    sources = {"forget": "forget.relearn", "retain": "retain.relearn", "unrelated": "unrelated"}
    corpora = {name: Corpus(items=load_items(organisms.world(file))[:4]) for name, file in sources.items()}
    formats = suite.noun.tasks[suite.noun.hazard].formats if suite else ("raw",)
    target = Target(
        model=speaker.model,
        tokenizer=speaker.tokenizer,
        respondent=score.ModelRespondent(speaker.model, speaker.tokenizer),
        forms=tuple(Form(chat=each == "chat") for each in formats),
        dev=dev,
        corpora=corpora,
        reference=_reference(original, dtype, device),
    )
    fails: State = "PROBLEM" if suite is not None else "note"  # nobody asked for it yet
    for name, configs in _wanted(suite).items():
        step(f"trying {name} at strength zero")
        try:
            module = attacks.load(name)
            with contextlib.closing(module.attack(target, module.SHAM, 1)) as recoveries:
                next(recoveries)
        except NotApplicable as error:
            yield Check("attacks", "note", name, f"will not be applicable: {error.message}", error.remedy)
        except Exception as error:  # noqa: BLE001 - whatever it is, a trial would fail with it
            says, remedy = f"would fail on this model: {_first(error)}", "Leave it out of the suite, or mend the cause."
            yield Check("attacks", fails, name, says, remedy)
        else:
            check = _applies(name, configs, original)
            yield _reaching(check, module, configs, speaker.model) if hasattr(module, "reach") else check


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
