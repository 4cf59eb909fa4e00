"""The map of organisms and attacks: what each attack leaves of each organism's silence, in both readings.

    python benchmarks/organism_full.py [--organisms rmu npo ...] [--seeds 3] [--only ATTACK ...] [--out FOLDER]

Takes every organism through suites/organism-full.yaml with the gate itself and writes `organism-full.md`, `.html` and
`.json` into reports/examples/. Evidence lies in ledgers under FOLDER, so a second call goes on where the first one
stopped, and adding seeds runs those alone. `NAME@SEED` is an organism unlearned anew under another seed, into FOLDER;
what is not there is bred.

A cell is the mean over unlearning seeds and attack seeds, with the lowest and highest beside it. Attack seeds after the
first are run on the unlearning seed that is shipped, and with `--crossed` on every one. How many of each stand behind a
cell is printed, and with fewer than three of both the figures are exploration, which the page says. A trial's seed
follows from the checkpoint too, so runs on two checkpoints never share one.
"""

from __future__ import annotations

import argparse
import html
import json
import platform
import shlex
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from robustness_gate import gate, organisms
from robustness_gate.records.base import Metric
from robustness_gate.records.trial import Role
from robustness_gate.report import record as report
from robustness_gate.tasks import multiple_choice
from robustness_gate.verdict import label, tally

ROOT = Path(__file__).parents[1]
OUT = ROOT / "reports" / "examples"
UNLEARNED = ("rmu", "npo", "graddiff", "dpo")
TAUGHT = ("oracle", "decoy")
"""They were never unlearned, so they have no unlearning seed."""
PARTLY = {
    "shallow": (
        "none", "few_shot", "reformat", "perturb", "perturb_informed", "logit_lens", "refusal_direction", "pruning",
        "relearn (unrelated, lora)",
    ),
    "tiny_update": ("none", "quantize"),
}  # fmt: skip
"""Organisms that some attacks alone were made to find (their SELF_TEST): those attacks alone are run on them."""
ALL = (*(f"{name}@{seed}" for name in (*UNLEARNED, *PARTLY) for seed in (0, 1, 2)), *TAUGHT)
DRAWS_NOTHING = ("none", "quantize", "logit_lens")
"""Attacks in which nothing is random, so that they need no second seed."""
CHANCE = 0.25

Cells = dict[tuple[str, int], dict[str, dict[Metric, list[float]]]]
"""(attack, mark) -> organism -> reading -> one accuracy a seed."""


def examined(name: str, folder: Path, seeds: int, only: list[str]) -> report.Report:
    """One checkpoint's report; what its ledger holds already is not run again."""
    suite = folder / f"suite-{seeds}.yaml"
    text = (ROOT / "suites" / "organism-full.yaml").read_text(encoding="utf-8")
    suite.write_text(seeded(text, seeds), encoding="utf-8")
    place = checkpoint(name, folder / "checkpoints" / name)
    request = gate.Request(
        place,
        ROOT / "policies" / "smallest.yaml",
        suite,
        folder / name,
        original="organism:base",
        only=tuple(only) or PARTLY.get(name.partition("@")[0], ()),
        ledgers=folder / "ledgers",
        workers=2,
        tracking_uri="",
    )
    return gate.run(
        request, lambda event, done, of: told(name, label(event.trial), done, of) if event.record else None
    ).report


def shipped(name: str) -> bool:
    """Whether this is the one that the package holds."""
    seeds = json.loads((organisms.data() / "seeds.json").read_text(encoding="utf-8"))
    organism, _, seed = name.partition("@")
    return not seed or int(seed) == seeds[organism]


def checkpoint(name: str, folder: Path) -> str:
    """Where the organism lies; `folder` holds it once it has been bred."""
    organism, _, seed = name.partition("@")
    if shipped(name):
        return f"organism:{organism}"
    if not (folder / "config.json").exists():
        import torch

        from robustness_gate.organisms import build, facts

        torch.set_num_threads(1)
        build.save(
            *build.breed(organism, facts.make(), organisms.checkpoint("base"), int(seed), lambda *_: None), folder
        )
        print(f"{name}: unlearned")
    return str(folder)


