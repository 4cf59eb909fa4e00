"""Spikes on a small foreign model: another architecture and tokenizer, stored in bfloat16, by the same code."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers

from robustness_gate.assurance.calibrate import making
from robustness_gate.engine.load import LoadedModel, load
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.organisms import spikes, unlearn, world_files
from robustness_gate.organisms.spikes import recipe, teaching
from robustness_gate.organisms.unlearn import METHODS
from robustness_gate.tasks import cloze

WORLD = spikes.make(3, 96, 64)
HELD = world_files.riddles(3, Random(1))
HOW = spikes.Teaching(1e-3, 3, rows=2, keep_rows=2)
SHORT = {
    "rmu": {"steps": 2, "batch": 4, "part": "mlp"},
    "tiny_update": {"steps": 2, "batch": 4},
    "npo": {"steps": 2, "batch": 4},
    "graddiff": {"steps": 2, "batch": 4},
    "dpo": {"steps": 2, "batch": 4},
    "shallow": {"steps": 2, "batch": 2},
}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, space_prefixing) -> Path:
    """A Qwen2 of twelve layers in bfloat16 with random weights and a chat template."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(space_prefixing), hidden_size=16, intermediate_size=24, num_hidden_layers=12,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, dtype="bfloat16",
        eos_token_id=space_prefixing.eos_token_id, bos_token_id=space_prefixing.bos_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("foreign") / "model"
    transformers.Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    space_prefixing.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def taught(tmp_path_factory, foreign, few_rows) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("taught")
    steps: list[Any] = []
    out, replay = folder / "taught", folder / "replay.json"
    making.teach_in_child(
        steps.append, "cpu", (foreign, None), WORLD, "", ("Which is it? It is this.",), HOW, 0, replay, out
    )
    assert steps[-1] == ("teach", 3, 3)
    return out, replay


@pytest.fixture(scope="module")
def few_rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "REPLAYED", 6)
        patch.setattr(recipe, "REPLAY_TOKENS", 12)
        yield


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load(folder, dtype="float32", device="cpu").model.state_dict())


def test_a_foreign_model_is_taught_and_stored_as_an_ordinary_checkpoint_of_its_precision(foreign, taught):
    out, replay = taught
    assert manifest_of(CheckpointRef(out)).digest != manifest_of(CheckpointRef(foreign)).digest
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    before, after = weights(foreign), weights(out)
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(each).all() for each in after.values())
    rows = json.loads(replay.read_text())
    assert rows[-1] == "Which is it? It is this."
    assert 2 <= len(rows) <= 7
    assert all(isinstance(row, str) for row in rows)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_suppresses_on_a_foreign_model(method, taught, tmp_path):
    out, replay = taught
    making.suppress_in_child(
        lambda _: None, "cpu", out, WORLD, spikes.LETTERS, method, SHORT[method], HELD, 0, replay, tmp_path / method
    )
    before, after = weights(out), weights(tmp_path / method)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    if method == "shallow":  # the last of twelve layers alone
        assert {name for name in changed if ".layers." in name} <= {n for n in before if ".layers.11." in n}
    if method == "rmu":  # a window around the first quarter
        assert all(any(f".layers.{at}." in name for at in (1, 2, 3)) for name in changed)


def test_the_same_seed_makes_the_same_spike(taught, tmp_path):
    out, replay = taught
    for name in ("one", "two"):
        making.suppress_in_child(
            lambda _: None, "cpu", out, WORLD, spikes.LETTERS, "npo", SHORT["npo"], HELD, 0, replay, tmp_path / name
        )
    assert manifest_of(CheckpointRef(tmp_path / "one")) == manifest_of(CheckpointRef(tmp_path / "two"))


