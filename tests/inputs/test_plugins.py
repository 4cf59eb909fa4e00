"""Plug-ins: what is named is found and nothing else, by content; each blocks a PASS unless the policy names it.

One real distribution is built and installed by pip into a folder of its own; the trip through it is in this process.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import evidence as its
import foreign
import pytest
import torch
from pydantic import ValidationError

from robustness_gate import attacks, gate, organisms, publish, starter, tasks
from robustness_gate.assurance import attack_contract, try_attack
from robustness_gate.attestation.verify import Check
from robustness_gate.attestation.verify.codes import Fault
from robustness_gate.attestation.verify.evidence import _hold_attack as hold_attack
from robustness_gate.attestation.verify.evidence import evidence as evidence_of
from robustness_gate.attestation.verify.plan import hold_plugins
from robustness_gate.attestation.verify.records import Failed
from robustness_gate.cli import main
from robustness_gate.errors import BrokenTrial, Exit, FileError, PlanError, UsageError
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs import imported, plugins, recorded
from robustness_gate.planning.plan import Prepared
from robustness_gate.policy_language import diff, load_policy
from robustness_gate.records import codes
from robustness_gate.records.base import Plugin
from robustness_gate.records.questions import Form, Item, Question, Rows, TaskRef, asked, shipped_kind
from robustness_gate.records.trial import Closed, Trial
from robustness_gate.report import record as report
from robustness_gate.running import checked, trial
from robustness_gate.running.attempt import Resident
from robustness_gate.running.executors import Job
from robustness_gate.verdict import judge

POLICY = """
schema: robustness-gate/policy/v1
id: foreign
version: 1.0.0
description: A small policy with code of others.
threat_model: {access: open_weights, adversary: a test}
tasks: {forget: {items: 40}, retain: {items: 30}}
limits:
  - {id: forgotten, task: forget, max: 0.7}
required:
  - {attack: none}
  - {attack: acme-gate/flip}
utility:
  - {task: retain, min: 0.3, min_attacked: 0.2}
validity: {self_test: off, sham: off, positive_control: off, record_only: [still_rising, tokenizer_unverified,
identical_answers, letter_collapse]}
"""
SUITE = """
schema: robustness-gate/suite/v1
id: foreign
version: 1.0.0
description: A small suite with code of others.
hazard: forget
dev: dev.jsonl
tasks:
  forget: {kind: acme-gate/riddle, config: {first: 40}, items: forget.jsonl, count: 40, topic: lumenwright craft}
  retain: {items: retain.jsonl, count: 30, topic: Tarn geography}
attacks:
  - attack: none
  - attack: acme-gate/flip
"""
SERIAL = "acme-gate/serial"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    return foreign.install(foreign.wheel(folder), folder / "site")


def forget() -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme_gate"]:
        del sys.modules[name]
    imported.NAMES.clear()
    recorded.forget()
    importlib.invalidate_caches()


@pytest.fixture
def site(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of what pip installed, on the path."""
    place = tmp_path / "site"
    shutil.copytree(installed, place)
    monkeypatch.syspath_prepend(str(place))
    forget()
    yield place
    forget()


@pytest.fixture
def bench(site: Path, tmp_path: Path) -> Path:
    for name, source, count in (
        ("forget", "forget.verdict", 40),
        ("retain", "retain.verdict", 30),
        ("dev", "forget.dev", 8),
    ):
        lines = organisms.world(source).read_text(encoding="utf-8").splitlines()[:count]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def planned(bench: Path, **more: Any) -> Prepared:
    return gate.prepare(bench / "policy.yaml", bench / "suite.yaml", "organism:oracle", **more)


# --- what is found, and how it is named -------------------------------------------------------------------------------


def test_what_a_suite_names_is_found_and_stands_in_its_trials(bench: Path) -> None:
    made = planned(bench).plan
    (plain, flip) = made.trials
    here = plugins.origin("acme-gate")
    assert (here.distribution, here.version, here.pinned) == ("acme-gate", "1.2", True)
    assert (flip.attack, flip.attack_version, flip.plugins) == ("acme-gate/flip", 7, (here,))
    assert plain.plugins == (here,), "its task is of somebody else's kind"
    assert flip.tasks[0].kind == "acme-gate/riddle"
    assert flip.aims == {"forget"}
    assert made.foreseen[-1] == f"the policy does not name the plug-in acme-gate: {here.sha256}: no PASS is possible"


