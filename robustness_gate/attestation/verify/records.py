"""The inputs of `verify`, its results, and the state that the checks share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from robustness_gate.attestation.dsse import Opened
from robustness_gate.attestation.predicate import Issued
from robustness_gate.attestation.trust import Signer, Trusted
from robustness_gate.attestation.verify.codes import Code, Confirmed, Fault, Unchecked
from robustness_gate.errors import Exit, GateError, UnknownWord, Unverified
from robustness_gate.inputs.checkpoint.manifest import Watch
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.suite import Suite
from robustness_gate.report import record
from robustness_gate.system.sentences import Argument

State = Literal["ok", "FAILED", "not checked"]
CODES = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}


class Check(NamedTuple):
    """One numbered check. `wording.sentence` and `wording.remedy` describe it."""

    number: int
    title: str
    state: State
    code: Code
    args: Mapping[str, Argument]


class NotTried(NamedTuple):
    """A trial of the suite that did not end well in the report."""

    trial: str
    """Its label and seed."""
    status: str = ""
    """The status of its last attempt; `not_run` if it never ended; empty if the report has no such trial."""


class SuiteFiles(NamedTuple):
    """The auditor's copy of a suite's data, by digest."""

    tasks: Mapping[str, TaskRef]
    data: Mapping[str, str]


@dataclass(frozen=True)
class RequiredSuite:
    """A required suite, with the data of its files: see `gather` in `suite_data`."""

    suite: Loaded[Suite]
    files: SuiteFiles | None
    """None where they cannot be read here: then they are not compared, and the check reports it."""
    missing: str = ""
    """Why they cannot be read."""


@dataclass(frozen=True)
class Asked:
    """The auditor's inputs. An input that is None is not checked, and the check reports it."""

    trusted: Trusted | None = None
    """The accepted signers."""
    checkpoint: CheckpointRef | None = None
    policy: Loaded[Policy] | None = None
    """The auditor's policy, under which the evidence is judged again."""
    suite: RequiredSuite | None = None
    max_age: timedelta | None = None
    attachments: Path | None = None
    """Folder with the attachments."""
    preregistration: Path | None = None
    known: Sequence[Path] = ()
    """Other bundles of the same signer, such as the predecessor or one that withdraws this report."""
    ledger: Path | None = None
    watch: Watch | None = None
    """Called with the progress of hashing the checkpoint."""


@dataclass(frozen=True)
class Verification:
    """The results of all checks."""

    checks: tuple[Check, ...]
    stated: Issued | None = None
    """The bundle's statement; None where it was not trusted."""
    sha256: str = ""
    """Digest of the signed statement: its name."""
    signer: Signer | None = None
    outcome: str = ""
    """The verdict under the auditor's policy if given, else under the report's own."""
    not_tried: tuple[NotTried, ...] = ()
    limitations: tuple[str, ...] = ()
    """`report.limitations`, recomputed under the policy of `outcome`."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.state == "FAILED")

    @property
    def adds_up(self) -> bool:
        """Whether no check failed. A forged report can be consistent too, so this alone is not `verified`."""
        return not self.failed

    @property
    def verified(self) -> bool:
        """Whether no check failed and a trusted signer has signed it."""
        return self.adds_up and self.signer is not None

    @property
    def exit_code(self) -> Exit:
        """The verdict's exit code where it is verified, so that only a verified PASS exits with 0; otherwise 5."""
        return CODES[self.outcome] if self.verified and self.outcome else Exit.UNVERIFIED


class Found:
    """A check that passed."""

    def __init__(self, code: Confirmed, **args: Argument) -> None:
        self.code, self.arguments = code, args


class Failed(Exception):
    """A check that failed."""

    def __init__(self, code: Fault, **args: Argument) -> None:
        super().__init__(code)
        self.code, self.arguments = code, args


class NotChecked(Exception):
    """A check that was not requested, or cannot be made."""

    def __init__(self, code: Unchecked, **args: Argument) -> None:
        super().__init__(code)
        self.code, self.arguments = code, args


def message_of(error: GateError) -> str:
    """An error's place and message, without its remedy."""
    return f"{error.where}: {error.message}" if error.where else error.message


def failed_by(error: GateError) -> Failed:
    """The failed check of an error: the error's own code if it is an Unverified with one, else `refused`.

    Raises:
        UnknownWord: the code of an `Unverified` is not in `Fault`.
    """
    if not isinstance(error, Unverified):
        return Failed(Fault.REFUSED, message=message_of(error), remedy=error.remedy)
    if error.code not in set(Fault):
        raise UnknownWord("code of a failed check", error.code)
    return Failed(Fault(error.code), message=message_of(error), remedy=error.remedy)


@dataclass
class Context:
    """The state that the checks share: each may add to it, later ones read it."""

    raw: bytes
    asked: Asked
    at: datetime
    payload: bytes | None = None
    opened: Opened | None = None
    signer: Signer | None = None
    stated: Issued | None = None
    suite: Loaded[Suite] | None = None
    policy: Loaded[Policy] | None = None
    outcome: str = ""
    not_tried: list[NotTried] = field(default_factory=list)
    limitations: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The statement's name."""
        return hashlib.sha256(self.payload or b"").hexdigest()

    @property
    def issued(self) -> Issued:
        """The statement. Raises NotChecked where no report could be read."""
        if self.stated is None:
            raise NotChecked(Unchecked.NO_REPORT)
        return self.stated

    @cached_property
    def evidence(self) -> Evidence:
        """The report's evidence, extracted once for all checks that use it."""
        return record.evidence_in(self.made)

    @property
    def made(self) -> record.Report:
        """The report. Raises NotChecked where none could be read."""
        return self.issued.report
