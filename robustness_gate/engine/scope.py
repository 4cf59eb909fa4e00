"""Temporary changes as `with` blocks: an attack's change of a model is undone exactly, also after an error.

`trainable` and `adapter` restore weights, `requires_grad`, training mode and module classes; `seeded` restores random
state. An attack opens them, and the trial closes the attack.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from transformers.pytorch_utils import Conv1D

from robustness_gate.engine import hooks, matrices
from robustness_gate.errors import BrokenTrial


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Fix Python's and torch's random state for the block and restore it afterwards; yields a generator on the CPU."""
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
def trainable(
    model: Any, names: Sequence[str] | None = None, before: Mapping[str, torch.Tensor] | None = None
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Make parameters trainable for the block; afterwards their values, flags and training mode are restored.

    Args:
        model: a torch module.
        names: which parameters; None means all.
        before: their present values, where the caller needs a copy of them too: then it is the only one. It must not be
            changed.

    Yields:
        The parameters by name. The old values are kept on the CPU, so a device holds the model only once.
    """
    chosen = named(model, names)
    flags = {name: each.requires_grad for name, each in model.named_parameters()}
    before = snapshot(chosen) if before is None else before
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


def named(model: Any, names: Sequence[str] | None = None) -> dict[str, torch.nn.Parameter]:
    """A model's parameters by name, in its order; None means all."""
    wanted = None if names is None else set(names)
    return {name: each for name, each in model.named_parameters() if wanted is None or name in wanted}


@contextmanager
def adapter(model: Any, *, rank: int, alpha: int, targets: Sequence[str]) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Train a LoRA adapter for the block; yields its parameters by name, in float32 for every model.

    The model is not changed: hooks add the adapter's update. It is added to a linear module's output. Where a matrix is
    not used through a linear module of its own (fused experts, and matrices that a state-space block uses directly),
    the module around it uses W + alpha / rank * B A while it runs. The sum is rounded stochastically to the model's
    dtype with a fixed seed (see `rounded`), so that no change is lost for being small.

    Args:
        model: a transformers model.
        rank: inner dimension, >= 1; for fused experts, of each expert.
        alpha: the update is scaled by alpha / rank.
        targets: full names of weight matrices, from `linear_names`.

    Raises:
        BrokenTrial: there are no targets, or one is not a weight of the model.
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
                handle = beside[name].register_forward_hook(hooks.tokenwise(low.after), with_kwargs=True)
                stack.callback(handle.remove)
            else:
                stack.enter_context(_in_place(model, name, low))
        yield parameters


class _LowRank(NamedTuple):
    """An update of one weight matrix, or of each of a stack of them: scale * B A."""

    a: torch.nn.Parameter
    """[..., rank, in]"""
    b: torch.nn.Parameter
    """[..., out, rank], initially zero"""
    scale: float

    def after(self, _module: Any, inputs: Any, keywords: Any, output: torch.Tensor) -> torch.Tensor:
        """A linear module's output plus the update's."""
        entering = (inputs[0] if inputs else next(iter(keywords.values()))).to(self.a.dtype)
        linear = torch.nn.functional.linear
        narrow = linear(entering, self.a) * self.scale  # scaled where there are few numbers
        return _sum(output, linear(narrow, self.b), by_channel=True)


def _low_rank(weight: torch.Tensor, module: Any, rank: int, scale: float) -> _LowRank:
    """A zero update with peft's initialisation: A like a linear layer's weights, B zero; drawn from torch's random
    state.
    """
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
    """While the block is open, the module around a weight's owner uses the updated weight when it runs."""
    owner_name, _, leaf = name.rpartition(".")
    owner, weight = model.get_submodule(owner_name), model.get_parameter(name)

    def enter(*_: Any) -> None:  # an attribute hides the parameter of that name
        vars(owner)[leaf] = _sum(weight.detach(), low.scale * (low.b @ low.a), by_channel=False)

    def leave(*_: Any) -> None:
        vars(owner).pop(leaf, None)

    reader = _runner(model, owner_name)
    with ExitStack() as stack:
        stack.callback(leave)
        stack.callback(reader.register_forward_pre_hook(hooks.tokenwise(enter)).remove)
        stack.callback(reader.register_forward_hook(hooks.tokenwise(leave), always_call=True).remove)
        yield


def _beside(model: Any, targets: Sequence[str]) -> dict[str, Any]:
    """The linear modules whose output an adapter can change, by their weights; other weights are replaced during the
    call.
    """
    odd, linear = _of_their_own_kind(model), set(linear_modules(model))
    owners = {name: name.rpartition(".")[0] for name in targets}
    found = {name: model.get_submodule(each) for name, each in owners.items() if each in linear}
    return {name: each for name, each in found.items() if each not in odd and not _is_read_past(model, owners[name])}


def _is_read_past(model: Any, name: str) -> bool:
    """Whether a linear module may be bypassed: blocks that mix along the sequence pass its weights to kernels.

    Mamba and similar families do so; such a block contains a convolution and projections.
    """
    block = model.get_submodule(name.rpartition(".")[0])
    return any(isinstance(each, torch.nn.modules.conv._ConvNd) for each in block.children())


@torch.inference_mode()
def _of_their_own_kind(model: Any) -> set[Any]:
    """Linear modules with a forward pass of their own that does not return one tensor: routers (Llama 4, PhiMoE)."""
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
    """The innermost module around the named one that is itself called, and so can use the named one's weights."""
    above = name
    while above:
        above = above.rpartition(".")[0]
        found = model.get_submodule(above)
        if not isinstance(found, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            return found
    return model


def _sum(held: torch.Tensor, update: torch.Tensor, *, by_channel: bool) -> torch.Tensor:
    """The sum of a model's tensor and a float32 update, in the model's own dtype."""
    if held.dtype not in LOST_BITS:
        return held + update.to(held.dtype)
    return _Rounded.apply(held.float() + update, held.dtype, by_channel)  # type: ignore[no-untyped-call,no-any-return]


class _Rounded(torch.autograd.Function):
    """`rounded` with a fixed seed; its gradient is that of no rounding."""

    @staticmethod
    def forward(_context: Any, exact: torch.Tensor, dtype: torch.dtype, by_channel: bool) -> torch.Tensor:
        return rounded(exact, dtype, torch.Generator(exact.device).manual_seed(0), by_channel=by_channel)

    @staticmethod
    def backward(_context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0].float(), None, None


LOST_BITS = {torch.bfloat16: 16, torch.float16: 13}
"""Bits of float32's fraction that a 16-bit dtype does not have."""


def rounded(
    exact: torch.Tensor, dtype: torch.dtype, generator: torch.Generator, *, by_channel: bool = False
) -> torch.Tensor:
    """Stochastic rounding of float32 to another dtype: up or down with a probability by nearness, unbiased on average.

    Exactly representable values do not change. Dtypes without fewer bits of fraction are only converted.

    Args:
        exact: float32.
        dtype: the target dtype.
        generator: random generator on the tensor's device.
        by_channel: one random number for each index of the last dimension, independent of the other dimensions: an
            answer then does not depend on the other prompts of its batch.
    """
    if dtype not in LOST_BITS:
        return exact.to(dtype)
    lost, shape = LOST_BITS[dtype], exact.shape[-1:] if by_channel else exact.shape
    lots = torch.randint(0, 1 << lost, shape, dtype=torch.int32, device=exact.device, generator=generator)
    bits = (exact.contiguous().view(torch.int32) + lots) & -(1 << lost)
    return torch.where(exact.isfinite(), bits.view(torch.float32), exact).to(dtype)


def linear_modules(model: Any) -> list[str]:
    """Full names of the linear modules except the output head, in the model's order (GPT-2's are called Conv1D)."""
    head, kinds = model.get_output_embeddings(), (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def linear_names(model: Any) -> list[str]:
    """Full names of the weights that get LoRA, in the model's order: every matrix of the blocks, fused experts too.

    See `matrices.of_blocks`.
    """
    return list(matrices.of_blocks(model))


def freeze(parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Switch gradients off: a model that is only examined does not need them."""
    for each in parameters.values():
        each.requires_grad_(False)  # torch has no other name for it


@contextmanager
def values(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Replace the values of parameters for the block."""
    before = {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}
    write(parameters, new)
    try:
        yield
    finally:
        write(parameters, before)


def snapshot(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    """Copies of the values, on the CPU."""
    return {name: each.detach().to("cpu", copy=True) for name, each in parameters.items()}


def keep(kept: dict[str, torch.Tensor], parameters: Mapping[str, torch.nn.Parameter]) -> None:
    """Write the present values into copies made before, or make them: never a second set."""
    for name, each in parameters.items():
        if name in kept:
            kept[name].copy_(each.detach())
        else:
            kept[name] = each.detach().to("cpu", copy=True)


def write(parameters: Mapping[str, torch.nn.Parameter], new: Mapping[str, torch.Tensor]) -> None:
    """Overwrite the values in place."""
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(new[name])


Change = Callable[[str, torch.Tensor], torch.Tensor]
"""From a weight's name and its stored value, on the weight's own device, to its new value."""


def rewrite(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor], change: Change) -> None:
    """Overwrite each value in place by a change of its stored one: computed on its own device, one weight at a time.

    The stored value must not be changed itself.
    """
    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(change(name, before[name].to(each.device)))


def size(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Euclidean norm of the stored values, over all parameters together."""
    total = 0.0
    for name, each in parameters.items():
        total += float(before[name].to(each.device).float().square().sum())
    return float(total**0.5)


def distance(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Euclidean distance between the present and the stored values, over all parameters together."""
    total = 0.0
    for name, each in parameters.items():
        total += float((each.detach().float() - before[name].to(each.device).float()).square().sum())
    return float(total**0.5)


def reached(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> list[str]:
    """Full names of the weights that training changed, directly or by an adapter.

    An adapter changes a weight if its B is not zero.
    """
    changed = matrices.changed(parameters, before)
    return [name.removesuffix(".lora_B") for name in changed if not name.endswith(".lora_A")]


def share_moved(parameters: Mapping[str, torch.nn.Parameter], before: Mapping[str, torch.Tensor]) -> float:
    """Share of the numbers, over all parameters together, that changed."""
    moved = sum(int((each.detach() != before[name].to(each.device)).sum()) for name, each in parameters.items())
    return moved / max(1, sum(each.numel() for each in parameters.values()))


def _put_back(model: Any, flags: Mapping[str, bool], modes: Mapping[str, bool]) -> None:
    for name, each in model.named_parameters():
        each.requires_grad_(flags[name])
    for name, module in model.named_modules():
        module.training = modes[name]
