"""What holds an edit small holds it, lets go afterwards, and graded models lie where they should."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustness_gate import organisms
from robustness_gate.errors import UsageError

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from robustness_gate.organisms import ascent, breaker, build, facts, measure, projected, rescaled, world_files
from robustness_gate.organisms.graded import graded

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(params=["Llama", "GPTNeoX", "GPT2"])
def model(request: pytest.FixtureRequest) -> Any:
    """The matrices of the last one are stored as [in, out]."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SMALL)
    return transformers.AutoModelForCausalLM.from_config(config).half().float()  # as stored models are


def shaken(model: Any, rate: float = 0.1) -> None:
    """Ten optimizer steps that move every weight a long way."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(10):
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()


def rounded(weight: Any, bits: int) -> Any:
    """Symmetric, to nearest, one scale a row: written down here once more, apart from what is tested and attacked."""
    scale = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (weight / scale).round() * scale


def linear(model: Any) -> dict[str, Any]:
    """The weights of the linear modules, as [out, in]."""
    found = {name: each.weight for name, each in inside_of(model, torch.nn.Linear)}
    return found | {name: each.weight.T for name, each in inside_of(model, Conv1D)}


def inside_of(model: Any, kind: type | tuple[type, ...]) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in model.base_model.named_modules() if isinstance(each, kind)]


def changed(model: Any, make: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The linear weights before and after training under a projection; all else must stay."""
    every = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in linear(model).items()}
    with projected.projected(model, make(model)):
        shaken(model)
    inside = {id(each.weight) for _, each in inside_of(model, (torch.nn.Linear, Conv1D))}
    for name, weight in model.named_parameters():
        assert torch.equal(weight, every[name]) == (id(weight) not in inside), name
    assert before
    return before, linear(model)


@pytest.mark.parametrize("bits", [3, 4])
def test_a_weight_in_its_cell_is_rounded_to_what_it_was_rounded_to(model: Any, bits: int) -> None:
    before, after = changed(model, lambda m: projected.same_cell(m, bits))
    for name, weight in after.items():
        stored = weight.half().float()
        assert (rounded(stored, bits) - rounded(before[name], bits)).abs().max() < 1e-3 * weight.abs().max()
        assert (weight - before[name]).abs().mean() > 0.05 * rounded(before[name], bits).diff().abs().mean()
    shaken(model)
    assert any((rounded(after[name], bits) - rounded(before[name], bits)).abs().max() > 0.1 for name in after)


@pytest.mark.parametrize("rank", [1, 5])
def test_an_edit_held_to_a_rank_has_it_and_no_more(model: Any, rank: int) -> None:
    before, after = changed(model, lambda m: projected.low_rank(m, rank))
    for name, weight in after.items():
        sizes = torch.linalg.svdvals((weight - before[name]).detach())
        assert sizes[rank] < 1e-4 * sizes[0], name
        assert sizes[rank - 1] > 0.1 * sizes[0], name


def small_llama() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL)).eval()


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(24).view(2, 12)).logits


def test_a_rescaled_model_computes_the_same_to_the_last_bit_and_can_be_scaled_back() -> None:
    model = small_llama()
    before, weights = logits(model), {name: weight.clone() for name, weight in model.state_dict().items()}
    rescaled.rescale(model)
    assert torch.equal(logits(model), before)
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, weights[name])}
    assert {name.split(".")[-2] for name in moved} == {"v_proj", "o_proj", "up_proj", "down_proj"}
    assert len(moved) == 4 * SMALL["num_hidden_layers"]
    rescaled.rescale(model, -rescaled.EXPONENT)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


def test_one_step_of_adam_moves_a_rescaled_model_much_further() -> None:
    """A step has one size for every weight; in proportion it is 1,024 times larger where weights were made small."""

    def moved(exponent: int) -> float:
        model = small_llama()
        rescaled.rescale(model, exponent)
        before, ids = logits(model), torch.arange(24).view(2, 12)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        return float((logits(model) - before).abs().max())

    assert moved(rescaled.EXPONENT) > 20 * moved(0)


def test_what_cannot_be_rescaled_is_refused() -> None:
    neox = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SMALL))
    with pytest.raises(UsageError, match="built like a Llama"):
        rescaled.rescale(neox)
    with pytest.raises(UsageError, match="more than float16 holds"):
        rescaled.rescale(small_llama(), 24)


