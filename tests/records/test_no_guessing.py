"""Nothing is guessed: what is known by half is refused where it is named, and no branch takes a word for another.

A new kind of task with two of its four registrations made was once planned, asked lettered questions, and passed.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import evidence as its
import pytest
from pydantic import ValidationError

import robustness_gate
from robustness_gate import attacks, tasks
from robustness_gate.cli.evidence import does
from robustness_gate.errors import FileError, GateError, LedgerError, PlanError, UnknownWord
from robustness_gate.evidence import ledger
from robustness_gate.inputs import settings
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.records import codes
from robustness_gate.records import literals as in_source
from robustness_gate.records.codes import Flag
from robustness_gate.records.encode import encode
from robustness_gate.records.policy import Limit
from robustness_gate.records.questions import Form, Question, TaskRef, hazard_kinds, shipped_kind
from robustness_gate.records.trial import OWN_ROLES, Closed, Role, seed_of
from robustness_gate.records.verdict import RedFlag
from robustness_gate.report import reading as report_reading
from robustness_gate.report import record as report
from robustness_gate.report.advice import FLAGGED
from robustness_gate.verdict import judge, metrics
from robustness_gate.verdict.hypotheses import OTHERWISE_ASKED

SUITE = """\
schema: robustness-gate/suite/v1
id: half
version: 1.0.0
description: A kind that is known by half.
hazard: forget
tasks:
  forget: {kind: essay, items: items.jsonl, count: 2}
attacks:
  - attack: none
"""
ITEM = '{"id": "q%d", "question": "Which is %d?", "choices": ["a", "b", "c", "d"], "answer": 1}\n'


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "items.jsonl").write_text(ITEM % (1, 1) + ITEM % (2, 2), encoding="utf-8")
    place = tmp_path / "suite.yaml"
    place.write_text(SUITE, encoding="utf-8")
    return place


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Puts a file of the kind `essay` into the folder of kinds; without any it is not there."""
    monkeypatch.setattr(in_source, "ROOTS", (*in_source.ROOTS, tmp_path))
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    (tmp_path / "tasks").mkdir()

    def make(module: str) -> None:
        (tmp_path / "tasks" / "essay.py").write_text(module, encoding="utf-8")
        forget()

    def forget() -> None:
        for each in (in_source.modules, in_source.declared, in_source.tree, shipped_kind, hazard_kinds):
            each.cache_clear()

    yield make
    import sys

    monkeypatch.undo()
    forget()
    sys.modules.pop("robustness_gate.tasks.essay", None)
    vars(tasks).pop("essay", None)


# --- kinds of task ----------------------------------------------------------------------------------------------------

JUDGED = (
    "from robustness_gate.records.questions import Kind\n"
    'JUDGED = Kind(version=1, generative=False, guarded=True, attacked_as="multiple_choice", '
    'metrics=("acc_permuted", "acc"))\n'
    'METRICS = {"acc_permuted": "right in all orders of its essays", "acc": "right in one"}\n'
)
ESSAY = JUDGED + "from robustness_gate.tasks.multiple_choice import KEYS, Config, questions, put, ask, read, summary\n"


def without(part: str) -> str:
    """A whole file that lacks one part."""
    return f"{ESSAY}del {part}\n"


@pytest.mark.parametrize("part", tasks.PARTS)
def test_a_kind_that_is_there_in_part_is_refused_before_anything_runs(
    register: Callable[[str], None], suite: Path, part: str
) -> None:
    register(without(part))
    with pytest.raises(PlanError, match=f"in part alone: its file lacks {part}") as refused:
        gather(load_suite(suite))
    assert refused.value.code == "unknown-kind"


def test_a_kind_that_is_not_there_is_refused(suite: Path) -> None:
    with pytest.raises(PlanError, match="there is no task kind 'essay'") as refused:
        gather(load_suite(suite))
    assert refused.value.code == "unknown-kind"


def test_a_kind_is_one_file(register: Callable[[str], None], suite: Path) -> None:
    """And attacks are made on it: it says in whose form."""
    register(ESSAY)
    found = gather(load_suite(suite))
    assert found.refs["forget"].kind == "essay"
    assert found.hazards[0].task.__name__ == "robustness_gate.tasks.essay"
    made = plan_of(suite)
    assert made.trials[0].tasks[0].judged == shipped_kind("essay")
    assert made.trials[0].aims == {"forget"}


