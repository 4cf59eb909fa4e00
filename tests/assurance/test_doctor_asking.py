"""What doctor tells of end marks, padding, the clock, the context and the precision: what a trial would do."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from robustness_gate import organisms
from robustness_gate.assurance import doctor
from robustness_gate.assurance.doctor import Code, asking, wording
from robustness_gate.assurance.doctor.files import files_of
from robustness_gate.engine import padding, shared
from robustness_gate.engine.context import UNLIMITED, longest_prompt
from robustness_gate.engine.load import load
from robustness_gate.inputs.validation import load_suite

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
    return [check for check in checks if check.name == name and state in (None, check.state)]


def spoken(place, suite=None):
    return list(asking.speech(load(place, dtype="float32", device="cpu"), suite, lambda _: None))


@pytest.mark.parametrize(("name", "tokens"), [("rwkv", 512), ("mpt", 512), ("xlstm", None)])
def test_what_is_promised_of_the_context_is_what_is_cut(tiny, name, tokens):
    place = tiny(name)
    (told,) = of(files_of(str(place), None, "float32")[0], "context")
    assert (told.code, told.args) == ((Code.CONTEXT, {"tokens": tokens}) if tokens else (Code.NO_CONTEXT, {}))
    longest = longest_prompt(load(place, dtype="float32", device="cpu").model)
    assert longest == (tokens or UNLIMITED)


def test_a_family_that_minds_padding_is_named(tiny):
    padding.forget()
    (told,) = of(spoken(tiny("rwkv")), "padding", "note")
    assert told.code == Code.PADDING
    assert "prompts of unequal length are asked apart" in wording.sentence(told)
    assert of(spoken(organisms.checkpoint("base")), "padding") == []


def test_a_family_that_is_not_read_in_parts_is_named_and_how_far_it_looks(tiny, monkeypatch):
    shared.forget()
    padding.forget()
    (told,) = of(spoken(tiny("mpt")), "whole passes", "note")
    assert wording.sentence(told).startswith("every prompt is read whole: what prompts have in common is read again")
    assert of(spoken(organisms.checkpoint("base")), "whole passes") == []
    monkeypatch.setattr(shared, "reach", lambda _model: 9)
    (told,) = of(spoken(organisms.checkpoint("base")), "whole passes", "note")
    assert "attention looks 9 tokens far" in wording.sentence(told)


def test_end_marks_that_are_words_are_named(checkpoint, root):
    suite = load_suite(root / "suites" / "organism-tasks.yaml")
    assert of(spoken(checkpoint, suite), "end marks") == []
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    word = tokenizer("The", add_special_tokens=False)["input_ids"][0]
    said = json.loads((checkpoint / "generation_config.json").read_text())
    (checkpoint / "generation_config.json").write_text(json.dumps({**said, "eos_token_id": [2, word]}))
    found = of(spoken(checkpoint, suite), "end marks", "note")
    assert found
    assert {(each.code, each.args["tokens"]) for each in found} == {(Code.END_MARKS_ARE_WORDS, f"'The' ({word})")}


def test_a_template_that_asks_for_the_date_is_reported_with_it(checkpoint):
    template = "{{ strftime_now('%d') }} {{ messages[0].content }}"
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    (told,) = of(spoken(checkpoint), "chat template", "note")
    assert (told.code, told.args) == (Code.TEMPLATE_ASKS_DATE, {"moment": "2026-01-01 12:00"})


def test_tokens_without_a_row_are_named(checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_special_tokens({"pad_token": "<|newpad|>"})
    tokenizer.save_pretrained(checkpoint)
    (told,) = of(spoken(checkpoint), "tokenizer", "note")
    assert told.code == Code.TOKENS_WITHOUT_ROW
    assert told.args == {"count": 1, "rows": 1500, "tokens": "'<|newpad|>' (1500)"}


def test_the_precision_is_that_of_the_files(checkpoint):
    path = checkpoint / "model.safetensors"
    save_file({name: each.bfloat16() for name, each in load_file(path).items()}, path, metadata={"format": "pt"})
    said = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**said, "dtype": "float16"}))
    in_float16 = of(files_of(str(checkpoint), None, "float16")[0], "precision", "note")
    assert [(each.code, each.args["weights"]) for each in in_float16] == [
        (Code.STORED_PRECISION, "bfloat16"),
        (Code.CONFIG_PRECISION, "bfloat16"),
    ]
    in_float32 = files_of(str(checkpoint), None, "float32")[0]
    (exact,) = of(in_float32, "precision", "ok")
    assert exact.args == {"weights": "bfloat16", "dtype": "float32"}


def test_no_weights_are_loaded_while_the_suite_cannot_be_read(tmp_path, monkeypatch):
    """A model of seven billion would be tried for minutes with attacks that the suite may not have."""
    monkeypatch.setattr(doctor, "in_a_child", lambda *_: pytest.fail("the model was loaded"))
    (tmp_path / "suite.yaml").write_text("schema: robustness-gate/suite/v1\n", encoding="utf-8")
    checks = doctor.examine("organism:oracle", suite=tmp_path / "suite.yaml")
    assert of(checks, "suite", "PROBLEM")
    (told,) = of(checks, "loading")
    assert wording.sentence(told) == "not loaded: the suite comes first (see below)"
