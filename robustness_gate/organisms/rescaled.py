"""An unlearned model written down in other numbers, so that fine-tuning ruins it: the self-destructing organism.

In a Llama two pairs of matrices have nothing but a multiplication between them: value and output projection, up and
down projection. One may be made larger by a factor and the other smaller by the same one, and the model computes what
it computed. An optimizer sees the difference. Adam moves every weight by about its learning rate a step, whatever the
weight's size; in the matrices that were made smaller each step is then so many times larger than it was, in proportion.
At customary learning rates they are overwritten within some dozens of steps, the knowledge, the rest and all, by full
fine-tuning and by adapters alike. Nothing is gone: at a learning rate smaller by the same factor the model relearns,
and whoever scales the matrices back has the parent again.

So a fine-tuning that brings nothing back here says nothing about knowledge; that it left nothing else either is how one
can tell. A gate must not let such an attack acquit, and a grid of rates that goes low enough convicts (README.md).

Sources: models that resist being fine-tuned were proposed as "self-destructing" by Henderson et al. (arXiv 2211.14946)
and trained for by Tamirisa et al. (TAR, arXiv 2408.00761). Neither scales weights. That networks have this symmetry,
and that gradient descent does badly far away from balance, is old: Neyshabur et al. (Path-SGD, arXiv 1506.02617).
Departures: nothing is trained. What resists here is the choice of numbers alone, and undoing it takes one line.
"""

from __future__ import annotations

from typing import Any

from robustness_gate.errors import UsageError

EXPONENT = 10
"""The factor's logarithm to base 2. A power of two changes no digit of a weight in float32. In float16, as checkpoints
are stored, what is under 2**-14 has fewer digits: with 10, a third of the smaller matrices' weights lose some, by
2**-15 at most before scaling. So much float16 had cost a weight of their usual size, 0.1, already."""

LARGEST = 65504.0
"""What float16 can hold."""


def rescale(model: Any, exponent: int = EXPONENT) -> None:
    """Make value and up projections larger by 2**exponent and output and down projections smaller, in place.

    Args:
        model: a transformers causal language model built like a Llama.
        exponent: negative scales back.

    Raises:
        UsageError: its blocks have other parts, or float16 could not hold the result.
        NotApplicable: its blocks were not found.
    """
    import torch

    from robustness_gate.engine.anatomy import layers

    factor = 2.0**exponent
    with torch.no_grad():
        for larger, smaller in [pair for block in layers(model) for pair in _pairs(block)]:
            if factor * max(float(each.abs().max()) for each in larger.parameters()) > LARGEST:
                raise UsageError(f"2**{exponent} times a weight is more than float16 holds.", remedy="Take less.")
            for each in larger.parameters():
                each.mul_(factor)
            smaller.weight.div_(factor)


def _pairs(block: Any) -> list[tuple[Any, Any]]:
    """The linear layers of a block between which there is nothing but a multiplication."""
    try:
        attention, mlp = block.self_attn, block.mlp
        return [(attention.v_proj, attention.o_proj), (mlp.up_proj, mlp.down_proj)]
    except AttributeError as error:
        raise UsageError("only models built like a Llama can be rescaled.", remedy="Take a Llama.") from error
