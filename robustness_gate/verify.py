"""The auditor's checks: do this signed report and this model belong together, and does the report say what it may?

`verify` needs the bundle, a trust file and the checkpoint; no GPU, no torch, none of the questions. Every bound and the
verdict are computed again from the signed answers; what the report says of its own numbers is compared, never believed.

The checks are numbered and always told in full, each `ok`, `FAILED` or `not checked`. Whatever is unknown (a field, a
version, an attack that is not installed here) has failed. What cannot be checked by anybody with these files is said in
`UNCHECKABLE`: above all, whether the evaluator wrote down what his machine computed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from robustness_gate import attacks, attest, issued, ledger, plan, report
from robustness_gate import seal as seals
from robustness_gate.checkpoint import Manifest, Place, manifest_of
from robustness_gate.errors import Exit, GateError, LedgerError, PlanError
from robustness_gate.files import Loaded, digest_of, parse_yaml, sha256_file
from robustness_gate.language.load import policy_of
from robustness_gate.nouns import Evidence, Suite, Trial, Verdict, seed_of
from robustness_gate.policy import Policy
from robustness_gate.trust import Signer, Trusted
from robustness_gate.verdict import decide, judge, label, unpack
from robustness_gate.verdict.cells import label_of

State = Literal["ok", "FAILED", "not checked"]

SKEW = timedelta(minutes=5)
"""So far may a signer's clock be ahead of the verifier's."""

UNCHECKABLE = (
    "that the evaluator's machine computed these answers, and he wrote down all of them: `audit` runs a sample again",
    "that the questions measure the hazard, and that attacks which nobody tried would fail",
    "what the producer states of his model, and where checkpoints came from, by the report's own word",
)
CODES = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}


class Check(NamedTuple):
    """One numbered check."""

    number: int
    title: str
    state: State
    words: str


@dataclass(frozen=True)
class Asked:
    """What the auditor brings. What is None is not checked, and the check says so."""

    trusted: Trusted | None = None
    """Whose signature counts."""
    checkpoint: Place | None = None
    policy: Loaded[Policy] | None = None
    """Under which the evidence is judged again."""
    suite: Loaded[Suite] | None = None
    """Which must have been run."""
    max_age: timedelta | None = None
    attachments: Path | None = None
    """Folder in which the attachments lie."""
    seal: Path | None = None
    known: Sequence[Path] = ()
    """Other bundles of the same signer: one of them may be the predecessor, or may withdraw this one."""
    ledger: Path | None = None


@dataclass(frozen=True)
class Verification:
    """What was found."""

    checks: tuple[Check, ...]
    stated: issued.Issued | None = None
    """What the bundle says; None where nothing in it could be believed."""
    sha256: str = ""
    """Of the signed statement: its name."""
    signer: Signer | None = None
    outcome: str = ""
    """The verdict under the auditor's policy if he gave one, else under the report's own."""
    not_tried: tuple[str, ...] = ()
    """What the suite has and the report does not, in words."""

    @property
    def verified(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != "FAILED" for check in self.checks)

    @property
    def exit_code(self) -> Exit:
        """5 where a check failed; otherwise what the verdict says, so that only a verified PASS leaves with 0."""
        return CODES[self.outcome] if self.verified and self.outcome else Exit.UNVERIFIED


class _Failed(Exception):
    """A check that failed, in words."""


class _NotChecked(Exception):
    """A check that nobody asked for, or that cannot be made, in words."""


@dataclass
class _Look:
    """What the checks share as they go: each may add to it, the later ones read it."""

    raw: bytes
    asked: Asked
    at: datetime
    payload: bytes | None = None
    opened: attest.Opened | None = None
    signer: Signer | None = None
    stated: issued.Issued | None = None
    suite: Loaded[Suite] | None = None
    policy: Loaded[Policy] | None = None
    outcome: str = ""
    not_tried: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """The statement's name."""
        return hashlib.sha256(self.payload or b"").hexdigest()

    @property
    def made(self) -> report.Report:
        """The report. Raises _NotChecked where none could be read."""
        if self.stated is None:
            raise _NotChecked("no report could be read")
        return self.stated.report


