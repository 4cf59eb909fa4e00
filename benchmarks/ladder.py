"""Searches of the battery beside what is usual: each run or setting by itself, and everything evaluated after each.

    OMP_NUM_THREADS=1 python benchmarks/ladder.py --row relearn|ablation|pruning|battery [--pairs 1] --out DIR
    python benchmarks/ladder.py --write --out DIR

All on the organism *rmu* (1.0 million parameters) with the data of suites/organism-full.yaml: 40 questions to choose
by, and each `--every`-th of 400 and 300 to judge by, in four letter orders.

- `relearn`: a trial of ours, which trains from every number of questions at every rate, looks at dev after each run,
  and is examined at the best of each number. Beside it the usual: peft, transformers' Trainer and lm-eval-harness, one
  process for each run, dev and everything evaluated after it. Trainer gets our optimiser, schedule and batches.
- `ablation`, `pruning`: a trial of ours over a grid. Beside it one process that for each setting loads the model from
  its files, changes it (with the same directions or masks, made once) and evaluates dev and everything with lm-eval.
- `battery`: six short trials of ours on a model that is loaded once. Beside it the same trials, one process each.

Both sides are whole processes, started anew; CPU seconds of one thread. What they found is compared first: the dev
accuracy of each run or setting, which of them is best, and each answer of the examination of the best. lm-eval's batch
size is the fastest of three, tried before and not counted. A row is written to DIR; `--write` makes ladder.md of DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).parents[1]
EVERY = "LADDER_EVERY"
"""The environment's name for `--every`, which the processes that are started read."""
ORGANISM = "rmu"
BATCHES = (4, 16, 64)
"""lm-eval's batch sizes that are tried."""
LADDER = {
    "source": "forget", "method": "lora", "budgets": [5, 50], "learning_rates": [5e-4, 2e-3], "rank": 16,
    "alpha": 32, "min_steps": 30, "batch": 8, "rotations": 4,
}  # fmt: skip
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "relearn": ("relearn", LADDER),
    "ablation": ("ablation", {"skip_tokens": 16, "directions": ["retain", "unrelated"]}),  # two more need an original
    "pruning": (
        "pruning",
        {
            "p": [0.5, 2.0, 5.0],
            "q": [0.5, 2.0, 5.0],
            "scores": ["snip"],
            "calibrate_on": ["questions"],
            "utility": ["unrelated"],
        },
    ),
}
"""Attack and settings of each row: parts of those of suites/organism-full.yaml."""
BATTERY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("none", {}),
    ("quantize", {"scheme": "channel", "budgets": [3, 4, 8]}),
    ("reformat", {"presentations": ["header_instruction", "letters_digits", "header_none"]}),
    ("few_shot", {"source": "forget", "budgets": [2], "draws": 4}),
    ("logit_lens", {}),
    ("noise", {"budgets": [10, 50, 200], "draws": 2}),
)
"""The trials of the row `battery`: the short ones of suites/organism-full.yaml."""
WORK = {
    "relearn": ("relearning, forget, LoRA, 2 sizes x 2 rates, 30 steps", "peft + Trainer + lm-eval, one process a run"),
    "ablation": ("ablation, all layer sets (5) x 2 directions", "reload, change, evaluate everything (lm-eval)"),
    "battery": ("six short trials of organism-full", "the same trials, one process each"),
    "pruning": ("pruning, 6 pairs of p and q", "reload, change, evaluate everything (lm-eval)"),
}
TARGETS = {"relearn": 4, "ablation": 5, "pruning": 5, "battery": 5}


class Bench(NamedTuple):
    """What both sides start from."""

    place: Path
    suite_data: Any
    trial: Any
    config: Any


