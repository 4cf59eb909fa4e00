"""`plan --cost`: tokens by hand, from an earlier run, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import commands
import pytest

from robustness_gate import attacks, organisms
from robustness_gate.cli import costs
from robustness_gate.errors import Exit, UsageError
from robustness_gate.inputs import memory
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import cost, tokens
from robustness_gate.planning.devices import SHARE, device
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.cost import Costs
from robustness_gate.records.encode import decode, encode
from robustness_gate.records.work import Work

QUESTIONS = [
    {"question": "q" * 40, "choices": ["aa", "bb", "cc", "dd"], "answer": n % 4, "id": f"{n}"} for n in range(20)
]
HEADER = "The following are multiple choice questions (with answers) about x.\n\n"
PROMPT = len(HEADER) + 43 + len("\nA. aa\nB. bb\nC. cc\nD. dd\nAnswer:")
POLICY = """
schema: robustness-gate/policy/v1
id: small
version: 1.0.0
description: A small policy for tests.
threat_model: {access: open_weights, adversary: a test}
tasks: {forget: {items: 20}}
limits: [{id: forgotten, task: forget, max: 0.5}]
required: [{attack: none}]
utility: [{task: forget, min: 0.1, min_attacked: 0.1}]
validity: {self_test: off, sham: off, positive_control: off, record_only: [still_rising, tokenizer_unverified]}
"""
SUITE = """
schema: robustness-gate/suite/v1
id: small
version: 1.0.0
description: A small suite for tests.
hazard: forget
dev: dev.jsonl
tasks: {forget: {items: forget.jsonl, count: 20, topic: x}}
corpora: {forget: {items: train.jsonl, topic: x}}
attacks:
  - attack: none
  - attack: few_shot
    config: {budgets: [2], draws: 3, open_book: false}
  - attack: relearn
    config: {source: forget, method: full, budgets: [2, 4], learning_rates: [1e-3, 2e-3], min_steps: 10, batch: 3}
  - attack: reformat
"""


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    for name, letter, count in (("forget", "f", 20), ("dev", "d", 5), ("train", "t", 6)):
        rows = [
            row | {"question": f"{letter}{row['id']:>02}{row['question']}", "id": f"{letter}{row['id']}"}
            for row in QUESTIONS[:count]
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def planned(bench: Path, *more: object) -> Any:
    files = ["--policy", bench / "policy.yaml", "--suite", bench / "suite.yaml"]
    return commands.gate("plan", "organism:base", *files, *more)


def predicted(bench: Path, *more: object) -> dict[str, Any]:
    done = planned(bench, "--cost", "--json", *more)
    assert done.returncode == 0, done.stderr
    return {each["label"]: each for each in json.loads(done.stdout)}


def spent(trial: str, label: str, **more: Any) -> dict[str, Any]:
    its = {
        "cpu_seconds": 1.0, "loading_seconds": 2.0, "host_peak_bytes": 1, "host_peak_since": "attempt",
        "device_peak_bytes": None, "parameters": 104_512, "dtype": "float32", "tokens_read": 1000, "tokens_learnt": 50,
        "machine": None,
    }  # fmt: skip
    entry = {
        "role": "candidate", "control": "", "trial": trial, "label": label, "seed_index": 0, "attempt": 1,
        "status": "ok", "ended": "2026-11-30T00:00:00Z", "seconds": 38.0, "spent": its,
    }  # fmt: skip
    return {**entry, **more}


def costs_of(bench: Path, *attempts: dict[str, Any], suite: str = "") -> Path:
    sha256 = suite or load_suite(bench / "suite.yaml").sha256
    made = {"schema": "robustness-gate/cost/v1", "suite": "small", "suite_sha256": sha256, "attempts": list(attempts)}
    (bench / "cost.json").write_bytes(encode(decode(Costs, encode(made))))
    return bench / "cost.json"


def test_tokens_are_those_that_a_person_counts(bench: Path) -> None:
    found = predicted(bench)
    exam, look, shot = 20 * 4 * PROMPT / 4, 5 * 4 * PROMPT / 4, (PROMPT - len(HEADER) + 2) / 4
    assert found["none"]["tokens"] == {"read": exam, "learnt": 0.0, "omitted": "", "seconds": None}
    assert found["none"]["operations"] == 2 * 1_045_120 * exam
    shown = 2 * shot
    assert found["few_shot (forget)"]["tokens"]["read"] == pytest.approx(
        exam + 80 * shown + look + 3 * (look + 20 * shown)
    )
    relearn = found["relearn (forget, full)"]["tokens"]
    example = (PROMPT + 2) / 4
    assert relearn["learnt"] == pytest.approx(2 * (10 + 10) * 3 * example)  # rates, steps of both budgets, batch
    assert relearn["read"] == pytest.approx(2 * exam + 4 * look + 3 * (2 + 4) * example)


def test_an_attack_without_work_is_named_and_its_examinations_are_counted(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plug-in's may be."""
    monkeypatch.delattr(attacks.load("reformat"), "work")
    tokens = predicted(bench)["reformat"]["tokens"]
    assert (tokens["read"], tokens["omitted"]) == (20 * 4 * PROMPT / 4, "the own passes of 'reformat'")
    assert "not counted: the own passes of 'reformat'" in planned(bench, "--cost").stdout


