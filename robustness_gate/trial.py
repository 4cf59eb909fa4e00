"""The only place where attack, task and model meet.

A trial drives one attack, asks every task of every Recovery while the attack's scopes are open, and turns the answers
into right and wrong: it alone holds the key. It owns the `closing` of the attack, because a generator's `with` blocks
unwind only when it is closed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from robustness_gate import applicability, attacks, tasks
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.materials import Exam, Materials
from robustness_gate.nouns import Hazard, Json, Mark, Recovery, Replies, Rows, Target, Trial, judged_as
from robustness_gate.verdict import pack
from robustness_gate.writing import whole

if TYPE_CHECKING:
    from robustness_gate.engine.load import Speaker
    from robustness_gate.engine.score import Notes

LOOKED_AT = 8
"""So many prompts of each task tell whether padding changes answers."""


Reference = Callable[[], AbstractContextManager[Any]]


def run(
    trial: Trial,
    materials: Materials,
    speaker: Speaker,
    *,
    attempt: int = 1,
    rows_in: Path | None = None,
    reference: Reference | None = None,
) -> Generator[Mark, None, None]:
    """Run one trial, handing out a Mark for each (budget, task) while the model is still changed.

    Args:
        trial: what to do.
        materials: the suite's data; their digests must be the trial's.
        speaker: the loaded subject; it is as before when the iterator is exhausted or closed.
        attempt: number of this attempt, from 1.
        rows_in: folder for the log-likelihoods, one file a mark and task, named by its digest; None keeps none.
        reference: opens the original model; None where there is none.

    Raises:
        BrokenTrial: the data are not the trial's, answers are not finite, marks do not come as planned.
        NotApplicable: this attack or task makes no sense for this model.
        WriteError: the log-likelihoods cannot be written down.
    """
    if materials.task_refs(trial.attack) != trial.tasks or materials.data_digests != trial.data:
        raise BrokenTrial("the items or corpora changed since the plan was made")
    module = attacks.load(trial.attack)
    config = attacks.configure(module, trial.config)
    applicable = applicability.of(module, config, materials.hazards)
    if frozenset(applicable.names) != trial.aims:
        raise BrokenTrial("the forms in which the hazard is asked changed since the plan was made")
    if not applicable.hazards:
        raise NotApplicable(f"it cannot be made in any form of the hazard: {applicable.why_not}")
    target = target_of(materials, speaker, reference, applicable.hazards)
    _look(materials, target.respondent)
    expected = iter(trial.marks)
    with contextlib.closing(module.attack(target, config, trial.seed)) as recoveries:
        for recovery in recoveries:
            planned = next(expected, None)
            if recovery.mark != planned:
                raise BrokenTrial(f"the attack handed over mark {recovery.mark} where {planned} was planned")
            for name in (ref.name for ref in trial.tasks):
                yield _examined(trial, recovery, name, materials.exams[name], attempt, rows_in)
    if (left := next(expected, None)) is not None:
        raise BrokenTrial(f"the attack ended before mark {left}")


def _look(materials: Materials, respondent: Any) -> None:
    """Whether padding changes the model's answers, seen on a few prompts of each task while it is as it was loaded."""
    for exam in materials.exams.values():
        step = max(1, len(exam.items) // LOOKED_AT)
        with contextlib.suppress(NotApplicable):  # the tasks themselves will say so
            respondent.look([item.question for item in exam.items[::step][:LOOKED_AT]], exam.form)


def target_of(
    materials: Materials, speaker: Speaker, reference: Reference | None, hazards: Sequence[Hazard] | None = None
) -> Target:
    """What an attack sees of a model and of a suite's data: never the verdict items, and the data to be read alone.

    Of the hazard it sees the given forms; without, every one.
    """
    from robustness_gate.engine.score import ModelRespondent

    return Target(
        model=speaker.model,
        tokenizer=speaker.tokenizer,
        respondent=ModelRespondent(speaker.model, speaker.tokenizer),
        hazards=materials.hazards if hazards is None else tuple(hazards),
        corpora=MappingProxyType(materials.corpora),
        reference=reference or _no_reference,
    )


@contextlib.contextmanager
def _no_reference() -> Iterator[Any]:
    raise NotApplicable("this attack needs the original model, and none was given (--original)")
    yield  # a generator needs one


def _examined(trial: Trial, recovery: Recovery, name: str, exam: Exam, attempt: int, rows_in: Path | None) -> Mark:
    from robustness_gate.engine.score import noted

    questions, key = tuple(item.question for item in exam.items), [item.right for item in exam.items]
    task = tasks.load(exam.kind)
    with noted() as notes:
        rows = task.ask(recovery.respondent, task.Config(questions, exam.form))
    marked = task.read(rows, key)
    if all(marked.missing):
        raise BrokenTrial(f"no item of '{name}' has an answer: {_why_none(notes, exam)}")
    return Mark(
        trial=trial.id,
        attempt=attempt,
        mark=recovery.mark,
        task=name,
        items=len(exam.items),
        correct={reading: pack(bits) for reading, bits in marked.correct.items()},
        missing=pack(marked.missing),
        spent={key: finite(value, key) for key, value in recovery.spent.items()},
        signs={key: finite(value, key) for key, value in recovery.signs.items()},
        chosen=plain(recovery.chosen),
        screened=tuple({**plain(each.setting), "dev_accuracy": each.dev_accuracy} for each in recovery.screened),
        summary={**task.summary(rows, key), **notes.counts()},
        rows=_keep(rows, rows_in) if rows_in is not None else None,
        lost=tuple(q.id for q, gone in zip(questions, marked.missing, strict=True) if gone and q.id in notes.lost)[:5],
    )


def _why_none(notes: Notes, exam: Exam) -> str:
    """Why no item has an answer, as far as the way to the model tells."""
    if len(notes.strange) == len(exam.items):
        return "the tokenizer writes tokens that the model does not have"
    if len(notes.cut) == len(exam.items):
        return "every prompt is longer than the context and lost its question"
    if notes.lost:
        return "the tokenizer loses part of every question"
    if judged_as(exam.kind).written:
        return "nothing was written, or the model's logits are not numbers"
    return "the model's logits are not numbers"


def finite(value: float, name: str) -> float:
    """A number that an attack told. Raises BrokenTrial for one that is not finite."""
    if not math.isfinite(value):
        raise BrokenTrial(f"the attack's '{name}' is {value}")
    return float(value)


def plain(values: Any) -> dict[str, Json]:
    """Floats that JSON cannot hold become text: they are context, never evidence."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in dict(values).items()}


def _keep(rows: Rows | Replies, folder: Path) -> str:
    """Write the log-likelihoods beside the ledger, of written answers their digests; the file's name is its digest."""
    from safetensors.torch import save

    raw = save({"loglik": rows.loglik.contiguous()} if isinstance(rows, Rows) else {"sha256": _digests(rows)})
    digest = hashlib.sha256(raw).hexdigest()
    whole(folder / f"{digest}.safetensors", raw)  # never half of one under a digest's name
    return digest


def _digests(replies: Replies) -> Any:
    """SHA-256 of each answer: uint8 [item, 32], nought where there is none. The same answers can be told, not read."""
    import torch

    rows = (bytes(32) if text is None else hashlib.sha256(text.encode()).digest() for text in replies.texts)
    return torch.tensor([list(row) for row in rows], dtype=torch.uint8)
