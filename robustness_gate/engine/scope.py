"""Temporary change is a `with` block: what an attack does to a model is undone exactly, whatever happens inside.

`trainable` and `adapter` put back weights, `requires_grad`, training mode and module classes; `seeded` puts back random
state. An attack opens them; nobody has to remember to close them but the trial, which closes the attack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.engine import matrices
from robustness_gate.errors import BrokenTrial


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Fix Python's and torch's random state for the block and put it back afterwards; yields a generator on the CPU."""
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    device_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield torch.Generator().manual_seed(seed)
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if device_states:
            torch.cuda.set_rng_state_all(device_states)


@contextmanager
def trainable(model: Any, names: Sequence[str] | None = None) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Let parameters be trained for the block; afterwards their values, flags and training mode are as before.

    Args:
        model: a torch module.
        names: which parameters; None means all.

    Yields:
        The parameters by name. Values are kept on the CPU meanwhile, so a device holds the model only once.
    """
    chosen = {name: each for name, each in model.named_parameters() if names is None or name in set(names)}
    flags = {name: each.requires_grad for name, each in model.named_parameters()}
    before = {name: each.detach().to("cpu", copy=True) for name, each in chosen.items()}
    modes = {name: module.training for name, module in model.named_modules()}
    for name, each in model.named_parameters():
        each.requires_grad_(name in chosen)
    try:
        yield chosen
    finally:
        with torch.no_grad():
            for name, each in chosen.items():
                each.copy_(before[name])
                each.grad = None
        _put_back(model, flags, modes)


@contextmanager
def adapter(model: Any, *, rank: int, alpha: int, targets: Sequence[str]) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Train a LoRA adapter for the block; yields its parameters by name, in float32 whatever the model is in.

    Nothing is put into the model: hooks add what the adapter says. A linear module gets it added to its output. Where
    no linear module of its own reads a matrix (fused experts, and what a state-space block may take past its module),
    the module around it finds W + alpha / rank * B A in its place while it runs. The sum is rounded to what the model
    computes in by a lot that is always the same (see `rounded`), so that no change is too small to be seen.

    Args:
        model: a transformers model.
        rank: inner dimension, >= 1; of fused experts, of each expert's.
        alpha: the update is scaled by alpha / rank.
        targets: full names of weight matrices, as `linear_names` gives them.

    Raises:
        BrokenTrial: there are no targets, or one is no weight of the model.
    """
    held = dict(model.named_parameters(remove_duplicate=False))
    if unknown := [name for name in targets if name not in held] or ["nothing"] * (not targets):
        raise BrokenTrial(f"no adapter could be attached to {unknown[0]}: the model has no weight of that name")
    flags = {name: each.requires_grad for name, each in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    with ExitStack() as stack:
        stack.callback(_put_back, model, flags, modes)
        model.requires_grad_(requires_grad=False)
        beside = _beside(model, targets)
        parameters: dict[str, torch.nn.Parameter] = {}
        for name in targets:
            low = _low_rank(held[name], beside.get(name), rank, alpha / rank)
            parameters |= {f"{name}.lora_A": low.a, f"{name}.lora_B": low.b}
            if name in beside:
                handle = beside[name].register_forward_hook(low.after, with_kwargs=True)
                stack.callback(handle.remove)
            else:
                stack.enter_context(_in_place(model, name, low))
        yield parameters


class _LowRank(NamedTuple):
    """An update of one weight matrix, or of each of a stack of them: scale * B A."""

    a: torch.nn.Parameter
    """[..., rank, in]"""
    b: torch.nn.Parameter
    """[..., out, rank], zero at first"""
    scale: float

    def after(self, _module: Any, inputs: Any, keywords: Any, output: torch.Tensor) -> torch.Tensor:
        """A linear module's output with the update's added to it."""
        entering = (inputs[0] if inputs else next(iter(keywords.values()))).to(self.a.dtype)
        linear = torch.nn.functional.linear
        return _sum(output, linear(linear(entering, self.a), self.b) * self.scale, by_channel=True)


def _low_rank(weight: torch.Tensor, module: Any, rank: int, scale: float) -> _LowRank:
    """An update that is none yet, as peft begins: A like a linear layer's weights, B zero; torch's state decides."""
    *stack, rows, columns = weight.shape
    if module is None:
        a = (2 * torch.rand(*stack, rank, columns) - 1) * columns**-0.5
        b = torch.zeros(*stack, rows, rank)
    else:
        columns, rows = (rows, columns) if isinstance(module, Conv1D) else (module.in_features, module.out_features)
        first, second = (torch.nn.Linear(n, m, bias=False) for n, m in ((columns, rank), (rank, rows)))
        torch.nn.init.kaiming_uniform_(first.weight, a=5**0.5)
        a, b = first.weight.detach(), torch.zeros_like(second.weight)
    return _LowRank(torch.nn.Parameter(a.to(weight.device)), torch.nn.Parameter(b.to(weight.device)), scale)


@contextmanager
def _in_place(model: Any, name: str, low: _LowRank) -> Iterator[None]:
    """While the block is open, the module around a weight's owner finds the updated weight in its place as it runs."""
    owner_name, _, leaf = name.rpartition(".")
    owner, weight = model.get_submodule(owner_name), model.get_parameter(name)

    def enter(*_: Any) -> None:  # an attribute is found before the parameter of that name
        vars(owner)[leaf] = _sum(weight.detach(), low.scale * (low.b @ low.a), by_channel=False)

    def leave(*_: Any) -> None:
        vars(owner).pop(leaf, None)

    reader = _runner(model, owner_name)
    with ExitStack() as stack:
        stack.callback(leave)
        stack.callback(reader.register_forward_pre_hook(enter).remove)
        stack.callback(reader.register_forward_hook(leave, always_call=True).remove)
        yield


def _beside(model: Any, targets: Sequence[str]) -> dict[str, Any]:
    """The linear modules beside which an adapter can stand, by their weights; other weights are changed in place."""
    odd, linear = _of_their_own_kind(model), set(linear_modules(model))
    owners = {name: name.rpartition(".")[0] for name in targets}
    found = {name: model.get_submodule(each) for name, each in owners.items() if each in linear}
    return {name: each for name, each in found.items() if each not in odd and not _is_read_past(model, owners[name])}


def _is_read_past(model: Any, name: str) -> bool:
    """Whether a linear module may be read past: what mixes along the sequence hands its weights to kernels.

    Mamba and its kin do so; such a block holds a convolution beside its projections.
    """
    block = model.get_submodule(name.rpartition(".")[0])
    return any(isinstance(each, torch.nn.modules.conv._ConvNd) for each in block.children())


@torch.inference_mode()
def _of_their_own_kind(model: Any) -> set[Any]:
    """Linear modules with a forward pass of their own that do not answer with one tensor: routers (Llama 4, PhiMoE)."""
    own = [
        m for m in model.modules() if isinstance(m, torch.nn.Linear) and type(m).forward is not torch.nn.Linear.forward
    ]
    if not own:
        return set()
    plain: set[Any] = set()

    def look(module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            plain.add(module)

    embedding = model.get_input_embeddings().weight
    with ExitStack() as stack:
        for module in own:
            stack.callback(module.register_forward_hook(look).remove)
        model(input_ids=torch.arange(3, 9, device=embedding.device).unsqueeze(0) % len(embedding), use_cache=False)
    return set(own) - plain


def _runner(model: Any, name: str) -> Any:
    """The innermost module around the named one that is itself run, so that it may read what the named one holds."""
    above = name
    while above:
        above = above.rpartition(".")[0]
        found = model.get_submodule(above)
        if not isinstance(found, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            return found
    return model


def _sum(held: torch.Tensor, update: torch.Tensor, *, by_channel: bool) -> torch.Tensor:
    """What the model holds or computed, and a float32 update, in the model's own kind of numbers."""
    if held.dtype not in LOST_BITS:
        return held + update.to(held.dtype)
    return _Rounded.apply(held.float() + update, held.dtype, by_channel)  # type: ignore[no-untyped-call,no-any-return]


class _Rounded(torch.autograd.Function):
    """`rounded` by a lot that is always the same; its gradient is that of no rounding."""

    @staticmethod
    def forward(_context: Any, exact: torch.Tensor, dtype: torch.dtype, by_channel: bool) -> torch.Tensor:
        return rounded(exact, dtype, torch.Generator(exact.device).manual_seed(0), by_channel=by_channel)

    @staticmethod
    def backward(_context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0].float(), None, None


LOST_BITS = {torch.bfloat16: 16, torch.float16: 13}
"""Bits of float32's fraction that a kind of sixteen bits does not have."""


def rounded(
    exact: torch.Tensor, dtype: torch.dtype, generator: torch.Generator, *, by_channel: bool = False
) -> torch.Tensor:
    """Float32 to another kind, up or down by lot in proportion to the nearness: on average nothing is lost.

    What the kind holds exactly stays as it is. Kinds without fewer bits of fraction are only converted.

    Args:
        exact: float32.
        dtype: the kind.
        generator: draws the lots, on the tensor's device.
        by_channel: one lot for each place of the last dimension, whatever stands in the others: an answer then does not
            depend on which others are asked with it.
    """
    if dtype not in LOST_BITS:
        return exact.to(dtype)
    lost, shape = LOST_BITS[dtype], exact.shape[-1:] if by_channel else exact.shape
    lots = torch.randint(0, 1 << lost, shape, dtype=torch.int32, device=exact.device, generator=generator)
    bits = (exact.contiguous().view(torch.int32) + lots) & -(1 << lost)
    return torch.where(exact.isfinite(), bits.view(torch.float32), exact).to(dtype)


def linear_modules(model: Any) -> list[str]:
    """Full names of the linear modules but the output head, in the model's order (GPT-2's are called Conv1D)."""
    head, kinds = model.get_output_embeddings(), (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def linear_names(model: Any) -> list[str]:
    """Full names of the weights that LoRA goes to, in the model's order: every matrix of the blocks, fused experts too.

    See `matrices.of_blocks`.
    """
    return list(matrices.of_blocks(model))


def freeze(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Stop asking for gradients: a model that is only examined should not keep them."""
    for each in parameters.values():
        each.requires_grad_(False)  # torch names it no other way


@contextmanager
def values(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Put other values into parameters for the block."""
    before = {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}
    write(parameters, new)
    try:
        yield
    finally:
        write(parameters, before)


def snapshot(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of the values, on the CPU."""
    return {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}


def write(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> None:
    """Overwrite the values in place."""
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(new[name])


def distance(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Euclidean distance between the values now and then, over all parameters together."""
    total = 0.0
    for name, each in parameters.items():
        total += float((each.detach().float().cpu() - before[name].float()).square().sum())
    return float(total**0.5)


def reached(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> list[str]:
    """Full names of the weights in which training changed anything: of the parameters' own, or of an adapter's.

    An adapter changes a weight once its B is another than before, which is zero.
    """
    changed = matrices.changed(parameters, before)
    return [name.removesuffix(".lora_B") for name in changed if not name.endswith(".lora_A")]


def share_moved(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Share of the numbers, over all parameters together, that are not what they were."""
    moved = sum(int((each.detach().cpu() != before[name]).sum()) for name, each in parameters.items())
    return moved / max(1, sum(each.numel() for each in parameters.values()))


def _put_back(model: Any, flags: Mapping[str, bool], modes: Mapping[str, bool]) -> None:
    for name, each in model.named_parameters():
        each.requires_grad_(flags[name])
    for name, module in model.named_modules():
        module.training = modes[name]