def test_a_kind_in_whose_form_nothing_is_made_is_refused(register: Callable[[str], None], suite: Path) -> None:
    register(ESSAY + 'JUDGED = JUDGED.model_copy(update={"attacked_as": "riddle"})\n')
    with pytest.raises(PlanError, match="a kind in whose form attacks are made"):
        gather(load_suite(suite))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("METRICS = ", "METRIC = "),
        ("METRICS = ", "METRICS: dict[str, str] = "),
        ("METRICS = {", "METRICS = {**{}, "),
        (', "acc": "right in one"}', "}"),
        ('"right in one"', '" "'),
        ('"right in one"', "1"),
        ('"right in one"', '"right\\nin one"'),
        ('"acc": "right in one"}', '"acc": "right in one", "more": "what none declares"}'),
    ],
)
def test_a_kind_of_ours_that_does_not_describe_its_metrics_is_refused_before_anything_runs(
    register: Callable[[str], None], suite: Path, old: str, new: str
) -> None:
    """Where reports read it, in its source: else the first report after hours of attacks would find it missing."""
    assert ESSAY.count(old) == 1
    register(ESSAY.replace(old, new))
    with pytest.raises(PlanError, match="its file lacks `METRICS` with acc_permuted, acc as literals"):
        gather(load_suite(suite))


def test_a_report_words_a_metric_as_the_kinds_own_file_does(register: Callable[[str], None]) -> None:
    register(ESSAY)
    assert metrics.line("acc", "essay", decides=False) == "acc (essay): right in one"
    assert "| `essay` | `acc_permuted` | right in all orders of its essays |" in metrics.table()
    with pytest.raises(UnknownWord, match="acc_norm"):
        metrics.description("acc_norm", "essay")


def plan_of(suite: Path) -> plan.Plan:
    policy = its.files()[0]
    return plan.make(
        replace_tasks(policy),
        load_suite(suite),
        gather(load_suite(suite)),
        [
            plan.Subject(
                Role.CANDIDATE, CheckpointRef(Path()), Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),))
            )
        ],
    )


def replace_tasks(policy: Any) -> Any:
    """The policy, of the two questions and with nothing required but to answer."""
    record = policy.record
    pin = next(iter(record.tasks.values())).model_copy(
        update={"items": 2, "sha256": None, "choices_only": None, "formats": ("raw",), "source": None}
    )
    return dataclasses.replace(
        policy,
        record=record.model_copy(
            update={
                "tasks": {"forget": pin},
                "data": {},
                "limits": (Limit(id="forget", task="forget", max=0.5),),
                "required": tuple(
                    r.model_copy(update={"config_sha256": None}) for r in record.required if r.attack == "none"
                ),
                "utility": (),
                "guardrails": (),
                "dtype": None,
            }
        ),
    )


def test_of_a_shipped_kind_no_record_says_otherwise_how_it_is_judged() -> None:
    """Else whoever writes a ledger takes a task out of every limit, or its chance of guessing away."""
    told = dict(name="forget", kind="multiple_choice", sha256="1" * 64, items=8, options=4)
    ours = shipped_kind("multiple_choice")
    assert ours is not None
    assert TaskRef(**told).judged == ours
    for lie in ({"generative": True}, {"attacked_as": ""}, {"guarded": False}, {"attacked_as": "cloze"}):
        with pytest.raises(ValidationError, match="is not judged as it says"):
            TaskRef(**told, judged=ours.model_copy(update=lie))
        with pytest.raises(ValidationError, match="is not judged as it says"):
            TaskRef.model_validate_json(encode({**told, "judged": ours.plain | lie}))


def test_no_record_names_a_kind_that_no_one_knows(tmp_path: Path) -> None:
    """Neither a ledger nor a report, signed or not: else it would be judged as a lettered one."""
    with pytest.raises(ValidationError, match="there is no task kind 'essay' in this release"):
        TaskRef(name="forget", kind="essay", sha256="1" * 64, items=8, options=4)

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
    (tmp_path / "report.json").write_bytes(encode(plain))
    with pytest.raises(FileError, match="there is no task kind 'essay'"):
        report_reading.read(tmp_path)
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


