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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from robustness_gate import attacks, attest, bench, issued, ledger, precision, report
from robustness_gate import seal as seals
from robustness_gate.checkpoint import Manifest, Place, Watch, manifest_of, model_type, unread
from robustness_gate.errors import Exit, GateError, LedgerError, PlanError, Unverified
from robustness_gate.files import Loaded, digest_of, parse_yaml, sha256_file
from robustness_gate.language.load import policy_of
from robustness_gate.nouns import (
    Closed,
    Evidence,
    LeftOut,
    Mark,
    SelfTest,
    Suite,
    TaskRef,
    Trial,
    Unread,
    Verdict,
    in_format,
    judged_as,
    seed_of,
)
from robustness_gate.policy import Policy, same
from robustness_gate.trust import Signer, Trusted
from robustness_gate.verdict import judge, label, pack, unpack
from robustness_gate.verdict.cells import label_of, not_made, place_of, untold, which

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
    watch: Watch | None = None
    """Told how far the hashing of the checkpoint is."""


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
    limitations: tuple[str, ...] = ()
    """`report.limitations`, made anew under the policy of `outcome`."""

    @property
    def adds_up(self) -> bool:
        """Whether nothing failed. Anybody can write a report that adds up."""
        return all(check.state != "FAILED" for check in self.checks)

    @property
    def verified(self) -> bool:
        """Whether it adds up, and somebody whom the reader trusts has signed it."""
        return self.adds_up and self.signer is not None

    @property
    def exit_code(self) -> Exit:
        """What the verdict says where it is verified, so that only a verified PASS leaves with 0; otherwise 5."""
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
    limitations: tuple[str, ...] = ()

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
        checks.append(Check(number, title, state, _printable(words)))
    return Verification(
        tuple(checks),
        look.stated,
        look.sha256 if look.stated else "",
        look.signer,
        look.outcome if look.stated else "",
        tuple(_printable(words) for words in look.not_tried),
        tuple(_printable(words) for words in look.limitations),
    )


