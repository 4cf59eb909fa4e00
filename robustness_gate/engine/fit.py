"""How well a model predicts the counted tokens of examples: what training lowers, and what its strength floors read.

The letter orders of a question have header and stem in common, and that is read once where an examination would do the
same (`engine.shared`): by the measurement of the untouched model, so the fit before and after a training, and that of
every attack at strength zero, are made of the same passes. Texts, of which every token counts, are read whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import batching, padding, shared
from robustness_gate.engine.loss import Example, predictions
from robustness_gate.inputs.memory import BATCH_TOKENS, FIT_ROWS

ROWS = 512
"""Number of predictions whose odds are computed together: a copy of all is as large as the logits."""


class Fit(NamedTuple):
    """How well a model predicts the counted tokens of some examples."""

    loss: float
    """Mean over the tokens, in nats a token: the quantity that training lowers."""
    right: float
    """Share of the tokens that it predicts as the likeliest."""
    odds: float
    """Mean log-odds, in nats: the token against all others together. Unlike the loss it keeps rising where a model
    already predicts its training data."""


LOST = Fit(math.inf, 0.0, -math.inf)
"""The fit after a run that diverged."""

Predictions = tuple[torch.Tensor, torch.Tensor]
"""Of some counted tokens: logits in float32, [token, vocabulary], and the tokens, [token]."""


@torch.inference_mode()
def fit(model: Any, examples: Sequence[Example], batch: int = FIT_ROWS) -> Fit:
    """How well the model in its present state predicts the examples; NaN where no token counts.

    Args:
        model: the model.
        examples: what it should predict.
        batch: how many examples go through it together where they are read whole; half as many where the device's
            memory does not suffice.
    """
    total = right = odds = 0.0
    counted = 0
    tree = _tree(model, examples)
    for logits, targets in _whole(model, examples, batch) if tree is None else _in_parts(model, examples, tree):
        if len(targets):
            total += float(torch.nn.functional.cross_entropy(logits, targets)) * len(targets)
        for rows, wanted in zip(torch.split(logits, ROWS), torch.split(targets, ROWS), strict=True):
            own = rows.gather(1, wanted.unsqueeze(1)).squeeze(1)
            others = rows.scatter(1, wanted.unsqueeze(1), -math.inf).logsumexp(dim=1)
            right += float((rows.argmax(dim=1) == wanted).sum())
            odds += float((own - others).double().sum())
        counted += len(targets)
    if not counted:
        return Fit(math.nan, math.nan, math.nan)
    return Fit(total / counted, right / counted, odds / counted)


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Mean loss over examples, in nats per counted token: the same quantity that training lowers."""
    return fit(model, examples).loss


def _whole(model: Any, examples: Sequence[Example], batch: int) -> Iterator[Predictions]:
    """The predictions of all counted tokens, each example read whole."""
    ask = partial(predictions, model, device=model.get_input_embeddings().weight.device)
    for start in range(0, len(examples), batch):
        for _, (logits, targets, _) in batching.halved(ask, examples[start : start + batch]):
            yield logits, targets


def _in_parts(model: Any, examples: Sequence[Example], tree: shared.Tree) -> Iterator[Predictions]:
    """The same, with common beginnings read once."""
    rows, own = _read(examples)
    for some, ends in shared.endings(model, rows, own, tree, pad=0, tokens=BATCH_TOKENS, made=torch.Tensor.float):
        logits, targets = list[torch.Tensor](), list[int]()
        for end, at in zip(ends, some, strict=True):
            ids, counts = (each[-own[at] :] for each in examples[at])
            logits.append(end[-own[at] :][torch.tensor(counts, device=end.device)])
            targets += [token for token, counted in zip(ids, counts, strict=True) if counted]
        yield torch.cat(logits), torch.tensor(targets, device=ends.device)


def _read(examples: Sequence[Example]) -> tuple[list[list[int]], list[int]]:
    """What is read of each example, and from how many of its last places a token is predicted.

    A token is predicted from the position before it, so the last one is not read.
    """
    firsts = [each.counts.index(True, 1) for each in examples]
    own = [len(each.ids) - first for each, first in zip(examples, firsts, strict=True)]
    return [each.ids[:-1] for each in examples], own


def _tree(model: Any, examples: Sequence[Example]) -> shared.Tree | None:
    """The common beginnings; None where the examples are read whole, as an examination would read them."""
    if shared.known(model) is None or not all(any(each.counts[1:]) for each in examples):
        return None  # the present state, which may be a trained one, is not what is to be measured
    rows, own = _read(examples)
    tree = shared.tree(rows, own)
    if tree.saved < shared.WORTH or padding.alike(model, rows):
        return None
    return tree if shared.applies(model, rows, tree.places, pad=0) else None
