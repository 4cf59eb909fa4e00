"""The auditor's checks: do this signed report and this model belong together, and does the report say what it may?

`verify` needs the bundle, a trust file and the checkpoint; no GPU, no torch, none of the questions. Every bound and the
verdict are computed again from the signed answers; what the report says of its own numbers is compared, never believed.

The procedure. Each block of code repeats its number:

 1. *Signature*: it is on the payload's bytes, by a key that the auditor trusts. Nothing looks into them before.
 2. *Form*: the payload is a statement and a report of a version that this release knows, and about its subject.
 3. *Signer*: the key was in use at the time of signing; neither the key nor the report is revoked.
 4. *Checkpoint*: the auditor's checkpoint is, byte for byte, the one that was examined.
 5. *Time*: judged, then signed, not in the future; the signer still stands by it; it is not older than asked.
 6. *Policy and suite*: read again from their texts, they are those by which it was run and judged.
 7. *Nothing left out*: every trial of the suite is there or recorded as left out, and was asked as the suite says.
 8. *Evidence*: seeds, attempts, answers, floors, shams and self-tests are what this release prescribes.
 9. *Verdict*: every bound, the verdict and all that the report derives from them are computed again.
10. *Your policy*: the evidence is judged again under the auditor's policy; this outcome is the exit code.
11. *Your suite*: all of the auditor's suite was run to its end, on the same questions and data.
12. *Attachments*: each file that the report names is as it was signed.
13. *Preregistration*: it was run as it had been fixed before.
14. *Before and after*: not withdrawn, not replaced, no gap in the signer's reports; the ledger holds no more.

All are made and always listed, each `ok`, `FAILED` or `not checked`, with a code and its arguments (`codes`); `wording`
describes them. Whatever is unknown (a field, a version, an attack that is not installed here) has failed. What cannot
be checked by anybody with these files stands in `wording.UNCHECKABLE`: above all, whether the evaluator wrote down what
the machine computed.
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
"""In this order. The first two decide whether anything in the bundle is looked at."""


def verify(raw: bytes, asked: Asked, at: datetime) -> Verification:
    """Make every check on a bundle.

    Args:
        raw: the bundle's bytes.
        asked: what the auditor brings.
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