def verify(raw: bytes, asked: Asked, at: datetime) -> Verification:
    """Make every check on a bundle.

    Args:
        raw: the bundle's bytes.
        asked: what the auditor brings.
        at: now, with a time zone.
    """
    look = _Look(raw, asked, at)
    checks = []
    for number, (title, check) in enumerate(CHECKS, start=1):
        try:
            state: State = "ok"
            words = check(look)
        except _Failed as failed:
            state, words = "FAILED", str(failed)
        except _NotChecked as missing:
            state, words = "not checked", str(missing)
        except GateError as error:
            state, words = "FAILED", str(error)
        checks.append(Check(number, title, state, words))
    return Verification(
        tuple(checks),
        look.stated,
        look.sha256 if look.stated else "",
        look.signer,
        look.outcome if look.stated else "",
        tuple(look.not_tried),
    )


# --- who says it, and what -------------------------------------------------------------------------------------------


def _signature(look: _Look) -> str:
    if look.asked.trusted is None:
        look.payload = attest.payload_of(look.raw)
        raise _NotChecked("who signed: unchecked. Anybody can have written this")
    look.opened = attest.open_bundle(look.raw, look.asked.trusted.keys)
    look.payload = look.opened.payload
    look.signer = look.asked.trusted.signer(look.opened.key)
    return f"{look.signer.said.owner}, {look.opened.key.kind} key {look.opened.key.id[:16]}"


def _form(look: _Look) -> str:
    if look.payload is None:
        raise _NotChecked("the signature did not verify, so nobody looked into it")
    look.stated = issued.read_issued(look.payload)
    return f"{issued.PREDICATE_TYPE}, statement {look.sha256[:16]}"


def _signer(look: _Look) -> str:
    made = look.made
    if look.signer is None or look.asked.trusted is None or look.stated is None:
        raise _NotChecked("no trust file was given")
    if fault := look.signer.fault(datetime.fromisoformat(look.stated.issued_at)):
        raise _Failed(fault)
    for each in look.asked.trusted.revoked_reports:
        if each.sha256 == look.sha256:
            raise _Failed(f"your trust file withdraws this report: {each.reason}")
    return f"the key was in use when {made.policy.id} was judged, and is not revoked"


def _checkpoint(look: _Look) -> str:
    made = look.made
    if made.manifest.digest != made.checkpoint:
        raise _Failed("the manifest in the report is not the one that it is signed for")
    if look.asked.checkpoint is None:
        raise _NotChecked(f"no checkpoint was given; it is about {made.checkpoint}")
    here = manifest_of(look.asked.checkpoint)
    if here.digest != made.checkpoint:
        raise _Failed("; ".join(_other_files(made.manifest, here)))
    total = sum(entry.size for entry in here.files)
    return f"{len(here.files)} files, {total:,} bytes, digest {here.digest[:16]}"


def _other_files(signed: Manifest, here: Manifest) -> Iterator[str]:
    was, now = ({entry.path: entry for entry in each.files} for each in (signed, here))
    for name in sorted({*was, *now}):
        if name not in now:
            yield f"'{name}' is missing here"
        elif name not in was:
            yield f"'{name}' is here and was not examined"
        elif was[name] != now[name]:
            yield f"'{name}' is not the file that was examined"
    if signed.base != here.base:
        yield "the adapter stands on another base"


def _time(look: _Look) -> str:
    made, stated = look.made, look.stated
    assert stated is not None
    judged, signed, until = (
        datetime.fromisoformat(each) for each in (made.verdict.at, stated.issued_at, stated.valid_until)
    )
    if signed > look.at + SKEW:
        raise _Failed(f"it says it was signed at {stated.issued_at}, which has not come yet")
    if judged > signed:
        raise _Failed(f"it was signed at {stated.issued_at} and judged later, at {made.verdict.at}")
    if look.at > until:
        raise _Failed(f"it was valid until {stated.valid_until}")
    age = look.at - judged
    if look.asked.max_age is not None and age > look.asked.max_age:
        raise _Failed(f"it was judged {age.days} days ago, at most {look.asked.max_age.days} are asked")
    return f"judged {made.verdict.at}, signed {stated.issued_at}, valid until {stated.valid_until}"


# --- what was asked ---------------------------------------------------------------------------------------------------


