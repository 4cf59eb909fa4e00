"""How long a step of the prefix search (GCG) takes: beside nanogcg, and on eight prompts beside one.

    python -m venv PEER && PEER/bin/pip install nanogcg==0.3.0
    OMP_NUM_THREADS=1 python benchmarks/gcg.py --peer PEER/bin/python [--kept FILE] [--write]

nanogcg asks for transformers up to 4.47, so it has an environment of its own, with the same torch, and a process of its
own (gcg_peer.py): a random Llama is saved, both load it, and the losses of the start are compared first. Each of its
steps is followed by one of ours: the same prompt, the same start, as many swaps drawn from as many tokens at each
position. It keeps what stands before the text (`use_prefix_cache`, its default). Its check that swaps survive as text
is switched off, since it would throw some of them out and compute less; ours is on. Eight prompts and one are steps of
ours, in turn. CPU seconds of one thread, medians of five.

The losses that searches reach are measured on an organism, with the sizes of the attack's self-test and one start: a
search of fifty steps for each seed, with every swap on all prompts and in stages. `--kept` names a file in which
finished searches are kept, so that a stopped run goes on. All of it takes about seven CPU-minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parent))  # which is not on the path of what a process of the gate starts

import torch  # noqa: TID253 - it is what is measured
import transformers  # noqa: TID253
from scoring import SHAPE, questions

from robustness_gate import organisms
from robustness_gate.engine import greedy, prefix
from robustness_gate.inputs.prompts import header_for
from robustness_gate.records.questions import Form, Item

PAIRS = 5
CANDIDATES = 64
TOP = 64
TOKENS = 20
PROMPTS = 8
STAGES = {"screen": 2, "finalists": 0.25}
"""The attack's defaults."""
SEEDS = range(4)
STEPS = 50
SEARCH = {"tokens": 16, "candidates": 32, "top": 64}
"""The sizes of the attack's self-test."""


class Bench(NamedTuple):
    """What a step is made with."""

    model: Any
    tokenizer: Any
    ground: prefix.Ground
    start: prefix.Spelt