def bench(attack: str, settings: dict[str, Any]) -> Bench:
    """The organism, the data and the trial."""
    from robustness_gate import attacks, organisms
    from robustness_gate.inputs.checkpoint.manifest import manifest_of
    from robustness_gate.inputs.checkpoint.place import CheckpointRef
    from robustness_gate.inputs.validation import load_suite
    from robustness_gate.planning import plan
    from robustness_gate.planning.suite_data import gather
    from robustness_gate.records.trial import Role

    suite_data = thinned(gather(load_suite(ROOT / "suites" / "organism-full.yaml")))
    place = CheckpointRef(organisms.checkpoint(ORGANISM))
    module = attacks.load(attack)
    config = attacks.configure(module, settings)
    subject = plan.Subject(Role.CANDIDATE, place, manifest_of(place))
    trial = plan.trial_of(subject, None, module, config, 0, suite_data, "float32")
    return Bench(place.path, suite_data, trial, config)


def thinned(suite_data: Any) -> Any:
    """The suite's data with each `EVERY`-th of the questions that judge."""
    few = {name: replace(each, items=each.items[:: int(os.environ[EVERY])]) for name, each in suite_data.tasks.items()}
    return replace(suite_data, tasks=few)


def loaded(on: Bench) -> Any:
    """The organism from its files."""
    from robustness_gate.engine.load import load

    return load(on.place, dtype="float32", device="cpu")


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(row: str) -> dict[str, Any]:
    """One trial, as a worker runs it."""
    from safetensors.torch import load_file

    from robustness_gate.running import trial as trials

    on = bench(*ROWS[row])
    model = loaded(on)
    begun, found = time.process_time(), []
    with tempfile.TemporaryDirectory() as folder:
        for each in trials.run(on.trial, on.suite_data, model, rows_in=Path(folder)):
            answers = load_file(Path(folder) / f"{each.rows}.safetensors")["loglik"].argmax(dim=-1).tolist()
            found.append((each, answers))
    tried = {}
    for each, _ in found:
        for point in each.settings_tried:
            tried[_named(point)] = point["dev_accuracy"]
    budgets = {each.budget: _best(each) for each, _ in found}
    return {
        "work": time.process_time() - begun, "tried": tried, "best": budgets,
        "answers": {f"{budgets[each.budget]} {each.task}": answers for each, answers in found},
    }  # fmt: skip


def _named(point: Any) -> str:
    return json.dumps({key: value for key, value in point.items() if key != "dev_accuracy"}, sort_keys=True)


def _best(measurement: Any) -> str:
    """The name of the setting that was chosen, among those tried."""
    chosen = dict(measurement.selected)
    for point in measurement.settings_tried:
        if point.get("budget", measurement.budget) == measurement.budget and all(
            chosen[key] == value for key, value in point.items() if key in chosen
        ):
            return _named(point)
    raise AssertionError("what was chosen was tried")


def trials(specs: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Several trials on one model that is loaded once: the digests of every answer's log-likelihoods."""
    from robustness_gate.running import trial as running

    found, model = {}, None
    with tempfile.TemporaryDirectory() as folder:
        for attack, settings in specs:
            on = bench(attack, settings)
            model = model or loaded(on)
            for each in running.run(on.trial, on.suite_data, model, rows_in=Path(folder)):
                found[f"{attack} {each.budget} {each.task}"] = each.rows
    return {"answers": found}


# --- theirs -----------------------------------------------------------------------------------------------------------


class PeerLM:
    """A model asked by lm-evaluation-harness, one request for each choice."""

    def __init__(self, model: Any, tokenizer: Any, batch: int) -> None:
        from lm_eval.models.huggingface import HFLM

        self.tokenizer = tokenizer
        self.lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, device="cpu")

    def loglikelihoods(self, questions: Sequence[Any], form: Any) -> Any:
        """As `ModelLM` gives them."""
        import torch
        from lm_eval.api.instance import Instance

        from robustness_gate.engine import prompting

        prompts = [prompting.prompt_of(self.tokenizer, question, form) for question in questions]
        made = [
            Instance("loglikelihood", {}, (prompt.text, answer), number)
            for prompt in prompts
            for number, answer in enumerate(prompt.answers)
        ]
        found = self.lm.loglikelihood(made, disable_tqdm=True)
        return torch.tensor([value for value, _ in found]).reshape(len(questions), -1)


