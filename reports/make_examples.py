"""Real signed reports of the shipped organisms, one of each verdict: `python reports/make_examples.py`.

Writes `reports/examples/{pass,fail,inconclusive}.sigstore.json`, the public key that signed them, and the red one as a
job's summary shows it. The private key is made for the occasion and kept nowhere, so no other can be signed with it.
tests/e2e/test_examples.py verifies what lies there; when an attack's version changes they no longer verify, as they
should not, and this makes them anew (ten minutes).
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from robustness_gate import gate
from robustness_gate.assurance import self_test
from robustness_gate.attestation import dsse, keys, predicate
from robustness_gate.inputs.validation import load_suite
from robustness_gate.planning import bench
from robustness_gate.policy_language import load_policy
from robustness_gate.publish import markdown
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import SelfTests

ROOT = Path(__file__).parents[1]
OUT = ROOT / "reports" / "examples"
EXAMPLES = (
    ("pass", "oracle", ()),
    ("fail", "rmu", ()),
    ("inconclusive", "oracle", ("none",)),
)
"""Name, organism, and the attacks that are run alone: with most of them left out nothing can be concluded."""


def main() -> None:
    """Run the gate three times and sign what it says."""
    key = keys.generate()
    OUT.mkdir(exist_ok=True)
    previous = None
    with tempfile.TemporaryDirectory() as folder:
        policy, tested = ROOT / "policies" / "organism.yaml", Path(folder) / "self-test.json"
        suite = ROOT / "suites" / "organism-smoke.yaml"
        tried = bench.required_by(load_policy(policy), load_suite(suite), self_test.data().pool())
        tests = self_test.run(tried, datetime.now(UTC), workers=2)
        tested.write_bytes(encode(SelfTests(tests=tuple(tests))))
        for name, organism, only in EXAMPLES:
            request = gate.Request(
                f"organism:{organism}",
                policy,
                suite,
                Path(folder) / name,
                original="organism:base",
                only=only,
                self_test=tested,
                ledgers=Path(folder) / f"{name}-ledgers",
                tracking_uri="",
            )
            made = gate.run(request).report
            assert made.verdict.outcome.lower() == name, made.reason
            terms = predicate.Terms(at=datetime.now(UTC), valid_for=timedelta(days=3650), previous=previous)
            bundle = predicate.issue(made, key, terms)
            previous = dsse.open_bundle(bundle, [key.public]).sha256
            (OUT / f"{name}.sigstore.json").write_bytes(bundle)
            if name == "fail":
                (OUT / "job-summary-fail.md").write_text(markdown.render(made), encoding="utf-8")
            print(f"{name}: {made.reason}")  # noqa: T201 - run as a program
    (OUT / "examples.pub").write_text(key.public.pem, encoding="utf-8")


if __name__ == "__main__":
    main()
