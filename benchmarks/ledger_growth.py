"""What a verdict costs when a ledger has grown: resume, judge, report and verify, at several numbers of trials.

    python benchmarks/ledger_growth.py [N ...]

The ledger of the shipped FAIL grows by N further trials on the same checkpoint: one of its relearning trials again and
again, with other seeds. CPU seconds of one process; the second column of each step is the time for each trial beside
that at the least N, which is 1 where the work is linear. Prints a Markdown table.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from robustness_gate import cli, publish
from robustness_gate.attestation import dsse, keys, predicate, trust, verify
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.validation import load_suite
from robustness_gate.policy_language import load_policy
from robustness_gate.records.evidence import Evidence, Planned
from robustness_gate.records.trial import Role, seed_of
from robustness_gate.report import build
from robustness_gate.report.record import Report, evidence_in
from robustness_gate.verdict import judge

ROOT = Path(__file__).parents[1]
SIZES = (400, 1_600, 6_400, 10_000)
T = TypeVar("T")


def shipped() -> Report:
    """The report of the shipped FAIL."""
    raw = (ROOT / "reports" / "examples" / "fail.sigstore.json").read_bytes()
    return predicate.read_issued(dsse.payload_of(raw)).report


def grown(path: Path, old: Report, more: int) -> None:
    """Write the ledger of a report, with further trials that its plan does not have."""
    evidence = evidence_in(old)
    like = next(each for each in old.trials if each.trial.attack == "relearn" and each.trial.role == Role.CANDIDATE)
    plan = Planned(
        subject=old.checkpoint, trials=tuple(each.id for each in (*evidence.planned, *evidence.comparators)),
        model_type=old.model_type, unread=old.unread, stored=old.stored, device="cpu", left_out=old.left_out,
        policy=old.policy.sha256, suite=old.suite.sha256,
    )  # fmt: skip
    with ledgers.writing(path) as ledger:
        for record in (
            *evidence.planned, *evidence.extra, *evidence.comparators, plan, *evidence.measurements, *evidence.closed,
            *evidence.self_tests, *evidence.tokenizers, *evidence.questions,
        ):  # fmt: skip
            ledger.append(record)
        for number in range(1_000, 1_000 + more):
            seed = seed_of(old.checkpoint, like.trial.attack, number)
            trial = like.trial.model_copy(update={"seed_index": number, "seed": seed})
            ledger.append(trial)
            for record in (*like.measurements, *like.closed):
                ledger.append(record.model_copy(update={"trial": trial.id}))


def measured(more: int) -> Iterator[tuple[str, float]]:
    """The steps with their CPU seconds, each on what the step before gave."""
    old, key, at = shipped(), keys.generate(), datetime.now(UTC)
    policy, suite = load_policy(ROOT / "policies/organism.yaml"), load_suite(ROOT / "suites/organism-smoke.yaml")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ledgers.NAME
        with without_waiting():
            grown(path, old, more)

        def resumed() -> Evidence:
            with ledgers.writing(path) as ledger:
                assert sum(ledger.is_settled(each) for each in ledger.trials) >= more
                return ledger.evidence(old.checkpoint, ledger.planned(ledger.latest_plan()))

        took, evidence = timed(resumed)
        yield "resume", took
        took, _ = timed(lambda: judge(policy.record, evidence, at))
        yield "judge", took

        def made() -> Report:
            report = build.make(policy, suite, old.manifest, evidence, at)
            assert report.canonical
            publish.files(report)
            return report

        took, report = timed(made)
        yield "report", took
        bundle = predicate.issue(report, key, predicate.Terms(at=at, valid_for=timedelta(days=1)))
        asked = verify.Asked(trusted=trust.trusting([key.public]))
        took, found = timed(lambda: verify.verify(bundle, asked, at + timedelta(hours=1)))
        wrong = [check.code for check in found.checks if check.state == "FAILED"]
        assert not wrong, wrong
        yield "verify", took


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """While a ledger is made up here, its lines need not be on the disk one by one."""
    wait, os.fsync = os.fsync, lambda _: None
    try:
        yield
    finally:
        os.fsync = wait


def timed(step: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds of a step, and its result."""
    begun = time.process_time()
    found = step()
    return time.process_time() - begun, found


def main() -> None:
    """Measure and print."""
    gc.set_threshold(cli.OBJECTS)  # as the command line has it
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    rows = {more: dict(measured(more)) for more in sizes}
    first, *_ = rows.values()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}.\n")
    print(f"| further trials | {' | '.join(f'{step} | for each' for step in first)} |")
    print(f"| ---: |{' ---: |' * 2 * len(first)}")
    for more, row in rows.items():
        cells = [f"{took:.2f} s | {took / more / (first[step] / sizes[0]):.2f}" for step, took in row.items()]
        print(f"| {more:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