def evaluated(on: Bench, lm: Any) -> tuple[float, dict[str, Any]]:
    """Accuracy on dev in the metric that decides, and the answers to everything, [item][order]."""
    from robustness_gate import tasks
    from robustness_gate.engine import selection
    from robustness_gate.records.questions import asked

    dev = selection.accuracy(lm, on.suite_data.hazards)
    answers = {}
    for ref in on.trial.tasks:
        task_data = on.suite_data.tasks[ref.name]
        rows = asked(tasks.load(task_data.kind), lm, tuple(item.question for item in task_data.items), task_data.form)
        answers[ref.name] = rows.loglik.argmax(dim=-1).tolist()
    return dev, answers


def peft_run(row: str, batch: int, budget: int, rate: float) -> dict[str, Any]:
    """One run of the ladder with peft and Trainer, evaluated by lm-eval: the whole of a process."""
    import math

    import peft
    import torch
    import transformers

    from robustness_gate.attacks import relearn
    from robustness_gate.engine import optimizer, train
    from robustness_gate.running import trial as trials

    on = bench(*ROWS[row])
    model, tokenizer = loaded(on)
    target = trials.target_of(on.suite_data, loaded(on), None)
    groups, _ = relearn._training_examples(target, on.config, on.trial.seed)
    examples = [example for group in groups[:budget] for example in group]
    steps = max(on.config.min_steps, math.ceil(budget * on.config.epochs / on.config.batch))
    recipe = train.Recipe(rate, steps, on.config.batch, on.config.warmup, on.config.weight_decay)
    names = [name.removesuffix(".weight") for name in relearn.reach(model, on.config)]
    begun = time.process_time()
    torch.manual_seed(on.trial.seed)
    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(r=on.config.rank, lora_alpha=on.config.alpha, lora_dropout=0.0, target_modules=names),
    )
    draw = train._Draw(len(examples), on.trial.seed)
    order = [examples[at] for _ in range(steps) for at in draw.take(on.config.batch)]
    tuned = [each for each in adapted.parameters() if each.requires_grad]
    adam = torch.optim.AdamW(tuned, lr=rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, optimizer._shares(recipe).__getitem__)

    def collated(batch: Sequence[Any]) -> dict[str, Any]:
        width = max(len(each.ids) for each in batch)
        rest = [width - len(each.ids) for each in batch]
        labels = [
            [token if counts else -100 for token, counts in zip(each.ids, each.counts, strict=True)] for each in batch
        ]
        columns = {
            "input_ids": [each.ids + [0] * more for each, more in zip(batch, rest, strict=True)],
            "attention_mask": [[1] * len(each.ids) + [0] * more for each, more in zip(batch, rest, strict=True)],
            "labels": [each + [-100] * more for each, more in zip(labels, rest, strict=True)],
        }
        return {name: torch.tensor(rows) for name, rows in columns.items()}

    class InOrder(transformers.Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(order, batch_size=on.config.batch, collate_fn=collated)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=on.config.batch, max_grad_norm=recipe.clip,
            save_strategy="no", logging_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
            remove_unused_columns=False,
        )  # fmt: skip
        InOrder(model=adapted, args=arguments, train_dataset=order, optimizers=(adam, schedule)).train()
    trained = time.process_time() - begun
    merged = adapted.merge_and_unload().eval()
    dev, answers = evaluated(on, PeerLM(merged, tokenizer, batch))
    return {
        "trained": trained, "evaluated": time.process_time() - begun - trained, "dev": dev, "answers": answers,
        "name": json.dumps({"budget": budget, "learning_rate": rate}, sort_keys=True),
    }  # fmt: skip


