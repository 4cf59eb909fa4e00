"""Nothing is guessed: what is known by half is refused where it is named, and no branch takes a word for another.

A new kind of task with two of its four registrations made was once planned, asked lettered questions, and passed.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, get_args

import evidence as its
import pytest
from pydantic import ValidationError

import robustness_gate
from robustness_gate import attacks, ledger, materials, nouns, plan, report, tasks
from robustness_gate.advice import FLAGGED, advise
from robustness_gate.advice.instruments import UNADVISED
from robustness_gate.checkpoint import FileEntry, Manifest, Place
from robustness_gate.errors import FileError, GateError, LedgerError, PlanError, UnknownWord
from robustness_gate.files import load_suite
from robustness_gate.materials import gather
from robustness_gate.nouns import Form, Kind, TaskRef, canonical
from robustness_gate.verdict import judge
from robustness_gate.verdict.cells import OTHERWISE_ASKED

SUITE = """\
schema: robustness-gate/suite/v1
id: half
version: 1.0.0
says: A kind that is known by half.
hazard: forget
tasks:
  forget: {kind: essay, items: items.jsonl, count: 2}
attacks:
  - attack: none
"""
ITEM = '{"id": "q%d", "question": "Which is %d?", "choices": ["a", "b", "c", "d"], "answer": 1}\n'
HELD = Kind(written=False, hazard=True, guarded=True)
WHOLE = "from robustness_gate.tasks.multiple_choice import KEYS, Config, ask, read, summary\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "items.jsonl").write_text(ITEM % (1, 1) + ITEM % (2, 2), encoding="utf-8")
    place = tmp_path / "suite.yaml"
    place.write_text(SUITE, encoding="utf-8")
    return place


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Registers some of what makes the kind `essay`."""
    room = tmp_path / "tasks"
    room.mkdir()

    def make(*, judged: bool = False, module: str = "", read: bool = False, put: bool = False) -> None:
        if judged:
            monkeypatch.setattr(nouns, "KINDS", MappingProxyType({**nouns.KINDS, "essay": HELD}))
        if module:
            (room / "essay.py").write_text(module, encoding="utf-8")
            monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(room)])
        if read:
            plain = materials._asked
            monkeypatch.setattr(
                materials, "_asked", lambda s, n, t, h: plain(s, n, t.model_copy(update={"kind": "cloze"}), h)
            )
        if put:
            monkeypatch.setattr(materials, "_form", lambda *_, **__: Form())

    yield make
    import sys

    sys.modules.pop("robustness_gate.tasks.essay", None)
    vars(tasks).pop("essay", None)


# --- kinds of task ----------------------------------------------------------------------------------------------------


def without(part: str) -> str:
    """A whole module that lacks one part."""
    return WHOLE.replace(f" {part},", "", 1).replace(f", {part}\n", "\n")


HALVES: list[tuple[dict[str, Any], str]] = [
    ({}, "there is no task kind 'essay'"),
    ({"read": True, "put": True}, "there is no task kind 'essay'"),
    ({"judged": True}, "it lacks `KEYS` in tasks/essay.py, `Config`"),
    ({"judged": True, "read": True, "put": True}, "in part alone"),
    ({"module": WHOLE}, "how it is judged"),
    ({"module": WHOLE, "read": True, "put": True}, "how it is judged"),
    ({"module": WHOLE, "judged": True}, "how its items are read"),
    ({"module": WHOLE, "judged": True, "put": True}, "how its items are read"),
    ({"module": WHOLE, "judged": True, "read": True}, "how its questions are put"),
    *(({"module": without(part), "judged": True, "read": True, "put": True}, f"it lacks `{part}` in tasks/essay.py")
      for part in tasks.PARTS),
]  # fmt: skip


@pytest.mark.parametrize(("made", "says"), HALVES)
def test_a_kind_that_is_registered_in_part_is_refused_before_anything_runs(
    register: Callable[..., None], suite: Path, made: dict[str, Any], says: str
) -> None:
    register(**made)
    with pytest.raises(PlanError, match=re.escape(says)) as refused:
        gather(load_suite(suite))
    assert refused.value.code == "unknown-kind"


def test_a_kind_that_is_registered_whole_is_taken(register: Callable[..., None], suite: Path) -> None:
    register(module=WHOLE, judged=True, read=True, put=True)
    found = gather(load_suite(suite))
    assert found.refs["forget"].kind == "essay"
    assert found.hazards[0].task.__name__ == "robustness_gate.tasks.essay"


def test_every_kind_that_there_is_is_whole() -> None:
    assert set(tasks.names()) == set(nouns.KINDS)
    for kind in nouns.KINDS:
        assert isinstance(tasks.load(kind), ModuleType)


