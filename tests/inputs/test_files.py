"""Every malformed policy, suite and item file is refused in a person's words, at the place where it is wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robustness_gate.errors import Exit, FileError
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.inputs.items import MAX_CHOICES, MAX_LINE_BYTES, items_digest, load_items, load_texts
from robustness_gate.inputs.validation import load_suite
from robustness_gate.inputs.yaml import MAX_YAML_BYTES
from robustness_gate.policy_language import load_policy
from robustness_gate.records.encode import digest_of

ROOT = Path(__file__).parents[2]
# Without the digests of its questions, so that one thing at a time can be wrong.
POLICY = re.sub(r", sha256: [0-9a-f]{64}", "", (ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8"))
SUITE = (ROOT / "suites" / "organism-smoke.yaml").read_text(encoding="utf-8")
HEAD = "schema: robustness-gate/policy/v1\n"

Edit = tuple[str, str]


def place_of(text: str, fragment: str) -> str:
    """`line:column`, from 1, of the first occurrence of a fragment; worked out here, not by the code under test."""
    before = text[: text.index(fragment)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


def edited(text: str, *edits: Edit) -> str:
    for old, new in edits:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    return text


def refused(load: Callable[[Path], object], path: Path) -> FileError:
    with pytest.raises(FileError) as caught:
        load(path)
    assert caught.value.exit_code == Exit.USAGE
    return caught.value


# (name, edits, at: a fragment of the edited text before which the error lies (or "LINE:COLUMN"), part of the message)
POLICIES: list[tuple[str, list[Edit], str, str]] = [
    (
        "a duplicate key at the top",
        [("version: 1.1.0", "id: again\nversion: 1.1.0")],
        "id: again",
        "duplicate key 'id'",
    ),
    (
        "a duplicate key in a block",
        [("access: open_weights", "access: api\n  access: open_weights")],
        "access: open_weights",
        "duplicate key 'access'",
    ),
    (
        "a duplicate key in a flow mapping",
        [("{attack: none}", "{attack: none, seeds: 1, seeds: 2}")],
        "seeds: 2",
        "duplicate key 'seeds'",
    ),
    (
        "a duplicate key deep in a where",
        [("where: {source: retain}", "where: {source: retain, source: forget}")],
        "source: forget}",
        "duplicate key 'source'",
    ),
    ("an unknown key at the top", [("limits:", "limit:")], "limit:", "Did you mean 'limits'?"),
    (
        "an unknown key in a limit",
        [("metric: acc_permuted", "metirc: acc_permuted")],
        "metirc",
        "Did you mean 'metric'?",
    ),
    ("an unknown key in a requirement", [("budgets: [60]", "budget: [60]")], "budget: [60]", "Did you mean 'budgets'?"),
    (
        "an unknown key in the statistics",
        [("validity:", "statistics: {alpha_pas: 0.05}\nvalidity:")],
        "alpha_pas",
        "Did you mean 'alpha_pass'?",
    ),
    ("an unknown key far from any known", [("version: 1.1.0", "version: 1.1.0\nqqqq: 1")], "qqqq", "Known: "),
    ("no where a number belongs", [("max: 0.40", "max: no")], "max: no", 'expected a number, found "no"'),
    ("yes where a number belongs", [("max: 0.40", "max: yes")], "max: yes", 'expected a number, found "yes"'),
    ("true where a number belongs", [("max: 0.40", "max: true")], "max: true", "expected a number, found true"),
    ("on where a count belongs", [("items: 300", "items: on")], "items: on", 'expected a whole number, found "on"'),
    (
        "true where a count belongs",
        [("items: 300", "items: true")],
        "items: true",
        "expected a whole number, found true",
    ),
    (
        "no where off or required belongs",
        [("self_test: required", "self_test: no")],
        "self_test",
        "must be 'required' or 'off'",
    ),
    ("a number in quotes", [("max: 0.40", 'max: "0.4"')], "max:", 'expected a number, found "0.4"'),
    ("a percentage", [("max: 0.40", "max: 40%")], "max:", 'expected a number, found "40%"'),
    ("a decimal comma", [("max: 0.40", "max: '0,40'")], "max:", "without quotes or a percent sign"),
    ("a count with a fraction", [("items: 300", "items: 300.5")], "items: 300.5", "expected a whole number"),
    ("an octal number", [("items: 300", "items: 012")], "items: 012", 'expected a whole number, found "012"'),
    ("a hexadecimal number", [("items: 300", "items: 0x12c")], "items: 0x12c", "expected a whole number"),
    ("a sexagesimal number", [("items: 300", "items: 5:00")], "items: 5:00", "expected a whole number"),
    ("a number with underscores", [("items: 300", "items: 3_00")], "items: 3_00", "expected a whole number"),
    ("a huge whole number", [("items: 300", "items: 99999999999999999999")], "99999999999999999999", "too large"),
    ("a whole number of 5,000 digits", [("items: 300", f"items: {'9' * 5000}")], "9" * 5000, "too large"),
    ("a number beyond a double", [("max: 0.40", "max: 1e999")], "1e999", "not finite"),
    ("the number .nan", [("max: 0.40", "max: .nan")], "max: .nan", "expected a number"),
    ("the number .inf", [("max: 0.40", "max: .inf")], "max: .inf", "expected a number"),
    ("an accuracy over one", [("max: 0.40", "max: 1.4")], "max: 1.4", "must be <= 1.0, found 1.4"),
    ("an accuracy under zero", [("max: 0.40", "max: -0.1")], "max: -0.1", "must be >= 0.0, found -0.1"),
    ("a utility over one", [("min: 0.80", "min: 80")], "min: 80", "must be <= 1.0, found 80"),
    (
        "an alpha of zero",
        [("validity:", "statistics: {alpha_fail: 0}\nvalidity:")],
        "alpha_fail",
        "must be > 0.0, found 0",
    ),
    (
        "an alpha_pass of 0.2",
        [("validity:", "statistics: {alpha_pass: 0.2}\nvalidity:")],
        "alpha_pass",
        "must be <= 0.05, found 0.2",
    ),
    (
        "an alpha_fail of 0.3",
        [("validity:", "statistics: {alpha_fail: 0.3}\nvalidity:")],
        "alpha_fail",
        "must be <= 0.2",
    ),
    ("a design effect under one", [("{items: 300}", "{items: 300, design_effect: 0.5}")], "design_effect", ">= 1.0"),
    ("no seeds", [("{attack: none}", "{attack: none, seeds: 0}")], "seeds: 0", "must be >= 1, found 0"),
    ("a million seeds", [("{attack: none}", "{attack: none, seeds: 1000000}")], "seeds", "must be <= 1000"),
    ("no items", [("items: 300", "items: 0")], "items: 0", "must be >= 1"),
    (
        "a missing key at the top",
        [
            (
                "description: Knowledge of the lumenwright craft stays gone under relearning from a handful of "
                "questions.\n",
                "",
            )
        ],
        "1:1",
        "the key 'description' is missing",
    ),
    ("a missing key in a limit", [("max: 0.40", "attacks: []")], "{id: forgotten", "needs 'max', 'recovered', or both"),
    (
        "a missing key in the threat model",
        [("  access: open_weights\n", "")],
        "threat_model",
        "the key 'access' is missing",
    ),
    (
        "a list where a mapping belongs",
        [("  forget: {items: 400}\n  retain: {items: 300}", "  - forget\n  - retain")],
        "tasks:",
        "expected a mapping of keys, found a list",
    ),
    (
        "a mapping where a list belongs",
        [("budgets: [60]", "budgets: {a: 60}")],
        "budgets: {a",
        "expected a list, found a mapping",
    ),
    ("a number where a list belongs", [("budgets: [60]", "budgets: 60")], "budgets: 60", "expected a list, found 60"),
    (
        "text in a list of numbers",
        [("budgets: [60]", "budgets: [sixty]")],
        "sixty",
        'expected a whole number, found "sixty"',
    ),
    ("nothing where text belongs", [("id: organism", "id:")], "id:", "expected text, found null"),
    ("a number where text belongs", [("version: 1.1.0", "version: 1.0")], "version: 1.0", "expected text, found 1.0"),
    ("a version of two parts", [("version: 1.1.0", 'version: "1.0"')], "version:", "does not have the form"),
    ("a name with a space", [("id: organism", "id: an organism")], "id: an", "does not have the form"),
    ("a task name that is a number", [("retain: {items: 300}", "9: {items: 300}")], "9: {", "does not have the form"),
    ("a metric that no kind can have", [("acc_permuted", "Letter sum")], "metric", "does not have the form"),
    ("a schema from the future", [("policy/v1", "policy/v2")], "schema:", "must be 'robustness-gate/policy/v1'"),
    ("a suite in place of a policy", [("policy/v1", "suite/v1")], "schema:", "must be 'robustness-gate/policy/v1'"),
    (
        "empty limits",
        [("  - {id: forgotten, task: forget, metric: acc_permuted, max: 0.40}\n", "  []\n")],
        "limits:",
        "must not be empty",
    ),
    ("empty tasks", [("  forget: {items: 400}\n  retain: {items: 300}", "  {}")], "tasks:", "must not be empty"),
    (
        "empty utility",
        [("  - {task: retain, min: 0.80, min_attacked: 0.50}\n", "  []\n")],
        "utility:",
        "must not be empty",
    ),
    ("an anchor", [("max: 0.40", "max: &limit 0.40")], "&limit", "anchors and aliases are not allowed"),
    ("an alias", [("max: 0.40", "max: *limit")], "*limit", "anchors and aliases are not allowed"),
    ("a merge key", [("max: 0.40", "max: 0.40, <<: {max: 0.50}")], "<<", "merge keys are not allowed"),
    ("a merge key with an alias", [("max: 0.40", "<<: *base")], "*base", "anchors and aliases are not allowed"),
    ("a tag", [("max: 0.40", "max: !!float 0.40")], "!!float", "tag"),
    ("a tag that would run code", [("max: 0.40", "max: !!python/object/apply:os.system [id]")], "!!python", "tag"),
    ("a local tag", [("max: 0.40", "max: !secret 0.40")], "!secret", "tag"),
    (
        "a tab as indentation",
        [("  access: open_weights", "\taccess: open_weights")],
        "\taccess",
        "cannot start any token",
    ),
    ("a list as a key", [("{attack: none}", "{attack: none, [seeds]: 2}")], "[seeds]", "a key must be a plain word"),
    (
        "a flow mapping that is not closed",
        [("{attack: none}", "{attack: none")],
        "{attack: relearn, where: {source: forget, method: lora}",
        "expected ',' or '}'",
    ),
    ("two documents in one file", [("version: 1.1.0", "---\nversion: 1.1.0")], "---", "but found another document"),
    ("half a character as a value", [("id: organism", 'id: "\\ud800"')], '"\\ud800"', "lone surrogate"),
    ("half a character as a key", [("source: retain", '"\\udfff": retain')], '"\\udfff"', "lone surrogate"),
    ("a code point beyond Unicode", [("id: organism", 'id: "\\U00110000"')], "1:1", "cannot be parsed as YAML"),
    (
        "41 levels of nesting",
        [("source: retain", f"source: {'[' * 41}{']' * 41}")],
        "SKIP",
        "nested more than 40 levels",
    ),
    ("10,000 levels of nesting", [("source: retain", f"source: {'[' * 10_000}{']' * 10_000}")], "SKIP", "nested more"),
]

SUITES: list[tuple[str, list[Edit], str, str]] = [
    ("a policy in place of a suite", [("suite/v1", "policy/v1")], "schema:", "must be 'robustness-gate/suite/v1'"),
    ("a missing hazard", [("hazard: forget\n", "")], "1:1", "the key 'hazard' is missing"),
    ("an unknown key in a task", [("count: 300", "counts: 300")], "counts", "Did you mean 'count'?"),
    (
        "an unknown key in an attack",
        [("- attack: none", "- attack: none\n    seed: 3")],
        "seed: 3",
        "Did you mean 'seeds'?",
    ),
    ("an unknown key in a corpus", [('retain.relearn.jsonl"', 'retain.relearn.jsonl", txets: a')], "txets", "'texts'"),
    ("a count in quotes", [("count: 400", 'count: "400"')], "count:", "expected a whole number"),
    ("a negative count", [("count: 400", "count: -400")], "count: -400", "must be >= 1, found -400"),
    ("a digest that is too short", [("count: 400", "count: 400, sha256: abc")], "sha256", "does not have the form"),
    ("a digest in capitals", [("count: 400", f"count: 400, sha256: {'A' * 64}")], "sha256", "does not have the form"),
    ("an attack without a name", [("- attack: none", "- seeds: 1")], "seeds: 1", "the key 'attack' is missing"),
    (
        "config as a list",
        [("- attack: none", "- attack: none\n    config: [a]")],
        "config: [a]",
        "expected a mapping of keys",
    ),
    ("seeds under zero", [("- attack: none", "- attack: none\n    seeds: -1")], "seeds: -1", "must be >= 1"),
    ("an unknown precision", [("hazard: forget", "hazard: forget\ndtype: int8")], "dtype", "'float32'"),
    ("no attacks", [(SUITE[SUITE.index("attacks:") :], "attacks: []\n")], "attacks:", "must not be empty"),
    (
        "a duplicate task",
        [('  retain: {items: "organism:retain.verdict.jsonl"', '  forget: {items: "x"')],
        'forget: {items: "x"',
        "duplicate key 'forget'",
    ),
    (
        "a not-a-number deep in a config",
        [
            (
                "alpha: 32, min_steps: 60, batch: 8, rotations: 4}\n  - attack: relearn\n"
                "    config: {source: forget, method: full",
                "alpha: 1e400, min_steps: 60, batch: 8, rotations: 4}\n"
                "  - attack: relearn\n    config: {source: forget, method: full",
            )
        ],
        "1e400",
        "not finite",
    ),
]


def cases(table: list[tuple[str, list[Edit], str, str]]) -> list[object]:
    return [pytest.param(*row[1:], id=row[0]) for row in table]


def check(load: Callable[[Path], object], path: Path, text: str, at: str, message: str) -> None:
    path.write_text(text, encoding="utf-8")
    error = refused(load, path)
    assert message in str(error)
    if at == "SKIP":  # the place is somewhere inside the brackets
        line = text[: text.index("[[[")].count("\n") + 1
        assert error.where.startswith(f"{path}:{line}:")
        return
    expected = at if at[0].isdigit() and at not in text else place_of(text, at)
    assert error.where == f"{path}:{expected}"


@pytest.mark.parametrize(("edits", "at", "message"), cases(POLICIES))
def test_a_malformed_policy_is_refused_at_its_place(edits: list[Edit], at: str, message: str, tmp_path: Path) -> None:
    check(load_policy, tmp_path / "policy.yaml", edited(POLICY, *edits), at, message)


@pytest.mark.parametrize(("edits", "at", "message"), cases(SUITES))
def test_a_malformed_suite_is_refused_at_its_place(edits: list[Edit], at: str, message: str, tmp_path: Path) -> None:
    check(load_suite, tmp_path / "suite.yaml", edited(SUITE, *edits), at, message)


def test_empty_required_is_refused(tmp_path: Path) -> None:
    start, end = POLICY.index("required:"), POLICY.index("utility:")
    text = f"{POLICY[:start]}required: []\n\n{POLICY[end:]}"
    check(load_policy, tmp_path / "policy.yaml", text, "required:", "must not be empty")


@pytest.mark.parametrize(
    ("raw", "where", "message"),
    [
        (b"", ":1:1", "expected a mapping of keys, found nothing"),
        (b"# only a comment\n", ":1:1", "expected a mapping of keys, found nothing"),
        (b"- a\n- b\n", ":1:1", "found a list"),
        (b"just text\n", ":1:1", "found text"),
        (b"42\n", ":1:1", "found 42"),
        (b"schema: caf\xe9\n", "", "is not UTF-8 (byte 11 is 0xE9, in Latin-1 (Windows-1252) 'é')"),
        (b"\xff\xfe" + HEAD.encode("utf-16-le"), "", "is UTF-16, by its byte order mark"),
        (HEAD.encode("utf-16-le"), "", "is UTF-16LE, by its null bytes"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00\x00", ":1:1", "special characters are not allowed"),
        (b"schema: a\x00b\n", ":1:1", "special characters are not allowed"),
        (b"\x80\x04\x95K\x00\x00\x00", "", "is not UTF-8"),
        (b"%YAML 3.0\n---\na: 1\n", ":1:1", "incompatible YAML document"),
        (b"a: 1\n  b: 2\n", ":2:4", "mapping values are not allowed here"),
    ],
)
def test_a_file_that_is_not_a_yaml_mapping_is_refused(raw: bytes, where: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(raw)
    error = refused(load_policy, path)
    assert error.where == f"{path}{where}"
    assert message in str(error)


def test_a_missing_file_a_directory_and_an_unreadable_path_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "file" / "beyond.yaml"):
        for load in (load_policy, load_suite, load_items, load_texts):
            error = refused(load, path)
            assert error.where == str(path)
            assert "cannot be read" in str(error)


def test_a_file_over_the_size_limit_is_refused_and_one_just_under_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    filled = POLICY + "#" * (MAX_YAML_BYTES - len(POLICY.encode()))
    path.write_text(filled, encoding="utf-8")
    assert load_policy(path).record.id == "organism"
    path.write_text(filled + "#", encoding="utf-8")
    assert "is larger than 1,000,000 bytes" in str(refused(load_policy, path))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_an_endless_file_is_refused_without_reading_it_to_its_end() -> None:
    assert "is larger than" in str(refused(load_policy, Path("/dev/zero")))
    assert "is longer than" in str(refused(load_items, Path("/dev/zero")))


# --- what must go on working ------------------------------------------------------------------------------------------


def test_the_shipped_policy_and_suite_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    loaded = load_policy(path)
    assert loaded.record.limits[0].max == 0.40
    assert loaded.record.validity.self_test == "required"
    path.write_text(edited(POLICY, ("self_test: required", "self_test: off")), encoding="utf-8")
    assert load_policy(path).record.validity.self_test == "off"  # the word, not YAML 1.1's false
    path.write_text(POLICY, encoding="utf-8")
    assert [str(r) for r in loaded.record.required][1] == "relearn (method: lora, source: forget)"
    assert loaded.sha256 == sha256_file(path)
    assert loaded.text == POLICY
    path.write_text(SUITE, encoding="utf-8")
    assert load_suite(path).record.attacks[1].config["learning_rates"] == [5e-4, 2e-3, 8e-3]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1e-5", 1e-5), ("1E-5", 1e-5), ("5e-4", 5e-4), (".05", 0.05), ("5.e-3", 5e-3), ("0.05", 0.05), ("+0.01", 0.01)],
)
def test_a_number_in_scientific_notation_is_a_number(written: str, meant: float, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        edited(POLICY, ("validity:", f"statistics: {{alpha_fail: {written}}}\nvalidity:")), encoding="utf-8"
    )
    assert load_policy(path).record.statistics.alpha_fail == meant


def test_places_point_at_keys_and_fall_back_to_the_nearest_one_above(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    loaded = load_policy(path)
    assert loaded.where("limits", 0, "max") == f"{path}:{place_of(POLICY, 'max: 0.40')}"
    assert loaded.where("limits", 0, "no", "such") == f"{path}:{place_of(POLICY, '{id: forgotten')}"
    assert loaded.where("nothing") == f"{path}:1:1"


def test_of_several_mistakes_the_first_in_the_file_is_named_and_the_others_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    text = edited(POLICY, ("items: 400", "items: 0"), ("max: 0.40", "max: 2"), ("min: 0.80", "min: 3"))
    path.write_text(text, encoding="utf-8")
    error = refused(load_policy, path)
    assert error.where == f"{path}:{place_of(text, 'items: 0')}"
    assert "(2 more to mend after this one.)" in str(error)


def test_the_order_of_keys_does_not_change_what_a_policy_is(tmp_path: Path) -> None:
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(POLICY, encoding="utf-8")
    text = edited(POLICY, ("id: organism\nversion: 1.1.0", "version: 1.1.0\nid: organism"))
    other.write_text(edited(text, ("{task: retain, min: 0.80,", "{min: 0.80, task: retain,")), encoding="utf-8")
    assert digest_of(_plain(load_policy(one).record)) == digest_of(_plain(load_policy(other).record))


def _plain(record: object) -> object:
    return record.model_dump(mode="json")  # type: ignore[attr-defined]


# --- bytes thrown at the loader ---------------------------------------------------------------------------------------

SPICE = [
    b"&a ",
    b"*a",
    b"!!x ",
    b"{",
    b"}",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"\t",
    b"\n",
    b"\x00",
    b"\xff",
    b"'",
    b'"',
    b"<<: ",
]
SPICE += [
    b"|",
    b">",
    b"%",
    b"? ",
    b"---\n",
    b"...",
    b"1e999",
    b".nan",
    b"9" * 400,
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\r",
    b"#",
]


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A shipped file with a few bytes cut, doubled, overwritten or spiced."""
    raw = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 12)))
        piece = draw(st.one_of(st.sampled_from(SPICE), st.binary(max_size=6), st.just(bytes(raw[start:end]) * 2)))
        raw[start:end] = piece
    return bytes(raw)


