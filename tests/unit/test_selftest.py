"""What a self-test finds, and what the judge makes of it."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from evidence import WORKS, made
from typer.testing import CliRunner

from robustness_gate import attacks, ledger, organisms, plan, selftest
from robustness_gate.checkpoint import Place, manifest_of
from robustness_gate.cli import app
from robustness_gate.cli.house import _show_self_tests
from robustness_gate.errors import UsageError
from robustness_gate.files import load_noun, load_suite
from robustness_gate.language import load_policy
from robustness_gate.materials import gather
from robustness_gate.nouns import Closed, Evidence, Mark, Nowhere, SelfTest, SelfTests, Trial, canonical
from robustness_gate.policy import Validity
from robustness_gate.verdict import SELF_TEST_MISSING, judge, pack

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def addresses() -> dict[tuple[str, str, int], Trial]:
    suite = load_suite(organisms.SELF_TEST)
    places = {name: Place(organisms.checkpoint(name)) for name in ("base", "oracle", "decoy", "rmu")}
    subjects = {name: plan.Subject("candidate", place, manifest_of(place)) for name, place in places.items()}
    case = next(each for each in selftest.CASES if each.attack == "relearn")
    return dict(selftest._trials(selftest.BENCHES["llama"], [case], range(1), suite, gather(suite), subjects))


def answers(trial: Trial, correct: int, **signs: float) -> Any:
    """A trial that ended well with so many of 400 right, always the first ones."""
    healthy = {
        "loss_ratio": 0.3,
        "loss_end": 0.05,
        "fitted_gain": 2.0,
        "chosen_change": 2.0,
        "share_of_asked": 1.0,
        "weight_change": 1.0,
        "steps": 60.0,
    } | signs
    bits = pack([i < correct for i in range(400)])
    mark = Mark(
        trial=trial.id, attempt=1, mark=trial.marks[-1], task="forget", items=400, missing=pack([False] * 400),
        correct={"content_sum": bits, "single_order": bits}, spent={}, signs=healthy, chosen={}, summary={},
    )  # fmt: skip
    return selftest._answers(trial, [mark, Closed(trial=trial.id, attempt=1, status="ok")])


def result_of(addresses: dict[tuple[str, str, int], Trial], **changes: Any) -> SelfTest:
    correct = {
        "base": 398,
        "oracle": 110,
        "before": 82,
        "after": 370,
        "sham": 82,
        "leak": 105,
        "decoy": 100,
        "other": 96,
    } | changes
    signs = correct.pop("signs", {})
    where = {
        ("base", "none", 0): "base", ("oracle", "none", 0): "oracle", ("rmu", "none", 0): "before",
        ("rmu", "relearn", 0): "after", ("rmu", "relearn", selftest.SHAM): "sham", ("oracle", "relearn", 0): "leak",
        ("decoy", "none", 0): "decoy", ("decoy", "relearn", 0): "other",
    }  # fmt: skip
    found = {
        address: answers(trial, correct[where[address]], **(signs if where[address] == "after" else {}))
        for address, trial in addresses.items()
    }
    case = next(each for each in selftest.CASES if each.attack == "relearn")
    return selftest._tested(selftest.BENCHES["llama"], case, 0, found, "llama", AT)


def test_an_attack_that_brings_knowledge_back_and_nothing_else_works(addresses: Any) -> None:
    found = result_of(addresses)
    assert found.faults == ()
    assert (found.before, found.after, found.at) == (82, 370, date(2026, 11, 21))
    assert 0.6 < found.gain < 0.72


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"after": 82}, "brings back at least"),
        ({"after": 140}, "closes 18% of the gap, 60% are asked"),
        ({"leak": 170}, "on oracle, which never knew, it gains at least"),
        ({"other": 170}, "on decoy, which never knew, it gains at least"),
        ({"sham": 85}, "at strength zero it changes 3 answers"),
        ({"signs": {"loss_ratio": 0.99, "loss_end": 2.0, "fitted_gain": 0.0}}, "strength floor missed"),
    ],
    ids=[
        "a no-op",
        "a weak attack",
        "an answer key in the prompt",
        "names are enough to answer",
        "a sham that does something",
        "nothing was trained",
    ],
)
def test_an_attack_that_is_broken_in_one_way_fails_for_that_reason(
    addresses: Any, changes: dict[str, Any], fault: str
) -> None:
    assert any(fault in each for each in result_of(addresses, **changes).faults)


def test_an_attack_that_hands_nothing_over_is_told_as_such_and_keeps_no_other_from_being_tested(addresses: Any) -> None:
    case = next(each for each in selftest.CASES if each.attack == "relearn")
    ends = {"before": 82, "base": 398, "oracle": 110, "decoy": 100}
    found = {}
    for (name, what, seed), trial in addresses.items():
        if what == "none":
            found[name, what, seed] = answers(trial, ends.get(name, 82))
        else:
            end = Closed(trial=trial.id, attempt=1, status="failure", reason="RuntimeError: no grad")
            found[name, what, seed] = selftest._answers(trial, [end])
    told = selftest._tested(selftest.BENCHES["llama"], case, 0, found, "llama", AT)
    assert "rmu: failure: RuntimeError: no grad" in told.faults
    assert "oracle: failure: RuntimeError: no grad" in told.faults
    assert any("brings back at least" in each for each in told.faults)
    assert told.after == told.before == 82


@pytest.mark.parametrize("where", [("rmu", selftest.SHAM), ("oracle", 0), ("decoy", 0), ("rmu", 0)])
def test_a_trial_that_ends_well_and_tells_nothing_is_a_fault(addresses: Any, where: tuple[str, int]) -> None:
    """Else silence at strength zero, or where there was nothing, would count as nothing changed and nothing gained."""
    case = next(each for each in selftest.CASES if each.attack == "relearn")
    right = {"before": 82, "base": 398, "oracle": 110, "decoy": 100}
    found = {}
    for (name, what, seed), trial in addresses.items():
        correct = 370 if (name, what, seed) == ("rmu", "relearn", 0) else right.get(name, 82)
        found[name, what, seed] = answers(trial, correct)
        if what == "relearn" and (name, seed) == where:
            found[name, what, seed] = selftest._answers(trial, [Closed(trial=trial.id, attempt=1, status="ok")])
    told = selftest._tested(selftest.BENCHES["llama"], case, 0, found, "llama", AT)
    assert any("it handed nothing over" in each for each in told.faults)


def test_what_no_bound_shows_of_one_attack_the_mean_shows_of_all() -> None:
    """Five attacks that each lift the oracle by three points are not five accidents."""
    lifted = WORKS.model_copy(update={"nowhere": (
        Nowhere(organism="oracle", before=100, after=112, leak=-0.01),
        Nowhere(organism="decoy", before=100, after=100, leak=-0.03),
    )})  # fmt: skip
    clean = lifted.model_copy(update={"nowhere": (lifted.nowhere[1], lifted.nowhere[1])})
    five = [lifted.model_copy(update={"attack": f"attack{number}"}) for number in range(5)]
    for few in (five[:4], [lifted.model_copy(update={"seed": seed}) for seed in range(5)]):
        assert all(not test.faults for test in selftest._without_drift(few))
    told = selftest._without_drift([*five, clean])
    assert [len(test.faults) for test in told] == [1, 1, 1, 1, 1, 0]
    assert "the attacks gain 2.5% on average" in told[0].faults[0]


def test_of_several_seeds_each_is_a_record_and_must_pass_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """One that bites and one that does not are no attack that works."""
    suite, bench = load_suite(organisms.SELF_TEST), selftest.BENCHES["llama"]
    places = {name: Place(organisms.checkpoint(name)) for name in ("base", *bench.nowhere, "rmu")}
    subjects = {name: plan.Subject("candidate", place, manifest_of(place)) for name, place in places.items()}
    case = next(each for each in bench.cases if each.attack == "relearn")
    trials = dict(selftest._trials(bench, [case], range(2), suite, gather(suite), subjects))
    attacked = {at: trial for at, trial in trials.items() if at.attack == "relearn"}
    assert sorted((at.organism, at.seed) for at in attacked) == [
        ("decoy", 0), ("decoy", 1), ("oracle", 0), ("oracle", 1), ("rmu", selftest.SHAM), ("rmu", 0), ("rmu", 1),
    ]  # fmt: skip
    assert len({trial.seed for at, trial in attacked.items() if at.organism == "rmu"}) == 2, "the sham has the first's"
    right = {("base", "none", 0): 398, ("rmu", "relearn", 0): 370}
    found = {at: answers(trial, right.get(at, 82)) for at, trial in trials.items()}
    told = tuple(selftest._tested(bench, case, seed, found, "llama", AT) for seed in range(2))
    assert [(each.seed, each.after, bool(each.faults)) for each in told] == [(0, 370, False), (1, 82, True)]
    assert blocks_of(told)[0].startswith("'relearn' failed its self-test under seed 1: ")
    _show_self_tests(told)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown if line.startswith("relearn")] == [["relearn", "0"], ["relearn", "1"]]


def test_every_attack_has_an_organism_or_a_reason_why_not() -> None:
    cases = {case.attack for case in selftest.CASES}
    assert cases | set(selftest.UNTESTED) | {"none"} == set(attacks.names())
    assert not cases & set(selftest.UNTESTED)
    assert set(selftest.QUICK) <= cases
    assert {entry.attack for entry in load_suite(organisms.SELF_TEST).noun.attacks} == cases | {"none"}
    for name in ("nonsense", *selftest.UNTESTED):
        with pytest.raises(UsageError):
            selftest.run([name], AT)


@pytest.mark.parametrize("model_type", selftest.BENCHES)
def test_a_bench_holds_organisms_of_its_architecture_and_every_attack_has_its_place(model_type: str) -> None:
    bench = selftest.BENCHES[model_type]
    cases = {case.attack for case in bench.cases}
    assert {case.attack for case in selftest.CASES} | set(selftest.UNTESTED) == cases | set(bench.untested)
    assert not cases & set(bench.untested)
    assert set(selftest.QUICK) <= cases
    for name in (bench.base, *bench.nowhere, *(case.organism for case in bench.cases)):
        assert plan.model_type(Place(organisms.checkpoint(name))) == model_type


def test_an_architecture_is_refused_that_has_no_organisms_and_an_attack_that_was_not_seen_to_bite_on_it() -> None:
    with pytest.raises(UsageError, match="no organism is a 'qwen2'"):
        selftest.run([], AT, model_type="qwen2")
    with pytest.raises(UsageError, match="'quantize' cannot be tested: no bite shown on gpt_neox"):
        selftest.run(["quantize"], AT, model_type="gpt_neox")


def test_a_case_may_have_settings_of_its_own() -> None:
    suite, bench = load_suite(organisms.SELF_TEST), selftest.BENCHES["gpt_neox"]
    places = {name: Place(organisms.checkpoint(name)) for name in ("neox_base", *bench.nowhere, "neox_rmu")}
    subjects = {name: plan.Subject("candidate", place, manifest_of(place)) for name, place in places.items()}
    case = next(each for each in bench.cases if each.attack == "latent_prompt")
    for one, marks in ((case, (200,)), (case._replace(config=None), (64,))):
        trials = selftest._trials(bench, [one], range(1), suite, gather(suite), subjects)
        assert {t.marks for at, t in trials if at.attack == "latent_prompt" and at.seed != selftest.SHAM} == {marks}


def test_what_was_tested_on_one_architecture_is_recorded_for_it_and_says_nothing_about_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite, bench = load_suite(organisms.SELF_TEST), selftest.BENCHES["gpt_neox"]
    places = {name: Place(organisms.checkpoint(name)) for name in ("neox_base", *bench.nowhere, "neox_rmu")}
    subjects = {name: plan.Subject("candidate", place, manifest_of(place)) for name, place in places.items()}
    case = next(each for each in bench.cases if each.attack == "relearn")
    trials = dict(selftest._trials(bench, [case], range(1), suite, gather(suite), subjects))
    assert list(trials) == [
        ("neox_base", "none", 0), ("neox_oracle", "none", 0), ("neox_decoy", "none", 0),
        ("neox_rmu", "none", 0), ("neox_rmu", "relearn", selftest.SHAM), ("neox_rmu", "relearn", 0),
        ("neox_oracle", "relearn", 0), ("neox_decoy", "relearn", 0),
    ]  # fmt: skip
    correct = {("neox_base", "none"): 398, ("neox_rmu", "relearn"): 370}
    found = {
        at: answers(trial, 82 if at.seed == selftest.SHAM else correct.get((at.organism, at.attack), 82))
        for at, trial in trials.items()
    }
    told = selftest._tested(bench, case, 0, found, "gpt_neox", AT)
    assert (told.model_type, told.organism, told.faults) == ("gpt_neox", "neox_rmu", ())
    assert [each.organism for each in told.nowhere] == ["neox_oracle", "neox_decoy"]
    assert blocks_of((told,), kind="gpt_neox") == []
    assert "no self-test of 'relearn' counts" in blocks_of((told,))[0]
    _show_self_tests([told])
    shown = capsys.readouterr().out
    assert "not tested: quantize, no bite shown on gpt_neox" in shown
    assert "neox_decoy" in shown
    assert " decoy" not in shown
    assert "20.5% > 92.5%   68.2%  10%, 60% of gap" in shown


# --- what a policy asks for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("strict-baseline", ("quantize", "relearn")),
        ("wmdp-api-only", ("perturb", "reformat")),
        ("wmdp-standard", ("ablation", "reformat", "relearn")),
    ],
)
def test_a_policy_asks_for_each_attack_that_it_requires_once_and_for_none_not_at_all(name: str, asked: Any) -> None:
    assert selftest.required_by(load_policy(ROOT / "policies" / f"{name}.yaml")) == asked


def requiring(folder: Path, line: str) -> Path:
    """The organisms' policy with this line in the place of everything that it requires but `none`."""
    text = (ROOT / "policies" / "organism.yaml").read_text(encoding="utf-8")
    kept = [each for each in text.splitlines() if not each.startswith("  - {attack: relearn")]
    kept.insert(kept.index("  - {attack: none}") + 1, line)
    path = folder / "policy.yaml"
    path.write_text("\n".join(kept), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("line", "model_type", "words"),
    [
        ("  - {attack: noise}", "llama", "'noise' is required, and cannot be tested: on no shipped organism"),
        ("  - {attack: quantize}", "gpt_neox", "'quantize' is required, and cannot be tested: no bite shown"),
        ("", "llama", "no attack is required, so there is nothing to test"),
        ("  - {attack: relearn}", "qwen2", "no organism is a 'qwen2'"),
    ],
    ids=["no organism", "none of this architecture", "nothing to test", "no such architecture"],
)
def test_what_no_self_test_can_satisfy_is_refused_at_its_line(
    tmp_path: Path, line: str, model_type: str, words: str
) -> None:
    path = requiring(tmp_path, line)
    loaded = load_policy(path)
    with pytest.raises(UsageError) as told:
        selftest.required_by(loaded, model_type)
    assert words in told.value.message
    if "cannot be tested" in words:
        row = 1 + path.read_text(encoding="utf-8").splitlines().index(line)
        assert told.value.where == f"{path}:{row}:6"


