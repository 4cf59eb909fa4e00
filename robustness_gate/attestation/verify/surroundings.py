"""Checks of files around the report: attachments, the preregistration, the signer's other reports, the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from robustness_gate.attestation import dsse, predicate, preregistration
from robustness_gate.attestation.predicate import Attachment, Issued
from robustness_gate.attestation.trust import Signer
from robustness_gate.attestation.verify.codes import Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import Context, Failed, Found, NotChecked, message_of
from robustness_gate.attestation.verify.signer import hold_key
from robustness_gate.errors import LedgerError, Unverified
from robustness_gate.evidence import ledger
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.records.encode import encode
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Role
from robustness_gate.report import record as report
from robustness_gate.report.limitations import UNSEEN_PREREGISTRATION
from robustness_gate.verdict import label


def attachments(its: Context) -> Found:
    """12. Every file that the report names is present with the signed digest; restricted ones may be missing."""
    stated, folder = its.issued, its.asked.attachments
    if folder is None:
        raise NotChecked(Unchecked.NO_ATTACHMENTS, files=len(stated.attachments))
    if not folder.is_dir():
        raise Failed(Fault.NO_FOLDER, folder=str(folder))
    root = folder.resolve()
    here = sum(_is_as_signed(root, each) for each in stated.attachments)
    named = {each.path for each in stated.attachments} | {predicate.BUNDLE}
    unsigned = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name == "report.json" and path.is_file():
            if path.read_bytes() != encode(its.made):
                raise Failed(Fault.ATTACHMENT_CHANGED, file=name)
        elif name not in named and not path.is_dir():
            unsigned.append(name)
    return Found(Confirmed.ATTACHMENTS, files=here, kept_back=len(stated.attachments) - here, unsigned=tuple(unsigned))


def _is_as_signed(root: Path, each: Attachment) -> bool:
    """Whether an attachment is present; False for a missing restricted one. Raises Failed if its digest differs."""
    path = root / each.path
    if not path.exists() and not path.is_symlink():
        if each.visibility == "restricted":
            return False
        raise Failed(Fault.ATTACHMENT_MISSING, file=each.path)
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root):
        raise Failed(Fault.ATTACHMENT_NOT_REGULAR, file=each.path)
    if path.stat().st_size != each.size or sha256_file(path) != each.sha256:
        raise Failed(Fault.ATTACHMENT_CHANGED, file=each.path)
    return True


def preregistered(its: Context) -> Found:
    """13. The report was run under the preregistered terms, and the preregistration is older than the verdict."""
    made = its.made
    if its.asked.preregistration is None:
        its.limitations += (UNSEEN_PREREGISTRATION,) if made.preregistration else ()
        raise NotChecked(Unchecked.NO_PREREGISTRATION, named="one" if made.preregistration else "none")
    if its.asked.trusted is None:
        raise NotChecked(Unchecked.NO_TRUST)
    try:
        found = preregistration.read_preregistration(its.asked.preregistration, its.asked.trusted.keys)
    except Unverified as error:
        raise Failed(Fault.PREREGISTRATION_UNVERIFIED, message=message_of(error), remedy=error.remedy) from None
    hold_key(its.asked.trusted.signer(found.key), found.terms.preregistered_at, of="the preregistration")
    if made.preregistration is None or found.sha256 != made.preregistration.sha256:
        raise Failed(Fault.PREREGISTRATION_NOT_NAMED)
    if (made.preregistration.key, made.preregistration.at) != (found.key.id, found.terms.preregistered_at):
        raise Failed(Fault.PREREGISTRATION_MISREPORTED)
    if datetime.fromisoformat(found.terms.preregistered_at) > datetime.fromisoformat(made.verdict.at):
        raise Failed(
            Fault.PREREGISTERED_AFTER_JUDGED, preregistered=found.terms.preregistered_at, judged=made.verdict.at
        )
    _hold_terms(made, found.terms)
    return Found(Confirmed.PREREGISTERED, at=found.terms.preregistered_at)


def _hold_terms(made: report.Report, preregistered: preregistration.Terms) -> None:
    """Raises Failed where the candidate's trials differ from the preregistered ones."""
    if (preregistered.policy.sha256, preregistered.suite.sha256) != (made.policy.sha256, made.suite.sha256):
        raise Failed(Fault.OTHER_FILES_PREREGISTERED)
    questions = {task.name: task for task in preregistered.tasks}
    fixed = {each.sha256 for each in preregistered.attacks}
    for trial in (r.trial for r in made.trials if r.trial.role == Role.CANDIDATE and r.planned):
        if preregistration.attack_digest(trial) not in fixed:
            raise Failed(Fault.ATTACK_NOT_PREREGISTERED, trial=label(trial))
        if any(questions.get(task.name) != task for task in trial.tasks) or trial.data != preregistered.data:
            raise Failed(Fault.QUESTIONS_NOT_PREREGISTERED, trial=label(trial))


