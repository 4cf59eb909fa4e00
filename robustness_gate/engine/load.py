"""A checkpoint directory becomes a model and its tokenizer, from safetensors alone and without running its code.

An adapter is judged as merged: it is added into its base's weights once, and what the attacks see is an ordinary model.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from robustness_gate.errors import CheckpointError, NotApplicable, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOADING = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError)
"""What transformers and peft raise about files that they cannot make sense of."""


class Speaker(NamedTuple):
    """A model in evaluation mode and the tokenizer that belongs to it."""

    model: Any
    tokenizer: Any


def pick_device(wish: str) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises UsageError for a device that is not there."""
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


def load(directory: Path, *, dtype: str, device: str = "auto", base: Path | None = None) -> Speaker:
    """Load a causal language model for examination.

    Args:
        directory: an ordinary Hugging Face directory, or an adapter's, that `checkpoint.inspect` has let in.
        dtype: float32, bfloat16 or float16: the precision in which it computes, and in which an adapter is merged.
        device: auto, cpu, cuda, cuda:N or mps.
        base: what an adapter stands on: the ordinary directory into whose weights it is merged. An adapter that brings
            a tokenizer is asked through it, as its users would; another through its base's.

    Raises:
        CheckpointError: transformers cannot build the model or its tokenizer from these files, or peft cannot put the
            adapter on this base.
        UsageError: the device is not there.
    """
    place = pick_device(device)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base or directory,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except LOADING as error:
        raise _not_loaded(error, directory, base) from error
    tokenizer = tokenizer_of(directory, base)
    if base is not None:
        model = _merged(model, directory)
    model.to(place).eval()
    model.requires_grad_(requires_grad=False)
    return Speaker(model, tokenizer)


def tokenizer_of(directory: Path, base: Path | None = None) -> Any:
    """The tokenizer through which a checkpoint is asked: an adapter's own where it brings one, else its base's.

    Raises:
        CheckpointError: transformers cannot build it from these files.
    """
    own = base is None or any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            directory if own else base, trust_remote_code=False, local_files_only=True
        )
    except LOADING as error:
        raise _not_loaded(error, directory, base) from error
    if tokenizer.pad_token_id is None:  # batches must be padded with something; the attention mask hides it
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def asked_through(speaker: Speaker, tokenizer: Any) -> Speaker:
    """The model with another model's tokenizer, as whoever holds the weights can ask it.

    Raises:
        NotApplicable: that tokenizer has ids for which this model has no embedding.
    """
    rows, most = speaker.model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values())
    if most >= rows:
        raise NotApplicable(f"the original's tokenizer has ids up to {most}, and this model {rows} embeddings")
    return Speaker(speaker.model, tokenizer)


def _not_loaded(error: Exception, directory: Path, base: Path | None) -> CheckpointError:
    return CheckpointError(
        f"transformers cannot load it: {_in_short(error, directory, base)}",
        remedy="Is it complete?",
        where=str(directory),
    )


def _merged(model: Any, adapter: Path) -> Any:
    """The base with the adapter in its weights.

    Every weight of the adapter must find its place, and every place its weight. Of these peft only warns, or says
    nothing, and the result is the base with an adapter that does nothing, or something random. Nor may it adapt an
    embedding that the base uses for both its ends: merged into one weight it would act on the other end too.
    """
    import peft  # here, because most checkpoints are no adapters and it takes a second
    from peft.tuners.tuners_utils import BaseTunerLayer

    def ends() -> list[Any]:
        return [model.get_input_embeddings(), model.get_output_embeddings()]

    tied = None not in ends() and ends()[0].weight is ends()[1].weight
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of is checked below
            attached = peft.PeftModel.from_pretrained(
                model, adapter, torch_device="cpu", use_safetensors=True, local_files_only=True
            )
            again = attached.load_adapter(  # the only call that tells what found no place
                adapter, "default", torch_device="cpu", use_safetensors=True, local_files_only=True
            )
        astray = [*again.unexpected_keys, *again.missing_keys]
        if astray:
            raise ValueError(f"{len(astray)} of its weights have no counterpart, the first is {astray[0]}")
        if tied and any(isinstance(end, BaseTunerLayer) for end in ends()):
            raise CheckpointError(
                "the adapter adapts one of two embeddings that its base ties together: no merged model is the same",
                remedy="Untie them in the base and train the adapter on that.",
                where=str(adapter),
            )
        return attached.merge_and_unload(safe_merge=True)  # safe: a merge that is not finite is an error
    except LOADING as error:
        raise CheckpointError(
            f"the adapter does not fit its base ({_in_short(error, adapter)}): name the base on which it was trained "
            "with --base",
            where=str(adapter),
        ) from error


def _in_short(error: Exception, *directories: Path | None) -> str:
    """What went wrong, without this machine's paths: it ends up in a report."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = " ".join(lines[:2]) if lines else type(error).__name__
    for directory in directories:
        told = told.replace(str(directory), "the checkpoint") if directory is not None else told
    return told[:300]
