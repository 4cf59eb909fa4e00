"""What transformers says is passed on to where one can act on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from robustness_gate import organisms
from robustness_gate.engine.load import load
from robustness_gate.errors import CheckpointError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(organisms.checkpoint("base"), tmp_path / "model"))


def refusal(directory: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        load(directory, dtype="float32", device="cpu")
    assert str(directory) not in caught.value.message
    return caught.value


def test_a_config_of_another_type_is_reported_with_field_value_and_type(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "num_key_value_heads": "2"}))
    told = refusal(model)
    assert "Field 'num_key_value_heads' with value '2' doesn't match any type in (<class 'int'>" in told.message
    assert told.remedy == "Mend what it names, or save the model anew."


@pytest.mark.parametrize("config", [True, False])
def test_a_tokenizer_that_is_not_there_is_called_missing(config: bool, model: Path) -> None:
    (model / "tokenizer.json").rename(model / "tekken.json")
    if not config:
        (model / "tokenizer_config.json").unlink()
    told = refusal(model)
    assert told.message == "there is no tokenizer that transformers can read: tokenizer.json is missing"
    assert "save_pretrained" in told.remedy


def test_a_tokenizer_that_is_broken_is_not_called_missing(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    told = refusal(model)
    assert told.message.startswith("transformers cannot load its tokenizer: ")
    assert "complete" not in told.remedy


def test_a_family_that_transformers_does_not_know_is_named(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    assert "unheard_of" in refusal(model).message