def test_no_record_names_a_kind_that_nobody_knows(tmp_path: Path) -> None:
    """Neither a ledger nor a report, signed or not: else it would be judged as a lettered one."""
    with pytest.raises(ValidationError, match="there is no task kind 'essay' in this release"):
        TaskRef(name="forget", kind="essay", sha256="1" * 64, items=8, options=4)
    with pytest.raises(UnknownWord, match="task kind 'essay'"):
        nouns.judged_as("essay")

    def essay(told: dict[str, Any]) -> None:
        for record in told["trials"]:
            for task in record["trial"]["tasks"]:
                task["kind"] = "essay"

    lie = its.look(its.resigned(its.bundle(), lambda predicate: essay(predicate["report"])))
    assert "form" in its.failed(lie)
    assert (lie.outcome, lie.verified) == ("", False)
    told = its.made()
    plain = told.plain
    essay(plain)
    (tmp_path / "report.json").write_bytes(canonical(plain))
    with pytest.raises(FileError, match="there is no task kind 'essay'"):
        report.read(tmp_path)
    raw = its.ledger_of(told, tmp_path / "ledger.jsonl").path.read_bytes()
    (tmp_path / "ledger.jsonl").write_bytes(raw.replace(b'"kind":"multiple_choice"', b'"kind":"essay"'))
    with pytest.raises(LedgerError):
        ledger.read(tmp_path / "ledger.jsonl")


@pytest.mark.parametrize("part", attacks.PARTS)
def test_an_attack_that_is_there_by_half_is_refused_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    whole = "from robustness_gate.attacks.none import *\nfrom robustness_gate.attacks.none import attack, questions\n"
    (tmp_path / f"half_{part.lower()}.py").write_text(f"{whole}del {part}\n", encoding="utf-8")
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    with pytest.raises(PlanError, match=f"in part alone: its file lacks {part}") as refused:
        attacks.load(f"half_{part.lower()}", where="suite.yaml:9:3")
    assert (refused.value.code, refused.value.where) == ("unknown-attack", "suite.yaml:9:3")


def test_every_attack_that_there_is_is_whole() -> None:
    assert all(attacks.load(name) for name in attacks.names())


# --- what else is dispatched on ---------------------------------------------------------------------------------------


def test_the_roles_are_each_heard_by_a_rule() -> None:
    assert {"candidate", "sham", *OTHERWISE_ASKED} == set(nouns.OWN_ROLES)
    told = report.evidence_in(its.made())
    strange = told.planned[0].model_copy(update={"role": "stranger"})
    for key in ("planned", "extra", "beside"):
        with pytest.raises(UnknownWord, match="stranger"):
            judge(its.files()[0].noun, dataclasses.replace(told, **{key: (*getattr(told, key), strange)}), its.AT)


@pytest.mark.parametrize("setting", ["self_test", "sham", "canary"])
def test_a_validity_that_is_not_off_is_asked_for(setting: str) -> None:
    """Whatever word stands there: no instrument is let off by one that nobody knows."""
    policy, told = its.files()[0].noun, report.evidence_in(its.made())
    asked = policy.model_copy(update={"validity": policy.validity.model_copy(update={setting: "encouraged"})})
    lame = dataclasses.replace(
        told, self_tests=(), beside=(), planned=tuple(t for t in told.planned if t.role != "sham")
    )  # fmt: skip
    found = judge(asked, lame, its.AT)
    assert any(block.code == "instrument" for block in found.blocks)
    words = {"self_test": "self-test", "sham": "sham", "canary": "canary"}[setting]
    assert any(words in block.words for block in found.blocks if block.code == "instrument")


def test_an_end_that_nobody_knows_is_no_good_end() -> None:
    """Of a trial that nothing requires: one that is not applicable is let go, any other end is missed."""
    told = report.evidence_in(its.made())
    extra = next(t for t in told.planned if t.attack == "relearn" and t.role == "candidate").model_copy(
        update={"seed_index": 7, "seed": nouns.seed_of(its.MANIFEST.digest, "relearn", 7)}
    )
    policy = its.files()[0].noun
    policy = policy.model_copy(update={"required": tuple(r for r in policy.required if r.attack == "none")})
    seen = {}
    for status in ("not_applicable", "failure", "timed_out"):
        end = nouns.Closed(trial=extra.id, attempt=1, status="failure", reason="x").model_copy(
            update={"status": status}
        )
        evidence = dataclasses.replace(told, planned=(*told.planned, extra), closed=(*told.closed, end))
        seen[status] = any("seed 7: failed" in block.words for block in judge(policy, evidence, its.AT).blocks)
    assert seen == {"not_applicable": False, "failure": True, "timed_out": True}
    opened = ledger.Ledger(Path("x"))
    opened.closed.append(end)
    assert not opened.is_settled(extra.id), "it is tried again"


