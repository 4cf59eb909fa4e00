"""The auditor's checks: does this signed report belong to this model, and does its verdict follow from its evidence?

`verify` needs the bundle, a trust file and the checkpoint; no GPU, no torch, none of the questions. Every bound and the
verdict are computed again from the signed answers; the report's own numbers are compared, never trusted.

The procedure. Each block of code repeats its number:

 1. *Signature*: it is on the payload's bytes, by a key that the auditor trusts. The payload is not parsed before.
 2. *Form*: the payload is a statement and a report of a version that this release knows, and about its subject.
 3. *Signer*: the key was in use at the time of signing; neither the key nor the report is revoked.
 4. *Checkpoint*: the auditor's checkpoint is byte for byte the examined one.
 5. *Time*: judged, then signed, not in the future; still valid; not older than the auditor's limit.
 6. *Policy and suite*: read again from their texts, they are those of the run and of the verdict.
 7. *Nothing left out*: every trial of the suite is present or recorded as left out, and was asked as the suite
 declares.
 8. *Evidence*: seeds, attempts, answers, floors, shams and self-tests are what this release prescribes.
 9. *Verdict*: every bound, the verdict and all that the report derives from them are computed again.
10. *Your policy*: the evidence is judged again under the auditor's policy; this outcome is the exit code.
11. *Your suite*: all of the auditor's suite was run to its end, on the same questions and data.
12. *Attachments*: each file that the report names has the signed digest.
13. *Preregistration*: it was run under the preregistered terms.
14. *Before and after*: not withdrawn, not replaced, no gap in the signer's reports; the ledger holds no more.

All checks are always listed, each `ok`, `FAILED` or `not checked`, with a code and its arguments (`codes`); `wording`
describes them. Unknown content (a field, a version, an attack that is not installed here) fails. `wording.UNCHECKABLE`
lists what these files cannot show: above all, whether the recorded answers are those that the machine computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from robustness_gate.attestation.verify import conclusions, evidence, plan, signer, subject, surroundings
from robustness_gate.attestation.verify.codes import Code, Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import (
    Asked,
    Check,
    Context,
    Failed,
    Found,
    NotChecked,
    NotTried,
    RequiredSuite,
    State,
    SuiteFiles,
    Verification,
    failed_by,
)
from robustness_gate.errors import GateError
from robustness_gate.system.sentences import Argument

__all__ = (
    "CHECKS", "Asked", "Check", "Confirmed", "Fault", "NotTried", "RequiredSuite", "SuiteFiles", "Unchecked",
    "Verification", "verify",
)  # fmt: skip

CHECKS: tuple[tuple[str, Callable[[Context], Found]], ...] = (
    ("signature", signer.signature),
    ("form", signer.form),
    ("signer", signer.signer),
    ("checkpoint", subject.checkpoint),
    ("time", signer.time),
    ("policy and suite", plan.texts),
    ("nothing left out", plan.nothing_left_out),
    ("evidence", evidence.evidence),
    ("verdict", conclusions.verdict),
    ("your policy", conclusions.own_policy),
    ("your suite", plan.own_suite),
    ("attachments", surroundings.attachments),
    ("preregistration", surroundings.preregistered),
    ("before and after", surroundings.chain),
)
"""In this order. If one of the first two fails, the bundle's content is not read."""


def verify(raw: bytes, asked: Asked, at: datetime) -> Verification:
    """Make every check on a bundle.

    Args:
        raw: the bundle's bytes.
        asked: the auditor's inputs.
        at: now, with a time zone.
    """
    its = Context(raw, asked, at)
    checks = tuple(Check(number, title, *_made(check, its)) for number, (title, check) in enumerate(CHECKS, start=1))
    if its.stated is None:
        return Verification(checks, signer=its.signer)
    return Verification(checks, its.stated, its.sha256, its.signer, its.outcome, tuple(its.not_tried), its.limitations)


def _made(check: Callable[[Context], Found], its: Context) -> tuple[State, Code, Mapping[str, Argument]]:
    try:
        found = check(its)
    except NotChecked as missing:
        return "not checked", missing.code, missing.arguments
    except Failed as failed:
        return "FAILED", failed.code, failed.arguments
    except GateError as error:
        refused = failed_by(error)
        return "FAILED", refused.code, refused.arguments
    return "ok", found.code, found.arguments
