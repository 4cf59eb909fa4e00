"""suites/wmdp-smoke.yaml from start to report: a tiny random model, files of WMDP's and MMLU's shape, fewer items."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from commands import gate
from hub import BIO, CLOZE_SET, WMDP_PARTS, WMDP_SUITE, pinned, pinned_policy_file, unchecked

from robustness_gate.inputs.checkpoint.manifest import inspect
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning.suite_data import gather

HERE = {
    "wmdp-bio": 60,
    "wmdp-cyber": 40,
    "wmdp-chem": 20,
    "college_biology": 20,
    "all": 30,
    "elementary_mathematics": 12,
}
"""Items here for a config of the hub; of the others, ten."""
VERDICT = {"wmdp-bio": 54, "wmdp-cyber": 36, "wmdp-chem": 18, "college-biology": 20, "virology": 10,
           "medical-genetics": 10, "computer-security": 10, "mmlu": 30}  # fmt: skip


@pytest.fixture
def bench(tmp_path, root) -> Path:
    suite = unchecked(pinned((root / "suites" / "wmdp-smoke.yaml").read_text(encoding="utf-8")))
    policy = (root / "policies" / "wmdp-open-weights.yaml").read_text(encoding="utf-8")
    draw = random.Random(3)
    for number, (place, named) in enumerate(WMDP_SUITE.items()):
        here = HERE.get(place.split("/")[2], 10)
        folder = f"data/{number}"
        (tmp_path / folder).mkdir(parents=True)
        rows = [
            {
                "question": f"Fictional question {number}-{i}: which stone is it?",
                "choices": [f"{c}{i}" for c in ("agate", "beryl", "coral", "diorite")],
                "answer": draw.randrange(4),
                "subject": "stones",
            }
            for i in range(here)
        ]
        (tmp_path / folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        suite = suite.replace(f"hf-dataset://{place}\n    count: {named}", f"{folder}\n    count: {here}").replace(
            f"hf-dataset://{place}", folder
        )  # a corpus has no count
        if place == BIO:
            bio = rows
    for number, place in enumerate(WMDP_PARTS):  # cloze: the first 20; robust: two of them in each config
        part = bio[:20] if place.startswith(CLOZE_SET) else bio[2 * number : 2 * number + 2]
        (tmp_path / f"data/part-{number}").mkdir()
        (tmp_path / f"data/part-{number}/test.jsonl").write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
        suite = suite.replace(f"hf-dataset://{place}", f"data/part-{number}")
    suite = suite.replace("count: 1076", "count: 20").replace("count: 868", "count: 12")
    suite = suite.replace("budgets: [10, 100]", "budgets: [2, 4]").replace("dtype: bfloat16", "dtype: float32")
    policy = policy.replace("budgets: [10, 100]", "budgets: [2, 4]")
    for name, verdict in VERDICT.items():
        policy = re.sub(rf"({name}: {{items: )\d+", rf"\g<1>{verdict}", policy)
    (tmp_path / "suite.yaml").write_text(suite, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(policy, encoding="utf-8")
    return tmp_path


@pytest.fixture
def random_models(tmp_path) -> dict[str, Path]:
    """A candidate, an original and a model that stands for those that were never taught."""
    return {name: made(tmp_path / name, seed) for seed, name in enumerate(("candidate", "original", "never_taught"))}


def made(folder: Path, seed: int) -> Path:
    import torch
    import transformers

    from robustness_gate import organisms

    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    torch.manual_seed(seed)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=48,
        max_position_embeddings=512,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_wmdp_smoke_runs_from_start_to_report_on_random_models(bench, random_models):
    digests = {name: inspect(folder).digest for name, folder in random_models.items()}
    never = digests["never_taught"]
    suite = load_suite(bench / "suite.yaml")
    models = {"original": digests["original"], "never_taught": never, "never_taught_cyber": never}
    pinned_policy_file(bench / "policy.yaml", bench, suite, gather(suite), models)
    files = ["--policy", str(bench / "policy.yaml"), "--suite", str(bench / "suite.yaml"), "--out", str(bench / "out")]
    files += [
        "--original",
        str(random_models["original"]),
        "--control",
        f"never_taught={random_models['never_taught']}",
    ]
    done = gate("run", random_models["candidate"], *files, "--no-mlflow")
    assert done.returncode in (3, 4), done.stderr  # a random model is useless, so it can never pass
    report = json.loads((bench / "out" / "report.json").read_text(encoding="utf-8"))
    closed = {record["label"]: [end["status"] for end in record["closed"]] for record in report["trials"]}
    assert closed == {"none": ["ok"], "quantize (channel)": ["ok"], "relearn (unrelated, lora)": ["ok"]} | {
        f"sham of {attack}": ["ok"] for attack in ("quantize", "relearn")
    }
    asked = {record["label"]: {mark["task"] for mark in record["measurements"]} for record in report["trials"]}
    assert "wmdp-bio-choices-only" in asked["none"]
    assert asked["quantize (channel)"] == {*VERDICT, "wmdp-bio-cloze", "wmdp-bio-margin", "wmdp-bio-robust"}
    sizes = {mark["task"]: mark["items"] for record in report["trials"] for mark in record["measurements"]}
    assert 14 <= sizes["wmdp-bio-cloze"] <= 20
    assert any(blocker["code"].startswith("self_test") for blocker in report["verdict"]["blockers"])
    assert {"bio", "bio-by-margin"} == {f["rule"] for f in report["verdict"]["findings"] if f["kind"] == "limit"}
    lacking = {b["args"]["rule"] for b in report["verdict"]["blockers"] if b["code"] == "gap_not_measured"}
    assert lacking == {"cyber"}, "its control was not given"
    page = (bench / "out" / "report.html").read_text(encoding="utf-8")
    assert "wmdp-cyber" in page
    assert "Fictional question" not in page + json.dumps(report), "no question's words in a report"
