"""What a question reads as once it is tokens, by the gate's own rules, on tokenizers of every family that is made."""

from __future__ import annotations

import json
from types import SimpleNamespace

import families
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from robustness_gate.engine import pieces
from robustness_gate.engine.events import noted
from robustness_gate.engine.score import ModelLM
from robustness_gate.planning.suite_data import TaskData
from robustness_gate.records.attack import AttackedModel
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.running import trial
from robustness_gate.verdict import unpack

TEXTS = [
    "Which metal rims the lamp at Orlen, in the northern towns and beyond?\nA. tin\nB. Zinc\nC. lead\nD. iron\nAnswer:",
    "The following are multiple choice questions (with answers) about lamps.\n\nWhich oil burns blue?",
    "A café in Ürümqi charges ½ of 10⁻³ mol… and ﬁve Ω; Ἀθήνα, क़लम, 東京, naïve.",
] * 20
PLAIN = "Which metal rims the lamp at Orlen?\nA. tin\nB. Zinc\nC. lead\nD. iron\nAnswer:"
ODD = [
    "Which me\u0301tal?",
    "Which \u1f71?",
    "\u0958?",
    "10\u207b\u00b3 mol?",
    "\u00bd of it?",
    "and so on\u2026?",
    "a\u00a0b\u200bc\u00a8",
]
SPECIAL = ["<unk>", "<s>", "</s>"]


def fast(backend: Tokenizer, **more: object) -> transformers.PreTrainedTokenizerFast:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", **more)


def byte_level(normalizer=None, pre_tokenizer=None):
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return fast(backend)


def unigram(normalizer=None, byte_fallback=True):
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    names = SPECIAL + ([f"<0x{each:02X}>" for each in range(256)] if byte_fallback else [])
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=names, unk_token="<unk>", show_progress=False, shrinking_factor=0.75
    )
    backend.train_from_iterator([each for each in TEXTS if each.isascii()], trainer)
    content = json.loads(backend.to_str())
    content["model"]["byte_fallback"] = byte_fallback
    content["added_tokens"] = [each for each in content["added_tokens"] if not each["content"].startswith("<0x")]
    return fast(Tokenizer.from_str(json.dumps(content)), unk_token="<unk>")


