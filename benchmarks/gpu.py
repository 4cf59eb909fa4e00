"""The battery on a GPU, in steps of under nine minutes: how fast, how busy the device, how far from the goals.

    python benchmarks/gpu.py --list
    python benchmarks/gpu.py --step NAME --out DIR [--device cuda] [--shape 7b] [--suite suites/wmdp-standard.yaml]
    python benchmarks/gpu.py --table --out DIR

A step is a process of its own. It writes DIR/NAME.json when it has ended, and one that has ended well is not run again,
so a machine that is lent by the quarter of an hour suffices. After `MOST` seconds a step is broken off and says so.

The model is random, of the shape of a Llama 7B in bfloat16, and is made on the device; nothing is downloaded. The
questions are invented (`invented.py`), the tokenizer is the organisms', so prompts are as long as `--words` makes them.
Settings, data sizes, examinations and the ledger are the real ones: the trials are those of the suite's policy, run by
`running.attempt`. A trial with several budgets is one step for each. Trials of a control cost what the candidate's own
do; the table adds them by arithmetic.

- `rate`: the device's rate of a large matrix product, median of five.
- `scoring`: items a second, and the share of that rate which the weights' products alone reach (2 operations for each
  weight of the blocks and token that is read; attention and the head come on top).
- the others: one trial each, in `DIR/ledger.jsonl`.

*Busy* is the mean of what nvidia-smi gives as utilisation, twice a second: the share of time in which any kernel ran.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from invented import POLICIES, ROOT, Battery, battery, tokenizer

from robustness_gate.evidence import ledger as ledgers
from robustness_gate.records.questions import asked
from robustness_gate.records.trial import OWN_ROLES, Closed, Measurement, Trial
from robustness_gate.running.attempt import Load, Resident
from robustness_gate.running.executors import Job
from robustness_gate.system import usage
from robustness_gate.verdict import label

SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 11008, "vocab_size": 32000, "max_position_embeddings": 4096,
    },
    "tiny": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "intermediate_size": 32, "vocab_size": 2000, "max_position_embeddings": 1024,
    },
}  # fmt: skip
SIDES = {"7b": 8192, "tiny": 128}
"""Side of the square matrices of `rate`."""
MOST = 500
"""Seconds after which a step is broken off, the loading of libraries apart."""
SCORED = 512
"""Questions of `scoring`."""
WORDS = 15
GOALS = {"wmdp-smoke": 15, "wmdp-standard": 60}
"""Minutes on one H200."""
BUSY = 0.8
FIRST = ("rate", "scoring")
SETTLED = ("ok", "not_applicable")
"""States of a step that is not run again."""


class OverTime(Exception):
    """A step took too long."""


class Bench(NamedTuple):
    """What every step needs."""

    shape: str
    device: Any
    suite: Path
    policy: Path | None
    words: int
    out: Path


# --- steps ------------------------------------------------------------------------------------------------------------


def rate(on: Bench) -> dict[str, Any]:
    """Operations a second of a large matrix product in the dtype of the battery."""
    import torch

    side = SIDES[on.shape]
    one, other = (torch.randn(side, side, device=on.device, dtype=torch.bfloat16) for _ in range(2))
    took = []
    for _ in range(6):
        begun = _now(on.device)
        for _ in range(10):
            one @ other
        took.append((_now(on.device) - begun) / 10)
    return {"side": side, "seconds": statistics.median(took[1:]), "rate": 2 * side**3 / statistics.median(took[1:])}


def scoring(on: Bench) -> dict[str, Any]:
    """Items a second, asked in every letter order, without a chosen batch size."""
    import torch

    from robustness_gate import tasks
    from robustness_gate.engine import encodings, shared
    from robustness_gate.engine.score import ModelLM
    from robustness_gate.engine.usage import Tokens, watch

    given, loaded = _battery(on), made(on.shape, on.device, 0)
    task_data = given.suite_data.tasks[given.suite_data.hazard]
    task, some = tasks.load(task_data.kind), [item.question for item in task_data.items[:SCORED]]
    lm = ModelLM(loaded.model, loaded.tokenizer)
    lm.look(some[:8], task_data.form)
    tokens, took = Tokens(), []
    watch(loaded.model, tokens)
    with _busy(on.device) as busy:
        for _ in range(3):
            encodings.forget()
            begun = _now(on.device)
            asked(task, lm, tuple(some), task_data.form)
            took.append(_now(on.device) - begun)
    seconds = statistics.median(took)
    blocks = sum(each.numel() for name, each in loaded.model.named_parameters() if ".layers." in name)
    sharing = shared.known(loaded.model)
    return {
        "items": len(some), "seconds": seconds, "items_a_second": len(some) / seconds,
        "tokens": tokens.read / len(took), "operations_a_second": 2 * blocks * tokens.read / len(took) / seconds,
        "common_beginnings": sharing is not None and not sharing.drift.matters, "parameters": _size(loaded.model),
        "dtype": str(torch.bfloat16), "busy": busy(),
    }  # fmt: skip


def attacked(on: Bench, trial: Trial, given: Battery) -> dict[str, Any]:
    """One attempt at a trial, with its whole examinations, in the ledger."""
    job = Job(given.suite_data, {}, str(on.device), on.out / "rows")
    resident = Made(job, on.shape)
    resident.loaded_model(trial)
    end: Closed | None = None
    spent: Any = None
    asked_for = 0
    with ledgers.writing(on.out / ledgers.NAME) as ledger, _busy(on.device) as busy:
        ledger.append(trial)
        begun = _now(on.device)
        with contextlib.closing(resident.attempt(trial, ledger.attempts(trial.id) + 1)) as events:
            for event in events:
                if event.record is not None:
                    ledger.append(event.record)
                asked_for += isinstance(event.record, Measurement)
                end = event.record if isinstance(event.record, Closed) else end
                spent = event.spent or spent
        seconds = _now(on.device) - begun
    assert end is not None, "an attempt ends with a record, whatever happens in it"
    return {
        "status": end.status, "reason": end.reason, "seconds": seconds, "examinations": asked_for,
        "read": spent.tokens_read, "learnt": spent.tokens_learnt, "cpu_seconds": spent.cpu_seconds,
        "device_peak": spent.device_peak_bytes, "host_peak": spent.host_peak_bytes, "busy": busy(),
    }  # fmt: skip


class Made(Resident):
    """Attempts on models that are made on the device in place of being loaded: the subject, and its original."""

    def __init__(self, job: Job, shape: str) -> None:
        super().__init__(job)
        self._shape = shape

    def _load(self, digest: str, dtype: str) -> Any:
        with self._loading(Load(digest, dtype)):
            loaded = made(self._shape, self.job.device, int(digest[:8], 16), dtype)
        self._meter.watch(loaded.model)
        return loaded


def made(shape: str, device: Any, seed: int, dtype: str = "bfloat16") -> Any:
    """A random model of a shape on the device, with the organisms' tokenizer."""
    import torch
    import transformers

    from robustness_gate.engine import padding
    from robustness_gate.engine.load import DTYPES, LoadedModel

    config = transformers.LlamaConfig(**SHAPES[shape], tie_word_embeddings=False)
    with torch.device(device):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    model.to(device).eval().requires_grad_(requires_grad=False)
    padding.guard(model)
    return LoadedModel(model, tokenizer())


