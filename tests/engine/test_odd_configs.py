"""Configs that ask for answers in another shape, or cannot be built: examined all the same, or refused in words."""

from __future__ import annotations

import json
import shutil

import pytest

from robustness_gate import organisms
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM
from robustness_gate.errors import CheckpointError
from robustness_gate.records.questions import Form, Question

QUESTION = Question("q", "Which metal?", ("one", "two", "three", "four"))


def changed(folder, **keys):
    directory = shutil.copytree(organisms.checkpoint("base"), folder / "model")
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return directory


def test_a_model_that_would_answer_in_tuples_is_read_by_name(tmp_path):
    loaded = load(changed(tmp_path, return_dict=False), dtype="float32", device="cpu")
    assert ModelLM(loaded.model, loaded.tokenizer).loglikelihoods([QUESTION], Form()).isfinite().all()


def test_a_config_that_divides_by_nothing_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot load it"):
        load(changed(tmp_path, num_attention_heads=0), dtype="float32", device="cpu")
