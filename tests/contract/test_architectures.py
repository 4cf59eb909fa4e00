"""Every attack on tiny random models of many families: marks as planned, finite answers, the model restored exactly."""

from __future__ import annotations

import pytest
import torch
import transformers
from attack_laws import answers, assert_same, state_of

from robustness_gate import attacks, organisms, trial
from robustness_gate.engine.load import Speaker
from robustness_gate.errors import NotApplicable

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
GROUPED = {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 256}
FAMILIES = {
    "llama": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", GROUPED),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", {**GROUPED, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**GROUPED, "head_dim": 16}),
    "gpt_neox": ("GPTNeoXConfig", {**SMALL, "max_position_embeddings": 256}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 256}),
    "phi": ("PhiConfig", {**SMALL, "max_position_embeddings": 256}),
    "granite": ("GraniteConfig", {**GROUPED, "residual_multiplier": 0.3}),
}
ATTACKS = {
    "none": {},
    "enhanced_prefix": {
        "tokens": 2,
        "shortest": 2,
        "longest": 3,
        "marks": (2,),
        "warm": 1,
        "candidates": 3,
        "questions": 2,
        "header": False,
    },
    "few_shot": {"marks": (1,), "draws": 1, "open_book": False},
    "quantize": {"marks": (3, 4)},
    "interpolate": {"marks": (50,)},
    "perturb_informed": {"depths": (0.5,), "thresholds": (0.01,), "questions": 8, "rounds": 2},
    "perturb": {"every": (9,), "shares": (), "characters": ("!",), "cases": (), "screened": 2, "finalists": 1},
    "sample": {"marks": (4,), "temperatures": (1.0,)},
    "reformat": {"presentations": ("letters_digits", "tokens_all"), "calibrations": ("calibrated_free",)},
    "ablation": {"skip_tokens": 12, "questions": 4, "directions": ("retain", "principal"), "all_layers": False},
    "latent_prompt": {"marks": (2,), "learning_rates": (0.1,), "batch": 2, "questions": 2},
    "logit_lens": {},
    "probe": {"questions": 2, "folds": 2, "penalties": (10.0,)},
    "refusal_direction": {"declined": "domain", "questions": 4, "validating": 2, "positions": 1, "tried": 2},
    "model_guidance": {"weights": (2.0,)},
    "noise": {"marks": (50, 200), "draws": 2},
    "pruning": {"samples": 2, "p": (5.0,), "q": (5.0,), "calibrate_on": ("questions",)},
    "relearn": {"source": "unrelated", "learning_rates": (1e-3,), "marks": (2,), "batch": 2, "rank": 2, "alpha": 4},
    "soft_prompt": {"vectors": 3, "marks": (2,), "learning_rates": (0.1,), "batch": 2, "questions": 2},
    "steer": {"depths": (0.0, 0.5), "multiples": (1.0, 2.0), "questions": 2},
    "universal_prefix": {"tokens": 2, "marks": (2,), "restarts": 1, "candidates": 3, "batch": 2, "header": False},
}
NOT_FOR = {
    ("granite", "ablation"),
    ("granite", "latent_prompt"),
    ("granite", "logit_lens"),
    ("granite", "perturb_informed"),
    ("granite", "probe"),
    ("granite", "refusal_direction"),
    ("granite", "steer"),
}  # its blocks scale what they add, and the anatomy says that it cannot know them


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    name, keywords = FAMILIES[request.param]
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    config = getattr(transformers, name)(**keywords, vocab_size=len(tokenizer))
    speakers = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        speakers.append(Speaker(model.requires_grad_(False), tokenizer))
    return request.param, *speakers


def test_every_attack_of_the_folder_is_tried():
    assert set(ATTACKS) == set(attacks.names())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_works_on_this_family_or_says_that_it_does_not_apply(family, name, small_materials):
    import contextlib

    kind, speaker, original = family
    module = attacks.load(name)
    config = module.Config(**ATTACKS[name])
    target = trial.target_of(small_materials, speaker, lambda: contextlib.nullcontext(original))
    plain, before = answers(target.respondent, small_materials), state_of(speaker.model, speaker.tokenizer)
    marks = []
    try:
        for recovery in module.attack(target, config, 1):
            marks.append(recovery.mark)
            found = answers(recovery.respondent, small_materials)
            assert found.isfinite().all()
            assert torch.equal(found, plain) == (name in {"none", "probe"})
    except NotApplicable:
        assert (kind, name) in NOT_FOR
    else:
        assert (kind, name) not in NOT_FOR
        assert tuple(marks) == attacks.marks(config)
    assert_same(before, state_of(speaker.model, speaker.tokenizer))
