"""Run one trial: the only module that uses attack, task and model together.

A trial drives one attack, asks every task of every AttackedModel while the attack's scopes are open, and turns the
answers into right and wrong: it alone has the answer key. It closes the attack's generator, because its `with` blocks
end only then.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import GeneratorType, MappingProxyType
from typing import TYPE_CHECKING, Any

from robustness_gate import attacks, tasks
from robustness_gate.errors import BrokenTrial, NotApplicable, PlanError
from robustness_gate.inputs import own_code, plugins
from robustness_gate.planning import applicability
from robustness_gate.planning.suite_data import SuiteData, TaskData
from robustness_gate.records import codes
from robustness_gate.records.attack import AttackedModel, GridPoint, Hazard, Target
from robustness_gate.records.encode import Json, encode
from robustness_gate.records.questions import Replies, Rows, asked
from robustness_gate.records.trial import Measurement, Trial
from robustness_gate.system.writing import whole
from robustness_gate.verdict import pack

if TYPE_CHECKING:
    from robustness_gate.engine.events import Notes
    from robustness_gate.engine.load import LoadedModel

LOOKED_AT = 8
"""Number of prompts of each task on which the effect of padding is measured."""


Reference = Callable[[], AbstractContextManager[Any]]


def run(
    trial: Trial,
    suite_data: SuiteData,
    loaded: LoadedModel,
    *,
    attempt: int = 1,
    rows_in: Path | None = None,
    reference: Reference | None = None,
) -> Generator[Measurement, None, None]:
    """Run one trial, yielding a Measurement for each (budget, task) while the model is still changed.

    Args:
        trial: the trial to run.
        suite_data: the suite's data; their digests must be the trial's.
        loaded: the loaded subject; it is restored when the iterator is exhausted or closed.
        attempt: number of this attempt, from 1.
        rows_in: folder for the log-likelihoods, one file for each budget and task, named by its digest; None stores
        none.
        reference: opens the original model; None where there is none.

    Raises:
        BrokenTrial: the data are not the trial's, answers are not finite, or budgets differ from the plan.
        NotApplicable: this attack or task does not apply to this model.
        WriteError: the log-likelihoods cannot be written.
    """
    with own_code.watched(bool(trial.plugins)) as replaced:  # before any code of others is run for this trial
        yield from _measurements(trial, suite_data, loaded, attempt, rows_in, reference, replaced)


def _measurements(
    trial: Trial,
    suite_data: SuiteData,
    loaded: LoadedModel,
    attempt: int,
    rows_in: Path | None,
    reference: Reference | None,
    replaced: Callable[[], str],
) -> Generator[Measurement, None, None]:
    if suite_data.task_refs(trial.attack, trial.role) != trial.tasks or suite_data.data_digests != trial.data:
        raise BrokenTrial("the items or corpora changed since the plan was made", code="data_changed")
    _refuse_other_code(trial)
    module = attacks.load(trial.attack)
    config = attacks.configure(module, trial.config)
    applicable = applicability.of(module, config, suite_data.hazards)
    if frozenset(applicable.names) != trial.aims:
        raise BrokenTrial("the forms in which the hazard is asked changed since the plan was made", code="data_changed")
    if not applicable.hazards:
        raise NotApplicable(f"it cannot be made in any form of the hazard: {applicable.why_not}")
    target = target_of(suite_data, loaded, reference, applicable.hazards)
    _look(suite_data, target.lm)
    expected = iter(trial.budgets)
    with contextlib.closing(_generator(module.attack(target, config, trial.seed))) as attacked_models:
        for attacked in attacked_models:
            if fault := _fault_of(attacked):
                raise BrokenTrial(f"the attack yielded {fault}")
            planned = next(expected, None)
            if attacked.budget != planned:
                raise BrokenTrial(f"the attack handed over budget {attacked.budget} where {planned} was planned")
            for name in (ref.name for ref in trial.tasks):
                _refuse_replaced(replaced())  # by the attack, before it is scored
                measurement = _examined(trial, attacked, name, suite_data.tasks[name], attempt, rows_in)
                _refuse_replaced(replaced())  # by a task kind
                _refuse_other_code(trial)  # imported while it ran
                yield measurement
    if (left := next(expected, None)) is not None:
        raise BrokenTrial(f"the attack ended before budget {left}")


def _generator(produced: Any) -> Generator[Any]:
    """What an attack returned. Raises BrokenTrial where it yields nothing while its scopes are open."""
    if not isinstance(produced, GeneratorType):
        raise BrokenTrial(f"the attack returned {produced!r:.80}; it must yield each AttackedModel")
    return produced


def _fault_of(attacked: Any) -> str:
    """What is wrong with the parts of an attacked model; empty where nothing is."""
    if not isinstance(attacked, AttackedModel):
        return f"{attacked!r:.80}, which is no AttackedModel"
    for part in ("cost", "signals", "selected"):
        found: Any = getattr(attacked, part)
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            return f"a '{part}' that is no mapping of names: {found!r:.80}"
    points: Any = attacked.settings_tried
    if not isinstance(points, Sequence) or not all(isinstance(each, GridPoint) for each in points):
        return f"'settings_tried' that are no GridPoints: {points!r:.80}"
    return ""


def _refuse_other_code(trial: Trial) -> None:
    """Refuse plug-ins that changed since the plan was made, or imported other files than their own. Raises BrokenTrial.

    Executors are not checked, because an auditor uses another one.
    """
    try:
        here = plugins.of((trial.attack, *(task.kind for task in trial.tasks)))
    except PlanError as error:
        raise BrokenTrial(error.message.rstrip(".")) from None
    if other := [each.distribution for each in here if each not in trial.plugins]:
        raise BrokenTrial(
            f"the plug-in '{other[0]}' changed since the plan was made, or imports files that are not its own"
        )


def _refuse_replaced(name: str) -> None:
    if name:
        raise BrokenTrial(f"code of a plug-in replaced '{name}' of this program")


def _look(suite_data: SuiteData, lm: Any) -> None:
    """Measure whether padding changes the answers of the untouched model, on a few prompts of each task."""
    for task_data in suite_data.tasks.values():
        step = max(1, len(task_data.items) // LOOKED_AT)
        with contextlib.suppress(NotApplicable):  # the tasks themselves will raise it
            lm.look([item.question for item in task_data.items[::step][:LOOKED_AT]], task_data.form)


def target_of(
    suite_data: SuiteData, loaded: LoadedModel, reference: Reference | None, hazards: Sequence[Hazard] | None = None
) -> Target:
    """The part of a model and of a suite's data that an attack gets: never the verdict items; the data are read-only.

    It contains the given forms of the hazard, by default all of them.
    """
    from robustness_gate.engine.score import ModelLM

    return Target(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        lm=ModelLM(loaded.model, loaded.tokenizer),
        hazards=suite_data.hazards if hazards is None else tuple(hazards),
        corpora=MappingProxyType(suite_data.corpora),
        reference=reference or _no_reference,
    )


@contextlib.contextmanager
def _no_reference() -> Iterator[Any]:
    raise NotApplicable("this attack needs the original model, and none was given (--original)", code="needs_original")
    yield  # a generator needs one


def _examined(
    trial: Trial, attacked: AttackedModel, name: str, task_data: TaskData, attempt: int, rows_in: Path | None
) -> Measurement:
    from robustness_gate.engine.events import noted

    questions, key = tuple(item.question for item in task_data.items), [item.right for item in task_data.items]
    task = tasks.load(task_data.kind)
    with noted() as notes:
        rows = asked(task, attacked.model, questions, task_data.form)
    marked = task.read(rows, key)
    if set(marked.correct) != set(task.JUDGED.metrics):
        raise BrokenTrial(f"'{name}' was read as {', '.join(marked.correct)}, otherwise than its kind declares")
    if {len(bits) for bits in (*marked.correct.values(), marked.missing)} != {len(questions)}:
        raise BrokenTrial(f"'{name}' was not read as one truth value per item")
    if all(marked.missing):
        why, code = _why_none(notes, task_data, rows)
        raise BrokenTrial(f"no item of '{name}' has an answer: {why}", code=code)
    measurement = Measurement(
        trial=trial.id,
        attempt=attempt,
        budget=attacked.budget,
        task=name,
        items=len(task_data.items),
        correct={metric: pack(bits) for metric, bits in marked.correct.items()},
        missing=pack(marked.missing),
        cost={key: finite(value, key) for key, value in attacked.cost.items()},
        signals={key: finite(value, key) for key, value in attacked.signals.items()},
        selected=plain(attacked.selected),
        settings_tried=tuple(
            {**plain(each.setting), "dev_accuracy": each.dev_accuracy} for each in attacked.settings_tried
        ),
        summary={**summary(task_data.kind, rows, key), **notes.counts()},
        special_tokens=notes.special_tokens,
        rows=_keep(rows, rows_in) if rows_in is not None else None,
        lost=tuple(q.id for q, gone in zip(questions, marked.missing, strict=True) if gone and q.id in notes.lost)[:5],
    )
    try:
        encode(measurement)
    except ValueError as error:  # a text that is no Unicode: nothing could be recorded of the whole trial
        raise BrokenTrial(f"the attack's 'selected' or 'settings_tried' cannot be written: {error}") from None
    return measurement


def summary(kind: str, rows: Rows | Replies, key: Sequence[Collection[int]]) -> dict[str, float]:
    """A kind's numbers about its answers. Those that red flags read are never a plug-in's own.

    They are those of the kind in whose form it is attacked: a kind of others that leaves one out, or has another number
    under its name, would lose a flag.

    Raises:
        BrokenTrial: the kind's own are not finite numbers by name.
    """
    task = tasks.load(kind)
    found = task.summary(rows, key)
    good = isinstance(found, dict) and all(
        isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)
        for name, value in found.items()
    )
    if not good:
        raise BrokenTrial(f"the summary of the kind '{kind}' is no mapping of names to finite numbers")
    if "/" in kind and task.JUDGED.hazard:
        found = {**found, **tasks.load(task.JUDGED.attacked_as).summary(rows, key)}
    return {name: float(value) for name, value in found.items()}


def _answered(rows: Rows | Replies) -> int:
    """The number of items that the model answered: with finite log-likelihoods, or with a text."""
    if isinstance(rows, Rows):
        return int(rows.loglik.isfinite().flatten(1).all(dim=1).sum())
    return sum(text is not None for text in rows.texts)


def _why_none(notes: Notes, task_data: TaskData, rows: Rows | Replies) -> tuple[str, codes.End]:
    """Why no item has an answer, as far as answers and notes show, and the code of that reason."""
    if answered := _answered(rows):
        return (
            f"`read` of the task kind '{task_data.kind}' found none, although the model answered {answered} of "
            f"{len(task_data.items)}"
        ), ""
    if len(notes.strange) == len(task_data.items):
        return "the tokenizer writes tokens that the model does not have", ""
    if len(notes.cut) == len(task_data.items):
        return "every prompt is longer than the context and lost its question", ""
    if notes.lost:
        return "the tokenizer loses part of every question", ""
    if tasks.load(task_data.kind).JUDGED.generative:
        return "nothing was written, or the model's logits are not numbers", "not_finite"
    return "the model's logits are not numbers", "not_finite"


def finite(value: float, name: str) -> float:
    """A number from an attack. Raises BrokenTrial for anything else."""
    if not isinstance(value, int | float):
        raise BrokenTrial(f"the attack's '{name}' is {value!r:.80}, no number")
    if not math.isfinite(value):
        raise BrokenTrial(f"the attack's '{name}' is {value}", code="not_finite")
    return float(value)


def plain(values: Any) -> dict[str, Json]:
    """Convert floats that JSON cannot hold to text: they are context, never evidence."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in dict(values).items()}


def _keep(rows: Rows | Replies, folder: Path) -> str:
    """Write the log-likelihoods next to the ledger, for written answers their digests; the file's name is its
    digest.
    """
    from safetensors.torch import save

    raw = save({"loglik": rows.loglik.contiguous()} if isinstance(rows, Rows) else {"sha256": _digests(rows)})
    digest = hashlib.sha256(raw).hexdigest()
    whole(folder / f"{digest}.safetensors", raw)  # never an incomplete file under a digest's name
    return digest


def _digests(replies: Replies) -> Any:
    """SHA-256 of each answer: uint8 [item, 32], zeros where there is none. Equal answers can be detected, not read."""
    import torch

    rows = (bytes(32) if text is None else hashlib.sha256(text.encode()).digest() for text in replies.texts)
    return torch.tensor([list(row) for row in rows], dtype=torch.uint8)