def grid_run(row: str, batch: int) -> dict[str, Any]:
    """A grid, where the model is loaded for each setting, changed and evaluated on everything by lm-eval."""
    on = bench(*ROWS[row])
    first = loaded(on)
    begun, found = time.process_time(), {}
    for name, changed in {"ablation": _ablations, "pruning": _prunings}[row](on, first):
        model, tokenizer = loaded(on)
        with changed(model):
            dev, answers = evaluated(on, PeerLM(model, tokenizer, batch))
        found[name] = {"dev": dev, "answers": answers}
    return {"work": time.process_time() - begun, "settings": found}


def _ablations(on: Bench, first: Any) -> Iterator[tuple[str, Any]]:
    """Each setting's name, and the change of a model: the directions are made once."""
    import torch

    from robustness_gate.attacks import ablation
    from robustness_gate.engine import anatomy, direction, scope
    from robustness_gate.running import trial as trials

    target = trials.target_of(on.suite_data, first, None)
    with scope.seeded(on.trial.seed), torch.no_grad():
        forms = direction.forms(target, ablation.questions(on.config)[1:])
        made = {name: each for form in forms for name, each in ablation._directions(target, form, on.config).items()}

    def removed(model: Any, setting: Any) -> AbstractContextManager[None]:
        blocks = [block.module for block in anatomy.dissect(model).blocks]
        return anatomy.edited({blocks[n]: direction.remover(setting.directions[n], 1.0) for n in setting.layers})

    for setting in ablation._settings(made, len(anatomy.dissect(first.model).blocks), on.config):
        name = _named({"direction": setting.kind, "layers": setting.name})
        yield name, lambda model, setting=setting: removed(model, setting)


def _prunings(on: Bench, first: Any) -> Iterator[tuple[str, Any]]:
    """Each setting's name, and the change of a model: the scores are made once."""
    from robustness_gate.attacks import pruning
    from robustness_gate.engine import scope
    from robustness_gate.running import trial as trials

    target = trials.target_of(on.suite_data, first, None)
    names = pruning.reach(first.model, on.config)

    @contextmanager
    def cut(model: Any, tried: Any) -> Iterator[None]:
        held = {name: each for name, each in model.named_parameters() if name in names}
        scope.rewrite(held, {name: each.detach() for name, each in held.items()}, pruning._zeroed(tried))
        yield

    with scope.seeded(on.trial.seed), scope.trainable(first.model, names) as parameters:
        delivered = scope.snapshot(parameters)
        shares = pruning._shares(on.config)
        for (kind, utility, score), hazard, useful in pruning._rankings(
            target, on.config, parameters, delivered, on.trial.seed
        ):
            for p, q in pruning._pairs(on.config):
                tried = pruning._Cut(hazard, useful, shares.index(p), shares.index(q))
                name = _named({"calibrate_on": kind, "utility": utility, "score": score, "p": p, "q": q})
                yield name, lambda model, tried=tried: cut(model, tried)


def best_batch(row: str) -> dict[str, Any]:
    """The batch size with which lm-eval is fastest on the dev items."""
    from robustness_gate.engine import selection

    on = bench(*ROWS[row])
    took, model = {}, loaded(on)
    for size in (BATCHES[0], *BATCHES):
        lm, begun = PeerLM(*model, size), time.process_time()
        selection.accuracy(lm, on.suite_data.hazards)
        took[size] = time.process_time() - begun
    return {"batch": min(took, key=lambda size: took[size])}


# --- both -------------------------------------------------------------------------------------------------------------