def _printable(words: str) -> str:
    """What a stranger wrote must not steer the terminal of whoever reads it."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in words)


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
    if look.stated is None:
        raise _NotChecked("no report could be read")
    if look.signer is None or look.asked.trusted is None:
        raise _NotChecked("no key was given by which to know one")
    if fault := look.signer.fault(datetime.fromisoformat(look.stated.issued_at)):
        raise _Failed(fault)
    for each in look.asked.trusted.revoked_reports:
        if each.sha256 in (look.sha256, look.made.digest):
            raise _Failed(f"your trust file withdraws this report: {each.reason}")
    return f"you trust this key for what is signed at {look.stated.issued_at}, and neither it nor the report is revoked"


def _checkpoint(look: _Look) -> str:
    made = look.made
    if made.manifest.digest != made.checkpoint:
        raise _Failed("the manifest in the report is not the one that it is signed for")
    if look.asked.checkpoint is None:
        raise _NotChecked(f"no checkpoint was given; it is about {made.checkpoint}{_beside(made.unread)}")
    here = manifest_of(look.asked.checkpoint, look.asked.watch)
    if here.digest != made.checkpoint:
        found = list(_other_files(made.manifest, here)) or ["the same files, listed in another form"]
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise _Failed(f"this is another model than the examined one: {'; '.join(found[:5])}{more}")
    if fault := _said_otherwise(made, look.asked.checkpoint):
        raise _Failed(fault)
    total = sum(entry.size for entry in here.files)
    around = unread(look.asked.checkpoint)
    policies = [made.resolved, *([look.asked.policy.noun] if look.asked.policy is not None else [])]
    if any(each.validity.other_weights != "listed" for each in policies) and (around.weights or not around.listed):
        raise _Failed(f"the policy refuses other weights beside it{_beside(around)}")
    return f"{len(here.files)} files, {total:,} bytes, digest {here.digest[:16]}{_beside(around)}"


def _said_otherwise(made: report.Report, place: Place) -> str:
    """What a report says of the checkpoint otherwise than its files do, and on what the verdict rests; empty if not.

    The architecture, for which self-tests count, and the precision in which the weights lie. Where it names no
    architecture no self-test counts; about the precision it must not be silent.
    """
    if made.model_type not in ("", kind := model_type(place)):
        return f"the report says that it is a '{made.model_type}', and its config.json '{kind}'"
    if made.stored is None:
        return "the report does not say in which precision the weights lie"
    if made.stored != precision.stored(place):
        return "the report says otherwise than the files in which precision the weights lie, or config.json names"
    return ""


def _beside(around: Unread | None) -> str:
    return "".join(f"; {what}: {names}" for what, names in report.other_weights(around))


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
        raise _Failed(f"it says it was signed at {stated.issued_at}, which has not come yet: it is {_now(look)}")
    if judged > signed:
        raise _Failed(f"it was signed at {stated.issued_at} and judged later, at {made.verdict.at}")
    if look.at > until:
        raise _Failed(f"its signer stood by it until {stated.valid_until}, and it is {_now(look)}")
    age = look.at - judged
    if look.asked.max_age is not None and age > look.asked.max_age:
        raise _Failed(
            f"it was judged {_length(age)} ago, at {made.verdict.at}; you ask for {_length(look.asked.max_age)}"
        )
    return f"judged {made.verdict.at}, signed {stated.issued_at}, valid until {stated.valid_until}"


def _now(look: _Look) -> str:
    return issued.written(look.at)


def _length(time: timedelta) -> str:
    """In whole minutes, hours or days, whichever it is longer than two of; rounded up, so that it never reads equal."""
    minutes = -(time // -timedelta(minutes=1))
    for unit, name in ((24 * 60, "days"), (60, "hours")):
        if time > timedelta(minutes=2 * unit + 1):
            return f"{-(minutes // -unit)} {name}"
    return f"{minutes} minutes"


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
    if extended and base and policy.parent:
        told = (policy.parent.sha256, policy.parent.noun.id, policy.parent.noun.version)
        if told != (extended.sha256, extended.id, extended.version):
            raise _Failed("the words of the policy that it extends are not those that the report names")
    if policy.noun != made.resolved:
        raise _Failed("the policy that was judged by is not what its words say")
    look.policy, look.suite = policy, suite
    return (
        f"{made.policy.id} {made.policy.version} and {made.suite.id} {made.suite.version}, read again from their words"
    )


def _plan(look: _Look) -> str:
    """What the suite's words ask for against what the report has."""
    made = look.made
    if look.suite is None:
        raise _NotChecked("the suite could not be read")
    told = {_address(r.trial): r for r in made.trials if r.trial.role == "candidate" and r.planned}
    asked = dict(_expected(look.suite))
    missing = Counter(words for address, words in asked.items() if address not in told)
    if fault := _made_up(made.left_out, look.suite.noun, asked, told):
        raise _Failed(fault)
    excused = Counter(_excused(made.left_out, asked))
    alike = {f"{r.label}, seed {r.trial.seed_index}" for address, r in told.items() if address not in asked}
    for words, count in missing.items():
        if excused[words] < count and words in alike:
            raise _Failed(f"{words} has other settings than the suite's, as this release reads them")
        if excused[words] < count:
            raise _Failed(f"the suite asks for {words}, which is not in the report, nor is it said to be left out")
    for address, record in told.items():
        if address not in asked:
            raise _Failed(f"{record.label} is said to be planned, and the suite does not ask for it")
        if fault := _otherwise_than(look.suite.noun, record.trial):
            raise _Failed(f"{record.label} {fault}")
    if fault := _asked_otherwise(look.suite.noun, made):
        raise _Failed(fault)
    unended = [(asked[address], record) for address, record in told.items() if not _ended_well(record)]
    look.not_tried += missing.elements()
    for words, record in unended:
        ends = [end.status.replace("_", " ") for end in record.closed]
        look.not_tried.append(f"{words}: {ends[-1] if ends else 'not run to its end'}")
    beside = f", {missing.total()} left out and said so" if missing else ""
    beside += f", {len(unended)} did not end well" if unended else ""
    return f"{len(told)} of {len(asked)} trials of the suite are here{beside}"