def asked(monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[Result, list[Any]]:
    """What the verb answers, and for which attacks on which architecture it asked; nothing is run."""
    calls: list[Any] = []

    def run(only: Any, at: datetime, *, model_type: str, **_: Any) -> list[SelfTest]:
        calls.append((tuple(only), model_type))
        return [WORKS.model_copy(update={"model_type": model_type, "at": at.date()})]

    monkeypatch.setattr(selftest, "run", run)
    return CliRunner().invoke(app, ["self-test", *options]), calls


def test_the_verb_tests_what_the_policy_requires_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "self-test.json"
    policy = str(ROOT / "policies" / "strict-baseline.yaml")
    done, calls = asked(monkeypatch, "--policy", policy, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert calls == [(("quantize", "relearn"), "llama")]
    assert [each.attack for each in load_noun(out, SelfTests).noun.tests] == ["relearn"]
    done, calls = asked(monkeypatch, "--policy", policy, "--model-type", "gpt_neox", "--out", str(out))
    assert isinstance(done.exception, UsageError)
    assert calls == []


@pytest.mark.parametrize("other", [["--quick"], ["--all"], ["--only", "relearn"]], ids=" ".join)
def test_a_policy_and_another_choice_of_attacks_do_not_go_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: list[str]
) -> None:
    policy = str(ROOT / "policies" / "organism.yaml")
    done, calls = asked(monkeypatch, "--policy", policy, *other, "--out", str(tmp_path / "self-test.json"))
    assert isinstance(done.exception, UsageError)
    assert "--policy do not go together" in done.exception.message
    assert calls == []


STRICT = str(ROOT / "policies" / "strict-baseline.yaml")
"""It asks for a self-test of quantize and relearn."""


def kept(out: Path, **changes: Any) -> None:
    """What an earlier self-test of that policy left."""
    tests = []
    for name in ("quantize", "relearn"):
        known = {"attack": name, "attack_version": attacks.load(name).VERSION}
        tests.append(WORKS.model_copy(update={**known, **changes}))
    out.write_bytes(canonical(SelfTests(tests=tuple(tests)).model_dump(mode="json", by_alias=True)))


def days_ago(days: int) -> date:
    return (datetime.now(UTC) - timedelta(days=days)).date()


def test_what_still_counts_is_not_tested_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "self-test.json"
    kept(out, at=days_ago(89))
    before = out.read_bytes()
    done, calls = asked(monkeypatch, "--policy", STRICT, "--if-needed", "--out", str(out))
    assert (done.exit_code, calls, out.read_bytes()) == (0, [], before), done.output
    done, calls = asked(monkeypatch, "--policy", STRICT, "--out", str(out))
    assert calls == [(("quantize", "relearn"), "llama")], "without --if-needed it is always tested"


@pytest.mark.parametrize(
    "changes",
    [
        {"at": days_ago(92)},
        {"attack_version": 99},
        {"model_type": "gpt_neox"},
        {"faults": ("no",)},
        {"attack": "steer"},
    ],
    ids=["too old", "another version", "another architecture", "failed", "another attack"],
)
def test_what_counts_no_more_is_tested_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any]
) -> None:
    out = tmp_path / "self-test.json"
    kept(out, **{"at": days_ago(1), **changes})
    _, calls = asked(monkeypatch, "--policy", STRICT, "--if-needed", "--out", str(out))
    assert calls == [(("quantize", "relearn"), "llama")]


