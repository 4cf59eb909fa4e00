"""An adapter on its base is the merged model, and an adapter that does not fit is an error, never the bare base."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from robustness_gate import organisms
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM
from robustness_gate.errors import CheckpointError
from robustness_gate.inputs.checkpoint.adapter import MERGEABLE
from robustness_gate.inputs.checkpoint.fetch import FETCHED
from robustness_gate.inputs.checkpoint.manifest import inspect, manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef, is_adapter
from robustness_gate.inputs.filekinds import is_read

# peft asks transformers by an old name; which of the two is at fault is not ours to say
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

BASE = organisms.checkpoint("base")
PROJECTIONS = ["q_proj", "v_proj", "down_proj"]
CONFIGS = {
    "LORA": peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=PROJECTIONS),
    "DORA": peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=PROJECTIONS, use_dora=True, use_rslora=True),
    "HEAD": peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], modules_to_save=["norm"]),
    "IA3": peft.IA3Config(task_type="CAUSAL_LM", target_modules=PROJECTIONS, feedforward_modules=["down_proj"]),
    "LOHA": peft.LoHaConfig(task_type="CAUSAL_LM", r=4, target_modules=PROJECTIONS),
    "LOKR": peft.LoKrConfig(task_type="CAUSAL_LM", r=4, target_modules=PROJECTIONS),
}


def make_adapter(folder: Path, config: peft.PeftConfig, base: Path = BASE) -> tuple[Path, Path]:
    """An adapter with random weights, and the ordinary checkpoint that comes of merging it."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)  # half would round the merge
    attached = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in attached.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * (0.02 if "magnitude" in name else 0.1))
    attached.save_pretrained(folder / "adapter")
    attached.merge_and_unload().save_pretrained(folder / "merged")
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder / "merged")
    return folder / "adapter", folder / "merged"


@pytest.fixture(scope="module")
def lora(tmp_path_factory) -> SimpleNamespace:
    adapter, merged = make_adapter(tmp_path_factory.mktemp("lora"), CONFIGS["LORA"])
    return SimpleNamespace(adapter=adapter, merged=merged)


@pytest.fixture
def adapter(lora, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(lora.adapter, tmp_path / "adapter"))


def answers(suite_data, directory: Path, base: Path | None = None) -> torch.Tensor:
    task_data = suite_data.tasks["forget"]
    loaded = load(directory, dtype="float32", device="cpu", base=base)
    return ModelLM(*loaded).loglikelihoods([item.question for item in task_data.items], task_data.form)


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_adapter_on_its_base_answers_as_the_merged_model_does(kind, tmp_path, small_suite_data):
    adapter, merged = make_adapter(tmp_path, CONFIGS[kind])
    assert manifest_of(CheckpointRef(adapter, base=CheckpointRef(BASE))).base == inspect(BASE).digest
    found = answers(small_suite_data, adapter, BASE)
    assert torch.allclose(found, answers(small_suite_data, merged), atol=1e-4)
    assert (found - answers(small_suite_data, BASE)).abs().max() > 1e-2, "the adapter did nothing"


def test_every_kind_that_is_let_in_is_tried_here():
    assert {str(config.peft_type.value) for config in CONFIGS.values()} == set(MERGEABLE)


def test_what_the_attacks_see_is_an_ordinary_model(lora):
    model = load(lora.adapter, dtype="float32", device="cpu", base=BASE).model
    plain = load(BASE, dtype="float32", device="cpu").model
    assert type(model) is type(plain)
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not hasattr(model, "peft_config")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)  # peft warns when a model gets its second adapter
        peft.get_peft_model(model, CONFIGS["LORA"])


def test_it_is_merged_in_the_precision_in_which_it_is_examined(lora):
    model = load(lora.adapter, dtype="bfloat16", device="cpu", base=BASE).model
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_an_adapter_with_a_tokenizer_is_asked_through_it_and_another_through_its_base(adapter):
    assert load(adapter, dtype="float32", device="cpu", base=BASE).tokenizer.chat_template is None
    tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(adapter)
    assert load(adapter, dtype="float32", device="cpu", base=BASE).tokenizer.chat_template == tokenizer.chat_template


# --- what does not fit ------------------------------------------------------------------------------------------------


def refusal(adapter: Path, base: Path = BASE) -> str:
    inspect(adapter, base="0" * 64)  # the directory itself is in order: only loading can tell
    with pytest.raises(CheckpointError) as caught:
        load(adapter, dtype="float32", device="cpu", base=base)
    assert "\n" not in caught.value.message
    assert "--base" in caught.value.message
    assert str(adapter) not in caught.value.message, "a path of this machine would end up in a report"
    return caught.value.message


def test_a_base_of_another_shape_is_refused(adapter, tmp_path):
    config = transformers.AutoConfig.from_pretrained(BASE)
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 128, 16
    config.num_attention_heads = config.num_key_value_heads = 4
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    transformers.AutoTokenizer.from_pretrained(BASE).save_pretrained(tmp_path / "other")
    assert "size mismatch" in refusal(adapter, tmp_path / "other")


@pytest.mark.parametrize("change", ["renamed", "missing", "more"])
def test_weights_that_find_no_place_and_places_without_weights_are_refused(change, adapter):
    """peft lets all three pass, and the model is then the bare base or something that no one made."""
    weights = load_file(adapter / "adapter_model.safetensors")
    first = sorted(weights)[0]
    if change == "renamed":
        weights[first.replace("layers.0", "layers.99")] = weights.pop(first)
    elif change == "missing":
        del weights[first]
    else:
        weights["base_model.model.elsewhere.lora_A.weight"] = torch.zeros(1)
    save_file(weights, adapter / "adapter_model.safetensors")
    assert "no counterpart" in refusal(adapter)


def test_weights_that_are_not_numbers_are_refused(adapter):
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: weight * float("nan") for name, weight in weights.items()}, adapter / "adapter_model.safetensors")
    assert "does not fit its base" in refusal(adapter)


def test_modules_that_the_base_does_not_have_are_refused(adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["negative_controls"]}))
    assert "negative_controls" in refusal(adapter)


def test_a_directory_that_transformers_cannot_load_is_reported_without_its_path(tmp_path):
    broken = Path(shutil.copytree(BASE, tmp_path / "broken"))
    (broken / "model.safetensors").rename(broken / "elsewhere.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load(broken, dtype="float32", device="cpu")
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_one_of_two_tied_embeddings_is_not_adapted_because_merging_would_change_both(end, tmp_path):
    """peft merges it with a warning, and the result answers otherwise than the adapter on its base."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    assert model.config.tie_word_embeddings
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=[end], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="ties together"):
        load(tmp_path / "adapter", dtype="float32", device="cpu", base=BASE)


# --- what a fetch brings ----------------------------------------------------------------------------------------------


def test_a_fetch_brings_every_file_that_a_tokenizer_of_transformers_names():
    """A snapshot's manifest leaves out what is not fetched, so a loader must not be able to read it."""
    from fnmatch import fnmatchcase

    named = set()
    for path in (Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py"):
        text = path.read_text(encoding="utf-8").partition("VOCAB_FILES_NAMES = {")[2].partition("}")[0]
        named |= {part for part in text.split('"')[1::2] if "." in part}
    assert {"tokenizer.json", "merges.txt", "tokenizer.model"} <= named
    assert [name for name in named if not is_read(name)] == []
    assert [name for name in named if not any(fnmatchcase(name, pattern) for pattern in FETCHED)] == []


def test_an_adapter_is_reported_by_its_config(lora):
    assert is_adapter(CheckpointRef(lora.adapter))
    assert not is_adapter(CheckpointRef(lora.merged))