def _texts(look: _Look) -> str:
    made = look.made
    extended = made.extended
    base = parse_yaml(extended.text.encode(), Path("the policy that it extends")) if extended else None
    policy = policy_of(parse_yaml(made.policy.text.encode(), Path("the report's policy")), base)
    suite = parse_yaml(made.suite.text.encode(), Path("the report's suite")).as_noun(Suite)
    read: tuple[tuple[str, Loaded[Policy] | Loaded[Suite], report.Named], ...] = (
        ("policy", policy, made.policy),
        ("suite", suite, made.suite),
    )
    for what, loaded, named in read:
        if (loaded.sha256, loaded.noun.id, loaded.noun.version) != (named.sha256, named.id, named.version):
            raise _Failed(f"the {what}'s words are not those that the report names")
    if extended and base and base.sha256 != extended.sha256:
        raise _Failed("the words of the policy that it extends are not those that the report names")
    if policy.noun != made.resolved:
        raise _Failed("the policy that was judged by is not what its words say")
    look.policy, look.suite = policy, suite
    return f"{made.policy.id} {made.policy.version}, {made.suite.id} {made.suite.version}: their words are in it"


def _plan(look: _Look) -> str:
    """What the suite's words ask for against what the report has."""
    made = look.made
    if look.suite is None:
        raise _NotChecked("the suite could not be read")
    told = {_address(each.trial): each.label for each in made.trials if each.trial.role == "candidate" and each.planned}
    asked = dict(_expected(look.suite))
    missing = [words for address, words in asked.items() if address not in told]
    for words in missing:
        if not any(each.startswith(f"{words}: ") for each in made.left_out):
            raise _Failed(f"the suite asks for {words}, which is not in the report, nor is it said to be left out")
    for address, words in told.items():
        if address not in asked:
            raise _Failed(f"{words} is said to be planned, and the suite does not ask for it")
    look.not_tried += missing
    beside = f", {len(missing)} left out and said so" if missing else ""
    return f"{len(asked) - len(missing)} of {len(asked)} trials of the suite are here{beside}"


def _address(trial: Trial) -> str:
    return digest_of([trial.attack, trial.config, trial.seed_index])


def _expected(suite: Loaded[Suite]) -> Iterator[tuple[str, str]]:
    """(address, words) of every trial of the candidate that a suite's words ask for."""
    for entry in suite.noun.attacks:
        try:
            config = attacks.as_json(attacks.configure(attacks.load(entry.attack), entry.config))
        except (PlanError, attacks.BadConfig) as error:
            raise _Failed(f"the suite's {entry.attack} is not known to this release: {error.message}") from None
        for index in range(entry.seeds):
            yield digest_of([entry.attack, config, index]), f"{label_of(entry.attack, config)}, seed {index}"


def _evidence(look: _Look) -> str:
    made = look.made
    seen: set[str] = set()
    for record in made.trials:
        trial = record.trial
        if record.id != trial.id or record.label != report.name_of(trial):
            raise _Failed(f"'{record.label}' is filed under another name than its content has")
        if record.id in seen:
            raise _Failed(f"'{record.label}' stands there twice")
        seen.add(record.id)
        if fault := _fault(made, record) or _not_its_attack(trial):
            raise _Failed(f"'{record.label}': {fault}")
    bits = sum(mark.items for record in made.trials for mark in record.marks)
    return f"{len(made.trials)} trials, {bits:,} answers; seeds, floors and shams are what their attacks prescribe"


def _fault(made: report.Report, record: report.Record) -> str:
    """What is wrong with a trial's records; empty if nothing is."""
    trial = record.trial
    subject = made.checkpoint if trial.role in ("candidate", "sham") else trial.subject
    if trial.subject != subject:
        return "it is of another checkpoint"
    if trial.seed != seed_of(trial.subject, trial.attack, trial.seed_index):
        return "its seed was chosen"
    if any(mark.trial != record.id for mark in record.marks) or any(end.trial != record.id for end in record.closed):
        return "it holds records of another trial"
    items = {task.name: task.items for task in trial.tasks}
    for mark in record.marks:
        if items.get(mark.task) != mark.items or mark.mark not in trial.marks:
            return f"a mark answers {mark.items} questions of '{mark.task}' at {mark.mark}, which were not asked"
        for bits in (*mark.correct.values(), mark.missing):
            if len(unpack(bits, mark.items)) != mark.items:
                return f"the answers to '{mark.task}' cannot be read"
    return ""