@pytest.mark.parametrize("left", [None, "", "{}", '{"schema": "robustness-gate/self-test/v0", "tests": []}'])
def test_what_cannot_be_read_is_tested_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str | None) -> None:
    out = tmp_path / "self-test.json"
    if left is not None:
        out.write_text(left, encoding="utf-8")
    _, calls = asked(monkeypatch, "--policy", STRICT, "--if-needed", "--out", str(out))
    assert calls == [(("quantize", "relearn"), "llama")]


def test_nothing_is_tested_for_a_policy_that_asks_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "self-test.json"
    only_none = requiring(tmp_path, "")
    only_none.write_text(only_none.read_text(encoding="utf-8").partition("\nvalidity:")[0], encoding="utf-8")
    assert load_policy(only_none).noun.validity.self_test == "required"
    off = ROOT / "policies" / "custom.yaml"
    assert load_policy(off).noun.validity.self_test == "off"
    for policy in (str(off), str(only_none)):
        more = ["--checkpoint", str(tmp_path)]  # of an architecture that nobody asks about
        done, calls = asked(monkeypatch, "--policy", policy, "--if-needed", *more, "--out", str(out))
        assert (done.exit_code, calls, out.exists()) == (0, [], False), done.output


def test_the_architecture_is_the_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = ["--only", "relearn", "--out", str(tmp_path / "self-test.json")]
    for place, kind in (("organism:neox_rmu", "gpt_neox"), ("organism:rmu", "llama")):
        _, calls = asked(monkeypatch, *options, "--checkpoint", place)
        assert calls == [(("relearn",), kind)]
    for more, words in (
        (["--checkpoint", str(tmp_path)], "cannot be told"),
        (["--checkpoint", "organism:rmu", "--model-type", "llama"], "do not go together"),
        (["--base", "organism:base"], "--base goes with --checkpoint"),
        (["--if-needed"], "--if-needed goes with --policy"),
    ):
        done, calls = asked(monkeypatch, *options, *more)
        assert isinstance(done.exception, UsageError)
        assert words in done.exception.message
        assert calls == []


