"""There is one serialiser: a record becomes bytes, and bytes a record, in `records.encode` and nowhere else."""

from __future__ import annotations

import ast
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import robustness_gate
from robustness_gate.records.encode import NotPlain, decode, digest_of, encode, parse, printed
from robustness_gate.records.evidence import EvidenceIssue, Note
from robustness_gate.records.trial import Closed

ROOT = Path(robustness_gate.__file__).parent
OF_RECORDS = {"model_dump", "model_dump_json", "model_validate", "model_validate_json", "to_jsonable_python", "rfc8785"}
OF_JSON = {"loads", "dumps", "load", "dump", "JSONDecoder"}
BORDERS = {
    # what a stranger wrote, in a form that is no record
    "inputs/jsonfiles.py": "a checkpoint's JSON, with its own refusals",
    "inputs/items.py": "each line with its own complaint",
    "inputs/validation.py": "a value shown in a complaint",
    "inputs/checkpoint/place.py": "the architecture that a config.json names, before anything is refused",
    "inputs/recorded.py": "what pip writes beside an installed distribution",
    "inputs/precision.py": "config.json and the headers of safetensors files",
    "assurance/doctor/files.py": "config.json and the headers of safetensors files, before anything is refused",
    "engine/account.py": "a config.json that was let in",
    "engine/configs.py": "a config.json that was let in; a value shown in a message",
    "engine/tokenization.py": "the tokenizer as its own library writes it",
    # what a person types or is shown
    "cli/house.py": "a setting on the command line",
    "cli/organisms.py": "a setting on the command line",
    "attestation/strict.py": "a value shown in a message",
    "assurance/calibrate/making.py": "texts that a spike should keep, from one child process to the next",
    "system/redaction.py": "how a secret looks inside JSON",
    "demo.py": "two fields of the report of a process that may have failed",
    # what the builders of organisms leave: checkpoints' own files
    "organisms/world_files.py": "items",
    "organisms/build.py": "config.json and the builders' notes",
    "organisms/unlearn.py": "the record beside a checkpoint, as JSON for people",
    "organisms/survey.py": "earlier figures",
}
"""Files that read or write JSON of their own, and what it is. None of it is a record of ours."""


def calls(source: Path) -> tuple[set[str], set[str]]:
    """What a file uses of pydantic's and RFC 8785's serialising, and of `json`."""
    records, plain = set(), set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in OF_RECORDS:
            records.add(node.attr)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            records |= {alias.name for alias in node.names} & OF_RECORDS
        if isinstance(node, ast.Attribute) and node.attr in OF_JSON and ast.unparse(node.value) == "json":
            plain.add(node.attr)
        if isinstance(node, ast.ImportFrom) and node.module == "json":
            plain |= {alias.name for alias in node.names} & OF_JSON
    return records, plain


def test_no_other_module_serialises_a_record_and_json_is_read_at_the_border_alone() -> None:
    found = {path.relative_to(ROOT).as_posix(): calls(path) for path in ROOT.rglob("*.py")}
    assert found["records/encode.py"] == ({"model_dump", "model_validate_json"}, {"dumps", "JSONDecoder"})
    assert found["records/canonical.py"] == ({"rfc8785"}, set())  # the bytes, which `encode` alone asks for
    others = {name: uses for name, uses in found.items() if name not in ("records/encode.py", "records/canonical.py")}
    assert {name: records for name, (records, _) in others.items() if records} == {}
    assert {name for name, (_, plain) in others.items() if plain} == set(BORDERS)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"{", "syntax"),
        (b"\xff", "syntax"),
        (b"[" * 100_000, "syntax"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate key: b"),
        (b"[NaN]", "number: NaN"),
        (b"[-Infinity]", "number: -Infinity"),
        (b"[1e400]", "number: 1e400"),
        (b"[9007199254740992]", "number: 9007199254740992"),
        (b"9" * 5000, "number: " + "9" * 30),
        (b'["\\ud800"]', "half a character"),
        (b'{"\\udfff": 1}', "half a character"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(raw: bytes, what: str) -> None:
    with pytest.raises(NotPlain) as caught:
        parse(raw)
    assert str(caught.value) == what


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800"])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - three kinds of it
        encode({"value": [value]})


def test_a_record_is_read_as_it_was_written_and_named_by_its_bytes() -> None:
    note = Note(subject="a" * 64, what=EvidenceIssue(code="checkpoint_unreadable", args={"reason": "naïve 😀"}))
    assert decode(Note, encode(note)) == note
    assert parse(encode(note)) == note.plain
    assert note.digest == digest_of(note) == digest_of(note.plain)
    assert json.loads(printed({"notes": [note]})) == {"notes": [note.plain]}


# --- a digest is computed once, and belongs to its own record alone ---------------------------------------------------


def end() -> Closed:
    return Closed(trial="a" * 64, attempt=1, status="ok")


def test_a_copy_with_other_values_has_its_own_digest() -> None:
    first = end()
    assert first.digest == digest_of(first)
    for deep in (False, True):
        other = first.model_copy(update={"attempt": 2}, deep=deep)
        assert other.digest == digest_of(other) != first.digest
    assert copy.deepcopy(first).digest == copy.copy(first).digest == first.digest


def test_a_digest_that_comes_with_a_record_from_another_process_is_not_believed() -> None:
    first = end()
    first.__dict__["_digest"] = "0" * 64
    assert first.digest == "0" * 64
    assert pickle.loads(pickle.dumps(first)).digest == digest_of(first)


def test_a_computed_digest_makes_no_record_different() -> None:
    one, other = end(), end()
    assert one.digest
    assert one == other
    assert encode(one) == encode(other)
    assert one.plain == other.plain
    assert dict(one) == dict(other)
    assert Closed(**dict(one)) == one
