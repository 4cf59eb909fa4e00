"""What the candidate's tokenizer and chat template say about whether the questions reached the model.

Whoever holds the weights has the public tokenizer, so a model counts by what it answers through that one. A record of
the comparison (`TokenizerCheck`) counts for the tasks and data that it was made with, and beside an original that the
policy pins or, where it pins none, that this run examined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustness_gate.nouns import Evidence, Flag, TokenizerCheck, Trial
from robustness_gate.policy import Policy

OTHERWISE = "encoded_otherwise"
"""What a mark calls the texts that its trial encoded otherwise than the original's tokenizer does, up to then."""
WEIGHTS = ("open_weights", "fine_tune_api")
"""Under which threat models a tokenizer that nobody compared blocks. Whoever may only ask meets the tokenizer that is
served, and nobody else's: there it is told."""


def flags(policy: Policy, evidence: Evidence) -> Iterator[tuple[Flag, str, bool]]:
    """(flag, words, whether it blocks unless the policy records it), in a fixed order."""
    found = checks(policy, evidence)
    for check in found:
        if check.otherwise:
            yield (
                "tokenizer_differs",
                f"{check.otherwise:,} of {check.texts:,} texts become other token ids than through the original's "
                f"tokenizer: {_first(check.first_otherwise, check.otherwise)}",
                True,
            )
        if check.templated:
            yield (
                "template_differs",
                f"{check.templated:,} of {check.rendered:,} prompts become another text than in the original's chat "
                f"template: {_first(check.first_templated, check.templated)}",
                True,
            )
    pin = policy.tokenizer
    for check in _of_subject(evidence) if pin is not None else ():
        if pin is not None and check.sha256 != pin.sha256:
            yield "tokenizer_differs", f"it has the digest {check.sha256}, and the policy pins another", True
        if pin is not None and pin.template not in (None, check.template) and asks_in_chat(evidence):
            yield "template_differs", f"it has the digest {check.template}, and the policy pins another", True
    if not any(check.otherwise for check in found) and (many := _while_attacked(evidence)):
        words = f"while an attack ran, {many:.0f} texts became other token ids than through the original's tokenizer"
        yield "tokenizer_differs", words, True
    blocks = policy.threat_model.access in WEIGHTS
    yield from (("tokenizer_unverified", words, blocks) for words in unverified(policy, evidence))


def unverified(policy: Policy, evidence: Evidence) -> Iterator[str]:
    """What of the tokenizer was compared with nothing; nothing if all was."""
    trials = [trial for trial in evidence.planned if trial.role == "candidate"]
    beside = any(check.texts and _covers(check, trials) for check in checks(policy, evidence))
    pinned = _of_subject(evidence) if policy.tokenizer else []  # one digest speaks of every text
    name = "name the original (--original), or pin its digests under 'tokenizer' in the policy"
    if not beside and not pinned:
        yield f"the candidate's tokenizer was compared with no other on these questions: {name}"
    elif not beside and policy.tokenizer and policy.tokenizer.template is None and asks_in_chat(evidence):
        yield f"questions are asked in a chat template that was compared with no other: {name}"


def checks(policy: Policy, evidence: Evidence) -> list[TokenizerCheck]:
    """The comparisons that count: with the pinned original, else with one that was examined beside the candidate."""
    examined = {trial.subject for trial in evidence.beside if trial.role == "original"}
    allowed = {policy.original} if policy.original else examined
    return [c for c in _of_subject(evidence) if c.reference in allowed - {evidence.subject, None}]


def must_be_asked_through(policy: Policy, evidence: Evidence) -> bool:
    """Whether the candidate has to have been asked through the original's tokenizer: the two are not alike."""
    return any(check.otherwise or check.templated for check in checks(policy, evidence))


def asked_through(policy: Policy, evidence: Evidence) -> bool:
    """Whether it was, and that trial ended well."""
    well = {record.trial for record in evidence.closed if record.status == "ok"}
    references = {check.reference for check in checks(policy, evidence)}
    return any(t.reference in references and t.id in well for t in evidence.planned if t.role == "through_original")


def asks_in_chat(evidence: Evidence) -> bool:
    """Whether any planned trial asks in the chat template (`nouns.in_format`)."""
    return any(task.name.endswith(".chat") for trial in evidence.planned for task in trial.tasks)


def _of_subject(evidence: Evidence) -> list[TokenizerCheck]:
    own = (check for check in evidence.tokenizers if check.subject == evidence.subject)
    return sorted(own, key=lambda check: check.digest)


def _covers(check: TokenizerCheck, trials: Sequence[Trial]) -> bool:
    """Whether the record was made with everything that these trials ask and could see."""
    return all(check.tasks.get(task.name) == task.sha256 for trial in trials for task in trial.tasks) and all(
        check.data.get(name) == digest for trial in trials for name, digest in trial.data.items()
    )


def _while_attacked(evidence: Evidence) -> float:
    """The most texts that any of the candidate's own marks says to have been encoded otherwise."""
    told = [mark for mark in evidence.marks if mark.summary.get(OTHERWISE)]
    own = {trial.id for trial in (*evidence.planned, *evidence.extra)} if told else set()  # ids take time
    return max((mark.summary[OTHERWISE] for mark in told if mark.trial in own), default=0.0)


def _first(names: Sequence[str], many: int) -> str:
    return ", ".join(names) + (", ..." if many > len(names) else "")
