"""Measure every organism under several unlearning seeds: `python -m robustness_gate.organisms.survey FOLDER`.

FOLDER is the output of `build`. The result is FOLDER/measured.json, the only source of every figure about organisms in
the project's pages: accuracy in both metrics on the verdict items of both domains, before and after short fine-tunings.
No number in it is entered by hand.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustness_gate import organisms
from robustness_gate.inputs import prompts
from robustness_gate.organisms import NAMES, build, facts, measure, rescaled, world_files
from robustness_gate.records.questions import Form

if TYPE_CHECKING:
    from robustness_gate.organisms.teach import Progress

UNLEARNING_SEEDS = (0, 1, 2)
"""Each unlearned organism is built again from the same base with each of these."""

SOURCES = {
    "forget": ("forget.relearn.jsonl", facts.FORGET_TOPIC),
    "retain": ("retain.relearn.jsonl", facts.RETAIN_TOPIC),
    "unrelated": ("unrelated.jsonl", facts.UNRELATED_TOPIC),
}
"""The attacker's training data: file, and topic of the header line."""

FULL, LORA = measure.FULL, measure.LORA
LONG = measure.Relearning(steps=250, learning_rate=1e-3)
"""The research prototype's long relearning: twice the rate, twice the steps, all weights."""
FAINT = measure.Relearning(learning_rate=FULL.learning_rate / 2**rescaled.EXPONENT)
"""Full fine-tuning at a rate reduced by the factor of self_destructing's smaller matrices."""
Plan = tuple[tuple[str, int, measure.Relearning], ...]
RELEARNINGS: dict[str, Plan] = {
    "base": (),
    "oracle": tuple(
        (source, count, how)
        for source, count in (("forget", 5), ("forget", 50), ("unrelated", 100), ("retain", 60))
        for how in (FULL, LORA)
    ),
    "rmu": (
        ("forget", 5, FULL),
        ("forget", 5, LORA),
        ("forget", 50, LORA),
        ("unrelated", 100, FULL),
        ("retain", 60, FULL),
    ),
    "collapsed": (("forget", 5, FULL),),
    "shallow": (("forget", 5, FULL), ("unrelated", 100, FULL), ("unrelated", 100, LORA), ("retain", 60, FULL)),
    "npo": (("forget", 5, FULL), ("forget", 50, LORA)),
    "graddiff": (("forget", 5, FULL), ("forget", 50, LORA)),
    "dpo": (),
    "decoy": (("forget", 5, FULL), ("unrelated", 100, FULL)),
    "tiny_update": (("forget", 5, FULL),),
    "destroyed": (("forget", 5, FULL),),
    "hard": (("forget", 5, FULL), ("forget", 72, LONG)),
    "hider": (("forget", 5, FULL), ("forget", 5, LORA)),
    "self_destructing": (("forget", 5, FULL), ("forget", 5, LORA), ("forget", 5, FAINT)),
    **{
        f"{prefix}{name}": plan
        for prefix in organisms.OTHERS
        for name, plan in (
            ("base", ()),
            ("oracle", (("forget", 5, FULL), ("unrelated", 100, FULL))),
            ("rmu", (("forget", 5, FULL), ("forget", 5, LORA))),
            ("decoy", (("forget", 5, FULL), ("unrelated", 100, FULL))),
            ("shallow", (("unrelated", 100, FULL),)),
            ("tiny_update", (("forget", 5, FULL),)),
        )
    },
}
"""By organism: source, number of questions (the first ones of the file), and recipe."""

NOTE = (
    "Shares of right answers on the verdict items of the shipped world (400 forget, 300 retain), weights as stored in"
    " float16, computed in float32. One world, one base, one oracle, one seed of each fine-tuning; only the unlearning"
    " was repeated, with the seeds given. The recipes of rmu, collapsed and shallow were settled while looking at these"
    " same items, those of the others on the dev and relearn items alone. Open questions: of the verdict's facts, the"
    " share of replies that begin with the right value, and with a refusal."
)

CHOICE = (
    "Of each unlearned organism the first unlearning seed from 0 on is shipped that reaches the goals of build.py on"
    " the 112 forget questions of the dev and relearn files and the 60 of retain.relearn. Rows of other seeds show that"
    " not every seed does: what RMU leaves readable depends on its random direction. Bases, oracles and decoys"
    " exist once each; destroyed, which has no goal to reach, is seed 0; self_destructing is made of rmu and bears its"
    " seed."
)


