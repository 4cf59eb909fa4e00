"""Tasks in lm-evaluation-harness's own YAML: `doc_to_text`, `doc_to_choice` and `doc_to_target` make the questions.

The suite names the YAML, and with `items` the source of the docs: the YAML's own `dataset_path` is not used. Text,
choices and delimiter are those of lm-evaluation-harness for the same doc, and an answer is scored in the same way: the
summed log-likelihood of the choice's tokens, not divided by length, which is its metric `acc`. A task for which papers
report `acc_norm` is scored with `acc` here.

Each doc is asked in one order alone. The template, not the gate, has written the choices into the text, so they cannot
be rotated: a preference for a letter is not cancelled as in `multiple_choice`.

`inputs/harness/` reads the YAML with its includes, and runs its templates in a sandbox. The digest of such a task
covers its questions, so it does not depend on how its file is divided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustness_gate.inputs.harness.rows import items_like, items_of, read_items
from robustness_gate.inputs.harness.task_file import HarnessTask, load
from robustness_gate.inputs.rows import Place
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.questions import Form, Item, Kind, Rows, Scored
from robustness_gate.tasks import Declared
from robustness_gate.tasks.multiple_choice import Config, calibrated_accuracy, choice_entropy, likeliest

__all__ = ["Config", "ask", "form", "put", "questions", "read", "reworded", "summary"]

KEYS = frozenset({"yaml", "roles", "roles_of", "subset", "id", "clusters"})
"""A suite's keys for such a task besides items, count and digest."""
NEEDS = {"yaml": "lm-evaluation-harness's task file"}
"""The required ones of these keys, with a description of the value."""
JUDGED = Kind(version=1, generative=False, guarded=True, attacked_as="lm_eval", metrics=("acc",))
"""How its answers are scored; as literals, because it is read without an import."""
METRICS = {
    "acc": "the model's answer is the choice whose text has the highest log-likelihood, not divided by its length; "
    "each question is asked once, in its template's order of the choices (lm-evaluation-harness's `acc`)",
}
"""Its metrics, the deciding one first, and what each is: reports print it beside the numbers. Also literals."""


def prepared(declared: Declared) -> Loaded[HarnessTask]:
    """The suite's task file, read once."""
    return load(Path(declared.find("yaml")), declared.folder)


def put(declared: Declared, items: Sequence[Item], *, chat: bool) -> Form:  # noqa: ARG001 - every kind's has them
    """The form of the task file."""
    return form(declared.own)


def questions(declared: Declared) -> tuple[Item, ...]:
    """Every row as a question of the task file, from `read_items`."""
    return read_items(declared.own, declared.place)


def reworded(
    declared: Declared, rows: Sequence[tuple[str, Mapping[str, Any]]], place: Place, own: Collection[str] | None
) -> tuple[Item, ...]:
    """Rows for attackers in the task file's form; exactly like the task's own rows with the columns `own`, where
    given.
    """
    return items_of(declared.own, rows, place) if own is None else items_like(declared.own, rows, place, own)


def form(loaded: Loaded[HarnessTask]) -> Form:
    """The form of a task file's questions: verbatim."""
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # for attacks' training data; the questions do not use them
    return Form(letters=letters, verbatim=True, delimiter=loaded.record.target_delimiter)


def ask(lm: Any, config: Config) -> Rows:
    """Ask every question once: log-likelihoods [item, 1, choice]."""
    return Rows(lm.loglikelihoods(config.questions, config.form).unsqueeze(1))


def read(rows: Rows, key: Sequence[Collection[int]]) -> Scored:
    """Right where the likeliest choice is right; a missing item is wrong."""
    return likeliest(rows, key, "acc")


def summary(rows: Rows, key: Sequence[Collection[int]]) -> dict[str, float]:
    """Context that is not evidence: the share of the most frequent answer position, and the confidence."""
    import torch

    places = rows.loglik[:, 0].nan_to_num(nan=-torch.inf).argmax(dim=-1)
    return {
        "commonest_place_share": float(torch.bincount(places).max()) / len(places),
        "choice_entropy": choice_entropy(rows),
        "calibrated_accuracy": calibrated_accuracy(rows, key),
    }
