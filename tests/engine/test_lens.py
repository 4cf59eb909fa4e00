"""The logit lens: at the model's end it is the model, before it it is norm and head on that stage and nothing else."""

from __future__ import annotations

import pytest
import torch
import transformers
from test_anatomy import FAMILIES

from robustness_gate import organisms
from robustness_gate.attacks import logit_lens
from robustness_gate.engine import anatomy, lens, score
from robustness_gate.engine.lens import Site
from robustness_gate.running import trial

IDS = torch.tensor([[5, 9, 33, 2, 7], [1, 4, 4, 60, 21]])
MASK = torch.ones_like(IDS)
LAST = Site(2, "block")


@pytest.fixture(params=FAMILIES)
def model(request):
    name, keywords, _ = FAMILIES[request.param]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**keywords)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@torch.inference_mode()
def test_the_lens_at_the_last_block_is_the_model_to_the_last_bit(model):
    parts, plain = anatomy.dissect(model), model(IDS).logits
    with lens.read_at(parts, LAST):
        assert torch.equal(model(IDS).logits, plain)
    with lens.read_at(parts, Site(0, "mlp"), 0.0):
        assert torch.equal(model(IDS).logits, plain), "strength zero"
    with lens.read_at(parts, Site(0, "mlp")):
        assert not torch.allclose(model(IDS).logits, plain, atol=1e-3)
    assert torch.equal(model(IDS).logits, plain), "the hooks are gone"


@torch.inference_mode()
def test_a_block_s_lens_is_norm_and_head_on_its_hidden_state(model):
    parts = anatomy.dissect(model)
    hidden = model(IDS, output_hidden_states=True).hidden_states[2]  # transformers' own record, after the second block
    by_hand = parts.head(parts.norm(hidden))
    cap = getattr(model.config, "final_logit_softcapping", None)
    by_hand = cap * torch.tanh(by_hand / cap) if cap else by_hand
    with lens.read_at(parts, Site(1, "block")):
        assert torch.allclose(model(IDS).logits, by_hand, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("keep", [1, 3])
def test_the_quick_reading_agrees_with_the_full_pass_at_every_site(model, keep):
    parts = anatomy.dissect(model)
    grid = lens.sites(3, lens.STAGES)
    assert len(grid) == 11
    through = lens.Lens(model, parts, tuple(grid))
    for site in [*grid, None]:
        quick = through.at(site)(input_ids=IDS, attention_mask=MASK, logits_to_keep=keep, use_cache=False).logits
        if site is None:
            slow = model(IDS).logits
        else:
            with lens.read_at(parts, site):
                slow = model(IDS).logits
        assert torch.allclose(quick, slow[:, -keep:], atol=1e-5), site
    assert len(through.kept) == 1, "the model itself was run on these tokens once"


@torch.inference_mode()
def test_the_stages_of_a_block_add_up(model):
    parts = anatomy.dissect(model)
    with lens._staged(parts, [Site(1, stage) for stage in lens.STAGES]) as found:
        model(IDS)
        a, m, b = (lens._stage(found, Site(1, stage)) for stage in ("after_attention", "mlp", "block"))
        assert torch.allclose(a + m, b, atol=1e-5)


def test_letters_and_words_can_both_be_read_through_the_lens(rmu_model, small_suite_data):
    """The same screening path for a verbatim task, whose answers are many tokens."""
    target = trial.target_of(small_suite_data, rmu_model, None)
    parts = anatomy.dissect(rmu_model.model)
    through = lens.Lens(rmu_model.model, parts, tuple(lens.sites(4, ("block",))))
    questions = [item.question for item in small_suite_data.dev]
    words = score.Form(verbatim=True)
    for form in (*target.forms, words):
        quick = score.ModelLM(through.at(Site(1, "block")), rmu_model.tokenizer).loglikelihoods(questions, form)
        with lens.read_at(parts, Site(1, "block")):
            slow = target.lm.loglikelihoods(questions, form)
        assert torch.allclose(quick, slow, atol=1e-4)
        assert not torch.allclose(slow, target.lm.loglikelihoods(questions, form), atol=1e-2)


def test_the_sites_are_all_tried_and_the_best_on_dev_is_handed_over(small_suite_data):
    from robustness_gate.engine.load import load

    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    target = trial.target_of(small_suite_data, loaded, None)
    (attacked,) = list(logit_lens.attack(target, logit_lens.Config(), 1))
    assert len(attacked.settings_tried) == 15
    best = max(each.dev_accuracy for each in attacked.settings_tried)
    last = [each.setting for each in attacked.settings_tried if each.dev_accuracy == best][-1]
    assert attacked.selected == last
    assert best >= 0.9, "before it is unlearned, the model's answer can be read before its end"
    assert min(each.dev_accuracy for each in attacked.settings_tried) <= 0.6, "but not everywhere"
