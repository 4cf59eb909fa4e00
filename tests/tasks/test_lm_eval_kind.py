"""A `kind: lm_eval` task reads as real lm-evaluation-harness reads the same YAML, through a whole trial.

Letters as in WMDP, and clozes whose choices are words of several tokens, with white space at either side of the border.
"""

from __future__ import annotations

import json
import os

import peer
import pytest
import torch
import transformers

from robustness_gate.records.trial import Role

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from robustness_gate import attacks, organisms
from robustness_gate.engine.load import LoadedModel
from robustness_gate.inputs.checkpoint.manifest import FileEntry, Manifest
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import gather
from robustness_gate.running import trial
from robustness_gate.verdict import pack

ITEMS = 12
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = {
    "llama": ("LlamaConfig", {**SMALL, "max_position_embeddings": 1024}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}),
}
LETTERS = r"""
task: letters
dataset_path: json
test_split: test
training_split: null
num_fewshot: 0
output_type: multiple_choice
description: "The following are multiple choice questions (with answers) about crafts.\n\n"
doc_to_text: "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
metric_list:
  - metric: acc
metadata: {version: 1}
"""
CLOZE = r"""
task: cloze
output_type: multiple_choice
description: "About {{ id | regex_replace('[^a-z]', '') }}. "
doc_to_text: question
doc_to_choice: "{{choices}}"
doc_to_target: "{{choices[answer]}}"
"""
SPACED = r"""
task: spaced
output_type: multiple_choice
target_delimiter: ""
doc_to_text: "{{question}}\nSo it is "
doc_to_choice: choices
doc_to_target: "{{answer}}"
"""
REPEATED = r"""
include: cloze.yaml
task: repeated
task_alias: the same option twice
doc_to_choice: "{{[choices[0], choices[1], choices[0], choices[2]]}}"
doc_to_target: "{{2 if answer == 0 else answer}}"
"""
TASKS = {"letters": LETTERS, "cloze": CLOZE, "spaced": SPACED, "repeated": REPEATED}
SUITE = """
schema: robustness-gate/suite/v1
id: harness
version: 1.0.0
description: tasks in lm-evaluation-harness's words
hazard: task
tasks:
  task: {{kind: lm_eval, yaml: {name}.yaml, items: docs.jsonl, count: {count}}}
attacks:
  - attack: none
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harness")
    lines = organisms.world("forget.verdict").read_text(encoding="utf-8").splitlines()[:ITEMS]
    (folder / "docs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        (folder / f"suite-{name}.yaml").write_text(SUITE.format(name=name, count=ITEMS), encoding="utf-8")
    return folder


def ours(loaded, folder, name, out):
    """The mark of a whole trial, and the log-likelihoods beside it."""
    from safetensors.torch import load_file

    suite_data = gather(load_suite(folder / f"suite-{name}.yaml"))
    no_one = plan.Subject(Role.CANDIDATE, folder, Manifest(files=(FileEntry(path="-", size=0, sha256="0" * 64),)))
    none = attacks.load("none")
    planned = plan.trial_of(no_one, None, none, none.Config(), 0, suite_data, "float32")
    (measurement,) = trial.run(planned, suite_data, loaded, rows_in=out)
    return measurement, load_file(out / f"{measurement.rows}.safetensors")["loglik"]


def theirs(loaded, folder, name):
    """Log-likelihoods, and whether each doc was answered rightly, from lm-evaluation-harness."""
    from lm_eval.tasks._yaml_loader import load_yaml

    data = {"data_files": {"test": str(folder / "docs.jsonl")}}
    task = {**load_yaml(folder / f"{name}.yaml"), "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
    samples = peer.samples(loaded.model, loaded.tokenizer, task)
    docs = [json.loads(line) for line in (folder / "docs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sample["doc"]["id"] for sample in samples] == [doc["id"] for doc in docs]
    loglik = torch.tensor([[float(response[0][0]) for response in sample["resps"]] for sample in samples])
    return loglik, [bool(sample["acc"]) for sample in samples]


@pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports warn of their own affairs
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("family", "tokenizer_name"), [("llama", "space_prefixing"), ("gpt2", "byte_level")])
def test_a_task_reads_as_lm_eval_reads_it(family, tokenizer_name, name, folder, tmp_path, request):
    tokenizer = request.getfixturevalue(tokenizer_name)
    config, keywords = FAMILIES[family]
    torch.manual_seed(1)
    made = getattr(transformers, config)(**keywords, vocab_size=len(tokenizer), initializer_range=0.3)
    loaded = LoadedModel(transformers.AutoModelForCausalLM.from_config(made).eval(), tokenizer)
    mark, loglik = ours(loaded, folder, name, tmp_path)
    expected, right = theirs(loaded, folder, name)
    assert loglik.shape == (ITEMS, 1, 4)
    assert torch.allclose(loglik[:, 0], expected, atol=1e-4), float((loglik[:, 0] - expected).abs().max())
    assert torch.equal(loglik[:, 0].argmax(dim=-1), expected.argmax(dim=-1))
    if name == "repeated":  # to lm-eval the first of two equal choices is wrong where the key is the second
        assert not any(r for r, row in zip(right, expected.argmax(dim=-1).tolist(), strict=True) if row == 0)
        key = [json.loads(line)["answer"] for line in (folder / "docs.jsonl").read_text(encoding="utf-8").splitlines()]
        chosen = expected.argmax(dim=-1).tolist()
        right = [r or (k in (0, 2) and c == 0) for r, k, c in zip(right, key, chosen, strict=True)]
        assert torch.equal(expected[:, 0], expected[:, 2])
    assert mark.correct == {"acc": pack(right)}
    assert float(expected.std()) > 0.01, "the model must tell choices apart for this to mean anything"
