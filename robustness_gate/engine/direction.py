"""Directions in the residual stream: mean differences between prompts, and edits that remove or add one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from robustness_gate.engine import anatomy, examples, hooks, prompting, selection
from robustness_gate.engine.examples import Way
from robustness_gate.records.attack import GridPoint, Target
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import Form, Item, in_format


def remover(direction: torch.Tensor, strength: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """From x to x - strength (x . d) d with unit d, in the stream's own dtype (Arditi et al., equation 4)."""
    unit = direction / direction.norm().clamp(min=1e-12)

    def remove(stream: torch.Tensor) -> torch.Tensor:
        x, d = stream.float(), unit.to(stream.device).float()  # in low precision 0.1 % of it would remain
        kept: torch.Tensor = (x - strength * (x @ d).unsqueeze(-1) * d).to(stream.dtype)
        return kept

    return hooks.tokenwise(remove)  # type: ignore[no-any-return]


def adder(direction: torch.Tensor, strength: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """From x to x + strength d at every position, d as long as it is, in the stream's own dtype."""

    def add(stream: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = (stream.float() + strength * direction.to(stream.device).float()).to(stream.dtype)
        return moved

    return hooks.tokenwise(add)  # type: ignore[no-any-return]


Setting = TypeVar("Setting")


def screened(
    target: Target,
    settings: Sequence[Setting],
    edited: Callable[[Setting], AbstractContextManager[None]],
    described: Callable[[Setting], Mapping[str, Json]],
) -> tuple[Setting, GridPoint, list[GridPoint]]:
    """Evaluate dev under every setting: returns the best one, its accuracy, and the grid of all.

    Args:
        target: the attacked model.
        settings: at least one; of equally good ones the first is taken.
        edited: the edit of a setting, on while the block is open.
        described: the record of a setting.
    """
    found = []
    for setting in settings:
        with edited(setting):
            dev = selection.accuracy(target.lm, target.hazards)
        found.append(GridPoint(described(setting), dev))
    best, chosen = max(zip(settings, found, strict=True), key=lambda each: each[1].dev_accuracy)
    return best, chosen, found


@dataclass(frozen=True)
class HazardForm:
    """One form of the hazard, and each corpus in that form."""

    words: str
    """Its label among the forms: `raw` or `chat` where there is one task, else the task with its format."""
    ways: Mapping[str, Way]
    """The questions by source."""

    def name(self, kind: str) -> str:
        """The name of a direction of this kind from these prompts: `retain`, `retain.chat`."""
        return {"raw": kind, "chat": in_format(kind, "chat")}.get(self.words, f"{kind} in {self.words}")


def forms(target: Target, sources: Sequence[str]) -> list[HazardForm]:
    """Every form in which the hazard is asked; forms that give the corpora the same prompts are merged.

    Raises:
        NotApplicable: a task's prompts cannot be made for a corpus.
    """
    alone = len({hazard.name.removesuffix(".chat") for hazard in target.hazards}) == 1
    found: list[HazardForm] = []
    for number, hazard in enumerate(target.hazards):
        ways = {each: examples.each_way(target, each)[number] for each in sources}
        asked = {each: (way.items, way.form) for each, way in ways.items()}
        if any(asked == {each: (way.items, way.form) for each, way in other.ways.items()} for other in found):
            continue
        words = ("chat" if hazard.form.chat else "raw") if alone else hazard.name
        found.append(HazardForm(words, ways))
    return found


def prompts(tokenizer: Any, items: Sequence[Item], form: Form) -> list[list[int]]:
    """Each question's tokens in this form."""
    asked = [prompting.prompt_of(tokenizer, item.question, form) for item in items]
    return prompting.encode(tokenizer, [each.text for each in asked], special=not form.chat)


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
