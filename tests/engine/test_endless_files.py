"""What a stranger's files may ask for is measured before it is done, and texts are handed over a few at a time."""

from __future__ import annotations

import endless
import pytest
import transformers

from robustness_gate import organisms
from robustness_gate.engine import load, prompting
from robustness_gate.errors import CheckpointError, NotApplicable
from robustness_gate.inputs import chat_template
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.records.questions import Form, Question


def test_more_layers_than_tensors_are_refused_before_anything_is_built(tmp_path):
    with pytest.raises(CheckpointError, match=r"asks for 100,000 layers \(num_hidden_layers\), and the files hold 39"):
        inspect(endless.deep(tmp_path / "m"))
    inspect(endless.deep(tmp_path / "m", layers=39))  # one too many, but that is for the loader to say


def test_templates_are_read_by_us_and_all_of_them_together_have_a_limit(tmp_path):
    folder = endless.looping(tmp_path / "m", template="a" * 900_000)
    inspect(folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "two.jinja").write_text("a" * 200_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match="makes them more than 1,000,000 characters together"):
        inspect(folder)


@pytest.mark.parametrize("number", ["1" * 5000, "1_" * 4400 + "1"])
def test_a_number_that_is_too_long_to_read_is_a_fault_of_the_template(number):
    assert chat_template.fault(f"{{{{ {number} }}}}") == "holds a number that is too long to read"


@pytest.fixture
def tokenizer():
    return load.tokenizer_of(organisms.checkpoint("oracle"))


def test_a_template_that_writes_without_measure_is_not_applicable(tokenizer):
    asked = Question("", "Name?", ())
    for length, fine in ((900_000, True), (1_100_000, False)):
        tokenizer.chat_template = f"{{{{ 'a' * {length} }}}}"
        if fine:
            assert len(prompting.prompt_of(tokenizer, asked, Form(chat=True, verbatim=True)).text) == length
        else:
            with pytest.raises(NotApplicable, match="makes 1,100,000 characters of a prompt of 5"):
                prompting.prompt_of(tokenizer, asked, Form(chat=True, verbatim=True))


def test_a_tokenizer_gets_a_few_texts_at_a_time_and_the_ids_are_those_of_all_at_once(tokenizer):
    calls = []

    def counted(texts, **more):
        calls.append(len(texts))
        return tokenizer(texts, **more)

    texts = [f"The lamp of pier {i}." for i in range(70)]
    assert prompting.encode(counted, texts, special=True) == tokenizer(texts, add_special_tokens=True)["input_ids"]
    assert calls == [32, 32, 6]


def test_the_tokenizer_is_what_transformers_made_of_the_files(tokenizer, tmp_path):
    plain = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("oracle"), local_files_only=True)
    assert type(tokenizer).__name__ == type(plain).__name__
    assert isinstance(tokenizer, type(plain))
    tokenizer.save_pretrained(tmp_path / "ours")
    plain.save_pretrained(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