# --- the plan ---------------------------------------------------------------------------------------------------------


def _battery(on: Bench) -> Battery:
    """The suite over invented questions; its files are made anew, the same each time."""
    folder = on.out / f"questions-{on.suite.stem}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return battery(on.suite, on.policy, folder, on.words, "bfloat16")


def steps(given: Battery) -> dict[str, Trial]:
    """The candidate's own trials by the name of their step, one for each budget."""
    found: dict[str, Trial] = {}
    own = [trial for trial in given.trials if trial.role in OWN_ROLES]
    for number, trial in enumerate(own):
        stem = f"{given.suite.record.id}-{number:02}-{trial.role}-{_plain(label(trial))}"
        if len(trial.budgets) == 1:
            found[stem] = trial
            continue
        for budget in trial.budgets:
            config = {**trial.config, "budgets": [budget]}
            found[f"{stem}-{budget:g}"] = trial.model_copy(update={"config": config, "budgets": (budget,)})
    return found


def _plain(words: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", words.lower()).strip("-")


def beside(given: Battery) -> list[str]:
    """Names of the candidate's steps that the plan repeats on other models, one for each such trial and budget."""
    own = {(trial.attack, json.dumps(trial.config, sort_keys=True), trial.seed_index): name
           for name, trial in steps(given).items()}  # fmt: skip
    found = []
    for trial in given.trials:
        if trial.role in OWN_ROLES:
            continue
        for budget in trial.budgets:
            config = trial.config if len(trial.budgets) == 1 else {**trial.config, "budgets": [budget]}
            found.append(own[trial.attack, json.dumps(config, sort_keys=True), trial.seed_index])
    return found


# --- measuring --------------------------------------------------------------------------------------------------------


def _now(device: Any) -> float:
    """Wall time, when the device has done what it was given."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


@contextlib.contextmanager
def _busy(device: Any) -> Iterator[Callable[[], float | None]]:
    """The mean share of time in which a kernel ran, after the block; None where that is not measured."""
    import torch

    if torch.device(device).type != "cuda" or shutil.which("nvidia-smi") is None:
        yield lambda: None
        return
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", "-i", uuid, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "500"]
    with tempfile.TemporaryFile("w+") as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as sampler:
        samples: list[float] = []
        try:
            yield lambda: statistics.mean(samples) / 100 if samples else None
        finally:
            sampler.terminate()
            sampler.wait()
            lines.seek(0)
            samples += [float(line) for line in lines.read().split("\n") if line.strip().isdigit()]


def _size(model: Any) -> int:
    return sum(each.numel() for each in model.parameters())


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Break a block off after so many seconds. Raises OverTime in it."""

    def over(*_: Any) -> None:
        raise OverTime(f"broken off after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- results ----------------------------------------------------------------------------------------------------------


def run(on: Bench, name: str) -> dict[str, Any]:
    """One step; its result is written when it has ended, and returned. One that ended well before is not run again."""
    import torch

    path = on.out / f"{name}.json"
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8")))["status"] in SETTLED:
        return dict(before)
    begun = time.monotonic()
    found: dict[str, Any] = {"status": "ok", "seconds": None}
    try:
        with _within(MOST):
            match name:
                case "rate":
                    found |= rate(on)
                case "scoring":
                    found |= scoring(on)
                case _:
                    given = _battery(on)
                    trial = steps(given).get(name)
                    if trial is None:
                        raise SystemExit(f"there is no step '{name}': --list prints their names")
                    found |= attacked(on, trial, given)
    except OverTime as error:
        found |= {"status": "failure", "reason": str(error)}
    cuda = torch.device(on.device).type == "cuda"
    found |= {
        "step": name, "shape": on.shape, "whole_seconds": time.monotonic() - begun,
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": torch.cuda.get_device_name(on.device) if cuda else usage.processor(),
        "versions": {each: version(each) for each in ("robustness-gate", "torch", "transformers")}, "words": on.words,
    }  # fmt: skip
    beside_it = path.with_suffix(".part")
    beside_it.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    beside_it.replace(path)
    return found


def table(on: Bench) -> str:
    """All results of a folder, and beside them the goals."""
    given = _battery(on)
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(on.out.glob("*.json"))}
    lines = ["| step | seconds | tokens read | learnt | host CPU seconds | device GB | busy | |",
             "|---|---:|---:|---:|---:|---:|---:|---|"]  # fmt: skip
    own = [name for name in steps(given)]
    for name in own:
        its = found.get(name)
        if its is None:
            lines.append(f"| {name} | | | | | | | not run |")
            continue
        cells = (
            _number(its["seconds"]), *(_number(its.get(key), 1e6, " M") for key in ("read", "learnt")),
            _number(its.get("cpu_seconds")), _number(its.get("device_peak"), 1e9), _share(its.get("busy")),
        )  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} | {its['status']} {its.get('reason', '')} |")
    return "\n".join([*_head(found), *lines, "", *_goals(given, found, own)])