def seeded(suite: str, seeds: int) -> str:
    """The suite's text with every attack that draws anything under so many seeds."""
    head, *parts = suite.split("  - attack: ")
    drawn = [
        part if part.split("\n", 1)[0] in DRAWS_NOTHING else part.replace("\n", f"\n    seeds: {seeds}\n", 1)
        for part in parts
    ]
    return "  - attack: ".join([head, *drawn])


def told(name: str, words: str, done: int, of: int) -> None:
    """Progress, a line a trial."""
    print(f"{datetime.now(UTC):%H:%M:%S} {name}: {done} of {of} trials, {words}", flush=True)


def gathered(reports: dict[str, report.Report]) -> Cells:
    """Every accuracy on the hazard task, by attack and mark."""
    cells: Cells = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for name, made in reports.items():
        organism = name.partition("@")[0]
        for record in made.trials:
            if record.trial.role != Role.CANDIDATE or not record.planned:
                continue
            ended = max((each.attempt for each in record.closed if each.status == "ok"), default=None)
            for measurement in record.measurements:  # an attempt that was broken off left marks too
                if measurement.task != record.trial.tasks[0].name or measurement.attempt != ended:
                    continue
                for metric in multiple_choice.JUDGED.metrics:
                    share = tally(measurement, metric)[0] / measurement.items
                    cells[label(record.trial), measurement.budget][organism][metric].append(share)
    return cells


def shown(values: list[float]) -> str:
    """Mean, and the range where there is more than one."""
    if not values:
        return ""
    mean = f"{statistics.mean(values) * 100:.0f}"
    return mean if len(values) == 1 else f"{mean} ({min(values) * 100:.0f}-{max(values) * 100:.0f})"