@given(mutated(POLICY.encode()))
@example(edited(POLICY, ("source: retain", '"\\ud800": 1')).encode())
@settings(max_examples=examples(200), deadline=None)
def test_no_mutated_policy_escapes_but_as_a_file_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    assert_only_file_errors(load_policy, tmp_path_factory.getbasetemp() / "fuzz.policy.yaml", raw)


@given(mutated(SUITE.encode()))
@settings(max_examples=examples(120), deadline=None)
def test_no_mutated_suite_escapes_but_as_a_file_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    assert_only_file_errors(load_suite, tmp_path_factory.getbasetemp() / "fuzz.suite.yaml", raw)


def assert_only_file_errors(load: Callable[[Path], object], path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        loaded = load(path)
    except FileError as error:
        assert error.where.startswith(str(path))  # noqa: PT017 - whether it is raised is what the fuzzer decides
        assert error.message  # noqa: PT017
    else:
        assert loaded.text.encode() == raw  # type: ignore[attr-defined]
        assert loaded.record.digest  # type: ignore[attr-defined]


# --- items ------------------------------------------------------------------------------------------------------------

ITEM = {"id": "a", "question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 1}
GOOD = json.dumps(ITEM)


def item(**changes: object) -> str:
    return json.dumps({**ITEM, "id": "b", **changes})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not a JSON object"),
        ('{"id": "b"}}', "is not a JSON object"),
        ("id: b", "is not a JSON object"),
        ("[1, 2]", "expected a JSON object, found a list"),
        ("null", "expected a JSON object, found nothing"),
        ('"text"', "expected a JSON object, found text"),
        ("[" * 100_000, "is not a JSON object"),
        ('{"id": "b", "answer": ' + "9" * 5000 + "}", "is not a JSON object"),
        ('{"id": "b", "id": "c", "question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 1}', "given twice"),
        (json.dumps({k: v for k, v in ITEM.items() if k != "answer"}), "the field 'answer' is missing"),
        (json.dumps({k: v for k, v in ITEM.items() if k != "id"}), "the field 'id' is missing"),
        (json.dumps({**ITEM, "id": "b", "anwser": 1}), "Did you mean 'answer'?"),
        (item(id="a"), "the id 'a' was used before"),
        (item(id=""), "must be text that is not empty"),
        (item(id=7), "must be text that is not empty"),
        (item(question="  "), "must be text that is not empty"),
        (item(question=None), "must be text that is not empty"),
        (item(answer=4), "must be an index from 0 to 3, found 4"),
        (item(answer=-1), "must be an index from 0 to 3, found -1"),
        (item(answer=True), "must be an index from 0 to 3, found true"),
        (item(answer=1.0), "must be an index from 0 to 3, found 1.0"),
        (item(answer="B"), 'must be an index from 0 to 3, found "B"'),
        (item(answer=None), "must be an index from 0 to 3, found null"),
        (item(answer=float("nan")), "must be an index from 0 to 3, found NaN"),
        (item(choices=["w", "x", "w", "z"]), "two choices are the same"),
        (item(choices=["w", "x", "y"]), "another number of choices than the first item"),
        (item(choices=["w"], answer=0), "must be a list of two to 26 texts"),
        (item(choices=[str(i) for i in range(27)]), "must be a list of two to 26 texts"),
        (item(choices=["w", "x", "y", ""]), "must be a list of two to 26 texts"),
        (item(choices=["w", "x", "y", 4]), "must be a list of two to 26 texts"),
        (item(choices="wxyz"), "must be a list of two to 26 texts"),
        (item(choices=None), "must be a list of two to 26 texts"),
        (item(question="\ud800"), "lone surrogate"),
        (item(id="\udcff"), "lone surrogate"),
    ],
)
def test_a_malformed_item_is_refused_with_its_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")  # a blank line is counted, not read
    error = refused(load_items, path)
    assert error.where == f"{path}:3"
    assert message in str(error)