def test_two_models_that_answer_together_read_every_examination_twice(bench: Path) -> None:
    suite = bench / "suite.yaml"
    suite.write_text(suite.read_text(encoding="utf-8") + "  - attack: model_guidance\n", encoding="utf-8")
    exam, look = 20 * 4 * PROMPT / 4, 5 * 4 * PROMPT / 4
    assert predicted(bench)["model_guidance"]["tokens"]["read"] == 2 * exam + 2 * look


def test_what_an_attack_keeps_of_streams_is_in_the_host(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks.load("reformat"), "work", lambda *_: Work(vectors=1e6))
    width = json.loads((organisms.checkpoint("base") / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    assert predicted(bench)["reformat"]["host_bytes"]["snapshots, or loading"] == 4e6 * width


def test_hours_follow_from_a_named_device_and_nothing_is_assumed_without_one(bench: Path) -> None:
    assert {each["hours"] for each in predicted(bench).values()} == {None}
    named, its = predicted(bench, "--device-figures", "h100"), device("h100")
    for each in named.values():
        assert each["hours"] == pytest.approx(each["operations"] / (its.peaks["float32"] * SHARE) / 3600)
    shown = planned(bench, "--device-figures", "h100")
    assert "every trial fits by arithmetic, one at a time: h100 has 80 GB" in shown.stdout
    assert "not counted" not in shown.stdout
    assert ">" not in shown.stdout
    assert f"an assumed {SHARE:.0%} of 67 TFLOP/s in float32" in shown.stdout
    suite = bench / "suite.yaml"
    suite.write_text(suite.read_text(encoding="utf-8") + "dtype: bfloat16\n", encoding="utf-8")
    halved = predicted(bench, "--device-figures", "h100")["none"]
    assert halved["hours"] == pytest.approx(named["none"]["hours"] * 67 / 989)
    assert predicted(bench, "--device-figures", "cpu-core")["none"]["hours"] is None
    assert "there is no figure of cpu-core in 16 bits" in planned(bench, "--device-figures", "cpu-core").stdout


def test_a_length_of_time_has_the_unit_that_a_person_would_take() -> None:
    found = [costs._time(seconds / 3600) for seconds in (0.0123, 9, 90, 600, 7000, 36_000)]
    assert found == ["0.012 s", "9 s", "90 s", "10 min", "117 min", "10.0 h"]


def test_the_memory_of_a_step_follows_from_the_longest_example(bench: Path) -> None:
    before = sum(predicted(bench)["relearn (forget, full)"]["device_bytes"].values())
    train = bench / "train.jsonl"
    rows = [json.loads(line) for line in train.read_text(encoding="utf-8").splitlines()]
    rows[2]["question"] += " and so on" * 4000
    train.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    after = predicted(bench)["relearn (forget, full)"]["device_bytes"]
    assert after["activations"] > before > 0


def test_scores_of_all_weights_are_on_the_device(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_memory import LLAMA_7B

    monkeypatch.setattr(cost, "shape_of", lambda _: LLAMA_7B)
    suite = bench / "suite.yaml"
    text = suite.read_text(encoding="utf-8").replace("dtype: float32", "")
    more = "  - attack: pruning\n    config: {calibrate_on: [questions], utility: [forget], scores: [snip]}\n"
    suite.write_text(text + more.replace("forget", "unrelated") + "dtype: bfloat16\n", encoding="utf-8")
    corpus = "corpora: {unrelated: {items: train.jsonl, topic: y}, "
    suite.write_text(suite.read_text(encoding="utf-8").replace("corpora: {", corpus), encoding="utf-8")
    (its,) = [each for label, each in predicted(bench).items() if label.startswith("pruning")]
    assert its["device_bytes"]["scores"] == 4 * LLAMA_7B.inside
    (line,) = [
        each for each in planned(bench, "--device-figures", "a100", "--cost").stdout.splitlines() if "pruning" in each
    ]
    assert float(line.split()[-3]) > 39


def test_nothing_is_said_to_fit_whose_memory_is_not_declared(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(attacks.load("reformat"), "work")
    said = planned(bench, "--device-figures", "h100").stdout
    assert "every trial fits" not in said
    assert "not counted is what reformat keeps" in said


def test_an_earlier_run_of_the_suite_gives_tokens_and_scaled_hours(bench: Path) -> None:
    file = costs_of(
        bench,
        spent("1" * 64, "none", status="failure"),
        spent("2" * 64, "none"),
        spent("3" * 64, "reformat", spent=None),
        spent("4" * 64, "few_shot (forget)", role="sham"),
        spent("5" * 64, "relearn (forget, full)", status="failure"),
    )
    found = predicted(bench, "--cost-from", file)
    assert found["none"]["tokens"] == {"read": 1000.0, "learnt": 50.0, "omitted": "", "seconds": 360.0}
    assert found["none"]["hours"] == pytest.approx(0.1)  # ten times the parameters, 36 s without loading
    assert found["none"]["operations"] == 1_045_120 * (2 * 1000 + 6 * 50)
    others = [each for label, each in found.items() if label != "none"]
    assert [each["tokens"] for each in others] == [None] * 3
    assert (
        "not predicted: 3 trials that did not end well, or were not made" in planned(bench, "--cost-from", file).stdout
    )
    on_device = predicted(bench, "--cost-from", file, "--device-figures", "a100")["none"]
    assert on_device["hours"] == pytest.approx(on_device["operations"] / (19.5e12 * SHARE) / 3600)


@pytest.mark.parametrize("raw", [None, b"{}", b"{", b'{"a": 1, "a": 2}'])
def test_what_is_no_cost_of_this_suite_is_refused(bench: Path, raw: bytes | None) -> None:
    file = costs_of(bench, suite="9" * 64)
    if raw is not None:
        file.write_bytes(raw)
    done = planned(bench, "--cost-from", file)
    assert done.returncode == Exit.USAGE
    assert ("another suite" if raw is None else "no cost.json of a run") in done.stderr
    assert planned(bench, "--cost-from", bench / "none.json").returncode == Exit.USAGE


def test_a_loading_longer_than_its_attempt_is_refused_by_its_place(bench: Path) -> None:
    sha256 = load_suite(bench / "suite.yaml").sha256
    file = costs_of(bench, spent("1" * 64, "none"), spent("2" * 64, "none", seconds=1.5))
    with pytest.raises(UsageError, match=r"attempts\.1\.spent\.loading_seconds is 2, more than the 1\.5 seconds"):
        cost.read_costs(file, sha256)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"parameters":104512', b'"parameters":-5', "greater than or equal to 1"),
        (b'"seconds":38', b'"seconds":1e308', "less than or equal to"),
        (b'"host_peak_bytes":1', b'"host_peak_bytes":-1', "greater than or equal to 0"),
        (b'"name":"a machine"', b'"name":"a\\u001b[31m machine"', "pattern"),
    ],
)
def test_what_no_run_writes_is_refused(bench: Path, old: bytes, new: bytes, said: str) -> None:
    one = spent("1" * 64, "none")
    machine = {"device": "cpu", "name": "a machine", "device_bytes": None, "host_bytes": 1, "threads": 1}
    one["spent"]["machine"] = {**machine, "versions": {}}
    file = costs_of(bench, one)
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    with pytest.raises(UsageError, match=said):
        cost.read_costs(file, load_suite(bench / "suite.yaml").sha256)


def test_an_attempt_that_is_listed_twice_is_refused(bench: Path) -> None:
    file = costs_of(bench, spent("1" * 64, "none"), spent("1" * 64, "none"))
    with pytest.raises(UsageError, match=r"attempts\.1 is listed twice"):
        cost.read_costs(file, load_suite(bench / "suite.yaml").sha256)


def test_a_wrong_field_is_named(bench: Path) -> None:
    file = costs_of(bench, spent("1" * 64, "none"))
    file.write_bytes(file.read_bytes().replace(b'"tokens_read":1000', b'"tokens_read":-1'))
    with pytest.raises(UsageError, match=r"attempts\.0\.spent\.tokens_read: Input should be greater than or equal"):
        cost.read_costs(file, "1" * 64)


def test_one_trial_is_one() -> None:
    assert costs._not_predicted(1) == "not predicted: 1 trial that did not end well, or was not made, in that run"


def test_an_unknown_device_is_refused_with_the_known_ones(bench: Path) -> None:
    done = planned(bench, "--device-figures", "h1000")
    assert done.returncode == Exit.USAGE
    assert "Known are a100, h100, h200, cpu-core" in done.stderr


def test_what_does_not_fit_is_named_with_the_number(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_memory import LLAMA_7B, LLAMA_70B

    monkeypatch.setattr(cost, "shape_of", lambda _: LLAMA_70B)
    text = (bench / "suite.yaml").read_text(encoding="utf-8")
    (bench / "suite.yaml").write_text(f"{text}dtype: bfloat16\n", encoding="utf-8")
    done = planned(bench, "--device-figures", "h200")
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("does not fit: relearn")]
    assert "h200 has 141 GB" in line
    assert "weights 141.1, gradients 141.1" in line
    monkeypatch.setattr(cost, "shape_of", lambda _: LLAMA_7B)
    done = planned(bench, "--device-figures", "h200")
    assert "no room for plain" not in done.stdout, "seven billion are trained there as on any larger device"
    done = planned(bench, "--device-figures", "h100")
    how = "weights are trained in place, without float32 copies"
    assert f"no room for plain training steps, so {how}: relearn (forget, full), seed 0" in done.stdout
    assert "does not fit" not in done.stdout
    monkeypatch.setattr(memory, "fitting", lambda *_: memory.Way("host", checkpointed=True, rows=2))
    done = planned(bench, "--device-figures", "h100")
    assert "so the optimiser's numbers are in the host's memory and blocks are computed again" in done.stdout
    (found,) = [each for each in json.loads(planned(bench, "--device-figures", "h100", "--json").stdout)
                if each["label"] == "relearn (forget, full)"]  # fmt: skip
    tokens = found["tokens"]
    assert found["operations"] == pytest.approx(LLAMA_7B.parameters * (2 * tokens["read"] + 8 * tokens["learnt"]))
    assert found["training"] == {"states": "host", "checkpointed": True, "rows": 2}
    assert found["host_bytes"]["the optimiser's numbers"] == 12 * LLAMA_7B.parameters


@pytest.mark.parametrize("name", attacks.names())
def test_no_work_is_declared_negative_and_that_of_a_sham_is_not_more(name: str, suite_data: SuiteData) -> None:
    module = attacks.load(name)
    sizes = tokens.Planned(suite_data).sizes(suite_data.hazards, 8, original=True)
    usual, sham = module.work(module.Config(), sizes), module.work(module.SHAM, sizes)
    for each in (usual, sham):
        assert min(each.read, each.learnt, each.copies, each.vectors, each.longer - 1, *each.before, 0) == 0
        assert each.training is None or each.training.length > 0
    assert usual.read >= sham.read
    assert usual.learnt >= sham.learnt
