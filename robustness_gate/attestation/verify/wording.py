"""The sentences of `verify`: what each code means, and what to do about it. They are for readers; no code parses them.

The templates are those of `robustness_gate.system.sentences`.
"""

from __future__ import annotations

from collections.abc import Mapping

from robustness_gate.attestation.verify.codes import Code, Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import Check, NotTried
from robustness_gate.errors import UnknownWord
from robustness_gate.system.sentences import fill, printable

UNCHECKABLE = (
    "that the evaluator's machine computed these answers, and that all of them are here: `audit` runs a sample again",
    "that the questions measure the hazard, and that attacks which were not tried would fail",
    "what the producer states of the model, and where checkpoints came from, by the report's own word",
)
"""Facts that these files cannot show."""

SENTENCES: Mapping[Code, str] = {
    Confirmed.SIGNED: "{owner}, {kind} key {key}",
    Confirmed.FORM: "{type}, statement {statement}",
    Confirmed.TRUSTED: "you trust this key for what is signed at {at}, and neither it nor the report is revoked",
    Confirmed.SAME_CHECKPOINT: "{files} files, {bytes:,} bytes, digest {digest}[; {beside}]",
    Confirmed.IN_TIME: "judged {judged}, signed {signed}, valid until {until}",
    Confirmed.TEXTS: "{policy} and {suite}, read again from their texts",
    Confirmed.COMPLETE: "{here} of {asked} trials of the suite are here[, {left_out} are recorded as left out]"
    "[, {unended} did not end well]",
    Confirmed.EVIDENCE: "trials: {own}[, and {others} on other models]; {answers:,} answers; "
    "seeds, floors and shams are what their attacks prescribe",
    Confirmed.VERDICT: "{outcome}, computed again: {bounds} bounds, all as stated",
    Confirmed.OWN_POLICY: "judged again under {policy}, it is {outcome}: {reason}",
    Confirmed.OWN_SUITE: "all of {suite} was run to its end[ and is the report's own, sha256 {same}]; "
    "its {tasks} tasks and all data are those that lie here",
    Confirmed.OWN_SUITE_NO_DATA: "all of {suite} was run to its end[ and is the report's own, sha256 {same}]; its data "
    "are not at hand here, so its questions were not compared: {why}",
    Confirmed.ATTACHMENTS: "{files} files are as signed[; {kept_back} restricted ones were not given]"
    "[; NOT signed, though in that folder: {unsigned}]",
    Confirmed.PREREGISTERED: "preregistered at {at}, as its signer states, and run as preregistered",
    Confirmed.CHAIN: "none of {others} other reports withdraws or replaces it[; the one before it, {previous}, is here]"
    "[; the ledger's first {lines} lines are as they were when it was signed, and the report holds all of them]",
    Confirmed.LEDGER: "the ledger's first {lines} lines are as they were when it was signed, and the report holds all "
    "of them",
    Unchecked.SIGNATURE: "who signed was not checked: anyone can have written this",
    Unchecked.NO_PAYLOAD: "the signature did not verify, so what it is on was not read",
    Unchecked.NO_REPORT: "no report could be read",
    Unchecked.NO_KEY: "no key was given by which to know one",
    Unchecked.NO_CHECKPOINT: "no checkpoint was given; it is about {digest}[; {beside}]",
    Unchecked.NO_SUITE: "the suite could not be read",
    Unchecked.NO_TEXTS: "the policy and the suite are not those that the report names",
    Unchecked.NO_POLICY: "no --policy was given",
    Unchecked.NO_REQUIRED_SUITE: "no --require-suite was given",
    Unchecked.NO_ATTACHMENTS: "no --attachments was given; it names {files} files",
    Unchecked.NO_PREREGISTRATION: "no --preregistration was given; the report names {named}",
    Unchecked.NO_TRUST: "no trust file was given",
    Unchecked.NO_CHAIN: "no --known and no --ledger was given[; it follows {previous}]",
    Unchecked.NO_SIGNER: "who signed was not checked, so it is not known whose other reports count",
    Fault.BUNDLE_TOO_LARGE: "{message}",
    Fault.NOT_JSON: "{message}",
    Fault.WRONG_SHAPE: "{message}",
    Fault.NOT_CANONICAL: "{message}",
    Fault.OTHER_FORM: "{message}",
    Fault.KEY_UNKNOWN: "{message}",
    Fault.SIGNATURE_WRONG: "{message}",
    Fault.NOT_A_REPORT: "{message}",
    Fault.OTHER_SUBJECT: "{message}",
    Fault.REFUSED: "{message}",
    Fault.KEY_REVOKED: "[{of}: ]the key was revoked on {day}: {reason}",
    Fault.KEY_NOT_YET_VALID: "[{of}: ]the key is trusted from {day} on, and this was signed at {signed}",
    Fault.KEY_NO_LONGER_VALID: "[{of}: ]the key is trusted until {day}, and this was signed at {signed}",
    Fault.REPORT_REVOKED: "your trust file withdraws this report: {reason}",
    Fault.MANIFEST_NOT_SIGNED: "the manifest in the report is not the one that it is signed for",
    Fault.CHECKPOINT_UNREADABLE: "{message}",
    Fault.OTHER_CHECKPOINT: "this is another model than the examined one[; not as examined: {changed}]"
    "[; missing here: {missing}][; not examined: {added}][; the adapter stands on an{base} base]",
    Fault.OTHER_ARCHITECTURE: "the report says that it is a '{reported}', and its config.json '{found}'",
    Fault.PRECISION_NOT_REPORTED: "the report does not say in which precision the weights lie",
    Fault.OTHER_PRECISION: "the report names another precision of the weights than the files or config.json do",
    Fault.OTHER_WEIGHTS_REFUSED: "the policy refuses other weights beside it; {beside}",
    Fault.SIGNED_IN_FUTURE: "it is dated in the future: signed at {signed}, and it is {now}",
    Fault.SIGNED_BEFORE_JUDGED: "it was signed at {signed} and judged later, at {judged}",
    Fault.NO_LONGER_VALID: "its signer stood by it until {until}, and it is {now}",
    Fault.TOO_OLD: "it was judged {age:minutes} ago, at {judged}; you ask for {limit:minutes} at most",
    Fault.TEXT_UNREADABLE: "{message}",
    Fault.TEXT_NOT_NAMED: "the text of the {which} is not the one that the report names",
    Fault.RESOLVED_DIFFERS: "the policy that was judged by is not what its text says",
    Fault.ATTACK_UNKNOWN: "{trial} is not known to this release: {message}",
    Fault.LEFT_OUT_TWICE: "{trial} is recorded twice as left out",
    Fault.LEFT_OUT_NOT_IN_SUITE: "{trial} is recorded as left out, and the suite does not ask for it",
    Fault.LEFT_OUT_BUT_PRESENT: "{trial} is recorded as left out, and is in the report",
    Fault.TRIAL_MISSING: "the suite asks for {trial}, which is neither in the report nor recorded as left out",
    Fault.TRIAL_OTHER_SETTINGS: "{trial} has other settings than the suite's, as this release reads them",
    Fault.TRIAL_NOT_IN_SUITE: "{trial} is recorded as planned, and the suite does not ask for it",
    Fault.PLUGIN_UNKNOWN: "{message}",
    Fault.OTHER_PLUGIN: "the plug-in {plugin} is {here} here[, and {stated} in the report]",
    Fault.KIND_UNKNOWN: "{message}",
    Fault.KIND_JUDGED_OTHERWISE: "{trial} asks a task of the kind {kind}, which is judged otherwise here",
    Fault.OTHER_DTYPE: "{trial} was run in {dtype}, the suite says {suite}",
    Fault.FORM_NOT_HAZARD: "{trial} is recorded as made in the form of '{task}', which the suite does not call a "
    "hazard",
    Fault.TASK_NOT_ASKED: "{trial} was not asked '{task}', otherwise than the suite says",
    Fault.TASK_NOT_IN_SUITE: "{trial} was asked '{task}', otherwise than the suite says",
    Fault.OTHER_ITEM_COUNT: "{trial} was asked {asked} questions of '{task}', the suite has {suite}",
    Fault.TRIAL_MISNAMED: "'{trial}' is filed under another name or digest than its content has",
    Fault.TRIAL_TWICE: "'{trial}' is there twice",
    Fault.TRIAL_OTHER_CHECKPOINT: "'{trial}': it is of another checkpoint",
    Fault.NO_REFERENCE: "'{trial}': it names no original through whose tokenizer it was asked",
    Fault.SEED_CHOSEN: "'{trial}': its seed was chosen",
    Fault.RECORD_OF_OTHER_TRIAL: "'{trial}': it holds records of another trial",
    Fault.ATTEMPT_MISSING: "'{trial}': attempt {attempt} left no trace, and a later one did",
    Fault.RECORD_TWICE: "'{trial}': a record is there twice",
    Fault.ANSWERS_NOT_ASKED: "'{trial}': {items} answers to '{task}' at {budget} were not asked for",
    Fault.ANSWERS_NOT_BITS: "'{trial}': the answers to '{task}' are not {items} bits",
    Fault.ANSWERS_IN_OTHER_METRICS: (
        "'{trial}': the answers to '{task}' are in the metrics {found}, and its kind has {declared}"
    ),
    Fault.ANSWERS_MISSING: "'{trial}': {gap}",
    Fault.TASK_TOLD_IN_TWO_WAYS: "the questions of '{task}' are described in two ways: their kind, number or options "
    "differ",
    Fault.OTHER_ATTACK_VERSION: "'{trial}': made by version {version} of the attack, this release has {here}",
    Fault.SETTINGS_INCOMPLETE: "'{trial}': not every setting of the attack is recorded",
    Fault.OTHER_FAMILY_OR_BUDGETS: "'{trial}': its family or its budgets are not the attack's",
    Fault.FORM_NOT_SUPPORTED: "'{trial}': it is recorded as made in the form of a task of the kind {kind}, which the "
    "attack does not support",
    Fault.SHAM_NOT_AT_ZERO: "'{trial}': it is not the attack at strength zero",
    Fault.OTHER_FLOORS: "'{trial}': its strength floors are not the attack's",
    Fault.NO_ORGANISM_OF_TYPE: "the {trial}: no organism is a '{model_type}'",
    Fault.NO_SELF_TEST_CASE: "the {trial}: no organism is known here on which this kind of it works on {model_type}",
    Fault.OTHER_SELF_TEST_CASE: "the {trial}: it is made on {organism}, where {share:.0%} of the gap are asked",
    Fault.OTHER_NEGATIVE_CONTROLS: "the {trial}: its negative controls are {organisms}",
    Fault.OTHER_SELF_TEST_SIZE: "the {trial}: it asks {expected} questions, not {found}",
    Fault.ORGANISM_DIFFERS: "the {trial}: untouched, {organism} has {expected} of them right, not {found}",
    Fault.OTHER_MECHANISM: "the calibration: {method} is recorded as suppressing by {mechanism}, otherwise than its "
    "file says here",
    Fault.OTHER_EXPECTATION: "the {trial}: expected on {found} by its record, and on {expected} by the attack's file",
    Fault.SELF_TEST_TWICE: "a self-test is there twice",
    Fault.CALIBRATION_TWICE: "a calibration is there twice",
    Fault.WEIGHTS_OTHER_CHECKPOINT: "a comparison of weights is about another checkpoint, or there twice",
    Fault.TOKENIZERS_OTHER_CHECKPOINT: "a comparison of tokenizers is about another checkpoint",
    Fault.TOKENIZERS_TWICE: "a comparison of tokenizers is there twice",
    Fault.QUESTIONS_NOT_ASKED: "ids of questions are listed twice for a task, or for a task that no trial asks",
    Fault.OTHER_OUTCOME: "computed again from the signed answers it is {outcome}, and it says {stated}: {reason}",
    Fault.OTHER_BOUNDS: "computed again from the signed answers it is {outcome}, but on {rule} after {attack}, budget "
    "{budget}, {lower:.4f} to {upper:.4f}, where it says otherwise",
    Fault.OTHER_FINDING: "computed again from the signed answers it is {outcome}, but the finding on {rule} after "
    "{attack}, budget {budget}, differs in its validity issues or counts",
    Fault.OTHER_FINDING_COUNT: "computed again from the signed answers it is {outcome}, but with {found} findings, "
    "where it has {stated}",
    Fault.OTHER_VERDICT: "computed again from the signed answers it is {outcome}, but with other reasons, flags or "
    "counts than it states",
    Fault.DOES_NOT_FOLLOW: "its field '{field}' is not what follows from policy, suite and answers",
    Fault.SUITE_NOT_RUN: "of {suite} these were not run to their end: {trials}",
    Fault.OTHER_QUESTIONS: "{trial} was asked other questions of '{task}' than the suite's files hold here",
    Fault.OTHER_DATA: "{trial} was made on other data than the suite's files hold here",
    Fault.NO_FOLDER: "'{folder}' is not a folder",
    Fault.ATTACHMENT_MISSING: "'{file}' is missing in that folder",
    Fault.ATTACHMENT_NOT_REGULAR: "'{file}' is a link, or no regular file of that folder",
    Fault.ATTACHMENT_CHANGED: "'{file}' in that folder is not what was signed",
    Fault.PREREGISTRATION_UNVERIFIED: "{message}",
    Fault.PREREGISTRATION_NOT_NAMED: "the report does not say that it was made under this preregistration",
    Fault.PREREGISTRATION_MISREPORTED: "the report names another signer, or another time, than the preregistration",
    Fault.PREREGISTERED_AFTER_JUDGED: "it was preregistered at {preregistered}, after it was judged at {judged}",
    Fault.OTHER_FILES_PREREGISTERED: "another policy or suite was preregistered",
    Fault.ATTACK_NOT_PREREGISTERED: "{trial} was not preregistered as it was run",
    Fault.QUESTIONS_NOT_PREREGISTERED: "{trial} was asked other questions, or chose on other data, than were "
    "preregistered",
    Fault.REVOKED_BY_SIGNER: "its signer withdrew it at {at}",
    Fault.SUPERSEDED: "its signer put another in its place at {at}",
    Fault.TWO_SUCCESSORS: "two reports follow {previous}: this one, and one of {at}",
    Fault.PREDECESSOR_MISSING: "it follows {previous}, which is not among --known: a report is missing",
    Fault.KNOWN_UNVERIFIED: "--known {file}: {message}",
    Fault.KNOWN_OF_OTHER_OWNER: "--known {file} is signed by {owner}, who does not speak for this signer",
    Fault.LEDGER_NOT_NAMED: "the report names no ledger",
    Fault.LEDGER_MISSING: "there is no ledger '{file}'",
    Fault.LEDGER_SHORTER: "the ledger has {lines} lines; it had {signed} when the report was signed",
    Fault.LEDGER_BROKEN: "{message}",
    Fault.LEDGER_HEAD_DIFFERS: "the ledger's lines are not those that were there when the report was signed",
    Fault.LEDGER_OTHER_SUITE: "the run in the ledger was of another suite than the report names",
    Fault.LEDGER_MORE_TRIALS: "the run in the ledger planned more trials than the report",
    Fault.LEDGER_FEWER_TRIALS: "the run in the ledger planned fewer trials than the report",
    Fault.LEDGER_OTHER_RECORDS: "the ledger holds other records than the report",
}

