"""The table of the self-test in docs/findings.md is what the committed record says, row for row."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from robustness_gate import attacks
from robustness_gate.inputs.validation import load_record
from robustness_gate.planning import bench
from robustness_gate.records.evidence import SelfTest, SelfTests
from robustness_gate.verdict.hypotheses import label_of

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "reports" / "examples" / "self-test.json"
SEEDS = range(3)
MISSED = {("enhanced_prefix", 1), ("enhanced_prefix", 2)}
"""The attack seeds with which the search did not gain ten points for sure, and why it is no longer tested."""


def name_of(test: SelfTest) -> str:
    """The attack with what tells it from its siblings, as far as the record says."""
    return label_of(test.attack, test.config)


def row(tests: list[SelfTest]) -> str:
    """One attack under its seeds, in per cent: means with their ranges, and the smallest of the lower bounds."""

    def spread(counts: list[int]) -> str:
        shares = [100 * count / tests[0].items for count in counts]
        if max(shares) == min(shares):
            return f"{shares[0]:.1f}"
        return f"{statistics.mean(shares):.1f} ({min(shares):.1f}-{max(shares):.1f})"

    nowhere = " | ".join(spread([test.negative_controls[place].after for test in tests]) for place in range(2))
    first, gain = tests[0], 100 * min(test.gain for test in tests)
    after = spread([test.after for test in tests])
    before = f"{100 * first.before / first.items:.1f}"
    return f"| {name_of(first)} | {first.organism} | {before} | {after} | {gain:.1f} | {nowhere} |"


@pytest.fixture(scope="module")
def record() -> dict[str, list[SelfTest]]:
    tests = load_record(RECORD, SelfTests).record.tests
    return {name: [t for t in tests if name_of(t) == name] for name in dict.fromkeys(map(name_of, tests))}


def test_every_attack_that_has_an_organism_passed_under_three_seeds(record):
    tested = {test.attack for tests in record.values() for test in tests}
    assert tested - {name for name, _ in MISSED} <= {case.attack for case in bench.BENCHES["llama"].cases}
    for name, tests in record.items():
        assert sorted(test.seed for test in tests) == list(SEEDS), name
        assert all(test.sham_changed == 0 for test in tests), name
        assert {(name, test.seed) for test in tests if test.faults} <= MISSED
        assert {test.model_type for test in tests} == {"llama"}
        assert [each.organism for each in tests[0].negative_controls] == ["oracle", "decoy"], name


def test_the_page_names_each_attack_that_has_changed_since(record):
    """The record is dated: attacks of other versions than those that are shipped now are not vouched for by it."""
    page = " ".join((ROOT / "docs" / "findings.md").read_text(encoding="utf-8").split())
    made = {test.attack: test.attack_version for tests in record.values() for test in tests}
    older = [f"`{name}` {made[name]}" for name in sorted(made) if made[name] != attacks.load(name).VERSION]
    assert f"of these versions, which have changed since: {', '.join(older)}." in page


def test_the_page_says_what_the_record_says(record):
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert {(test.attack, test.seed) for tests in record.values() for test in tests if test.faults} == MISSED
    for tests in record.values():
        assert row(tests) in page.splitlines()
    (leaked,) = {max(each.leak for tests in record.values() for test in tests for each in test.negative_controls)}
    assert f"at most {100 * leaked:.1f} points" in page


if __name__ == "__main__":  # the table, for the page
    kept = load_record(RECORD, SelfTests).record.tests
    for name in dict.fromkeys(map(name_of, kept)):
        print(row([t for t in kept if name_of(t) == name]))  # noqa: T201 - a table for whoever writes the page
    print(max(each.leak for test in kept for each in test.negative_controls))  # noqa: T201