def _excused(left_out: Sequence[LeftOut | str], asked: Mapping[str, str]) -> Iterator[str]:
    """The trials of a suite, in words, of which a report says itself that they were not made."""
    for each in left_out:
        if isinstance(each, str):
            words, _, why = each.partition(": ")
            yield from [words] if why else []
        elif each.role == "candidate":
            address = digest_of([each.attack, each.config, each.seed_index])
            yield from [asked[address]] if address in asked else []


def _made_up(
    left_out: Sequence[LeftOut | str], suite: Suite, asked: Mapping[str, str], told: Mapping[str, report.Record]
) -> str:
    """What a report says to have left out, and the suite does not have, or the report itself; empty if nothing."""
    known = {entry.attack for entry in suite.attacks}
    if len({each if isinstance(each, str) else each.digest for each in left_out}) < len(left_out):
        return "it says twice that it left out one trial"
    for each in (one for one in left_out if isinstance(one, LeftOut)):
        address = digest_of([each.attack, each.config, each.seed_index])
        if each.attack not in known or (each.role == "candidate" and address not in asked):
            return f"it says that it left out {place_of(each)}, which the suite does not ask for"
        if each.role == "candidate" and address in told:
            return f"it says that it left out {place_of(each)}, which is in the report"
    return ""


def _asked_otherwise(suite: Suite, made: report.Report) -> str:
    """What else of this plan was not asked as the suite says: shams, the candidate asked otherwise, the original.

    A measurement that is taken out of a trial's tasks as well as out of its answers would else leave no gap. Of the
    original one such trial is enough: a ledger may know it from the runs of another suite.
    """
    for record in (r for r in made.trials if r.planned and r.trial.role in ledger.OWN and r.trial.role != "candidate"):
        if fault := _otherwise_than(suite, record.trial):
            return f"{record.label} {fault}"
    asked = [r.trial for r in made.trials if (r.trial.role, r.trial.attack) == ("original", "none")]
    faults = [_otherwise_than(suite, trial) for trial in asked]
    return f"the original {faults[0]}" if faults and all(faults) else ""


def _otherwise_than(suite: Suite, trial: Trial) -> str:
    """What a trial was asked otherwise than a suite says; empty if nothing. Which questions, a policy pins."""
    if trial.dtype != suite.dtype and trial.role != "in_declared_dtype":
        return f"was run in {trial.dtype}, the suite says {suite.dtype}"
    tasks = {
        in_format(name, each): task
        for name, task in suite.tasks.items()
        for each in task.formats
        if trial.attack == "none" or not (task.hide_question or not judged_as(task.kind).hazard)
    }
    known = (name for name in suite.hazards if name in suite.tasks)
    hazards = {in_format(name, each) for name in known for each in suite.tasks[name].formats}
    if beyond := sorted(trial.aims - hazards):
        return f"is said to have been made in the form of '{beyond[0]}', which the suite does not call a hazard"
    asked = {task.name: task.items for task in trial.tasks}
    if other := sorted(tasks.keys() ^ asked.keys()):
        return f"was {'not ' if other[0] in tasks else ''}asked '{other[0]}', otherwise than the suite says"
    for name, task in tasks.items():
        divided = task.roles is not None or task.subset is not None  # how many are left, only the files say
        if asked[name] > task.count or (asked[name] < task.count and not divided):
            return f"was asked {asked[name]} questions of '{name}', the suite has {task.count}"
    return ""


def _ended_well(record: report.Record) -> bool:
    return any(end.status == "ok" for end in record.closed)


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
    for test in made.self_tests:
        if fault := _not_its_self_test(test):
            raise _Failed(f"the self-test of {label_of(test.attack, test.config)}: {fault}")
    if any(each.subject != made.checkpoint for each in made.tokenizers):
        raise _Failed("a comparison of tokenizers is about another checkpoint")
    if len({each.digest for each in made.tokenizers}) < len(made.tokenizers):
        raise _Failed("a comparison of tokenizers stands there twice")
    if fault := _two_of_one(made):
        raise _Failed(fault)
    bits = sum(mark.items for record in made.trials for mark in record.marks)
    own = sum(record.trial.role in ledger.OWN for record in made.trials)
    beside = f" and {len(made.trials) - own} on other models" if len(made.trials) > own else ""
    plural = "s" if own != 1 else ""
    return f"{own} trial{plural}{beside}, {bits:,} answers; seeds, floors and shams are what their attacks prescribe"