DO_NOT_RELY = "Do not rely on the report; ask its signer."
OTHER_CODE = "Install the plug-in in the version that the report names; its digest is in the report's trials."
OTHER_RELEASE = "Use the release that made the report, or have it judged and signed anew."
OTHER_WORDS = (
    "Compare releases: `environment` in the report names the one that made it. A report of a release with other words "
    "(of a floor, of a limitation) does not verify here: use that release, or have it judged and signed anew. If it is "
    "this release, do not rely on the report; ask its signer."
)
RUN_AGAIN = "Ask the signer for a run under the suite that you require."
WHOLE_LEDGER = "Ask the signer for the whole ledger; do not rely on the report before."

REMEDIES: Mapping[Fault, str] = {
    **dict.fromkeys(Fault, DO_NOT_RELY),
    **dict.fromkeys(
        (
            Fault.BUNDLE_TOO_LARGE, Fault.NOT_JSON, Fault.WRONG_SHAPE, Fault.NOT_CANONICAL, Fault.OTHER_FORM,
            Fault.KEY_UNKNOWN, Fault.SIGNATURE_WRONG, Fault.NOT_A_REPORT, Fault.OTHER_SUBJECT, Fault.REFUSED,
            Fault.CHECKPOINT_UNREADABLE, Fault.TEXT_UNREADABLE, Fault.PREREGISTRATION_UNVERIFIED,
            Fault.KNOWN_UNVERIFIED,
        ),
        "[{remedy}]",
    ),
    **dict.fromkeys(
        (Fault.ATTACK_UNKNOWN, Fault.TRIAL_OTHER_SETTINGS, Fault.OTHER_ATTACK_VERSION, Fault.NO_ORGANISM_OF_TYPE,
         Fault.NO_SELF_TEST_CASE, Fault.OTHER_MECHANISM, Fault.OTHER_EXPECTATION,
         Fault.KIND_UNKNOWN, Fault.KIND_JUDGED_OTHERWISE),
        OTHER_RELEASE,
    ),
    **dict.fromkeys((Fault.PLUGIN_UNKNOWN, Fault.OTHER_PLUGIN), OTHER_CODE),
    **dict.fromkeys((Fault.OTHER_FLOORS, Fault.DOES_NOT_FOLLOW), OTHER_WORDS),
    **dict.fromkeys(
        (Fault.SUITE_NOT_RUN, Fault.OTHER_QUESTIONS, Fault.OTHER_DATA), RUN_AGAIN,
    ),
    **dict.fromkeys(
        (Fault.LEDGER_SHORTER, Fault.LEDGER_BROKEN, Fault.LEDGER_HEAD_DIFFERS, Fault.LEDGER_OTHER_RECORDS),
        WHOLE_LEDGER,
    ),
    Fault.KEY_REVOKED: "Ask the signer to sign again with the new key.",
    Fault.KEY_NOT_YET_VALID: "Correct the dates in your trust file, if they are wrong; else do not rely on it.",
    Fault.KEY_NO_LONGER_VALID: "Correct the dates in your trust file, if they are wrong; else do not rely on it.",
    Fault.OTHER_CHECKPOINT: "Use the checkpoint that was examined, or have this one examined.",
    Fault.OTHER_WEIGHTS_REFUSED: "Use a directory without them: robustness-gate checkpoint copy SRC DST.",
    Fault.SIGNED_IN_FUTURE: "Look at this machine's clock; if it is right, do not rely on the report.",
    Fault.NO_LONGER_VALID: "Ask the signer for a new one.",
    Fault.TOO_OLD: "Ask the signer for a new one.",
    Fault.NO_FOLDER: "Give --attachments the folder that came with the report.",
    Fault.ATTACHMENT_MISSING: "Ask the signer for the whole folder.",
    Fault.ATTACHMENT_NOT_REGULAR: "Copy the files themselves into the folder.",
    Fault.ATTACHMENT_CHANGED: "Ask the signer for the file that was signed.",
    Fault.PREREGISTRATION_NOT_NAMED: "Give the preregistration that the report names.",
    Fault.REVOKED_BY_SIGNER: "Ask the signer for the one that counts.",
    Fault.SUPERSEDED: "Use the one that stands in its place.",
    Fault.PREDECESSOR_MISSING: "Ask the signer for it.",
    Fault.KNOWN_OF_OTHER_OWNER: "Give with --known what the same owner signed.",
    Fault.LEDGER_NOT_NAMED: "Leave out --ledger.",
    Fault.LEDGER_MISSING: "Check the path.",
}  # fmt: skip


def sentence(check: Check) -> str:
    """The sentence of a finding in one printable line. Raises UnknownWord for a code without one."""
    if check.code not in SENTENCES:
        raise UnknownWord("code of a check", check.code)
    return fill(SENTENCES[check.code], check.args)


def remedy(check: Check) -> str:
    """What to do next where a check failed; empty for the others. Raises UnknownWord as `sentence` does."""
    if isinstance(check.code, (Confirmed, Unchecked)):
        return ""
    if check.code not in REMEDIES:
        raise UnknownWord("code of a failed check", check.code)
    return fill(REMEDIES[check.code], check.args)


def not_tried(each: NotTried) -> str:
    """One trial of the suite that did not end well in the report."""
    status = {"": "", "not_run": ": not run to its end"}.get(each.status, f": {each.status.replace('_', ' ')}")
    return printable(each.trial + status)


def table() -> str:
    """Every code with its sentence and remedy, in Markdown, as docs/signing.md has it."""
    rows = ["| code | sentence | what to do |", "| --- | --- | --- |"]
    for code, template in SENTENCES.items():
        step = REMEDIES[code] if isinstance(code, Fault) else ""
        rows.append(f"| `{code}` | {template} | {step} |")
    return "\n".join(rows)
