"""Which attack bites on which architecture: the self-test on one architecture after the other, as a table.

    python benchmarks/architectures.py OUT llama mistral qwen2 gpt_neox

Writes the records to OUT, one file for each architecture and group of attacks, and skips those that are there already.
Every trial is kept in a ledger, so it can be stopped and continued. Then it prints the table of docs/architectures.md.
One architecture takes about ten CPU-minutes, half of them for the last group.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from robustness_gate import __version__, attacks
from robustness_gate.assurance import self_test
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.validation import load_record
from robustness_gate.planning import bench
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import SelfTest, SelfTests
from robustness_gate.system import writing
from robustness_gate.verdict import faults
from robustness_gate.verdict.hypotheses import label_of

GROUPS: Mapping[str, Sequence[str]] = {
    "weights": ("interpolate", "quantize", "relearn"),
    "prompts": ("few_shot", "reformat", "perturb", "logit_lens"),
    "inside": ("ablation", "steer", "refusal_direction", "perturb_informed"),
    "searched": ("pruning", "latent_prompt", "soft_prompt", "universal_prefix"),
}
"""Attacks that are tested in one go: the quick ones first."""
NOT_APPLICABLE = "not_applicable"
"""The status of a trial whose attack does not apply to the model."""


def measure(out: Path, kinds: Sequence[str], groups: Sequence[str], *, every: bool = False) -> None:
    """Make the records that are not there yet: of the usual cases, or of every one."""
    for group in groups:
        for kind in kinds:
            path = out / f"{kind}.{group}.json"
            tried = [each for each in _cases(kind, every=every) if each.case.attack in GROUPS[group]]
            if not path.exists() and tried:
                print(f"{kind}: {', '.join(each.name for each in tried)}", file=sys.stderr, flush=True)
                with ledgers.writing(out / f"{kind}.ledger.jsonl") as ledger:
                    tests = self_test.run(
                        tried,
                        datetime.now(UTC),
                        model_type=kind,
                        watch=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
                        ledger=ledger,
                    )
                writing.whole(path, encode(SelfTests(tests=tuple(tests))))


def _cases(kind: str, *, every: bool) -> list[bench.Tried]:
    usual = bench.by_name([], kind)
    return bench.by_name(list({each.case.attack for each in usual}), kind) if every else usual


def records(out: Path) -> list[SelfTest]:
    """All records in OUT."""
    return [test for path in sorted(out.glob("*.json")) for test in load_record(path, SelfTests).record.tests]


def cell(tests: Sequence[SelfTest], kind: str, row: str) -> str:
    """What one kind of an attack does on one architecture: its accuracy before and after, or why there is none."""
    found = [test for test in tests if test.model_type == kind and label_of(test.attack, test.config) == row]
    if not found:
        cases = {label_of(case.attack, case.config) for case in bench.bench_of(kind).every}
        return "not run" if row in cases else "no case"
    (test,) = found
    codes = {fault.code for fault in faults(test)}
    if any(fault.code == "ended_otherwise" and fault["status"] == NOT_APPLICABLE for fault in faults(test)):
        return "not applicable"
    figures = f"{100 * test.before / test.items:.0f} > {100 * test.after / test.items:.0f}"
    return f"not shown ({figures}; {', '.join(sorted(codes))})" if codes else figures


def table(tests: Sequence[SelfTest]) -> str:
    """The table in Markdown: a row for each kind of attack, a column for each architecture."""
    kinds = sorted({test.model_type for test in tests}, key=list(bench.BENCHES).index)
    rows = dict.fromkeys(each.name for kind in kinds for each in bench.by_name([], kind))
    lines = [f"| attack | {' | '.join(kinds)} |", f"| --- |{' --- |' * len(kinds)}"]
    lines += [f"| {row} | {' | '.join(cell(tests, kind, row) for kind in kinds)} |" for row in rows]
    never = [name for name in attacks.names() if all(name in bench.bench_of(kind).untested for kind in kinds)]
    days = sorted({str(test.at) for test in tests})
    versions = f"robustness_gate {__version__}, transformers {version('transformers')}, torch {version('torch')}"
    dates = " to ".join(dict.fromkeys((days[0], days[-1])))
    return "\n".join([*lines, "", f"Without a case on any of them: {', '.join(never)}. {dates}; {versions}."])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--every", action="store_true", help="also the cases that only a policy makes a self-test try")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    measure(given.out, given.kinds, given.groups, every=given.every)
    print(table(records(given.out)))
