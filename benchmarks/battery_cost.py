"""What a WMDP suite asks of a model, in tokens, and how many GPU-hours that would be on seven billion parameters.

    python benchmarks/battery_cost.py [--suite suites/wmdp-standard.yaml] [--layers 28] [--only ATTACK ...]

The suite's own attacks run with the suite's own settings on a random model of as many layers as asked and next to no
width, over invented questions, as many as the hub's and about as long (`--words`); every token that goes through the
model is counted. Of the examination after each mark only the number of prompts is taken, from the suite. The rest is
arithmetic, not a measurement: 2 floating-point operations a parameter and token without gradient, 6 with one, at the
share of the GPU's peak that `--share` says. Loading, tokenising and waiting are not in it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PARAMETERS = 7.6e9
PEAK = 989e12
"""Dense bfloat16 operations a second of an H100 SXM, by its data sheet."""
ASKS = ("multiple_choice", "cloze")
ASKED = 300
"""Questions of a set whose number the suite does not state."""
SYLLABLES = ("ar", "be", "co", "du", "el", "fi", "go", "hu", "il", "jo", "ka", "lu", "me", "no", "or", "pa")


def invented(suite: str, folder: Path, words: int) -> Path:
    """The suite with every set of the hub replaced by as many invented questions of so many words.

    A task that asks a part of another one's questions (`roles_of`) asks all of them here.
    """
    draw, made = random.Random(0), yaml.safe_load(suite)

    def word() -> str:
        return "".join(draw.choices(SYLLABLES, k=2))

    made.pop("checked", None)
    for task in made["tasks"].values():
        if "roles_of" in task:
            task |= {key: made["tasks"][task["roles_of"]][key] for key in ("items", "count")}
    sources = [each for each in (*made["tasks"].values(), *made["corpora"].values()) if "items" in each]
    counts: dict[str, int] = {}
    for each in sources:
        counts.setdefault(each["items"], each.get("count", ASKED))
    for number, (place, count) in enumerate(counts.items()):
        (folder / f"set{number}").mkdir()
        rows = [
            {
                "question": " ".join(word() for _ in range(words)) + f" {number} {index}?",
                "choices": [f"{word()} {word()} {word()} {mark}" for mark in "wxyz"],
                "answer": draw.randrange(4),
                "subject": "invented",
            }
            for index in range(count)
        ]
        (folder / f"set{number}" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        for each in sources:
            if each["items"] == place:
                each["items"] = f"set{number}"
    path = folder / "suite.yaml"
    path.write_text(json.dumps({**made, "dtype": "float32"}), encoding="utf-8")
    return path


def narrow(folder: Path, layers: int) -> Path:
    """A random model of so many layers and next to no width."""
    import torch
    import transformers

    from robustness_gate import organisms

    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        max_position_embeddings=4096,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def counted(model: Any) -> Counter[str]:
    """What goes through the model from now on: `read` and `learnt` tokens (without and with gradient), and `calls`."""
    import torch

    told: Counter[str] = Counter()

    def count(_: Any, args: Any, given: dict[str, Any]) -> None:
        ids = given.get("input_ids") if given.get("input_ids") is not None else given.get("inputs_embeds")
        ids = args[0] if ids is None else ids
        told["learnt" if torch.is_grad_enabled() else "read"] += int(ids.shape[0] * ids.shape[1])
        told["calls"] += 1

    model.model.register_forward_pre_hook(count, with_kwargs=True)
    return told


def hours(read: float, learnt: float, share: float) -> float:
    """GPU-hours for so many tokens."""
    return (2 * read + 6 * learnt) * PARAMETERS / (PEAK * share) / 3600


def main() -> None:
    """Count, and print a table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--suite", type=Path, default=ROOT / "suites" / "wmdp-standard.yaml")
    asked.add_argument("--layers", type=int, default=28)
    asked.add_argument("--words", type=int, default=30)
    asked.add_argument("--share", type=float, default=0.3, help="of the GPU's peak")
    asked.add_argument("--only", nargs="+", default=[], help="these attacks alone")
    given = asked.parse_args()

    import torch

    from robustness_gate import attacks
    from robustness_gate.engine import score
    from robustness_gate.engine.load import load
    from robustness_gate.errors import NotApplicable
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning.suite_data import gather
    from robustness_gate.running import trial

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        suite = load_suite(invented(given.suite.read_text(encoding="utf-8"), place, given.words))
        suite_data = gather(suite)
        loaded = load(narrow(place / "model", given.layers), dtype="float32", device="cpu")
        told = counted(loaded.model)
        target = trial.target_of(suite_data, loaded, None)
        exams = [task_data for task_data in suite_data.tasks.values() if task_data.kind in ASKS]
        for task_data in exams:  # a question's tokens in all its letter orders, by the model's own count
            score.content_logliks(target.lm, [item.question for item in task_data.items[:8]], task_data.form)
        length, once = told["read"] / (8 * len(exams)), sum(len(task_data.items) for task_data in exams)
        words = f"{version('robustness-gate')}, torch {version('torch')}, {datetime.now(UTC):%Y-%m-%d}"
        print(f"{suite.record.id} {suite.record.version}, robustness-gate {words}; {given.layers} layers")
        print(f"an examination: {once:,} questions of {length:.0f} tokens (all letter orders), a mark\n")
        print("| attack | marks | tokens read | tokens learnt | share of the hours | seconds here |")
        print("|---|---:|---:|---:|---:|---:|")
        rows = []
        for entry in suite.record.attacks:
            if given.only and entry.attack not in given.only:
                continue
            module = attacks.load(entry.attack)
            config = attacks.configure(module, entry.config)
            before, begun, marks, why = told.copy(), time.monotonic(), 0, ""
            try:
                for _ in module.attack(target, config, 0):
                    marks += 1
            except NotApplicable as error:
                why = f" ({error})"
            seeds = entry.seeds
            read = seeds * (told["read"] - before["read"] + marks * once * length)
            learnt = seeds * (told["learnt"] - before["learnt"])
            rows.append((entry.attack + why, seeds * marks, read, learnt, time.monotonic() - begun))
            print(f"  {rows[-1]}", flush=True)
        total = sum(hours(read, learnt, given.share) for _, _, read, learnt, _ in rows)
        for name, marks, read, learnt, seconds in rows:
            part = hours(read, learnt, given.share) / total
            print(f"| {name} | {marks} | {read / 1e6:.1f} M | {learnt / 1e6:.1f} M | {part:.0%} | {seconds:.0f} |")
        machine = f"{PARAMETERS / 1e9:.1f} billion parameters at {given.share:.0%} of {PEAK / 1e12:.0f} TFLOP/s"
        print(f"\nby arithmetic {total:.1f} GPU-hours on {machine}")


if __name__ == "__main__":
    main()
