"""Organisms as models of other classes, with the same function: for a self-test on a candidate's architecture.

An attack that works on a Llama may fail on another class: it may look for a module of another name, or train a part of
the weights alone. To test it there, knowledge of a known state is needed in that class. Nothing has to be trained for
it where the class can compute what a shipped organism computes. So each function of this folder writes such a model's
weights as another class:

    Mistral          model = REWRITINGS["mistral"](llama)

The logits are the same up to rounding (`tests/organisms/test_rewrite.py` compares them at 1e-5), so the knowledge is
the same, and what the shipped organisms are known for holds. What a class has beside its source is *neutral* in the
rewritten model: a bias of zero, a multiplier whose inverse is in the weights, experts that are all alike, a norm that
divides by a constant. `organisms.REWRITTEN` names it for each class. A candidate of that class may use these parts, and
the test says nothing about attacks on them.

    llama.py         Llamas as most classes with a gated MLP
    gemma.py         Llamas as Gemma 1, 2 and 3
    ungated.py       GPT-NeoX and GPT-2 organisms as classes whose MLP has no gate
    parts.py         what all of them need

Classes that norm nothing before attention and MLP (OLMo 2), and those whose MLP squares (Nemotron) compute another
function, and have no organisms.

Rewritten models are written to a temporary directory when they are needed and are never shipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from robustness_gate import organisms
from robustness_gate.errors import UsageError
from robustness_gate.organisms.rewrite import gemma, llama, ungated

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
REWRITINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {**llama.REWRITINGS, **gemma.REWRITINGS, **ungated.REWRITINGS}
)
"""By transformers' `model_type`, each a function from a model in float32 of the class `organisms.REWRITTEN[...].source`
to a model of that class with the same logits."""


def write(name: str, model_type: str, folder: Path) -> None:
    """Write a shipped organism as another class: an ordinary checkpoint directory in float32, with its tokenizer.

    Args:
        name: a shipped organism.
        model_type: a class of `REWRITINGS`, by transformers' `model_type`.
        folder: made where missing; files of the same names are replaced.

    Raises:
        UsageError: there is no such organism, it is of another class than is rewritten, or there is no such rewriting.
        SetupError: the organisms' data are not installed.
    """
    import torch
    import transformers

    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.inputs.checkpoint.place import model_type as named_in

    if model_type not in REWRITINGS:
        raise UsageError(
            f"no organism can be written as a '{model_type}'.", remedy=f"There are {', '.join(sorted(REWRITINGS))}."
        )
    place, source = organisms.checkpoint(name), organisms.REWRITTEN[model_type].source
    if (found := named_in(CheckpointRef(place))) != source:
        raise UsageError(
            f"the organism {name} is a '{found}', and only those of a '{source}' can be written as a '{model_type}'.",
            remedy="`robustness-gate organisms list` names them.",
        )
    transformers.utils.logging.disable_progress_bar()
    shipped = transformers.AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, local_files_only=True
    ).eval()
    made = REWRITINGS[model_type](shipped)
    folder.mkdir(parents=True, exist_ok=True)
    made.generation_config = shipped.generation_config
    made.save_pretrained(folder)
    for file in TOKENIZER:
        shutil.copyfile(place / file, folder / file)
