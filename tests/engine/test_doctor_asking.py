"""What doctor tells of end marks, padding, the clock, the context and the precision: what a trial would do."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from robustness_gate import doctor, organisms
from robustness_gate.engine import padding
from robustness_gate.engine.context import UNLIMITED, longest_prompt
from robustness_gate.engine.load import load
from robustness_gate.files import load_suite

TINY = {
    "rwkv": (
        "RwkvConfig",
        {"hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32, "context_length": 512},
    ),
    "mpt": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 512}),
    "xlstm": ("xLSTMConfig", {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2}),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random tiny model of a family on disk, with the organism's tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))

    def make(name):
        place = tmp_path_factory.mktemp(name)
        config, keys = TINY[name]
        torch.manual_seed(0)
        config = getattr(transformers, config)(vocab_size=len(tokenizer), **keys)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for each in model.parameters():
            if each.dim() >= 2:
                torch.nn.init.normal_(each, std=0.2)
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        return place

    return make


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(organisms.checkpoint("base"), tmp_path / "m")


def of(checks, name, state=None):
    return [check.says for check in checks if check.name == name and state in (None, check.state)]


def spoken(place, suite=None):
    return list(doctor._speech(load(place, dtype="float32", device="cpu"), suite, lambda _: None))


@pytest.mark.parametrize(
    ("name", "says"), [("rwkv", "512 tokens"), ("mpt", "512 tokens"), ("xlstm", "no prompt is cut")]
)
def test_what_is_promised_of_the_context_is_what_is_cut(tiny, name, says):
    place = tiny(name)
    (told,) = of(doctor._files(str(place), None, "float32")[0], "context")
    assert says in told
    longest = longest_prompt(load(place, dtype="float32", device="cpu").model)
    assert longest == (512 if "512" in says else UNLIMITED)


def test_a_family_that_minds_padding_is_named(tiny):
    padding.forget()
    (told,) = of(spoken(tiny("rwkv")), "padding", "note")
    assert "prompts of unequal length are asked apart" in told
    assert of(spoken(organisms.checkpoint("base")), "padding") == []


def test_end_marks_that_are_words_are_named(checkpoint, root):
    suite = load_suite(root / "suites" / "organism-tasks.yaml")
    assert of(spoken(checkpoint, suite), "end marks") == []
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    word = tokenizer("The", add_special_tokens=False)["input_ids"][0]
    said = json.loads((checkpoint / "generation_config.json").read_text())
    (checkpoint / "generation_config.json").write_text(json.dumps({**said, "eos_token_id": [2, word]}))
    found = of(spoken(checkpoint, suite), "end marks", "note")
    assert found
    assert all(f"'The' ({word}) are words: they end no answer of '" in each for each in found)


def test_a_template_that_asks_for_the_date_is_told_which(checkpoint):
    template = "{{ strftime_now('%d') }} {{ messages[0].content }}"
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert any("always told 2026-01-01 12:00" in each for each in of(spoken(checkpoint), "chat template", "note"))


def test_tokens_without_a_row_are_named(checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<|newpad|>"})
    tokenizer.save_pretrained(checkpoint)
    (told,) = of(spoken(checkpoint), "tokenizer", "note")
    assert "1 tokens have no row in the model's 1,500: '<|newpad|>' (1500)" in told


def test_the_precision_is_that_of_the_files(checkpoint):
    path = checkpoint / "model.safetensors"
    save_file({name: each.bfloat16() for name, each in load_file(path).items()}, path, metadata={"format": "pt"})
    said = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**said, "dtype": "float16"}))
    in_float16 = of(doctor._files(str(checkpoint), None, "float16")[0], "precision", "note")
    assert in_float16 == [
        "stored as bfloat16, computed in float16",
        "config.json says float16, in which others will load it; the weights are bfloat16",
    ]
    in_float32 = doctor._files(str(checkpoint), None, "float32")[0]
    assert of(in_float32, "precision", "ok") == ["stored as bfloat16, computed in float32"]