def chain(its: Context) -> Found:
    """14. No other report of this signer withdraws or replaces it or shows a gap; the ledger was not truncated."""
    stated = its.issued
    previous = (stated.previous or "")[:16]
    if not its.asked.known and its.asked.ledger is None:
        raise NotChecked(Unchecked.NO_CHAIN, previous=previous)
    others = _hold_others(its, stated) if its.asked.known else None
    if its.asked.ledger is not None:
        _hold_ledger(its, stated, its.asked.ledger)
    lines = stated.ledger.lines if its.asked.ledger is not None and stated.ledger is not None else 0
    if others is None:
        return Found(Confirmed.LEDGER, lines=lines)
    return Found(Confirmed.CHAIN, others=others, previous=previous, lines=lines)


def _hold_others(its: Context, stated: Issued) -> int:
    """Number of other reports that were read. Raises Failed where one withdraws this report, or shows that one is
    missing.
    """
    if its.signer is None:
        raise NotChecked(Unchecked.NO_SIGNER)
    others = dict(_others(its, its.signer))
    others.pop(its.sha256, None)
    for other in others.values():
        if its.sha256 in other.revokes:
            raise Failed(Fault.REVOKED_BY_SIGNER, at=other.issued_at)
        if its.sha256 in other.supersedes:
            raise Failed(Fault.SUPERSEDED, at=other.issued_at)
        if stated.previous is not None and other.previous == stated.previous:
            raise Failed(Fault.TWO_SUCCESSORS, previous=stated.previous[:16], at=other.issued_at)
    if stated.previous is not None and stated.previous not in others:
        raise Failed(Fault.PREDECESSOR_MISSING, previous=stated.previous[:16])
    return len(others)


def _others(its: Context, mine: Signer) -> Iterator[tuple[str, Issued]]:
    """The statements in --known by name, each of the same owner as this one."""
    assert its.asked.trusted is not None
    for path in its.asked.known:
        try:
            opened = dsse.open_bundle(dsse.read_bundle(path), its.asked.trusted.keys)
            other = predicate.read_issued(opened.payload)
        except Unverified as error:
            raise Failed(Fault.KNOWN_UNVERIFIED, file=path.name, message=error.message, remedy=error.remedy) from None
        signer = its.asked.trusted.signer(opened.key)
        if signer.entry.owner != mine.entry.owner:
            raise Failed(Fault.KNOWN_OF_OTHER_OWNER, file=path.name, owner=signer.entry.owner)
        hold_key(signer, other.issued_at, of=f"--known {path.name}")
        yield opened.sha256, other


def _hold_ledger(its: Context, stated: Issued, path: Path) -> None:
    """The ledger still holds its lines from the time of signing, and the report holds all of them. Raises Failed."""
    if stated.ledger is None:
        raise Failed(Fault.LEDGER_NOT_NAMED)
    if not path.is_file():
        raise Failed(Fault.LEDGER_MISSING, file=path.name)
    raw = path.read_bytes().splitlines(keepends=True)
    if len(raw) < stated.ledger.lines:
        raise Failed(Fault.LEDGER_SHORTER, lines=len(raw), signed=stated.ledger.lines)
    try:
        then = ledger.replayed(b"".join(raw[: stated.ledger.lines]), path)
    except LedgerError as error:
        raise Failed(Fault.LEDGER_BROKEN, message=message_of(error)) from None
    if then.head != stated.ledger.sha256:
        raise Failed(Fault.LEDGER_HEAD_DIFFERS)
    made = its.made
    planned = [record.trial for record in made.trials if record.planned]
    last = then.latest_plan(made.checkpoint)
    if last.suite != made.suite.sha256:
        raise Failed(Fault.LEDGER_OTHER_SUITE)
    ours, theirs = {trial.id for trial in planned}, {*last.trials}
    if not theirs <= ours:
        raise Failed(Fault.LEDGER_MORE_TRIALS)
    if not ours <= theirs:
        raise Failed(Fault.LEDGER_FEWER_TRIALS)
    held = then.evidence(made.checkpoint, planned)
    if _records(held) != _records(its.evidence) or held.left_out != made.left_out:
        raise Failed(Fault.LEDGER_OTHER_RECORDS)


def _records(evidence: Evidence) -> set[object]:
    trials = (*evidence.planned, *evidence.extra, *evidence.comparators)
    tested = (
        *evidence.self_tests,
        *evidence.calibrations,
        *evidence.weights,
        *evidence.tokenizers,
        *evidence.questions,
    )
    records = (*evidence.measurements, *evidence.closed, *tested, *trials)
    around = (each for each in (evidence.unread, evidence.stored) if each is not None)
    digests = {each.digest for each in (*records, *around)}
    notes = (each.digest for each in evidence.notes)
    named = {*evidence.producer_claims.items(), *evidence.bases.items()}
    return {*digests, *notes, *named, evidence.model_type, evidence.devices}