def test_who_runs_a_trial_is_part_of_it(bench: Path) -> None:
    text = SUITE.replace("acme-gate/flip", "logit_lens").replace("kind: acme-gate/riddle, config: {first: 40}, ", "")
    (bench / "suite.yaml").write_text(text, encoding="utf-8")
    (bench / "policy.yaml").write_text(POLICY.replace("acme-gate/flip", "logit_lens"), encoding="utf-8")
    ours, theirs = planned(bench).plan.trials, planned(bench, executor=SERIAL).plan.trials
    assert [each.plugins for each in ours] == [(), ()]
    assert not any(name.startswith("acme_gate") for name in sys.modules), "nothing was named, so nothing is imported"
    assert [each.plugins for each in theirs] == [(plugins.origin(SERIAL),)] * 2
    assert [checked.of_others(name) for name in ("local", SERIAL)] == [False, True], "what a trial names is checked"
    assert not {each.id for each in ours} & {each.id for each in theirs}


def test_only_what_is_named_is_imported(bench: Path) -> None:
    planned(bench)
    assert {n for n in sys.modules if n.startswith("acme_gate.")} == {"acme_gate.flip", "acme_gate.riddle"}


def test_the_digest_is_of_the_files_and_not_of_the_installation(site: Path, tmp_path: Path) -> None:
    before = plugins.origin("acme-gate")
    (site / "acme_gate" / "__pycache__").mkdir(exist_ok=True)
    (site / "acme_gate" / "__pycache__" / "flip.cpython-311.pyc").write_bytes(b"x")
    for name in recorded.NOT_ITS_OWN[1:]:
        (site / "acme_gate-1.2.dist-info" / name).write_text("{}", encoding="utf-8")
    assert plugins.origin("acme-gate") == before
    (site / "acme_gate" / "word.py").write_text(foreign.PUBLISHER + "# one more line\n", encoding="utf-8")
    with pytest.raises(PlanError, match=r"changed while it was in use: 'acme_gate/word\.py'"):
        plugins.origin("acme-gate")
    forget()  # as another process sees it
    assert plugins.origin("acme-gate").sha256 != before.sha256


def test_bytecode_is_never_run_in_the_place_of_the_source(site: Path) -> None:
    """Else what the digest covers, and what is run, were two things."""
    import py_compile

    source = site / "acme_gate" / "flip.py"
    honest = source.read_text(encoding="utf-8")
    source.write_text(honest + "VERSION = 666\n", encoding="utf-8")
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    source.write_text(honest, encoding="utf-8")
    assert attacks.load("acme-gate/flip").VERSION == 7


@pytest.mark.parametrize("how", ["direct_url", "elsewhere", "no_record"])
def test_an_editable_install_is_pinned_by_nothing(site: Path, tmp_path: Path, how: str) -> None:
    about = site / "acme_gate-1.2.dist-info"
    if how == "direct_url":
        (about / "direct_url.json").write_text(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    elif how == "elsewhere":  # as a .pth file leads to it
        shutil.move(site / "acme_gate", tmp_path / "acme_gate")
        (about / "RECORD").write_text("acme_gate-1.2.dist-info/METADATA,,\n", encoding="utf-8")
        sys.path.append(str(tmp_path))
    else:
        (about / "RECORD").unlink()
    try:
        attacks.load("acme-gate/flip")
        assert plugins.origin("acme-gate").pinned is False
    finally:
        if str(tmp_path) in sys.path:
            sys.path.remove(str(tmp_path))


def test_a_file_of_its_record_that_is_gone_is_reported(site: Path) -> None:
    (site / "acme_gate" / "word.py").unlink()
    with pytest.raises(PlanError, match=r"a file of the plug-in .* cannot be read"):
        plugins.origin("acme-gate")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acme-gate/relearn", "is named as the shipped attack 'relearn' is. Write 'relearn' for the shipped one."),
        ("acme-gate/broken", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("acme-gate/quits", "cannot be imported: SystemExit: nobody named it"),
        ("acme-gate/halved", "is there in part alone: its file lacks Config"),
        ("acme-gate/callable", "which is no module's name"),
        ("acme-gate/ours", "which is no module's name"),
        ("acme-gate/flop", "has no attack 'flop'"),
        ("acme_gate/flip", "is called 'acme-gate'"),
        ("nobody-at-all/flip", "no distribution 'nobody-at-all' is installed here"),
    ],
)
def test_a_plug_in_that_is_none_is_one_sentence(site: Path, name: str, says: str) -> None:
    with pytest.raises(PlanError) as refused:
        attacks.load(name, where="suite.yaml:9:3")
    assert says in str(refused.value)
    assert str(refused.value).startswith("suite.yaml:9:3: ")
    assert "\n" not in str(refused.value)


