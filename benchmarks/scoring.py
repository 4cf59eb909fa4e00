"""How fast questions are asked, beside lm-evaluation-harness and beside whole passes of our own, in one run.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py [--write]

A random Llama, the organisms' tokenizer, and questions of uneven length made of the invented world's words. lm-eval
scores the same prompts with its own Hugging Face model class, at the fastest of four batch sizes, without its building
of tasks and metrics. Both sides encode their prompts within the measured time, except where a row says otherwise. Every
row is a median of ratios, taken in turn, in CPU seconds of one thread; the answers of both sides are compared first.
`--write` writes scoring.md beside this file. Takes about three CPU-minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: TID253 - it is what is measured
import transformers  # noqa: TID253

from robustness_gate import organisms
from robustness_gate.engine import batching, encodings, prompting
from robustness_gate.engine.score import ModelLM, content_logliks
from robustness_gate.inputs.prompts import header_for, rotated
from robustness_gate.records.questions import Form, Item, Question
from robustness_gate.tasks import cloze, open_answer

PAIRS = 5
BATCHES = (4, 8, 16, 32)
"""lm-eval's batch sizes that are tried."""
SHAPE = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 512}
WORDS = 4096
LETTERS = ("a", "b", "c", "d")


class Row(NamedTuple):
    """One line of the table."""

    work: str
    peer: str
    theirs: float
    """Seconds, median."""
    ours: float
    ratio: float
    """Median of the pairs' ratios."""
    note: str = ""


def questions(count: int, seed: int, *, longest: int = 100) -> list[Question]:
    """Stems of 8 to `longest` words, as many short ones as long ones on a logarithmic scale, and uneven choices."""
    rng = random.Random(seed)
    words = organisms.world("forget.texts").read_text(encoding="utf-8").split()
    words = [word.strip('",.{}:') for word in words if word.strip('",.{}:').isalpha()]

    def some(count: int) -> str:
        return " ".join(rng.choice(words) for _ in range(count))

    def choices() -> tuple[str, ...]:
        found: list[str] = []
        while len(found) < 4:
            found += [text for text in (some(rng.randint(1, 5)),) if text not in found]
        return tuple(found)

    lengths = [round(math.exp(rng.uniform(math.log(8), math.log(longest)))) for _ in range(count)]
    return [Question(str(number), f"{some(length)}?", choices()) for number, length in enumerate(lengths)]


def peer(model: Any, tokenizer: Any) -> Any:
    """lm-eval's own class around the same model."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=BATCHES[0], device="cpu")


def requests(tokenizer: Any, asked: Sequence[Question], form: Form) -> list[Any]:
    """The requests that lm-eval would make of these questions."""
    from lm_eval.api.instance import Instance

    prompts = [prompting.prompt_of(tokenizer, question, form) for question in asked]
    return [
        Instance("loglikelihood", {}, (prompt.text, answer), number)
        for prompt in prompts
        for number, answer in enumerate(prompt.answers)
    ]


def theirs(lm: Any, made: Sequence[Sequence[Any]]) -> torch.Tensor:
    """lm-eval's log-likelihoods, one pass over each list of requests: [list, question, choice]."""
    passes = [lm.loglikelihood(list(each), disable_tqdm=True) for each in made]
    return torch.tensor([[value for value, _ in each] for each in passes]).reshape(len(made), -1, 4)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def pairs(work: str, beside: str, one: Callable[[], object], other: Callable[[], object], note: str = "") -> Row:
    """Both in turn, after both ran once; `one` is the peer."""
    other()
    times = [(seconds(one), seconds(other)) for _ in range(PAIRS)]
    ratio = median(a / b for a, b in times)
    return Row(work, beside, median(a for a, _ in times), median(b for _, b in times), ratio, note)


def best_batch(lm: Any, made: Sequence[Any]) -> int:
    """The batch size with which lm-eval is fastest on some of these requests; set on it."""
    took = {}
    for size in BATCHES:
        lm.batch_size_per_gpu = size
        took[size] = seconds(lambda: theirs(lm, [made]))
    lm.batch_size_per_gpu = min(took, key=lambda size: took[size])
    return int(lm.batch_size_per_gpu)