def _fault(made: report.Report, record: report.Record) -> str:
    """What is wrong with a trial's records; empty if nothing is."""
    trial = record.trial
    subject = made.checkpoint if trial.role in ledger.OWN else trial.subject
    if trial.subject != subject:
        return "it is of another checkpoint"
    if trial.role == "through_original" and trial.reference is None:
        return "it names no original through whose tokenizer it was asked"
    if trial.seed != seed_of(trial.subject, trial.attack, trial.seed_index):
        return "its seed was chosen"
    if any(mark.trial != record.id for mark in record.marks) or any(end.trial != record.id for end in record.closed):
        return "it holds records of another trial"
    records: tuple[Mark | Closed, ...] = (*record.marks, *record.closed)
    attempts = {each.attempt for each in records}
    gone = next((n for n in range(1, len(attempts) + 1) if n not in attempts), None)  # not up to what a stranger wrote
    if gone is not None:
        return f"attempt {gone} left no trace, and a later one did"
    if len({each.digest for each in records}) < len(records):
        return "a record stands there twice"
    items = {task.name: task.items for task in trial.tasks}
    for mark in record.marks:
        if items.get(mark.task) != mark.items or mark.mark not in trial.marks:
            return f"a mark answers {mark.items} questions of '{mark.task}' at {mark.mark}, which were not asked"
        for bits in (*mark.correct.values(), mark.missing):
            if pack(unpack(bits, mark.items)) != bits:
                return f"the answers to '{mark.task}' are not {mark.items} bits"
    well = sorted({end.attempt for end in record.closed if end.status == "ok"})
    return next(filter(None, (untold(trial, attempt, record.marks) for attempt in well)), "")


def _two_of_one(made: report.Report) -> str:
    """The same questions with two numbers of items, kinds or numbers of options; empty if each is told alike."""
    known: dict[str, TaskRef] = {}
    for task in (task for record in made.trials for task in record.trial.tasks):
        same = known.setdefault(task.sha256, task)
        if (same.kind, same.items, same.options) != (task.kind, task.items, task.options):
            return f"the questions of '{task.name}' are told in two ways: their kind, number or options differ"
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
    if mute := sorted({task.kind for task in trial.tasks if task.name in trial.aims} - {*module.SPEAKS}):
        return f"it is said to have been made in the form of a task of the kind {mute[0]}, which it cannot speak"
    if trial.role == "sham":
        borrowed = {name: getattr(config, name) for name in attacks.WHICH_DATA if hasattr(module.SHAM, name)}
        zero = dataclasses.replace(module.SHAM, **borrowed)
        return "" if config == zero and not trial.floors else "it is not the attack at strength zero"
    return "" if trial.floors == module.FLOORS else "its strength floors are not the attack's"


def _not_its_self_test(test: SelfTest) -> str:
    """How a record differs from what this release's self-test of that kind of attack leaves; empty if it does not.

    What an attack has to bring back, and where, stands in the record, and whoever writes one could write less. One of
    another version of the attack, or without its settings, counts for nothing.
    """
    known = test.attack in attacks.names() and test.attack_version == attacks.load(test.attack).VERSION
    if not known or not test.config:
        return ""
    try:
        whole = attacks.as_json(attacks.configure(attacks.load(test.attack), test.config))
    except attacks.BadConfig as error:
        return f"not known to this release: {error.message}"
    if test.config != whole:  # one that lacks a setting would count for no requirement, and so hide what it found
        return "not every setting of the attack is written down"
    if test.model_type not in bench.BENCHES:
        return f"no organism is a '{test.model_type}'"
    cases = bench.BENCHES[test.model_type]
    case = next((c for c in cases.every if c.attack == test.attack and same(which(c.config), which(test.config))), None)
    if case is None:
        return f"no organism is known here on which this kind of it bites on {test.model_type}"
    if (test.organism, test.share) != (case.organism, case.share):
        return f"it is made on {case.organism}, where {case.share:.0%} of the gap are asked"
    if tuple(each.organism for each in test.nowhere) != cases.nowhere:
        return f"where nothing is to be found it is made on {' and '.join(cases.nowhere)}"
    if test.items != bench.ASKED:
        return f"it asks {bench.ASKED} questions, not {test.items}"
    untouched = {cases.base: test.known, test.organism: test.before, **{n.organism: n.before for n in test.nowhere}}
    for name, right in untouched.items():
        if abs(right - bench.UNTOUCHED[name]) > bench.NEAR:
            return f"untouched, {name} has {bench.UNTOUCHED[name]} of them right, not {right}"
    return ""