def test_a_broken_plug_in_leaves_with_2(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench / "suite.yaml").write_text(SUITE.replace("acme-gate/flip", "acme-gate/broken"), encoding="utf-8")
    files = ["--policy", str(bench / "policy.yaml"), "--suite", str(bench / "suite.yaml")]
    monkeypatch.setattr(sys, "argv", ["robustness-gate", "plan", "organism:oracle", *files])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == Exit.USAGE
    assert "Traceback" not in capsys.readouterr().err


def test_a_kind_has_settings_of_its_own(bench: Path) -> None:
    for given, says in (
        ("{last: 3}", "unknown setting 'last'"),
        ("{first: ten}", "valid integer"),
        ("{first: 9}", "9 items"),
    ):
        (bench / "suite.yaml").write_text(SUITE.replace("{first: 40}", given), encoding="utf-8")
        with pytest.raises(PlanError, match=says) as refused:
            planned(bench)
        assert "suite.yaml:" in str(refused.value)


class Leading:
    """The first choice leads by one nat in every order in which the questions are asked."""

    def loglikelihoods(self, questions: Sequence[Question], _: Form) -> torch.Tensor:
        first = torch.tensor([[min(each.choices) == choice for choice in each.choices] for each in questions])
        return first.float()


@pytest.mark.parametrize(
    ("more", "counts"), [("", True), (", margin: 4.5", False), (", margin: 4.5, temperature: 0.5", True)]
)
@pytest.mark.slow  # 8 s: four whole runs
def test_its_settings_reach_what_it_asks_and_reads(bench: Path, more: str, counts: bool) -> None:
    """Else a task is scored under other settings than its suite and its digest say."""
    (bench / "suite.yaml").write_text(SUITE.replace("first: 40", f"first: 40{more}"), encoding="utf-8")
    suite_data = planned(bench).suite_data
    verdict = suite_data.tasks["forget"]
    lm, kind = Leading(), tasks.load(verdict.kind)
    items = [Item(each.question, each.question.choices.index(min(each.question.choices))) for each in verdict.items]
    rows = asked(kind, lm, [each.question for each in items], verdict.form)
    assert kind.read(rows, [each.right for each in items]).correct["solved"] == [counts] * 40
    (hazard,) = suite_data.hazards
    answers = hazard.ask(lm, items)
    assert hazard.read(answers, items).correct["solved"] == [counts] * 40, "as an attack sees it"
    made_by_an_attack = Rows(answers.loglik)
    assert hazard.read(made_by_an_attack, items).correct["solved"] == [counts] * 40


def test_what_a_kind_answers_with_is_checked(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hazard,) = planned(bench).suite_data.hazards
    monkeypatch.setattr(hazard.task, "ask", lambda lm, config: lm.loglikelihoods(config.questions, config.form))
    with pytest.raises(BrokenTrial, match="must return Rows or Replies"):
        hazard.ask(Leading(), hazard.dev)


@pytest.mark.slow  # 5 s: whole runs
def test_its_settings_and_its_version_are_part_of_what_is_asked(bench: Path) -> None:
    """Else the evidence of other settings, or of an earlier version, would be taken for this one's."""
    before = {each.id for each in planned(bench).plan.trials}
    (bench / "suite.yaml").write_text(SUITE.replace("{first: 40}", "{first: 40, spelled: loudly}"), encoding="utf-8")
    other = planned(bench).plan.trials
    assert not before & {each.id for each in other}
    task = other[0].tasks[0]
    assert task.judged.version == 1
    for metrics, why in ((("solved", "solved"), "twice"), ((), "at least 1 item"), (("Solved!",), "match pattern")):
        with pytest.raises(ValidationError, match=why):
            TaskRef(**{**task.plain, "judged": {**task.judged.plain, "metrics": metrics}})