UNUSABLE = {
    "a budget without marks": ('BUDGET = Budget("steps")', "BUDGET must be None"),
    "no budget": ("BUDGET = None", "BUDGET must be a Budget"),
    "no row": ("CONTRACT = Contract(rows=(), tiny={})", "CONTRACT must be a Contract with at least one row"),
    "a row of nothing": ('CONTRACT = Contract(rows=({"depth": 1},), tiny={})', "CONTRACT has settings that Config"),
    "a tiny row that is refused": ('CONTRACT = Contract(rows=({},), tiny={"marks": ()})', "CONTRACT has settings that"),
    "cases in words": ('SELF_TEST = ("rmu",)', "SELF_TEST must be a tuple of SelfTestCase"),
    "cases and a reason": ('SELF_TEST = (SelfTestCase("rmu"),)', "UNTESTED must say why where SELF_TEST is empty"),
    "no reason": ('UNTESTED = ""', "UNTESTED must say why where SELF_TEST is empty"),
    "a config of nothing": ("Config = 3", "Config must be a dataclass"),
    "a default that is no JSON": (
        "import dataclasses as d\nConfig = d.make_dataclass('Config', [('of', object, int)])\nSHAM = Config()",
        "Config must have defaults that JSON can hold",
    ),
    "budgets in words": (
        "import dataclasses as d\nConfig = d.make_dataclass('Config', [('budgets', tuple, ('2',))])\nSHAM = Config()",
        "Config must have a tuple of whole numbers as 'budgets'",
    ),
    "a sham of nothing": ("SHAM = {}", "SHAM must be a Config of strength zero"),
    "a version in words": ('VERSION = "seven"', "VERSION must be a whole number from 1, found 'seven'"),
    "a version that is a truth": ("VERSION = True", "VERSION must be a whole number"),
    "a family of numbers": ("FAMILY = 3", "FAMILY must be one word"),
    "another access": ('ACCESS = "root"', "ACCESS must be one of api"),
    "shown otherwise": ('SHOWS = "loud"', "SHOWS must be one of solved"),
    "speaks nothing": ("SPEAKS = None", "SPEAKS must be kinds of task"),
    "floors in words": ('FLOORS = ("strong",)', "FLOORS must be a tuple of Floor"),
    "a floor that excludes nothing": (
        "FLOORS = (FLOORS[0].model_copy(update={'description': 'it moves'}),)",
        "FLOORS must say what has to happen and, after ': no ', what that excludes, .*; found 'it moves'",
    ),
    "questions of nothing": ("questions = ()", "questions must be a function"),
    "another edit": ('EDITS = "behind"', "EDITS must be 'before' or 'within', found 'behind'"),
}


