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

from robustness_gate.organisms import ascent, breaker, facts, measure, projected
from robustness_gate.organisms.graded import graded

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(params=["Llama", "GPTNeoX"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**SMALL)
    return getattr(transformers, f"{request.param}ForCausalLM")(config).half().float()  # as stored models are


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
    inside = model.base_model.named_modules()
    return {name: each.weight for name, each in inside if isinstance(each, torch.nn.Linear)}


def changed(model: Any, make: Callable[[Any], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The linear weights before and after training under a projection; all else must stay."""
    every = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in linear(model).items()}
    with projected.projected(model, make(model)):
        shaken(model)
    inside = {id(weight) for weight in linear(model).values()}
    for name, weight in model.named_parameters():
        assert torch.equal(weight, every[name]) == (id(weight) not in inside), name
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


@pytest.fixture(scope="module")
def taught() -> Any:
    return measure.load(organisms.checkpoint("base"))


def texts_of(name: str) -> list[str]:
    facts_ = facts.make()
    domain = facts_.forget if name == "forget" else facts_.retain
    return [text for fact in domain.facts[:40] for text in fact.statements]


def quiet(*_: object) -> None:
    """Progress for nobody."""


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
    from robustness_gate.organisms.rmu import residual

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
