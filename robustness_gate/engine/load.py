"""Load a model and its tokenizer from a checkpoint directory, from safetensors alone and without running its code.

An adapter is merged into its base's weights once, so the attacks get an ordinary model.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError

from robustness_gate.engine import configs, padding, prompting
from robustness_gate.engine.account import refuse_other_weights
from robustness_gate.errors import CheckpointError, NotApplicable, UsageError
from robustness_gate.records.questions import Form, Question
from robustness_gate.system.bounded import Panic, Phase, phase

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOADING = (
    OSError, ValueError, LookupError, ArithmeticError, AssertionError, RuntimeError, TypeError, AttributeError,
    ImportError, MemoryError, StrictDataclassError, Panic,
)  # fmt: skip
"""Errors of transformers and peft for files that they cannot read."""
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""Every tokenizer of transformers is built from one of these."""
CHANCE_TEXT = "The following are multiple choice questions (with answers) about international humanitarian law. " * 4
"""Long enough that random dropout of merges gives two different encodings."""
TORN = "the adapter adapts one of two embeddings that its base ties together: no merged model is the same"
UNTIE = "Untie them in the base and train the adapter on that."


class LoadedModel(NamedTuple):
    """A model in evaluation mode and its tokenizer."""

    model: Any
    tokenizer: Any


def pick_device(wish: str) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises UsageError for a device that does not exist."""
    if wish == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wish)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"the device '{wish}' is not there ({first})", remedy="Use --device auto.") from None
    return device


@phase(Phase.LOADING)
def load(directory: Path, *, dtype: str, device: str = "auto", base: Path | None = None) -> LoadedModel:
    """Load a causal language model for examination.

    Args:
        directory: an ordinary Hugging Face directory, or an adapter's, that `checkpoint.manifest.inspect` accepted.
        dtype: float32, bfloat16 or float16: the precision in which it computes, and in which an adapter is merged.
        device: auto, cpu, cuda, cuda:N or mps.
        base: the ordinary directory into whose weights an adapter is merged. An adapter with a tokenizer of its own
            uses that, as its users would; another uses its base's.

    Raises:
        CheckpointError: transformers cannot build the model or its tokenizer from these files, the files do not hold
        exactly its weights, or peft cannot merge the adapter into this base.
        UsageError: the device does not exist.
    """
    place = pick_device(device)
    configs.refuse_ambiguous(base or directory)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, loading_info = transformers.AutoModelForCausalLM.from_pretrained(
            base or directory,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, with their names
        )
        refuse_other_weights(model, loading_info, base or directory)
    except LOADING as error:
        raise _not_loaded("it", error, directory, base, kernel=configs.named_kernel(base or directory)) from error
    tokenizer = tokenizer_of(directory, base)
    if base is not None:
        model = _merged(model, directory)
    _refuse_strange_marks(model, tokenizer, directory)
    model.config.return_dict = True  # a config may set False, and outputs are read by name
    model.to(place).eval()
    model.requires_grad_(requires_grad=False)
    padding.guard(model)
    return LoadedModel(model, tokenizer)


def tokenizer_of(directory: Path, base: Path | None = None) -> Any:
    """The tokenizer of a checkpoint: an adapter's own where it has one, else its base's.

    Encoding, decoding and rendering with it are under the limits of `bounded`.

    Raises:
        CheckpointError: transformers cannot build it from these files.
    """
    own = base is None or any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    speaks = directory if own else base or directory
    try:
        with phase(Phase.LOADING):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                speaks, trust_remote_code=False, local_files_only=True
            )
    except LOADING as error:
        if not any((speaks / name).is_file() for name in VOCABULARIES):
            raise CheckpointError(
                "there is no tokenizer that transformers can read: tokenizer.json is missing",
                remedy="Save the tokenizer beside the model (tokenizer.save_pretrained).",
                where=str(directory),
            ) from error
        raise _not_loaded("its tokenizer", error, directory, base) from error
    _refuse_chance(tokenizer, directory)
    if tokenizer.pad_token_id is None and tokenizer.eos_token:  # see engine.padding
        tokenizer.pad_token = tokenizer.eos_token
    return _limited(tokenizer)


def _limited(tokenizer: Any) -> Any:
    """The same tokenizer, with every call into untrusted code as a phase of `bounded`."""
    kind: Any = type(tokenizer)

    class Limited(kind):  # type: ignore[misc]
        def _encode_plus(self, *given: Any, **more: Any) -> Any:
            with phase(Phase.ENCODING):
                return super()._encode_plus(*given, **more)

        def _decode(self, *given: Any, **more: Any) -> Any:
            with phase(Phase.ENCODING):
                return super()._decode(*given, **more)

        def apply_chat_template(self, *given: Any, **more: Any) -> Any:
            with phase(Phase.RENDERING):
                return super().apply_chat_template(*given, **more)

    Limited.__name__, Limited.__qualname__, Limited.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    tokenizer.__class__ = Limited
    return tokenizer


def asked_through(loaded: LoadedModel, tokenizer: Any) -> LoadedModel:
    """The model with another model's tokenizer, which an attacker with the weights can use.

    Raises:
        NotApplicable: that tokenizer has ids for which this model has no embedding.
    """
    rows, most = loaded.model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values())
    if most >= rows:
        raise NotApplicable(f"the original's tokenizer has ids up to {most}, and this model {rows} embeddings")
    return LoadedModel(loaded.model, tokenizer)


def _not_loaded(
    what: str, error: Exception, directory: Path, base: Path | None, *, kernel: str = ""
) -> CheckpointError:
    if kernel and isinstance(error, (ImportError, ValueError)):
        remedy = f"config.json asks for its own attention ({kernel}). Take that out: torch then computes it."
    elif isinstance(error, ImportError):
        remedy = "Install what it names, or examine the model that needs none of it: what this one was made from."
    elif isinstance(error, OSError):
        remedy = "Is it complete?"
    else:
        remedy = "Mend what it names, or save the model anew."
    return CheckpointError(
        f"transformers cannot load {what}: {_in_short(error, directory, base)}", remedy=remedy, where=str(directory)
    )


def _refuse_chance(tokenizer: Any, directory: Path) -> None:
    """Refuse a tokenizer that leaves out merges at random, as in training: it encodes a question differently each time.

    Raises:
        CheckpointError: its settings do so, or a text gets other ids the second time.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    dropout = getattr(getattr(backend, "model", None), "dropout", None)
    if dropout:
        raise CheckpointError(
            f"tokenizer.json leaves out merges at random (dropout: {dropout:g}): no text has the same tokens twice",
            remedy="Set dropout to null in it: it is for training a model, not for asking one.",
            where=str(directory),
        )
    if backend is not None:  # it has no other random setting, and encoding a text may never end
        return
    twice = [tokenizer(CHANCE_TEXT, add_special_tokens=False)["input_ids"] for _ in range(2)]
    if twice[0] != twice[1]:
        raise CheckpointError(
            "the tokenizer makes other tokens of the same text each time",
            remedy="Switch its sampling off (sp_model_kwargs, enable_sampling) and save it anew.",
            where=str(directory),
        )


