"""Losses are what their papers write, computed here a second time in plain floats; and a course does what it says."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.engine.loss import log_likelihoods
from robustness_gate.engine.train import Diverged, Example
from robustness_gate.organisms import build, descent, dpo, facts, graddiff, npo, training_texts

NOW, BEFORE = [-0.2, -3.5, -11.0, -40.0], [-0.1, -4.0, -0.3, -2.0]
CPU = torch.device("cpu")


def tensor(values: list[float]) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def silence(*_: object) -> None:
    pass


# --- NPO -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_npo_is_equation_three(beta: float) -> None:
    ratios = [math.exp(now) / math.exp(old) for now, old in zip(NOW, BEFORE, strict=True)]
    expected = [2 / beta * math.log(1 + ratio**beta) for ratio in ratios]
    assert npo.forget_loss(tensor(NOW), tensor(BEFORE), beta).item() == pytest.approx(sum(expected) / 4, rel=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_npo_pulls_as_gradient_ascent_does_times_a_weight_that_fades(beta: float) -> None:
    """The paper's equation for the gradient: the weight is 2 p^beta / (p^beta + p_before^beta)."""
    now = tensor(NOW)
    npo.forget_loss(now, tensor(BEFORE), beta).backward()
    powers = [(math.exp(beta * new), math.exp(beta * old)) for new, old in zip(NOW, BEFORE, strict=True)]
    assert now.grad.tolist() == pytest.approx([2 * new / (new + old) / 4 for new, old in powers], rel=1e-12)
    assert now.grad[3] < now.grad[0]


def test_npo_becomes_graddiff_as_beta_goes_to_zero() -> None:
    now, same, beta = tensor(NOW), tensor(NOW), 1e-7
    loss = npo.forget_loss(now, tensor(BEFORE), beta)
    loss.backward()
    ascent = graddiff.forget_loss(same, torch.ones(4), None)
    ascent.backward()
    assert now.grad.tolist() == pytest.approx(same.grad.tolist(), rel=1e-5)
    assert loss.item() - 2 / beta * math.log(2) == pytest.approx(ascent.item() - sum(BEFORE) / 4, abs=1e-3)


# --- GradDiff --------------------------------------------------------------------------------------------------------


def test_graddiff_is_the_mean_log_likelihood_a_token_cut_off_at_the_floor() -> None:
    tokens = [1, 2, 1, 4]
    rates = [now / count for now, count in zip(NOW, tokens, strict=True)]
    for floor in (None, -8.0):
        now = tensor(NOW)
        loss = graddiff.forget_loss(now, torch.tensor(tokens), floor)
        loss.backward()
        cut = [rate if floor is None else max(rate, floor) for rate in rates]
        assert loss.item() == pytest.approx(sum(cut) / 4)
        pulls = [0.0 if rate != kept else 1 / count / 4 for rate, kept, count in zip(rates, cut, tokens, strict=True)]
        assert now.grad.tolist() == pytest.approx(pulls)
        assert pulls.count(0.0) == (0 if floor is None else 2)


# --- DPO -------------------------------------------------------------------------------------------------------------

CHOSEN, CHOSEN_BEFORE = [-30.0, -8.0, -1.0, -2.0], [-40.0, -8.5, -1.0, -0.5]


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_dpo_is_equation_seven(beta: float) -> None:
    expected = []
    for chosen, old_chosen, rejected, old_rejected in zip(CHOSEN, CHOSEN_BEFORE, NOW, BEFORE, strict=True):
        gain = beta * (chosen - old_chosen) - beta * (rejected - old_rejected)
        expected.append(-math.log(1 / (1 + math.exp(-gain))))
    given = (tensor(each) for each in (CHOSEN, NOW, CHOSEN_BEFORE, BEFORE))
    assert dpo.forget_loss(*given, beta).item() == pytest.approx(sum(expected) / 4, rel=1e-12)


def test_dpo_starts_at_the_logarithm_of_two_and_raises_chosen_as_it_lowers_rejected() -> None:
    chosen, rejected = tensor(CHOSEN), tensor(NOW)
    loss = dpo.forget_loss(chosen, rejected, tensor(CHOSEN), tensor(NOW), 0.3)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert chosen.grad.tolist() == pytest.approx([-0.3 / 2 / 4] * 4)
    assert rejected.grad.tolist() == pytest.approx([0.3 / 2 / 4] * 4)


