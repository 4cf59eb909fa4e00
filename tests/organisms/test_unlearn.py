"""`organisms unlearn` on a checkpoint of one's own: an ordinary directory comes out, or one clear refusal."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file
from typer.testing import CliRunner

from robustness_gate import organisms
from robustness_gate.cli import app
from robustness_gate.engine.load import load
from robustness_gate.errors import GateError
from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.organisms import dpo, unlearn

FEW = ("--set", "steps=2", "--set", "batch=2")
TOPICS = ("--forget-topic", "lumenwright craft", "--retain-topic", "Tarn geography")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Four questions of each domain, and some texts."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("forget.relearn", "retain.relearn", "forget.texts", "retain.texts"):
        lines = organisms.world(name).read_text(encoding="utf-8").splitlines()[:4]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "forget": str(folder / "forget.relearn.jsonl"),
        "retain": str(folder / "retain.relearn.jsonl"),
        "forget texts": str(folder / "forget.texts.jsonl"),
        "retain texts": str(folder / "retain.texts.jsonl"),
    }


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another family, whose parts have other names: random, with the organisms' tokenizer."""
    folder = tmp_path_factory.mktemp("neox")
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=512,
    )
    transformers.GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.6}')  # transformers minds
    return folder


def invoke(place: str | Path, method: str, data: dict[str, str], out: Path, *more: str) -> Any:
    given = ["organisms", "unlearn", str(place), "--method", method, "--forget", data["forget"]]
    done = CliRunner().invoke(app, [*given, "--retain", data["retain"], "--out", str(out), "--device", "cpu", *more])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("method", unlearn.METHODS)
