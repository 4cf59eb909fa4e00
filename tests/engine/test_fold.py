"""Folding a direction into the weights is the same as hooking it out of the stream, and leaves no trace."""

from __future__ import annotations

import pytest
import torch
import transformers
from test_anatomy import FAMILIES, IDS

from robustness_gate.engine.anatomy import dissect, edited
from robustness_gate.engine.direction import remover
from robustness_gate.engine.fold import folded
from robustness_gate.errors import NotApplicable

FOLDABLE = ["llama", "mistral", "qwen2", "qwen3", "gpt_neox", "gpt_neox-sequential", "phi", "phi3"]


def model_of(name: str, **more: object):
    config_name, keywords, _ = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**keywords, **more)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", FOLDABLE)
def test_folding_equals_hooking_the_direction_out_everywhere(name, tied):
    model = model_of(name, tie_word_embeddings=tied)
    anatomy = dissect(model)
    direction = torch.randn(16, generator=torch.Generator().manual_seed(3))
    places = [anatomy.embedding, *(part for block in anatomy.blocks for part in (block.attention, block.mlp))]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        plain = model(IDS).logits
        with edited({place: remover(direction, 1.0) for place in places}):
            hooked = model(IDS).logits
    with folded(model, direction), torch.inference_mode():
        assert torch.allclose(model(IDS).logits, hooked, atol=1e-5)
        assert not torch.allclose(hooked, plain, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("name", ["gemma2", "gpt2"])
def test_what_cannot_be_folded_is_not_applicable_and_nothing_is_changed(name):
    model = model_of(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(NotApplicable), folded(model, torch.ones(16)):
        pass
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
