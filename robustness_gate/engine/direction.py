"""Directions in the residual stream: where prompts differ, on average, and what it takes to remove or add one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from robustness_gate.engine import anatomy, score
from robustness_gate.nouns import Form, Item


def remover(direction: torch.Tensor, strength: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """From x to x - strength (x . d) d with unit d, in the stream's own dtype (Arditi et al., equation 4)."""
    unit = direction / direction.norm().clamp(min=1e-12)

    def remove(stream: torch.Tensor) -> torch.Tensor:
        x, d = stream.float(), unit.to(stream.device).float()  # in low precision a tenth of a per cent would be left
        kept: torch.Tensor = (x - strength * (x @ d).unsqueeze(-1) * d).to(stream.dtype)
        return kept

    return remove


def adder(direction: torch.Tensor, strength: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """From x to x + strength d at every position, d as long as it is, in the stream's own dtype."""

    def add(stream: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = (stream.float() + strength * direction.to(stream.device).float()).to(stream.dtype)
        return moved

    return add


def under(form: Form, header: str) -> Form:
    """The hazard's form for a corpus's questions: under their own header, and with letters whatever the hazard has."""
    return dataclasses.replace(form, header=header, verbatim=False)


def prompts(tokenizer: Any, items: Sequence[Item], form: Form) -> list[list[int]]:
    """Each question's tokens in this form."""
    asked = [score.prompt_of(tokenizer, item.question, form) for item in items]
    return score.encode(tokenizer, [each.text for each in asked], special=not form.chat)


@torch.no_grad()
def last_streams(model: Any, encoded: Sequence[Sequence[int]], positions: int) -> torch.Tensor:
    """The stream after every block at each prompt's last positions: float32, CPU, [prompt, position, layer, width].

    A prompt with fewer tokens repeats its first one's stream.
    """
    watched = {str(number): block.module for number, block in enumerate(anatomy.dissect(model).blocks)}
    device = model.get_input_embeddings().weight.device
    found = []
    with anatomy.recorded(watched) as seen:
        for ids in encoded:
            model(input_ids=torch.tensor([list(ids)], device=device), use_cache=False)
            at = torch.arange(len(ids) - positions, len(ids)).clamp(min=0)
            found.append(torch.stack([seen[name][0].float().cpu()[at] for name in watched], dim=1))
    return torch.stack(found)