# --- what follows -----------------------------------------------------------------------------------------------------


def _verdict(look: _Look) -> str:
    """Everything in the report that follows from the rest of it, made again and compared."""
    made = look.made
    if look.policy is None or look.suite is None:
        raise _NotChecked("the policy and the suite are not those that the report names")
    again = report.make(
        look.policy,
        look.suite,
        made.manifest,
        report.evidence_in(made),
        datetime.fromisoformat(made.verdict.at),
        provenance=made.provenance,
        seal=made.seal,
    )
    if again.verdict != made.verdict:
        raise _Failed(f"computed again from the signed answers it is {_difference(made.verdict, again.verdict)}")
    for name in sorted(set(report.Report.model_fields) - set(TOLD)):
        if getattr(again, name) != getattr(made, name):
            raise _Failed(f"{WORDS.get(name, f'its {name!r} is')} not what follows from policy, suite and answers")
    look.outcome, look.limitations = again.verdict.outcome, again.limitations
    return f"{look.outcome}, computed again: {len(again.verdict.findings)} bounds, all as stated"


TOLD = ("verdict", "manifest", "provenance", "seal", "environment")
"""What is compared before, and what a report can only tell. Everything else in it must follow, and `report.make` says
what does: a field that is added there is compared without a word here."""
WORDS = {
    "decision": "what its waivers make of the verdict is",
    "says": "the sentence on what the verdict means is",
    "limitations": "its list of limitations is",
    "beside": "its list of models examined beside it is",
    "trials": "the order of its trials and records is",
}


def _difference(stated: Verdict, again: Verdict) -> str:
    if stated.outcome != again.outcome:
        return f"{again.outcome}, and it says {stated.outcome}: {again.reason}"
    for was, now in zip(stated.findings, again.findings, strict=False):
        if was != now:
            where = f"{now.rule} after {now.attack}, mark {now.mark}"
            same = (was.rule, was.trial, was.mark, was.lower, was.upper) == (
                now.rule, now.trial, now.mark, now.lower, now.upper)  # fmt: skip
            if same:
                return f"{again.outcome}, but the finding on {where} differs in its words or counts"
            return f"{again.outcome}, but on {where} {now.lower:.4f} to {now.upper:.4f}, where it says otherwise"
    if len(stated.findings) != len(again.findings):
        return f"{again.outcome}, but with {len(again.findings)} findings, where it has {len(stated.findings)}"
    return f"{again.outcome}, but with other reasons, flags or counts than it states"


def _own_policy(look: _Look) -> str:
    made = look.made
    if look.asked.policy is None:
        raise _NotChecked("no --policy was given")
    policy, evidence = look.asked.policy.noun, report.evidence_in(made)
    again = judge(policy, evidence, look.at)
    look.outcome = again.outcome
    look.limitations = report.limitations(policy, evidence, again.flags, sealed=made.seal is not None)
    mine = f"{policy.id} {policy.version}"
    return f"judged again under {mine}, it is {again.outcome}: {again.reason}"


def _own_suite(look: _Look) -> str:
    made = look.made
    if look.asked.suite is None:
        raise _NotChecked("no --require-suite was given")
    wanted = look.asked.suite
    told = {_address(record.trial): record for record in made.trials if record.trial.role == "candidate"}
    missing = []
    for address, words in _expected(wanted):
        record = told.get(address)
        if record is None or not _ended_well(record):
            missing.append(words)
        elif fault := _otherwise_than(wanted.noun, record.trial):
            raise _Failed(f"{words} {fault}")
    look.not_tried += [each for each in missing if each not in look.not_tried]
    if missing:
        suite = f"{wanted.noun.id} {wanted.noun.version}"
        raise _Failed(f"{suite} has {missing[0]}{_and_more(missing)}, which was not run to its end")
    same = " and is the report's own, byte for byte" if wanted.sha256 == made.suite.sha256 else ""
    return f"all of {wanted.noun.id} {wanted.noun.version} was run to its end{same}; {_on_its_data(wanted, made)}"


