"""A limit on the share of a gap, on a real language model: the model itself is the one that never knew.

    python benchmarks/real_shares.py

SmolLM2-135M-Instruct knows nothing of an invented world. Taught it, it is the original of `policies/real-shares.yaml`;
as it came, it is the control; taught it and suppressed by RMU, it is a candidate. So is a model that never knew either:
the one from which capitals were unlearned (`./run real`, npo). World, teaching and suppression are those of
`calibrate`, at its first setting for models of this size. What is there is not made again. About an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import real

from robustness_gate.inputs.checkpoint.manifest import manifest_of
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import load_suite
from robustness_gate.policy_language import load_policy
from robustness_gate.report import reading

POLICY, SUITE = "policies/real-shares.yaml", "suites/real-shares.yaml"
NEVER_KNEW = next(method for method in real.METHODS if method.name == "npo")


def main() -> int:
    """Take every step that has no result yet, and print the verdicts and shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=real.ROOT / "runs" / "real", help="folder for models and reports")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    asked = parser.parse_args()
    models, out = asked.out / "models", asked.out / "real-shares"
    never = real.converted(models / "original")
    taught, hidden = spiked(never, models, asked.device)
    twin = real.unlearned(never, NEVER_KNEW, models / NEVER_KNEW.name, asked.device)
    out.mkdir(parents=True, exist_ok=True)
    policy = out / "policy.yaml"
    text = (real.ROOT / POLICY).read_text(encoding="utf-8")
    policy.write_text(text.replace("original: UNPINNED", f"original: {digest(taught)}"), encoding="utf-8")
    for name, candidate in (("taught", taught), ("taught-rmu", hidden), ("never-knew", twin)):
        code = real.step(
            "run", real.relative(candidate), "--policy", real.relative(policy), "--suite", SUITE, "--original",
            real.relative(taught), "--control", f"never_taught={real.relative(never)}", "--out",
            real.relative(out / name), "--ledgers", real.relative(out / "ledgers"), "--device", asked.device,
            "--no-mlflow", *(("--only", "none") if candidate == taught else ()),
        )  # fmt: skip
        if code not in (0, 3, 4):
            return code
    for name in ("taught", "taught-rmu", "never-knew"):
        report = reading.read(out / name)
        print(f"{name}: {report.verdict.outcome}: {report.reason}")
    return 0


def spiked(original: Path, models: Path, device: str) -> tuple[Path, Path]:
    """The taught model and the suppressed one, made as `calibrate` makes them."""
    from robustness_gate.assurance.calibrate import making, questions
    from robustness_gate.organisms import spikes
    from robustness_gate.tasks import cloze

    policy, suite = load_policy(real.ROOT / "policies/real-calibrated.yaml"), load_suite(real.ROOT / "suites/real.yaml")
    assert policy.record.calibration is not None
    world, record, data = questions.data_of(policy.record, suite, policy.record.calibration)
    taught, hidden, kept = models / "taught", models / "taught-rmu", models / "taught.texts.json"
    if not (taught / "unlearning.json").is_file():  # written last
        making.teach_in_child(
            shown, device, (original, None), world, cloze.WORDING, questions.held_by(data),
            spikes.TEACHINGS["medium"][0], 0, kept, taught,
        )  # fmt: skip
    if not (hidden / "unlearning.json").is_file():
        config = dict(spikes.grid("rmu", "medium")[0])
        making.suppress_in_child(
            shown, device, taught, world, record.form, "rmu", config, questions.lettered(data), 0, kept, hidden
        )
    return taught, hidden


def shown(step: Any) -> None:
    """Print how far a training is."""
    print(*step, flush=True)


def digest(model: Path) -> str:
    """The digest of a checkpoint's manifest, which a policy pins."""
    return manifest_of(CheckpointRef(model)).digest


if __name__ == "__main__":
    sys.exit(main())
