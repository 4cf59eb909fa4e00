"""Scores of weights against what they are by hand, and the pruning that is made of them."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
import torch
import transformers
from hazards import also_in

from robustness_gate import attacks
from robustness_gate.attacks import pruning
from robustness_gate.engine import examples, importance, matrices, scope
from robustness_gate.engine.train import Example
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.records.questions import Form
from robustness_gate.running import trial

ROWS = [Example([1, 5, 9, 7], [False, False, True, True]), Example([1, 8, 6], [False, True, True])]


@pytest.fixture(params=["llama", "gpt2"])
def model(request):
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    config = {
        "llama": transformers.LlamaConfig(**small, vocab_size=16, max_position_embeddings=16),
        "gpt2": transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, vocab_size=16),
    }[request.param]
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def linear(model) -> dict:
    return {f"{name}.weight": model.get_submodule(name) for name in scope.linear_modules(model)}


def test_snip_is_the_mean_over_examples_of_weight_times_gradient(model):
    found = importance.snip(model, {name: module.weight for name, module in linear(model).items()}, ROWS)
    assert all(module.weight.grad is None for module in linear(model).values())
    by_hand = {name: torch.zeros_like(module.weight) for name, module in linear(model).items()}
    for row in ROWS:
        model.zero_grad()
        logprobs = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        losses = [-logprobs[i - 1, row.ids[i]] for i in range(1, len(row.ids)) if row.counts[i]]
        torch.stack(losses).mean().backward()
        for name, module in linear(model).items():
            by_hand[name] += (module.weight * module.weight.grad).abs().detach() / 2
    for name, each in by_hand.items():
        assert torch.allclose(found[name], each, atol=1e-6), name
        assert each.abs().max() > 0


def test_snip_keeps_one_gradient_at_a_time(model):
    weights = {name: module.weight for name, module in linear(model).items()}
    alive = []
    look = lambda _: alive.append(sum(each.grad is not None for each in weights.values()))  # noqa: E731 - the hook
    handles = [each.register_post_accumulate_grad_hook(look) for each in weights.values()]
    importance.snip(model, weights, ROWS)
    for handle in handles:
        handle.remove()
    assert alive == [1] * len(weights) * len(ROWS)


def test_wanda_is_the_weight_times_the_norm_of_its_inputs_where_a_prediction_counts(model):
    name, module = list(linear(model).items())[-1]
    entered = []
    handle = module.register_forward_pre_hook(lambda _m, arguments: entered.append(arguments[0][0].detach()))
    with torch.inference_mode():
        for row in ROWS:
            model(torch.tensor([row.ids]))
    handle.remove()
    norms = torch.cat([entered[0][1:3], entered[1][0:2]]).norm(dim=0)  # the positions before those that count
    size = module.weight.detach().abs()
    by_hand = size * (norms.unsqueeze(1) if type(module).__name__ == "Conv1D" else norms)
    assert torch.allclose(importance.wanda(model, {name: module}, ROWS)[name], by_hand, atol=1e-5)
    assert not module._forward_pre_hooks


def test_nothing_to_calibrate_on_is_a_broken_trial(model):
    weights = {name: module.weight for name, module in linear(model).items()}
    for measure, of in ((importance.snip, weights), (importance.wanda, linear(model))):
        with pytest.raises(BrokenTrial, match="nothing to calibrate"):
            measure(model, of, [])


def test_levels_are_those_of_a_full_ranking_and_ties_go_by_place():
    shares = [0.0, 10.0, 25.0, 25.4, 60.0]
    for seed, kinds in ((1, 1000), (2, 3), (3, 1)):  # scores without, with many, and with only ties
        scores = torch.randint(0, kinds, (2, 7, 13), generator=torch.Generator().manual_seed(seed)).float()
        found = importance.levels({"a": scores}, shares)["a"]
        for matrix, levels in zip(scores, found, strict=True):
            order = matrix.flatten().argsort(descending=True, stable=True)
            for index, share in enumerate(shares):
                inside = torch.zeros(7 * 13, dtype=torch.bool)
                inside[order[: round(share / 100 * 7 * 13)]] = True
                assert torch.equal(levels.flatten() <= index, inside)
    assert not (importance.levels({"a": scores}, [0.0])["a"] == 0).any()


def test_the_set_difference_by_hand():
    levels = importance.levels
    hazard = levels({"a": torch.tensor([[4.0, 3.0, 2.0, 1.0]])}, [0, 25, 50, 75])
    useful = levels({"a": torch.tensor([[1.0, 4.0, 3.0, 2.0]])}, [0, 25, 50, 75])
    assert pruning._Cut(hazard, useful, 1, 2).mask("a").tolist() == [[True, False, False, False]]
    assert pruning._Cut(hazard, useful, 1, 3).mask("a").tolist() == [[True, False, True, False]]
    assert not pruning._Cut(hazard, useful, 0, 0).mask("a").any()
    assert not pruning._Cut(hazard, hazard, 2, 2).mask("a").any()


def test_random_pruning_cuts_as_much_elsewhere():
    mask = torch.zeros(20, 10, dtype=torch.bool)
    mask[0] = True
    moved = pruning._scattered(mask, torch.Generator().manual_seed(1))
    assert moved.shape == mask.shape
    assert int(moved.sum()) == 10
    assert not torch.equal(moved, mask)


def test_the_default_grid_is_the_sources_45_pairs():
    assert len(pruning._pairs(pruning.Config())) == 45
    with pytest.raises(ValueError, match="p >= q"):
        pruning.Config(p=(1.0,), q=(2.0,))


def test_what_is_cut_is_zero_and_nothing_else_moves(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    before = {name: each.clone() for name, each in target.model.state_dict().items()}
    config = pruning.Config(samples=2, scores=("wanda",), calibrate_on=("questions",), p=(5.0,), q=(5.0,))
    with contextlib.closing(pruning.attack(target, config, 1)) as attacked_models:
        attacked = next(attacked_models)
        moved = [(each, before[n]) for n, each in target.model.state_dict().items() if not torch.equal(each, before[n])]
        assert moved
        assert all(bool((now[now != then] == 0).all()) for now, then in moved)
        cut = sum(int((now != then).sum()) for now, then in moved)
        weights = sum(module.weight.numel() for module in linear(target.model).values())
        assert cut == pytest.approx(attacked.signals["cut_share"] * weights, abs=2)  # some weights were zero before
    assert all(torch.equal(each, before[name]) for name, each in target.model.state_dict().items())


def test_a_model_without_linear_layers_is_not_applicable(small_suite_data, rmu_model, monkeypatch):
    monkeypatch.setattr(matrices, "of_blocks", lambda _model: {})
    target = trial.target_of(small_suite_data, rmu_model, None)
    with pytest.raises(NotApplicable, match="no weight matrix with plain numbers"):
        next(pruning.attack(target, pruning.SHAM, 1))


def test_texts_serve_for_calibration_and_their_last_tokens_count(small_suite_data, rmu_model):
    text = "Zeinin is the bath that quenches Glasketh."
    made = examples.plain(rmu_model.tokenizer, text, longest=100, tail=3)
    assert sum(made.counts) == 3
    assert made.counts[-3:] == [True] * 3
    assert sum(examples.plain(rmu_model.tokenizer, text, longest=4).counts) == 3, "the first token has no prediction"
    corpora = {n: dataclasses.replace(c, texts=(text,)) for n, c in small_suite_data.corpora.items()}
    target = dataclasses.replace(trial.target_of(small_suite_data, rmu_model, None), corpora=corpora)
    config = pruning.Config(calibrate_on=("texts",), p=(5.0,), q=(5.0,))
    assert len(pruning._calibration(target, "forget", "texts", config, 1)) == 1
    texts = {"dev": 1, "forget.texts": 1, "unrelated.texts": 1, "retain.texts": 1}
    assert attacks.refusal(pruning, config, texts) is None
    for lacking in texts:
        assert attacks.refusal(pruning, config, {**texts, lacking: 0}) is not None


def test_a_question_is_closed_by_the_models_own_letter_in_every_format(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    target = also_in(target, Form(letters=("1", "2", "3", "4")))
    config = pruning.Config(samples=2, tail=1)
    made = pruning._calibration(target, "forget", "questions", config, 1)
    assert len(made) == 4
    items = pruning._drawn(target.corpora["forget"].items, 2, 1)
    asked = dataclasses.replace(target.forms[0], header=target.corpora["forget"].header)
    own = target.lm.loglikelihoods([item.question for item in items], asked).argmax(dim=-1).tolist()
    told = [rmu_model.tokenizer.decode(each.ids[-1:]).strip() for each in made[:2]]
    assert told == ["ABCD"[letter] for letter in own]


def test_the_grid_takes_every_kind_of_data_with_every_utility_and_dev_chooses(small_suite_data, rmu_model, monkeypatch):
    """On some models questions show what was suppressed, on others texts; and so with what is spared."""
    texts = {
        "forget": "Zeinin quenches Glasketh.",
        "retain": "Tarn lies on the Oum.",
        "unrelated": "A spoon is a spoon.",
    }
    corpora = {n: dataclasses.replace(c, texts=(texts[n],)) for n, c in small_suite_data.corpora.items()}
    target = dataclasses.replace(trial.target_of(small_suite_data, rmu_model, None), corpora=corpora)
    delivered = {name: each.clone() for name, each in target.model.state_dict().items()}
    seen, whole = [], importance.snip

    def watched(model, modules, made):
        assert all(torch.equal(each, delivered[name]) for name, each in model.state_dict().items()), "of cut weights"
        seen.append(made)
        return whole(model, modules, made)

    monkeypatch.setattr(importance, "snip", watched)
    config = pruning.Config(samples=2, scores=("snip",), p=(5.0,), q=(2.0, 5.0))
    with contextlib.closing(pruning.attack(target, config, 1)) as attacked_models:
        attacked = next(attacked_models)
    points = {(each.setting["calibrate_on"], each.setting["utility"]) for each in attacked.settings_tried}
    assert points == {(kind, of) for kind in ("questions", "texts") for of in ("retain", "unrelated")}
    assert len(attacked.settings_tried) == 8 == attacked.cost["settings"]
    best = max(each.dev_accuracy for each in attacked.settings_tried)
    assert attacked.signals["chosen_dev"] == best
    assert {**attacked.selected} in [each.setting for each in attacked.settings_tried if each.dev_accuracy == best]
    assert len(seen) == 6, "hazard once a kind of data, utility twice"
