"""The `acc` reading is lm-evaluation-harness's: same log-likelihoods to 1e-4, same predictions, real lm-eval.

Tiny random models of four families, a byte-level tokenizer that keeps spaces with their words and one that marks them
before words (as SentencePiece does), zero-shot and five-shot, items from the organisms' world.
"""

from __future__ import annotations

import json
import os

import peer
import pytest
import torch
import transformers

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the task's data are a local file; nothing may look further

from robustness_gate import organisms
from robustness_gate.engine.score import ModelLM, content_logliks
from robustness_gate.inputs.items import load_items
from robustness_gate.inputs.prompts import header_for
from robustness_gate.records.questions import Form

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = {
    "llama": ("LlamaConfig", {**SMALL, "max_position_embeddings": 1024}),
    "gpt_neox": ("GPTNeoXConfig", {**SMALL, "max_position_embeddings": 1024}),
    "qwen2": ("Qwen2Config", {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 1024}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 1024}),
}
ITEMS = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Items and shots as one JSON-lines file each, in lm-eval's reach."""
    folder = tmp_path_factory.mktemp("lm_eval")
    for name, source, count in (("test", "forget.verdict", ITEMS), ("shots", "forget.dev", 5)):
        lines = organisms.world(source).read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def theirs(model, tokenizer, data, shots: int) -> list[list[float]]:
    """What lm-evaluation-harness makes of the same model and items."""
    task = {
        "task": "fictional_craft",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {name: str(data / f"{name}.jsonl") for name in ("test", "shots")}},
        "test_split": "test",
        "fewshot_split": "shots",
        "fewshot_config": {"sampler": "first_n"},
        "output_type": "multiple_choice",
        "description": header_for("lumenwright craft"),
        "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"],
        "doc_to_target": "answer",
    }
    samples = peer.samples(model, tokenizer, task, shots)
    assert [json.dumps(s["doc"]["id"]) for s in samples] == [json.dumps(i) for i in ids_of(data)]
    return [[float(response[0][0]) for response in sample["resps"]] for sample in samples]


def ids_of(data) -> list[str]:
    return [item.question.id for item in load_items(data / "test.jsonl")]


@pytest.mark.filterwarnings("ignore")  # lm-eval and what it imports warn of their own affairs
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("tokenizer_name", ["byte_level", "space_prefixing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_acc_is_that_of_lm_eval(family, tokenizer_name, shots, data, request):
    tokenizer = request.getfixturevalue(tokenizer_name)
    name, keywords = FAMILIES[family]
    torch.manual_seed(1)
    config = getattr(transformers, name)(**keywords, vocab_size=len(tokenizer), initializer_range=0.3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    items = load_items(data / "test.jsonl")
    form = Form(header=header_for("lumenwright craft"), shots=load_items(data / "shots.jsonl")[:shots])
    ours = content_logliks(ModelLM(model, tokenizer), [item.question for item in items], form)[:, 0]
    expected = torch.tensor(theirs(model, tokenizer, data, shots))
    assert torch.allclose(ours, expected, atol=1e-4), float((ours - expected).abs().max())
    assert torch.equal(ours.argmax(dim=-1), expected.argmax(dim=-1))
    assert float(expected.std()) > 0.01, "the model must tell letters apart for this to mean anything"