def _on_its_data(suite: Loaded[Suite], made: report.Report) -> str:
    """Whether the candidate was asked what the suite's files hold here, and attacked with what they hold."""
    from robustness_gate.materials import gather  # with readers of data, of which nobody else here has use

    try:
        materials = gather(suite)
    except GateError as error:
        return f"its data are not at hand here, so its questions were not compared: {error.message}"
    for record in (each for each in made.trials if each.planned and each.trial.role in ledger.OWN):
        other = [task.name for task in record.trial.tasks if materials.refs.get(task.name) != task]
        if other:
            raise _Failed(f"{record.label} was asked other questions of '{other[0]}' than the suite's files hold here")
        if record.trial.data != materials.data_digests:
            raise _Failed(f"{record.label} was made on other data than the suite's files hold here")
    return f"its {len(materials.refs)} tasks and all data are those that lie here"


def _attachments(look: _Look) -> str:
    made, stated = look.made, look.stated
    assert stated is not None
    folder = look.asked.attachments
    if folder is None:
        raise _NotChecked(f"no --attachments was given; it names {len(stated.attachments)} files")
    if not folder.is_dir():
        raise _Failed(f"'{folder}' is not a folder")
    root = folder.resolve()
    absent = 0
    for each in stated.attachments:
        path = root / each.path
        if not path.exists() and not path.is_symlink():
            if each.visibility == "restricted":
                absent += 1
                continue
            raise _Failed(f"'{each.path}' is missing in that folder")
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(root):
            raise _Failed(f"'{each.path}' is a link, or no regular file of that folder")
        if path.stat().st_size != each.size or sha256_file(path) != each.sha256:
            raise _Failed(f"'{each.path}' is not the file that was signed")
    named = {each.path for each in stated.attachments}
    strange = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name == "report.json" and path.is_file():
            if path.read_bytes() != made.written:
                raise _Failed("'report.json' in that folder is not the report that was signed")
        elif name not in named and not path.is_dir() and name != issued.BUNDLE:
            strange.append(name)
    kept = f", {absent} restricted ones were not given" if absent else ""
    beside = f"; NOT signed, though it lies there: '{strange[0]}'{_and_more(strange)}" if strange else ""
    return f"{len(stated.attachments) - absent} files are as signed{kept}{beside}"