def test_every_flag_has_its_advice_and_no_report_has_another() -> None:
    assert set(FLAGGED) <= set(get_args(nouns.Flag))
    with pytest.raises(ValidationError):
        nouns.RedFlag(flag="brand_new", words="x", blocks=True)
    raised = set(re.findall(r'"([a-z_]+)", words', Path(robustness_gate.verdict.flags.__file__).read_text()))
    assert raised <= set(get_args(nouns.Flag))


def test_a_road_to_a_fail_that_nobody_knows_is_refused() -> None:
    policy = its.files()[0].noun
    other = policy.model_copy(update={"statistics": policy.statistics.model_copy(update={"fail_fast": "guess"})})
    with pytest.raises(UnknownWord, match="'guess'"):
        judge(other, report.evidence_in(its.made()), its.AT)


# --- no default branch ------------------------------------------------------------------------------------------------

ROOT = Path(robustness_gate.__file__).parent
KEYS = {"dev", "none", "original"}
"""Settings that name no corpus: any other word is a key, looked up as it stands, and an unknown one is missed."""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def raises(body: list[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Raise)


def test_every_match_on_a_word_ends_in_a_refusal() -> None:
    seen = 0
    for path, tree in sources():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Match):
                continue
            words = [c for c in node.cases if any(isinstance(n, ast.Constant) for n in ast.walk(c.pattern))]
            if not words:
                continue
            seen += 1
            last = node.cases[-1]
            catches = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
            assert (catches, raises(last.body)) == (True, True), f"{path.name}:{node.lineno}"
    assert seen >= 9


def literals(module: ast.Module) -> set[str]:
    """Every word of every Literal in a file."""
    return {
        word.value
        for node in ast.walk(module)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"
        for word in ast.walk(node.slice)
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }


def compared(test: ast.expr) -> set[str]:
    """The words with which something is compared, where that is all of a condition."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], (ast.Eq, ast.In)):
        return set()
    right = test.comparators[0]
    parts = right.elts if isinstance(right, (ast.Tuple, ast.Set, ast.List)) else [right]
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def refused_in(function: ast.AST, subject: str) -> bool:
    """Whether a function refuses what it does not know of a subject: `if x not in (...)` or `x != ...`, then raise."""
    return any(
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.ops[0], (ast.NotIn, ast.NotEq))
        and ast.unparse(node.test.left) == subject
        and raises(node.body)
        for node in ast.walk(function)
    )


def test_no_attack_takes_an_unknown_setting_for_another() -> None:
    """A word of a setting, where something hangs on it, stands in a `match` or beside a refusal of all other words."""
    seen = 0
    for path in sorted((ROOT / "attacks").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = literals(tree) - KEYS
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            if function.name in ("__post_init__", "cannot", "refuse"):  # they refuse, and choose nothing
                continue
            for node in ast.walk(function):
                if not isinstance(node, (ast.If, ast.IfExp)) or not compared(node.test) & known:
                    continue
                assert isinstance(node.test, ast.Compare)
                seen += 1
                subject = ast.unparse(node.test.left)
                assert raises(function.body) or refused_in(function, subject), (
                    f"{path.name}:{node.lineno}: {ast.unparse(node.test)}"
                )
    assert seen >= 4


def test_every_setting_that_is_a_word_is_refused_where_it_is_another() -> None:
    """At the door, as `plan` does; and this is every attack's every word."""
    count = 0
    for name in attacks.names():
        module = attacks.load(name)
        for field, hint in attacks._hints(module.Config).items():
            words = [w for w in _words(hint) if isinstance(w, str)]
            if words:
                count += 1
                with pytest.raises(attacks.BadConfig):
                    attacks.configure(module, {field: "guess"})
                with pytest.raises(attacks.BadConfig):
                    attacks.configure(module, {field: ["guess"]})
    assert count > 20


def _words(hint: Any) -> list[Any]:
    inside = get_args(hint)
    return list(inside) if inside and all(isinstance(each, str) for each in inside) else [
        word for each in inside for word in _words(each)
    ]  # fmt: skip