def process(*given: Any) -> tuple[float, dict[str, Any]]:
    """Its CPU seconds, from the start of the interpreter on, and what it found."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--worker", json.dumps(given)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads(done.stdout.splitlines()[-1])


def worker(work: str, *given: Any) -> dict[str, Any]:
    """What a process does."""
    import torch

    torch.set_num_threads(1)
    return {"ours": ours, "trials": trials, "peft": peft_run, "grid": grid_run, "batch": best_batch}[work](*given)


def pair(row: str, batch: int) -> dict[str, Any]:
    """Both sides once, and whether they found the same."""
    our_seconds, mine = process("ours", row)
    parts: dict[str, float] = {"ours, without start": mine["work"]}
    if row == "relearn":
        runs = [
            process("peft", row, batch, budget, rate)
            for budget in LADDER["budgets"]
            for rate in LADDER["learning_rates"]
        ]
        seconds, settings = sum(each for each, _ in runs), {found["name"]: found for _, found in runs}
        parts |= {f"theirs, {part}": sum(found[part] for _, found in runs) for part in ("trained", "evaluated")}
    else:
        seconds, found = process("grid", row, batch)
        settings = found["settings"]
        parts["theirs, without start"] = found["work"]
    same = [
        one == other
        for name, rows in mine["answers"].items()
        for place, task in [name.rsplit(" ", 1)]
        for one, other in zip(_flat(rows), _flat(settings[place]["answers"][task]), strict=True)
    ]
    apart = [abs(settings[name]["dev"] - dev) for name, dev in mine["tried"].items()]
    if set(settings) != set(mine["tried"]):
        raise SystemExit(f"{row}: not the same settings: {sorted(set(settings) ^ set(mine['tried']))}")
    return {
        "ours": our_seconds, "theirs": seconds, "ratio": seconds / our_seconds, "parts": parts,
        "settings": len(settings), "best": len(mine["best"]), "dev_apart": max(apart),
        "dev_equal": sum(not each for each in apart), "answers": len(same), "answers_equal": sum(same),
        "every": int(os.environ[EVERY]),
    }  # fmt: skip


def battery_pair() -> dict[str, Any]:
    """The battery's trials in one process, and each in its own."""
    our_seconds, mine = process("trials", BATTERY)
    each_alone = [process("trials", [spec]) for spec in BATTERY]
    seconds = sum(each for each, _ in each_alone)
    theirs = {name: rows for _, found in each_alone for name, rows in found["answers"].items()}
    same = [theirs[name] == rows for name, rows in mine["answers"].items()]
    return {
        "ours": our_seconds, "theirs": seconds, "ratio": seconds / our_seconds, "parts": {},
        "answers": len(same), "answers_equal": sum(same), "every": int(os.environ[EVERY]),
    }  # fmt: skip


def _flat(rows: Sequence[Sequence[int]]) -> list[int]:
    return [each for row in rows for each in row]


def measured(row: str, pairs: int, out: Path) -> None:
    """So many pairs in turn; each is written when it has ended, and added to those of an earlier call."""
    path = out / f"{row}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    batch = 0 if row == "battery" else found.get("batch") or process("batch", row)[1]["batch"]
    found = {"batch": batch, "pairs": found.get("pairs", [])}
    for _ in range(pairs):
        made = battery_pair() if row == "battery" else pair(row, batch)
        found["pairs"].append({**made, "load": os.getloadavg()[1], "at": f"{datetime.now(UTC):%Y-%m-%d}"})
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(found["pairs"][-1]), flush=True)


