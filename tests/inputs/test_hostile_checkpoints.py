"""A corpus of checkpoints made to hurt whoever loads them: each is refused in under a second, with the reason."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evidence
import pytest

from robustness_gate.errors import CheckpointError, NotApplicable
from robustness_gate.inputs import chat_template
from robustness_gate.inputs.checkpoint.manifest import inspect

Spoil = Callable[[Path], object]
SECOND = 1.0
"""Of the processor, so that a busy machine does not matter."""


def refused(folder: Path) -> str:
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        inspect(folder)
    assert time.process_time() - start < SECOND
    assert caught.value.where == str(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = evidence.checkpoint(tmp_path / "model")
    (folder / "tokenizer_config.json").write_text("{}")
    inspect(folder)
    return folder


def config(**more: Any) -> Spoil:
    return lambda d: (d / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **more}))


def text(name: str, content: str) -> Spoil:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return write


def raw(name: str, content: bytes) -> Spoil:
    return lambda d: (d / name).write_bytes(content)


def sparse(header: int, size: int) -> Spoil:
    """A file that claims so many bytes and has hardly any of them on the disk."""

    def write(folder: Path) -> None:
        with (folder / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", header) + b"{}")
            file.truncate(size)

    return write


def safetensors(header: str, data: bytes = b"\0" * 4) -> Spoil:
    content = header.encode()
    return raw("model.safetensors", struct.pack("<Q", len(content)) + content + data)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "vocab.txt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


class Evil:
    """Unpickling it runs a command; nothing here ever does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def both(one: str, other: str) -> Spoil:
    def write(folder: Path) -> None:
        for name in (one, other):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        if (folder / one).samefile(folder / other):
            pytest.skip("this file system takes the two for one itself")

    return write


def deep(folder: Path) -> None:
    path = folder
    for _ in range(300):
        path = path / "d"
    path.mkdir(parents=True)


