"""Metric a model before its end: any stage of the residual stream, taken to the model's own final norm and head.

A block adds two things to the stream, so it offers four stages to read: what attention adds, the stream with that
added, what the MLP adds, and the stream after the block. The lens hands the stage to the final norm in the place of
what the last block puts out. Everything behind the norm is the model itself: head, soft-capping and scaling are not
imitated, and the last block's own output read this way is the model's own answer, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch

from robustness_gate.engine.anatomy import Anatomy

Stage = Literal["attention", "after_attention", "mlp", "block"]
STAGES: tuple[Stage, ...] = ("attention", "after_attention", "mlp", "block")


class Site(NamedTuple):
    """Where to read."""

    layer: int
    """From 0."""
    stage: Stage


def sites(layers: int, stages: Sequence[Stage]) -> list[Site]:
    """Every site of the given stages but the last block's output: that one is the model itself."""
    every = [Site(layer, stage) for layer in range(layers) for stage in stages]
    return [site for site in every if site != Site(layers - 1, "block")]


@contextmanager
def read_at(anatomy: Anatomy, site: Site, strength: float = 1.0) -> Iterator[None]:
    """The model answers from `site` for the block: final + strength x (site - final) enters the final norm."""

    def instead(_module: Any, arguments: Any) -> Any:
        final, *others = arguments
        return (_between(final, _stage(stages, site), strength), *others)

    with _staged(anatomy, (site,)) as stages, ExitStack() as stack:
        stack.callback(anatomy.norm.register_forward_pre_hook(instead).remove)
        yield


@dataclass
class Lens:
    """A model as it is read from one site, to be called in the model's place. Sites share what the model computed.

    A forward pass keeps every stage at the positions that were asked for, so that a further site costs no more than
    norm and head: the model is run on a single token, and what was kept enters its final norm instead. Matrices of
    another shape may round differently there, so what is handed over to an examiner is `read_at`.
    """

    model: Any
    anatomy: Anatomy
    wanted: tuple[Site, ...]
    """Every site that will be read."""
    site: Site | None = None
    """None: the model's own end."""
    strength: float = 1.0
    kept: dict[str, dict[Site | None, torch.Tensor]] = field(default_factory=dict)
    """Streams [prompt, position, width] by the tokens of a forward pass, on the CPU."""

    def at(self, site: Site | None) -> Lens:
        """The same model from another site."""
        return Lens(self.model, self.anatomy, self.wanted, site, self.strength, self.kept)

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked of a model."""
        return getattr(self.model, name)

    def __call__(self, *, input_ids: torch.Tensor, logits_to_keep: int, **how: Any) -> Any:
        """The model's output, of which only `logits` counts: [prompt, logits_to_keep, vocabulary]."""
        address = str((input_ids.tolist(), how["attention_mask"].tolist(), logits_to_keep))
        if address not in self.kept:
            self.kept[address] = self._record(input_ids, logits_to_keep, how)
        streams = self.kept[address]
        final = streams[None]
        stream = final if self.site is None else _between(final, streams[self.site], self.strength)
        enters = stream.to(input_ids.device)
        handle = self.anatomy.norm.register_forward_pre_hook(lambda _module, arguments: (enters, *arguments[1:]))
        try:
            logits = self.model(input_ids=input_ids[:1, -1:], use_cache=False).logits
        finally:
            handle.remove()
        return SimpleNamespace(logits=logits.reshape(*stream.shape[:2], -1))  # GPT-2 lays positions out as prompts

    def _record(self, input_ids: torch.Tensor, keep: int, how: Any) -> dict[Site | None, torch.Tensor]:
        found: dict[Site | None, torch.Tensor] = {}

        def last(_module: Any, arguments: Any) -> None:
            found[None] = arguments[0][:, -keep:].to("cpu", copy=True)
            for site in self.wanted:
                found[site] = _stage(stages, site)[:, -keep:].to("cpu", copy=True)

        with _staged(self.anatomy, self.wanted) as stages, ExitStack() as stack:
            stack.callback(self.anatomy.norm.register_forward_pre_hook(last).remove)
            self.model(input_ids=input_ids, logits_to_keep=keep, **how)
        return found


def _between(final: torch.Tensor, stage: torch.Tensor, strength: float) -> torch.Tensor:
    return stage.to(final) if strength == 1.0 else final + strength * (stage.to(final) - final)


def _stage(stages: dict[tuple[int, str], torch.Tensor], site: Site) -> torch.Tensor:
    if site.stage == "after_attention":
        return stages[site.layer, "entered"] + stages[site.layer, "attention"].to(stages[site.layer, "entered"])
    return stages[site.layer, site.stage]


@contextmanager
def _staged(anatomy: Anatomy, wanted: Sequence[Site]) -> Iterator[dict[tuple[int, str], torch.Tensor]]:
    """Keep what the wanted sites are made of while the block is open, each pass over the last."""
    found: dict[tuple[int, str], torch.Tensor] = {}

    def leaving(layer: int, part: str) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            found[layer, part] = output[0] if isinstance(output, tuple) else output

        return keep

    def entering(layer: int) -> Any:
        def keep(_module: Any, arguments: Any, keywords: Any) -> None:
            found[layer, "entered"] = arguments[0] if arguments else keywords["hidden_states"]

        return keep

    needed = {(site.layer, part) for site in wanted for part in _parts(site)}
    with ExitStack() as stack:
        for layer, part in sorted(needed):
            block = anatomy.blocks[layer]
            if part == "entered":
                handle = block.module.register_forward_pre_hook(entering(layer), with_kwargs=True)
            else:
                module = {"attention": block.attention, "mlp": block.mlp, "block": block.module}[part]
                handle = module.register_forward_hook(leaving(layer, part))
            stack.callback(handle.remove)
        yield found


def _parts(site: Site) -> tuple[str, ...]:
    return ("entered", "attention") if site.stage == "after_attention" else (site.stage,)
