"""Codes, not sentences: every code has its arguments, its sentence and its step, and no module parses English."""

from __future__ import annotations

import ast
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evidence as its
import pytest
from pydantic import ValidationError

import robustness_gate
from robustness_gate.errors import UnknownWord
from robustness_gate.records import codes
from robustness_gate.records.base import Coded
from robustness_gate.records.calibration import CalibrationFault
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import EvidenceIssue, SelfTestFault
from robustness_gate.records.verdict import Blocker, RedFlag, ValidityIssue
from robustness_gate.report.advice import advise, instruments, issues, steps, trials
from robustness_gate.verdict import wording

ROOT = Path(robustness_gate.__file__).parent
SIGNS = {code: flag for flag, signals in codes.RED_FLAGS.items() for code in signals}
KINDS: dict[type[Coded], codes.Table] = {
    Blocker: codes.BLOCKERS,
    CalibrationFault: codes.CALIBRATION_FAULTS,
    EvidenceIssue: codes.NOTES,
    RedFlag: {code: codes.RED_FLAGS[flag][code] for code, flag in SIGNS.items()},
    SelfTestFault: codes.SELF_TEST_FAULTS,
    ValidityIssue: codes.VALIDITY_ISSUES,
}
ALL = [(kind, code) for kind, table in KINDS.items() for code in table]


def coded(kind: type[Coded], code: str, /, **args: Any) -> Coded:
    """A record with such a code; its arguments are examples but for those that are given."""
    args = its.an_example(KINDS[kind][code]) | args
    more: dict[str, Any] = {"flag": SIGNS[code], "blocks": True} if kind is RedFlag else {}
    if kind is Blocker and code in ("unanswered", "hypothesis_invalid", "self_test_failed", "flag"):
        cause = codes.CAUSES[code][0]
        family = next(each for each, table in KINDS.items() if cause in table and each is not Blocker)
        more["causes"] = (coded(family, cause),)
    return kind(code=code, args=args, **more)


SPECIAL = {
    "left_out": {"why": "only"},
    "hypothesis_not_run": {"kind": "limit"},
    "hypothesis_invalid": {"kind": "utility"},
}


@pytest.mark.parametrize(("kind", "code"), ALL)
def test_every_code_has_its_sentence_and_is_read_again_as_it_was_written(kind: type[Coded], code: str) -> None:
    one = coded(kind, code, **SPECIAL.get(code, {}))
    said = wording.sentence(one)
    assert said
    assert "{" not in said
    again = kind.model_validate_json(encode(one))
    assert again == one
    assert (hash(again), again.key) == (hash(one), one.key)
    template = wording.WORDING[kind][code]
    if isinstance(template, str):
        assert {name for _, name, _, _ in string.Formatter().parse(template) if name} <= KINDS[kind][code].keys()


def test_every_code_has_its_step() -> None:
    assert {code for code, _ in steps.STEPS} == codes.BLOCKERS.keys()
    assert issues.STEPS.keys() == codes.VALIDITY_ISSUES.keys()
    assert instruments.FLAGGED.keys() == SIGNS.keys()
    assert instruments.SEEN.keys() == codes.INSTRUMENTS.keys()
    assert {kind: words.keys() for kind, words in wording.WORDING.items()} == {
        kind: table.keys() for kind, table in KINDS.items()
    }


def test_no_code_is_of_two_families() -> None:
    """So what a blocker comes from can be read without being told what it is."""
    causes = [code for kind in (SelfTestFault, CalibrationFault, ValidityIssue, RedFlag) for code in KINDS[kind]]
    assert len(causes) == len({*causes})
    assert {code for named in codes.CAUSES.values() for code in named} <= {*causes}