def _refuse_strange_marks(model: Any, tokenizer: Any, directory: Path) -> None:
    """Special tokens that are in every prompt must have a row in the model; the padding token need not.

    Raises:
        CheckpointError: the tokenizer or its chat template writes one without a row in the model.
    """
    rows = padding.rows_in(model)
    written = {"the tokenizer": tokenizer("Name?", add_special_tokens=True)["input_ids"]}
    with contextlib.suppress(NotApplicable):  # there is no template, or it does not accept a question
        text = prompting.prompt_of(tokenizer, Question("", "Name?", ()), Form(chat=True, verbatim=True)).text
        written["the chat template"] = tokenizer(text, add_special_tokens=False)["input_ids"]
    for who, ids in written.items():
        for each in ids:
            if not 0 <= each < rows:
                raise CheckpointError(
                    f"{who} writes '{tokenizer.convert_ids_to_tokens(each)}', whose id is {each}, and the model has "
                    f"{rows:,} rows in its embedding",
                    remedy="Save the tokenizer that the model was trained with, or resize the embedding and train it.",
                    where=str(directory),
                )


def _merged(model: Any, adapter: Path) -> Any:
    """The base with the adapter merged into its weights.

    Every weight of the adapter must match a place in the base, and every place a weight. peft only warns of a mismatch,
    or ignores it, and the result is the base with an adapter that has no effect or a random one. An embedding that is
    tied to the head must not be adapted: merged into one weight the adapter would act on the other one too.
    """
    import peft  # here, because most checkpoints are not adapters and the import takes a second
    from peft.tuners.tuners_utils import BaseTunerLayer

    def ends(of: Any) -> list[Any]:
        return [of.get_input_embeddings(), of.get_output_embeddings()]

    tied = None not in ends(model) and ends(model)[0].weight is ends(model)[1].weight
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the causes of their warnings are checked below
            attached = peft.PeftModel.from_pretrained(
                model, adapter, torch_device="cpu", use_safetensors=True, local_files_only=True
            )
            again = attached.load_adapter(  # the only call that returns the unmatched weights
                adapter, "default", torch_device="cpu", use_safetensors=True, local_files_only=True
            )
        astray = [*again.unexpected_keys, *again.missing_keys]
        if astray:
            raise ValueError(f"{len(astray)} of its weights have no counterpart, the first is {astray[0]}")
        if tied and any(isinstance(end, BaseTunerLayer) for end in ends(model)):
            raise CheckpointError(TORN, remedy=UNTIE, where=str(adapter))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning that the ends are no longer tied, which is refused here
            merged = attached.merge_and_unload(safe_merge=True)  # safe: a merge that is not finite is an error
        if tied and not torch.equal(*(end.weight for end in ends(merged))):  # it contains one of them in full
            raise CheckpointError(TORN, remedy=UNTIE, where=str(adapter))
        return merged
    except LOADING as error:
        raise CheckpointError(
            f"the adapter does not fit its base ({_in_short(error, adapter)}): name the base on which it was trained "
            "with --base",
            where=str(adapter),
        ) from error


def _in_short(error: Exception, *directories: Path | None) -> str:
    """An error's message without this machine's paths, because it is written into a report."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = " ".join(lines[:2]) if lines else type(error).__name__
    message = f"{type(error).__name__} {message}" if isinstance(error, KeyError) else message  # a bare word
    for directory in directories:
        message = message.replace(str(directory), "the checkpoint") if directory is not None else message
    return message[:300]