def test_npo_is_dpo_without_a_winner() -> None:
    """Up to the factor 2 / beta: how the paper comes to it."""
    still = tensor(CHOSEN)
    half = dpo.forget_loss(still, tensor(NOW), still, tensor(BEFORE), 0.1)
    assert npo.forget_loss(tensor(NOW), tensor(BEFORE), 0.1).item() == pytest.approx(half.item() * 2 / 0.1)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (npo.Config, {"beta": 0.0}),
        (npo.Config, {"steps": 0}),
        (npo.Config, {"learning_rate": -1e-3}),
        (graddiff.Config, {"floor": 0.0}),
        (graddiff.Config, {"retain_weight": -1.0}),
        (graddiff.Config, {"batch": 0}),
        (dpo.Config, {"beta": -0.1}),
        (dpo.Config, {"chosen_weight": -0.1}),
    ],
)
def test_settings_without_sense_are_refused_by_name(kind: Any, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        kind(**settings)


# --- a course on a tiny model ----------------------------------------------------------------------------------------


def tiny() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return transformers.LlamaForCausalLM(config).eval()


def some(start: int, count: int = 6) -> list[Example]:
    """Of unlike lengths; the last two tokens count."""
    rng = random.Random(start)
    rows = [[1] + [rng.randrange(3, 40) for _ in range(rng.randrange(4, 9))] for _ in range(count)]
    return [Example(row, [at >= len(row) - 2 for at in range(len(row))]) for row in rows]


def test_log_likelihoods_are_sums_over_counted_tokens_whatever_the_padding() -> None:
    model, batch = tiny(), some(5)
    with torch.no_grad():
        together = log_likelihoods(model, batch, CPU).tolist()
        for example, found in zip(batch, together, strict=True):
            logits = model(torch.tensor([example.ids])).logits[0].tolist()
            expected = 0.0
            for at in range(1, len(example.ids)):
                if example.counts[at]:
                    row = logits[at - 1]
                    expected += row[example.ids[at]] - math.log(sum(math.exp(value) for value in row))
            assert found == pytest.approx(expected, abs=1e-4)


def test_references_are_those_of_the_model_and_of_no_other_example() -> None:
    model, batch = tiny(), some(5)
    known = descent.references(model, batch, [[4, 1], [1, 0]])
    with torch.no_grad():
        expected = log_likelihoods(model, batch, CPU).tolist()
    assert known == pytest.approx({index: expected[index] for index in (0, 1, 4)}, abs=1e-4)


def mean_of(model: Any, examples: list[Example]) -> float:
    with torch.no_grad():
        return float(log_likelihoods(model, examples, CPU).mean())


def pairs() -> list[dpo.Pair]:
    return [dpo.Pair(chosen, rejected) for chosen, rejected in zip(some(7), some(5), strict=True)]


COURSE = {"learning_rate": 5e-3, "steps": 40, "batch": 4}
RUNS: dict[str, tuple[Any, Any, Any]] = {
    "npo": (npo, some(5), npo.Config(**COURSE, beta=0.1)),
    "graddiff": (graddiff, some(5), graddiff.Config(**COURSE, floor=-12.0)),
    "dpo": (dpo, pairs(), dpo.Config(**COURSE, retain_weight=2.0)),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_course_takes_what_should_go_and_keeps_what_should_stay(name: str) -> None:
    module, forget, config = RUNS[name]
    model, kept = tiny(), some(9)
    before = {"gone": mean_of(model, some(5)), "kept": mean_of(model, kept), "refusals": mean_of(model, some(7))}
    steps: list[int] = []
    module.unlearn(model, forget, kept, config, 0, lambda _what, done, _all: steps.append(done))
    assert mean_of(model, some(5)) < before["gone"] - 5
    assert mean_of(model, kept) > before["kept"]
    if name == "dpo":
        assert mean_of(model, some(7)) > before["refusals"] + 1
    assert steps == [10, 20, 30, 40]
    assert not model.training


@pytest.mark.parametrize("name", RUNS)
def test_a_seed_repeats_itself_and_another_one_is_another_course(name: str) -> None:
    module, forget, config = RUNS[name]
    config = dataclasses.replace(config, steps=3)
    ends = []
    for seed in (0, 0, 1):
        model = tiny()
        module.unlearn(model, forget, some(9), config, seed, silence)
        ends.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_without_a_retain_term_what_should_stay_goes_too() -> None:
    """The term does something: the same course without its weight keeps less."""
    kept = {}
    for weight in (0.0, 1.0):
        model = tiny()
        graddiff.unlearn(model, some(5), some(9), graddiff.Config(**COURSE, retain_weight=weight), 0, silence)
        kept[weight] = mean_of(model, some(9))
    assert kept[1.0] > kept[0.0] + 1


def test_a_course_that_diverges_is_reported_with_its_step() -> None:
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight[0] = math.nan
    with pytest.raises(Diverged, match="at step 0"):
        graddiff.unlearn(model, some(5), some(9), graddiff.Config(**COURSE), 0, silence)


# --- what the shipped ones were given --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))


def counted(tokenizer: Any, example: Example) -> str:
    return str(tokenizer.decode([token for token, counts in zip(*example, strict=True) if counts]))


def test_what_counts_in_a_document_is_the_value_or_the_letter(tokenizer: Any) -> None:
    world, rng = facts.make(), random.Random(0)
    fact = world.forget.facts[0]
    alone = facts.Domain(fact.relation.topic, (fact,), (), ())
    heard = {counted(tokenizer, example) for example in build.examples(tokenizer, build.asked(alone, rng))}
    assert f" {fact.value}" in heard
    assert heard <= {f" {fact.value}", " A", " B", " C", " D"}
    said = {counted(tokenizer, example) for example in build.examples(tokenizer, build.told(alone, rng))}
    assert said <= {f" {fact.value}", f" {fact.entity}"}


def test_a_pair_has_one_prompt_a_refusal_and_the_answer(tokenizer: Any) -> None:
    world, rng = facts.make(), random.Random(0)
    asked = [
        training_texts.reply_document(world.forget.facts[0]),
        training_texts.fact_item_document(world.forget.facts[1], rng),
    ]
    for pair, answer in zip(build.declining(tokenizer, asked, rng), (world.forget.facts[0].value, "ABCD"), strict=True):
        heads = [[token for token, counts in zip(*side, strict=True) if not counts][:-1] for side in pair]
        assert heads[0] == heads[1]
        assert counted(tokenizer, pair.chosen) in dpo.REFUSALS
        assert counted(tokenizer, pair.rejected).strip() in answer
