"""The comparison of the candidate's tokenizer with the original's: its texts, and its record.

All text of a suite is encoded by both: each task's prompts in every letter order and format with all possible answers,
the dev items and the corpora in the attackers' forms. Texts that attacks create are compared while they run
(`executors.local`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.questions import Form, Question
from robustness_gate.system import installed

if TYPE_CHECKING:
    from robustness_gate.engine.tokenization import Asked

FIRST = 5
"""Maximum number of named items."""


def make(suite_data: SuiteData, tokenizer: Callable[[str], Any], subject: str, original: str | None) -> TokenizerCheck:
    """Compare, and make the record. Needs torch, and about a millisecond for each prompt.

    Args:
        suite_data: the suite's.
        tokenizer: returns a checkpoint's tokenizer by its digest; its errors are passed on.
        subject: the candidate's digest.
        original: the original's digest; None: only digests are recorded.
    """
    from robustness_gate.engine import tokenization

    ours = tokenizer(subject)
    tasks = {name: ref.sha256 for name, ref in suite_data.refs.items()}
    sha256, template = tokenization.digest(ours), tokenization.template_digest(ours)
    if original is None:
        return TokenizerCheck(
            subject=subject, tasks=tasks, data=suite_data.data_digests, sha256=sha256, template=template
        )
    theirs = tokenizer(original)
    counts = tokenization.compare(ours, theirs, [*asked(suite_data)], read(suite_data))
    return TokenizerCheck(
        subject=subject,
        reference=original,
        tasks=tasks,
        data=suite_data.data_digests,
        sha256=sha256,
        template=template,
        reference_sha256=tokenization.digest(theirs),
        reference_template=tokenization.template_digest(theirs),
        texts=counts.texts,
        otherwise=sum(counts.otherwise.values()),
        rendered=counts.rendered,
        templated=sum(counts.templated.values()),
        first_otherwise=tuple(counts.otherwise)[:FIRST],
        first_templated=tuple(counts.templated)[:FIRST],
        parts=tuple(tokenization.differences(ours, theirs)),
    )


def digests(place: CheckpointRef) -> tuple[str, str]:
    """Digests of a checkpoint's tokenizer and of its chat templates, which a policy can pin. Needs torch.

    Raises:
        CheckpointError: the tokenizer cannot be loaded.
        SetupError: the `run` extra is not installed.
    """
    try:
        from robustness_gate.engine import tokenization
    except ImportError:
        raise installed.lacking("torch or transformers") from None
    tokenizer = loaded(place)
    return tokenization.digest(tokenizer), tokenization.template_digest(tokenizer)


def loaded(place: CheckpointRef) -> Any:
    """A checkpoint's tokenizer. Needs torch; raises CheckpointError where it cannot be loaded."""
    from robustness_gate.engine.load import tokenizer_of

    return tokenizer_of(place.path, place.base.path if place.base is not None else None)


def asked(suite_data: SuiteData) -> Iterator[Asked]:
    """Every question that is asked or trained on, in each of its forms."""
    from robustness_gate.engine.tokenization import Asked

    for name, task_data in suite_data.tasks.items():
        if not task_data.bare:
            yield Asked(name, [item.question for item in task_data.items], task_data.form)
    for form in suite_data.forms:
        for each in _and_lettered(form):
            yield Asked("data:dev", _fitting([item.question for item in suite_data.dev], each), each)
            for name, corpus in suite_data.corpora.items():
                headed = replace(each, header=corpus.header)
                yield Asked(f"data:{name}", _fitting([item.question for item in corpus.items], headed), headed)


def _and_lettered(form: Form) -> tuple[Form, ...]:
    """A form, and for a verbatim one also the lettered form, in which some attacks train."""
    return (form, replace(form, verbatim=False, wording="")) if form.verbatim else (form,)


def _fitting(questions: Sequence[Question], form: Form) -> list[Question]:
    return [each for each in questions if form.verbatim or len(each.choices) <= len(form.letters)]


def read(suite_data: SuiteData) -> dict[str, Sequence[str]]:
    """Plain texts by name."""
    found: dict[str, Sequence[str]] = {f"data:{name}": corpus.texts for name, corpus in suite_data.corpora.items()}
    for name, task_data in suite_data.tasks.items():
        if task_data.bare:
            found[name] = [text for item in task_data.items for text in item.question.choices]
    return found