def test_the_branches_themselves_refuse() -> None:
    import torch

    from robustness_gate.attacks import noise, perturb, pruning, quantize, reformat, refusal_direction, relearn
    from robustness_gate.executors import local

    def other(module: Any, **word: Any) -> Any:
        config = module.Config()
        for name, value in word.items():
            object.__setattr__(config, name, value)
        return config

    weights, model = torch.ones(2, 2), torch.nn.Linear(2, 2)
    refused: list[Callable[[], object]] = [
        lambda: quantize._rounded(weights, 4, other(quantize, scheme="guess")),
        lambda: noise._shaken(model, other(noise, where="guess")),
        lambda: relearn._opened(model, other(relearn, method="guess")),
        lambda: relearn._holds("forget", "guess"),
        lambda: refusal_direction._willing(weights, [], other(refusal_direction, declined="guess")),
        lambda: perturb.perturbed("guess 3: !", "word", None),  # type: ignore[arg-type]
        lambda: perturb._in_case("word", "guess", None),  # type: ignore[arg-type]
        lambda: reformat.Dressed("guess")(nouns.Question("q", "s", ("a", "b")), Form()),
        lambda: reformat._merit(
            reformat._Run("x", None, reformat_shares(), 0.0), other(reformat, chosen_by="guess")  # type: ignore[arg-type]
        ),
    ]  # fmt: skip
    for each in refused:
        with pytest.raises(GateError, match="does not know the"):
            each()
    with pytest.raises(GateError, match="'guess'"):
        local._Resident.speaker(_Loaded(), its.planned(its.MANIFEST).trials[0].model_copy(update={"role": "guess"}))  # type: ignore[arg-type]
    assert pruning.HOLDS.keys() == set(get_args(pruning.Kind))


class _Loaded:
    """A resident whose model is already there."""

    def __init__(self) -> None:
        trial = its.planned(its.MANIFEST).trials[0]
        self._loaded, self._speaker = (trial.subject, trial.dtype), object()


def reformat_shares() -> Any:
    from robustness_gate.engine.score import Shares

    return Shares(*(0.5 for _ in Shares.__dataclass_fields__)) if hasattr(Shares, "__dataclass_fields__") else Shares(
        *(0.5 for _ in Shares._fields)
    )  # fmt: skip


def test_a_plan_of_a_kind_known_by_half_is_not_made(register: Callable[..., None], suite: Path) -> None:
    """The whole way that it went before: policy, suite, plan."""
    register(module=WHOLE, judged=True)
    with pytest.raises(PlanError, match="in part alone"):
        plan.make(
            its.files()[0],
            load_suite(suite),
            gather(load_suite(suite)),
            [plan.Subject("candidate", Place(Path()), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))],
        )


# --- what is said of it ----------------------------------------------------------------------------------------------


def with_blocks(*blocks: nouns.Block) -> report.Report:
    told = its.made("INCONCLUSIVE")
    return told.model_copy(update={"verdict": told.verdict.model_copy(update={"blocks": blocks})})


def test_a_fault_of_an_instrument_that_nobody_knows_is_told_and_no_remedy_is_made_up() -> None:
    from robustness_gate.publish import facts

    made = with_blocks(nouns.Block(code="instrument", words="the clock runs backwards"))
    assert ("fault", "the clock runs backwards") in [(each.state, each.says) for each in facts.instruments(made)]
    (step,) = [each for each in advise(made).steps if "clock" in each.because]
    assert step.do == UNADVISED


def test_every_doubt_that_the_judge_has_is_advised_on_by_what_it_is() -> None:
    """Each in the words of `verdict.court`; one that is new has no remedy made up for it."""
    court = Path(robustness_gate.verdict.court.__file__).read_text()
    known = {
        "do not fit the context and lost what the attack adds": "Shorten what it puts",
        "is not the one that the policy pins": "name the same",
        "was computed in": "name the same",
        "were asked, the policy pins": "name the same",
        "were asked, the trial names": "name the same",
        "were asked than the policy pins": "name the same",
        "the policy does not pin": "name the same",
        "the trial does not ask": "name the same",
        "was not asked": "name the same",
    }
    examples = {"was computed in": "it was computed in float16, and the policy pins float32"}
    for words, remedy in known.items():
        assert words in court, f"the judge says it otherwise now: {words}"
        assert remedy in cure(
            examples.get(words, f"8 of 9 things {words} 'x'"[: None if "fit" not in words else -4])
        ), words
    assert cure("something that no release has said before") == UNADVISED


def cure(doubt: str) -> str:
    """What is advised on a finding with this doubt."""
    told = its.made("INCONCLUSIVE")
    found = next(f for f in told.verdict.findings if f.hazard and f.attack != "none" and f.state == "under")
    doubted = found.model_copy(update={"doubts": (doubt,)})
    verdict = told.verdict.model_copy(update={"findings": (doubted,), "blocks": ()})
    (step,) = [s for s in advise(told.model_copy(update={"verdict": verdict})).steps if doubt in s.because]
    return step.do