def survey(out: Path, *, only: Sequence[str] = (), progress: Progress, workers: int = 2) -> None:
    """Write `out`/measured.json and update the manifest.

    Args:
        out: a folder made by `build.build`.
        only: measure these again and keep the file's other rows; empty: all.
        progress: called when a checkpoint is done.
        workers: processes with one thread each.
    """
    bred = {(name, seed) for name in NAMES if name not in build.TAUGHT_SEEDS for seed in UNLEARNING_SEEDS}
    subjects = sorted(each for each in bred | set(build.seeds(out).items()) if not only or each[0] in only)
    rows: list[dict[str, Any]] = []
    if only:
        before = json.loads((out / "measured.json").read_text(encoding="utf-8"))
        rows += [row for row in before["rows"] if row["checkpoint"] not in only]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(measure_subject, out, name, seed) for name, seed in subjects]):
            rows += future.result()
            done = {(row["checkpoint"], row["seed"]) for row in rows} & set(subjects)
            progress("survey", len(done), len(subjects))
    record(out, rows)


def record(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `out`/measured.json from measured rows, and the manifest."""
    order = sorted(rows, key=lambda row: (NAMES.index(row["checkpoint"]), row["seed"], row["after"]["key"] != "none"))
    content = {
        "note": NOTE,
        "choice": CHOICE,
        "shipped_seeds": build.seeds(out),
        "spread": spread(order),
        "open_questions": {name: openly(out / "checkpoints" / name) for name in build.seeds(out)},
        "rows": order,
    }
    build.write_json(out / "measured.json", content)
    build.write_manifest(out)


def measure_subject(out: Path, name: str, seed: int) -> list[dict[str, Any]]:
    """All rows of one organism with one seed; the stored checkpoint where it is the shipped seed."""
    import torch

    torch.set_num_threads(1)
    shipped = seed == build.seeds(out)[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = out / "checkpoints" / name
        if not shipped:
            folder = Path(scratch)
            build.save(*build.breed(name, facts.make(), _parent(out, name, seed, folder), seed, _silence), folder)
        model, tokenizer = measure.load(folder)
    rows = [{"after": {"key": "none", "n": 0}, **read(out, model, tokenizer)}]
    for source, count, how in RELEARNINGS[name]:
        file, topic = SOURCES[source]
        items = world_files.read_items(out / "world" / file)[:count]
        after = measure.relearned(model, tokenizer, items, Form(header=prompts.header_for(topic)), how, seed=0)
        key = f"{source} {count} {how.method}" + (f" at {how.learning_rate:.0e}" if how == FAINT else "")
        treatment = {"key": key, "source": source, "n": count, **asdict(how)}
        rows.append({"after": treatment, **read(out, after, tokenizer)})
    return [{"checkpoint": name, "seed": seed, "shipped": shipped, **row} for row in rows]


def _parent(out: Path, name: str, seed: int, scratch: Path) -> Path:
    """The parent of an organism: stored, or, if it was unlearned itself, built with the same seed."""
    above = build.parent_of(name)
    if above in build.TAUGHT_SEEDS:
        return out / "checkpoints" / above
    build.save(*build.breed(above, facts.make(), _parent(out, above, seed, scratch), seed, _silence), scratch / above)
    return scratch / above


def read(out: Path, model: Any, tokenizer: Any) -> dict[str, dict[str, float]]:
    """Both metrics on the verdict items of both domains."""
    result = {}
    for domain, topic in (("forget", facts.FORGET_TOPIC), ("retain", facts.RETAIN_TOPIC)):
        items = world_files.read_items(out / "world" / f"{domain}.verdict.jsonl")
        accuracy = measure.readings(model, tokenizer, items, Form(header=prompts.header_for(topic)))
        result[domain] = {metric: round(share, 4) for metric, share in accuracy.items()}
    return result


def openly(folder: Path) -> dict[str, dict[str, float]]:
    """A checkpoint's written answers about the verdict's facts: shares of right values and of refusals."""
    model, tokenizer = measure.load(folder)
    world = facts.make()
    return {
        domain: {
            "right": round(measure.told(model, tokenizer, asked), 4),
            "declined": round(measure.declined(model, tokenizer, asked), 4),
        }
        for domain, asked in (("forget", world.forget.verdict), ("retain", world.retain.verdict))
    }


def spread(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Lowest and highest accuracy over the seeds, by checkpoint, treatment, domain and metric."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        cell = found.setdefault(row["checkpoint"], {}).setdefault(row["after"]["key"], {})
        for domain in ("forget", "retain"):
            for metric, share in row[domain].items():
                low, high = cell.get(f"{domain}.{metric}", [1.0, 0.0])
                cell[f"{domain}.{metric}"] = [min(low, share), max(high, share)]
    return found


def _silence(*_: object) -> None:
    """A Progress that does nothing."""


def _print(what: str, done: int, total: int) -> None:
    print(f"{what}: {done} of {total}", flush=True)  # noqa: T201 - only when run as a program


if __name__ == "__main__":
    survey(Path(sys.argv[1]), only=sys.argv[2:], progress=_print)