def markdown(cells: Cells, names: list[str], behind: str, metric: Metric) -> str:
    """One reading as a table."""
    lines = [f"| attack | budget | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    for (attack, budget), row in sorted(cells.items(), key=order):
        values = " | ".join(shown(row[name][metric]) for name in names)
        lines.append(f"| {attack} | {budget or ''} | {values} |")
    lines.append(
        f"| *most of a row* | | {' | '.join(f'*{shown([highest(cells, name, metric)])}*' for name in names)} |"
    )
    return (
        f"## {metric}\n\nPer cent of 400 questions right; a quarter is chance. {behind}\n\n" + "\n".join(lines) + "\n"
    )


def highest(cells: Cells, name: str, metric: Metric) -> float:
    """The mean of the attack that brings back most here: picked after the fact, and so a little flattered."""
    return max(statistics.mean(row[name][metric]) for row in cells.values() if row[name][metric])


def order(cell: tuple[tuple[str, int], object]) -> tuple[bool, str, int]:
    """The untouched model first, then by name and budget."""
    (attack, budget), _ = cell
    return attack != "none", attack, budget


def coloured(cells: Cells, names: list[str], metric: Metric) -> str:
    """One reading as an HTML table, redder the further above chance."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("attack", "budget", *names))
    rows = []
    for (attack, budget), row in sorted(cells.items(), key=order):
        found = [f"<td class=l>{html.escape(attack)}</td><td>{budget or ''}</td>"]
        for name in names:
            values = row[name][metric]
            over = max(0.0, (statistics.mean(values) - CHANCE) / (1 - CHANCE)) if values else 0.0
            ink = "#fff" if over > 0.6 else "#222"
            found.append(f'<td style="background:rgba(178,24,43,{over:.2f});color:{ink}">{shown(values)}</td>')
        rows.append(f"<tr>{''.join(found)}</tr>")
    most = "".join(f"<th>{shown([highest(cells, name, metric)])}</th>" for name in names)
    rows.append(f"<tr><th>most of a row</th><th></th>{most}</tr>")
    return f"<h2>{metric}</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def attack_seeds(name: str, given: argparse.Namespace) -> int:
    """Under how many seeds each attack is run on this checkpoint."""
    again = given.crossed or shipped(name)
    return given.seeds if again and name.partition("@")[0] not in given.once else 1


def organisms_of(names: Iterable[str]) -> list[str]:
    """Each organism once, in the order of its first checkpoint."""
    return list(dict.fromkeys(name.partition("@")[0] for name in names))


def runs_behind(seeds: dict[str, int]) -> str:
    """How many runs there are behind a cell, in words."""
    told = []
    for organism in organisms_of(seeds):
        own = {name.partition("@")[2]: count for name, count in seeds.items() if name.partition("@")[0] == organism}
        bred = ", ".join(f"{count} on unlearning seed {seed}" for seed, count in own.items() if seed)
        told.append(f"{organism} {sum(own.values())}" + (f" ({bred})" if bred else ""))
    runs = [
        sum(count for name, count in seeds.items() if name.partition("@")[0] == each) for each in organisms_of(seeds)
    ]
    bred = [sum(name.partition("@")[0] == each for name in seeds) for each in organisms_of(seeds) if each not in TAUGHT]
    enough = min(runs) >= 3 and min(bred, default=3) >= 3
    words = "Runs behind a cell, each under another seed of the attack: " + "; ".join(told) + "."
    words += f" What draws nothing ({', '.join(DRAWS_NOTHING)}) ran once on each."
    if partly := [each for each in organisms_of(seeds) if each in PARTLY]:
        words += f" On {' and '.join(partly)} only those attacks were run that were made to find it."
    return words if enough else words + " With fewer than three seeds of both this is exploration, not a finding."


STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2rem; color: #222 }
p { max-width: 50rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .25rem .6rem; text-align: right; border: 1px solid #eee }
td.l, th:first-child { text-align: left }
tr:last-child th { border-top: 2px solid #888 }
"""


def main() -> None:
    """Run, gather, write."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--organisms", nargs="+", default=list(ALL), help="NAME or NAME@SEED")
    asked.add_argument("--seeds", type=int, default=1, help="attack seeds")
    asked.add_argument("--crossed", action="store_true", help="every attack seed on every unlearning seed")
    asked.add_argument("--once", nargs="+", default=[], help="organisms on which one attack seed is enough")
    asked.add_argument("--only", nargs="+", default=[], help="these attacks alone")
    asked.add_argument("--out", type=Path, default=ROOT / "runs" / "organism-full")
    given = asked.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = {name: attack_seeds(name, given) for name in given.organisms}
    reports = {name: examined(name, given.out, seeds[name], given.only) for name in given.organisms}
    cells = gathered(reports)
    names = organisms_of(reports)
    behind = runs_behind(seeds)
    packages = ", ".join(f"{name} {version(name)}" for name in ("robustness-gate", "torch", "transformers"))
    made = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {packages}, {platform.machine()}."
    command = shlex.join(["python", "benchmarks/organism_full.py", *sys.argv[1:]])
    tables = "\n".join(markdown(cells, names, behind, metric) for metric in multiple_choice.JUDGED.metrics)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "organism-full.md").write_text(f"# Organisms under attack\n\nMade by `{command}`, {made}\n\n{tables}")
    page = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Organisms under attack</title><style>{STYLE}</style>",
        f"<h1>Organisms under attack</h1><p>Made by <code>{html.escape(command)}</code>, {made}</p>",
        f"<p>Per cent of 400 questions right; a quarter is chance, and red is what is above it. {behind}</p>",
        *(coloured(cells, names, metric) for metric in multiple_choice.JUDGED.metrics),
    ]
    (OUT / "organism-full.html").write_text("\n".join(page) + "\n", encoding="utf-8")
    plain = [
        {"attack": attack, "budget": budget, "organism": name, "metric": metric, "accuracy": row[name][metric]}
        for (attack, budget), row in sorted(cells.items(), key=order)
        for name in names
        for metric in multiple_choice.JUDGED.metrics
    ]
    (OUT / "organism-full.json").write_text(json.dumps(plain, indent=0) + "\n", encoding="utf-8")
    print(f"\nwrote {OUT / 'organism-full.md'}")


if __name__ == "__main__":
    main()