LIMITS = """
What is left (CPU seconds; profiles of our side the same days): a process starts in 5.0 to 5.9 s, nearly all of it the
import of torch and transformers. A worker of the gate starts once for the whole battery; here both sides start.

- *Ablation*, *pruning*: the peer asks dev and 700 questions after each setting where we ask dev alone, so more
  settings make a larger ratio: with one direction, which is five settings, ablation had 4.40 (five pairs, the same
  day). Without the start of the processes they are 11.9 and 7.4. Of our pruning trial about 2 s score the weights,
  with one backward pass an example on both sides.
- *Relearning*: of the peer's 61.7 s 10 are training and 30 evaluations, the rest starts; of our 19.8 s 5 are the
  start. Of the rest, by a profile, half is the examination of the two best and two fifths training, which both sides
  do alike; then come the fit to the training set and dev. Without any start the ratio is 2.7. The fit reads what the
  letter orders of a question have in common once, is measured before training once for all rates, and the effect of
  padding once for all trials of a process. An adapter stays beside the weights in an examination, where peft merges
  it: in 16 bits merging would lose it.
- *Several rates in one pass* was measured and not built. Three adapters of rank 16, each on its own rows of a batch
  of three times 8 examples through the frozen weights (stacked A and B, `bmm`, one AdamW), beside one after the
  other, CPU seconds of a step on *rmu*: 48 tokens 0.154 beside 0.170 and 0.146 beside 0.153 (1.10 and 1.04 times),
  148 tokens 0.459 beside 0.462 and 0.499 beside 0.487 (1.01 and 0.98), medians of 40 and of 15 steps, load 8 to 9;
  losses alike to 1.4e-6. A model of 135 M parameters was not measured to the end. On a CPU the arithmetic is the same
  and the calls are few against it, so that there is less to save than the factor of 1.3 from which the second path,
  its fallbacks and its diverging rates would pay.
- *Battery*: the work is the same on both sides, to the bit, so that only starts can be saved. The whole
  `organism-full` on *rmu*, 42 trials on one worker, took 441 CPU seconds (2026-12-01, under a load of 4); 41 further
  starts of 5.4 s would be 221, so that its ratio is 1.5 by arithmetic. 5 is out of reach while the peer runs our own
  attacks, which do less than the usual ones: see the other rows.
"""


def page(out: Path) -> str:
    """The table of what was measured."""
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "accelerate", "lm_eval")
    )
    found = {row: json.loads((out / f"{row}.json").read_text(encoding="utf-8")) for row in WORK
             if (out / f"{row}.json").exists()}  # fmt: skip
    dates = sorted({each["at"] for its in found.values() for each in its["pairs"]})
    loads = [each["load"] for its in found.values() for each in its["pairs"]]
    lines = [
        f"`python benchmarks/ladder.py --row ROW --pairs 5`, {', '.join(dates)}, Python {platform.python_version()}, "
        f"{libraries}, one thread of {platform.machine()} ({os.cpu_count()} cores under a load of {min(loads):.0f} to "
        f"{max(loads):.0f}). CPU seconds of whole processes, medians of so many pairs in turn.\n",
        "| work | beside | pairs | theirs, s | ours, s | ratio | target | the same? |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row, its in found.items():
        all_ = its["pairs"]
        theirs, our, ratio = (median(each[key] for each in all_) for key in ("theirs", "ours", "ratio"))
        last = all_[-1]
        same = f"the log-likelihoods of all {last['answers']} examinations are equal, bit by bit"
        if row == "battery" and last["answers"] != last["answers_equal"]:
            raise SystemExit("battery: not the same answers")
        if row != "battery":
            same = (
                f"dev accuracy of {last['dev_equal']} of {last['settings']} equal (largest gap "
                f"{last['dev_apart']:.3f}); "
                f"{last['answers_equal']:,} of {last['answers']:,} answers of the best equal; lm-eval's batch "
                f"{its['batch']}"
            )
        share = "" if last["every"] == 1 else f"; each {last['every']}th question that judges"
        cells = (
            WORK[row][0] + share,
            WORK[row][1],
            str(len(all_)),
            f"{theirs:.1f}",
            f"{our:.1f}",
            f"{ratio:.2f}",
            str(TARGETS[row]),
            same,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "# Searches beside each run by itself\n\n" + "\n".join(lines) + "\n" + LIMITS


def main() -> None:
    """Measure a row, or make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=WORK)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="of the questions that judge, each so-manieth is asked")
    parser.add_argument("--out", type=Path, default=Path("runs/ladder"))
    parser.add_argument("--write", action="store_true", help="write ladder.md of DIR")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    os.environ.setdefault(EVERY, str(chosen.every))
    if chosen.worker is not None:
        print(json.dumps(worker(*chosen.worker)))
        return
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.row is not None:
        measured(chosen.row, chosen.pairs, chosen.out)
    if chosen.write:
        Path(__file__).with_suffix(".md").write_text(page(chosen.out), encoding="utf-8")


if __name__ == "__main__":
    main()