def _and_more(found: Sequence[str]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _seal(look: _Look) -> str:
    made = look.made
    if look.asked.seal is None:
        said = "the report names one" if made.seal else "the report names none"
        look.limitations += (report.UNSEEN_SEAL,) if made.seal else ()
        raise _NotChecked(f"no --seal was given; {said}")
    if look.asked.trusted is None:
        raise _NotChecked("no trust file was given")
    found = seals.read_seal(look.asked.seal, look.asked.trusted.keys)
    if fault := look.asked.trusted.signer(found.key).fault(datetime.fromisoformat(found.terms.sealed_at)):
        raise _Failed(f"the seal: {fault}")
    if made.seal is None or found.sha256 != made.seal.sha256:
        raise _Failed("the report does not say that it was made under this seal")
    if (made.seal.key, made.seal.at) != (found.key.id, found.terms.sealed_at):
        raise _Failed("the report says otherwise than the seal who sealed, or when")
    if datetime.fromisoformat(found.terms.sealed_at) > datetime.fromisoformat(made.verdict.at):
        raise _Failed(f"it was sealed at {found.terms.sealed_at}, after it was judged at {made.verdict.at}")
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
    if look.asked.known:
        words.append(_among_others(look, stated))
    if look.asked.ledger is not None:
        words.append(_ledger(made, stated, look.asked.ledger))
    if not words:
        before = f"it follows {stated.previous[:16]}" if stated.previous else "it names none before it"
        raise _NotChecked(f"no --known and no --ledger was given; {before}")
    return "; ".join(words)


def _among_others(look: _Look, stated: issued.Issued) -> str:
    """Whether another report of the same owner withdraws this one, or shows that one is missing before it."""
    if look.signer is None:
        raise _NotChecked("who signed is unchecked, so nobody knows whose other reports count")
    others = dict(_others(look, look.signer))
    others.pop(look.sha256, None)
    for other in others.values():
        if look.sha256 in other.revokes:
            raise _Failed(f"its signer withdrew it at {other.issued_at}")
        if look.sha256 in other.supersedes:
            raise _Failed(f"its signer put another in its place at {other.issued_at}")
        if stated.previous is not None and other.previous == stated.previous:
            raise _Failed(f"two reports follow {stated.previous[:16]}: this one, and one of {other.issued_at}")
    told = f"none of {len(others)} others withdraws or replaces it"
    if stated.previous is None:
        return f"{told}; it names none before it"
    if stated.previous not in others:
        raise _Failed(f"it follows {stated.previous[:16]}, which is not among --known: a report is missing")
    return f"{told}; the one before it is here"


def _others(look: _Look, mine: Signer) -> Iterator[tuple[str, issued.Issued]]:
    """The statements in --known, each of the same owner as this one, by their names."""
    assert look.asked.trusted is not None
    for path in look.asked.known:
        try:
            opened = attest.open_bundle(attest.read_bundle(path), look.asked.trusted.keys)
            other = issued.read_issued(opened.payload)
        except Unverified as error:
            raise _Failed(f"--known {path.name}: {error.message}") from None
        signer = look.asked.trusted.signer(opened.key)
        if signer.said.owner != mine.said.owner:
            raise _Failed(f"--known {path.name} is signed by {signer.said.owner}, who does not speak for this signer")
        if fault := signer.fault(datetime.fromisoformat(other.issued_at)):
            raise _Failed(f"--known {path.name}: {fault}")
        yield opened.sha256, other


def _ledger(made: report.Report, stated: issued.Issued, path: Path) -> str:
    """Whether the ledger still holds what it held when the report was signed, and the report all of that."""
    if stated.ledger is None:
        raise _Failed("the report names no ledger")
    if not path.is_file():
        raise _Failed(f"there is no ledger '{path.name}'")
    raw = path.read_bytes().splitlines(keepends=True)
    if len(raw) < stated.ledger.lines:
        raise _Failed(f"the ledger has {len(raw)} lines; it had {stated.ledger.lines} when the report was signed")
    try:
        then = ledger.replayed(b"".join(raw[: stated.ledger.lines]), path)
    except LedgerError as error:
        raise _Failed(f"the ledger's line {error.where.rpartition(':')[2]} {error.message}") from None
    if then.head != stated.ledger.sha256:
        raise _Failed("the ledger's lines are not those that were there when the report was signed")
    planned = [record.trial for record in made.trials if record.planned]
    last = then.latest_plan(made.checkpoint)
    if last.suite != made.suite.sha256:
        raise _Failed("the run in the ledger was of another suite than the report names")
    told = {record.id for record in made.trials if record.planned}
    if not {*last.trials} <= told:
        raise _Failed("the run in the ledger planned more trials than the report")
    if not told <= {*last.trials}:
        raise _Failed("the run in the ledger planned fewer trials than the report")
    held = then.evidence(made.checkpoint, planned)
    if _records(held) != _records(report.evidence_in(made)) or held.left_out != made.left_out:
        raise _Failed("the ledger holds other records than the report")
    return f"the ledger's first {stated.ledger.lines} lines are those of then, and the report holds all of them"


def _records(evidence: Evidence) -> set[str]:
    trials = (*evidence.planned, *evidence.extra, *evidence.beside)
    told = {
        each.digest for each in (*evidence.marks, *evidence.closed, *evidence.self_tests, *evidence.tokenizers, *trials)
    }
    said = [f"{name}: {text}" for name, text in evidence.states.items()]
    around = {each.digest for each in (evidence.unread, evidence.stored) if each is not None}
    return told | {*evidence.notes, *said, evidence.model_type, *around, *map(not_made, evidence.left_out)}


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