def _not_its_attack(trial: Trial) -> str:
    """How a trial differs from what this release's attack of that name would be; empty if it does not.

    Floors and strength zero stand in the trial, and whoever writes a report could write weaker ones.
    """
    try:
        module = attacks.load(trial.attack)
        config = attacks.configure(module, trial.config)
    except (PlanError, attacks.BadConfig) as error:
        return f"not known to this release: {error.message}"
    if trial.attack_version != module.VERSION:
        return f"made by version {trial.attack_version} of the attack, this release has {module.VERSION}"
    if trial.config != attacks.as_json(config):
        return "not every setting of the attack is written down"
    if (trial.family, trial.marks) != (module.FAMILY, attacks.marks(config)):
        return "its family or its marks are not the attack's"
    if trial.role == "sham":
        borrowed = {name: getattr(config, name) for name in plan.WHICH_DATA if hasattr(module.SHAM, name)}
        zero = dataclasses.replace(module.SHAM, **borrowed)
        return "" if config == zero and not trial.floors else "it is not the attack at strength zero"
    return "" if trial.floors == module.FLOORS else "its strength floors are not the attack's"


# --- what follows -----------------------------------------------------------------------------------------------------


def _verdict(look: _Look) -> str:
    made = look.made
    at = datetime.fromisoformat(made.verdict.at)
    evidence = report.evidence_in(made)
    again = judge(made.resolved, evidence, at)
    if again != made.verdict:
        raise _Failed(f"computed again from the signed answers it is: {_difference(made.verdict, again)}")
    if decide(made.resolved, again, made.checkpoint, at) != made.decision:
        raise _Failed("the decision does not follow from verdict and waivers")
    if made.says != report.MEANING[again.outcome]:
        raise _Failed("the sentence on what the verdict means is not the fixed one")
    if made.limitations != report.limitations(made.resolved, evidence, again.flags):
        raise _Failed("its limitations are not those that follow from policy and evidence")
    look.outcome = again.outcome
    return f"{again.outcome}, computed again: {len(again.findings)} bounds, all as stated"


def _difference(stated: Verdict, again: Verdict) -> str:
    if stated.outcome != again.outcome:
        return f"{again.outcome}, and it says {stated.outcome}: {again.reason}"
    for was, now in zip(stated.findings, again.findings, strict=False):
        if was != now:
            return f"{now.rule} after {now.attack}: bounds {now.lower:.4f} to {now.upper:.4f}, it says otherwise"
    return f"{again.outcome} with other reasons, flags or findings than it states"


def _own_policy(look: _Look) -> str:
    made = look.made
    if look.asked.policy is None:
        raise _NotChecked("no --policy was given")
    again = judge(look.asked.policy.noun, report.evidence_in(made), look.at)
    look.outcome = again.outcome
    return f"{look.asked.policy.noun.id} {look.asked.policy.noun.version}: {again.outcome}: {again.reason}"


def _own_suite(look: _Look) -> str:
    made = look.made
    if look.asked.suite is None:
        raise _NotChecked("no --require-suite was given")
    wanted = look.asked.suite
    told = {_address(record.trial): record for record in made.trials if record.trial.role == "candidate"}
    missing = []
    for address, words in _expected(wanted):
        record = told.get(address)
        if record is None or not any(end.status == "ok" for end in record.closed):
            missing.append(words)
    look.not_tried += [each for each in missing if each not in look.not_tried]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _Failed(f"{wanted.noun.id} {wanted.noun.version} has {missing[0]}{more}, and it was not run to its end")
    same = " and is the report's own, byte for byte" if wanted.sha256 == made.suite.sha256 else ""
    return f"all of {wanted.noun.id} {wanted.noun.version} was run to its end{same}"


def _attachments(look: _Look) -> str:
    made, stated = look.made, look.stated
    assert stated is not None
    folder = look.asked.attachments
    if folder is None:
        raise _NotChecked(f"no --attachments was given; it names {len(stated.attachments)}, verdict {made.verdict.at}")
    root = folder.resolve()
    absent = 0
    for each in stated.attachments:
        path = root / each.path
        if not path.exists() and not path.is_symlink() and each.visibility == "restricted":
            absent += 1
            continue
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root):
            raise _Failed(f"'{each.path}' is missing, or no regular file in that folder")
        if path.stat().st_size != each.size or sha256_file(path) != each.sha256:
            raise _Failed(f"'{each.path}' is not the file that was signed")
    kept = f", {absent} restricted ones were not given" if absent else ""
    return f"{len(stated.attachments) - absent} files are as signed{kept}"


