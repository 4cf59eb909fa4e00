"""Vectors at a prompt's first positions, added to a module's output there or replacing it.

Positions are counted from each prompt's own first token, so padding on either side has no effect. The vectors are not
part of the model: a hook adds these tensors while a block is open, and gradients reach them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from robustness_gate.engine import hooks, scope, selection, train
from robustness_gate.engine.score import ModelLM
from robustness_gate.engine.train import Example, Recipe
from robustness_gate.records.attack import AttackedModel, Target
from robustness_gate.records.questions import LM


@contextmanager
def at_first(model: Any, vectors: Mapping[Any, torch.Tensor], *, instead: bool = False) -> Iterator[None]:
    """Insert vectors while the block is open.

    Args:
        model: a transformers causal language model.
        vectors: by module, [positions, width]: row i goes to a prompt's position i. Prompts may be shorter.
        instead: replace the module's output; else they are added to it.
    """
    where: dict[str, torch.Tensor] = {}

    def entering(_module: Any, arguments: Any, keywords: Any) -> None:
        ids = arguments[0] if arguments else keywords["input_ids"]
        mask = keywords.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        counted = (mask.cumsum(dim=1) - 1).masked_fill(mask == 0, -1)
        where["positions"] = counted[:, -ids.shape[1] :]

    def hook(rows: torch.Tensor) -> Any:
        def change(_module: Any, _inputs: Any, output: Any) -> Any:
            stream = output[0] if isinstance(output, tuple) else output
            positions = where["positions"].to(stream.device)
            inside = (positions >= 0) & (positions < len(rows))
            brought = rows.to(stream)[positions.clamp(0, len(rows) - 1)]
            kept = torch.zeros_like(stream) if instead else stream
            changed = torch.where(inside.unsqueeze(-1), kept + brought, stream)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return change

    with ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(hooks.tokenwise(entering), with_kwargs=True).remove)
        for module, rows in vectors.items():
            stack.callback(module.register_forward_hook(hooks.tokenwise(hook(rows))).remove)
        yield


def trained(
    target: Target,
    lm: LM,
    vectors: Mapping[Any, torch.nn.Parameter],
    solved: Sequence[Example],
    recipes: Mapping[int, Sequence[Recipe]],
    seed: int,
    *,
    questions: int,
    distance: str,
    signals: Mapping[str, float],
    instead: bool = False,
) -> Iterator[AttackedModel]:
    """For each budget train vectors at every learning rate from the same start, and keep the best on dev.

    Args:
        target: the attacked model.
        lm: answers with the vectors inserted, see `at_first`.
        vectors: their start by module, [positions, width].
        solved: the training examples.
        recipes: by budget, one for each learning rate, rising.
        seed: seed of the order of examples.
        questions: how many different questions the examples come from.
        distance: name of the signal of the vectors' distance from their start.
        signals: further signals of this attack.
        instead: replace the module's output; else the vectors are added to it.

    Yields:
        An attacked model for each budget, in order.
    """
    asked = [item.question for item in target.dev]
    plain = target.lm.loglikelihoods(asked, target.forms[0])
    parameters = {str(number): each for number, each in enumerate(vectors.values())}
    start = scope.snapshot(parameters)
    with at_first(target.model, vectors, instead=instead):
        for budget, tried in recipes.items():
            scope.write(parameters, start)
            dev = lambda: selection.accuracy(lm, target.hazards)  # noqa: E731 - called after each rate
            done = train.sweep(target.model, parameters, solved, tried, seed, dev, start)
            moved = (lm.loglikelihoods(asked, target.forms[0]) - plain).abs().max()
            yield AttackedModel(
                lm,
                budget=budget,
                cost={"examples": float(questions), **done.cost},
                signals={
                    **done.signals,
                    distance: scope.distance(parameters, start),
                    "answers_moved": float(moved),
                    **signals,
                },
                selected=done.selected,
                settings_tried=done.tried(budget),
            )


@dataclass(frozen=True)
class Prepended(ModelLM):
    """A model whose every prompt begins with `places` placeholder tokens for vectors. See `at_first`."""

    places: int = 0

    @property
    def _longest(self) -> int:
        return super()._longest - self.places

    def _placed(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        return [[0] * self.places + list(row) for row in rows]  # any token will do: its embedding is replaced


def prepended(example: Example, places: int) -> Example:
    """A training example with `places` placeholder tokens at its beginning, as for `Prepended`."""
    return Example([0] * places + example.ids, [False] * places + example.counts)


def shared_beginning(examples: Sequence[Example]) -> int:
    """Length of the common prefix of all prompts in tokens: the instruction and header of every question."""
    return shared([example.ids for example in examples])


def shared(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the common prefix in tokens."""
    columns = zip(*prompts, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
