"""An unlearned model with rescaled weights, so that fine-tuning ruins it: the self-destructing organism.

In a Llama two pairs of matrices have only a multiplication between them: value and output projection, up and down
projection. One may be multiplied by a factor and the other divided by it, and the model's function is the same. An
optimizer behaves differently. Adam changes every weight by about its learning rate in each step, independent of the
weight's size; in the smaller matrices each step is then larger in proportion by that factor. At usual learning rates
they are overwritten within some dozens of steps, with all knowledge, by full fine-tuning and by adapters alike. Nothing
is erased: at a learning rate smaller by the same factor the model relearns, and rescaling the matrices restores the
parent.

So a fine-tuning that recovers nothing here says nothing about knowledge; the sign of that is that it destroys
everything else too. In a gate such an attack must not establish compliance, and a grid of rates that goes low enough
establishes a breach (README.md).

Sources: models that resist being fine-tuned were proposed as "self-destructing" by Henderson et al. (arXiv 2211.14946)
and trained for by Tamirisa et al. (TAR, arXiv 2408.00761). Neither scales weights. Networks have this symmetry, and
gradient descent performs badly far from balance: Neyshabur et al. (Path-SGD, arXiv 1506.02617).
Departures: nothing is trained. Only the scale of the weights resists here, and one line undoes it.
"""

from __future__ import annotations

from typing import Any

from robustness_gate.errors import UsageError

EXPONENT = 10
"""The factor's logarithm to base 2. A power of two changes no digit of a weight in float32. In float16, as checkpoints
are stored, numbers under 2**-14 have fewer digits: with 10, a third of the smaller matrices' weights lose some, by
2**-15 at most before scaling. That is float16's rounding error for a weight of their usual size, 0.1, anyway."""

LARGEST = 65504.0
"""Largest float16 number."""


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
    """The linear layers of a block with only a multiplication between them."""
    try:
        attention, mlp = block.self_attn, block.mlp
        return [(attention.v_proj, attention.o_proj), (mlp.up_proj, mlp.down_proj)]
    except AttributeError as error:
        raise UsageError("only models built like a Llama can be rescaled.", remedy="Take a Llama.") from error