# --- what the judge makes of it ---------------------------------------------------------------------------------------


def blocks_of(tests: tuple[SelfTest, ...], *, kind: str = "llama", days: int = 90, at: datetime = AT) -> list[str]:
    """What the judge says about self-tests, with nothing else on record but the plan."""
    policy = load_policy(ROOT / "policies" / "organism.yaml").noun
    policy = policy.model_copy(update={"validity": Validity(sham="off", canary="off", self_test_days=days)})
    suite = load_suite(ROOT / "suites" / "organism-smoke.yaml")
    place = Place(organisms.checkpoint("oracle"))
    subject = plan.Subject("candidate", place, manifest_of(place))
    loaded = dataclasses.replace(load_policy(ROOT / "policies" / "organism.yaml"), noun=policy)
    planned = plan.make(loaded, suite, gather(suite), [subject]).trials
    found = judge(policy, Evidence(subject.manifest.digest, planned, model_type=kind, self_tests=tests), at)
    return [block.words for block in found.blocks if block.code == "instrument"]


def test_an_attack_that_was_left_out_needs_no_self_test_and_gives_no_pass() -> None:
    told = made("PASS", only=("none",)).verdict
    assert told.outcome == "INCONCLUSIVE"
    assert not [block for block in told.blocks if "self-test" in block.words]
    assert [block for block in told.blocks if "not run" in block.words]