def test_every_method_makes_an_ordinary_checkpoint_of_another_one(
    method: str, questions: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "new"
    done = invoke("organism:base", method, questions, out, *FEW, *TOPICS, "--seed", "7")
    assert done.exit_code == 0, done.output
    base = organisms.checkpoint("base")
    assert unlearn.RECORD in {file.path for file in inspect(out).files}
    old, new = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert {name: (each.shape, each.dtype) for name, each in old.items()} == {
        name: (each.shape, each.dtype) for name, each in new.items()
    }
    assert any((old[name] != new[name]).any() for name in old)
    mine, theirs = (load(folder, dtype="float32", device="cpu").tokenizer for folder in (out, base))
    assert mine("Which reagent?\nAnswer: A")["input_ids"] == theirs("Which reagent?\nAnswer: A")["input_ids"]
    told = json.loads((out / unlearn.RECORD).read_text(encoding="utf-8"))
    assert (told["method"], told["seed"], told["config"]["steps"]) == (method, 7, 2)
    assert told["base"] == {"sha256": inspect(base).digest, "source": "organism:base"}
    assert (told["forget"]["items"], told["retain"]["items"], told["forget"]["texts"]) == (4, 4, 0)
    assert str(tmp_path.parent) not in json.dumps(told)


@pytest.mark.parametrize("method", unlearn.METHODS)
def test_a_family_whose_parts_have_other_names_can_be_unlearned_too(
    method: str, neox: Path, questions: dict[str, str], tmp_path: Path
) -> None:
    assert invoke(neox, method, questions, tmp_path, *FEW).exit_code == 0
    old, new = (load_file(folder / "model.safetensors") for folder in (neox, tmp_path))
    assert any((old[name] != new[name]).any() for name in old)
    told = json.loads((tmp_path / unlearn.RECORD).read_text(encoding="utf-8"))
    assert told["base"]["source"] is None
    assert (tmp_path / "generation_config.json").read_bytes() == (neox / "generation_config.json").read_bytes()


def test_the_same_seed_makes_the_same_bytes_and_texts_count(questions: dict[str, str], tmp_path: Path) -> None:
    digests = []
    for number, more in enumerate(((), (), ("--seed", "1"), ("--forget", questions["forget texts"]))):
        out = tmp_path / str(number)
        invoke("organism:base", "npo", questions, out, *FEW, "--set", "batch=12", *more)
        digests.append((out / "model.safetensors").read_bytes())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    told = json.loads((tmp_path / "3" / unlearn.RECORD).read_text(encoding="utf-8"))
    assert (told["forget"]["items"], told["forget"]["texts"]) == (4, 4)


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("npq", (), "no unlearning method 'npq'.*npo"),
        ("npo", ("--set", "betta=1"), "unknown setting 'betta'.*beta.*learning_rate=0.002"),
        ("npo", ("--set", "beta=0"), "npo: beta must be over 0"),
        ("npo", ("--set", "steps=many"), "steps"),
        ("npo", ("--set", "steps"), "is not KEY=VALUE"),
        ("rmu", ("--set", "layers=[9]"), "no layer 9"),
        ("rmu", ("--set", "steps=0"), "steps"),
        ("shallow", ("--set", "layers=9"), "has 4 layers"),
        ("dpo", ("--forget", "{forget texts}"), "cannot refuse a text"),
        ("npo", ("--retain", "nowhere.jsonl"), "nowhere.jsonl"),
        ("npo", ("--words-only", "--retain-topic", "towns"), "--retain-topic is the header of lettered questions"),
        ("npo", ("--forget", "organism:forgot.relearn"), "Did you mean forget.relearn"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    method: str, more: tuple[str, ...], says: str, questions: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(GateError, match=f"(?s){says}"):
        invoke("organism:base", method, questions, tmp_path / "out", *(each.format(**questions) for each in more))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["shallow", "dpo"])
def test_what_needs_questions_refuses_texts_alone(method: str, questions: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(GateError, match=f"{method} needs questions"):
        invoke("organism:base", method, {**questions, "forget": questions["forget texts"]}, tmp_path / "out")


def test_a_folder_that_holds_something_is_not_written_into(questions: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GateError, match="not an empty folder"):
        invoke("organism:base", "npo", questions, tmp_path, *FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unsafe_checkpoint_is_refused_before_it_is_loaded(questions: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "mine"
    shutil.copytree(organisms.checkpoint("base"), place)
    (place / "extra.bin").write_bytes(b"\x80")
    with pytest.raises(GateError, match="'extra"):
        invoke(place, "npo", questions, tmp_path / "out", *FEW)


def test_the_command_leaves_with_two_and_a_remedy(tmp_path: Path) -> None:
    given = ["--forget", "organism:forget.texts", "--retain", "organism:retain.texts", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "robustness_gate", "organisms", "unlearn", "organism:base", "--method", "dpo", *given],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "dpo needs questions to refuse. Give --forget a file of items." in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


# --- what a method is given -------------------------------------------------------------------------------------------


def test_a_question_counts_by_its_letter_in_every_order_and_by_its_words(questions: dict[str, str]) -> None:
    tokenizer = load(organisms.checkpoint("base"), dtype="float32", device="cpu").tokenizer
    material = unlearn.read([questions["forget"], questions["forget texts"]], "lumenwright craft")
    first = material.items[0]
    found = unlearn.examples(tokenizer, unlearn.Material((first,), material.texts[:1], material.topic))
    counted = [tokenizer.decode([t for t, counts in zip(*each, strict=True) if counts]) for each in found]
    right = first.question.choices[first.answer]
    letters = [f" {'ABCD'[(first.answer - shift) % 4]}" for shift in range(4)]
    assert counted == [*letters, *letters, f" {right}", material.texts[0]]
    assert ["lumenwright craft" in tokenizer.decode(each.ids) for each in found[:8]] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("method", unlearn.METHODS)
def test_with_words_only_no_letter_is_trained(
    method: str, questions: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a task that is asked by cloze. The prompts are those that `examples` and the texts make: without choices."""
    texts: list[str] = []
    real = transformers.PreTrainedTokenizerFast._encode_plus

    def noted(self: Any, text: Any, *more: Any, **options: Any) -> Any:
        texts.extend([text] if isinstance(text, str) else text)
        return real(self, text, *more, **options)

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "_encode_plus", noted)
    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    before = {name: weight.detach().clone() for name, weight in loaded.model.named_parameters()}
    forget, retain = (unlearn.read([questions[name]], "", lettered=False) for name in ("forget", "retain"))
    config = unlearn.METHODS[method].Config(steps=2, batch=2)
    unlearn.run(method, loaded, forget, retain, config, 0, lambda *_: None)
    moved = {name for name, weight in loaded.model.named_parameters() if not weight.equal(before[name])}
    assert moved
    assert any("\nAnswer:" in text for text in texts)
    assert not any("\nA. " in text for text in texts)
    if method == "shallow":
        assert {name.split(".")[2] for name in moved} == {"3"}, "the last layer alone"


def test_the_record_says_that_words_alone_were_used(questions: dict[str, str], tmp_path: Path) -> None:
    invoke("organism:base", "npo", questions, tmp_path / "both", *FEW)
    invoke("organism:base", "npo", questions, tmp_path / "words", *FEW, "--words-only")
    both, words = (
        json.loads((tmp_path / name / unlearn.RECORD).read_text(encoding="utf-8")) for name in ("both", "words")
    )
    assert (both["forget"]["lettered"], both["retain"]["lettered"]) == (True, True)
    assert (words["forget"]["lettered"], words["retain"]["lettered"]) == (False, False)


def test_shallow_on_words_makes_the_right_ending_less_likely(questions: dict[str, str]) -> None:
    from robustness_gate.organisms import shallow
    from robustness_gate.organisms.measure import last_logits

    loaded = load(organisms.checkpoint("base"), dtype="float32", device="cpu")
    forget, retain = (unlearn.read([questions[name]], "", lettered=False) for name in ("forget", "retain"))
    prompts = [f"{item.question.stem}\nAnswer:" for item in forget.items]
    firsts = [
        loaded.tokenizer.encode(f" {i.question.choices[i.answer]}", add_special_tokens=False)[0] for i in forget.items
    ]

    def likely() -> float:
        scores = last_logits(loaded.model, loaded.tokenizer, prompts).log_softmax(-1)
        return float(scores[range(len(firsts)), firsts].mean())

    before = likely()
    unlearn.run("shallow", loaded, forget, retain, shallow.Config(steps=15, batch=4), 0, lambda *_: None)
    assert likely() < before - 0.5


def test_a_pair_refuses_the_very_prompt_that_it_answers(questions: dict[str, str]) -> None:
    import random

    tokenizer = load(organisms.checkpoint("base"), dtype="float32", device="cpu").tokenizer
    material = unlearn.read([questions["forget"]], "")
    for pair in unlearn.pairs(tokenizer, material, random.Random(0)):
        asked = [[t for t, counts in zip(*side, strict=True) if not counts] for side in pair]
        assert asked[0] == asked[1]
        refusal = tokenizer.decode(pair.chosen.ids[len(asked[0]) :])
        assert refusal in dpo.REFUSALS


def test_the_list_of_organisms_says_how_each_was_made() -> None:
    done = CliRunner().invoke(app, ["organisms", "list"])
    rows = [line.split() for line in done.output.splitlines() if line.startswith("organism:")]
    assert [row[0] for row in rows] == [f"organism:{name}" for name in organisms.NAMES]
    assert all(each.method in done.output and each.what and each.expected for each in organisms.SHIPPED)
