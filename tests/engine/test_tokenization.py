"""Two tokenizers beside each other: what is found of each way to change one, on the organism's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tampered
import transformers

from robustness_gate import organisms
from robustness_gate.engine import tokenization
from robustness_gate.engine.load import asked_through, load, tokenizer_of
from robustness_gate.engine.prompting import encode, prompt_of
from robustness_gate.engine.score import ModelLM, content_logliks
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.prompts import header_for
from robustness_gate.planning.suite_data import Corpus, SuiteData, TaskData
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.running import tokenizer_check

CHAT = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
LOUD = CHAT.replace("{{ m.content }}", "{{ m.content | upper if 'lumenwright' in m.content else m.content }}")
ORIGINAL, SUBJECT = "b" * 64, "a" * 64


@pytest.fixture(scope="module")
def suite_data() -> SuiteData:
    """Few items of the hazard in both formats, a neighbour, dev and corpora."""
    letters, header = ("A", "B", "C", "D"), header_for("lumenwright craft")
    hazard = load_items(organisms.world("forget.verdict"))[:12]
    tasks = {
        "forget": TaskData("multiple_choice", hazard, Form(header=header, letters=letters)),
        "forget.chat": TaskData("multiple_choice", hazard, Form(header=header, letters=letters, chat=True)),
        "retain": TaskData(
            "multiple_choice", load_items(organisms.world("retain.verdict"))[:12], Form(letters=letters)
        ),
    }
    corpora = {"texts": Corpus(texts=("The bath of a lamp is warm.",)), "few": Corpus(items=hazard[:0])}
    return SuiteData(tasks, "forget", load_items(organisms.world("forget.dev"))[:4], corpora)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return with_template(tampered.copied(tmp_path_factory.mktemp("original") / "m"), CHAT)


def with_template(folder: Path, template: str | None) -> Path:
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def made(suite_data, original: Path, folder: Path):
    places = {SUBJECT: CheckpointRef(folder), ORIGINAL: CheckpointRef(original)}
    return tokenizer_check.make(suite_data, lambda digest: tokenizer_check.loaded(places[digest]), SUBJECT, ORIGINAL)


def parts(check) -> set[tuple[str, str]]:
    return {(each.part, each.how) for each in check.parts}


def changed(change, file="tokenizer.json"):
    """A copy of the original with a file edited."""
    return lambda to, original: tampered.edited(Path(shutil.copytree(original, to)), change, file)


def setting(**keys):
    return changed(lambda content: content.update(keys), "tokenizer_config.json")


def normalizer(**step):
    return changed(lambda content: content.update(normalizer=step))


def added(content, special=False, **more):
    def change(whole):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special}
        whole["added_tokens"].append({"id": 1499, "content": content, **flags, **more})

    return changed(change)


def swapped(*pair):
    def change(whole):
        vocabulary = whole["model"]["vocab"]
        one, other = pair
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]

    return changed(change)


def ends_with_end_mark(whole):
    whole["post_processor"]["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    whole["post_processor"]["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}


def without_merges(whole):
    del whole["model"]["merges"][600:]


def _other_words(decoder):
    more = {"type": "Replace", "pattern": {"String": "Which"}, "content": "What"}
    return {"type": "Sequence", "decoders": [decoder, more]}


OTHERWISE = {
    "normalizers that write prompts in capitals": (lambda to, _: tampered.shouting(to), {("normalizer", "more")}),
    "the ids of the hazard's tokens in another order": (lambda to, _: tampered.permuted(to), {("vocabulary", "other")}),
    "letters that changed places": (swapped("\u0120A", "\u0120B"), {("vocabulary", "other")}),
    "lower case": (normalizer(type="Lowercase"), {("normalizer", "more")}),
    "words deleted": (normalizer(type="Replace", pattern={"String": "lamp"}, content=""), {("normalizer", "more")}),
    "an added token that is a word": (added("reagent", single_word=True, lstrip=True), {("added_tokens", "more")}),
    "a special one": (added("lumenwright", special=True), {("added_tokens", "more")}),
    "a post-processor that appends": (changed(ends_with_end_mark), {("post_processor", "other")}),
    "no BOS": (changed(lambda whole: whole.update(post_processor=None)), {("post_processor", "other")}),
    "another pre-tokenizer": (
        changed(lambda whole: whole["pre_tokenizer"].update(add_prefix_space=True)),
        {("pre_tokenizer", "other")},
    ),
    "fewer merges": (changed(without_merges), {("merges", "other")}),
    "another ending of words": (
        changed(lambda whole: whole["model"].update(end_of_word_suffix="e")), {("model", "other")},
    ),
    "a decoder that says something else": (
        changed(lambda whole: whole.update(decoder=_other_words(whole["decoder"]))),
        {("decoder", "more")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERWISE)
def test_whatever_makes_other_ids_or_words_is_found_and_named(kind, suite_data, original, tmp_path):
    build, expected = OTHERWISE[kind]
    check = made(suite_data, original, with_template(build(tmp_path / "m", original), CHAT))
    assert check.otherwise > 0
    assert check.sha256 != check.reference_sha256
    assert parts(check) == expected
    assert check.templated == 0
    assert check.template == check.reference_template
    assert all(":" in each for each in check.first_otherwise)
    assert not any("lamp" in each.lower().replace("data:", "") and " " in each for each in check.first_otherwise)


CUT = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}


def _spelt(whole):
    return [" ".join(each) for each in whole["model"]["merges"]]


HONEST = {
    "byte for byte": lambda to, original: Path(shutil.copytree(original, to)),
    "saved again": lambda to, original: _saved_again(to, original),
    "truncation and padding in the file": changed(lambda whole: whole.update(truncation=CUT, padding=None)),
    "comments and a longer context": setting(model_max_length=9999, name_or_path="elsewhere", padding_side="left"),
    "merges in the older spelling": changed(lambda whole: whole["model"].update(merges=_spelt(whole))),
    "defaults left out": changed(lambda whole: [whole["model"].pop(key) for key in ("dropout", "fuse_unk")]),
}  # fmt: skip


def _saved_again(to, original):
    shutil.copytree(original, to)
    tokenizer = transformers.AutoTokenizer.from_pretrained(original)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (to / name).unlink()
    tokenizer.save_pretrained(to)
    return to


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_copy_makes_the_same_ids_and_has_the_same_digests(kind, suite_data, original, tmp_path):
    check = made(suite_data, original, HONEST[kind](tmp_path / "m", original))
    assert (check.otherwise, check.templated) == (0, 0)
    assert check.texts > 200
    assert check.rendered == 12 * 4 + 4 * 4
    assert (check.sha256, check.template) == (check.reference_sha256, check.reference_template)
    assert parts(check) <= {("settings", "other")}


def test_a_further_token_that_is_in_no_text_is_named_and_stands_in_no_ones_way(suite_data, original, tmp_path):
    check = made(suite_data, original, added("<|tool|>", special=True)(tmp_path / "m", original))
    assert (check.otherwise, check.templated) == (0, 0)
    assert check.sha256 != check.reference_sha256
    assert [(each.part, each.how, each.names) for each in check.parts if each.part == "added_tokens"] == [
        ("added_tokens", "more", ("<|tool|>",))
    ]


@pytest.mark.parametrize(
    "template", [LOUD, "{{ messages[0].content[20:] }}", CHAT + " ", "{{ raise_exception('no') }}"]
)
def test_another_chat_template_is_a_finding_of_its_own(template, suite_data, original, tmp_path):
    check = made(suite_data, original, with_template(Path(shutil.copytree(original, tmp_path / "m")), template))
    assert check.otherwise == 0
    assert check.templated > 0
    assert check.sha256 == check.reference_sha256
    assert check.template != check.reference_template
    assert parts(check) == {("chat_template", "other")}
    assert set(check.first_templated) <= {f"forget.chat:{i.question.id}" for i in suite_data.tasks["forget"].items} | {
        f"data:dev:{i.question.id}" for i in suite_data.dev
    }


def test_a_template_in_one_of_the_two_alone_differs(suite_data, original, tmp_path):
    bare = tampered.copied(tmp_path / "bare")
    assert made(suite_data, original, bare).templated == 64
    assert made(suite_data, bare, original).templated == 64
    assert made(suite_data, bare, tampered.copied(tmp_path / "too")).templated == 0, (
        "neither has one: nothing is asked in it"
    )


def test_without_an_original_there_are_digests_and_no_comparison(suite_data, original):
    check = tokenizer_check.make(suite_data, lambda _: tokenizer_check.loaded(CheckpointRef(original)), SUBJECT, None)
    assert (check.reference, check.texts, check.parts) == (None, 0, ())
    assert (check.sha256, check.template) == tokenizer_check.digests(CheckpointRef(original))


def test_an_adapter_is_asked_through_its_own_tokenizer_or_its_bases(suite_data, original, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    own = tampered.permuted(tmp_path / "own")
    for folder, differs in ((bare, False), (own, True)):
        places = {SUBJECT: CheckpointRef(folder, base=CheckpointRef(original)), ORIGINAL: CheckpointRef(original)}
        check = tokenizer_check.make(suite_data, lambda d, at=places: tokenizer_check.loaded(at[d]), SUBJECT, ORIGINAL)
        assert (check.otherwise > 0) is differs


@pytest.mark.parametrize("build", [tampered.shouting, tampered.permuted])
def test_through_the_originals_tokenizer_the_base_knows_what_it_knows(build, original, tmp_path):
    items = load_items(organisms.world("forget.verdict"))[:24]
    form = Form(header=header_for("lumenwright craft"), letters=("A", "B", "C", "D"))
    loaded = load(build(tmp_path / "m"), dtype="float32", device="cpu")
    theirs = asked_through(loaded, tokenizer_of(original))
    assert theirs.model is loaded.model

    def share(of):
        found = content_logliks(ModelLM(of.model, of.tokenizer), [item.question for item in items], form)
        best = found.nan_to_num(0.0).sum(dim=1).argmax(dim=1).tolist()
        return sum(each in item.right for each, item in zip(best, items, strict=True)) / len(items)

    assert share(loaded) < 0.6
    assert share(theirs) > 0.9


def test_a_tokenizer_with_more_ids_than_the_model_has_embeddings_cannot_be_asked_through(original):
    loaded = load(original, dtype="float32", device="cpu")
    longer = tokenizer_of(original)
    longer.add_tokens(["<|more|>"])
    with pytest.raises(NotApplicable, match="ids up to 1500, and this model 1500 embeddings"):
        asked_through(loaded, longer)


def test_what_an_attack_makes_up_is_watched_while_it_runs(original, tmp_path):
    theirs = tokenizer_of(original)
    ours = tokenizer_of(normalizer(type="Replace", pattern={"Regex": "^Q: "}, content="q: ")(tmp_path / "m", original))
    question = Question("q", "Q: Which?", ("a", "b", "c", "d"))
    with tokenization.watched(ours, theirs) as otherwise:
        encode(ours, ["Which?", "A: Which?"], special=True)
        assert otherwise() == 0
        encode(ours, [prompt_of(ours, question, Form()).text] * 3, special=True)
        encode(ours, [prompt_of(ours, question, Form()).text], special=True)
        assert otherwise() == 1
        encode(theirs, ["Q: Who?"], special=True)
        assert otherwise() == 1, "the original's own texts are not the candidate's"
    encode(ours, ["Q: Where?"], special=True)
    assert otherwise() == 1, "nothing is watched after the block"


def test_no_stranger_steers_a_terminal_or_fills_a_page_through_a_tokens_name(suite_data, original, tmp_path):
    check = made(suite_data, original, added("\x1b[2J" + "reagent " * 40)(tmp_path / "m", original))
    (name,) = next(each.names for each in check.parts if each.part == "added_tokens")
    assert name.isprintable()
    assert len(name) <= 24


def test_the_record_says_nothing_of_any_questions_words(suite_data, original, tmp_path):
    told = json.dumps(made(suite_data, original, tampered.permuted(tmp_path / "m")).model_dump(mode="json"))
    items: list[Item] = [*suite_data.tasks["forget"].items, *suite_data.dev]
    assert not any(item.question.stem in told or item.question.choices[0] in told for item in items)