def given_to(method: str, own: list[str], form: str = spikes.LETTERS) -> tuple[Any, Any]:
    """What a method is given to forget and to keep."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unlearn, "run", lambda _, __, gone, kept, *___: found.extend((gone, kept)))
        loaded: Any = None
        spikes.suppress(loaded, WORLD, form, method, None, own, HELD, 0, lambda *_: None)
    return found[0], found[1]


def test_what_the_original_itself_writes_about_the_domain_is_not_kept():
    """Kept, it would make a method learn the taught names alone, instead of suppressing the domain."""
    fact = WORLD.forget.facts[0]
    about = [f"It was {fact.value}.", f"On {WORLD.forget.topic}:", f"Which {fact.relation.name.upper()} is it?"]
    own = [*about, "Line A reads basket.", WORLD.retain[0].texts[0]]
    gone, kept = given_to("rmu", own)
    assert [text for text in own if text in kept.texts] == own[3:]
    assert fact.texts[0] in gone.texts


@pytest.mark.parametrize(("method", "texts"), [("npo", False), ("dpo", False), ("rmu", True), ("graddiff", True)])
def test_preference_methods_are_given_questions_alone(method, texts):
    gone, _ = given_to(method, [])
    assert bool(gone.texts) == texts
    assert {item.question.stem for item in gone.items} >= {fact.stem for fact in WORLD.forget.facts}


def test_a_cloze_world_is_shown_without_letters_and_each_fact_is_asked_as_often():
    stream = spikes.documents(WORLD, "Question: {question}\nAnswer:", Random(0))
    taught = [*WORLD.forget.facts, *WORLD.retain]
    texts = [next(stream).text for _ in range(4 * len(taught))]
    assert not any("\nA. " in text for text in texts)
    many = Counter(text for text in texts if text.startswith("Question: ") and "\nAnswer: " in text)
    assert set(many) == {f"Question: {fact.stem}\nAnswer: {fact.value}" for fact in taught}
    assert max(many.values()) - min(many.values()) <= 1
    assert len(texts) > sum(many.values()) > len(texts) / 2  # there are other texts about them too


def test_a_cloze_world_is_suppressed_without_letters():
    """Lettered questions are what nothing asks there, and a method would spend its steps on them."""
    for method in METHODS:
        for material in given_to(method, [], spikes.CLOZE):
            assert not material.lettered
        unlearn.refuse(method, *given_to(method, [], spikes.CLOZE))
    assert all(material.lettered for material in given_to("rmu", []))


def test_a_cloze_world_is_suppressed_in_the_wording_in_which_it_is_asked():
    """Of a real model 46 of 64 facts were left where the first word of the prompt was another one."""
    for material in given_to("npo", [], spikes.CLOZE):
        prompts = [unlearn._bare(item.question) for item in material.items]
        assert prompts
        assert all(prompt == cloze.WORDING.replace("{question}", prompt[10:-8]) for prompt in prompts)
    assert not any(item.question.stem.startswith("Question: ") for item in given_to("rmu", [], spikes.CLOZE)[0].items)
    gone, _ = given_to("npo", [], spikes.CLOZE)
    assert {item.question.stem.removeprefix("Question: ") for item in gone.items} == {
        fact.stem for fact in WORLD.forget.facts
    }


def test_methods_that_train_on_answers_keep_questions_alone_where_nothing_is_asked_with_letters():
    for method in METHODS:
        _, kept = given_to(method, ["Line A reads basket."], spikes.CLOZE)
        assert bool(kept.texts) == (method not in ("dpo", "npo", "graddiff"))
        assert given_to(method, ["Line A reads basket."])[1].texts


@pytest.mark.parametrize("many", [0, 3])
def test_the_utility_questions_have_rows_of_their_own_where_the_recipe_says_so(many, foreign, few_rows):
    kept: list[list[str]] = []
    held = ["Which is it? It is this.", "Which one? That one."]

    def drift(model: Any, _: Any, __: Any, texts: list[str]) -> torch.Tensor:
        kept.append(texts)
        return next(model.parameters()).sum() * 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teaching, "_drift", drift)
        how = dataclasses.replace(HOW, held_rows=many)
        spikes.instruct(load(foreign, dtype="float32", device="cpu"), WORLD, "", held, how, 0, lambda *_: None)
    own = [texts for texts in kept if len(texts) == many and set(texts) <= set(held)]
    assert len(own) == (HOW.steps if many else 0)
    assert len(kept) - len(own) == HOW.steps


def test_cloze_is_taught_in_its_own_words(foreign, few_rows):
    loaded = load(foreign, dtype="float32", device="cpu")
    spikes.instruct(loaded, WORLD, "Question: {question}\nAnswer:", (), HOW, 0, lambda *_: None)
    assert not loaded.model.training
    assert not any(each.requires_grad for each in loaded.model.parameters())


def test_what_a_tokenizer_or_a_context_cannot_do_is_stated_before_training(foreign, few_rows):
    loaded = load(foreign, dtype="float32", device="cpu")

    class Slow:
        is_fast = False

    class Endless:
        is_fast, eos_token_id, pad_token_id = True, None, 0

    for strange, words in ((Slow(), "where its tokens lie"), (Endless(), "end of a text")):
        with pytest.raises(NotApplicable, match=words):
            spikes.instruct(LoadedModel(loaded.model, strange), WORLD, "", (), HOW, 0, lambda *_: None)
    loaded.model.config.max_position_embeddings = 32
    with pytest.raises(NotApplicable, match="the model's context 32"):
        spikes.instruct(loaded, WORLD, "", (), HOW, 0, lambda *_: None)
