"""Memory as `plan --cost` predicts it, beside what a process really took: a random Llama of twenty million parameters.

    python benchmarks/memory.py

Each case runs in a process of its own on the CPU. Measured is its peak of resident memory (VmHWM, started anew before
the case) less what was resident then without the weights. The prediction is the sum of the terms of `inputs.memory`.
Linux and glibc.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from robustness_gate.inputs import memory
from robustness_gate.inputs.memory import Way
from robustness_gate.inputs.shape import Shape
from robustness_gate.records.work import Training

Method = Literal["full", "lora"]
LAYERS, WIDTH, HEADS, INNER, VOCABULARY = 6, 512, 8, 1408, 1500
BATCH, LENGTH, RANK = 8, 128, 16
CASES: dict[str, tuple[str, Method | None, Way]] = {
    "asking, float32": ("float32", None, Way()),
    "full, float32": ("float32", "full", Way()),
    "full, float32, blocks computed again": ("float32", "full", Way(checkpointed=True)),
    "full, float32, blocks again, two examples together": ("float32", "full", Way(checkpointed=True, rows=2)),
    "full, bfloat16 with float32 copies": ("bfloat16", "full", Way()),
    "full, bfloat16 in place": ("bfloat16", "full", Way("in_place")),
    "full, bfloat16 in place, blocks again": ("bfloat16", "full", Way("in_place", checkpointed=True)),
    "lora, float32": ("float32", "lora", Way()),
    "lora, float32, blocks again": ("float32", "lora", Way(checkpointed=True)),
    "lora, bfloat16": ("bfloat16", "lora", Way()),
}
WITHOUT_HOLES = {"MALLOC_MMAP_THRESHOLD_": "262144"}
"""glibc gives every larger tensor back to the system at once. Without that, holes of freed tensors are resident too."""


def shape() -> Shape:
    """The sizes of the model."""
    block = 4 * WIDTH * WIDTH + 3 * WIDTH * INNER + 2 * WIDTH
    return Shape(
        parameters=LAYERS * block + VOCABULARY * WIDTH + WIDTH,
        layers=LAYERS,
        width=WIDTH,
        heads=HEADS,
        kv_heads=HEADS,
        head=WIDTH // HEADS,
        inner=INNER,
        vocabulary=VOCABULARY,
        sides=LAYERS * (4 * 2 * WIDTH + 3 * (WIDTH + INNER)),
        largest=VOCABULARY * WIDTH,
        inside=LAYERS * (block - 2 * WIDTH),
        beside=0,
    )


def predicted(dtype: str, method: Method | None, way: Way) -> float:
    """Bytes by the planner."""
    if method is None:
        terms = memory.asking(shape(), dtype, float(LENGTH))
        return memory.total({name: size for name, size in terms.items() if name != "keys and values"})
    its = Training(method, BATCH, float(LENGTH), every=True, rank=RANK)
    count = memory.trained(shape(), its)
    states = memory.training(shape(), dtype, its, way, count)
    return max(map(memory.total, states))


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def model_of(layers: int, dtype: str) -> Any:
    """A random model of so many layers."""
    import torch
    import transformers

    from robustness_gate.engine.load import DTYPES

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, intermediate_size=INNER, max_position_embeddings=LENGTH, tie_word_embeddings=True,
        pad_token_id=0,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config).to(DTYPES[dtype]).eval()
    return model.requires_grad_(requires_grad=False)


def work(model: Any, method: Method | None, rows: int, way: Way) -> int:
    """Read so many prompts, or train on them for two steps; returns the bytes that were resident before."""
    import torch

    from robustness_gate.engine import scope, train
    from robustness_gate.system import usage

    ids = torch.randint(3, VOCABULARY, (rows, LENGTH))
    if method is None:
        before = resident()
        usage.restart_peak()
        with torch.inference_mode():
            model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
        return before
    examples = [train.Example(row.tolist(), [True] * LENGTH) for row in ids]
    opened = (
        scope.adapter(model, rank=RANK, alpha=RANK, targets=scope.linear_names(model))
        if method == "lora"
        else scope.trainable(model)
    )
    with opened as parameters:
        before = resident()  # with the snapshot, which is the host's
        usage.restart_peak()
        train.train(model, parameters, examples, train.Recipe(1e-4, 2, rows), 0, way)
    return before


def measured(dtype: str, method: Method | None, way: Way) -> int:
    """The growth of this process over one batch of prompts, or over two steps of training."""
    import torch

    from robustness_gate.system import usage

    torch.set_num_threads(1)
    work(model_of(1, dtype), method, 1, way)  # libraries load their code
    model = model_of(LAYERS, dtype)
    if sum(each.numel() for each in model.parameters()) != shape().parameters:
        raise AssertionError("the shape is not that of the model")
    before = work(model, method, BATCH if method is not None else memory.BATCH_TOKENS // LENGTH, way)
    return (usage.peak() or 0) - before + sum(each.numel() * each.element_size() for each in model.parameters())


def main() -> None:
    """Print a table, or measure one case."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--case", choices=CASES, help="measure this one here")
    given = asked.parse_args()
    if given.case is not None:
        print(json.dumps(measured(*CASES[given.case])))
        return
    print(f"{shape().parameters / 1e6:.1f} M parameters, torch {version('torch')}, {datetime.now(UTC):%Y-%m-%d}\n")
    print("| case | predicted MB | measured MB | predicted / measured |\n|---|---:|---:|---:|")
    for case, how in CASES.items():
        command = [sys.executable, __file__, "--case", case]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **WITHOUT_HOLES})
        found = json.loads(done.stdout)
        wanted = predicted(*how)
        print(f"| {case} | {wanted / 1e6:.0f} | {found / 1e6:.0f} | {wanted / found:.2f} |", flush=True)


if __name__ == "__main__":
    main()