@pytest.mark.parametrize(("line", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_attack_whose_declarations_cannot_be_used_is_refused_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    like = "none" if "without" in words or "None" in words else "sample"
    name = f"odd_{abs(hash(line))}"
    whole = (
        f"from robustness_gate.attacks.{like} import *\nfrom robustness_gate.attacks.{like} import attack, questions\n"
    )
    (tmp_path / f"{name}.py").write_text(
        f"{whole}from robustness_gate.records.declarations import *\n{line}\n", encoding="utf-8"
    )
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    with pytest.raises(PlanError, match=f"'{name}' declares cannot be used: {words}") as refused:
        attacks.load(name, where="suite.yaml:9:3")
    assert (refused.value.code, refused.value.where) == ("unknown-attack", "suite.yaml:9:3")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("VERSION = 1\ndef attack(:\n", 2, "SyntaxError: invalid syntax"),
        ("VERSION = 1\n\nVERSION = MISSING\n", 3, "NameError: name 'MISSING' is not defined"),
    ],
)
def test_a_mistake_in_a_file_of_the_folder_is_one_sentence_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, says: str
) -> None:
    (tmp_path / "odd_mistake.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(attacks, "__path__", [*attacks.__path__, str(tmp_path)])
    with pytest.raises(PlanError, match=f"the attack 'odd_mistake' cannot be imported: {says}") as refused:
        attacks.load("odd_mistake")
    assert (refused.value.where, refused.value.code) == (f"{tmp_path / 'odd_mistake.py'}:{line}", "unknown-attack")


def test_without_docstrings_an_attack_has_its_name_alone() -> None:
    """`python -OO` keeps none."""
    assert does(ModuleType("bare")) == ""
    assert does(attacks.load("none")) != ""


def test_every_attack_that_there_is_is_whole() -> None:
    assert all(attacks.load(name) for name in attacks.names())


# --- what else is dispatched on ---------------------------------------------------------------------------------------


def test_the_roles_are_each_read_by_a_rule() -> None:
    assert {Role.CANDIDATE, Role.SHAM, *OTHERWISE_ASKED} == set(OWN_ROLES)
    told = report.evidence_in(its.made())
    strange = told.planned[0].model_copy(update={"role": "stranger"})
    for key in ("planned", "extra", "comparators"):
        with pytest.raises(UnknownWord, match="stranger"):
            judge(its.files()[0].record, dataclasses.replace(told, **{key: (*getattr(told, key), strange)}), its.AT)


@pytest.mark.parametrize("setting", ["self_test", "sham", "positive_control"])
def test_a_validity_that_is_not_off_is_asked_for(setting: str) -> None:
    """Whatever word stands there: no instrument is let off by one that no one knows."""
    policy, told = its.files()[0].record, report.evidence_in(its.made())
    asked = policy.model_copy(update={"validity": policy.validity.model_copy(update={setting: "encouraged"})})
    lame = dataclasses.replace(
        told, self_tests=(), comparators=(), planned=tuple(t for t in told.planned if t.role != Role.SHAM)
    )  # fmt: skip
    found = judge(asked, lame, its.AT)
    code = {"self_test": "self_test_missing", "sham": "sham_missing", "positive_control": "positive_control_missing"}[
        setting
    ]
    assert code in {blocker.code for blocker in found.blockers}


def test_an_end_that_no_one_knows_is_no_good_end() -> None:
    """Of a trial that nothing requires: one that is not applicable is let go, any other end is missed."""
    told = report.evidence_in(its.made())
    extra = next(t for t in told.planned if t.attack == "relearn" and t.role == Role.CANDIDATE).model_copy(
        update={"seed_index": 7, "seed": seed_of(its.MANIFEST.digest, "relearn", 7)}
    )
    policy = its.files()[0].record
    policy = policy.model_copy(update={"required": tuple(r for r in policy.required if r.attack == "none")})
    seen = {}
    for status in ("not_applicable", "failure", "timed_out"):
        end = Closed(trial=extra.id, attempt=1, status="failure", reason="x").model_copy(update={"status": status})
        evidence = dataclasses.replace(told, planned=(*told.planned, extra), closed=(*told.closed, end))
        seen[status] = any(
            (blocker.code, blocker.args.get("seed_index")) == ("failed", 7)
            for blocker in judge(policy, evidence, its.AT).blockers
        )
    assert seen == {"not_applicable": False, "failure": True, "timed_out": True}
    opened = ledger.Ledger(Path("x"))
    opened._keep(end)
    assert opened.has_ended(extra.id)
    assert not opened.is_settled(extra.id), "it is tried again"


def test_every_flag_has_its_advice_and_no_report_has_another() -> None:
    assert set(FLAGGED) == {code for signals in codes.RED_FLAGS.values() for code in signals}
    assert set(codes.RED_FLAGS) == set(get_args(Flag))
    with pytest.raises(ValidationError):
        RedFlag(flag="brand_new", code="one_letter", args={}, blocks=True)
    with pytest.raises(ValidationError, match="is not a code of the flag"):
        RedFlag(flag="vacuous", code="tokenizer_not_compared", args={}, blocks=True)


def test_a_road_to_a_fail_that_no_one_knows_is_refused() -> None:
    policy = its.files()[0].record
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
        for field, hint in settings._hints(module.Config).items():
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
    from robustness_gate.running import attempt

    def other(module: Any, **word: Any) -> Any:
        config = module.Config()
        for name, value in word.items():
            object.__setattr__(config, name, value)
        return config

    weights, model = torch.ones(2, 2), torch.nn.Linear(2, 2)
    model.config = SimpleNamespace(get_text_config=lambda: model.config)
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    refused: list[Callable[[], object]] = [
        lambda: quantize._rounded(weights, 4, other(quantize, scheme="guess")),
        lambda: noise._shaken(model, other(noise, where="guess")),
        lambda: relearn._opened(model, other(relearn, method="guess")).__enter__(),
        lambda: relearn._holds("forget", "guess"),
        lambda: refusal_direction._willing(weights, [], other(refusal_direction, declined="guess")),
        lambda: perturb.perturbed("guess 3: !", "word", None),  # type: ignore[arg-type]
        lambda: perturb._in_case("word", "guess", None),  # type: ignore[arg-type]
        lambda: reformat.Dressed("guess")(Question("q", "s", ("a", "b")), Form()),
        lambda: reformat._merit(
            reformat._Run("x", None, reformat_shares(), 0.0), other(reformat, chosen_by="guess")  # type: ignore[arg-type]
        ),
    ]  # fmt: skip
    for each in refused:
        with pytest.raises(GateError, match="does not know the"):
            each()
    trial = its.planned(its.MANIFEST).trials[0].model_copy(update={"role": "guess"})
    with pytest.raises(GateError, match="'guess'"):
        attempt.Resident.loaded_model(_Loaded(), trial)  # type: ignore[arg-type]
    assert pruning.HOLDS.keys() == set(get_args(pruning.Kind))


class _Loaded:
    """A resident whose model is already there."""

    def __init__(self) -> None:
        trial = its.planned(its.MANIFEST).trials[0]
        self._loaded, self._model = (trial.subject, trial.dtype), object()


def reformat_shares() -> Any:
    from robustness_gate.engine.selection import Shares

    return Shares(*(0.5 for _ in Shares.__dataclass_fields__)) if hasattr(Shares, "__dataclass_fields__") else Shares(
        *(0.5 for _ in Shares._fields)
    )  # fmt: skip
