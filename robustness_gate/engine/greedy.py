"""The loss of a text before prompts, its gradient, and the candidate tokens of the next step (GCG)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from robustness_gate.engine import anatomy, padding, score, shared
from robustness_gate.engine.prefix import Gap, Ground, Row, Spelt, rows

Loss = Callable[[Sequence[Row]], torch.Tensor]
"""One number for each row, with its graph where gradients are on: [row]."""


def losses(loss: Loss, rows: Sequence[Row], tokens_per_batch: int = score.TOKENS_PER_BATCH) -> torch.Tensor:
    """The loss of each row, float32 on the CPU, in batches that halve where the memory does not suffice.

    NaN counts as infinite.
    """

    @torch.inference_mode()
    def asked(part: Sequence[Row]) -> torch.Tensor:
        try:
            return loss(part).float().cpu()
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
        half = len(part) // 2
        return torch.cat([asked(part[:half]), asked(part[half:])])

    found = torch.empty(len(rows))
    for batch in score.batches([len(row.ids) for row in rows], tokens_per_batch):
        found[batch] = asked([rows[at] for at in batch])
    return torch.where(found.isnan(), torch.inf, found)  # otherwise the minimum would be NaN


@torch.inference_mode()
def answer_losses(model: Any, rows: Sequence[Row]) -> torch.Tensor:
    """The `answer_loss` of each row, as `losses` gives it; what rows begin with in common is read once where that is
    exact (`engine.shared`): a text before several prompts, and the header behind it.
    """
    read, own = [row.ids[:-1] for row in rows], [row.answer for row in rows]
    tree = shared.tree(read, own)
    alike = padding.alike(model, read)
    if alike or tree.saved < shared.WORTH or not shared.applies(model, read, tree.places, pad=0):
        return losses(answer_loss(model), rows)
    found = torch.empty(len(rows))
    plain = partial(torch.log_softmax, dim=-1, dtype=torch.float32)  # a flat answer has a loss like any other
    ends = shared.endings(model, read, own, tree, pad=0, tokens=score.TOKENS_PER_BATCH, made=plain)
    for some, logprobs in ends:
        for at, row in enumerate(some):
            wanted = torch.tensor(rows[row].ids[-own[row] :], device=logprobs.device).unsqueeze(1)
            found[row] = -logprobs[at, -own[row] :].gather(1, wanted).mean().cpu()
    return torch.where(found.isnan(), torch.inf, found)


def gradient(model: Any, loss: Loss, rows: Sequence[Row], length: int) -> torch.Tensor:
    """Gradient of the mean loss by the prefix's one-hot tokens: float32 on the CPU, [position, vocabulary].

    It is taken at the embedding's output and multiplied by the table of the embedding's outputs for all tokens, which
    is the same by the chain rule, holds for embeddings that scale, and never builds the one-hot matrix. Every row must
    hold the same prefix. Only rows in which it has `length` tokens count: in a format in which it has more or fewer
    tokens, positions differ. Batches halve where the memory does not suffice.
    """
    embedding = model.get_input_embeddings()

    def summed(part: Sequence[Row]) -> torch.Tensor:
        leaves: list[torch.Tensor] = []

        def leaf(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            leaves.append(output.detach().requires_grad_(True))
            return leaves[-1]

        handle = embedding.register_forward_hook(leaf)
        try:
            with torch.enable_grad():
                (found,) = torch.autograd.grad(loss(part).sum(), leaves[0])
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
        else:
            offsets = [found.shape[1] - len(row.ids) + row.start for row in part]
            picked = [each[at : at + row.length] for each, at, row in zip(found, offsets, part, strict=True)]
            return torch.stack(picked).float().sum(dim=0)
        finally:
            handle.remove()
        half = len(part) // 2
        return summed(part[:half]) + summed(part[half:])

    alike = [row for row in rows if row.length == length]
    ids = [row.ids for row in alike]
    lengths = [len(each) for each in ids]
    parts = score.batches(lengths, score.TOKENS_PER_BATCH, alike=padding.alike(model, ids))  # one pass, one leaf
    total = torch.stack([summed([alike[at] for at in part]) for part in parts]).sum(dim=0) / len(alike)
    with torch.no_grad():
        table = embedding(torch.arange(embedding.weight.shape[0], device=embedding.weight.device))
        slope: torch.Tensor = total @ table.float().T
    return slope.cpu()


def swaps(
    prefix: Sequence[int],
    gradient: torch.Tensor,
    allowed: torch.Tensor,
    top: int,
    count: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """Prefixes with one token swapped for one of the `top` at its place along the negative gradient (GCG's candidates).

    Args:
        prefix: token ids.
        gradient: of the loss by the one-hot tokens, [position, vocabulary].
        allowed: which tokens may be used, [vocabulary].
        top: how many of them at each position.
        count: how many swaps are drawn, uniform over positions and tokens.
        generator: on the CPU.
    """
    steep = gradient.float().cpu().masked_fill(~allowed, torch.inf)
    best = steep.topk(min(top, int(allowed.sum())), dim=1, largest=False).indices
    where = torch.randint(len(prefix), (count,), generator=generator)
    which = torch.randint(best.shape[1], (count,), generator=generator)
    return [
        [*prefix[:at], int(best[at, rank]), *prefix[at + 1 :]]
        for at, rank in zip(where.tolist(), which.tolist(), strict=True)
    ]


@torch.inference_mode()
def likely(
    model: Any, prefix: Spelt, gap: Gap, allowed: torch.Tensor, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Tokens that are likely at each position of a prefix and after it, drawn by their probability.

    Returns:
        int64 on the CPU, [position, token]; row i holds distinct tokens that may follow i tokens. Positions are those
        of the gap's format.
    """
    (row,) = rows([prefix], [gap])
    logits = model(**padding.padded(model, [row.ids]), use_cache=False).logits[0].float().cpu()
    first = logits[row.start - 1 : row.start] if row.start else torch.zeros_like(logits[:1])  # none before it
    odds = torch.cat([first, logits[row.start : row.start + row.length]]).masked_fill(~allowed, -torch.inf).softmax(-1)
    odds = odds + allowed * 1e-12  # so that all allowed tokens can be drawn
    return torch.multinomial(odds, min(count, int(allowed.sum())), generator=generator)


class Stepped(NamedTuple):
    """The result of one step."""

    prefix: Spelt
    ratio: float
    """Its loss on the prompts of this step, relative to the loss before; at most 1."""
    tokens: int
    """Number of tokens that the model has processed."""


def step(
    model: Any,
    prefix: Spelt,
    ground: Ground,
    *,
    batch: int,
    top: int,
    count: int,
    generator: torch.Generator,
    screen: int | None = None,
    finalists: float = 1.0,
) -> Stepped:
    """One step of GCG: the gradient, swaps along it, and the best of those that survive, or the unchanged text.

    The loss is the `answer_loss`.

    Args:
        model: the attacked model; no parameter of it needs a gradient.
        prefix: the current text.
        ground: the prompts and tokens of the search.
        batch: number of prompts, drawn in each step, each in every format; all texts of the step use the same ones.
        top: candidate tokens at each position.
        count: swaps drawn.
        generator: on the CPU.
        screen: number of the step's prompts on which all swaps are compared first; None: on all.
        finalists: share of the swaps that are then compared on all prompts, in (0, 1].
    """
    gaps = ground.batch(batch, generator)
    own = rows([prefix], gaps)
    slope = gradient(model, answer_loss(model), own, len(prefix.ids))
    drawn = swaps(prefix.ids, slope, ground.allowed, top, count, generator)
    tried = [prefix, *(each for each in ground.places.surviving(drawn) if each != prefix)]
    first = gaps if screen is None else gaps[: screen * len(ground.prompts[0])]
    kept, read, further = list(range(len(tried))), rows(tried, first), list[Row]()
    found = answer_losses(model, read).reshape(len(tried), -1).sum(dim=1)
    if len(first) < len(gaps):
        kept = screened(found, finalists)
        further = rows([tried[at] for at in kept], gaps[len(first) :])
        found = found[kept] + answer_losses(model, further).reshape(len(kept), -1).sum(dim=1)
    best = int(found.argmin())
    ratio = float(found[best] / found[0]) if found[0] > 0 else 1.0
    return Stepped(tried[kept[best]], ratio, sum(len(row.ids) for row in (*own, *read, *further)))


def screened(losses: torch.Tensor, finalists: float) -> list[int]:
    """Indices of the texts that go on: the first, which is the unchanged one, and this share of the others, the best.

    At least one of the others, where there is one. In their order.
    """
    others = losses[1:]
    count = min(len(others), max(1, math.ceil(finalists * len(others))))
    return [0, *sorted(1 + at for at in others.argsort(stable=True)[:count].tolist())]


def answer_loss(model: Any) -> Loss:
    """Mean cross-entropy of the answer's tokens over the whole vocabulary, in nats, which the gate itself uses."""

    def loss(rows: Sequence[Row]) -> torch.Tensor:
        width = max(row.answer for row in rows)
        shown = padding.padded(model, [row.ids for row in rows])
        logits = model(**shown, use_cache=False, logits_to_keep=width + 1).logits[:, -width - 1 : -1]
        return _mean(_surprise(logits, shown["input_ids"][:, -width:]), [(width - r.answer, width) for r in rows])

    return lambda rows: _together(model, loss, rows)


@dataclass(frozen=True)
class Terms:
    """The loss of a fluent prefix (FLRT): answers, hidden states and fluency."""

    force: torch.Tensor
    """Cross-entropy of the answer, in nats."""
    match: torch.Tensor
    """Distance of the residual streams from the original's, as a share of the original's norm; 0 without one."""
    fluency: torch.Tensor
    """Mean cross-entropy of the prefix's own tokens under the model, in nats."""


def terms(model: Any, original: Any | None, blocks: Sequence[int], rows: Sequence[Row]) -> Terms:
    """The terms of each row, [row] each.

    Streams are compared after the numbered blocks, at every position after the prefix. The original's are constants: no
    gradient goes through them.
    """
    found = _together(model, lambda part: torch.stack(_terms(model, original, blocks, part), dim=1), rows)
    return Terms(*found.unbind(dim=1))


def _terms(
    model: Any, original: Any | None, blocks: Sequence[int], rows: Sequence[Row]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Force, match and fluency of rows that share one forward pass."""
    shown = padding.padded(model, [row.ids for row in rows])
    width = shown["input_ids"].shape[1]
    begins = [width - len(row.ids) + row.start for row in rows]
    ours: dict[int, torch.Tensor] = {}
    with anatomy.edited(_keepers(model, blocks, ours)):
        logits = model(**shown, use_cache=False).logits
    surprise = _surprise(logits[:, :-1], shown["input_ids"][:, 1:])  # position t predicts token t + 1
    force = _mean(surprise, [(width - 1 - row.answer, width - 1) for row in rows])
    fluency = _mean(
        surprise, [(max(b, width - len(r.ids) + 1) - 1, b + r.length - 1) for b, r in zip(begins, rows, strict=True)]
    )
    match = torch.zeros_like(force)
    if original is not None:
        theirs: dict[int, torch.Tensor] = {}
        with torch.no_grad(), anatomy.edited(_keepers(original, blocks, theirs)):
            original(**padding.padded(original, [row.ids for row in rows]), use_cache=False, logits_to_keep=1)
        behind = [(begin + row.length, width) for begin, row in zip(begins, rows, strict=True)]
        for block in blocks:
            there = theirs[block].to(ours[block].device).float()
            gone = (ours[block].float() - there).norm(dim=-1)
            match = match + _mean(gone, behind) / _mean(there.norm(dim=-1), behind) / len(blocks)
    return force, match, fluency


def _together(model: Any, asked: Loss, rows: Sequence[Row]) -> torch.Tensor:
    """A function of rows in one pass, or grouped by length where padding changes this model's answers."""
    ids = [row.ids for row in rows]
    if not padding.alike(model, ids):
        return asked(rows)
    parts = padding.groups(ids)
    found = torch.cat([asked([rows[at] for at in part]) for part in parts])
    return found[torch.tensor([at for part in parts for at in part]).argsort().to(found.device)]


def _keepers(model: Any, blocks: Sequence[int], kept: dict[int, torch.Tensor]) -> dict[Any, Any]:
    """Hooks that change nothing and store the stream after each block, with its graph."""

    def keeper(block: int) -> Any:
        def keep(stream: torch.Tensor) -> torch.Tensor:
            kept[block] = stream
            return stream

        return keep

    stack = anatomy.layers(model) if blocks else []
    return {stack[block]: keeper(block) for block in blocks}


def _surprise(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each wanted token, in nats: [row, position]."""
    return torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), wanted, reduction="none")


def _mean(values: torch.Tensor, spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Mean over a span of positions in each row, 0 where it is empty: [row]."""
    at = torch.arange(values.shape[1], device=values.device)
    first, last = torch.tensor(spans, device=values.device).T.unsqueeze(-1)
    inside = (at >= first) & (at < last)
    found: torch.Tensor = values.masked_fill(~inside, 0.0).sum(dim=1) / inside.sum(dim=1).clamp(min=1)
    return found