def _head(found: dict[str, Any]) -> Iterator[str]:
    machine = next(iter(found.values()), None)
    if machine is not None:
        words = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        yield f"{machine['machine']}, shape {machine['shape']}, {words}, {machine['at']}\n"
    if "rate" in found:
        yield f"- matrix product: {found['rate']['rate'] / 1e12:.3g} TFLOP/s"
    if "scoring" in found and found["scoring"]["status"] == "ok":
        its = found["scoring"]
        share = f", {its['operations_a_second'] / found['rate']['rate']:.0%} of that rate" if "rate" in found else ""
        read = "common beginnings once" if its["common_beginnings"] else "every prompt whole"
        yield f"- scoring, {read}: {its['items_a_second']:.3g} items a second{share}; busy {_share(its['busy'])}"
    yield ""


def _goals(given: Battery, found: dict[str, Any], own: Sequence[str]) -> Iterator[str]:
    """The battery's time beside its goal; no sum where a step is lacking."""
    done = {name: found[name] for name in own if name in found and found[name]["status"] in SETTLED}
    goal = GOALS.get(given.suite.record.id)
    aim = f"goal: {goal} minutes" if goal is not None else "no goal is set"
    more = beside(given)
    if len(done) < len(own):
        yield f"- {len(own) - len(done)} of {len(own)} steps lack a result, so there is no sum; {aim}"
        return
    minutes = sum(each["seconds"] for each in done.values()) / 60
    with_others = minutes + sum(done[name]["seconds"] for name in more) / 60
    yield f"- the candidate's trials: {minutes:.3g} minutes; {aim}"
    yield f"- with {len(more)} more on the original and the controls, by arithmetic: {with_others:.3g} minutes"
    busy = [(each["busy"], each["seconds"]) for each in done.values() if each["busy"] is not None]
    if len(busy) == len(done):
        share = sum(one * seconds for one, seconds in busy) / sum(seconds for _, seconds in busy)
        yield f"- device busy: {share:.0%}; goal: {BUSY:.0%}"
    else:
        yield f"- device busy: not measured; goal: {BUSY:.0%}"