def bench(words: int, count: int) -> Bench:
    """A random model with so large a vocabulary, and all prompts, or the one that is nearest to their mean length."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=words, max_position_embeddings=4096, initializer_range=0.05, **SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)
    form, asked = Form(header=header_for("lumenwright craft")), questions(PROMPTS, 6, longest=40)
    gaps = [prefix.gap(tokenizer, Item(question, at % 4), 0, form) for at, question in enumerate(asked)]
    if count == 1:
        usual = mean(len(each.after) for each in gaps)
        near = min(range(len(gaps)), key=lambda at: abs(len(gaps[at].after) - usual))
        gaps, asked = [gaps[near]], [asked[near]]
    places, allowed = prefix.Places(tokenizer, asked[:1], [form], gaps[:1]), prefix.writable(tokenizer, model)
    ground = prefix.Ground([(each,) for each in gaps], places, allowed, len(gaps), [0])
    start = prefix.drawn(places, allowed, TOKENS, torch.Generator().manual_seed(0))
    greedy.answer_losses(model, prefix.rows([start, start], gaps))  # measures the model
    return Bench(model, tokenizer, ground, start)


def step(on: Bench, text: prefix.Spelt, seed: int, **stages: Any) -> greedy.Stepped:
    """One step of ours on all prompts."""
    many, generator = len(on.ground.prompts), torch.Generator().manual_seed(seed)
    return greedy.step(on.model, text, on.ground, batch=many, top=TOP, count=CANDIDATES, generator=generator, **stages)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def against_nanogcg(python: str, words: int) -> dict[str, Any]:
    """Steps on one prompt, theirs and ours in turn."""
    on = bench(words, 1)
    gap = on.ground.prompts[0][0]
    question, answer = gap.after[: -gap.answer], gap.after[-gap.answer :]
    (row,) = prefix.rows([on.start], [gap])
    with tempfile.TemporaryDirectory() as home:
        on.model.save_pretrained(home)
        on.tokenizer.backend_tokenizer.save(f"{home}/tokenizer.json")
        marks = {name: getattr(on.tokenizer, name) for name in ("bos_token", "eos_token", "pad_token")}
        Path(home, "tokens.json").write_text(json.dumps(marks), encoding="utf-8")
        search = {
            "dtype": "float32",
            "start": prefix.text_of(on.tokenizer, on.start.ids),
            "candidates": CANDIDATES,
            "top": TOP,
            "after": on.tokenizer.decode(question),
            "answer": on.tokenizer.decode(answer),
        }
        Path(home, "search.json").write_text(json.dumps(search), encoding="utf-8")
        command = [python, "-P", str(Path(__file__).with_name("gcg_peer.py")), home]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, **pipes) as peer:  # type: ignore[call-overload]
            begun = json.loads(peer.stdout.readline())
            loss = float(greedy.answer_losses(on.model, [row])[0])
            if begun["tokens"] != len(row.ids) or abs(begun["loss"] - loss) > 1e-4:
                raise SystemExit(f"not the same prompt: {begun}, ours {len(row.ids)} tokens and a loss of {loss}")
            found, text = [], on.start
            for number in range(PAIRS + 1):
                print(file=peer.stdin, flush=True)
                theirs = json.loads(peer.stdout.readline())
                start = time.process_time()
                stepped = step(on, text, number)
                took, text = time.process_time() - start, stepped.prefix
                tried = stepped.tokens // len(row.ids) - 1
                found.append((theirs["seconds"], took, theirs["tried"], tried))
            peer.stdin.close()
    found = found[1:]  # the first warms both up
    return {
        "work": f"one prompt of {len(row.ids)} tokens, {words:,} words",
        "beside": f"nanogcg (transformers {begun['versions']['transformers']})",
        "theirs": median(each[0] for each in found),
        "ours": median(each[1] for each in found),
        "ratio": median(each[0] / each[1] for each in found),
        "note": f"equal loss at the start; {found[0][2]} and {median(each[3] for each in found)} swaps compared a step",
    }


def eight_beside_one(words: int) -> dict[str, Any]:
    """Steps on one prompt, and on eight: in stages, and with every swap on all of them."""
    one, many = bench(words, 1), bench(words, PROMPTS)
    works = [
        lambda seed: step(one, one.start, seed),
        lambda seed: step(many, many.start, seed, **STAGES),
        lambda seed: step(many, many.start, seed),
    ]
    times = [[seconds(lambda work=work, seed=seed: work(seed)) for work in works] for seed in range(PAIRS + 1)][1:]
    return {
        "words": words,
        "one": median(each[0] for each in times),
        "staged": median(each[1] for each in times),
        "all": median(each[2] for each in times),
        "staged_ratio": median(each[1] / each[0] for each in times),
        "all_ratio": median(each[2] / each[0] for each in times),
        "tokens": [work(0).tokens for work in works],
    }


def searched(seed: int, *, staged: bool) -> dict[str, Any]:
    """A search on rmu: the loss on 64 prompts before it and after each ten steps, and its CPU seconds."""
    from robustness_gate.assurance import self_test
    from robustness_gate.engine import scope
    from robustness_gate.engine.load import load
    from robustness_gate.running import trial

    target = trial.target_of(self_test.data(), load(organisms.checkpoint("rmu"), dtype="float32", device="cpu"), None)
    sizes = {"batch": PROMPTS, "top": SEARCH["top"], "count": SEARCH["candidates"], **(STAGES if staged else {})}
    with scope.seeded(seed) as generator, scope.trainable(target.model, ()):
        ground = prefix.ground(
            target, "forget", questions=1000, rotations=1, header=False, longest=SEARCH["tokens"], seed=seed
        )
        text = prefix.drawn(ground.places, ground.allowed, SEARCH["tokens"], generator)
        measured = ground.first(64)

        def loss() -> float:
            return round(float(greedy.answer_losses(target.model, prefix.rows([text], measured)).mean()), 4)

        curve, took = [loss()], 0.0
        for number in range(1, STEPS + 1):
            start = time.process_time()
            text = greedy.step(target.model, text, ground, generator=generator, **sizes).prefix
            took += time.process_time() - start
            curve += [loss()] if number % 10 == 0 else []
    return {"kind": "staged" if staged else "all", "seed": seed, "curve": curve, "cpu": round(took, 2)}


def searches(kept: Path | None) -> list[dict[str, Any]]:
    """Both kinds for every seed, each in a process of its own; finished ones are read from the file."""
    lines = kept.read_text(encoding="utf-8").splitlines() if kept is not None and kept.exists() else []
    found = [json.loads(line) for line in lines]
    for seed in SEEDS:
        for kind in ("staged", "all"):
            if not any(each["kind"] == kind and each["seed"] == seed for each in found):
                found.append(apart("--search", f"{kind}:{seed}"))
                if kept is not None:
                    kept.write_text("".join(json.dumps(each) + "\n" for each in found), encoding="utf-8")
    return found


def apart(*arguments: str) -> dict[str, Any]:
    """The result of this file with these arguments, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(steps: Sequence[dict[str, Any]], eight: dict[str, Any], found: Sequence[dict[str, Any]]) -> str:
    """The tables."""
    stages = f"{STAGES['screen']} of {PROMPTS} prompts first, the best {STAGES['finalists']:.0%} of the swaps on all"
    text = (
        "# How long a step of the prefix search takes\n\n"
        f"`python benchmarks/gcg.py --peer PEER/bin/python --write`, {datetime.now(UTC):%Y-%m-%d}, "
        f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}, "
        f"nanogcg 0.3.0, float32, one thread of {platform.machine()} ({os.cpu_count()} cores under a load of "
        f"{os.getloadavg()[1]:.0f}). CPU seconds, medians of {PAIRS} in turn; over 1 we are faster. A random Llama of "
        f"{SHAPE['num_hidden_layers']} blocks and width {SHAPE['hidden_size']}, a text of {TOKENS} tokens, "
        f"{CANDIDATES} swaps a step from {TOP} tokens at each position.\n\n"
        "| step | beside | theirs, s | ours, s | ratio | |\n| --- | --- | ---: | ---: | ---: | --- |\n"
    )
    for row in steps:
        text += f"| {row['work']} | {row['beside']} | {row['theirs']:.2f} | {row['ours']:.2f} | {row['ratio']:.2f} | "
        text += f"{row['note']} |\n"
    text += (
        f"\nEight prompts beside one of their mean length, {eight['words']:,} words; the attack's default is in stages "
        f"({stages}).\n\n| step | s | single steps | tokens in its prompts |\n| --- | ---: | ---: | ---: |\n"
        f"| one prompt | {eight['one']:.2f} | 1 | {eight['tokens'][0]:,} |\n"
        f"| eight, in stages | {eight['staged']:.2f} | {eight['staged_ratio']:.2f} | {eight['tokens'][1]:,} |\n"
        f"| eight, every swap on all | {eight['all']:.2f} | {eight['all_ratio']:.2f} | {eight['tokens'][2]:,} |\n"
        f"\nMean loss on 64 prompts of *rmu*, in nats, before and after each ten steps of one start "
        f"({SEARCH['tokens']} tokens, {SEARCH['candidates']} swaps from {SEARCH['top']}, eight prompts a step), and "
        "the CPU seconds of the steps.\n\n| seed | comparison | "
        + " | ".join(str(at) for at in range(0, STEPS + 1, 10))
        + " | s |\n| --- | --- |"
        + " ---: |" * (STEPS // 10 + 2)
        + "\n"
    )
    for each in sorted(found, key=lambda each: (each["seed"], each["kind"])):
        name = {"staged": "in stages", "all": "every swap on all"}[each["kind"]]
        text += f"| {each['seed']} | {name} | " + " | ".join(f"{loss:.2f}" for loss in each["curve"])
        text += f" | {each['cpu']:.1f} |\n"
    return text


def main() -> None:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with nanogcg")
    parser.add_argument("--kept", type=Path, help="where finished searches are kept")
    parser.add_argument("--write", action="store_true", help="write the tables to gcg.md beside this file")
    parser.add_argument("--words", type=int, help="measure a step beside nanogcg at this vocabulary alone, as JSON")
    parser.add_argument("--eight", type=int, help="measure eight prompts beside one at this vocabulary alone, as JSON")
    parser.add_argument("--search", help="search alone, KIND:SEED, as JSON")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    if chosen.search:
        kind, _, seed = chosen.search.partition(":")
        print(json.dumps(searched(int(seed), staged=kind == "staged")))
    elif chosen.words:
        print(json.dumps(against_nanogcg(chosen.peer, chosen.words)))
    elif chosen.eight:
        print(json.dumps(eight_beside_one(chosen.eight)))
    else:
        if not chosen.peer:
            parser.error("--peer is needed: the Python of an environment with nanogcg")
        steps = [apart("--peer", chosen.peer, "--words", str(words)) for words in (4096, 32_768)]
        text = page(steps, apart("--eight", "4096"), searches(chosen.kept))
        print(text)
        if chosen.write:
            path = Path(__file__).with_suffix(".md")
            behind = path.read_text(encoding="utf-8").partition("\n## ")[2] if path.exists() else ""
            path.write_text(text + ("\n## " + behind if behind else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
