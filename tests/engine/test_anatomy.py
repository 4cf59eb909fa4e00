"""Blocks are found by what they compute, on tiny random models of every family we name."""

from __future__ import annotations

import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.engine.anatomy import dissect, edited, recorded
from robustness_gate.errors import NotApplicable
from robustness_gate.planning.foreseen import KNOWN_BLOCKS

SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
GROUPED = {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 64}
FAMILIES = {
    "llama": ("LlamaConfig", GROUPED, False),
    "mistral": ("MistralConfig", GROUPED, False),
    "qwen2": ("Qwen2Config", GROUPED, False),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 8}, False),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 8}, False),
    "gemma3_text": ("Gemma3TextConfig", {**GROUPED, "head_dim": 8}, False),
    "gpt_neox": ("GPTNeoXConfig", {**SMALL, "max_position_embeddings": 64}, True),
    "gpt_neox-sequential": ("GPTNeoXConfig", {**SMALL, "use_parallel_residual": False}, False),
    "gpt2": ("GPT2Config", {"vocab_size": 64, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}, False),
    "phi": ("PhiConfig", {**SMALL, "max_position_embeddings": 64}, True),
    "phi3": ("Phi3Config", {**GROUPED, "pad_token_id": 0}, False),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    name, keywords, parallel = FAMILIES[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**keywords)
    return transformers.AutoModelForCausalLM.from_config(config).eval(), parallel


def test_the_families_that_plan_believes_in_are_the_ones_tried_here():
    """Here, and as organisms of that class in tests/organisms/test_rewrite.py."""
    assert set(KNOWN_BLOCKS) == {name.removesuffix("-sequential") for name in FAMILIES} | set(organisms.REWRITTEN)


IDS = torch.tensor([[5, 9, 33, 2, 7]])


def test_each_block_is_its_input_plus_attention_plus_mlp(family):
    model, parallel = family
    anatomy = dissect(model)
    assert len(anatomy.blocks) == 3
    assert all(block.parallel == parallel for block in anatomy.blocks)
    named = {"in": anatomy.blocks[1].module, "a": anatomy.blocks[2].attention, "m": anatomy.blocks[2].mlp}
    with torch.inference_mode(), recorded({**named, "out": anatomy.blocks[2].module}) as seen:
        model(IDS)
    assert torch.allclose(seen["in"] + seen["a"] + seen["m"], seen["out"], atol=1e-5)


def test_attention_sees_other_positions_and_the_mlp_does_not(family):
    """The two are told apart by what they do: changing an early token must move attention's output at a later one."""
    model, _ = family
    block = dissect(model).blocks[0]
    outputs = []
    for first in (5, 6):
        ids = IDS.clone()
        ids[0, 0] = first
        with torch.inference_mode(), recorded({"a": block.attention}) as seen:
            model(ids)
            outputs.append(seen["a"][0, -1])
    assert not torch.allclose(*outputs, atol=1e-7)


def test_norm_and_head_on_the_last_block_are_the_models_logits(family):
    model, _ = family
    anatomy = dissect(model)
    with torch.inference_mode(), recorded({"last": anatomy.blocks[-1].module}) as seen:
        logits = model(IDS).logits
        lens = anatomy.head(anatomy.norm(seen["last"]))
    cap = getattr(model.config, "final_logit_softcapping", None)
    lens = torch.tanh(lens / cap) * cap if cap else lens
    assert torch.allclose(lens, logits, atol=1e-4)


def test_an_edit_changes_the_stream_and_leaves_no_hook(family):
    model, _ = family
    block = dissect(model).blocks[1]
    with torch.inference_mode():
        plain = model(IDS).logits
        with edited({block.module: lambda stream: stream * 0.5}):
            assert not torch.equal(plain, model(IDS).logits)
        assert torch.equal(plain, model(IDS).logits)
    assert not any(module._forward_hooks for module in model.modules())


def granite(residual_multiplier):
    torch.manual_seed(0)
    config = transformers.GraniteConfig(**GROUPED, residual_multiplier=residual_multiplier)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def test_a_block_that_scales_what_it_adds_is_known_with_its_scale():
    model = granite(0.3)
    block = dissect(model).blocks[1]
    assert (block.scale, block.parallel) == (0.3, False)
    named = {"in": dissect(model).blocks[0].module, "a": block.attention, "m": block.mlp, "out": block.module}
    with torch.inference_mode(), recorded(named) as seen:
        model(IDS)
    assert torch.allclose(seen["in"] + 0.3 * (seen["a"] + seen["m"]), seen["out"], atol=1e-5)


def test_a_scale_that_the_config_does_not_name_is_not_applicable():
    model = granite(0.3)
    model.config.residual_multiplier = 1.0
    with pytest.raises(NotApplicable, match="do not add"):
        dissect(model)


def test_the_stream_after_attention_has_the_scale_in_it():
    from robustness_gate.engine.lens import Site, _stage, _staged

    model = granite(0.3)
    anatomy = dissect(model)
    site = Site(1, "after_attention")
    norm = anatomy.blocks[1].module.post_attention_layernorm
    entered = []
    norm.register_forward_pre_hook(lambda _module, arguments: entered.append(arguments[0]))
    with torch.inference_mode(), _staged(anatomy, (site,)) as stages:
        model(IDS)
        assert torch.allclose(_stage(stages, site), entered[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt_neox", "gpt_neox-sequential", "phi"])
def test_low_precision_changes_nothing_about_what_is_found(name, dtype):
    config_name, keywords, parallel = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**keywords)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    expected = [type(block.mlp) for block in dissect(model).blocks]
    blocks = dissect(model.to(dtype)).blocks
    assert [type(block.mlp) for block in blocks] == expected
    assert all(block.parallel == parallel for block in blocks)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["base", "rmu", "oracle"])
def test_the_organisms_are_understood_in_low_precision(name, dtype):
    from robustness_gate.engine.load import load

    model = load(organisms.checkpoint(name), dtype=dtype, device="cpu").model
    assert [block.parallel for block in dissect(model).blocks] == [False] * 4
