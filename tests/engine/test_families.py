"""Attacks on weights reach the weights of every family: fused experts, state-space blocks, routers that tell tuples."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import families
import pytest
import torch
import transformers

from robustness_gate import attacks, organisms
from robustness_gate.engine import matrices, scope, train
from robustness_gate.engine.load import LoadedModel
from robustness_gate.engine.state import changes, state_of
from robustness_gate.errors import NotApplicable
from robustness_gate.running import trial

DATA = [
    train.Example([1, 5, 9, 7, 30, 12, 41], [False] + [True] * 6),
    train.Example([1, 8, 6, 77], [False] + [True] * 3),
    train.Example(list(range(100, 130)), [False] + [True] * 29),
]
ATTACKS = {
    "quantize": {"budgets": (4,)},
    "noise": {"budgets": (100,), "draws": 1},
    "pruning": {
        "samples": 4, "p": (20.0,), "q": (20.0,), "scores": ("snip",), "calibrate_on": ("questions",),
        "utility": ("unrelated",),
    },
    "relearn": {"budgets": (8,), "learning_rates": (1e-2,), "min_steps": 2, "batch": 8, "rank": 2, "alpha": 4},
}  # fmt: skip
OF_THEIR_OWN = ("recurrent_states",)
"""What RecurrentGemma itself keeps from one forward pass to the next."""


@pytest.fixture(scope="module", params=families.FAMILIES)
def model(request):
    return families.build(request.param)


def left(before: dict, model) -> list[str]:
    for state in (before, after := state_of(model)):
        state["attributes"] = {k: v for k, v in state["attributes"].items() if not k.endswith(OF_THEIR_OWN)}
    return list(changes(before, after))


def test_an_adapter_goes_to_every_matrix_learns_and_leaves_no_trace(model):
    model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    names, before, plain = scope.linear_names(model), state_of(model), train.fit(model, DATA)
    sizes = matrices.sizes(model)
    with scope.seeded(1), scope.adapter(model, rank=2, alpha=4, targets=names) as parameters:
        start = scope.snapshot(parameters)
        assert train.fit(model, DATA).loss == pytest.approx(plain.loss, abs=1e-6), "it begins as no change"
        train.train(model, parameters, DATA, train.Recipe(1e-2, steps=6, batch=3), 1)
        assert train.fit(model, DATA).loss < 0.95 * plain.loss
        told = matrices.signs(sizes, scope.reached(parameters, start))
        assert told["share_touched"] >= 0.97, sorted(set(names) - set(scope.reached(parameters, start)))
        moved = {name: each.detach().clone() for name, each in parameters.items()}
        at_work = train.fit(model, DATA).loss
        for name in names:  # each one is read by the model: taken away alone it changes the answers
            own = f"{name}.lora_B"
            if not bool(moved[own].any()) or "router" in name:  # PhiMoE's may choose, and not weigh
                continue
            scope.write(parameters, moved | {own: torch.zeros_like(moved[own])})
            assert train.fit(model, DATA).loss != at_work, f"{name} has an adapter that nothing reads"
    assert left(before, model) == []
    assert train.fit(model, DATA).loss == pytest.approx(plain.loss, abs=1e-6)


def test_matrices_are_the_blocks_and_neither_their_ends_nor_what_only_looks_like_one(model):
    found = matrices.of_blocks(model)
    ends = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    assert not ends & {id(each.weight) for each in found.values()}
    assert not [name for name in found if name.endswith(("bias", "A_log", "conv1d.weight", "wpe.weight"))]
    inside = sum(each.numel() for each in model.parameters() if id(each) not in ends and each.ndim >= 2)
    held = sum(each.weight.numel() for each in found.values())
    assert held > 0.72 * inside, "what is left out is small beside it, even here"
    assert all(model.get_parameter(name) is each.weight for name, each in found.items())


@pytest.fixture(scope="module")
def loaded(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    kind = next(name for name, (config, _) in families.FAMILIES.items() if config == type(model.config).__name__)
    model = families.build(kind, words=len(tokenizer))
    model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)  # RWKV notes that it was asked
    return LoadedModel(model, tokenizer)


LONG = {"falcon_h1", "mamba2"}
"""State-space blocks computed step by step: jamba, mamba and falcon_mamba have such blocks too, and take less."""


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in families.FAMILIES],
    indirect=True,
)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_on_weights_reports_that_it_touched_nearly_all_of_them(name, loaded, small_suite_data):
    module = attacks.load(name)
    config = module.Config(**ATTACKS[name])
    few = dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2])
    target = trial.target_of(few, loaded, None)
    before = state_of(loaded.model)
    with contextlib.closing(module.attack(target, config, 1)) as attacked_models:
        signs = next(attacked_models).signals
    assert signs["share_of_asked"] >= 0.9
    assert 0.9 <= signs["share_touched"] <= 1.0
    asked = matrices.signs(matrices.sizes(loaded.model), module.reach(loaded.model, config))
    assert asked["share_touched"] == pytest.approx(1.0)
    assert left(before, loaded.model) == []


def test_what_reaches_a_small_part_says_so_and_misses_its_floor(small_suite_data):
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    loaded = LoadedModel(families.build("mixtral", words=len(tokenizer)), tokenizer)
    target = trial.target_of(dataclasses.replace(small_suite_data, dev=small_suite_data.dev[:2]), loaded, None)
    module = attacks.load("pruning")
    config = module.Config(**ATTACKS["pruning"] | {"scores": ("wanda",)})  # sees what enters linear modules alone
    with contextlib.closing(module.attack(target, config, 1)) as attacked_models:
        signs = next(attacked_models).signals
    assert signs["share_of_asked"] == pytest.approx(0.141, abs=0.005)
    assert [floor.description[:27] for floor in module.FLOORS if not any(b.holds(signs) for b in floor.any_of)] == [
        "some setting cut in nine te",
        "at least three settings tha",
    ]


def test_layers_touch_little_by_design_and_clear_the_floor(small_suite_data, rmu_model):
    module, target = attacks.load("relearn"), trial.target_of(small_suite_data, rmu_model, None)
    config = module.Config(**ATTACKS["relearn"], layers=(1,))
    with contextlib.closing(module.attack(target, config, 1)) as attacked_models:
        signs = next(attacked_models).signals
    assert (signs["share_touched"], signs["share_of_asked"]) == (0.25, 1.0)


def test_experts_are_rounded_one_by_one_and_by_what_they_put_out():
    quantize = attacks.load("quantize")
    config = quantize.Config(budgets=(3,))
    stack = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    by_hand = torch.stack([quantize._rounded(each, 3, config) for each in stack])
    assert torch.equal(quantize._stored(stack, 3, config, transposed=False), by_hand)
    assert torch.equal(quantize._stored(stack.mT.contiguous(), 3, config, transposed=True), by_hand.mT)


@pytest.mark.parametrize(("family", "transposed"), [("mixtral", False), ("gpt_oss", True), ("llama4_text", True)])
def test_how_experts_are_stored_is_known(family, transposed):
    found = matrices.of_blocks(families.build(family))
    experts = [each for name, each in found.items() if name.endswith("experts.gate_up_proj")]
    assert experts
    assert {each.transposed for each in experts} == {transposed}
    for each in experts:
        assert each.weight.shape[-1 if not transposed else -2] == 32, "the width of the stream goes in"


def test_weights_that_are_stored_quantised_are_not_applicable_with_the_reason(small_suite_data, rmu_model):
    target = trial.target_of(small_suite_data, rmu_model, None)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model[0].weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    model.config = SimpleNamespace(get_text_config=lambda: model.config)
    target = dataclasses.replace(target, model=model)
    for name in ("quantize", "noise", "pruning"):
        with pytest.raises(NotApplicable, match="stored quantised"):
            next(attacks.load(name).attack(target, attacks.load(name).Config(), 1))
    relearn = attacks.load("relearn")
    with pytest.raises(NotApplicable, match="stored quantised: it cannot be trained"):
        relearn._opened(model, relearn.Config(method="full")).__enter__()


def test_doctor_reports_the_share_that_an_attack_reaches_and_whether_that_is_what_was_asked():
    from robustness_gate.assurance.doctor import Code
    from robustness_gate.assurance.doctor.fit import fits

    model, pruning, relearn = families.build("mixtral"), attacks.load("pruning"), attacks.load("relearn")
    all_of_it = fits("pruning", pruning, [pruning.Config()], model, True)
    assert (all_of_it.state, all_of_it.code, all_of_it.args["shares"]) == ("ok", Code.REACHES_ALL, "100 %")
    part = fits("pruning", pruning, [pruning.Config(scores=("wanda",))], model, True)
    assert (part.state, part.code, part.args["shares"]) == ("note", Code.REACHES_PART, "14 %")
    layers = fits("relearn", relearn, [relearn.Config(), relearn.Config(layers=(0,))], model, True)
    assert (layers.state, layers.args["shares"]) == ("ok", "33 % and 100 %")
    beyond = fits("relearn", relearn, [relearn.Config(layers=(9,))], model, True)
    assert (beyond.state, beyond.code) == ("note", Code.SETTING_NOT_APPLICABLE)
    assert "there is no block 9" in beyond.args["message"]