def deeper_than_a_path_may_be(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(60):
            Path("d" * 100).mkdir()
            os.chdir("d" * 100)
    finally:
        os.chdir(here)


def linked(name: str, target: str) -> Spoil:
    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return write


GB = 10**9
HOSTILE: dict[str, tuple[Spoil, str]] = {
    "a pickle as weights": (raw("model.safetensors", pickle.dumps(Evil())), "is not a safetensors file"),
    "a pickle as a vocabulary": (raw("vocab.txt", pickle.dumps(Evil())), "'vocab.txt' begins like a pickle"),
    "an old pickle as a vocabulary": (raw("merges.txt", pickle.dumps(Evil(), protocol=2)), "begins like a pickle"),
    "a torch archive as a vocabulary": (zipped, "'vocab.txt' begins like a pickle or an archive"),
    "a pickle with its own ending": (raw("pytorch_model.bin", pickle.dumps(Evil())), "weights: 'pytorch_model.bin'"),
    "a pickle with a loud ending": (raw("TRAINING_ARGS.BIN", pickle.dumps(Evil())), "weights: 'TRAINING_ARGS.BIN'"),
    "a pickle below": (lambda d: ((d / "x").mkdir(), (d / "x" / "a.pt").write_bytes(b"")), "weights: 'x/a.pt'"),
    "a header of 100 GB": (sparse(100 * GB, 100 * GB + 100), "is not a safetensors file"),
    "a file that claims 100 GB": (sparse(2, 100 * GB), "is cut short, or holds bytes that belong to no tensor"),
    "a header as long as a number can say": (sparse(2**64 - 1, 100), "is not a safetensors file"),
    "weights cut short": (
        safetensors('{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'), "is cut short",
    ),
    "bytes behind the weights": (
        safetensors('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 400), "belong to no tensor",
    ),
    "a tensor twice": (
        safetensors('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
        "'model.safetensors' has the key 'a' twice",
    ),
    "a tensor with two offsets": (
        safetensors('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}}'),
        "'model.safetensors' has the key 'data_offsets' twice",
    ),
    "a config with two architectures": (
        text("config.json", '{"architectures":["LlamaForCausalLM"],"architectures":["Evil"]}'),
        "'config.json' has the key 'architectures' twice",
    ),
    "a key twice further in": (text("generation_config.json", '{"a":{"b":1,"b":2}}'), "has the key 'b' twice"),
    "a key twice by an escape": (text("config.json", '{"a":1,"\\u0061":2}'), "has the key 'a' twice"),
    "an index with two shards of one name": (
        text("model.safetensors.index.json", '{"weight_map":{"a":"model.safetensors","a":"../x.safetensors"}}'),
        "has the key 'a' twice",
    ),
    "an index that leads out": (
        text("model.safetensors.index.json", '{"weight_map":{"a":"../x.safetensors"}}'), "not a safetensors file",
    ),
    "JSON without end": (text("config.json", "[" * 1_000_000), "is not valid JSON"),
    "auto_map": (config(auto_map={"AutoModelForCausalLM": "evil/repo--m.Evil"}), "asks for remote code (auto_map)"),
    "auto_map by an escape": (text("tokenizer_config.json", '{"auto\\u005fmap":{"AutoTokenizer":"e--t.E"}}'), "remote"),
    "auto_map further in": (config(text_config={"auto_map": {"AutoModel": "evil--m.E"}}), "remote code"),
    "auto_map in a list": (text("tokenizer.json", '[{"auto_map": ["t.E", null]}]'), "remote code"),
    "auto_map in any other JSON": (text("processor_config.json", '{"auto_map":{"x":"e--y.Z"}}'), "remote code"),
    "custom pipelines": (config(custom_pipelines={"x": {"impl": "evil.E"}}), "asks for remote code (custom_pipelines)"),
    "code": (text("modeling.py", "print()"), "'modeling.py' is code"),
    "code to generate with": (text("custom_generate/generate.py", "print()"), "lies in custom_generate/"),
    "what is to be installed for it": (text("custom_generate/requirements.txt", "evil"), "lies in custom_generate/"),
    "names that differ by case": (both("vocab.txt", "Vocab.txt"), "are one name where case or accents do not count"),
    "folders that differ by case": (both("a/x.txt", "A/y.txt"), "are one name where case or accents do not count"),
    "names that differ by Unicode form": (
        both(unicodedata.normalize("NFC", "café.txt"), unicodedata.normalize("NFD", "café.txt")), "are one name where",
    ),
    "names that differ by width": (both("vocab.txt", "\N{FULLWIDTH LATIN SMALL LETTER V}ocab.txt"), "are one name"),
    "a name of two lines": (text("vocab.txt\nREADME.md", "x"), "holds a backslash, or what cannot be printed"),
    "a name that clears the screen": (text("\x1b[2Jvocab.txt", "x"), "holds a backslash, or what cannot be printed"),
    "a name that reads backwards": (text("\N{RIGHT-TO-LEFT OVERRIDE}txt.vocab", "x"), "what cannot be printed"),
    "a name that is a path elsewhere": (text("..\\vocab.txt", "x"), "holds a backslash"),
    "folders in folders": (deep, "folders in folders more than 16 deep"),
    "folders deeper than a path may be": (deeper_than_a_path_may_be, "folders in folders more than 16 deep"),
    "a pipe": (lambda d: os.mkfifo(d / "merges.txt"), "is not a regular file"),
    "a pipe for a config": (lambda d: ((d / "config.json").unlink(), os.mkfifo(d / "config.json")), "not a regular"),
    "a link to a system file": (linked("vocab.txt", "/etc/passwd"), "is a link that leaves the checkpoint"),
    "a link to a device": (linked("vocab.txt", "/dev/zero"), "is a link that leaves the checkpoint"),
    "weights that are a link out": (linked("model.safetensors", "../elsewhere"), "is a link that leaves"),
    "a folder that is a link to itself": (linked("x", "."), "is a link that leaves the checkpoint"),
    "a link in a circle": (linked("vocab.txt", "vocab.txt"), "is a link that leaves the checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_with_the_reason(name: str, model: Path) -> None:
    spoil, says = HOSTILE[name]
    spoil(model)
    assert says in refused(model)


def test_too_many_files_are_not_all_looked_at(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustness_gate.inputs.checkpoint.safety.MAX_FILES", 20)
    for folder in "ab":
        (model / folder).mkdir()
        for number in range(30):
            (model / folder / f"{number}.txt").write_text("")
    assert "more than 20 files" in refused(model)


def test_a_vocabulary_may_have_any_word(model: Path) -> None:
    (model / "vocab.json").write_text('{"auto_map": 7, "__class__": 8, "a": 9}')
    (model / "vocab.txt").write_text("auto_map\n")
    assert len(inspect(model).files) == 5


# --- chat templates ---------------------------------------------------------------------------------------------------

ESCAPES = {
    "{{ ''.__class__.__mro__ }}": "reaches for '__class__'",
    "{{ messages[0]['__class__'] }}": "reaches for '__class__'",
    "{{ messages|attr('__len__') }}": "reaches for '__len__'",
    "{{ messages|map(attribute='__class__')|list }}": "reaches for '__class__'",
    "{{ messages|map(attribute='content.__class__')|list }}": "reaches for '__class__'",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}": "reaches for '__globals__'",
    "{% include '/etc/passwd' %}": "reaches for another template (include)",
    "{% extends 'base' %}": "reaches for another template (extends)",
    "{% import 'x' as x %}": "reaches for another template (import)",
    "{{ unclosed": "cannot be read: line 1",
    "{% for m in messages %}": "cannot be read: line 1",
    "{% do evil() %}": "cannot be read: line 1: Encountered unknown tag 'do'",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}": "is nested too deeply",
    "x" * 1_000_001: "has more than 1,000,000 characters",
}


def in_config(text: str) -> Spoil:
    return lambda d: (d / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))


def among_several(text: str) -> Spoil:
    several = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": text}]
    return lambda d: (d / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))


def as_file(name: str) -> Callable[[str], Spoil]:
    return lambda content: text(name, content)


PLACES = {
    "tokenizer_config.json": in_config,
    "several": among_several,
    "chat_template.jinja": as_file("chat_template.jinja"),
    "additional_chat_templates/x.jinja": as_file("additional_chat_templates/x.jinja"),
}


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape[:40])
def test_a_template_that_reaches_out_is_refused_before_anything_is_loaded(escape: str, model: Path) -> None:
    in_config(escape)(model)
    assert f"the chat template in 'tokenizer_config.json' {ESCAPES[escape]}" in refused(model)


@pytest.mark.parametrize("place", PLACES)
def test_wherever_a_tokenizer_looks_for_templates(place: str, model: Path) -> None:
    PLACES[place]("{{ ''.__class__ }}")(model)
    assert "reaches for '__class__'" in refused(model)


def test_a_template_that_is_not_text_is_refused(model: Path) -> None:
    (model / "chat_template.jinja").write_bytes(b"\xff\xfe")
    assert "'chat_template.jinja' is UTF-16, by its byte order mark" in refused(model)


@pytest.mark.parametrize(
    "good",
    [
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{{ eos_token }}{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}",
        "{% set ns = namespace(x=0) %}{% macro f(a) %}{{ a|tojson }}{% endmacro %}{{ f(messages) }}{{ ns.x }}",
        "{% if messages|length > 9 %}{{ raise_exception('too many') }}{% endif %}{{ strftime_now('%Y') }}__end__",
        "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join('__') }}",
    ],
)
def test_templates_as_models_really_have_them_are_let_in(good: str, model: Path) -> None:
    assert chat_template.fault(good) == ""
    in_config(good)(model)
    before = inspect(model).digest
    assert before == inspect(model).digest


GIVES_NOTHING = ("{{ messages|attr('__cl' ~ 'ass__') }}", "{{ ''['__cl' ~ 'ass__'] }}")
"""What the sandbox does not give is nothing, and only using it fails."""


@pytest.mark.parametrize(
    "hidden",
    [
        *GIVES_NOTHING,
        "{% set x = '_' * 2 ~ 'class' ~ '_' * 2 %}{{ (messages|attr(x))|string }}{{ (messages|attr(x)).mro() }}",
        "{{ messages.append('x') }}",
        "{{ messages.clear() }}",
        "{{ range(999999999)|list }}",
        "{{ raise_exception('no user turns here') }}",
        "{{ 1 // 0 }}",
        "{{ nobody.knows.this }}",
    ],
)
def test_what_only_shows_while_it_runs_is_stopped_by_the_sandbox_and_is_a_clear_refusal(hidden: str) -> None:
    """Rendered by transformers itself, as a model's tokenizer would."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    from robustness_gate.engine.prompting import _in_template

    assert chat_template.fault(hidden) == ""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    tokenizer.chat_template = hidden
    if hidden in GIVES_NOTHING:
        assert _in_template(tokenizer, "Who keeps the lamps?") == ""
        return
    with pytest.raises(NotApplicable, match=r"^the chat template cannot put a user's turn: .+$"):
        _in_template(tokenizer, "Who keeps the lamps?")