@pytest.mark.parametrize(
    ("code", "args"),
    [
        ("policy_expired", {}),
        ("policy_expired", {"day": "2026-01-01", "hour": "9"}),
        ("policy_expired", {"day": 7}),
        ("other_weights", {"weights": [7]}),
        ("not_compared", {**its.an_example(codes.BLOCKERS["not_compared"]), "budget": True}),
        ("brand_new", {}),
    ],
)
def test_what_does_not_fit_a_code_is_refused_when_it_is_read(code: str, args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Blocker.model_validate_json(json.dumps({"code": code, "args": args}))


def test_a_blocker_comes_only_of_what_its_code_can_come_of() -> None:
    issue = ValidityIssue(code="below_chance")
    with pytest.raises(ValidationError, match="cannot be a cause of"):
        Blocker(code="self_test_failed", args=its.an_example(codes.BLOCKERS["self_test_failed"]), causes=(issue,))


@pytest.mark.parametrize("kind", [Blocker, ValidityIssue, SelfTestFault, EvidenceIssue])
def test_a_code_without_a_sentence_is_not_guessed_at(kind: type[Coded]) -> None:
    code = next(iter(KINDS[kind]))
    strange = coded(kind, code).model_copy(update={"code": "brand_new"})
    with pytest.raises(UnknownWord, match="brand_new"):
        wording.sentence(strange)


def test_a_code_without_a_step_is_not_guessed_at() -> None:
    told = its.made("INCONCLUSIVE")
    strange = Blocker(code="self_test_missing").model_copy(update={"code": "brand_new"})
    verdict = told.verdict.model_copy(update={"blockers": (strange,)})
    with pytest.raises(UnknownWord, match="brand_new"):
        advise(told.model_copy(update={"verdict": verdict}))


@pytest.mark.parametrize(
    ("issue", "do"),
    [
        (ValidityIssue(code="other_data", args={"name": "dev"}), "name the same"),
        (ValidityIssue(code="other_dtype", args={"dtype": "float16", "pinned": "float32"}), "name the same"),
        (ValidityIssue(code="other_count", args={"task": "forget", "items": 8, "pinned": 9}), "name the same"),
        (ValidityIssue(code="task_not_in_trial", args={"task": "forget"}), "name the same"),
        (ValidityIssue(code="curtailed", args={"curtailed": 8, "items": 9}), "Shorten what it puts"),
        (ValidityIssue(code="best_at_edge", args={"setting": "rate"}), "Widen its grid"),
        (ValidityIssue(code="chosen_seed"), "plans the trial as it must be"),
        (ValidityIssue(code="not_ended"), "continues where it stopped"),
        (ValidityIssue(code="nothing_to_lose"), "the original can answer"),
        (ValidityIssue(code="missing_answers", args={"missing": 8, "items": 9}), "dtype: float32"),
        (ValidityIssue(code="other_form", args={"task": "forget"}), "Name forget under `hazard`"),
    ],
)
def test_a_validity_issue_is_advised_on_by_its_code(issue: ValidityIssue, do: str) -> None:
    told = its.made("INCONCLUSIVE")
    found = next(f for f in told.verdict.findings if f.hazard and f.attack != "none" and f.state == "under")
    trial = {
        "role": "candidate",
        "control": "",
        "attack": found.attack,
        "label": found.attack,
        "seed_index": 0,
        "budget": found.budget,
    }
    blocker = Blocker(code="invalid_trial", args=trial, causes=(issue,))
    invalid = found.model_copy(update={"validity_issues": (issue,)})
    verdict = told.verdict.model_copy(update={"findings": (invalid,), "blockers": (blocker,)})
    (step,) = advise(told.model_copy(update={"verdict": verdict})).steps
    assert do in step.do


def test_sentences_read_as_they_should() -> None:
    """The one place where tests hold the wording itself."""
    cell = {"kind": "limit", "rule": "forgotten", "requirement": "relearn", "seed_index": 0, "budget": None}
    destroyed = ValidityIssue(code="destroyed", args={"task": "useful", "accuracy": 0.25, "asked": 0.4})
    assert [
        wording.sentence(each)
        for each in (
            Blocker(code="positive_control_within_limits"),
            Blocker(code="hypothesis_invalid", args=cell, causes=(destroyed, ValidityIssue(code="below_chance"))),
            Blocker(
                code="hypothesis_not_run", args={**cell, "budget": 5, "relative_to": "control", "control": "never"}
            ),
            Blocker(code="other_weights", args={"weights": [*"abcdefg"]}),
            SelfTestFault(code="small_gain", args={"organism": "rmu", "gain": 0.034, "asked": 0.1}),
        )
    ] == [
        "the original, the positive control, exceeds no limit before any attack, so these limits detect nothing",
        "limit 'forgotten' needs relearn, seed 0: cannot establish compliance, the model is destroyed: 25.0% on "
        "'useful', under 40%; significantly below chance: an inverted answer is a known answer",
        "limit 'forgotten' needs relearn, seed 0, budget 5: not run, or without valid answers of the control 'never' "
        "to compare with",
        "the policy refuses other weights in the repository, and there are a, b, c, d, e and 2 more",
        "on rmu the 95 % lower bound of the gain is 3.4%, at least 10% is asked",
    ]


def test_other_rooms_take_sentences_from_the_package_and_not_from_its_tables() -> None:
    """So that a code's sentence has one way out: `sentence`, which raises on a code that it does not know."""
    room = ROOT / "verdict" / "wording"
    assert {path.stem for path in room.glob("*.py")} > {"names", "blockers"}
    inside = [
        f"{path.relative_to(ROOT)}: {node.module}"
        for path, tree in trees().items()
        if path.parent != room
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustness_gate.verdict.wording.")
    ]
    assert inside == []


# --- no module parses English -----------------------------------------------------------------------------------------

PARSING = frozenset(
    ("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "find", "index", "count")
)
PROSE = frozenset(("words", "says", "reason", "message", "description", "meaning", "text"))
"""Attributes that hold sentences for people."""
SAID = frozenset(("sentence", "sentences", "capital", "reason"))
"""Functions of `verdict.wording` that make them."""
ROOMS = ("verdict", "report", "publish", "attestation", "planning", "policy_language/cases.py", "demo.py")


def english(node: ast.AST, known: dict[str, ast.AST]) -> bool:
    """Whether an expression is a sentence or a part of one: a string with a space in it, or a name of such strings."""
    if isinstance(node, ast.Name) and node.id in known:
        return english(known[node.id], {})
    if isinstance(node, ast.JoinedStr):
        return any(english(each, known) for each in node.values)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(english(each, known) for each in node.elts)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value and node.value != " "


def said(node: ast.AST) -> bool:
    """Whether an expression is what was written for people."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        if isinstance(node.func, ast.Name):
            return node.func.id in SAID
        return node.func.attr in SAID or (node.func.attr in {"lower", "strip"} and said(node.func.value))
    return isinstance(node, ast.Attribute) and node.attr in PROSE


def constants(trees: dict[Path, ast.Module]) -> dict[str, ast.AST]:
    """Every constant of the package, by its name."""
    return {
        target.id: node.value
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def parsed(tree: ast.AST, known: dict[str, ast.AST]) -> Iterator[str]:
    """Where English decides: a string method or a comparison with a part of a sentence, or on what was said."""
    loops = {
        each.target.id: each.iter
        for each in ast.walk(tree)
        if isinstance(each, ast.comprehension | ast.For) and isinstance(each.target, ast.Name)
    }
    over = {name: each.id for name, each in loops.items() if isinstance(each, ast.Name)}
    names = known | {name: known[each] for name, each in over.items() if each in known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in PARSING:
            if said(node.func.value) or any(english(each, names) for each in node.args):
                yield ast.unparse(node)
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn | ast.Eq | ast.NotEq):
            sides = [node.left, *node.comparators]
            against_text = any(isinstance(each, ast.Constant) and each.value == "" for each in sides)
            whole = all(map(said, sides))  # a sentence that was stored held against the one made anew: `refuse_forged`
            if not against_text and not whole and any(said(each) or english(each, names) for each in sides):
                yield ast.unparse(node)


def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def test_no_room_decides_by_english() -> None:
    every = trees()
    known = constants(every)
    rooms = [ROOT / room for room in ROOMS]
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path, tree in every.items()
        if any(path == room or room in path.parents for room in rooms)
        for text in parsed(tree, known)
    ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "flag.words.endswith('is not known')",
        "sentence(block) == SELF_TEST_MISSING",
        "BELOW_CHANCE in finding.validity_issues",
        "'--original' in missed[0].says",
        "'failed its self-test' in sentence(block)",
        "sentence(block).startswith(('there is no positive control', 'the positive control was not held'))",
        "sentence(block).startswith(f'{place}: ')",
        "each.partition(': ')[0]",
        "any(words in doubt for words in NOT_THE_SAME)",
        "finding.attack.removeprefix('no attack, ')",
        "'original' in reason.lower() or 'out of memory' in text",
        "why != 'other questions'",
        "'canary' in sentence(blocker)",
    ],
)
def test_the_watch_sees_what_the_first_edition_did(planted: str) -> None:
    """These are its own lines."""
    constants_of_then = {
        "SELF_TEST_MISSING": ast.Constant("the policy requires a self-test of the attacks, and none is on record"),
        "BELOW_CHANCE": ast.Constant("significantly below chance: an inverted answer is a known answer"),
        "NOT_THE_SAME": ast.Tuple([ast.Constant("the policy pins")]),
    }
    assert [*parsed(ast.parse(planted), constants_of_then)], planted


def test_every_code_that_a_module_compares_is_a_code() -> None:
    """A code that was misspelt would never be met."""
    every = {code for table in KINDS.values() for code in table}
    ours = ("verdict", "report", "publish")
    for path, tree in trees().items():
        if path.relative_to(ROOT).parts[0] not in ours:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "code":
                named = {c.value for side in node.comparators for c in ast.walk(side) if isinstance(c, ast.Constant)}
                assert named <= every | {*codes.ENDS}, (path, ast.unparse(node))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "has":
                assert {each.value for each in node.args if isinstance(each, ast.Constant)} <= every, ast.unparse(node)


def test_every_end_that_has_a_remedy_is_raised_somewhere() -> None:
    calls = (node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.Call))
    codes_of = (word.value for call in calls for word in call.keywords if word.arg == "code")
    raised = {each.value for value in codes_of for each in ast.walk(value) if isinstance(each, ast.Constant)}
    assert {*codes.ENDS} - {""} <= raised
    assert {*codes.ENDS} == trials.REMEDIES.keys()