@pytest.mark.parametrize("raw", [b"", b"\n\n  \n"])
def test_a_blank_file_holds_no_items_and_no_texts(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(raw)
    assert "holds no items" in str(refused(load_items, path))
    assert "holds no texts" in str(refused(load_texts, path))


def test_a_line_that_is_not_utf8_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(GOOD.encode() + b'\n{"id": "caf\xe9"}\n')
    assert refused(load_items, path).where == f"{path}:2"


def test_a_huge_line_is_refused_with_its_number_and_one_just_under_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    fill = MAX_LINE_BYTES - len(item(question="")) - 1
    path.write_text(f"{GOOD}\n{item(question='x' * fill)}\n", encoding="utf-8")
    assert len(load_items(path)) == 2
    path.write_text(f"{GOOD}\n{item(question='x' * (fill + 1))}\n", encoding="utf-8")
    error = refused(load_items, path)
    assert error.where == f"{path}:2"
    assert "is longer than 1,000,000 bytes" in str(error)


def test_as_many_choices_as_letters_are_read(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(item(choices=[f"c{i}" for i in range(MAX_CHOICES)], answer=25), encoding="utf-8")
    assert load_items(path)[0].answer == 25


@pytest.mark.parametrize(
    "line", ['{"text": ""}', '{"text": " "}', '{"text": 5}', '{"txt": "a"}', '{"text": null}', "{}", '"a"']
)
def test_a_malformed_text_is_refused_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n', encoding="utf-8")
    assert refused(load_texts, path).where == f"{path}:2"


@pytest.mark.parametrize(
    "change", [{"id": "c"}, {"question": "Who?"}, {"choices": ["x", "w", "y", "z"]}, {"answer": 2}]
)
def test_the_digest_of_items_changes_with_every_field(change: dict[str, object], tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text(f"{GOOD}\n{item()}\n", encoding="utf-8")
    other.write_text(f"{GOOD}\n{item(**change)}\n", encoding="utf-8")
    assert items_digest(load_items(one)) != items_digest(load_items(other))


def test_the_digest_of_items_changes_with_their_order_but_not_with_blank_lines(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, text in zip(
        paths, (f"{GOOD}\n{item()}\n", f"{item()}\n{GOOD}\n", f"\n{GOOD}{os.linesep}\n{item()}"), strict=True
    ):
        path.write_text(text, encoding="utf-8")
    first, swapped, spaced = (items_digest(load_items(path)) for path in paths)
    assert first != swapped
    assert first == spaced


@given(mutated(f"{GOOD}\n{item()}\n".encode()))
@settings(max_examples=examples(200), deadline=None)
def test_no_mutated_item_file_escapes_but_as_a_file_error(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(raw)
    try:
        assert items_digest(load_items(path))
    except FileError as error:
        assert error.where.startswith(str(path))  # noqa: PT017