def _seal(look: _Look) -> str:
    made = look.made
    if look.asked.seal is None:
        said = "the report names one" if made.seal else "the report names none"
        raise _NotChecked(f"no --seal was given; {said}")
    if look.asked.trusted is None:
        raise _NotChecked("no trust file was given")
    found = seals.read_seal(look.asked.seal, look.asked.trusted.keys)
    if made.seal is None or found.sha256 != made.seal.sha256:
        raise _Failed("the report does not say that it was made under this seal")
    sealed, trials = found.terms, [r.trial for r in made.trials if r.trial.role == "candidate" and r.planned]
    if (sealed.policy.sha256, sealed.suite.sha256) != (made.policy.sha256, made.suite.sha256):
        raise _Failed("another policy or suite was sealed")
    questions = {task.name: task for task in sealed.tasks}
    fixed = {each.sha256 for each in sealed.attacks}
    for trial in trials:
        if seals.attack_digest(trial) not in fixed:
            raise _Failed(f"{label(trial)} was not sealed as it was run")
        if any(questions.get(task.name) != task for task in trial.tasks) or trial.data != sealed.data:
            raise _Failed(f"{label(trial)} was asked other questions, or chose on other data, than were sealed")
    return f"sealed at {sealed.sealed_at}, by the sealer's word, and run as sealed"


def _chain(look: _Look) -> str:
    made, stated = look.made, look.stated
    assert stated is not None
    words = []
    others = {}
    for path in look.asked.known:
        if look.asked.trusted is None:
            raise _NotChecked("no trust file was given")
        opened = attest.open_bundle(attest.read_bundle(path), look.asked.trusted.keys)
        others[opened.sha256] = issued.read_issued(opened.payload)
    for other in others.values():
        if look.sha256 in other.revokes:
            raise _Failed(f"its signer withdrew it at {other.issued_at}")
        if look.sha256 in other.supersedes:
            raise _Failed(f"its signer put another in its place at {other.issued_at}")
    if stated.previous is not None and look.asked.known:
        if stated.previous not in others:
            raise _Failed(f"it follows {stated.previous[:16]}, which is not among --known: a report is missing")
        words.append("the one before it is here")
    if look.asked.ledger is not None:
        words.append(_ledger(made, stated, look.asked.ledger))
    if not words:
        before = f"it follows {stated.previous[:16]}" if stated.previous else "it names none before it"
        raise _NotChecked(f"no --ledger and nothing that it must follow in --known; {before}")
    return "; ".join(words)


def _ledger(made: report.Report, stated: issued.Issued, path: Path) -> str:
    """Whether the ledger still holds what it held when the report was signed, and the report all of that."""
    if stated.ledger is None:
        raise _Failed("the report names no ledger")
    raw = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    if len(raw) < stated.ledger.lines:
        raise _Failed(f"the ledger has {len(raw)} lines, {stated.ledger.lines} when the report was signed")
    try:
        then = ledger.replayed(b"".join(raw[: stated.ledger.lines]), path)
    except LedgerError as error:
        raise _Failed(str(error)) from None
    if then.head != stated.ledger.sha256:
        raise _Failed("the ledger's lines are not those that were there when the report was signed")
    planned = [record.trial for record in made.trials if record.planned]
    if _records(then.evidence(made.checkpoint, planned)) != _records(report.evidence_in(made)):
        raise _Failed("the ledger holds other records than the report")
    return f"the ledger's first {stated.ledger.lines} lines are those of then, and the report holds all of them"


def _records(evidence: Evidence) -> set[str]:
    return {each.digest for each in (*evidence.marks, *evidence.closed)} | {
        trial.id for trial in (*evidence.planned, *evidence.extra, *evidence.beside)
    }


CHECKS: tuple[tuple[str, Callable[[_Look], str]], ...] = (
    ("signature", _signature),
    ("form", _form),
    ("signer", _signer),
    ("checkpoint", _checkpoint),
    ("time", _time),
    ("policy and suite", _texts),
    ("nothing left out", _plan),
    ("evidence", _evidence),
    ("verdict", _verdict),
    ("your policy", _own_policy),
    ("your suite", _own_suite),
    ("attachments", _attachments),
    ("seal", _seal),
    ("before and after", _chain),
)
"""In this order. The first two decide whether anything in the bundle is looked at."""
