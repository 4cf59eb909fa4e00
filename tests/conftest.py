"""What several test rooms share: small data, a model that is loaded once, and imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

# Before torch: threads that wait for a busy core cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def shared_imports():
    """Workers are forked from one process that has imported torch, where the system can: seconds less for each.

    `run` on the command line spawns them, so the tests that go through a command see the way of every day.
    """
    from robustness_gate.system import bounded

    if sys.platform == "linux":
        multiprocessing.set_forkserver_preload(["robustness_gate.engine.load", "robustness_gate.running.trial", "peft"])
        bounded.STARTED_BY = "forkserver"


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def policy_file() -> Path:
    return ROOT / "policies" / "organism.yaml"


@pytest.fixture(scope="session")
def suite_file() -> Path:
    return ROOT / "suites" / "organism-smoke.yaml"


@pytest.fixture(scope="session")
def suite_data(suite_file):
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning.suite_data import gather

    return gather(load_suite(suite_file))


@pytest.fixture(scope="session")
def small_suite_data(suite_data):
    """The organisms' questions and texts, a handful of each: enough to tell answers apart, quick to ask."""
    import dataclasses

    from robustness_gate import organisms
    from robustness_gate.inputs import datasets

    tasks = {
        name: dataclasses.replace(task_data, items=task_data.items[:24]) for name, task_data in suite_data.tasks.items()
    }
    corpora = {
        name: dataclasses.replace(corpus, texts=datasets.read_texts(organisms.world(f"{name}.texts"))[:8])
        for name, corpus in suite_data.corpora.items()
    }
    return dataclasses.replace(suite_data, tasks=tasks, dev=suite_data.dev[:8], corpora=corpora)


@pytest.fixture(scope="session")
def rmu_model():
    """The suppressed organism, loaded once. Tests must leave it as they found it; the contract checks that they do."""
    from robustness_gate import organisms
    from robustness_gate.engine.load import load

    return load(organisms.checkpoint("rmu"), dtype="float32", device="cpu")


# --- two tokenizers: a byte-level one that keeps spaces with their words, and one that marks them before words --------


@pytest.fixture(scope="session")
def byte_level():
    import transformers

    from robustness_gate import organisms

    return transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))


@pytest.fixture(scope="session")
def space_prefixing():
    """A BPE whose words carry a mark for the space before them, and whose first word gets one too."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    from robustness_gate import organisms
    from robustness_gate.inputs.items import load_items

    items = load_items(organisms.world("forget.verdict"))
    texts = [" ".join((item.question.stem, *item.question.choices)) for item in items]
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.normalizer = normalizers.Replace("\n", " \n ")
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Metaspace()
    letters = [f"Answer: {letter}" for letter in "ABCD"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=1100,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[chr(code) for code in range(32, 127)] + ["\n"],  # a question must survive its encoding
    )
    raw.train_from_iterator([*texts, *letters], trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