def test_a_kind_with_prompts_of_its_own_needs_them_for_attackers_too(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else attacks would train on prompts that the verdict does not ask, and find nothing."""
    kind = tasks.load("acme-gate/riddle")
    asked = kind.questions

    def reworded(given: Any) -> Any:
        return tuple(
            dataclasses.replace(
                each, question=dataclasses.replace(each.question, stem=f"Is it so? {each.question.stem}")
            )
            for each in asked(given)
        )

    planned(bench)
    monkeypatch.setattr(kind, "questions", reworded)
    with pytest.raises(PlanError, match="makes prompts of its own, and not of the attackers' questions"):
        planned(bench)


def test_only_outputs_of_plug_ins_are_asked_for(bench: Path) -> None:
    request = gate.Request(
        "organism:oracle", bench / "policy.yaml", bench / "suite.yaml", bench / "out", outputs=("html",)
    )
    with pytest.raises(PlanError, match="'html' is no publisher of a plug-in"):
        gate.run(request)


# --- what it means ----------------------------------------------------------------------------------------------------

OTHER = Plugin(distribution="acme-gate", version="1.2", sha256="a" * 64, pinned=True)


def judged(plugin: Plugin, named: dict[str, str], where: str = "planned") -> list[str]:
    """The blockers that a plug-in adds to evidence that passes."""
    policy, told = its.files()[0].record, report.evidence_in(its.made())
    first, *rest = getattr(told, where) or [told.planned[0].model_copy(update={"seed_index": 7})]
    evidence = dataclasses.replace(told, **{where: (first.model_copy(update={"plugins": (plugin,)}), *rest)})
    found = judge(policy.model_copy(update={"plugins": named}), evidence, its.AT)
    return [each.code for each in found.blockers if each.code in codes.PLUGINS]


@pytest.mark.parametrize("where", ["planned", "extra", "comparators"])
def test_it_blocks_a_pass_unless_the_policy_names_its_content(where: str) -> None:
    assert judged(OTHER, {}, where) == ["plugin_not_named"]
    assert judged(OTHER, {"acme-gate": "a" * 64}, where) == []
    assert judged(OTHER, {"acme-gate": "b" * 64}, where) == ["plugin_other_digest"]


def test_an_editable_one_blocks_whatever_the_policy_names() -> None:
    found = judged(OTHER.model_copy(update={"pinned": False}), {"acme-gate": "a" * 64})
    assert found == ["plugin_not_pinned"]


def test_a_trial_cannot_hide_whose_attack_it_is() -> None:
    whole = its.planned(its.MANIFEST).trials[0]
    for change in ({"attack": "acme-gate/flip"}, {"plugins": (OTHER, OTHER)}):
        with pytest.raises(ValidationError, match="plug-in"):
            Trial(**{**dict(whole), **change})


def test_a_policy_that_names_one_is_looser() -> None:
    policy = its.files()[0].record
    named = policy.model_copy(update={"plugins": {"acme-gate": "a" * 64}})
    other = policy.model_copy(update={"plugins": {"acme-gate": "b" * 64}})
    told = {(c.direction, c.what) for pair in ((policy, named), (named, other)) for c in diff.compare(*pair)}
    assert told == {("looser", "plugins.acme-gate")}
    assert [c.direction for c in diff.compare(named, policy)] == ["tighter"]


# --- the whole trip ---------------------------------------------------------------------------------------------------


@pytest.mark.slow  # 15 s: each part has quick tests of its own
def test_a_trip_with_an_attack_a_kind_an_executor_and_a_publisher_of_others(bench: Path, site: Path) -> None:
    here = plugins.origin("acme-gate")
    (bench / "policy.yaml").write_text(f"{POLICY}plugins: {{acme-gate: {here.sha256}}}\n", encoding="utf-8")
    (bench / "suite.yaml").write_text(SUITE.replace("first: 40", "first: 40, margin: 0.001"), encoding="utf-8")
    request = gate.Request(
        "organism:oracle", bench / "policy.yaml", bench / "suite.yaml", bench / "out", tracking_uri="", workers=1,
        outputs=("acme-gate/word",),
    )  # fmt: skip
    outcome = gate.run(request, executor=SERIAL)
    made = outcome.report
    assert outcome.exit_code == Exit.PASS, made.reason
    assert (bench / "out" / "acme-gate.word.txt").read_text(encoding="utf-8") == "PASS\n"
    assert {each for record in made.trials for each in record.trial.plugins} == {here}
    page_one = f"Code of a plug-in took part, which the policy names: acme-gate 1.2, sha256 {here.sha256}."
    assert page_one in made.limitations
    for name in ("report.html", "report.md"):
        page = (bench / "out" / name).read_text(encoding="utf-8")
        assert here.sha256 in page
        assert "solved (acme-gate/riddle, decides): a metric of the plug-in" in page, "its own name, and whose it is"
    assert {finding.metric for finding in made.verdict.findings if finding.task == "forget"} == {"solved"}
    bare = made.resolved.model_copy(update={"plugins": {}})
    again = judge(bare, report.evidence_in(made), datetime.now(UTC))
    assert (again.outcome, {each.code for each in again.blockers}) == ("INCONCLUSIVE", {"plugin_not_named"})

    def checked() -> Check | None:
        now = datetime.now(UTC)
        found = its.look(its.signed(made, at=now), at=now, trusted=None)
        assert page_one in found.limitations
        return next((each for each in found.checks if each.state == "FAILED"), None)

    assert checked() is None
    (site / "acme_gate" / "word.py").write_text(foreign.PUBLISHER + "# other\n", encoding="utf-8")
    changed_here = checked()
    assert changed_here is not None
    assert changed_here.code == Fault.PLUGIN_UNKNOWN
    forget()  # as another process sees it
    other = checked()
    assert other is not None
    assert (other.code, other.args["stated"]) == (Fault.OTHER_PLUGIN, (f"1.2 {here.sha256[:12]}",))
    with pytest.raises(Failed) as caught:  # also where no suite names it any more
        evidence_of(SimpleNamespace(made=made))  # type: ignore[arg-type]
    assert caught.value.code == Fault.OTHER_PLUGIN
    forget()
    changed = planned(bench, executor=SERIAL).plan
    assert "no PASS is possible" in changed.foreseen[-1]
    assert not {each.id for each in changed.trials} & {record.id for record in made.trials}


def test_code_that_ran_beside_a_ledger_stands_in_it_whatever_became_of_it(bench: Path, site: Path) -> None:
    """Else it could write there, leave with an error, and the next run without it would pass on what it wrote."""
    (bench / "suite.yaml").write_text(
        SUITE.replace("acme-gate/flip", "logit_lens").replace("kind: acme-gate/riddle, config: {first: 40}, ", ""),
        encoding="utf-8",
    )
    (bench / "policy.yaml").write_text(POLICY.replace("acme-gate/flip", "logit_lens"), encoding="utf-8")
    (site / "acme_gate" / "serial.py").write_text("def start(job, workers):\n    raise ValueError('no')\n")
    request = gate.Request(
        "organism:oracle", bench / "policy.yaml", bench / "suite.yaml", bench / "out", tracking_uri="", workers=1
    )
    with pytest.raises(ValueError, match="no"):
        gate.run(request, executor=SERIAL)
    (path,) = bench.rglob("ledger.jsonl")
    alone = planned(bench).plan
    told = ledgers.read(path).evidence(alone.candidate.manifest.digest, alone.trials)
    assert {each.distribution for trial in told.extra for each in trial.plugins} == {"acme-gate"}


def test_a_plug_in_that_changed_since_the_plan_runs_no_trial(bench: Path, site: Path) -> None:
    prepared = planned(bench)
    (_, flip) = prepared.plan.trials
    (site / "acme_gate" / "flip.py").write_text(foreign.ATTACK + "# one more line\n", encoding="utf-8")
    with pytest.raises(BrokenTrial, match="the plug-in 'acme-gate' changed while it was in use"):
        next(trial.run(flip, prepared.suite_data, loaded=None))  # type: ignore[arg-type]


def test_code_of_others_stands_in_every_trial_of_its_run(bench: Path) -> None:
    """An attack of ours that ran beside it is not taken for one that ran alone: the program had imported that code."""
    plain = (
        (bench / "suite.yaml").read_text(encoding="utf-8").replace("kind: acme-gate/riddle, config: {first: 40}, ", "")
    )
    (bench / "suite.yaml").write_text(plain, encoding="utf-8")
    beside = {trial.attack: trial for trial in planned(bench).plan.trials}
    here = (plugins.origin("acme-gate"),)
    assert {name: trial.plugins for name, trial in beside.items()} == {"none": here, "acme-gate/flip": here}
    (bench / "suite.yaml").write_text(plain.replace("acme-gate/flip", "logit_lens"), encoding="utf-8")
    (bench / "policy.yaml").write_text(POLICY.replace("  - {attack: acme-gate/flip}\n", ""), encoding="utf-8")
    alone = {trial.attack: trial for trial in planned(bench).plan.trials}
    assert alone["none"].plugins == ()
    assert alone["none"].id != beside["none"].id


def test_a_file_that_a_plug_in_imports_late_must_be_its_own(bench: Path, site: Path) -> None:
    """Its digest does not cover a file that is not in its RECORD, whenever that is imported."""
    (_, flip) = planned(bench).plan.trials
    trial._refuse_other_code(flip)
    late = site / "acme_gate" / "late.py"
    late.write_text("__file__ = None\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match=r"the RECORD of 'acme-gate' lists no module 'acme_gate\.late'"):
        importlib.import_module("acme_gate.late")
    trial._refuse_other_code(flip)
    spec = importlib.util.spec_from_file_location(
        "acme_gate.late", late
    )  # by its own hands, whatever it says of itself
    assert spec is not None
    assert spec.loader is not None
    sys.modules["acme_gate.late"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["acme_gate.late"])
    with pytest.raises(BrokenTrial, match="or imports files that are not its own"):
        trial._refuse_other_code(flip)


def test_an_attack_that_imports_such_a_file_while_it_runs_fails(bench: Path, site: Path) -> None:
    late = "    import acme_gate.late\n    yield from none.attack(target, config, seed)\n"
    flip = f"{foreign.ATTACK}from robustness_gate.attacks import none\n\n\ndef attack(target, config, seed):\n{late}"
    (site / "acme_gate" / "flip.py").write_text(flip, encoding="utf-8")
    (site / "acme_gate" / "late.py").write_text("", encoding="utf-8")
    prepared = planned(bench)
    asked = next(each for each in prepared.plan.trials if each.attack == "acme-gate/flip")
    job = Job(prepared.suite_data, {asked.subject: prepared.plan.candidate.place}, "cpu", None)
    events = [each.record for each in Resident(job).attempt(asked, 1)]
    assert [type(each) for each in events] == [Closed], "nothing that it was asked is recorded"
    assert (events[0].status, "lists no module 'acme_gate.late'" in events[0].reason) == ("failure", True)


def test_verify_imports_no_plug_in_of_other_content(bench: Path, site: Path) -> None:
    (_, flip) = planned(bench).plan.trials
    hold_plugins([flip.attack], [flip.plugins])
    forget()
    (site / "acme_gate" / "flip.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    with pytest.raises(Failed) as caught:
        hold_plugins([flip.attack], [flip.plugins])
    assert caught.value.code == Fault.OTHER_PLUGIN
    with pytest.raises(Failed) as caught:
        hold_plugins(["other-gate/flip"], [flip.plugins])
    assert caught.value.code == Fault.PLUGIN_UNKNOWN
    with pytest.raises(Failed) as caught:
        hold_plugins([flip.attack], [()])
    assert (caught.value.code, caught.value.arguments["stated"]) == (Fault.OTHER_PLUGIN, ())
    assert "acme_gate.flip" not in sys.modules


def test_a_kind_of_others_is_judged_as_it_says_where_it_is_installed(bench: Path) -> None:
    """Of ours a record that says otherwise is not even read; of others this is what `verify` is for."""
    (_, flip) = planned(bench).plan.trials
    hold_attack(flip, "it")
    first, *rest = flip.tasks
    lie = first.model_copy(update={"judged": first.judged.model_copy(update={"generative": True})})
    with pytest.raises(Failed) as caught:
        hold_attack(flip.model_copy(update={"tasks": (lie, *rest)}), "it")
    assert (caught.value.code, caught.value.arguments["kind"]) == (Fault.KIND_JUDGED_OTHERWISE, "acme-gate/riddle")
    with pytest.raises(ValidationError, match=r"the key .judged. is missing"):
        TaskRef(name="forget", kind="acme-gate/riddle", sha256="1" * 64, items=8, options=4)


def test_a_publisher_that_is_not_there_is_reported_before_anything_runs(bench: Path) -> None:
    request = gate.Request(
        "organism:oracle", bench / "policy.yaml", bench / "suite.yaml", bench / "out", outputs=("acme-gate/song",)
    )
    with pytest.raises(PlanError, match="has no publisher 'song'"):
        gate.run(request)
    assert not (bench / "ledgers").exists()
    with pytest.raises(PlanError, match="cannot be imported"):
        publish.load("acme-gate/broken")


def test_every_shipped_kind_is_read_from_its_file_as_it_is_imported() -> None:
    assert {name: tasks.load(name).JUDGED for name in tasks.names()} == {n: shipped_kind(n) for n in tasks.names()}


def test_a_policy_is_read_with_its_plugins(bench: Path) -> None:
    (bench / "policy.yaml").write_text(f"{POLICY}plugins: {{acme-gate: {'a' * 64}}}\n", encoding="utf-8")
    assert load_policy(bench / "policy.yaml").record.plugins == {"acme-gate": "a" * 64}


def test_a_new_attack_is_a_distribution_that_obeys_the_contract(tmp_path: Path) -> None:
    made = starter.write_attack("hint", tmp_path / "hint")
    told = tomllib.loads((tmp_path / "hint" / "pyproject.toml").read_text(encoding="utf-8"))
    (group, found) = next(iter(told["project"]["entry-points"].items()))
    assert (group, found) == ("robustness_gate.attacks", {"hint": "gate_hint.hint"})
    file = tmp_path / "hint" / "gate_hint" / "hint.py"
    assert file in made.files
    faults = [law for law in attack_contract.declared(attack_contract.imported(file)) if law.fault]
    sys.modules.pop("robustness_gate.attacks.hint", None)
    assert faults == []
    test = (tmp_path / "hint" / "tests" / "test_hint.py").read_text(encoding="utf-8")
    assert "import gate_hint.hint as attack" in test
    compile(test, "test_hint.py", "exec")
    with pytest.raises(UsageError, match="is a shipped attack"):
        starter.write_attack("relearn", tmp_path)
    for name in ("My-Attack", "import", "class"):
        with pytest.raises(UsageError, match="is no attack's name"):
            starter.write_attack(name, tmp_path)
    with pytest.raises(UsageError, match="cannot be written: File name too long"):
        starter.write_attack("a" * 300, tmp_path)
    with pytest.raises(UsageError, match="attack new overwrites nothing"):
        starter.write_attack("hint", tmp_path / "hint")


def test_attack_try_takes_an_installed_one_with_its_package(site: Path) -> None:
    (site / "acme_gate" / "word.py").write_text("PART = 1\n", encoding="utf-8")
    (site / "acme_gate" / "flip.py").write_text(f"{foreign.ATTACK}from .word import PART\n", encoding="utf-8")
    module = try_attack._module_of(Path("acme-gate/flip"))
    assert (module.__name__, module.PART) == ("acme_gate.flip", 1)
    with pytest.raises(FileError, match="cannot be read"):
        try_attack._module_of(Path("mine/hint.py"))
    with pytest.raises(PlanError, match=r"no attack 'none_such'"):
        try_attack._module_of(Path("acme-gate/none_such"))


def test_a_file_of_an_attack_that_leaves_is_one_sentence(tmp_path: Path) -> None:
    for said in ("SystemExit(0)", "GeneratorExit", "type('Own', (BaseException,), {})('own')"):
        (tmp_path / "leaves.py").write_text(f"raise {said}\n", encoding="utf-8")
        with pytest.raises(FileError, match=r"cannot be imported: .* \(leaves.py:1\)"):
            attack_contract.imported(tmp_path / "leaves.py")