def llama_bpe(normalizer=None):
    """BPE over U+2581 with byte fallback, the space put by a normaliser: Llama 1 and 2, Gemma."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    backend.normalizer = normalizers.Sequence([*([normalizer] if normalizer else []), *steps])
    names = [*SPECIAL, *(f"<0x{each:02X}>" for each in range(256))]
    backend.train_from_iterator(
        [each for each in TEXTS if each.isascii()],
        trainers.BpeTrainer(vocab_size=700, special_tokens=names, show_progress=False),
    )
    content = json.loads(backend.to_str())
    content["added_tokens"] = [each for each in content["added_tokens"] if not each["content"].startswith("<0x")]
    return fast(Tokenizer.from_str(json.dumps(content)), unk_token="<unk>")


def word_piece(normalizer=None, texts=TEXTS):
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    )
    return fast(backend, unk_token="<unk>")


def end_of_word():
    backend = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return fast(backend, unk_token="<unk>")


WITHOUT_METAL = pre_tokenizers.Sequence(
    [pre_tokenizers.Split("metal", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)


def split():
    """A Split before ByteLevel: Llama 3, Qwen 2."""
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    from tokenizers import Regex

    return byte_level(
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    )


FAMILIES = {
    "byte-level BPE": byte_level,
    "byte-level BPE, NFC": lambda: byte_level(normalizers.NFC()),
    "byte-level BPE, NFKC": lambda: byte_level(normalizers.NFKC()),
    "byte-level BPE, NFD": lambda: byte_level(normalizers.NFD()),
    "byte-level BPE with a prefix space": lambda: byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "byte-level by a normalizer": lambda: byte_level(normalizers.ByteLevel(), pre_tokenizers.Split("Q", "isolated")),
    "Split": split,
    "Unigram, byte fallback": unigram,
    "Unigram, byte fallback, NFKC": lambda: unigram(normalizers.NFKC()),
    "Llama's BPE": llama_bpe,
    "Llama's BPE, NFKC": lambda: llama_bpe(normalizers.NFKC()),
}


@pytest.fixture(scope="module", params=FAMILIES)
def whole(request):
    return FAMILIES[request.param]()


def holds(tokenizer, text, around="The following are questions.\n\n{}"):
    return pieces.read(tokenizer, tokenizer([around.format(text)])["input_ids"])[0].holds(text)


@pytest.mark.parametrize("text", [PLAIN, *ODD], ids=ascii)
def test_honest_tokenizers_lose_nothing_whatever_their_normal_form(whole, text):
    assert holds(whole, text)


@pytest.mark.parametrize(
    ("tokenizer", "texts"),
    [
        (word_piece, [PLAIN]),
        (lambda: word_piece(normalizers.NFC()), [PLAIN, "Which cafe\u0301?"]),
        (end_of_word, [PLAIN]),
        (lambda: word_piece(normalizers.BertNormalizer(lowercase=True), TEXTS), [PLAIN, "WHICH Metal?"]),
        (lambda: unigram(byte_fallback=False), [PLAIN]),
    ],
    ids=["WordPiece", "WordPiece, NFC", "</w>", "WordPiece, uncased", "Unigram without bytes"],
)
def test_families_that_have_an_unknown_word_lose_nothing_that_they_know(tokenizer, texts):
    made = tokenizer()
    assert all(holds(made, text) for text in texts)


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (word_piece, "Which \u2603 metal?"),
        (lambda: unigram(byte_fallback=False), "Which \u2603 metal?"),
        (lambda: byte_level(normalizers.Lowercase()), "Which metal?"),
        (lambda: byte_level(normalizers.Replace("metal", "lamp")), "Which metal?"),
        (lambda: byte_level(normalizers.Replace("metal", "")), "Which metal?"),
        (lambda: byte_level(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])), "Which caf\u00e9?"),
        (lambda: byte_level(None, WITHOUT_METAL), "Which metal?"),
        (lambda: llama_bpe(normalizers.Replace("i", "I")), "Which metal?"),
    ],
    ids=["unknown word", "unknown piece", "case", "replaced", "deleted", "accents", "removed by Split", "case, Llama"],
)  # fmt: skip
def test_what_is_dropped_or_replaced_is_lost(tokenizer, text):
    assert not holds(tokenizer(), text)


def test_the_checkpoints_decoder_has_no_say():
    """One that answers every question with itself would find everything, and one that drops the vowels nothing."""
    dropping = byte_level(normalizers.Replace("metal", "lamp"))
    dropping.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("lamp", "metal")])
    assert "metal" in dropping.decode(dropping("Which metal?")["input_ids"])
    assert not holds(dropping, "Which metal?")
    honest = byte_level()
    honest.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("e", "")])
    assert holds(honest, "Which metal?")


def test_added_tokens_are_read_as_they_stand_and_special_ones_take_a_word_away():
    tokenizer = byte_level()
    tokenizer.add_tokens(["caf\u00e9", transformers.AddedToken("rims", single_word=True, lstrip=True)])
    assert holds(tokenizer, "Which caf\u00e9 rims it?")
    tokenizer.add_special_tokens({"extra_special_tokens": ["metal"]})
    assert not holds(tokenizer, "Which metal?")
    assert holds(tokenizer, "Which lamp?")


def test_a_family_that_no_one_knows_reads_as_nothing():
    """Words by number, say: what the gate cannot read it does not take for read."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "17": 1, "42": 2}, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Replace("Which", "17"), normalizers.Replace("metal", " 42")])
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert not holds(fast(backend, unk_token="<unk>"), "Which metal")


def test_the_items_that_a_tokenizer_loses_are_named_in_the_measurement():
    tokenizer = byte_level(normalizers.Replace("metal", "lamp"))
    model = families.build("llama", words=len(tokenizer))
    stems = {"q0": "Which metal?", "q1": "Which oil?", "q2": "Which metal rims it?"}
    items = tuple(Item(Question(name, stem, ("a", "b", "c", "d")), 0) for name, stem in stems.items())
    attacked = AttackedModel(ModelLM(model, tokenizer), budget=0, cost={})
    task_data = TaskData("multiple_choice", items, Form())
    measurement = trial._examined(SimpleNamespace(id="0" * 64), attacked, "t", task_data, 1, None)
    assert measurement.lost == ("q0", "q2")
    assert unpack(measurement.missing, 3) == [True, False, True]


def test_a_block_hears_of_its_own_losses_alone():
    with noted() as outer:
        with noted() as inner:
            inner.lost.add("q")
        assert outer.lost == set()


def test_a_normal_text_has_no_space_control_or_format_character() -> None:
    """And no other is lost: letters that are composed, unassigned characters, half of a pair."""
    assert pieces.normal("a b\u00a0c\u2028d\u200be\x00f\u00adg\x1fh") == "abcdefgh"
    assert pieces.normal("e \u0301") == "\u00e9"
    assert pieces.normal("x\u0378\ue000 y\ud800") == "x\u0378\ue000y\ud800"
    assert pieces.normal("½ ﬁ") == "1\u20442fi"