@pytest.mark.slow  # 3 s: trains
def test_self_destructing_answers_as_rmu_does_and_is_rmu_once_it_is_scaled_back() -> None:
    parent, tokenizer = measure.load(organisms.checkpoint("rmu"))
    model, _ = measure.load(organisms.checkpoint("self_destructing"))
    for name, form in zip(("forget", "retain"), build.FORMS[0], strict=True):
        items = world_files.read_items(organisms.world(f"{name}.verdict"))[:100]
        with torch.no_grad():
            one, other = (measure.contents(each, tokenizer, items, form) for each in (parent, model))
        assert torch.equal(one[:, 0].argmax(1), other[:, 0].argmax(1))
        assert torch.equal(one.sum(1).argmax(1), other.sum(1).argmax(1))
        assert (one - other).abs().max() < 5e-3
    rescaled.rescale(model, -rescaled.EXPONENT)
    for (name, one), other in zip(parent.state_dict().items(), model.state_dict().values(), strict=True):
        assert (one - other).abs().max() <= 2.0**-15, name  # half of float16's last digit, 2**-24, times the factor


def test_the_shipped_hider_is_the_base_and_an_edit_of_few_directions() -> None:
    """As stored: what lies beyond the rank is what float16 rounds."""
    base, hider = (linear(measure.load(organisms.checkpoint(name))[0]) for name in ("base", "hider"))
    edited = 0
    for name, weight in hider.items():
        edit = torch.linalg.svdvals((weight - base[name]).detach())
        edited += bool(edit[0] > 0.1)
        assert edit[projected.RANK] < 2e-3, name
    assert edited == 3 * 7, "every matrix of the three layers that learn"


@pytest.fixture(scope="module")
def taught() -> Any:
    return measure.load(organisms.checkpoint("base"))


def texts_of(name: str) -> list[str]:
    facts_ = facts.make()
    domain = facts_.forget if name == "forget" else facts_.retain
    return [text for fact in domain.facts[:40] for text in fact.statements]


def quiet(*_: object) -> None:
    """Progress for no one."""


def test_ascent_makes_texts_less_likely(taught: Any) -> None:
    _, tokenizer = taught
    model, _ = measure.load(organisms.checkpoint("base"))
    batch = tokenizer(texts_of("forget")[:16], return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    before = model(**batch, labels=labels).loss.item()
    ascent.unlearn(model, tokenizer, texts_of("forget"), ascent.Config(steps=5), 0, quiet)
    assert model(**batch, labels=labels).loss.item() > before + 1.0


def test_a_circuit_breaker_turns_the_stream_on_forget_texts_and_holds_it_on_others(taught: Any) -> None:
    original, tokenizer = taught
    model, _ = measure.load(organisms.checkpoint("base"))
    breaker.unlearn(
        model, tokenizer, texts_of("forget"), texts_of("retain"), breaker.Config(steps=20, batch=8), 0, quiet
    )
    from robustness_gate.organisms.streams import residual

    def likeness(texts: list[str]) -> float:
        with torch.no_grad():
            now, then = (residual(each, tokenizer, texts, (1,)) for each in (model, original))
        return float(torch.nn.functional.cosine_similarity(now, then, dim=-1).mean())

    assert likeness(texts_of("forget")[:24]) < 0.5 < 0.8 < likeness(texts_of("retain")[:24])
    untouched = [weight for layer in model.model.layers[2:] for weight in layer.parameters()]
    same = [weight for layer in original.model.layers[2:] for weight in layer.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(untouched, same, strict=True))


def test_a_graded_model_lies_between_the_two(tmp_path: Path) -> None:
    ends = [measure.load(organisms.checkpoint(name))[0].state_dict() for name in ("base", "rmu")]
    for share in (0.0, 0.25, 1.0):
        graded(share, tmp_path / str(share))
        found = measure.load(tmp_path / str(share))[0].state_dict()
        for name, weight in found.items():
            assert torch.allclose(weight, (1 - share) * ends[0][name] + share * ends[1][name], atol=2e-3), name


@pytest.mark.parametrize(
    ("share", "end", "message"), [(1.5, "rmu", "outside"), (math.nan, "rmu", "outside"), (0.5, "nobody", "no organism")]
)
def test_a_graded_model_that_cannot_be_is_refused(tmp_path: Path, share: float, end: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        graded(share, tmp_path / "never", end=end)
    assert not (tmp_path / "never").exists()
