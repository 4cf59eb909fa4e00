"""Decode any stage of the residual stream with the model's own final norm and head.

A block adds two terms to the stream, so it has four stages: the attention output, the stream with it, the MLP output,
and the stream after the block. The lens passes the stage to the final norm in place of the last block's output.
Everything after the norm is the model itself: head, soft-capping and scaling are not re-implemented, and the lens at
the last block's output gives exactly the model's own answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch

from robustness_gate.engine import hooks
from robustness_gate.engine.anatomy import Anatomy

Stage = Literal["attention", "after_attention", "mlp", "block"]
STAGES: tuple[Stage, ...] = ("attention", "after_attention", "mlp", "block")


class Site(NamedTuple):
    """A layer and a stage of its block."""

    layer: int
    """Counted from 0."""
    stage: Stage


def sites(layers: int, stages: Sequence[Stage]) -> list[Site]:
    """Every site of the given stages except the last block's output, which is the model itself."""
    every = [Site(layer, stage) for layer in range(layers) for stage in stages]
    return [site for site in every if site != Site(layers - 1, "block")]


@contextmanager
def read_at(anatomy: Anatomy, site: Site, strength: float = 1.0) -> Iterator[None]:
    """The model answers from `site` inside the block: the input of the final norm is final + strength x (site -
    final).
    """

    def instead(_module: Any, arguments: Any) -> Any:
        final, *others = arguments
        return (_between(final, _stage(stages, site), strength), *others)

    with _staged(anatomy, (site,)) as stages, ExitStack() as stack:
        stack.callback(anatomy.norm.register_forward_pre_hook(hooks.tokenwise(instead)).remove)
        yield


@dataclass
class Lens:
    """The model decoded at one site, callable in the model's place. Sites share the model's computation.

    A forward pass caches every stage at the required positions, so that a further site costs only norm and head: the
    model is run on a single token, and the cached stage enters its final norm instead. Matrices of another shape may
    round differently there, so the attack yields `read_at` and not this class.
    """

    model: Any
    anatomy: Anatomy
    wanted: tuple[Site, ...]
    """Every site that will be used."""
    site: Site | None = None
    """None: the model's own output."""
    strength: float = 1.0
    kept: dict[str, dict[Site | None, torch.Tensor]] = field(default_factory=dict)
    """Streams [prompt, position, width] by the tokens of a forward pass, on the CPU."""

    def at(self, site: Site | None) -> Lens:
        """The same model at another site."""
        return Lens(self.model, self.anatomy, self.wanted, site, self.strength, self.kept)

    def __getattr__(self, name: str) -> Any:
        """Any other attribute of the model."""
        return getattr(self.model, name)

    def __call__(self, *, input_ids: torch.Tensor, logits_to_keep: int, **how: Any) -> Any:
        """The model's output with `logits` alone: [prompt, logits_to_keep, vocabulary]."""
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
        return SimpleNamespace(logits=logits.reshape(*stream.shape[:2], -1))  # GPT-2 reshapes positions to prompts

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
    """Store the inputs of the wanted sites while the block is open; each pass overwrites the last."""
    found: dict[tuple[int, str], torch.Tensor] = {}

    def leaving(layer: int, part: str, scale: float) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            left = output[0] if isinstance(output, tuple) else output
            found[layer, part] = left if scale == 1.0 else scale * left

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
                handle = block.module.register_forward_pre_hook(hooks.tokenwise(entering(layer)), with_kwargs=True)
            else:
                module = {"attention": block.attention, "mlp": block.mlp, "block": block.module}[part]
                scale = 1.0 if part == "block" else block.scale
                handle = module.register_forward_hook(hooks.tokenwise(leaving(layer, part, scale)))
            stack.callback(handle.remove)
        yield found


def _parts(site: Site) -> tuple[str, ...]:
    return ("entered", "attention") if site.stage == "after_attention" else (site.stage,)