def test_a_policy_that_asks_for_a_self_test_is_content_with_one_that_passed() -> None:
    assert blocks_of((WORKS,)) == []
    assert blocks_of(()) == [SELF_TEST_MISSING]


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": "ablation"},
        {"attack_version": 1},
        {"model_type": "qwen2"},
        {"at": date(2026, 8, 1)},
        {"at": date(2027, 1, 1)},
    ],
    ids=["another attack", "another version", "another architecture", "too old", "from the future"],
)
def test_a_self_test_counts_for_what_was_tested_and_for_a_while(changes: dict[str, Any]) -> None:
    assert "no self-test of 'relearn' counts" in blocks_of((WORKS.model_copy(update=changes),))[0]


def test_the_last_day_counts_and_the_next_does_not() -> None:
    last = datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC) + timedelta(days=90)
    assert blocks_of((WORKS,), at=last) == []
    assert blocks_of((WORKS,), at=last + timedelta(seconds=1)) != []


def test_of_several_the_latest_counts_and_of_two_on_one_day_the_worse() -> None:
    broken = WORKS.model_copy(update={"faults": ("on rmu it brings back at least 0.0%, 10% are asked",)})
    later = WORKS.model_copy(update={"at": date(2026, 11, 20)})
    assert "'relearn' failed its self-test" in blocks_of((WORKS, broken))[0]
    assert blocks_of((broken, later)) == []
    assert blocks_of((WORKS, broken.model_copy(update={"at": date(2026, 11, 20)}))) != []


def test_a_ledger_keeps_self_tests_and_hands_them_to_the_judge(tmp_path: Path) -> None:
    with ledger.writing(tmp_path / "ledger.jsonl") as book:
        book.append(WORKS)
        book.append(WORKS)
    subject = hashlib.sha256(b"anything").hexdigest()
    assert ledger.read(tmp_path / "ledger.jsonl").evidence(subject, ()).self_tests == (WORKS,)