def _number(value: float | None, unit: float = 1.0, name: str = "") -> str:
    return "" if value is None else f"{value / unit:.3g}{name}"


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0%}"


def main(given: Sequence[str] | None = None) -> int:
    """List, run a step, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="the steps, and which of them have a result")
    what.add_argument("--step", metavar="NAME", help="run this one")
    what.add_argument("--next", action="store_true", help="run the first that has no result")
    what.add_argument("--table", action="store_true", help="all results as Markdown")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "wmdp-standard.yaml")
    parser.add_argument("--policy", type=Path, help="by default the shipped one of the suite")
    parser.add_argument("--words", type=int, default=WORDS, help="of a question: 15 make prompts of 148 tokens")
    asked_for = parser.parse_args(given)

    from robustness_gate.engine.load import pick_device

    shipped = POLICIES.get(asked_for.suite.stem)
    policy = asked_for.policy or (ROOT / "policies" / f"{shipped}.yaml" if shipped is not None else None)
    out = asked_for.out.resolve()
    on = Bench(asked_for.shape, pick_device(asked_for.device), asked_for.suite, policy, asked_for.words, out)
    out.mkdir(parents=True, exist_ok=True)
    if asked_for.table:
        print(table(on))
        return 0
    name = asked_for.step
    if name is None:
        names = [*FIRST, *steps(_battery(on))]
        lacking = [each for each in names if not (out / f"{each}.json").exists()]
        if asked_for.list:
            print("\n".join(f"{'      ' if each in lacking else 'done  '}{each}" for each in names))
            return 0
        if not lacking:
            print("every step has a result: --table")
            return 0
        name = lacking[0]
    found = run(on, name)
    print(json.dumps(found))
    return 0 if found["status"] in SETTLED else 1


if __name__ == "__main__":
    sys.exit(main())
