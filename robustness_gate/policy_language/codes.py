"""Every error code of policies and suites, with one sentence each, and which of several errors is reported.

A code never changes its meaning, so scripts and reviews may rely on it. The messages may be improved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from robustness_gate.errors import FileError
from robustness_gate.inputs.validation import Loaded, others
from robustness_gate.inputs.yaml import Path_

CODES = {
    # the file
    "unreadable": "The file is not there or cannot be read.",
    "too-large": "The file is larger than a megabyte.",
    "not-utf8": "The file is not UTF-8.",
    "not-yaml": "The file is not YAML.",
    "tab": "A tab stands where YAML wants spaces.",
    "too-deep": "The YAML is nested more than 40 levels deep.",
    "anchor": "Anchors and aliases are not allowed: a reader should not have to look a value up.",
    "merge-key": "YAML 1.1's merge key is not allowed.",
    "tag": "YAML tags are not allowed.",
    "bad-key": "A key is not a plain word.",
    "bad-character": "Text holds half a character.",
    "duplicate-key": "A key stands twice in one mapping.",
    # what a key holds
    "unknown-schema": "The first line names another kind of file, or a version that this program does not know.",
    "unknown-key": "There is no such key here.",
    "missing-key": "A key that has no default is missing.",
    "unknown-value": "The value is none of those that can stand here.",
    "not-a-mapping": "Keys and values belong here.",
    "not-a-list": "A list belongs here.",
    "not-a-number": "A number belongs here, without quotes or a percent sign.",
    "not-finite": "NaN and infinity are not numbers here.",
    "not-a-boolean": "`true` or `false` belongs here; `yes`, `no`, `on` and `off` are text.",
    "not-text": "Text belongs here.",
    "not-a-date": "A date belongs here, as 2026-12-31.",
    "out-of-range": "The number lies outside of what makes sense.",
    "empty": "Something must stand here: an empty list would ask for nothing.",
    "too-short": "A reason of a word or two is none.",
    "bad-form": "A name, version or pattern is not of its form.",
    "bad-digest": "A SHA-256 has 64 lower-case hexadecimal digits.",
    # what a policy says
    "duplicate-id": "An id, or a whole rule, is used twice.",
    "unknown-task": "The task is not pinned under `tasks`, or the suite does not have it.",
    "unknown-control": "There is no such control.",
    "idle-limit": "The limit is on nothing that is required, so nothing would have to meet it.",
    "only-looks": "The attack or the task is diagnostic: it cannot be required.",
    "no-limit": "What is required has no limit on it, so any result of it would do.",
    "no-untouched": "The untouched model must be required.",
    "vacuous": "A bound that every model meets.",
    "contradiction": "Two values in one record, or two rules for one hypothesis, contradict each other.",
    "guardrail": "A guardrail has one direction.",
    "limit": "A limit is on one task or one score, and its numbers fit what it compares with.",
    "ladder": "Budgets must rise.",
    "validity-window": "It expires before it begins.",
    "wrong-control": "The control is of a kind that this rule cannot use.",
    "no-report-pin": "An earlier release needs the digest of its report.",
    "share-not-pinned": "A share limit lacks a pin, without which its gap or its questions could be chosen.",
    "moving-tag": "A source is named by a branch or tag that moves.",
    "calibration": "A calibration lacks its terms or the original's digest, or its methods are unknown or too alike.",
    "roles": "Less than half of the items would be left for the verdict.",
    # dates
    "policy-expired": "The policy's last day is over.",
    "policy-not-yet": "The policy's first day has not come.",
    "control-expired": "A control that is used is out of date.",
    "waiver-expired": "A waiver or accepted risk is out of date: take it out.",
    # waivers
    "waiver-self-approved": "An owner cannot approve their own waiver.",
    "waiver-length": "A waiver lives for ninety days at most.",
    "waiver-target": "Only one requirement or one red flag can be waived: no limit, no sham, no positive control.",
    "waiver-wildcard": "A waiver names one thing; there is no `*`.",
    "waiver-unknown": "The waiver names a requirement that the policy does not have.",
    # extends
    "extends-form": "`extends` names one file by a relative path and its digest.",
    "extends-missing": "The parent is not there.",
    "extends-digest": "The parent's bytes have another digest.",
    "extends-depth": "The parent extends another itself; one level only.",
    "loosened": "The policy is looser than the one that it extends.",
    # policy and suite together
    "reserved-name": "A task's name would be taken for another's chat format.",
    "duplicate-format": "A format is named twice.",
    "wrong-count": "Another number of items than was said.",
    "wrong-questions": "Other questions, key or form than was said.",
    "repeated-questions": "The same question stands there under several ids.",
    "wrong-source": "The suite takes the items from elsewhere, or divides them otherwise.",
    "wrong-data": "What attackers may use is not what the policy pins.",
    "wrong-dtype": "The suite computes in another precision than the policy pins.",
    "wrong-config": "The attack's settings are not what the policy pins.",
    "below-chance": "No model can be shown to be at or under chance.",
    "not-in-suite": "The suite does not run that.",
    "ambiguous": "The requirement fits several attacks of the suite.",
    "too-few-seeds": "The suite runs fewer seeds than are required.",
    "unknown-budget": "The suite does not stop at that budget.",
    "thin-tuning": "The suite tries fewer settings than are required.",
    "beyond-threat-model": "The required attack needs more than the threat model's adversary has.",
    "wrong-metric": "The kind of the task does not have this metric.",
    "wrong-baseline": "`choices_only` names a task that shows the questions, or other ones.",
    "not-a-hazard": "A limit is on a task that is no hazard of the suite: no attack is made in its form.",
    "cannot-be-made": "A required attack cannot be made in the form of a task on which a limit holds it.",
    # the suite alone
    "unknown-hazard": "The hazard is none of the suite's tasks.",
    "duplicate-hazard": "A hazard task is named twice.",
    "unknown-kind": "There is no such kind of task.",
    "unknown-attack": "There is no such attack.",
    "unknown-setting": "The attack has no such setting.",
    "bad-setting": "The setting's value is not of its kind, or contradicts another.",
    "unknown-corpus": "The attack trains on a corpus that the suite does not have.",
    "too-little-data": "The corpus is smaller than the attack's budget.",
    "duplicate-attack": "The same attack with the same settings stands twice.",
    "wrong-kind": "Tasks of this kind are only reported: they cannot be the hazard, nor have such a rule.",
    "wrong-key-for-kind": "The key does not go with the task's kind.",
    "two-dev-sets": "The hazard's dev items come from its roles and from `dev`.",
    "missing-file": "A file that the suite names is not there.",
    "leak": "An attacker could see a verdict item.",
    "unknown-item": "A subset names an item that is not there.",
    "bad-ids": "The column that 'id' names does not identify each question of the task.",
    "bad-clusters": "An item has no cluster, or the rows with the clusters are not the items.",
    "unpinned": "A value is not known yet: `policy pin` prints a policy's, `suites pin` asks the hub for a suite's.",
    "gated": "A data set on the hub can only be read after its terms were accepted.",
    "bad-item": "A line of a data file is not an item or text.",
    "no-train-items": "A corpus takes a task's training items, and the task keeps none back.",
    "no-role-key": "The secret that divides the items is not in the environment.",
    "bad-task-yaml": "lm-evaluation-harness's task file cannot be read here as it reads it.",
    "unsupported-key": "lm-evaluation-harness knows the key; here it has no meaning.",
    # tests of a policy
    "bad-case": "A case of `policy test` cannot be made into evidence.",
    "no-reason": "Something was loosened without a written reason.",
}


class Trouble(NamedTuple):
    """One error in a well-formed policy."""

    code: str
    words: str
    remedy: str
    at: Path_


def first_of(loaded: Loaded[Any], troubles: Iterable[Trouble]) -> None:
    """Report the first error in the order of the file. Raises FileError if there is one."""

    def rank(trouble: Trouble) -> tuple[bool, int, int]:
        at = trouble.at
        while at and at not in loaded.places:
            at = at[:-1]
        path, line, column = loaded.places.get(at, (loaded.path, 1, 1))
        return path != loaded.path, line, column

    found = sorted(troubles, key=rank)
    if found:
        code, words, remedy, at = found[0]
        raise FileError(words, remedy=remedy + others(len(found) - 1), where=loaded.where(*at), code=code)