def against_lm_eval(
    lm: ModelLM, other: Any, work: str, asked: Sequence[Question], form: Form, orders: int, part: int
) -> Row:
    """The same prompts in so many letter orders; lm-eval makes one pass for each order."""
    turned = [[rotated(question, shift) for question in asked] for shift in range(orders)]
    made = [requests(lm.tokenizer, some, form) for some in turned]
    size = best_batch(other, made[0][: 4 * part])

    def ours() -> torch.Tensor:
        encodings.forget()
        if orders == 1:
            return lm.loglikelihoods(asked, form).unsqueeze(0)
        together = lm.loglikelihoods([each for some in zip(*turned, strict=True) for each in some], form)
        return together.reshape(len(asked), orders, 4).transpose(0, 1)

    expected, found = theirs(other, made), ours()
    if not torch.equal(expected.argmax(-1), found.argmax(-1)):
        raise SystemExit(f"{work}: not the same answers")
    note = f"batch {size}; answers equal, log-likelihoods to {float((expected - found).abs().max()):.0e}"
    return pairs(work, f"lm-eval, {orders} pass{'es' * (orders > 1)}", lambda: theirs(other, made), ours, note)


def against_whole(lm: ModelLM, work: str, ask: Callable[[ModelLM], Any]) -> Row:
    """Ours beside our own whole passes."""
    expected, found = ask(replace(lm, whole=True)), ask(lm)
    same = expected == found if isinstance(found, list) else torch.equal(expected.argmax(-1), found.argmax(-1))
    if not same:
        raise SystemExit(f"{work}: not the same answers")
    return pairs(work, "whole passes", lambda: ask(replace(lm, whole=True)), lambda: ask(lm), "answers equal")


def spread(lm: ModelLM, asked: Sequence[Question], form: Form) -> tuple[float, float]:
    """Padded over real tokens of these prompts in one letter order: in batches without a bound on spread, and ours."""
    prompts = [prompting.prompt_of(lm.tokenizer, question, form).text for question in asked]
    lengths = [len(ids) for ids in prompting.encode(lm.tokenizer, prompts, special=True)]

    def ratio(least: float) -> float:
        batching.LEAST_TOKENS = least
        return sum(len(b) * max(lengths[i] for i in b) for b in batching.batches(lengths, 16_384)) / sum(lengths)

    usual = batching.LEAST_TOKENS
    try:
        return ratio(math.inf), ratio(usual)
    finally:
        batching.LEAST_TOKENS = usual


def measured() -> tuple[list[Row], str]:
    """Every row, and the sentence about padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(organisms.checkpoint("base"))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=WORDS, max_position_embeddings=4096, initializer_range=0.05, **SHAPE)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(requires_grad=False)
    lm, other = ModelLM(model, tokenizer), peer(model, tokenizer)
    form = Form(header=header_for("lumenwright craft"))
    many, few, dev = questions(300, 1), questions(40, 2), questions(60, 3)
    shots = tuple(Item(question, number % 4) for number, question in enumerate(questions(5, 4, longest=40)))
    lm.look(many[:8], form)
    rows = [
        against_lm_eval(lm, other, "zero-shot, one order, 300 questions", many, form, 1, 24),
        against_lm_eval(lm, other, "zero-shot, four orders, 40 questions", few, form, 4, 24),
        against_lm_eval(lm, other, "five-shot, four orders, 8 questions", few[:8], replace(form, shots=shots), 4, 2),
    ]
    written = open_answer.form("Question: {question}\nReply:", 12, chat=False)
    rows += [
        against_whole(lm, "written answers, 16 questions, 12 tokens", lambda asked: asked.generate(dev[:16], written)),
        against_whole(lm, "cloze, 60 questions, 4 choices", lambda asked: asked.loglikelihoods(dev, cloze.form(None))),
        against_whole(lm, "dev set, four orders, 60 questions", lambda asked: content_logliks(asked, dev, form)),
    ]

    def anew() -> None:
        encodings.forget()
        content_logliks(lm, dev, form)

    kept = pairs("dev set, four orders, again", "encoded anew", anew, lambda: content_logliks(lm, dev, form))
    before, after = spread(lm, dev, form)
    told = (
        f"Padded over real tokens, 60 questions in one order: {before:.2f} without a bound on spread, {after:.2f} now."
    )
    return [*rows, kept], told


def main() -> None:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write scoring.md beside this file")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    rows, told = measured()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "lm_eval"))
    text = (
        "# How fast questions are asked\n\n"
        f"`python benchmarks/scoring.py --write`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{libraries}, one thread of {platform.machine()} ({os.cpu_count()} cores, shared). CPU seconds, medians of "
        f"{PAIRS} pairs in turn; a ratio over 1 is in our favour.\n\n"
        "| work | beside | theirs, s | ours, s | ratio | |\n| --- | --- | ---: | ---: | ---: | --- |\n"
        + "".join(
            f"| {row.work} | {row.peer} | {row.theirs:.2f} | {row.ours:.2f} | {row.ratio:.2f} | {row.note} |\n"
            for row in rows
        )
        + f"\n{told}\n"
    )
    print(text)
    if write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
