"""What stands beside a prompt in its batch changes nothing about its answer, whatever the family."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers

from robustness_gate import organisms
from robustness_gate.engine import greedy, latent, loss, padding, prompting, train
from robustness_gate.engine.context import UNLIMITED, context_length, longest_prompt
from robustness_gate.engine.events import noted
from robustness_gate.engine.generate import continued
from robustness_gate.engine.load import load
from robustness_gate.engine.score import ModelLM
from robustness_gate.errors import BrokenTrial, CheckpointError
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.attack import AttackedModel
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.records.trial import Role
from robustness_gate.running import trial
from robustness_gate.tasks import cloze, open_answer

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = {
    "llama": ("LlamaConfig", {**SMALL, "max_position_embeddings": 512}, False),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 512}, False),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 2, "n_head": 2}, False),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, False),
    "rwkv": (
        "RwkvConfig",
        {"hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32, "context_length": 512},
        True,
    ),
    "recurrent_gemma": (
        "RecurrentGemmaConfig",
        {**SMALL, "num_key_value_heads": 1, "lru_width": 32, "attention_window_size": 64},
        True,
    ),
    "xlstm": ("xLSTMConfig", {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 2}, True),
}
LETTERS = ("a", "b", "c", "d")
QUESTIONS = (
    Question("short", "Name?", ("one", "two", "three", "four")),
    Question("long", "Which metal is used for the rim of the lamp at Orlen, in the towns and beyond?", LETTERS),
    Question("middle", "Which of the lamps is lit first?", ("red", "blue", "green", "grey")),
)


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))


@pytest.fixture(scope="module")
def models(tokenizer):
    """A random tiny model of each family, whose weights are large enough for answers to differ."""
    found = {}
    for name, (config, keys, _) in FAMILIES.items():
        torch.manual_seed(0)
        made = getattr(transformers, config)(vocab_size=len(tokenizer), **keys)
        model = transformers.AutoModelForCausalLM.from_config(made).eval().requires_grad_(requires_grad=False)
        for each in model.parameters():
            if each.dim() >= 2:
                torch.nn.init.normal_(each, std=0.2)
        found[name] = model
    return found


@pytest.fixture(params=FAMILIES)
def family(request, models):
    padding.forget()  # each test asks anew, or it would depend on the one before it
    return SimpleNamespace(name=request.param, model=models[request.param], minds=FAMILIES[request.param][2])


def examples(tokenizer):
    texts = [f"{each.stem} {' '.join(each.choices)}" for each in QUESTIONS]
    return [
        train.Example(ids, [place > 0 for place in range(len(ids))])
        for ids in prompting.encode(tokenizer, texts, special=True)
    ]


def test_answers_are_those_of_a_prompt_alone(family, tokenizer):
    lm = ModelLM(family.model, tokenizer)
    for form in (Form(header="About lamps.\n\n"), cloze.form(None)):
        with noted() as notes:
            together = lm.loglikelihoods(QUESTIONS, form)
        alone = torch.cat([lm.loglikelihoods([each], form) for each in QUESTIONS])
        assert (together - alone).abs().max() < 1e-3
        assert (alone.amax(1) - alone.amin(1)).mean() > 0.1, "the family has something to say"
        assert (notes.drift > padding.LIMIT) == family.minds
        assert ("padding_drift" in notes.counts()) == family.minds


def test_a_text_is_as_familiar_alone_as_beside_a_longer_one(family, tokenizer):
    texts = [each.stem for each in QUESTIONS]
    lm = ModelLM(family.model, tokenizer)
    for one, text in zip(lm.token_logliks(texts), texts, strict=True):
        assert torch.allclose(one, lm.token_logliks([text])[0], atol=1e-3)


def test_what_is_written_is_what_is_written_alone(family, tokenizer):
    lm, form = ModelLM(family.model, tokenizer), open_answer.form("{question}", 4, chat=False)
    assert lm.generate(QUESTIONS, form) == [lm.generate([each], form)[0] for each in QUESTIONS]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_continued_with_a_cache_is_what_is_continued_alone(models, tokenizer, name):
    prompts = [each.stem for each in QUESTIONS]
    alone = [continued(models[name], tokenizer, [each], special=True, tokens=4)[0] for each in prompts]
    assert continued(models[name], tokenizer, prompts, special=True, tokens=4) == alone


def test_losses_and_likelihoods_of_training_do_not_depend_on_the_batch(family, tokenizer):
    batch, device = examples(tokenizer), torch.device("cpu")
    alone = torch.cat([loss.log_likelihoods(family.model, [each], device) for each in batch])
    assert torch.allclose(loss.log_likelihoods(family.model, batch, device), alone, atol=1e-3)
    by_hand = -alone.sum() / sum(len(each.ids) - 1 for each in batch)
    assert train.mean_loss(family.model, batch) == pytest.approx(float(by_hand), abs=1e-4)


def test_a_model_that_minds_padding_on_the_right_is_trained_by_length(tokenizer, models, monkeypatch):
    """No family that is known does; one may come."""
    model, batch, device = models["llama"], examples(tokenizer), torch.device("cpu")
    plain = loss.log_likelihoods(model, batch, device)
    shapes = []
    monkeypatch.setattr(padding, "alike", lambda _model, rows, **_: len({len(row) for row in rows}) > 1)
    handle = model.register_forward_pre_hook(
        lambda _m, _a, words: shapes.append(tuple(words["input_ids"].shape)), with_kwargs=True
    )
    found = loss.log_likelihoods(model, batch, device)
    handle.remove()
    assert torch.allclose(found, plain, atol=1e-5)
    assert sorted(shapes) == sorted((1, len(each.ids)) for each in batch)


def test_the_loss_of_a_prefix_and_its_gradient_do_not_depend_on_the_batch(family, tokenizer):
    rows = [greedy.Row(each.ids, 1, 2, 1) for each in examples(tokenizer)]
    loss = greedy.answer_loss(family.model)
    alone = torch.cat([greedy.losses(loss, [row]) for row in rows])
    assert torch.allclose(greedy.losses(loss, rows), alone, atol=1e-3)
    if family.name in ("mamba", "xlstm"):  # their slow paths take no gradient in a second
        return
    steep = torch.stack([greedy.gradient(family.model, loss, [row], 2) for row in rows]).mean(dim=0)
    assert torch.allclose(greedy.gradient(family.model, loss, rows, 2), steep, atol=1e-3)


def test_a_soft_prompt_stands_before_each_prompt_alike(models, tokenizer):
    padding.forget()
    model = models["rwkv"]
    lm = latent.Prepended(model, tokenizer, places=2)
    embedding = model.get_input_embeddings()
    with latent.at_first(model, {embedding: torch.ones(2, 32)}, instead=True):
        together = lm.loglikelihoods(QUESTIONS, Form())
        alone = torch.cat([lm.loglikelihoods([each], Form()) for each in QUESTIONS])
    assert (together - alone).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "rwkv", "recurrent_gemma"])
def test_in_low_precision_rounding_is_distinguished_from_padding(models, tokenizer, name, dtype):
    padding.forget()
    config, minds = models[name].config, FAMILIES[name][2]
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.load_state_dict(models[name].state_dict())
    rows = [each.ids for each in examples(tokenizer)]
    found = padding.measured(model.to(dtype), rows)
    assert not found.exact
    assert found.matters == minds, found


def test_an_organism_is_asked_in_the_same_batches_as_ever(rmu_model, monkeypatch):
    padding.forget()
    sizes = []
    real = ModelLM._logprobs
    monkeypatch.setattr(
        ModelLM, "_logprobs", lambda self, rows, keep: sizes.append(len(rows)) or real(self, rows, keep)
    )
    ModelLM(*rmu_model).loglikelihoods(QUESTIONS, Form())
    assert sizes == [3]
    found = padding.drift(rmu_model.model)
    assert found is not None
    assert found.padded < 1e-3
    assert not found.matters


def test_a_measure_that_is_no_number_keeps_lengths_apart():
    sure, broken = torch.tensor([0.5, 0.5]).log(), torch.tensor([torch.nan, torch.nan])
    assert padding.apart([sure, sure], [sure, broken]) == padding.apart([broken], [broken]) == padding.UNKNOWN
    assert padding.Drift(padding.UNKNOWN, 0.0, exact=False).matters
    assert not padding.Drift(0.019, 0.0, exact=True).matters
    assert padding.Drift(0.021, 9.0, exact=True).matters, "in float32 rounding excuses nothing"
    assert not padding.Drift(0.2, 0.11, exact=False).matters
    assert padding.Drift(0.6, 9.0, exact=False).matters


def test_a_trial_looks_at_its_own_tasks_before_its_attack_begins(models, tokenizer, monkeypatch):
    padding.forget()
    seen = []
    real = padding.measured
    monkeypatch.setattr(padding, "measured", lambda model, rows, **k: seen.append(rows) or real(model, rows, **k))
    tasks = {
        "letters": TaskData("multiple_choice", tuple(Item(each, 0) for each in QUESTIONS), Form()),
        "chat": TaskData("multiple_choice", tuple(Item(each, 0) for each in QUESTIONS), Form(chat=True)),
        "pairs": TaskData("membership", (Item(Question("p", "", ("a", "b")), 0),), Form(verbatim=True)),
    }
    lm = ModelLM(models["rwkv"], tokenizer)
    trial._look(SimpleNamespace(tasks=tasks), lm)
    assert len(seen) == 1
    assert len(seen[0]) == 3
    assert padding.drift(models["rwkv"]).matters
    trial._look(SimpleNamespace(tasks=tasks), lm)
    lm.loglikelihoods(QUESTIONS, Form())
    assert len(seen) == 1, "once a model, however many trials"


def test_a_trial_looks_before_anything_else(rmu_model, small_suite_data, monkeypatch):
    from robustness_gate import attacks
    from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.planning import plan

    manifest = Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
    none, subject = (
        attacks.load("none"),
        plan.Subject(Role.CANDIDATE, CheckpointRef(organisms.checkpoint("rmu")), manifest),
    )
    planned = plan.trial_of(subject, None, none, none.Config(), 0, small_suite_data, "float32")
    asked = []
    monkeypatch.setattr(trial, "_look", lambda suite_data, _: asked.append(suite_data))
    monkeypatch.setattr(none, "attack", lambda *_: asked.append("attack") or (each for each in ()))
    monkeypatch.setattr(trial.contextlib, "closing", trial.contextlib.nullcontext)
    with pytest.raises(BrokenTrial, match="ended before budget"):
        next(trial.run(planned, small_suite_data, rmu_model))
    assert asked == [small_suite_data, "attack"]


def test_the_worst_of_all_looks_is_remembered_and_what_gave_no_number_is_not(models, monkeypatch):
    padding.forget()
    told = iter(
        [padding.Drift(padding.UNKNOWN, 0.0, exact=True), padding.Drift(0.3, 0.0, exact=True),
         padding.Drift(0.001, 0.0, exact=True)]
    )  # fmt: skip
    monkeypatch.setattr(padding, "measured", lambda *_, **__: next(told))
    rows = [[1, 2], [1, 2, 3]]
    assert padding.alike(models["llama"], rows)
    assert padding.drift(models["llama"]) is None
    assert padding.alike(models["llama"], rows)
    assert padding.look(models["llama"], rows) == padding.drift(models["llama"]) == (0.3, 0.0, True)
    assert padding.alike(models["llama"], rows)
    padding.forget()


def test_it_is_asked_once_a_model(models, tokenizer, monkeypatch):
    padding.forget()
    asked = []
    real = padding.measured
    monkeypatch.setattr(padding, "measured", lambda *a, **k: asked.append(1) or real(*a, **k))
    for _ in range(3):
        ModelLM(models["llama"], tokenizer).loglikelihoods(QUESTIONS, Form())
    assert len(asked) == 1


# --- token ids that the model does not have -----------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(organisms.checkpoint("base"), tmp_path / "m")


def add(checkpoint, **marks):
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.add_special_tokens(marks)
    tokenizer.save_pretrained(checkpoint)
    return tokenizer


def test_a_padding_token_without_a_row_is_hidden_like_any_other(checkpoint):
    plain = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    before = ModelLM(*plain).loglikelihoods(QUESTIONS, Form())
    add(checkpoint, pad_token="<|newpad|>")
    loaded = load(checkpoint, dtype="float32", device="cpu")
    assert loaded.tokenizer.pad_token_id >= padding.rows_in(loaded.model)
    assert torch.allclose(ModelLM(*loaded).loglikelihoods(QUESTIONS, Form()), before, atol=1e-5)
    assert ModelLM(*loaded).generate(QUESTIONS, open_answer.form(None, 4, chat=False))
    assert continued(*loaded, ["Name?", "Which lamp is it?"], special=True, tokens=2)


@pytest.mark.parametrize(
    ("pad", "eos", "chosen"), [(None, 2, 2), (None, None, 0), (-1, 1500, 0), (9999, 2, 2), (5, 2, 5)]
)
def test_what_pads_is_a_row_of_the_embedding(rmu_model, pad, eos, chosen):
    tokenizer = SimpleNamespace(pad_token_id=pad, eos_token_id=eos)
    assert padding.filler(rmu_model.model, tokenizer) == chosen


def test_a_beginning_that_the_model_does_not_have_is_refused_by_name(checkpoint):
    from tokenizers.processors import TemplateProcessing

    tokenizer = add(checkpoint, bos_token="<|begin|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match=r"the tokenizer writes '<\|begin\|>', whose id is 1500"):
        load(checkpoint, dtype="float32", device="cpu")


def test_a_templates_mark_that_the_model_does_not_have_is_refused_by_name(checkpoint):
    tokenizer = add(checkpoint, additional_special_tokens=["<|turn|>"])
    tokenizer.chat_template = "<|turn|>{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match=r"the chat template writes '<\|turn\|>'.*1,500 rows"):
        load(checkpoint, dtype="float32", device="cpu")


def test_a_question_in_tokens_that_the_model_does_not_have_is_missing(checkpoint):
    add(checkpoint, additional_special_tokens=["Orlen"])
    loaded = load(checkpoint, dtype="float32", device="cpu")
    with noted() as notes:
        found = ModelLM(*loaded).loglikelihoods(QUESTIONS, Form())
        written = ModelLM(*loaded).generate(QUESTIONS, open_answer.form(None, 4, chat=False))
        words = ModelLM(*loaded).loglikelihoods(
            [dataclasses.replace(QUESTIONS[0], choices=("a", "b", "c", "Orlen")), QUESTIONS[2]], cloze.form(None)
        )
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]
    assert [text is None for text in written][1]
    assert words.isfinite().all(dim=1).tolist() == [False, True]
    assert notes.strange == {"long"}
    assert notes.counts()["strange_items"] == 1
    item = Item(QUESTIONS[1], 0)
    attacked = AttackedModel(ModelLM(*loaded), budget=0, cost={})
    with pytest.raises(BrokenTrial, match="tokens that the model does not have"):
        trial._examined(
            SimpleNamespace(id="0" * 64), attacked, "t", TaskData("multiple_choice", (item,), Form()), 1, None
        )


def test_training_on_tokens_that_the_model_does_not_have_is_an_error_with_words(models):
    example = train.Example([1, 99_999], [False, True])
    with pytest.raises(BrokenTrial, match="writes the token id 99999, and the model has 1500 rows"):
        train.mean_loss(models["llama"], [example])


def test_a_loaded_model_refuses_such_tokens_itself_for_every_caller(rmu_model):
    for ids in ([[1, 1500]], [[-1, 1]]):
        with pytest.raises(BrokenTrial, match=r"token id (1500|-1), and the model has 1500 rows"):
            rmu_model.model(input_ids=torch.tensor(ids))
    assert rmu_model.model(inputs_embeds=torch.ones(1, 2, 128)).logits.isfinite().all()


# --- the length of the context ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024, "n_ctx": 2048}, 1024),
        ({"n_ctx": 99}, 99),
        ({"max_seq_len": 512}, 512),
        ({"seq_length": 77}, 77),
        ({"context_length": 512}, 512),
        ({"text_config": {"max_position_embeddings": 64}, "max_position_embeddings": 8}, 64),
        ({"max_position_embeddings": None, "max_sequence_length": 31}, 31),
        ({"max_position_embeddings": True}, None),
        ({"max_position_embeddings": -1}, None),
        ({"max_position_embeddings": "512"}, None),
        ({"sliding_window": 8, "model_max_length": 8}, None),
        ({}, None),
    ],
)
def test_a_context_has_one_length_under_whatever_name(config, length):
    assert context_length(config) == length


def test_a_loaded_model_and_its_config_on_disk_have_the_same_length(models, tmp_path):
    for name, model in models.items():
        model.config.save_pretrained(tmp_path / name)
        told = json.loads((tmp_path / name / "config.json").read_text())
        assert context_length(model.config) == context_length(told), name
        assert longest_prompt(model) == (context_length(told) or UNLIMITED)
    assert context_length(models["rwkv"].config) == 512
    made = transformers.MptConfig(d_model=32, n_layers=2, n_heads=2, max_seq_len=512)
    assert context_length(made) == context_length(made.to_dict()) == 512


def test_a_tokenizer_cuts_nothing_whatever_it_says_of_itself(checkpoint):
    inner = json.loads((checkpoint / "tokenizer.json").read_text())
    inner["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    inner["padding"] = {
        "strategy": {"Fixed": 600}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<pad>",
    }  # fmt: skip
    (checkpoint / "tokenizer.json").write_text(json.dumps(inner))
    said = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**said, "model_max_length": 4}))
    plain = ModelLM(*load(organisms.checkpoint("base"), dtype="float32", device="cpu"))
    found = ModelLM(*load(checkpoint, dtype="float32", device="cpu"))
    assert torch.equal(found.loglikelihoods(QUESTIONS, Form()), plain.loglikelihoods(QUESTIONS, Form()))


def test_a_context_that_is_declared_short_loses_questions_and_establishes_no_compliance(rmu_model, monkeypatch):
    monkeypatch.setattr(rmu_model.model.config, "max_position_embeddings", 8)
    with noted() as notes:
        found = ModelLM(*rmu_model).loglikelihoods(QUESTIONS, Form())
    assert not found.isfinite().any()
    assert notes.cut == {"short", "long", "middle"}
    assert not notes.curtailed


def test_what_an_attack_put_before_a_question_and_was_cut_is_reported(rmu_model, monkeypatch):
    shots = (Item(QUESTIONS[2], 0),)
    room = len(rmu_model.tokenizer(prompting.prompt_of(rmu_model.tokenizer, QUESTIONS[1], Form()).text)["input_ids"])
    monkeypatch.setattr(rmu_model.model.config, "max_position_embeddings", room + 2)
    lm = ModelLM(*rmu_model)
    for form in (Form(shots=shots), Form(prefix="so " * 20), Form(rewrite=lambda text: "so " * 20 + text)):
        with noted() as notes:
            lm.loglikelihoods(QUESTIONS[1:2], form)
        assert notes.curtailed == {"long"}
        assert notes.counts()["curtailed_items"] == 1
    with noted() as notes:
        lm.loglikelihoods(QUESTIONS[1:2], Form(header="so " * 20))
    assert notes.cut == {"long"}
    assert not notes.curtailed


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama", "index_topk"),
        ("llama", "index_block_size"),
        ("gpt2", "local_attention_window_len"),
        ("llama", "sliding_window"),
    ],
)
def test_prompts_longer_than_attention_looks_are_asked_apart(models, tokenizer, monkeypatch, name, key):
    """Sparse attention counts places: padding takes some of them. A measurement of 256 tokens does not show it."""
    padding.forget()
    model, batch = models[name], examples(tokenizer)
    rows = [each.ids for each in batch]
    longest = max(map(len, rows))
    monkeypatch.setattr(model.config, key, longest, raising=False)
    assert not padding.alike(model, rows), "all are within reach"
    monkeypatch.setattr(model.config, key, longest - 1, raising=False)
    assert padding.alike(model, rows)
    assert not padding.alike(model, [rows[0], rows[0]]), "equal lengths need no padding"
