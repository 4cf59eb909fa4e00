"""The candidate's tokenizer beside the original's: over what, and what is written down of it.

Everything that a suite can show a model is encoded by both: each task's prompts in every letter order and format with
what may follow them, the dev items and the corpora as attackers ask and train on them. What attacks make up themselves
is watched while they run (`executors.local`).
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
"""So many items are named."""


def make(suite_data: SuiteData, tokenizer: Callable[[str], Any], subject: str, original: str | None) -> TokenizerCheck:
    """Compare, and write down what came of it. Takes torch, and about a millisecond a prompt.

    Args:
        suite_data: the suite's.
        tokenizer: of a checkpoint, by its digest; whatever it raises is raised.
        subject: the candidate's digest.
        original: the original's digest; None leaves nothing to compare with, and only digests are told.
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
    """Of a checkpoint's tokenizer and of its chat templates: what a policy can pin. Takes torch.

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
    """A checkpoint's tokenizer. Takes torch; raises CheckpointError where it cannot be loaded."""
    from robustness_gate.engine.load import tokenizer_of

    return tokenizer_of(place.path, place.base.path if place.base is not None else None)


def asked(suite_data: SuiteData) -> Iterator[Asked]:
    """Every question that is asked or trained on, in each form in which it is."""
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
    """A form, and where it is verbatim the lettered one as well, in which some attacks train."""
    return (form, replace(form, verbatim=False, wording="")) if form.verbatim else (form,)


def _fitting(questions: Sequence[Question], form: Form) -> list[Question]:
    return [each for each in questions if form.verbatim or len(each.choices) <= len(form.letters)]


def read(suite_data: SuiteData) -> dict[str, Sequence[str]]:
    """Texts that are read alone, by name."""
    found: dict[str, Sequence[str]] = {f"data:{name}": corpus.texts for name, corpus in suite_data.corpora.items()}
    for name, task_data in suite_data.tasks.items():
        if task_data.bare:
            found[name] = [text for item in task_data.items for text in item.question.choices]
    return found
