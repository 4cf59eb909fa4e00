"""Scopes put things back; the training loop trains what it is given, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import random

import pytest
import torch
import transformers

from robustness_gate.attacks import relearn
from robustness_gate.engine import optimizer, scope, train
from robustness_gate.engine.load import load, pick_device
from robustness_gate.errors import BrokenTrial, CheckpointError, NotApplicable, UsageError
from robustness_gate.running import trial


@pytest.fixture
def model(rmu_model):
    return rmu_model.model


def examples(count: int = 6) -> list[train.Example]:
    generator = random.Random(3)
    rows = [[1] + [generator.randrange(3, 300) for _ in range(9)] for _ in range(count)]
    return [train.Example(row, [False] * 9 + [True]) for row in rows]


def test_seeded_repeats_itself_and_leaves_the_process_as_it_was():
    random.seed(1)
    torch.manual_seed(1)
    expected = (random.random(), float(torch.rand(1)))
    random.seed(1)
    torch.manual_seed(1)
    draws = []
    for _ in range(2):
        with scope.seeded(5):
            draws.append((random.random(), float(torch.rand(1))))
    assert draws[0] == draws[1]
    assert (random.random(), float(torch.rand(1))) == expected


def test_an_adapter_starts_as_no_change_and_leaves_no_trace(model):
    names, ids = [n for n, _ in model.named_parameters()], torch.tensor([[1, 5, 9]])
    plain = model(ids).logits
    with scope.adapter(model, rank=2, alpha=4, targets=scope.linear_names(model)) as parameters:
        assert parameters
        assert all("lora" in name for name in parameters)
        assert torch.equal(plain, model(ids).logits)
        scope.write(parameters, {name: torch.ones_like(each) for name, each in parameters.items()})
        assert not torch.equal(plain, model(ids).logits)
    assert torch.equal(plain, model(ids).logits)
    assert names == [n for n, _ in model.named_parameters()]


def test_the_output_head_gets_no_adapter(model):
    parts = ("mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", *(f"self_attn.{each}_proj" for each in "koqv"))
    assert sorted(scope.linear_names(model)) == [f"model.layers.{n}.{p}.weight" for n in range(4) for p in parts]


def test_an_adapter_that_fits_nothing_is_a_broken_trial(model):
    with (
        pytest.raises(BrokenTrial, match="no adapter"),
        scope.adapter(model, rank=2, alpha=4, targets=["negative_controls"]),
    ):
        pass


def test_trainable_narrows_to_the_named_parameters_and_puts_values_back(model):
    name = "model.layers.0.mlp.up_proj.weight"
    before = model.get_parameter(name).clone()
    with scope.trainable(model, [name]) as parameters:
        assert list(parameters) == [name]
        assert [n for n, p in model.named_parameters() if p.requires_grad] == [name]
        with torch.no_grad():
            parameters[name].add_(1.0)
        assert scope.distance(parameters, {name: before}) == pytest.approx(math.sqrt(before.numel()), rel=1e-4)
    assert torch.equal(before, model.get_parameter(name))
    assert not any(p.requires_grad for p in model.parameters())


def test_training_lowers_the_loss_and_touches_only_its_parameters(model):
    data = examples()
    with scope.trainable(model, [n for n, _ in model.named_parameters() if ".2." in n]) as parameters:
        others = {n: p.clone() for n, p in model.named_parameters() if n not in parameters}
        start = train.mean_loss(model, data)
        course = train.train(model, parameters, data, train.Recipe(5e-3, steps=30, batch=3), seed=1)
        assert train.mean_loss(model, data) < 0.5 * start
        assert len(course.losses) == 30
        assert course.tokens == 30 * 3 * 10
        assert all(torch.equal(p, others[n]) for n, p in model.named_parameters() if n in others)


def test_a_learning_rate_of_zero_changes_nothing(model):
    with scope.trainable(model) as parameters:
        before = scope.snapshot(parameters)
        train.train(model, parameters, examples(), train.Recipe(0.0, steps=3, batch=2), seed=1)
        assert scope.distance(parameters, before) == 0.0


def test_the_loss_counts_only_the_counted_tokens(model):
    row = examples(1)[0]
    with torch.inference_mode():
        logprobs = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    assert train.mean_loss(model, [row]) == pytest.approx(-float(logprobs[8, row.ids[9]]), rel=1e-4)


def test_a_loss_that_is_not_a_number_names_its_step(model):
    with scope.trainable(model) as parameters, pytest.raises(train.Diverged, match="at step"):
        train.train(model, parameters, examples(), train.Recipe(1e30, steps=5, batch=2, clip=0.0), seed=1)


def test_nothing_to_train_is_a_broken_trial(model):
    with pytest.raises(BrokenTrial, match="nothing to train"):
        train.train(model, {}, examples(), train.Recipe(1e-3, steps=1, batch=1), seed=1)


def test_a_sweep_starts_each_rate_from_the_same_values_and_leaves_the_best_in_place(model):
    data, name = examples(), "model.layers.1.mlp.up_proj.weight"
    readings = iter([0.3, 0.6, 0.6, 0.1])
    with scope.trainable(model, [name]) as parameters:
        start = scope.snapshot(parameters)
        loss = train.mean_loss(model, data)
        recipes = [train.Recipe(rate, steps=2, batch=3) for rate in (0.0, 1e-3, 1e-2, 1e-1)]
        done = train.sweep(model, parameters, data, recipes, 1, lambda: next(readings))
        assert done.loss_start == loss == done.runs[0].loss, "a rate of zero ends where it began"
        assert (done.best.rate, done.best.dev) == (1e-2, 0.6), "between equals the higher rate"
        assert train.mean_loss(model, data) == done.best.loss
        best = scope.snapshot(parameters)
        scope.write(parameters, start)
        train.train(model, parameters, data, recipes[2], seed=1)
        assert torch.equal(parameters[name], best[name]), "as if the other rates had not been tried"
    assert [train.edge(rate, (1e-3, 1e-2, 1e-1)) for rate in (1e-3, 1e-2, 1e-1)] == ["lowest", "no", "highest"]


def test_a_sweep_survives_a_rate_that_diverges_but_not_when_all_do(model):
    with scope.trainable(model) as parameters:
        wild, tame = (train.Recipe(rate, steps=5, batch=2, clip=0.0) for rate in (1e30, 1e-4))
        done = train.sweep(model, parameters, examples(), [tame, wild], 1, lambda: 0.5)
        assert (done.best.rate, done.runs[1].loss) == (1e-4, math.inf)
        with pytest.raises(BrokenTrial, match="every learning rate"):
            train.sweep(model, parameters, examples(), [wild], 1, lambda: 0.5)


def test_a_recipe_s_rate_falls_in_a_line_or_by_the_same_factor():
    line = train.Recipe(1.0, steps=4, batch=1)
    assert [optimizer._share(step, 1, line) for step in range(5)] == [
        1.0,
        1.0,
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        0.0,
    ]
    curve = train.Recipe(1.0, steps=4, batch=1, decay=0.5)
    assert [optimizer._share(step, 1, curve) for step in range(4)] == [1.0, 0.5, 0.25, 0.125]


def test_each_budget_of_relearning_measures_its_loss_from_the_delivered_weights(small_suite_data, rmu_model):
    from robustness_gate.attacks import relearn
    from robustness_gate.running import trial

    target = trial.target_of(small_suite_data, rmu_model, None)
    ladder = {"source": "forget", "method": "full", "learning_rates": (1e-2,), "min_steps": 4, "batch": 2}
    both = [r.signals for r in relearn.attack(target, relearn.Config(**ladder, budgets=(2, 4)), 1)]
    alone = [r.signals for r in relearn.attack(target, relearn.Config(**ladder, budgets=(4,)), 1)]
    assert both[1]["loss_start"] == alone[0]["loss_start"]


def test_the_draw_uses_every_example_before_it_repeats_one():
    draw = train._Draw(5, seed=2)
    assert sorted(draw.take(5)) == [0, 1, 2, 3, 4]
    assert sorted(draw.take(5)) == [0, 1, 2, 3, 4]
    assert train._Draw(50, seed=2).take(50) != train._Draw(50, seed=3).take(50)


def test_relearning_on_texts_trains_on_every_token_in_the_seeds_order(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    config = relearn.Config(source="forget", train_on="texts", budgets=(2, 4), longest=6)
    lessons = relearn._examples(target, "forget", "texts", config, 1)
    assert sorted(ids for ((ids, _),) in lessons) == sorted(
        rmu_model.tokenizer(text)["input_ids"][:6] for text in target.corpora["forget"].texts
    )
    assert relearn._training_examples(target, config, 1) == (lessons[:4], target.hazards)
    assert all(counts == [False] + [True] * (len(ids) - 1) for ((ids, counts),) in lessons)
    assert lessons != relearn._examples(target, "forget", "texts", config, 2)
    assert "needs as many 'forget' texts" in relearn.refuse(config, {"dev": 1, "forget.items": 9, "forget.texts": 3})
    assert relearn.refuse(config, {"dev": 1, "forget.texts": 4}) is None
    with pytest.raises(BrokenTrial, match="only 8 'forget' texts"):
        relearn._training_examples(target, dataclasses.replace(config, budgets=(9,)), 1)
    with pytest.raises(ValueError, match="no letter orders"):
        relearn.Config(train_on="texts", rotations=2)


def ids_of(items) -> set[str]:
    return {item.question.id for item in items}


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_with_dev_items_what_is_chosen_on_is_not_trained_on(small_suite_data, rmu_model, folds):
    target = trial.target_of(small_suite_data, rmu_model, None)
    trained = len(target.dev) - -(-len(target.dev) // folds)
    config = relearn.Config(source="dev", budgets=(1, trained), folds=folds)
    splits = []
    for seed in (1, 2, 3):
        lessons, (hazard,) = relearn._training_examples(target, config, seed)
        chosen_on = hazard.dev
        prompts = [rmu_model.tokenizer.decode(lesson[0].ids) for lesson in lessons]
        stems = {item.question.id: item.question.stem for item in target.dev}
        trained_on = {each for each, stem in stems.items() if any(stem in prompt for prompt in prompts)}
        assert len(lessons) == trained
        assert trained_on | ids_of(chosen_on) == ids_of(target.dev)
        assert not trained_on & ids_of(chosen_on)
        splits.append(frozenset(trained_on))
    assert len(set(splits)) > 1, "another seed leaves out other questions"
    verdict = ids_of(item for task_data in small_suite_data.tasks.values() for item in task_data.items)
    assert not verdict & ids_of(target.dev)


def test_what_relearning_cannot_train_on_is_refused_with_the_size_of_the_pool():
    ladder = relearn.Config(source="forget", budgets=(5, 10, 50, 100, 500, 1000))
    assert relearn.refuse(ladder, {"dev": 40, "forget.items": 1000}) is None
    assert relearn.refuse(relearn.Config(budgets=(1,)), {"dev": 40, "unrelated.items": 1}) is None
    assert "the suite has 999" in relearn.refuse(ladder, {"dev": 40, "forget.items": 999})
    folded = relearn.Config(source="dev", budgets=(32,))
    assert relearn.refuse(folded, {"dev": 40}) is None
    assert "the suite has 31: one of 5 folds of its 39 dev items" in relearn.refuse(folded, {"dev": 39})
    mended = relearn.Config(budgets=(1,), repair="retain")
    assert relearn.refuse(mended, {"dev": 4, "unrelated.items": 9, "retain.texts": 1}) is None
    assert "repaired on 'retain' texts" in relearn.refuse(mended, {"dev": 4, "unrelated.items": 9, "retain.items": 1})
    for bad, words in (
        ({"budgets": (0, 1)}, "at least 1"),
        ({"folds": 1}, "'folds'"),
        ({"repair_rate": 0.0}, "over 0"),
    ):
        with pytest.raises(ValueError, match=words):
            relearn.Config(**bad)
    with pytest.raises(ValueError, match="dev items are questions"):
        relearn.Config(source="dev", train_on="texts")


def test_a_repair_is_made_before_the_ladder_and_is_not_counted_as_the_attack_s_own_change(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    still = {"source": "unrelated", "method": "full", "budgets": (1,), "learning_rates": (0.0,), "epochs": 1}
    mended = {**still, "repair": "retain", "repair_on": "texts", "repair_steps": 3, "repair_rate": 1e-3, "longest": 16}
    with contextlib.closing(relearn.attack(target, relearn.Config(**mended), 1)) as attacked_models:
        attacked = next(attacked_models)
        assert attacked.signals["repair_loss_end"] < attacked.signals["repair_loss_start"]
        assert attacked.signals["weight_change"] == 0.0, "the attack itself trained at the rate zero"
        assert attacked.cost["repair_steps"] == 3
        texts = relearn._examples(target, "retain", "texts", relearn.Config(**mended), 1)[:3]
        drill = [example for lesson in texts for example in lesson]
        assert train.mean_loss(target.model, drill) == pytest.approx(attacked.signals["repair_loss_end"])
    (plain,) = relearn.attack(target, relearn.Config(**still), 1)
    assert "repair_loss_end" not in plain.signals
    with pytest.raises(BrokenTrial, match="repair"):
        next(relearn.attack(target, relearn.Config(**{**mended, "repair_rate": 1e3}), 1))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_relearning_in_chosen_blocks_trains_nothing_else(model, method):
    config = relearn.Config(method=method, layers=(0, 2), rank=2, alpha=2)
    with relearn._opened(model, config) as (parameters, _):
        assert {name.split(".layers.")[1].split(".")[0] for name in parameters} == {"0", "2"}
        linear = [name for name in scope.linear_modules(model) if ".layers.0." in name]
        assert len([name for name in parameters if ".layers.0." in name]) >= len(linear) / 2
        in_model = {name for name, each in model.named_parameters() if each.requires_grad}
        assert in_model == (set(parameters) if method == "full" else set())
    with (
        pytest.raises(NotApplicable, match="no block 9: the model has 4"),
        relearn._opened(model, relearn.Config(method=method, layers=(9,))),
    ):
        pass
    with pytest.raises(ValueError, match="'layers' must rise"):
        relearn.Config(layers=(2, 0))


def test_an_adapter_in_one_block_of_gpt2_knows_that_its_matrices_are_transposed():
    small = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 16}
    model = transformers.AutoModelForCausalLM.from_config(transformers.GPT2Config(**small)).eval()
    model.requires_grad_(False)
    with relearn._opened(model, relearn.Config(layers=(1,), rank=2, alpha=2)) as (parameters, _):
        assert parameters
        assert all(".h.1." in name for name in parameters)
        shapes = {name.split(".h.1.")[1]: tuple(each.shape) for name, each in parameters.items()}
        assert shapes["mlp.c_fc.weight.lora_A"] == (2, 8)
        assert shapes["mlp.c_fc.weight.lora_B"] == (32, 2)


def test_a_device_that_is_not_there_is_a_usage_error():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="is not there"):
        pick_device("nonsense")


def test_a_directory_that_transformers_cannot_load_is_a_checkpoint_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "no_such_type"}')
    with pytest.raises(CheckpointError, match="transformers cannot load"):
        load(tmp_path, dtype="float32", device="cpu")


def test_the_best_run_is_written_into_the_copy_of_the_one_before(model):
    """Seven billion weights twice, while one best run takes the other's place, are 27 GB more."""
    parameters, kept = scope.named(model, ["model.layers.1.mlp.up_proj.weight"]), {}
    scope.keep(kept, parameters)
    places = [each.data_ptr() for each in kept.values()]
    with scope.trainable(model, list(parameters)):
        scope.write(parameters, {name: torch.ones_like(each) for name, each in parameters.items()})
        scope.keep(kept, parameters)
    assert [each.data_ptr() for each in kept.values()] == places
    assert all(bool((each == 1).all()) for each in kept.values())
    assert not any(bool((each == 1).all()) for each in parameters.values())
